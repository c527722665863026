"""Tables, JSON, a plot and a page of what was measured."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import jax
import numpy as np
import torch
from flax import __version__ as flax_version
from rich.console import Console
from rich.table import Table

from . import drawn
from .entries import Entry

PHASES = ("forward", "backward")


def row(
    entry: Entry, size: int, peer: str, times: dict[str, dict[str, list[float]]], **facts: Any
) -> dict[str, Any]:
    """Ratios of one entry and size to one peer, with their quartiles over the rounds."""
    result: dict[str, Any] = {
        "name": entry.name, "family": entry.family, "size": size, "peer": peer,
        "shape": " ".join("x".join(map(str, i.shape)) for i in entry.sizes[size]), **facts,
    }  # fmt: skip
    for phase in times:
        ours, theirs = times[phase]["jaxnn"], times[phase][peer]
        rounds = [a / b for a, b in zip(ours, theirs, strict=True)]
        low, _, high = quantiles(rounds, n=4)
        bar = entry.bar[PHASES.index(phase)] if size == entry.middle else None
        result[phase] = {
            "ratio": median(ours) / median(theirs), "low": low, "high": high,
            "milliseconds": 1e3 * median(ours), "bar": (bar if peer == "torch" else None),
        }  # fmt: skip
    return result


def growth(rows: Sequence[dict[str, Any]], entries: Sequence[Entry]) -> dict[str, float]:
    """The exponent p of time ~ elements^p over an entry's sizes, with backward."""
    exponents = {}
    for entry in entries:
        of = [
            r
            for r in rows
            if r["name"] == entry.name
            and r["peer"] == "torch"
            and "backward" in r
            and not r["drawn"]
            and r["dtype"] == "float32"
        ]
        if len(of) < 3:
            continue
        elements = [sum(int(np.prod(i.shape)) for i in entry.sizes[r["size"]]) for r in of]
        seconds = [r["backward"]["milliseconds"] for r in of]
        exponents[entry.name] = float(np.polyfit(np.log(elements), np.log(seconds), 1)[0])
    return exponents


def machine(threads: int, device: str) -> dict[str, str]:
    return {
        "machine": _processor(), "threads": str(threads), "device": device,
        "jax": jax.__version__, "flax": flax_version, "torch": torch.__version__,
        "python": platform.python_version(), "date": date.today().isoformat(),
    }  # fmt: skip


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def print_table(rows: Sequence[dict[str, Any]], console: Console) -> None:
    table = Table(
        "entry", "shape", "peer", "forward", "bar", "with backward", "bar", "MB", "compile"
    )
    for item in rows:
        cells = []
        for phase in PHASES:
            cells += _cells(item.get(phase))
        memory = item.get("temporary_bytes")
        seconds = item.get("compile_seconds")
        table.add_row(
            item["name"], _shape(item), item["peer"], *cells,
            f"{memory[1] / 2**20:.1f}" if memory else "", f"{seconds:.1f} s" if seconds else "",
        )  # fmt: skip
    console.print(table)
    if told := verdicts(rows):
        families = Table(
            "family", "drawn", *("forward", "9th decile", "with backward", "9th decile")
        )
        for cells in told:
            families.add_row(*cells)
        console.print(families)


def _cells(measured: dict[str, Any] | None) -> list[str]:
    if measured is None:
        return ["", ""]
    text = f"{measured['ratio']:.2f} ({measured['low']:.2f}-{measured['high']:.2f})"
    if measured["bar"] is None:
        return [text, ""]
    colour = "green" if measured["ratio"] <= measured["bar"] else "red"
    return [f"[{colour}]{text}[/]", f"{measured['bar']:.2f}"]


def write(folder: Path, rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> None:
    """`benchmark.json`, `benchmark.png` and `RESULTS.md` (`RESULTS-device.md` of a GPU)."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"facts": facts, "rows": list(rows)}, indent=1)
    (folder / "benchmark.json").write_text(text + "\n")
    name = "RESULTS-device.md" if facts["device"] == "gpu" else "RESULTS.md"
    (folder / name).write_text(page(rows, facts))
    plot(folder / "benchmark.png", rows)


def verdicts(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Of each family with drawn sizes: how many, and mean and ninth decile of each phase."""
    those = [r for r in rows if r.get("drawn") and r["peer"] == "torch"]
    table = []
    for family, dtype in dict.fromkeys((r["family"], r["dtype"]) for r in those):
        found_rows = [r for r in those if (r["family"], r["dtype"]) == (family, dtype)]
        cells = [family if dtype == "float32" else f"{family}, {dtype}", str(len(found_rows))]
        for phase in PHASES:
            found = drawn.verdict(found_rows, phase)
            cells += [f"{v:.2f}{'' if v <= drawn.BARS[k] else ' ✗'}" for k, v in found.items()]
        table.append(cells)
    return table


def page(rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The results as Markdown."""
    told = ", ".join(f"{key} {facts[key]}" for key in ("jax", "flax", "torch", "python"))
    lines = [
        "# Speed of jaxnn", "",
        f"{facts['machine']}, {facts['threads']} threads, {facts['device']}; {told};",
        f"{facts['date']}.",
        f"Command: `{facts['command']}`.", "",
        "Time of jaxnn over that of the peer: lower is better, and below 1 is faster; in brackets",
        f"the quartiles over {facts['repetitions']} interleaved rounds. float32 if not said, warm,",
        "the same threads on both sides, results checked equal before. A ratio over its bar is",
        "marked ✗.",
        "MB are XLA's own count of temporaries, with backward. The last column is the time of a",
        "copy of all arguments and results over that of the layer: what is bound by memory alone",
        "has 100%.", "",
    ]  # fmt: skip
    if facts.get("remark"):
        lines += [facts["remark"], ""]
    if told := verdicts(rows):
        lines += [
            "## Drawn sizes", "",
            f"Entries of sizes and options drawn by the seed {facts['seed']}; the geometric mean",
            "of their ratios to torch (bar 1.0), and the ninth decile, which one of ten exceeds",
            "(bar 1.3).", "",
            "| family | entries | forward | ninth decile | with backward | ninth decile |",
            "|---|---|---|---|---|---|",
            *(f"| {' | '.join(cells)} |" for cells in told), "",
        ]  # fmt: skip
    for peer in dict.fromkeys(item["peer"] for item in rows):
        lines += [
            f"## Against {peer}", "",
            "| entry | shape | forward | bar | with backward | bar | MB | compile | copy |",
            "|---|---|---|---|---|---|---|---|---|",
        ]  # fmt: skip
        lines += [_line(item, facts.get("copy_rate")) for item in rows if item["peer"] == peer]
        lines.append("")
    if facts.get("growth"):
        lines += ["## Growth", "", "Exponent p of time ~ elements^p, forward with backward.", ""]
        lines += [f"- {name}: {value:.2f}" for name, value in facts["growth"].items()]
        lines.append("")
    return "\n".join(lines)


def _line(item: dict[str, Any], copy_rate: float | None) -> str:
    cells = [item["name"], _shape(item)]
    for phase in PHASES:
        measured = item.get(phase)
        if measured is None:
            cells += ["", ""]
            continue
        bar = measured["bar"]
        mark = "" if bar is None or measured["ratio"] <= bar else " ✗"
        cells.append(
            f"{measured['ratio']:.2f} ({measured['low']:.2f}-{measured['high']:.2f}){mark}"
        )
        cells.append("" if bar is None else f"{bar:.2f}")
    memory, seconds = item.get("temporary_bytes"), item.get("compile_seconds")
    cells += [f"{memory[1] / 2**20:.1f}" if memory else ""]
    cells += [f"{seconds:.1f} s" if seconds else "", _share(item, copy_rate)]
    return "| " + " | ".join(cells) + " |"


def _shape(item: dict[str, Any]) -> str:
    dtype = item.get("dtype", "float32")
    return item["shape"] if dtype == "float32" else f"{item['shape']} {dtype}"


def _share(item: dict[str, Any], copy_rate: float | None) -> str:
    """How much of a copy's speed forward, and with backward, reach."""
    least = item.get("least_bytes")
    if not copy_rate or not least:
        return ""
    shares = [
        amount / copy_rate / (item[phase]["milliseconds"] / 1e3)
        for phase, amount in zip(PHASES, least, strict=True) if phase in item
    ]  # fmt: skip
    return " / ".join(f"{share:.0%}" for share in shares)


def plot(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Bars of the ratios to the first peer, on a log axis with the line at 1."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    peer = rows[0]["peer"]
    shown = [r for r in rows if r["peer"] == peer and r["size"] == r["middle"]] or list(rows)
    height = max(2.0, 0.26 * len(shown) + 1)
    figure, axes = plt.subplots(figsize=(9, height), layout="constrained")
    places = np.arange(len(shown))
    for phase, offset, colour in (("forward", -0.2, "#4477aa"), ("backward", 0.2, "#ee9944")):
        ratios = [r[phase]["ratio"] if phase in r else np.nan for r in shown]
        label = "forward" if phase == "forward" else "forward with backward"
        # Bars start at 1: to the left is faster than the peer.
        axes.barh(places + offset, np.array(ratios) - 1, 0.38, left=1, color=colour, label=label)
        bars = [r[phase]["bar"] if phase in r else None for r in shown]
        kept = [(p, b) for p, b in zip(places + offset, bars, strict=True) if b is not None]
        axes.plot([b for _, b in kept], [p for p, _ in kept], "k|", markersize=7)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(places, [r["name"] for r in shown], fontsize=7)
    axes.invert_yaxis()
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(f"time of jaxnn / time of {peer} (left of the line: faster; | is the bar)")
    axes.legend(loc="lower right", fontsize=8)
    axes.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def compare(before: Path, after: Path, console: Console) -> None:
    """How the ratios of two runs differ, entry by entry."""
    told = [json.loads(path.read_text()) for path in (before, after)]
    if "targets" in told[0]["facts"]:
        from . import compile_for

        compile_for.compare(told[0]["rows"], told[1]["rows"], console)
        return
    old, new = ({(r["name"], _shape(r), r["peer"]): r for r in run["rows"]} for run in told)
    table = Table("entry", "shape", "peer", "forward", "with backward")
    for key, item in new.items():
        if key in old:
            table.add_row(
                *key,
                *(_change(old[key].get(p), item.get(p)) for p in PHASES),
            )  # fmt: skip
    console.print(table)
    for key in sorted(set(old) ^ set(new), key=str):
        console.print(
            f"only in {before if key in old else after}: {key[0]}, {key[1]}, against {key[2]}"
        )


def _change(old: dict[str, Any] | None, new: dict[str, Any] | None) -> str:
    if old is None or new is None:
        return ""
    text = f"{old['ratio']:.2f} -> {new['ratio']:.2f}"
    # A change within the spread of both is none.
    if new["high"] < old["low"]:
        return f"[green]{text}[/]"
    return f"[red]{text}[/]" if new["low"] > old["high"] else text
