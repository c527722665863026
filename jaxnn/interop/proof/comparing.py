"""An import proves itself: it is compared with the original before it is returned."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from flax import nnx

from ..importer.binding import Misfit
from ..importer.free_sizes import CallOfTorch
from ..importer.imported import Imported, programs_of
from ..importer.layers import layer_name
from ..importer.structures import NotDescribable
from .calls import Call, free_shapes, name_of, other_calls, refusal
from .copies import as_it_was, as_wide_as, copied, in_mode, of_model, of_rounding, twin
from .differences import Difference
from .drawing import CannotFix, fix_streams
from .evidence import Compared, Evidence, ImportDeparts, attach
from .modules import output_differences, outputs_of_flax, outputs_of_torch
from .moving import deltas_of, move
from .outcomes import Outcome, Traced, differences

if TYPE_CHECKING:
    import torch

Check = bool | Literal["report"]

_MODES = ("evaluation", "training")
_THE_EXAMPLE = "the example"


def check_import(
    net: nnx.Module, module: torch.nn.Module, calls: Sequence[CallOfTorch], check: Check
) -> nnx.Module:
    """Return an import with the evidence that it is the original.

    Args:
        net: the import.
        module: the original.
        calls: the positional and keyword arguments of the calls that it was made for.
        check: what to do where it departs: raise (True), or warn ("report").

    Raises:
        ImportDeparts: if it departs, unless `check` is "report".
        ValueError: if `check` is something else.
    """
    if check not in (True, False, "report"):
        raise ValueError(
            f'jaxnn.from_torch: `check` must be True, False or "report", got {check!r}'
        )
    if check is False:
        return net
    found, departure = _found(net, module, calls)
    attach(net, found)
    if departure:
        message = (
            f"jaxnn.from_torch: the import of {type(module).__name__} departs from the original "
            f"{departure}. jaxnn.verify compares it module by module, where it is imported with "
            'check=False; check="report" warns, and goes on all the same'
        )
        if check != "report":
            raise ImportDeparts(message, found)
        warnings.warn(message, stacklevel=3)
    return net


def _found(
    net: nnx.Module, module: torch.nn.Module, calls: Sequence[CallOfTorch]
) -> tuple[Evidence, str]:
    try:
        example, *more = [Call.of(*call) for call in calls]
    except NotDescribable as error:
        return Evidence((), (f"nothing was compared: {error}",)), ""
    return Comparing(net, module, example, more).run()


@dataclass
class _Run:
    """One call, what the original gives, and the import's run of it."""

    mode: str
    input: str
    call: Call
    wanted: Outcome
    traced: Any = None


class _Departs(Exception):
    """The import departs, at this run, in what is said."""

    def __init__(self, run: _Run, text: str) -> None:
        super().__init__(text)
        self.run = run


class Comparing:
    """An import beside its original: what has been compared so far.

    Args:
        net: the import.
        module: the original; neither is changed.
        example: the example that it was imported with.
        more: further calls that it is for.
    """

    def __init__(
        self, net: nnx.Module, module: torch.nn.Module, example: Call, more: Sequence[Call] = ()
    ) -> None:
        self.net, self.module, self.example, self.more = net, module, example, more
        self.rows: list[Compared] = []
        self.notes: list[str] = []
        self.model: Any = None
        self.port: Any = None

    def run(self) -> tuple[Evidence, str]:
        """Compare until something departs; return the evidence, and in words what departs."""
        tensors = [*self.module.parameters(), *self.module.buffers(), *self.example.tensors]
        departure = ""
        if any(tensor.is_meta for tensor in tensors):
            self.notes.append("nothing was compared: what is on torch's meta device has no values")
        else:
            with as_it_was(self.module), as_wide_as(tensors):
                departure = self._compared()
        inputs = list(dict.fromkeys([_THE_EXAMPLE, *(row.input for row in self.rows)]))
        rows = sorted(self.rows, key=lambda r: (inputs.index(r.input), _MODES.index(r.mode)))
        return Evidence(tuple(rows), tuple(dict.fromkeys(self.notes))), departure

    def _compared(self) -> str:
        try:
            self._copy()
        except Exception as error:
            self.notes.append(f"nothing was compared: the model cannot be copied: {_told(error)}")
            return ""
        try:
            runs = self._traced_runs()
            while runs:
                self._compare(runs.pop(0))
        except _Departs as departure:
            run = departure.run
            return f"in {run.mode} mode, on {run.input}: {departure}"
        return ""

    # --- the original ---------------------------------------------------------------------------

    def _copy(self) -> None:
        self.model, self.port = copied(self.module), nnx.clone(self.net)
        fix_streams(self.port)

    def _example_runs(self) -> list[_Run]:
        """Move what hides errors from where it stands, if the model bears it, and run the example.

        What is at rest is left where it is if the model becomes infinite, or branches on it.
        """
        deltas = deltas_of(self.model)
        move(self.model, self.port, deltas)
        runs = self._runs(_THE_EXAMPLE, self.example)
        is_plain = all(run.wanted.is_finite and not run.wanted.reads for run in runs)
        if not deltas or (is_plain and len(runs) == len(_MODES)):
            return runs
        rows, self.rows = self.rows, []
        self._copy()
        unmoved = self._runs(_THE_EXAMPLE, self.example)
        if len(runs) != len(unmoved) or not all(map(_tells_as_much, unmoved, runs)):
            return unmoved
        self.rows = rows
        move(self.model, self.port, deltas)
        return runs

    def _runs(self, name: str, call: Call) -> list[_Run]:
        """Return what the original gives in each mode, and note where it gives nothing."""
        runs = []
        for mode in _MODES:
            try:
                runs.append(_Run(mode, name, call, of_model(self.model, call, mode == "training")))
            except Exception as error:
                is_drawing = isinstance(error, CannotFix)
                why = str(error) if is_drawing else f"the original raises {_told(error)}"
                self.rows.append(Compared(mode, name, why_not=why))
        return runs

    # --- what is run ----------------------------------------------------------------------------

    def _traced_runs(self) -> list[_Run]:
        """Return the calls to compare, compiled: both modes on the example, and on another input.

        Where the modes are one program, it is compiled once.

        Raises:
            _Departs: if the import refuses its example.
        """
        example = self._example_runs()
        agree = self._modes_agree(example)
        others = self._others(example, agree)
        taken = []
        further = [
            run
            for number, call in enumerate(self.more, 2)
            for run in self._runs(name_of(self.example, call, number), call)
        ]
        for run in [*example, *further]:
            try:
                if run.traced is None:
                    self._trace(run)
            except Exception as error:
                told = _told(error)
                self.rows.append(Compared(run.mode, run.input, why_not=f"the import: {told}"))
                is_known = isinstance(error, ValueError) and "cannot run in" in told
                # That a mode has no program for a further example was warned about.
                is_known |= run in further and isinstance(error, Misfit)
                # A layer is jaxnn's own, and may take an argument in a form of its own.
                if not is_known and layer_name(self.module) is None:
                    raise _Departs(run, f"the import raises {told}") from error
            else:
                taken.append(run)
        runs = [*taken, *others]
        with ThreadPoolExecutor() as pool:
            list(pool.map(Traced.compile, {id(run.traced): run.traced for run in runs}.values()))
        return runs

    def _trace(self, run: _Run) -> None:
        shapes = [output.shape for output in run.wanted.outputs]
        port = in_mode(self.port, run.mode == "training")
        run.traced = Traced.of(port, run.call, shapes=shapes)

    def _modes_agree(self, example: list[_Run]) -> bool:
        """Whether both modes are one program; the example's runs are traced then."""
        if len(example) < len(_MODES) or not _may_agree(self.port):
            return False
        try:
            for run in example:
                self._trace(run)
            one, other = (run.traced for run in example)
            agree = one.text is not None and one.text == other.text
        except Exception:  # which is met again
            return False
        if agree:
            example[1].traced = example[0].traced
        return agree

    def _others(self, example: list[_Run], agree: bool) -> list[_Run]:
        """Return the runs on another input: of other sizes where the import takes them."""
        rows, self.rows = self.rows, []
        runs: list[_Run] = []
        name = ""
        for name, calls in other_calls(self.example, free_shapes(self.port, self.example)):
            refused = refusal(self.port, calls[0])
            if refused and example:
                why = f"the import refuses it: {refused}"
                self.rows += [Compared(run.mode, name, why_not=why) for run in example]
                continue
            runs = self._telling_runs(name, calls, example) if example else []
            try:
                for run in runs:
                    if agree and run is not runs[0]:
                        run.traced = runs[0].traced
                    else:
                        self._trace(run)
            except Exception as error:
                verb = "refuses" if isinstance(error, ValueError) else "cannot run"
                why = f"the import {verb} it: {_told(error)}"
                self.rows += [Compared(one.mode, name, why_not=why) for one in runs]
                runs = []
            if runs:
                break
        # What of these sizes could not be run is of no interest where others could.
        failed = [] if "→" in name and runs else self.rows[: len(_MODES)]
        self.rows = rows + failed
        return runs

    def _telling_runs(self, name: str, calls: list[Call], example: list[_Run]) -> list[_Run]:
        """Return what the original gives on the first call that tells as much as the example."""
        runs: list[_Run] = []
        for call in calls:
            rows = len(self.rows)
            runs = self._runs(name, call)
            by_mode = {run.mode: run for run in runs}
            pairs = [(run, by_mode.get(run.mode)) for run in example]
            if all(other is not None and _tells_as_much(run, other) for run, other in pairs):
                return runs  # in a mode, too, that the example could not be run in
            if call is not calls[-1]:
                del self.rows[rows:]
        for run in runs:
            lines = ", ".join(sorted({line for line, _ in run.wanted.reads}))
            other = f"other branches than on the example, at {lines}"
            why = (
                f"the original takes {other}" if lines else "the original's results are not finite"
            )
            self.rows.append(Compared(run.mode, name, why_not=why))
        return []

    # --- comparing ------------------------------------------------------------------------------

    def _compare(self, run: _Run) -> None:
        """Compare one call.

        Raises:
            _Departs: if it departs.
        """
        got = run.traced.outcome()
        try:
            found = differences(run.wanted, got, with_dtypes=True)
        except ValueError as error:
            raise _Departs(run, str(error)) from None
        departs = [d for d in found if not d.agrees]
        judged: tuple[str, ...] = ()
        if departs:
            port = in_mode(self.port, run.mode == "training")
            rounded = of_rounding(departs, twin(self.model, run.mode == "training"), port, run.call)
            judged = tuple(d.name for d in rounded)
            departs = [d for d in departs if d not in rounded]
        self.rows.append(_row(run, found, departs, judged))
        if run.wanted.why_no_gradients:
            self.notes.append(f"{run.mode}: {run.wanted.why_no_gradients}")
        if run.wanted.drawn:
            drawn = ", ".join(sorted(set(run.wanted.drawn)))
            self.notes.append(f"{run.mode}: random numbers ({drawn}) are fixed on both sides")
        if departs:
            raise _Departs(run, self._told(run, departs))

    def _told(self, run: _Run, departs: list[Difference]) -> str:
        """Return in words which module departs first, and in what."""
        rows: list[tuple[str, int, Difference]] = []
        with suppress(Exception):  # a model may run as a whole alone
            wanted = outputs_of_torch(twin(self.model, run.mode == "training"), run.call)
            got = outputs_of_flax(in_mode(self.port, run.mode == "training"), run.call)
            rows = output_differences(wanted, got)[0]
        kinds = {name: type(module).__name__ for name, module in self.model.named_modules()}
        first = next(((name, call, d) for name, call, d in rows if not d.agrees), None)
        if first is not None and any(d.kind == "output" for d in departs):
            name, call, found = first
            again = f", at its call {call}," if call else ""
            return f"{_module(name, kinds)}{again} is the first to depart: {_off(found, 'output')}"
        # A wrong gradient shows in all that stands before the fault, so that the last is nearest.
        order = {name: index for index, (name, _, _) in enumerate(rows)}
        parameters = [d for d in departs if d.name.rpartition(".")[0] in order and "." in d.name]
        worst = max(
            departs,
            key=lambda d: (
                d.kind == "output", d.kind == "gradient",
                order[d.name.rpartition(".")[0]] if d in parameters else -1,
            ),
        )  # fmt: skip
        what = worst.name if worst.kind == "output" else f"{worst.kind} {worst.name}"
        if worst.kind == "gradient":
            what = f"gradient of {worst.name}"
        more = f" (and {len(departs) - 1} more)" if len(departs) > 1 else ""
        owner = worst.name.rpartition(".")[0]
        return f"{_module(owner, kinds)} is the first to depart: {_off(worst, what)}{more}"


def _module(name: str, kinds: Mapping[str, str]) -> str:
    return f"module {name} ({kinds[name]})" if name in kinds and name else "the model itself"


def _off(found: Difference, what: str) -> str:
    if np.isnan(found.error):
        return f"its {what} has another shape or dtype, or is not finite elsewhere"
    return f"its {what} is off by {found.relative:.1e} of the scale"


def _row(
    run: _Run, found: list[Difference], departs: list[Difference], judged: tuple[str, ...]
) -> Compared:
    relative = {}
    for kind in _KINDS:
        some = [d.relative for d in found if d.kind == kind and d.name not in judged]
        if some:
            relative[kind] = max(some, key=lambda value: np.inf if np.isnan(value) else value)
    outputs, gradients, buffers = (sum(d.kind == kind for d in found) for kind in _KINDS)
    names = tuple((d.name, d.kind) for d in departs)
    return Compared(run.mode, run.input, outputs, gradients, buffers, relative, names, judged)


def _tells_as_much(example: _Run, run: _Run) -> bool:
    """Whether a run takes the branches of the example, and is finite if that is."""
    same = [value for _, value in run.wanted.reads] == [value for _, value in example.wanted.reads]
    return same and (run.wanted.is_finite or not example.wanted.is_finite)


_KINDS = ("output", "gradient", "buffer")


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:400]


def _may_agree(net: nnx.Module) -> bool:
    """Whether nothing says that training and evaluation mode are two programs."""
    return not any(
        programs_of(node, True) != programs_of(node, False)
        if isinstance(node, Imported)
        else isinstance(vars(node).get("use_running_average"), bool)
        for _, node in nnx.iter_modules(net)
    )
