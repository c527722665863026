"""Architectures whose calls come in many sizes: what `sizes` imports, once each.

Each entry returns a module and calls of it, the first of which is the example of the import. One of
the others has a size of one wherever the model takes that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

CallOf = dict[str, Any]
Sized = tuple[nn.Module, list[CallOf]]

MODELS: dict[str, Callable[[], Sized]] = {}


def sized(title: str) -> Callable[[Callable[[], Sized]], Callable[[], Sized]]:
    def noted(function: Callable[[], Sized]) -> Callable[[], Sized]:
        MODELS[title] = function
        return function

    return noted


def ids(*shape: int) -> Tensor:
    return torch.randint(3, 60, shape)


def texts(*shapes: tuple[int, int], name: str = "input_ids") -> list[CallOf]:
    return [{name: ids(*shape)} for shape in shapes]


def pictures(*shapes: tuple[int, int, int], name: str = "x") -> list[CallOf]:
    return [{name: torch.randn(batch, 3, *size)} for batch, *size in shapes]


LENGTHS = ((2, 12), (1, 7), (3, 1), (3, 20))
IMAGES = ((2, 64, 64), (1, 96, 64), (3, 71, 73))


# --- written here ---------------------------------------------------------------------------


class CharacterCNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 16)
        self.convolutions = nn.ModuleList(nn.Conv1d(16, 8, width) for width in (3, 4, 5))
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.embed(x).transpose(1, 2)
        found = [conv(embedded).relu().max(-1).values for conv in self.convolutions]
        return self.head(torch.cat(found, 1))


@sized("char CNN")
def _character_cnn() -> Sized:
    return CharacterCNN(), texts((2, 12), (1, 5), (3, 30), name="x")


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 16)
        self.lstm = nn.LSTM(16, 16, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(x))[0])


@sized("LSTM")
def _lstm() -> Sized:
    return Tagger(), texts(*LENGTHS, name="x")


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1)
        self.up, self.last = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.first(x).relu()
        y = self.up(self.norm(self.down(skip)).relu())
        height, width = skip.shape[2] - y.shape[2], skip.shape[3] - y.shape[3]
        return self.last(torch.cat([skip, nn.functional.pad(y, (0, width, 0, height))], 1))


@sized("U-Net")
def _unet() -> Sized:
    return UNet(), pictures(*IMAGES, (2, 1, 1))


class Denoiser(nn.Module):
    """A UNet2D as diffusion has it: time steps, group norms, attention over the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, 16), nn.SiLU(), nn.Linear(16, 16))
        self.first, self.down = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, 2, 1)
        self.norm, self.attention = (
            nn.GroupNorm(4, 16),
            nn.MultiheadAttention(16, 2, batch_first=True),
        )
        self.up, self.last = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        frequencies = torch.exp(-torch.arange(8, device=x.device) / 2)
        angles = steps[:, None].float() * frequencies
        time = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        skip = self.first(x)
        y = self.norm(self.down(skip) + time[:, :, None, None])
        flat = y.flatten(2).transpose(1, 2)
        flat = flat + self.attention(flat, flat, flat, need_weights=False)[0]
        y = flat.transpose(1, 2).reshape(y.shape)
        y = nn.functional.interpolate(y, size=skip.shape[2:], mode="nearest")
        return self.last(torch.cat([skip, self.up(y)], 1))


@sized("UNet2D")
def _denoiser() -> Sized:
    calls = pictures((2, 16, 16), (1, 24, 16), (3, 17, 9))
    return Denoiser(), [{**c, "steps": torch.randint(0, 99, (len(c["x"]),))} for c in calls]


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(60, 16), nn.Linear(16, 60)
        self.transformer = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        length = target.shape[1]
        mask = torch.triu(torch.full((length, length), float("-inf")), 1)
        found = self.transformer(self.embed(source), self.embed(target), tgt_mask=mask)
        return self.head(found)


def _pairs(*names: str) -> list[CallOf]:
    sizes = ((2, 9, 6), (1, 12, 3), (3, 1, 5), (2, 5, 1))
    return [{names[0]: ids(b, m), names[1]: ids(b, n)} for b, m, n in sizes]


@sized("nn.Transformer with a mask")
def _translator() -> Sized:
    return Translator(), _pairs("source", "target")


class Sequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(60, 16), nn.Linear(16, 60)
        self.encoder = nn.GRU(16, 16, batch_first=True)
        self.decoder = nn.GRU(16, 16, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        _, state = self.encoder(self.embed(source))
        return self.head(self.decoder(self.embed(target), state)[0])


@sized("GRU encoder and decoder")
def _sequences() -> Sized:
    return Sequences(), _pairs("source", "target")


class Messages(nn.Module):
    """A graph network: what edges carry is summed at the nodes they end in."""

    def __init__(self) -> None:
        super().__init__()
        self.message, self.update = nn.Linear(16, 8), nn.Linear(16, 8)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        sent = self.message(torch.cat([nodes[source], nodes[target]], -1)).relu()
        summed = torch.zeros_like(nodes).index_add(0, target, sent)
        return self.update(torch.cat([nodes, summed], -1))


@sized("graph network")
def _messages() -> Sized:
    sizes = ((5, 9), (1, 3), (7, 1), (4, 20))
    return Messages(), [
        {"nodes": torch.randn(n, 8), "edges": torch.randint(0, n, (2, m))} for n, m in sizes
    ]


# --- torchvision and transformers -----------------------------------------------------------


def _torchvision(
    title: str, name: str, *shapes: tuple[int, int, int], argument: str = "x", **options: Any
) -> None:
    def make() -> Sized:
        folder, _, function = name.rpartition(".")
        module = import_module(f"torchvision.models{'.' * bool(folder)}{folder}")
        model = getattr(module, function)(weights=None, **options)
        return model, pictures(*shapes, name=argument)

    MODELS[title] = make


_torchvision("ResNet-18", "resnet18", *IMAGES, (2, 1, 1))
_torchvision("ConvNeXt", "convnext_tiny", *IMAGES)
_torchvision("MobileNetV3", "mobilenet_v3_small", *IMAGES, (2, 1, 1))
_torchvision(
    "LR-ASPP", "segmentation.lraspp_mobilenet_v3_large", *IMAGES, argument="input",
    weights_backbone=None, num_classes=3,
)  # fmt: skip
_torchvision("torchvision Swin", "swin_t", (2, 64, 64), (1, 96, 64), (3, 60, 44))


def _transformers(
    title: str, model: str, config: str, calls: Callable[[], Iterable[CallOf]], **options: Any
) -> None:
    def make() -> Sized:
        library = import_module("transformers")
        built = getattr(library, model)(getattr(library, f"{config}Config")(**options))
        return built, list(calls())

    MODELS[title] = make


_SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 37,
}  # fmt: skip
_TEXT = {**_SMALL, "vocab_size": 60, "max_position_embeddings": 64}
_DECODER = {**_TEXT, "use_cache": False, "num_key_value_heads": 1}
_SPEECH = {
    "conv_dim": (16, 16), "conv_stride": (5, 2), "conv_kernel": (10, 3),
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip


def _masked() -> Iterable[CallOf]:
    for call in texts(*LENGTHS):
        yield {**call, "attention_mask": torch.ones_like(call["input_ids"])}


def _images(*shapes: tuple[int, int, int]) -> Callable[[], Iterable[CallOf]]:
    return lambda: pictures(*shapes, name="pixel_values")


def _waves() -> Iterable[CallOf]:
    return ({"input_values": torch.randn(*shape)} for shape in ((2, 800), (1, 1000), (3, 555)))


def _spoken() -> Iterable[CallOf]:
    for batch, length in ((2, 6), (1, 9), (3, 1)):
        yield {
            "input_features": torch.randn(batch, 16, 100),
            "decoder_input_ids": ids(batch, length),
        }


_transformers("BERT", "BertModel", "Bert", _masked, **_TEXT)
_transformers(
    "GPT-2", "GPT2LMHeadModel", "GPT2", lambda: texts(*LENGTHS), n_embd=32, n_layer=2, n_head=2,
    vocab_size=60, n_positions=64, bos_token_id=1, eos_token_id=2, use_cache=False,
)  # fmt: skip
_transformers("Llama", "LlamaForCausalLM", "Llama", lambda: texts(*LENGTHS), **_DECODER)
_transformers(
    "Qwen3", "Qwen3ForCausalLM", "Qwen3", lambda: texts(*LENGTHS), head_dim=16, **_DECODER
)
_transformers(
    "T5", "T5ForConditionalGeneration", "T5", lambda: _pairs("input_ids", "decoder_input_ids"),
    d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, vocab_size=60, use_cache=False,
)  # fmt: skip
_transformers(
    "Whisper", "WhisperForConditionalGeneration", "Whisper", _spoken, d_model=32, encoder_layers=1,
    decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=37,
    decoder_ffn_dim=37, vocab_size=60, num_mel_bins=16, max_source_positions=50,
    max_target_positions=32, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    decoder_start_token_id=1, use_cache=False,
)  # fmt: skip
_transformers("wav2vec2", "Wav2Vec2Model", "Wav2Vec2", _waves, **_SMALL, **_SPEECH)
_transformers(
    "SegFormer", "SegformerForSemanticSegmentation", "Segformer", _images(*IMAGES),
    num_encoder_blocks=2, depths=[1, 1], hidden_sizes=[8, 16], num_attention_heads=[1, 2],
    sr_ratios=[4, 2], patch_sizes=[7, 3], strides=[4, 2], mlp_ratios=[2, 2], decoder_hidden_size=16,
)  # fmt: skip
_transformers(
    "Mamba-2", "Mamba2ForCausalLM", "Mamba2", lambda: texts((2, 12), (1, 7), (3, 1)),
    hidden_size=32, num_hidden_layers=1, num_heads=4, head_dim=16, state_size=8, n_groups=1,
    vocab_size=60, chunk_size=8, use_cache=False,
)  # fmt: skip
_transformers(
    "Mamba-1", "MambaForCausalLM", "Mamba", lambda: texts((2, 6), (1, 4), (3, 1)),
    hidden_size=32, num_hidden_layers=1, state_size=8, vocab_size=60, use_cache=False,
)  # fmt: skip
_transformers(
    "HF Swin", "SwinModel", "Swin", _images((2, 32, 32), (1, 64, 32), (1, 36, 44)), image_size=32,
    patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4,
)  # fmt: skip


@sized("DETR")
def _detr() -> Sized:
    library = import_module("transformers")
    backbone = library.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], out_features=["stage2"]
    )
    config = library.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
        backbone_config=backbone, d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=37,
        decoder_ffn_dim=37, num_queries=5, num_labels=4,
    )  # fmt: skip
    return library.DetrForObjectDetection(config), pictures(*IMAGES, name="pixel_values")


@sized("ViT with interpolated positions")
def _vit() -> Sized:
    library = import_module("transformers")
    model = library.ViTModel(library.ViTConfig(**_SMALL, image_size=32, patch_size=8))
    calls = pictures((2, 48, 40), (1, 64, 40), (3, 40, 56), name="pixel_values")
    return model, [{**call, "interpolate_pos_encoding": True} for call in calls]
