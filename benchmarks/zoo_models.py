"""Architectures of many authors, small and with random weights: what `zoo` imports.

Each entry returns a module and the arguments of a call. Those of other packages are built with
them (`pip install --no-deps torchvision timm x-transformers vit-pytorch`, and transformers); the
rest stand here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

Example = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
Factory = Callable[[], Example]

ARCHITECTURES: dict[str, Factory] = {}


def architecture(function: Factory) -> Factory:
    ARCHITECTURES[function.__name__] = function
    return function


@cache
def declare_torchvision() -> None:
    """Declare torchvision's compiled operators, which the CPU build of torch does not load."""
    bases = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
    names = ["nms", "qnms", "qroi_align", *bases, *(f"_{base}_backward" for base in bases)]
    for name in names:
        _LIBRARY.define(f"{name}(Tensor input, Tensor boxes, float value) -> Tensor")


# Kept, since its definitions go with it.
_LIBRARY = torch.library.Library("torchvision", "DEF")


def pictures(size: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, size, size)


# --- torchvision ----------------------------------------------------------------------------


def _torchvision(name: str, size: int = 64, **options: Any) -> None:
    def make() -> Example:
        models = import_module("torchvision.models")
        return getattr(models, name)(weights=None, **options), (pictures(size),), {}

    ARCHITECTURES[name] = make


for _name in (
    "resnet18", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0",
    "densenet121", "squeezenet1_0", "shufflenet_v2_x0_5", "mnasnet0_5", "regnet_x_400mf",
    "convnext_tiny", "vgg11_bn", "swin_t", "swin_v2_t",
):  # fmt: skip
    _torchvision(_name)
_torchvision("alexnet", 96)
_torchvision("vit_b_16", 32, image_size=32)
_torchvision("maxvit_t", 224)
_torchvision("googlenet", 96, init_weights=False)
_torchvision("inception_v3", 299, init_weights=False)


# --- timm -----------------------------------------------------------------------------------


def _timm(name: str, size: int = 64, **options: Any) -> None:
    def make() -> Example:
        model = import_module("timm").create_model(name, pretrained=False, **options)
        return model, (pictures(size),), {}

    ARCHITECTURES[f"timm {name}"] = make


for _name in (
    "resnet26d", "tf_efficientnet_lite0", "ghostnet_100", "hrnet_w18_small", "repvgg_a0",
    "ese_vovnet19b_dw", "dla34", "res2net50_26w_4s", "cspresnet50", "mobileone_s0", "fastvit_t8",
    "edgenext_xx_small", "mobilevit_xxs", "nf_resnet26", "poolformer_s12", "resnetv2_50",
    "selecsls42b", "regnety_002", "lcnet_050", "tinynet_e", "skresnet18", "resnest14d",
):  # fmt: skip
    _timm(_name)
for _name in (
    "vit_tiny_patch16_224", "deit_tiny_patch16_224", "mixer_s32_224", "beit_base_patch16_224",
    "cait_xxs24_224",
):  # fmt: skip
    _timm(_name, img_size=64)
for _name in (
    "levit_128s", "xcit_nano_12_p16_224", "coat_tiny", "pvt_v2_b0", "twins_svt_small",
    "gmlp_s16_224", "resmlp_12_224", "visformer_tiny", "eva02_tiny_patch14_224", "volo_d1_224",
    "focalnet_tiny_srf", "davit_tiny", "efficientformer_l1",
):  # fmt: skip
    _timm(_name, 224)


# --- transformers ---------------------------------------------------------------------------


def _transformers(
    title: str, model: str, config: str, inputs: Callable[[], dict[str, Tensor]], **options: Any
) -> None:
    def make() -> Example:
        library = import_module("transformers")
        built = getattr(library, model)(getattr(library, f"{config}Config")(**options))
        return built, (), inputs()

    ARCHITECTURES[title] = make


def words() -> dict[str, Tensor]:
    mask = torch.ones(2, 7, dtype=torch.long)
    return {"input_ids": torch.randint(0, 90, (2, 7)), "attention_mask": mask}


def word_pairs() -> dict[str, Tensor]:
    ids = torch.randint(3, 90, (2, 7)), torch.randint(3, 90, (2, 5))
    return dict(zip(("input_ids", "decoder_input_ids"), ids, strict=True))


def pixels() -> dict[str, Tensor]:
    return {"pixel_values": pictures(32)}


TEXT = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 37, "max_position_embeddings": 64,
}  # fmt: skip
DECODER = {**TEXT, "use_cache": False}
GROUPED = {**DECODER, "num_key_value_heads": 2}
PATCHES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
TWO_STACKS = {
    "vocab_size": 99, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 37,
    "decoder_ffn_dim": 37, "use_cache": False,
}  # fmt: skip

_transformers("BERT", "BertModel", "Bert", words, **TEXT)
_transformers("RoBERTa", "RobertaForMaskedLM", "Roberta", words, **TEXT)
_transformers("DistilBERT", "DistilBertModel", "DistilBert", words,
              vocab_size=99, dim=32, n_layers=2, n_heads=4, hidden_dim=37)  # fmt: skip
_transformers("ALBERT", "AlbertModel", "Albert", words, embedding_size=16, **TEXT)
_transformers("ELECTRA", "ElectraModel", "Electra", words, embedding_size=16, **TEXT)
_transformers("DeBERTa v2", "DebertaV2Model", "DebertaV2", words, **TEXT)
_transformers("GPT-2", "GPT2LMHeadModel", "GPT2", words, vocab_size=99, n_embd=32, n_layer=2,
              n_head=4, n_positions=64, use_cache=False)  # fmt: skip
_transformers("Llama", "LlamaForCausalLM", "Llama", words, **GROUPED)
_transformers("Mistral", "MistralForCausalLM", "Mistral", words, **GROUPED)
_transformers("Qwen2", "Qwen2ForCausalLM", "Qwen2", words, **GROUPED)
_transformers("Gemma", "GemmaForCausalLM", "Gemma", words, head_dim=8, **GROUPED)
_transformers("Phi", "PhiForCausalLM", "Phi", words, **DECODER)
_transformers("GPT-NeoX", "GPTNeoXForCausalLM", "GPTNeoX", words, **DECODER)
_transformers("OPT", "OPTForCausalLM", "OPT", words, vocab_size=99, hidden_size=32,
              num_hidden_layers=2, num_attention_heads=4, ffn_dim=37, max_position_embeddings=64,
              word_embed_proj_dim=32, use_cache=False)  # fmt: skip
_transformers("BLOOM", "BloomForCausalLM", "Bloom", words, vocab_size=99, hidden_size=32,
              n_layer=2, n_head=4, use_cache=False)  # fmt: skip
_transformers("Mamba", "MambaForCausalLM", "Mamba",
              lambda: {"input_ids": torch.randint(0, 90, (2, 7))},
              vocab_size=99, hidden_size=32, num_hidden_layers=2, state_size=4,
              use_cache=False)  # fmt: skip
_transformers("T5", "T5ForConditionalGeneration", "T5", word_pairs, vocab_size=99, d_model=32,
              d_kv=8, d_ff=37, num_layers=2, num_heads=4, use_cache=False)  # fmt: skip
_transformers("BART", "BartModel", "Bart", word_pairs, max_position_embeddings=64, **TWO_STACKS)
_transformers("ViT", "ViTForImageClassification", "ViT", pixels, **PATCHES)
_transformers("DeiT", "DeiTModel", "DeiT", pixels, **PATCHES)
_transformers("DINOv2", "Dinov2Model", "Dinov2", pixels, hidden_size=32, num_hidden_layers=2,
              num_attention_heads=4, image_size=32, patch_size=8)  # fmt: skip
_transformers("BEiT", "BeitModel", "Beit", pixels, **PATCHES)
_transformers("ConvNeXt", "ConvNextForImageClassification", "ConvNext", pixels,
              hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])  # fmt: skip
_transformers("Swin", "SwinModel", "Swin", pixels, image_size=32, patch_size=2, embed_dim=8,
              depths=[1, 2], num_heads=[2, 2], window_size=4)  # fmt: skip
_transformers("SegFormer", "SegformerModel", "Segformer", pixels, depths=[1, 1, 1, 1],
              hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 2, 2, 2])  # fmt: skip
_transformers("CLIP", "CLIPModel", "CLIP",
              lambda: {"input_ids": torch.randint(0, 90, (2, 7)), **pixels()},
              text_config={"projection_dim": 16, **TEXT},
              vision_config={"projection_dim": 16, **PATCHES}, projection_dim=16)  # fmt: skip
_transformers("Whisper", "WhisperModel", "Whisper",
              lambda: {"input_features": torch.randn(2, 8, 60),
                       "decoder_input_ids": torch.randint(0, 90, (2, 5))},
              num_mel_bins=8, max_source_positions=30, max_target_positions=20, pad_token_id=0,
              bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, **TWO_STACKS)  # fmt: skip
_transformers("Wav2Vec2", "Wav2Vec2Model", "Wav2Vec2",
              lambda: {"input_values": torch.randn(2, 1200)},
              vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
              intermediate_size=37, conv_dim=(16, 16), conv_stride=(5, 4), conv_kernel=(10, 4),
              num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
              mask_time_prob=0.0)  # fmt: skip


def _detr() -> Example:
    library = import_module("transformers")
    backbone = library.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], out_features=["stage4"]
    )
    config = library.DetrConfig(
        backbone_config=backbone, backbone=None, use_timm_backbone=False,
        use_pretrained_backbone=False, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, num_queries=5, num_labels=3,
    )  # fmt: skip
    mask = torch.ones(2, 64, 64, dtype=torch.long)
    model = library.DetrForObjectDetection(config)
    return model, (), {"pixel_values": pictures(64), "pixel_mask": mask}


ARCHITECTURES["DETR"] = _detr


# --- x-transformers, vit-pytorch ------------------------------------------------------------


@architecture
def x_transformers_decoder() -> Example:
    library = import_module("x_transformers")
    layers = library.Decoder(dim=32, depth=2, heads=4, rotary_pos_emb=True)
    model = library.TransformerWrapper(num_tokens=50, max_seq_len=16, attn_layers=layers)
    return model, (torch.randint(0, 50, (2, 8)),), {}


@architecture
def x_transformers_encoder() -> Example:
    library = import_module("x_transformers")
    layers = library.Encoder(dim=32, depth=2, heads=4, use_rmsnorm=True)
    model = library.ContinuousTransformerWrapper(
        dim_in=8, dim_out=4, max_seq_len=16, attn_layers=layers
    )
    return model, (torch.randn(2, 8, 8),), {}


def _vit_pytorch(module: str, name: str, size: int = 32, **options: Any) -> None:
    def make() -> Example:
        kind = getattr(import_module(f"vit_pytorch.{module}"), name)
        return kind(**options), (pictures(size),), {}

    ARCHITECTURES[f"vit-pytorch {module}"] = make


SMALL = {"image_size": 32, "patch_size": 8, "num_classes": 5, "dim": 32, "depth": 2, "heads": 2,
         "mlp_dim": 32}  # fmt: skip
_vit_pytorch("vit", "ViT", **SMALL)
_vit_pytorch("simple_vit", "SimpleViT", **SMALL)
_vit_pytorch("deepvit", "DeepViT", **SMALL)
_vit_pytorch("cait", "CaiT", cls_depth=1, **SMALL)
_vit_pytorch("cct", "CCT", img_size=32, embedding_dim=32, num_layers=2, num_heads=2, num_classes=5)
_vit_pytorch("max_vit", "MaxViT", 64, num_classes=5, dim_conv_stem=16, dim=16, dim_head=8,
             depth=(1, 1), window_size=4)  # fmt: skip


# --- written here ---------------------------------------------------------------------------


class LanguageModel(nn.Module):
    """Word-level LSTM, as in PyTorch's examples: it takes and returns its state."""

    def __init__(self):
        super().__init__()
        self.embedding, self.dropout = nn.Embedding(50, 16), nn.Dropout(0.2)
        self.rnn = nn.LSTM(16, 24, 2, dropout=0.2)
        self.decoder = nn.Linear(24, 50)

    def forward(self, ids: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
        output, state = self.rnn(self.dropout(self.embedding(ids)), state)
        return self.decoder(self.dropout(output)), state


@architecture
def lstm_language_model() -> Example:
    state = (torch.zeros(2, 3, 24), torch.zeros(2, 3, 24))
    return LanguageModel(), (torch.randint(0, 50, (6, 3)), state), {}


class Translator(nn.Module):
    """GRU encoder and decoder with attention."""

    def __init__(self):
        super().__init__()
        self.source, self.target = nn.Embedding(40, 16), nn.Embedding(40, 16)
        self.encoder = nn.GRU(16, 24, batch_first=True, bidirectional=True)
        self.bridge, self.attention = nn.Linear(48, 24), nn.Linear(24, 48)
        self.cell, self.output = nn.GRUCell(16 + 48, 24), nn.Linear(24, 40)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, last = self.encoder(self.source(source))
        state = torch.tanh(self.bridge(torch.cat([last[0], last[1]], -1)))
        scores = []
        for step in range(target.shape[1]):
            weights = torch.bmm(memory, self.attention(state).unsqueeze(2)).softmax(1)
            context = (memory * weights).sum(1)
            state = self.cell(torch.cat([self.target(target[:, step]), context], -1), state)
            scores.append(self.output(state))
        return torch.stack(scores, 1)


@architecture
def gru_seq2seq() -> Example:
    return Translator(), (torch.randint(0, 40, (2, 6)), torch.randint(0, 40, (2, 4))), {}


@architecture
def unet() -> Example:
    from .models import UNet

    return UNet(), (pictures(32),), {}


@architecture
def dcgan_generator() -> Example:
    generator = nn.Sequential(
        nn.ConvTranspose2d(16, 32, 4, 1, 0, bias=False), nn.BatchNorm2d(32), nn.ReLU(True),
        nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(True),
        nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    return generator, (torch.randn(2, 16, 1, 1),), {}


class Recommender(nn.Module):
    """DLRM: dense features, bags of ids, and their products (Naumov and others, 2019)."""

    def __init__(self):
        super().__init__()
        self.bottom = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.tables = nn.ModuleList(nn.EmbeddingBag(20, 8, mode="sum") for _ in range(3))
        self.top = nn.Sequential(nn.Linear(8 + 6, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid())

    def forward(self, dense: Tensor, ids: Tensor) -> Tensor:
        x = self.bottom(dense)
        parts = [x, *(table(ids[:, i]) for i, table in enumerate(self.tables))]
        stacked = torch.stack(parts, 1)
        products = torch.bmm(stacked, stacked.transpose(1, 2))
        rows, columns = torch.tril_indices(4, 4, -1)
        return self.top(torch.cat([x, products[:, rows, columns]], 1))


@architecture
def dlrm() -> Example:
    return Recommender(), (torch.randn(2, 4), torch.randint(0, 20, (2, 3, 5))), {}


@architecture
def torch_transformer() -> Example:
    model = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)
    return model, (torch.randn(2, 5, 16), torch.randn(2, 4, 16)), {}
