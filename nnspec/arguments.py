"""The arguments of each command of `nnspec`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .tensors import PROFILES


def parser() -> argparse.ArgumentParser:
    """What `nnspec` accepts; `command` is the name of the chosen one."""
    made = argparse.ArgumentParser(
        "nnspec", description="Judge implementations of torch.nn layers."
    )
    made.add_argument("--spec", type=Path, help="folder of the specification (default: ./spec)")
    commands = made.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run cases on a backend and report")
    run.set_defaults(command="run")
    run.add_argument(
        "--backend", action="append", help="a backend's name, or process:COMMAND (default: jaxnn)"
    )
    run.add_argument(
        "--against", default="torchref", help="torchref, another backend, golden, or none"
    )
    _filters(run)
    run.add_argument(
        "--dtype", action="append", default=[], help="dtypes to run (default: float32)"
    )
    run.add_argument("--all", action="store_true", help="leave nothing out: every dtype")
    run.add_argument(
        "--level", choices=("must", "quirk"), default="quirk", help="must: quirks are not judged"
    )
    run.add_argument("--jobs", type=_count, default=os.cpu_count() or 1, help="worker processes")
    run.add_argument("--device", help="device for the backend, such as cpu or gpu")
    _profile(run)
    run.add_argument(
        "--timeout",
        type=_seconds,
        default=120.0,
        help="seconds a process backend may take to answer",
    )
    run.add_argument(
        "--allow-unsupported", action="store_true", help="unsupported cases do not fail the run"
    )
    run.add_argument(
        "--out", type=Path, default=Path("nnspec-report"), help="folder of the reports"
    )

    validate = commands.add_parser("validate", help="check layer files")
    validate.set_defaults(command="validate")
    validate.add_argument(
        "paths", nargs="*", type=Path, help="files or folders (default: the specification)"
    )

    listing = commands.add_parser("list", help="what the specification holds")
    listing.set_defaults(command="list")
    _filters(listing)
    listing.add_argument(
        "--missing",
        action="store_true",
        help="what the reference library has and the specification has not",
    )
    listing.add_argument(
        "--against", default="torchref", help="the library that --missing compares with"
    )

    show = commands.add_parser(
        "show", help="a layer, claim, mutant or case as it stands in the file"
    )
    show.set_defaults(command="show")
    show.add_argument("id", help="MaxPool2d, MaxPool2d.B03, or MaxPool2d/ceil-drop-k1s2[@float32]")

    repro = commands.add_parser("repro", help="run one case and print its tensors")
    repro.set_defaults(command="repro")
    repro.add_argument("id", help="a case id, with @dtype unless float32")
    repro.add_argument("--backend", default="jaxnn")
    repro.add_argument("--against", default="torchref")
    repro.add_argument("--device")
    _profile(repro)

    record = commands.add_parser("record", help="record goldens from the reference")
    record.set_defaults(command="record")
    record.add_argument("--layer", action="append", default=[])
    record.add_argument("--backend", default="torchref", help="the reference")
    record.add_argument(
        "--check", action="store_true", help="compare with what is recorded; write nothing"
    )

    fuzz = commands.add_parser("fuzz", help="random configurations, one backend against another")
    fuzz.set_defaults(command="fuzz")
    fuzz.add_argument("layers", nargs="+", metavar="LAYER")
    fuzz.add_argument("--backend", default="jaxnn")
    fuzz.add_argument("--against", default="torchref")
    fuzz.add_argument(
        "--configurations", type=_count, default=250, help="distinct configurations a layer"
    )
    fuzz.add_argument(
        "--examples", type=_count, default=10, help="values drawn for each configuration"
    )
    fuzz.add_argument("--seed", type=int, default=0)
    fuzz.add_argument("--dtype", action="append", default=[], help="dtypes to draw (default: all)")
    fuzz.add_argument("--out", type=Path, help="JSON file for the counts and findings")

    diff = commands.add_parser("diff", help="what changed between two JSON reports")
    diff.set_defaults(command="diff")
    diff.add_argument("before", type=Path)
    diff.add_argument("after", type=Path)

    exporting = commands.add_parser(
        "export", help="resolved cases as JSON: no evaluator or generator needed"
    )
    exporting.set_defaults(command="export")
    _filters(exporting)
    exporting.add_argument(
        "--dtype", action="append", default=[], help="dtypes to write (default: all)"
    )
    exporting.add_argument(
        "--against",
        help="where the wanted numbers come from: golden, a backend, or none "
        "(default: golden, where goldens are recorded)",
    )
    exporting.add_argument("--out", type=Path, required=True, help="folder to write to")

    serve = commands.add_parser("serve", help="offer an installed backend over JSON lines")
    serve.set_defaults(command="serve")
    serve.add_argument("backend")
    return made


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        if 0 < float(text) < float("inf"):
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")


def _profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile", choices=tuple(PROFILES), default="float32",
        help="how precise the products of float32 are on the device (default: float32)",
    )  # fmt: skip


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layer", action="append", default=[], help="layer name or pattern")
    parser.add_argument("--family", action="append", default=[], help="family name or pattern")
    parser.add_argument("--case", action="append", default=[], help="case id or pattern")
