"""What the compilers of TPUs and GPUs make of each layer, and of its peers' formulations.

Nothing runs. A TPU's compiler says how many cycles it expects; of a GPU's program the kernels and
the bytes that they move are counted. Both are exact: the same versions give the same numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table

from . import libraries
from .entries import Entry, Whole
from .libraries import Program, Unavailable
from .programs import cost
from .targets import Target

PHASES = ("forward", "backward")
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
MEASURES = {"tpu": ("cycles", "bytes"), "gpu": ("kernels", "bytes")}
ACCURATE = "flax, two passes"
"""flax.nnx with the variance that is accurate where the mean is large."""

Row = dict[str, Any]


def programs(entry: Entry, size: int, dtype: str) -> list[Program]:
    """The entry in jaxnn, and in what it is compared with."""
    own = _own(entry, size, dtype)
    made = [own]
    makers: list[Callable[[], Program]] = [
        partial(_flax, entry), partial(_flax, entry, is_accurate=True),
        partial(libraries.equinox_program, entry), partial(libraries.plain_program, entry, own),
    ]  # fmt: skip
    for make in makers:
        try:
            made.append(make())
        except Unavailable:
            continue
    return made


def _own(entry: Entry, size: int, dtype: str) -> Program:
    if not entry.imported:
        return libraries.of_layer("jaxnn", entry, libraries.own_layer(entry))
    import torch

    import jaxnn

    # An import has the dtypes of its example.
    layer = libraries.seen(entry.make(torch.nn))
    layer.layer.to(getattr(torch, dtype))
    rng = np.random.default_rng(0)
    drawn = [torch.from_numpy(item.draw(rng)) for item in entry.sizes[size]]
    inputs = [x.to(getattr(torch, dtype)) if x.is_floating_point() else x for x in drawn]
    net = jaxnn.from_torch(layer.layer, tuple(inputs), check=False)
    return libraries.of_layer("jaxnn", entry, libraries.Called(net, layer.call))


def _flax(entry: Entry, is_accurate: bool = False) -> Program:
    module = libraries.flax_layer(entry)
    name = "flax"
    if is_accurate:
        norms = [
            m for _, m in nnx.iter_modules(module) if hasattr(m, "use_fast_variance")
        ] if isinstance(module, nnx.Module) else []  # fmt: skip
        if not norms:
            raise Unavailable("nothing to choose")
        for norm in norms:
            norm.use_fast_variance = False
        name = ACCURATE
    return libraries.of_layer(name, entry, libraries.seen(module), channels_last=True)


def measure(entry: Entry, size: int, dtype: str, target: Target) -> list[Row]:
    """One entry of one size in one dtype: forward, and with backward."""
    made = programs(entry, size, dtype)
    jobs = {}
    for phase in PHASES if entry.has_backward else PHASES[:1]:
        for program in made:
            jobs[phase, program.name] = _lowered(program, entry, size, dtype, phase, target)
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(jobs, pool.map(partial(_compiled, target), jobs.values()), strict=True))
    rows = []
    for phase in dict.fromkeys(phase for phase, _ in jobs):
        sides = {name: facts for (p, name), facts in found.items() if p == phase}
        rows.append({
            "name": entry.name, "family": entry.family, "size": size, "dtype": dtype,
            "phase": phase, "target": target.name, "sides": sides,
            "shape": " ".join("x".join(map(str, i.shape)) for i in entry.sizes[size]),
        })  # fmt: skip
    return rows


def _lowered(
    program: Program, entry: Entry, size: int, dtype: str, phase: str, target: Target
) -> Any:
    drawn = [program.given(_abstract(item)) for item in entry.sizes[size]]
    parameters, rest, inputs = _cast((program.parameters, program.rest, drawn), DTYPES[dtype])
    arguments = target.abstract((parameters, rest, *inputs))
    if phase == "forward":
        return jax.jit(program.forward).lower(*arguments)
    output = jax.eval_shape(program.run, *arguments)[0]
    step = libraries.training_step(program, entry, inputs)
    donated = (0, 1) if entry.imported else ()
    cotangent = target.abstract(output)
    return jax.jit(step, donate_argnums=donated).lower(
        *arguments[:2], cotangent, *arguments[2:]
    )  # fmt: skip


def _abstract(item: Any) -> Any:
    """Zeros of the input's shape that take no memory."""
    dtype = np.int32 if isinstance(item, Whole) else np.float32
    return np.broadcast_to(np.zeros((), dtype), item.shape)


def _cast(tree: Any, dtype: Any) -> Any:
    def cast(leaf: Any) -> Any:
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jax.ShapeDtypeStruct(leaf.shape, dtype if is_float else leaf.dtype)

    return jax.tree.map(cast, tree)


def _compiled(target: Target, lowered: Any) -> dict[str, float]:
    compiled = lowered.compile()
    memory = compiled.memory_analysis()
    price = target.bytes_per_cycle if target.kind == "tpu" else math.inf
    facts = asdict(cost(compiled.as_text(), price))
    facts["temporaries"] = memory.temp_size_in_bytes
    # What has to be moved: each argument and result once.
    facts["least_bytes"] = memory.argument_size_in_bytes + memory.output_size_in_bytes
    if target.kind == "tpu":
        flops = (compiled.cost_analysis() or {}).get("flops", 0.0)
        facts["bound"] = max(facts["least_bytes"] / price, flops / target.flops_per_cycle)
    return facts


def peers(row: Row) -> list[str]:
    """What a row's ratios are to: flax.nnx and equinox, else the plain formulation."""
    others = [name for name in row["sides"] if name != "jaxnn"]
    libraries_ = [name for name in others if name != "plain"]
    return libraries_ or others


def ratio(row: Row, peer: str, measure: str) -> float:
    """jaxnn's over the peer's: infinite where the peer needs none."""
    ours, theirs = (row["sides"][name][measure] for name in ("jaxnn", peer))
    if theirs:
        return float(ours / theirs)
    return math.inf if ours else 1.0


def over(row: Row, bar: float = 1.05) -> bool:
    """Whether jaxnn is dearer than the peer by its default settings, in what is exact."""
    kind = row["target"].partition(":")[0]
    told = [
        ratio(row, peer, name) for peer in peers(row) if peer != ACCURATE
        for name in MEASURES[kind]
    ]  # fmt: skip
    return max(told, default=0.0) > bar


def _cells(row: Row) -> Iterator[str]:
    kind = row["target"].partition(":")[0]
    own = row["sides"]["jaxnn"]
    yield row["name"]
    yield row["shape"]
    yield row["dtype"]
    yield "forward" if row["phase"] == "forward" else "with backward"
    yield f"{own['cycles']:,.0f}" if kind == "tpu" else f"{own['kernels']:.0f}"
    if kind == "tpu":
        yield f"{own['guessed'] / own['cycles']:.0%}" if own["cycles"] else ""
        yield f"{own['bound'] / own['cycles']:.0%}" if own["cycles"] else ""
    yield f"{own['bytes'] / 1e6:,.1f}"
    yield f"{own['bytes'] / own['least_bytes']:.2f}" if own["least_bytes"] else ""
    yield f"{own['temporaries'] / 1e6:,.1f}"
    joined = "; ".join(_ratios(row))
    yield f"{joined} ✗" if over(row) else joined


def _ratios(row: Row) -> list[str]:
    kind = row["target"].partition(":")[0]
    return [
        f"{peer} {' / '.join(f'{ratio(row, peer, name):.2f}' for name in MEASURES[kind])}"
        for peer in peers(row)
    ]


def _headings(kind: str) -> list[str]:
    own = ["cycles", "guessed", "of bound"] if kind == "tpu" else ["kernels"]
    ratios = f"to peers ({' / '.join(MEASURES[kind])})"
    return ["entry", "shape", "dtype", "phase", *own, "MB", "over least", "temporary MB", ratios]


def print_table(rows: Sequence[Row], console: Console) -> None:
    if not rows:
        return
    kind = rows[0]["target"].partition(":")[0]
    # Eighty columns hold what is compared; the page and the JSON file hold the rest.
    own = ["cycles", "guessed"] if kind == "tpu" else ["kernels"]
    table = Table("entry", "phase", *own, "MB", f"to peers\n({' / '.join(MEASURES[kind])})")
    for row in rows:
        name, shape, dtype, phase, count, *others = _cells(row)
        counts = [count, others[0]] if kind == "tpu" else [count]
        told, colour = "\n".join(_ratios(row)), "red" if over(row) else "default"
        megabytes = f"{row['sides']['jaxnn']['bytes'] / 1e6:,.1f}"
        shapes = "\n".join(shape.split())
        table.add_row(
            f"{name}\n{shapes} {dtype}", phase.replace("with ", "with\n"), *counts, megabytes,
            f"[{colour}]{told}[/]",
        )  # fmt: skip
    console.print(table)
    console.print(summary(rows))


def summary(rows: Sequence[Row]) -> str:
    """How many rows are over the peer, and the geometric mean of the ratios."""
    kind = rows[0]["target"].partition(":")[0]
    lines = [f"{sum(map(over, rows))} of {len(rows)} rows over their peer."]
    for name in MEASURES[kind]:
        found = [
            value for row in rows for peer in peers(row) if peer != ACCURATE
            if 0 < (value := ratio(row, peer, name)) < math.inf
        ]  # fmt: skip
        if found:
            lines.append(
                f"{name}: geometric mean of {len(found)} ratios {geometric_mean(found):.2f}, "
                f"largest {max(found):.2f}."
            )
    return " ".join(lines)


def page(rows: Sequence[Row], facts: dict[str, Any]) -> str:
    """The results as Markdown."""
    kind = rows[0]["target"].partition(":")[0]
    told = ", ".join(f"{key} {value}" for key, value in facts["versions"].items())
    means = {
        "tpu": [
            "Nothing ran: these are the estimates of the TPU's own compiler, which repeat exactly.",
            "Cycles of one run, loops by their trips; the share that is *guessed* has no estimate",
            "and is priced by its bytes, at the rate of a large addition. *Of bound* is the share",
            "that the roofline takes: each argument and result moved once, or all products at the",
            "rate of a large bfloat16 product.",
        ],
        "gpu": [
            "Nothing ran: this is what the GPU's own compiler makes of a program, without",
            "autotuning. Kernels are launches, loops by their trips; a call of cuDNN or cuBLAS is",
            "one.",
        ],
    }[kind]  # fmt: skip
    lines = [
        f"# What the compiler of {', '.join(facts['targets'])} makes of jaxnn", "",
        f"{told}. Command: `{facts['command']}`.", "", *means,
        "*Over least* is the bytes moved to and from main memory over those of arguments and",
        "results. The last column is jaxnn over the peer: below 1 is less; ✗ marks what is over",
        f"1.05 of a peer with its default settings. {summary(rows)}", "",
    ]  # fmt: skip
    headings = _headings(kind)
    lines += [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def write(folder: Path, rows: Sequence[Row], facts: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kind = rows[0]["target"].partition(":")[0]
    text = json.dumps({"facts": facts, "rows": list(rows)}, indent=1)
    (folder / f"compiled-{kind}.json").write_text(text + "\n")
    (folder / f"RESULTS-{kind}.md").write_text(page(rows, facts))


def compare(before: Sequence[Row], after: Sequence[Row], console: Console) -> None:
    """What changed: numbers are exact, so every difference is one."""

    def key(row: Row) -> tuple[Any, ...]:
        return tuple(row[k] for k in ("target", "name", "size", "dtype", "phase"))

    old, new = ({key(row): row for row in rows} for rows in (before, after))
    table = Table("target", "entry", "shape", "dtype", "phase", "measure", "before", "after")
    for each, row in new.items():
        if each not in old:
            continue
        for name in MEASURES[row["target"].partition(":")[0]]:
            was, now = (rows[each]["sides"]["jaxnn"][name] for rows in (old, new))
            if was != now:
                colour = "green" if now < was else "red"
                table.add_row(
                    row["target"], row["name"], row["shape"], row["dtype"], row["phase"], name,
                    f"{was:,.0f}", f"[{colour}]{now:,.0f}[/]",
                )  # fmt: skip
    console.print(table)
    for each in sorted(set(old) ^ set(new), key=str):
        console.print(f"only {'before' if each in old else 'after'}: {' '.join(map(str, each))}")


def sizes(entry: Entry, largest_too: bool) -> list[int]:
    """The middle size, and those above."""
    return list(range(entry.middle, len(entry.sizes)))[: None if largest_too else 1]


def chosen(entries: Sequence[Entry], names: Sequence[str] | None) -> list[Entry]:
    return [
        e for e in entries
        if not names or any(re.search(n, f"{e.name} {e.family}", re.IGNORECASE) for n in names)
    ]  # fmt: skip
