"""``python -m benchmarks``: ``run``, ``importing``, ``sizes``, ``scale``, ``compile`` and more."""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import sys
from pathlib import Path
from typing import Any

from . import importing, sizes
from .targets import TOPOLOGIES

DTYPES = ("float32", "bfloat16")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="time jaxnn against its peers")
    run.add_argument("--layer", action="append", help="entries or families whose name has this")
    run.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    run.add_argument("--peer", default="torch", help="of torch,torch-compile,flax,equinox")
    run.add_argument("--threads", type=int, default=2)
    run.add_argument("--repetitions", type=int, default=15)
    run.add_argument("--size", choices=("middle", "all"), default="middle")
    run.add_argument("--dtype", type=_dtypes, default=DTYPES[:1], help="of float32,bfloat16")
    run.add_argument("--quick", action="store_true", help="the smallest size, five rounds")
    run.add_argument("--draw", type=int, default=0, help="also so many drawn entries a family")
    run.add_argument("--seed", type=int, help="of what is drawn; another one each run if not given")
    run.add_argument("--only-drawn", action="store_true", help="leave out the table's entries")
    run.add_argument("--remark", default="", help="a sentence for the page of results")
    run.add_argument("--out", type=Path, default=Path("benchmark-results"))
    run.set_defaults(command=_run)
    compare = commands.add_parser("compare", help="what a change did")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    compare.set_defaults(command=_compare)
    compiling = commands.add_parser("compile", help="a ResNet-50's training step, and Flax's")
    compiling.set_defaults(command=_compile)
    target = commands.add_parser("compile-for", help="what a TPU's or GPU's compiler makes of it")
    target.add_argument("target", choices=TOPOLOGIES)
    target.add_argument("--layer", action="append", help="entries or families, by a pattern")
    target.add_argument("--model", action="append", help="whole models, by a pattern")
    target.add_argument("--dtype", type=_dtypes, default=DTYPES, help="of float32,bfloat16")
    target.add_argument("--size", choices=("middle", "all"), default="all", help="middle, or up")
    target.add_argument("--limit", type=float, default=900, help="seconds that one may compile")
    target.add_argument("--anew", action="store_true", help="compile also what --out holds already")
    target.add_argument("--out", type=Path, default=Path("benchmark-results"))
    target.set_defaults(command=_compile_for)
    scale = commands.add_parser("scale", help="whole models over many chips, none of them there")
    scale.add_argument(
        "--target", action="append", help="tpu:v5p:4x4x4 and the like (default: that, tpu:v5e:8x8)"
    )
    scale.add_argument("--model", action="append", help="llama, decode, resnet, experts")
    scale.add_argument("--narrow", action="store_true", help="small models of the same kinds")
    scale.add_argument("--out", type=Path, default=Path("benchmark-results"))
    scale.set_defaults(command=_scale)
    sizes.add_command(commands)
    importing.add_command(commands)
    options = parser.parse_args(arguments)
    options.line = shlex.join(["python", "-m", "benchmarks", *(arguments or sys.argv[1:])])
    return int(options.command(options))


def _dtypes(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in DTYPES]:
        raise argparse.ArgumentTypeError(f"{unknown} are none of {', '.join(DTYPES)}")
    return names


def _run(options: argparse.Namespace) -> int:
    _same_threads(options.threads, options.device)
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from . import drawn, measure, report
    from .entries import ENTRIES

    torch.set_num_threads(options.threads)
    console = Console(stderr=True)
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    chosen = [e for e in ENTRIES if _is_chosen(e, options.layer) and not options.only_drawn]
    families = [f for f in drawn.FAMILIES if _is_named(f, options.layer)]
    others = [e for f in families for e in drawn.entries(f, options.draw, seed)]
    if not chosen and not others:
        console.print(f"no entry is named like {options.layer}")
        return 2
    peers = options.peer.split(",")
    repetitions = 5 if options.quick else options.repetitions
    rows: list[dict[str, Any]] = []
    failed = []
    with Progress(console=console) as progress:
        bar = progress.add_task("benchmarks", total=len(chosen) + len(others))
        for entry in (*chosen, *others):
            progress.update(bar, description=entry.name)
            is_drawn = entry in others
            for size in _sizes(entry, options):
                try:
                    for dtype in options.dtype:
                        found = _measured(entry, size, peers, repetitions, options.device, dtype)
                        rows += [row | {"drawn": is_drawn} for row in found]
                except ValueError as error:
                    failed.append(str(error))
                    progress.console.print(f"[red]{error}[/]")
            progress.advance(bar)
    if not rows:
        return 1
    report.print_table(rows, Console(width=160))
    facts = {
        **report.machine(options.threads, options.device), "command": options.line,
        "repetitions": repetitions, "growth": report.growth(rows, chosen),
        "remark": options.remark, "failed": failed, "seed": seed,
        "copy_rate": measure.copy_rate(),
    }  # fmt: skip
    report.write(options.out, rows, facts)
    console.print(f"results: {options.out}/")
    return 1 if failed else 0


def _measured(
    entry: Any, size: int, peers: list[str], repetitions: int, device: str, dtype: str
) -> list[dict[str, Any]]:
    from . import measure, report

    made, _ = measure.sides(entry, size, peers, device, dtype)
    measure.check_equal(entry, made, dtype)
    times = {"forward": measure.interleaved({s.name: s.forward for s in made}, repetitions)}
    if entry.has_backward:
        calls = {s.name: s.backward for s in made}
        times["backward"] = measure.interleaved(calls, repetitions)
    ours = made[1]
    facts = {
        "middle": entry.middle, "compile_seconds": ours.compile_seconds,
        "temporary_bytes": ours.temporary_bytes, "least_bytes": ours.least_bytes, "dtype": dtype,
    }  # fmt: skip
    return [
        report.row(entry, size, side.name, times, **facts)
        for side in made if side is not ours and side.name in peers
    ]  # fmt: skip


def _sizes(entry: Any, options: argparse.Namespace) -> list[int]:
    if options.quick:
        return [0]
    return list(range(len(entry.sizes))) if options.size == "all" else [entry.middle]


def _is_chosen(entry: Any, names: list[str] | None) -> bool:
    return _is_named(f"{entry.name} {entry.family}", names)


def _is_named(text: str, names: list[str] | None) -> bool:
    return names is None or any(name.lower() in text.lower() for name in names)


def _same_threads(threads: int, device: str) -> None:
    """Give both libraries the same cores; before either is imported."""
    # torch's OpenMP threads spin for work otherwise, and take the cores from who runs next.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if device == "cpu":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))[:threads]
            os.sched_setaffinity(0, cores)


def _compile(_: argparse.Namespace) -> int:
    _same_threads(2, "cpu")
    from rich.console import Console
    from rich.table import Table

    from .compiling import compile_times

    table = Table("ResNet-50, training step", "trace (s)", "compile (s)", "total (s)")
    times = compile_times()
    for name, found in times.items():
        table.add_row(name, *(f"{found[k]:.1f}" for k in ("trace", "compile", "total")))
    Console().print(table)
    ratio = times["jaxnn"]["total"] / times["flax"]["total"]
    Console().print(f"jaxnn / flax: {ratio:.2f}")
    return 0


def _compile_for(options: argparse.Namespace) -> int:
    from .targets import NotInstalled, prepare

    try:
        prepare(options.target)
    except NotInstalled as error:
        print(f"compile-for: {error}", file=sys.stderr)
        return 2
    import jax
    from flax import __version__ as flax_version
    from rich.console import Console
    from rich.progress import Progress

    from . import compile_for
    from .compiler import LAYERS, Compiler
    from .entries import WHOLE_MODELS

    entries = []
    if options.layer or not options.model:
        entries += compile_for.chosen(LAYERS, options.layer)
    if options.model or not options.layer:
        entries += compile_for.chosen(WHOLE_MODELS, options.model)
    console = Console(stderr=True)
    facts = {
        "command": options.line, "targets": [options.target],
        "versions": {"jax": jax.__version__, "flax": flax_version},
    }  # fmt: skip
    rows = compile_for.read(options.out, options.target, facts["versions"])
    jobs = [
        (entry, size, dtype)
        for entry in entries
        for size in compile_for.sizes(entry, options.size == "all")
        for dtype in options.dtype
    ]
    with Progress(console=console) as progress, Compiler(options.target, options.limit) as compiler:
        bar = progress.add_task(options.target, total=len(jobs))
        for entry, size, dtype in jobs:
            progress.update(bar, description=entry.name)
            others = [row for row in rows if not compile_for.is_of(row, entry, size, dtype)]
            if options.anew or len(others) == len(rows):
                rows = [*others, *compiler.measure(entry, size, dtype)]
            # A run of an hour that is stopped leaves what it has found, and goes on there.
            compile_for.write(options.out, rows, facts)
            progress.advance(bar)
    rows = [row for row in rows if any(compile_for.is_of(row, *job) for job in jobs)]
    if not rows:
        console.print(f"no entry is named like {options.layer or options.model}")
        return 2
    compile_for.print_table(rows, Console())
    console.print(f"results: {options.out}/")
    return 0


def _scale(options: argparse.Namespace) -> int:
    from .targets import NotInstalled, Target, prepare

    names = options.target or ["tpu:v5p:4x4x4", "tpu:v5e:8x8"]
    try:
        for name in names:
            prepare(name)
    except (NotInstalled, ValueError) as error:
        print(f"scale: {error}", file=sys.stderr)
        return 2
    from . import scale

    chosen = options.model or [*scale.MODELS]
    if unknown := [name for name in chosen if name not in scale.MODELS]:
        print(f"scale: no model {unknown}; there are {[*scale.MODELS]}", file=sys.stderr)
        return 2
    for name in names:
        for model in chosen:
            row = scale.measure(model, Target(name), options.narrow)
            scale.write(options.out, [row], options.line)
            print(scale.told(row), flush=True)
    return 0


def _compare(options: argparse.Namespace) -> int:
    from rich.console import Console

    from . import report

    try:
        report.compare(options.before, options.after, Console())
    except (OSError, KeyError, ValueError) as error:
        print(f"compare: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
