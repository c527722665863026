"""The command line, ``nnspec COMMAND``; each command is a function below."""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.table import Table

from . import export, golden, process, report, runner
from .arguments import parser
from .backend import Backend, BackendError
from .document import LayerSpec
from .judge import judge
from .oracle import LiveOracle, Oracle, prepared, tensors_of
from .registry import load_backend, load_oracle
from .resolve import ResolvedCase, resolve
from .specification import (
    WITHOUT_FILE,
    load_layer,
    load_specification,
    names_without_file,
    specification_folder,
)
from .strict_yaml import SpecError

SHOWN = 12  # failures printed in full

# No markup and no wrapping: messages hold brackets, and commands are there to be copied.
console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


class UserError(Exception):
    """A mistake in how the command was called; shown without a traceback, exit code 2."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 passed, 1 failed, 2 called wrongly."""
    options = parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except BrokenPipeError:  # whoever reads the output, such as head, has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (open until the exit)
        return 1
    except (UserError, SpecError, BackendError, golden.GoldenError, OSError) as error:
        errors.print(f"nnspec: {error}")
        return 2
    except KeyboardInterrupt:
        errors.print("nnspec: interrupted")
        return 130


def _folder(options: argparse.Namespace) -> Path:
    return options.spec.resolve() if options.spec else specification_folder()


def _specs(options: argparse.Namespace) -> dict[str, LayerSpec]:
    return load_specification(_folder(options))


def _check_dtypes(options: argparse.Namespace, specs: dict[str, LayerSpec]) -> None:
    known = {dtype for spec in specs.values() for dtype in spec.dtypes()}
    for dtype in options.dtype:
        if dtype not in known:
            raise UserError(f"--dtype {dtype}: no layer declares it; known are {sorted(known)}")


def _chosen(options: argparse.Namespace, specs: dict[str, LayerSpec]) -> list[LayerSpec]:
    selection = runner.Selection(options.layer, options.family, options.case, ())
    names = {spec.name for spec, _, _ in selection.select(specs)}
    return [spec for spec in specs.values() if spec.name in names]


# --- run ------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    specs = _specs(options)
    _check_dtypes(options, specs)
    dtypes = () if options.all else tuple(options.dtype or ["float32"])
    selection = runner.Selection(options.layer, options.family, options.case, dtypes, options.level)
    chosen = selection.select(specs)
    everything = runner.Selection(options.layer, options.family, options.case, ()).select(specs)
    left_out = []
    if len(chosen) < len(everything):
        what = f"dtypes other than {', '.join(dtypes)}" if dtypes else "quirks"
        left_out.append(f"{len(everything) - len(chosen)} cases ({what}; --all leaves out nothing)")
    tasks = runner.plan(chosen)
    options.out.mkdir(parents=True, exist_ok=True)  # before the run, which may take long
    reports = []
    for backend in options.backend or ["jaxnn"]:
        settings = runner.Settings(
            backend, options.against, _folder(options), options.device, options.timeout,
            options.profile,
        )  # fmt: skip
        made = _run_backend(settings, tasks, specs, min(options.jobs, len(tasks)), left_out)
        reports.append(made)
        bad = sorted(
            (v for v in made.verdicts if v.verdict in ("fail", "error")), key=lambda v: v.id
        )
        for verdict in bad[:SHOWN]:
            text = report.failure_text(verdict, specs[verdict.layer], backend, options.against)
            console.print(text, markup=False)
        if len(bad) > SHOWN:
            console.print(f"... and {len(bad) - SHOWN} more, in the reports", markup=False)
        console.print(report.table(made))
        for verdict in made.verdicts:
            for waiver in verdict.waivers:
                console.print(f"waiver {verdict.id}: {waiver}", markup=False)
    for text in left_out:
        console.print(f"left out: {text}", markup=False)
    written = report.write_all(options.out, reports, specs)
    console.print("reports: " + ", ".join(map(str, written)), markup=False)
    return 0 if all(r.ok(options.allow_unsupported) for r in reports) else 1


def _run_backend(
    settings: runner.Settings,
    tasks: list[runner.Task],
    specs: dict[str, LayerSpec],
    jobs: int,
    left_out: list[str],
) -> report.Report:
    if settings.against == "golden":
        lock = golden.read_lock(settings.folder)
        for name in {task.layer for task in tasks}:
            golden.read(settings.folder, specs[name], lock)
    total = sum(len(task.cases) for task in tasks)
    started = time.perf_counter()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    with (
        runner.Session(settings, tasks, jobs) as session,
        Progress(*columns, console=errors) as progress,
    ):
        bar = progress.add_task(settings.backend, total=total)
        description, reference = session.describe()
        made = report.Report(description, settings.against, reference, left_out=left_out)
        for verdict in session.verdicts(specs):
            made.verdicts.append(verdict)
            bad = made.counts["fail"] + made.counts["error"]
            label = f"{description.get('name')} {verdict.layer}" + (f" ({bad} bad)" if bad else "")
            progress.update(bar, advance=1, description=label)
    made.seconds = time.perf_counter() - started
    return made


# --- the specification ----------------------------------------------------------------------


def _validate(options: argparse.Namespace) -> int:
    paths = options.paths or [_folder(options)]
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted([*path.rglob("*.yaml"), *path.rglob("*.yml")])
            if not found:
                raise UserError(f"{path}: no layer files in it")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file")
    bad = 0
    for path in files:
        try:
            if path.name == WITHOUT_FILE:
                names_without_file(path.parent)
                continue
            spec = load_layer(path)
            for case in spec.data["cases"]:
                for dtype in spec.dtypes(case):
                    resolve(spec, case, dtype)
        except SpecError as error:
            bad += 1
            errors.print(str(error))
    console.print(f"{len(files)} files, {bad} malformed", markup=False)
    return 1 if bad else 0


def _list(options: argparse.Namespace) -> int:
    specs = _specs(options)
    if options.missing:
        return _list_missing(options, specs)
    chosen = _chosen(options, specs)
    made = Table()
    made.add_column("layer")
    made.add_column("family")
    for column in ("revision", "claims", "cases", "mutants"):
        made.add_column(column, justify="right")
    made.add_column("summary")
    for spec in chosen:
        made.add_row(
            spec.name, spec.family, str(spec.data["revision"]), str(len(spec.claims)),
            str(len(spec.cases)), str(len(spec.data.get("mutants", ()))), spec.data["summary"],
        )  # fmt: skip
    console.print(made)
    return 0


def _list_missing(options: argparse.Namespace, specs: dict[str, LayerSpec]) -> int:
    backend = load_backend(options.against)
    catalogue = getattr(backend, "catalogue", None)
    if catalogue is None:
        raise UserError(f"backend {options.against} has no catalogue to compare with")
    known: dict[str, set[str]] = {"layer": set(), "function": set()}
    for spec in specs.values():
        known[spec.kind].add(spec.name)
        functional = spec.data.get("functional", {})
        known["function"] |= {*functional.get("also", ())}
        if functional:
            known["function"].add(functional["name"])
    without_file = names_without_file(_folder(options))
    missing = 0
    for kind, names in catalogue().items():
        for name in names:
            if name not in known[kind] | without_file[kind].keys():
                console.print(f"{kind} {name}", markup=False)
                missing += 1
    exempt = sum(map(len, without_file.values()))
    console.print(f"{missing} missing; {exempt} have no file, for the reasons in without_file.yaml")
    return 1 if missing else 0


def _find(options: argparse.Namespace) -> tuple[LayerSpec, str, str]:
    """The layer that an id names, the id without its dtype, and the dtype."""
    specs = _specs(options)
    plain, _, dtype = options.id.partition("@")
    name = plain.split("/")[0].split(".")[0]
    if name not in specs:
        near = fnmatch.filter(specs, f"*{name}*")
        hint = f"; did you mean {', '.join(near)}?" if near else "; see: nnspec list"
        raise UserError(f"no layer {name!r} in the specification{hint}")
    return specs[name], plain, dtype or "float32"


def _show(options: argparse.Namespace) -> int:
    spec, plain, _ = _find(options)
    if plain == spec.name:
        console.print(Syntax(spec.text, "yaml", word_wrap=True), soft_wrap=False)
        return 0
    mutants = {m["id"]: m for m in spec.data.get("mutants", ())}
    found = spec.cases.get(plain) or spec.claims.get(plain) or mutants.get(plain)
    if found is None:
        raise UserError(
            f"{spec.name} has no case, claim or mutant {plain!r}; see: nnspec show {spec.name}"
        )
    console.print(Syntax(_as_yaml(found), "yaml", word_wrap=True), soft_wrap=False)
    for case in spec.cases.values():
        if plain in case["covers"] or plain in case.get("catches", ()):
            verb = "covered" if plain in case["covers"] else "caught"
            console.print(f"{verb} by {case['id']}", markup=False)
    return 0


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=100)


def _repro(options: argparse.Namespace) -> int:
    spec, plain, dtype = _find(options)
    if plain not in spec.cases:
        raise UserError(f"{spec.name} has no case {plain!r}; see: nnspec show {spec.name}")
    case = spec.cases[plain]
    if dtype not in spec.dtypes(case):
        raise UserError(f"{plain} is not judged in {dtype}; its dtypes are {spec.dtypes(case)}")
    resolved = resolve(spec, case, dtype)
    console.print(_as_yaml(case), markup=False)
    with contextlib.ExitStack() as stack:
        oracle = load_oracle(options.against, _folder(options))
        if oracle:
            stack.callback(oracle.close)
        backend = load_backend(options.backend, device=options.device)
        stack.callback(backend.close)
        try:
            _print_tensors(backend, oracle, resolved)
        except Exception as error:
            console.print(f"{type(error).__name__}: {error}", markup=False)
        verdict = judge(backend, oracle, spec, case, dtype, profile=options.profile)
    console.print(
        report.failure_text(verdict, spec, options.backend, options.against)
        if verdict.verdict != "pass" else f"PASS {verdict.id}", markup=False,
    )  # fmt: skip
    return 0 if verdict.verdict == "pass" else 1


def _print_tensors(backend: Backend, oracle: Oracle | None, case: ResolvedCase) -> None:
    instance = prepared(backend, case, case.dtype)
    references = oracle.references(case) if oracle else []
    for index, item in enumerate(case.steps):
        for name, array in item.step.inputs.items():
            console.print(f"step {index} input.{name} =\n{array}", markup=False)
        for name, array in tensors_of(instance.run(item.step)).items():
            console.print(f"step {index} {name} =\n{array}", markup=False)
        for reference in references[index : index + 1]:
            for name, tensor in reference.tensors.items():
                console.print(f"step {index} wanted {name} =\n{tensor.oracle}", markup=False)


def _record(options: argparse.Namespace) -> int:
    specs, folder = _specs(options), _folder(options)
    for pattern in options.layer:
        if not fnmatch.filter(specs, pattern):
            raise UserError(f"no layer {pattern!r} in the specification")
    wanted = options.layer or ["*"]
    chosen = [s for s in specs.values() if any(fnmatch.fnmatch(s.name, p) for p in wanted)]
    lock = golden.read_lock(folder)
    recordings = {}
    changed = unsound = 0
    with contextlib.closing(load_backend(options.backend)) as backend:
        reference = {k: backend.describe().get(k) for k in ("name", "versions")}
        oracle = LiveOracle(backend)
        with Progress(console=errors) as progress:
            for spec in progress.track(chosen, description="recording"):
                new = golden.record_layer(spec, oracle)
                recordings[spec.name] = (spec, new)
                try:
                    old = golden.read(folder, spec, lock, stale=not options.check)
                except golden.GoldenError as error:
                    if options.check:
                        console.print(str(error), markup=False)
                    unsound += 1
                    continue
                for line in golden.differences(old, new):
                    changed += 1
                    console.print(f"{spec.name} {line}", markup=False)
    if options.check:
        console.print(f"{changed} tensors differ, {unsound} layers unsound", markup=False)
        return 1 if changed or unsound else 0
    golden.write(folder, recordings, reference)
    console.print(
        f"recorded {len(recordings)} layers, {unsound} anew; {changed} tensors changed",
        markup=False,
    )
    return 0


def _fuzz(options: argparse.Namespace) -> int:
    try:
        from .fuzz import fuzz
    except ImportError as error:
        raise UserError(f"fuzzing needs an extra: pip install 'jaxnn[fuzz]' ({error})") from None
    specs = _specs(options)
    for name in options.layers:
        if name not in specs:
            raise UserError(f"no layer {name!r} in the specification; see: nnspec list")
    _check_dtypes(options, specs)
    results = []
    for name in options.layers:
        with (
            contextlib.closing(load_backend(options.backend)) as backend,
            contextlib.closing(load_backend(options.against)) as against,
        ):
            result = fuzz(
                specs[name], backend, against,
                configurations=options.configurations, examples=options.examples,
                seed=options.seed, dtypes=options.dtype, console=errors,
            )  # fmt: skip
        results.append(result)
        console.print(result.summary(), markup=False)
        for finding in result.findings:
            console.print(finding, markup=False)
        if options.out:
            options.out.write_text(json.dumps([r.as_dict() for r in results], indent=1) + "\n")
    return 1 if any(r.findings for r in results) else 0


def _diff(options: argparse.Namespace) -> int:
    try:
        before, after = report.read_json(options.before), report.read_json(options.after)
    except ValueError as error:
        raise UserError(str(error)) from None
    found = report.changes(before, after)
    for id_, old, new in found:
        console.print(f"{id_}: {old} -> {new}", markup=False)
    console.print(f"{len(found)} cases changed", markup=False)
    return 1 if found else 0


def _export(options: argparse.Namespace) -> int:
    specs = _specs(options)
    _check_dtypes(options, specs)
    chosen = _chosen(options, specs)
    selection = runner.Selection(cases=options.case, dtypes=options.dtype)
    options.out.mkdir(parents=True, exist_ok=True)
    count = 0
    with contextlib.ExitStack() as stack:
        recorded = golden.read_lock(_folder(options))["layers"]
        against = options.against or ("golden" if recorded else "none")
        oracle = load_oracle(against, _folder(options))
        if oracle:
            stack.callback(oracle.close)
        for spec in chosen:
            written = export.exported(spec, selection, oracle)
            path = options.out / f"{spec.name}.json"
            path.write_text(json.dumps(process.plain(written), indent=1, allow_nan=False) + "\n")
            count += len(written["resolved"])
    console.print(f"{count} resolved cases in {options.out}", markup=False)
    return 0


def _serve(options: argparse.Namespace) -> int:
    process.serve(load_backend(options.backend), sys.stdin, sys.stdout)
    return 0


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run, "validate": _validate, "list": _list, "show": _show, "repro": _repro,
    "record": _record, "fuzz": _fuzz, "diff": _diff, "export": _export, "serve": _serve,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
