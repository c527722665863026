"""What a TPU's compiler makes of whole models over many chips, none of which need be there."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from .collectives import Collective, collectives
from .scale_models import MODELS, Step
from .targets import Target

Row = dict[str, Any]

MEMORY = {"v5e": 16 * 2**30, "v5p": 95 * 2**30, "v6e": 32 * 2**30}
"""Bytes of a chip's main memory."""

OTHER = "other"


def measure(name: str, target: Target, narrow: bool = False) -> Row:
    """Compile one model for one target.

    Args:
        name: of MODELS.
        target: `tpu:v5p:4x4x4` and the like.
        narrow: a small model of the same kind, for a test.
    """
    model = MODELS[name]
    mesh = model.mesh(target.topology)
    started = time.perf_counter()
    step = model.make(mesh, narrow)
    imported = time.perf_counter()
    lowered = step.lower()
    traced = time.perf_counter()
    compiled = lowered.compile()
    ended = time.perf_counter()
    memory = compiled.memory_analysis()
    arguments, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    sent = [(one, purpose(one, step)) for one in collectives(compiled.as_text(), mesh.shape)]
    return {
        "name": name, "title": model.name + (" (narrow)" if narrow else ""),
        "target": target.name, "mesh": dict(mesh.shape),
        "plan": str(step.plan), "planned": step.plan.bytes,
        "inputs": [f"{leaf.dtype.name}{list(leaf.shape)}" for leaf in _inputs(step)],
        "arguments": arguments, "temporary": temporary, "results": results,
        "code": memory.generated_code_size_in_bytes,
        "memory": MEMORY[target.name.split(":")[1]],
        "seconds": {
            "import": imported - started, "trace": traced - imported, "compile": ended - traced,
        },
        "sent": _summed(sent),
        "other": [asdict(one) for one, why in sent if why == OTHER],
    }  # fmt: skip


def _inputs(step: Step) -> list[Any]:
    """The arrays of a batch, which come last and are not replaced."""
    return [a for a in step.arguments if isinstance(a, jax.ShapeDtypeStruct)]


def needed(row: Row) -> int:
    """The bytes of a chip that a program needs."""
    return int(row["arguments"] + row["temporary"] + row["results"] + row["code"])


def _summed(sent: Sequence[tuple[Collective, str]]) -> list[dict[str, Any]]:
    counts: Counter[tuple[str, str, tuple[str, ...]]] = Counter()
    sizes: Counter[tuple[str, str, tuple[str, ...]]] = Counter()
    for one, why in sent:
        counts[why, one.kind, one.axes] += one.times
        sizes[why, one.kind, one.axes] += one.bytes
    return [
        {"purpose": key[0], "kind": key[1], "axes": list(key[2]), "count": counts[key],
         "bytes": sizes[key]}
        for key in sorted(counts)
    ]  # fmt: skip


def purpose(one: Collective, step: Step) -> str:
    """Say what an exchange is for, of what the plan implies; `OTHER` where it implies it not.

    A weight that is parted over the axes of `gather` is gathered over them, and its gradient summed
    and parted, which may be a ring of permutes; the gradients of the others are summed over the
    axes of the batch. Where a product's inner dimension is parted over another axis, its results
    are summed over that. Tokens go to experts, and come back, by all-to-all. What has a number for
    each sequence at most, such as a loss or an index, is "numbers".
    """
    batch = _batch_axes(step)
    over, axes = {*step.gather}, {*one.axes}
    sizes = [math.prod(shape) for _, shape in one.arrays]
    stored, read = _sizes_of_weights(step)
    if sum(sizes) <= 2**10:
        return "numbers"
    if one.kind == "all-gather" and axes <= over and all(size in read for size in sizes):
        return "weights gathered"
    is_sum = one.kind in ("reduce-scatter", "all-reduce", "collective-permute")
    parts = stored | {size // 2 for size in stored}
    if is_sum and axes <= batch and all(size in parts | read for size in sizes):
        return "gradients summed"
    if one.kind in ("all-reduce", "reduce-scatter") and not axes & over:
        return "batch statistics summed" if axes <= batch else "features summed"
    if one.kind == "all-to-all" and axes == {"expert"}:
        return "tokens to experts"
    return OTHER


def _batch_axes(step: Step) -> set[str]:
    return set().union(*(_axes_of(leaf.sharding.spec) for leaf in _inputs(step)))


def _axes_of(spec: PartitionSpec) -> set[str]:
    """The axes of the mesh over which something is parted."""
    entries = (entry if isinstance(entry, tuple) else (entry,) for entry in spec)
    return {name for names in entries for name in names if name is not None}


def _sizes_of_weights(step: Step) -> tuple[set[int], set[int]]:
    """The numbers of elements of weights, as a chip stores and as it reads them."""
    stored, read = set(), set()
    for placement in step.plan:
        here = NamedSharding(step.mesh, placement.spec).shard_shape(placement.shape)
        stored.add(math.prod(here))
        over = _axes_of(placement.spec) & {*step.gather}
        gathered = math.prod(step.mesh.shape[name] for name in over)
        read.add(math.prod(here) * gathered)
    return stored, read


# --- the page -----------------------------------------------------------------------------------


def _amount(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**29 else f"{size / 2**20:.1f} MiB"


def told(row: Row) -> str:
    """A row in Markdown."""
    mesh = ", ".join(f"{axis} {size}" for axis, size in row["mesh"].items())
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in row["seconds"].items())
    share = needed(row) / row["memory"]
    lines = [
        f"## {row['title']}: {row['target']}", "",
        f"Mesh: {mesh}. A step takes {', '.join(row['inputs'])}. {seconds}.", "",
        "```text", row["plan"], "```", "",
        "| a chip | |", "|---|---|",
        f"| planned | {_amount(row['planned'])} |",
        f"| arguments (what is kept between steps, and the batch) | {_amount(row['arguments'])} |",
        f"| temporary (activations, gradients, gathered weights) | {_amount(row['temporary'])} |",
        f"| results that replace nothing | {_amount(row['results'])} |",
        f"| code | {_amount(row['code'])} |",
        f"| in all, of {_amount(row['memory'])} | {_amount(needed(row))} ({share:.0%}) |", "",
        "| what is sent | how | over | times | at a chip, in all |", "|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {one['purpose']} | {one['kind']} | {', '.join(one['axes'])} | {one['count']} "
        f"| {_amount(one['bytes'])} |"
        for one in row["sent"]
    ]
    if row["other"]:
        lines += ["", "Other:", ""]
        others = Counter(
            f"{one['kind']} over {', '.join(one['axes'])} of "
            f"{', '.join(f'{kind}{list(shape)}' for kind, shape in one['arrays'])}: "
            f"`{one['source']}`"
            for one in row["other"]
        )
        lines += [f"- {count} x {text}" for text, count in others.items()]
    return "\n".join(lines) + "\n"


def page(rows: Sequence[Row], command: str) -> str:
    """All rows in Markdown."""
    top = [
        "# What the compilers of TPUs make of whole models", "",
        f"jax {jax.__version__}. Command: `{command}`.", "",
        "Nothing ran, and no weight was ever there: models are imported from torch's meta device,",
        "placed by `jaxnn.sharding`, and compiled by the TPU's own compiler: sizes are exact.",
        "What is sent is read from the compiled text and sorted by what the plan implies: see",
        "`purpose` in `benchmarks/scale.py`. A size is what a chip has of it at the end, so that",
        "of a weight gathered is the whole weight; gradients are summed and parted by rings of",
        "permutes along their products, which count each step.", "",
    ]  # fmt: skip
    return "\n".join(top) + "\n".join(map(told, rows))


def write(folder: Path, rows: Sequence[Row], command: str) -> list[Row]:
    """Write the rows beside those that are there of other models and targets; return all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "scale.json"
    known = json.loads(path.read_text()) if path.exists() else []
    new = {(row["name"], row["target"]) for row in rows}
    # As JSON has them, tuples are lists: the page is the same whoever makes it.
    everything = json.loads(json.dumps([
        *(row for row in known if (row["name"], row["target"]) not in new), *rows,
    ]))  # fmt: skip
    everything.sort(key=lambda row: ([*MODELS].index(row["name"]), row["target"]))
    path.write_text(json.dumps(everything, indent=1) + "\n")
    (folder / "RESULTS-scale.md").write_text(page(everything, command))
    return everything
