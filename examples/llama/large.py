"""A Llama of 7B parameters is planned without weights; one of 1B is loaded over devices and run.

    python examples/llama/large.py --out checkpoint

The first needs no checkpoint and hardly any memory: the model is on torch's meta device, and its
import holds shapes. The second is written to a folder in bfloat16, with random weights, as
checkpoints come: several files of safetensors and an index. It is read tensor by tensor, each
straight to its places on the devices, run in bfloat16, and judged by PyTorch.

It needs PyTorch and transformers. `--small` does all of it with small models.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Virtual devices of the CPU, where it is what JAX runs on; other platforms have the devices they
# have. XLA reads this when JAX starts, so it stands before the import.
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    )

import jax
import numpy as np
import torch
from flax import nnx
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig

import jaxnn

LARGE = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "max_position_embeddings": 4096,
}  # fmt: skip
ONE_BILLION = {
    "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8,
}  # fmt: skip
SMALL = {
    "vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 8,
}  # fmt: skip
DEVICES = 8
# What goes into heads and hidden features is parted by rows, what comes out of them by columns.
RULES = [
    (r".*\.(q|k|v|gate|up)_proj\.weight", P("model")),
    (r".*\.(o|down)_proj\.weight", P(None, "model")),
    (r"model\.embed_tokens\.weight|lm_head\.weight", P("model")),
]
# As much of a checkpoint as is in memory while it is written.
SHARD = 512 * 2**20
OPTIONS = {"use_cache": False, "return_dict": False}
console = Console(highlight=False, soft_wrap=True, width=150)


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Print what something took."""
    started, wall = time.process_time(), time.perf_counter()
    yield
    processor, wall = time.process_time() - started, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    console.print(
        f"{what}: {processor:.1f} s of processor time, {wall:.1f} s in all; "
        f"at most {peak:.2f} GiB resident until then"
    )


def without_weights(sizes: dict[str, int]) -> torch.nn.Module:
    """A Llama whose weights are shapes in bfloat16; its tables of frequencies have values."""
    with jaxnn.interop.abstract_parameters():
        return AutoModelForCausalLM.from_config(LlamaConfig(**sizes), dtype=torch.bfloat16).eval()


def imported(model: torch.nn.Module) -> nnx.Module:
    """Its import, whose weights are shapes too."""
    ids = torch.zeros((2, 16), dtype=torch.long)
    return jaxnn.from_torch(model, (), {"input_ids": ids, **OPTIONS})


def write_checkpoint(model: torch.nn.Module, folder: Path) -> int:
    """Write random weights to several files and an index; return how many bytes they are."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    places: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    written = 0

    def write() -> None:
        name = f"model-{len(set(places.values())) + 1:05}.safetensors"
        save_file(shard, folder / name)
        places.update(dict.fromkeys(shard, name))
        shard.clear()

    for name, entry in model.state_dict().items():
        drawn = torch.randn(entry.shape, generator=generator) * 0.02
        shard[name] = (drawn + 1 if entry.ndim == 1 else drawn).to(entry.dtype)
        written += entry.nbytes
        if sum(tensor.nbytes for tensor in shard.values()) >= SHARD:
            write()
    if shard:
        write()
    index = {"metadata": {"total_size": written}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return written


def logits_of_torch(sizes: dict[str, int], folder: Path, ids: np.ndarray) -> list[np.ndarray]:
    """What PyTorch computes in bfloat16, and in float32 of the same weights."""
    model = without_weights(sizes)
    weights: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        weights |= load_file(path)
    model.load_state_dict(weights, assign=True)
    found = []
    with torch.no_grad():
        for dtype in (torch.bfloat16, torch.float32):
            logits = model.to(dtype)(input_ids=torch.from_numpy(ids), **OPTIONS)[0]
            found.append(logits.float().numpy())
    return found


def plan_the_large_one(sizes: dict[str, int]) -> None:
    """Import it and print where its weights would go."""
    with measured("made without weights"):
        model = without_weights(sizes)
    count = sum(parameter.numel() for parameter in model.parameters())
    with measured(f"imported, {count / 1e9:.2f}B parameters"):
        net = imported(model)
    # Nothing is placed, so the devices need not be here.
    plan = jaxnn.sharding.plan(net, RULES, AbstractMesh((DEVICES,), ("model",)))
    console.print(str(plan), markup=False)


def load_and_run(sizes: dict[str, int], folder: Path) -> bool:
    """Write, load, run and judge; return whether it is as good as PyTorch."""
    model = without_weights(sizes)
    with measured("written"):
        size = write_checkpoint(model, folder)
    with measured("imported"):
        net: Any = imported(model)
    mesh = jax.make_mesh((jax.device_count(),), ("model",), axis_types=(AxisType.Auto,))
    # The shapes are given their shardings, and each array is read to where its shape is.
    jaxnn.sharding.shard(net, RULES, mesh)
    with measured(f"loaded, {size / 2**30:.2f} GiB over {mesh.size} devices"):
        report = jaxnn.load_state_dict(net, folder)
    console.print(str(report), markup=False)
    ids = np.random.default_rng(0).integers(0, sizes["vocab_size"], (3, 16))
    graphdef, state = nnx.split(net)
    run = jax.jit(lambda state, ids: nnx.merge(graphdef, state)(input_ids=ids, **OPTIONS)[0])
    with measured("compiled and run"):
        logits = run(state, ids.astype(np.int32))
        found = np.asarray(logits, np.float32)
    del net, state
    in_bfloat16, truth = logits_of_torch(sizes, folder, ids)
    largest = np.abs(truth).max()

    def error(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.abs(one - other).max() / largest)

    ours, theirs = error(found, truth), error(in_bfloat16, truth)
    console.print(
        f"{logits.dtype} logits, by the largest: {error(found, in_bfloat16):.1e} from PyTorch's "
        f"bfloat16; from float32 JAX {ours:.1e}, PyTorch {theirs:.1e}"
    )
    return logits.dtype == jax.numpy.bfloat16 and ours < 2 * theirs


def main() -> bool:
    """Do both; return whether the second is as good as PyTorch."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--small", action="store_true", help="small models of the same kind")
    options = parser.parse_args()
    plan_the_large_one(SMALL if options.small else LARGE)
    return load_and_run(SMALL if options.small else ONE_BILLION, options.out)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
