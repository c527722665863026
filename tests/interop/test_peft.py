"""Adapters in GPT-2 and Llama: they train alone, and PEFT computes with them what jaxnn does."""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

import jaxnn
from jaxnn.interop import add_lora, load_lora, merge_lora, save_lora

pytest.importorskip("transformers")

# The compiled operators of torchvision, which transformers imports where it is installed, need not
# be there for a model of text.
with warnings.catch_warnings(action="ignore"):
    from benchmarks.zoo_models import declare_torchvision

    declare_torchvision()
    from transformers import (
        GPT2Config,
        GPT2ForSequenceClassification,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
    )

pytestmark = [
    pytest.mark.standard_promotion,
    pytest.mark.filterwarnings("ignore:.*(is_gradient_checkpointing|fan_in_fan_out|save_embedd)"),
]

GPT2 = {
    "n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 40, "n_positions": 16,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
}  # fmt: skip
LLAMA = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 40, "max_position_embeddings": 32,
}  # fmt: skip
# Where adapters go, as jaxnn and as PEFT is told.
TARGETS: dict[str, Any] = {
    "gpt2": ["c_attn", "c_proj", "wpe"],
    "llama": r"model\.layers\.\d+\.(self_attn\.(q|v)_proj|mlp\.down_proj)",
}
IDS = np.random.default_rng(0).integers(1, 40, (2, 9))


def model(name: str) -> Any:
    torch.manual_seed(0)
    made = {
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)),
        "classifier": lambda: GPT2ForSequenceClassification(GPT2Config(num_labels=3, **GPT2)),
    }
    return made[name]().eval()


@cache
def imported(name: str) -> nnx.Module:
    example = (torch.tensor(IDS),), {"use_cache": False}
    return jaxnn.from_torch(model(name), *example, rngs=nnx.Rngs(0), check=False)


def logits(net: Any, ids: Any = IDS) -> Any:
    return net(jnp.asarray(ids), use_cache=False)["logits"]


def randomised(peft_model: Any) -> Any:
    generator = torch.Generator().manual_seed(1)
    for name, parameter in peft_model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) / 3
    return peft_model


def close(got: Any, wanted: Any, bound: float = 5e-5) -> None:
    np.testing.assert_allclose(np.asarray(got), np.asarray(wanted), rtol=bound, atol=bound)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_training_step_moves_adapters_alone(name: str) -> None:
    net: Any = nnx.clone(imported(name))
    before, plain = jaxnn.state_dict(net), logits(net)
    paths = add_lora(net, TARGETS[name], rank=4, alpha=8, rngs=nnx.Rngs(1))
    assert len(paths) == {"gpt2": 7, "llama": 6}[name]
    np.testing.assert_array_equal(logits(net), plain)
    optimizer = nnx.Optimizer(net, optax.adam(1e-2), wrt=nnx.LoRAParam)

    @nnx.jit
    def step(net: Any, optimizer: Any) -> Any:
        def loss(net: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(
                logits(net)[:, :-1], jnp.asarray(IDS)[:, 1:]
            ).mean()

        value, gradients = nnx.value_and_grad(loss, argnums=nnx.DiffState(0, nnx.LoRAParam))(net)
        optimizer.update(net, gradients)
        return value

    losses = [float(step(net, optimizer)) for _ in range(6)]
    assert losses == sorted(losses, reverse=True)
    after = jaxnn.state_dict(net)
    assert list(after) == list(before) == list(model(name).state_dict())
    assert all((after[key] == before[key]).all() for key in before)
    for _, value in nnx.to_flat_state(nnx.state(net, nnx.LoRAParam)):
        assert jnp.abs(value[...]).max() > 0
    trained = logits(net, IDS[:, :6])
    assert merge_lora(net) == paths
    close(logits(net, IDS[:, :6]), trained)


def test_a_tied_head_is_refused() -> None:
    net = nnx.clone(imported("gpt2"))
    with pytest.raises(ValueError, match=r"lm_head shares its weight with transformer\.wte"):
        add_lora(net, ["lm_head"], rngs=nnx.Rngs(0))


# --- PEFT -----------------------------------------------------------------------------------------

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"lora_alpha": 12},
    "rslora": {"lora_alpha": 3, "use_rslora": True},
    "patterns": {"rank_pattern": {"c_proj|v_proj": 2}, "alpha_pattern": {r".*\.1\..*": 1}},
}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_folder_of_peft_gives_what_peft_computes(name: str, config: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    stated = peft.LoraConfig(r=4, target_modules=TARGETS[name], **CONFIGS[config])
    theirs = randomised(peft.get_peft_model(model(name), stated)).eval()
    theirs.save_pretrained(tmp_path)
    net: Any = nnx.clone(imported(name))
    assert load_lora(net, tmp_path)
    wanted = theirs(torch.tensor(IDS), use_cache=False).logits
    close(logits(net), wanted.detach())
    # A and B have the gradients that PEFT gives them.
    (wanted**2).mean().backward()
    gradients = nnx.grad(
        lambda net: (logits(net) ** 2).mean(), argnums=nnx.DiffState(0, nnx.LoRAParam)
    )(net)
    found = {".".join(map(str, path)): g[...] for path, g in nnx.to_flat_state(gradients)}
    compared = 0
    for key, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            path, _, rest = key.removeprefix("base_model.model.").partition(".lora_")
            half = rest.removeprefix("embedding_")[0]
            close(found[f"{path}.lora.lora_{half}"], parameter.grad, 1e-4)
            compared += 1
    assert compared == len(found)
    # What is merged is what PEFT merges.
    merge_lora(net)
    merged = theirs.merge_and_unload().state_dict()
    for key, value in jaxnn.state_dict(net).items():
        close(value, merged[key], 1e-6)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_peft_reads_what_is_written(name: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    net: Any = nnx.clone(imported(name))
    add_lora(net, TARGETS[name], rank=4, alpha=6, dropout=0.1, rslora=True, rngs=nnx.Rngs(1))
    if name == "llama":  # one of another rank
        add_lora(
            net,
            r"model\.layers\.0\.mlp\.up_proj",
            rank=2,
            alpha=5,
            dropout=0.1,
            rslora=True,
            rngs=nnx.Rngs(2),
        )
    for seed, (_, leaf) in enumerate(nnx.to_flat_state(nnx.state(net, nnx.LoRAParam))):
        leaf.set_value(jax.random.normal(jax.random.key(seed), leaf.shape) / 3)
    net.eval()
    save_lora(net, tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*adapter keys")  # missing in the folder
        theirs = peft.PeftModel.from_pretrained(model(name), tmp_path).eval()
    there = [key for key, _ in theirs.named_parameters() if "lora_" in key]
    assert len(there) == len(nnx.to_flat_state(nnx.state(net, nnx.LoRAParam)))
    close(logits(net), theirs(torch.tensor(IDS), use_cache=False).logits.detach())


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_text_is_that_of_peft(name: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    original = model(name)
    with torch.no_grad():  # else a token is followed by itself
        for parameter in original.parameters():
            parameter.add_(torch.randn(parameter.shape) / 5)
        original.lm_head.weight = torch.nn.Parameter(torch.randn(40, 16) / 2)
    original.config.tie_word_embeddings = False
    lm = jaxnn.from_transformers(original, check=False)
    plain = jaxnn.generate(lm, jnp.asarray(IDS[:, :5]), max_new_tokens=8, eos_token_id=())
    stated = peft.LoraConfig(r=4, target_modules=TARGETS[name])
    theirs = randomised(peft.get_peft_model(original, stated)).eval()
    theirs.save_pretrained(tmp_path)
    load_lora(lm, tmp_path)
    found = jaxnn.generate(lm, jnp.asarray(IDS[:, :5]), max_new_tokens=8, eos_token_id=())
    wanted = theirs.generate(
        input_ids=torch.tensor(IDS[:, :5]), max_new_tokens=8, do_sample=False, eos_token_id=None
    )
    np.testing.assert_array_equal(found.sequences, wanted.numpy())
    assert (found.sequences != plain.sequences).any()


def test_modules_to_save_and_biases_are_loaded_too(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    stated = peft.LoraConfig(
        r=4, target_modules=["c_attn"], task_type="SEQ_CLS", bias="lora_only",
        modules_to_save=["score", "ln_f"],
    )  # fmt: skip
    theirs = randomised(peft.get_peft_model(model("classifier"), stated)).eval()
    for key, parameter in theirs.named_parameters():
        if parameter.requires_grad and "lora_" not in key:
            parameter.data = torch.randn(parameter.shape)
    theirs.save_pretrained(tmp_path)
    net: Any = nnx.clone(imported("classifier"))
    assert len(load_lora(net, tmp_path)) == 2
    close(logits(net), theirs(torch.tensor(IDS), use_cache=False).logits.detach())


def test_dora_is_refused_by_name(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    stated = peft.LoraConfig(r=4, target_modules=["q_proj"], use_dora=True)
    peft.get_peft_model(model("llama"), stated).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["use_dora"]
    with pytest.raises(ValueError, match="not plain LoRA, which alone jaxnn has: use_dora=True"):
        load_lora(nnx.clone(imported("llama")), tmp_path)


def test_a_half_precision_model_is_adapted_as_by_peft(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    half = model("llama").bfloat16()
    stated = peft.LoraConfig(r=4, target_modules=TARGETS["llama"])
    net: Any = jaxnn.from_torch(half, (torch.tensor(IDS),), {"use_cache": False}, check=False)
    theirs = randomised(peft.get_peft_model(half, stated)).eval()
    theirs.save_pretrained(tmp_path)
    load_lora(net, tmp_path)
    adapter = net.model.layers[0].self_attn.q_proj.lora
    assert adapter.lora_A[...].dtype == jnp.float32
    wanted = theirs(torch.tensor(IDS), use_cache=False).logits.detach().float()
    found = logits(net)
    assert found.dtype == jnp.bfloat16
    # As far as bfloat16 is from float32 in the same model.
    exact = theirs.float()(torch.tensor(IDS), use_cache=False).logits.detach()
    error, own = (np.abs(np.asarray(v, np.float32) - exact.numpy()).max() for v in (found, wanted))
    assert error < 3 * own


def test_a_convolution_is_adapted_as_by_peft(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    original = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, (3, 2), stride=2, padding=1), torch.nn.ReLU(),
        torch.nn.Conv2d(6, 4, 1, bias=False),
    )  # fmt: skip
    x = torch.randn(2, 3, 9, 8)
    net: Any = jaxnn.from_torch(original, x)
    stated = peft.LoraConfig(r=4, target_modules=["0", "2"])
    theirs = randomised(peft.get_peft_model(original, stated)).eval()
    theirs.save_pretrained(tmp_path)
    assert load_lora(net, tmp_path) == ("0", "2")
    wanted = theirs(x).detach()
    close(net(jnp.asarray(x.numpy())), wanted)
    merge_lora(net)
    close(net(jnp.asarray(x.numpy())), wanted)
