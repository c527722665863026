"""What the compilers of TPUs and GPUs make of each layer, and of its peers' formulations.

Nothing runs. A TPU's compiler says how many cycles it expects; of a GPU's program the kernels and
the bytes that they move are counted. Both are exact: the same versions give the same numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from rich.console import Console
from rich.table import Table

from .compiler import ACCURATE, DTYPES, LAYERS, PHASES, Row
from .entries import WHOLE_MODELS, Entry

MEASURES = {"tpu": ("cycles", "bytes"), "gpu": ("kernels", "bytes")}


def peers(row: Row) -> list[str]:
    """What a row's ratios are to: flax.nnx and equinox, else the plain formulation."""
    others = [name for name in (*row["sides"], *row["stopped"]) if name != "jaxnn"]
    libraries_ = [name for name in others if name != "plain"]
    return libraries_ or others


def ratio(row: Row, peer: str, measure: str) -> float:
    """jaxnn's over the peer's: infinite where the peer needs none, or jaxnn was stopped."""
    if "jaxnn" in row["stopped"]:
        return math.inf
    if peer in row["stopped"]:
        return 0.0
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
    yield row["name"]
    yield row["shape"]
    yield row["dtype"]
    yield "forward" if row["phase"] == "forward" else "with backward"
    if own := row["sides"].get("jaxnn"):
        yield f"{own['cycles']:,.0f}" if kind == "tpu" else f"{own['kernels']:.0f}"
        if kind == "tpu":
            yield f"{own['guessed'] / own['cycles']:.0%}" if own["cycles"] else ""
            yield f"{own['bound'] / own['cycles']:.0%}" if own["cycles"] else ""
        yield f"{own['bytes'] / 1e6:,.1f}"
        yield f"{own['bytes'] / own['least_bytes']:.2f}" if own["least_bytes"] else ""
        yield f"{own['temporaries'] / 1e6:,.1f}"
    else:
        yield from [""] * (6 if kind == "tpu" else 4)
    joined = "; ".join(_ratios(row))
    yield f"{joined} ✗" if over(row) else joined


def _ratios(row: Row) -> list[str]:
    if "jaxnn" in row["stopped"]:
        return [_stopped(row, "jaxnn")]
    kind = row["target"].partition(":")[0]
    return [
        _stopped(row, peer) if peer in row["stopped"] else
        f"{peer} {' / '.join(f'{ratio(row, peer, name):.2f}' for name in MEASURES[kind])}"
        for peer in peers(row)
    ]  # fmt: skip


def _stopped(row: Row, side: str) -> str:
    return f"{side} not compiled in {row['stopped'][side]:g} s"


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
        megabytes = others[2 if kind == "tpu" else 0]
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
    """Write the page and the JSON file, in the order of the entries."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = sorted(rows, key=_place)
    kind = rows[0]["target"].partition(":")[0]
    text = json.dumps({"facts": facts, "rows": list(rows)}, indent=1)
    (folder / f"compiled-{kind}.json").write_text(text + "\n")
    (folder / f"RESULTS-{kind}.md").write_text(page(rows, facts))


def read(folder: Path, target: str, versions: dict[str, str]) -> list[Row]:
    """The rows that a former run of these versions has left."""
    path = folder / f"compiled-{target.partition(':')[0]}.json"
    told = json.loads(path.read_text()) if path.exists() else {}
    if told.get("facts", {}).get("versions") != versions:
        return []
    return [row for row in told["rows"] if row["target"] == target]


def is_of(row: Row, entry: Entry, size: int, dtype: str) -> bool:
    """Whether the row is of an entry in this size and dtype, forward or with backward."""
    return (row["name"], row["size"], row["dtype"]) == (entry.name, size, dtype)


def _place(row: Row) -> tuple[int, int, int, int]:
    names = [entry.name for entry in (*LAYERS, *WHOLE_MODELS)]
    dtype, phase = [*DTYPES].index(row["dtype"]), PHASES.index(row["phase"])
    return names.index(row["name"]), row["size"], dtype, phase


def compare(before: Sequence[Row], after: Sequence[Row], console: Console) -> None:
    """What changed: numbers are exact, so every difference is one."""

    def key(row: Row) -> tuple[Any, ...]:
        return tuple(row[k] for k in ("target", "name", "size", "dtype", "phase"))

    old, new = ({key(row): row for row in rows} for rows in (before, after))
    table = Table("target", "entry", "shape", "dtype", "phase", "measure", "before", "after")
    for each, row in new.items():
        if each not in old or "jaxnn" in {**row["stopped"], **old[each]["stopped"]}:
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
