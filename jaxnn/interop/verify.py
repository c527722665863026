"""`verify`: where a port departs from the original, module by module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flax import nnx
from rich.console import Console
from rich.table import Table

from .call import Call as Example
from .proof.calls import Call
from .proof.copies import as_it_was, as_wide_as, copied, of_model, of_rounding, twin
from .proof.differences import Difference
from .proof.drawing import fix_streams
from .proof.modules import output_differences, outputs_of_flax, outputs_of_torch
from .proof.outcomes import Outcome, gradient_differences, of_flax, state_differences

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Comparison:
    """One call of one module, in the original and in the port.

    Attributes:
        name: the module's path; "" for the model itself.
        call: which call of that module this is, counted from 0.
        shape: of the output, in the original.
        error: the largest absolute difference of the output, NaN where the shapes differ.
        relative: that, divided by the largest element of the original's output.
        agrees: whether that is within the tolerance of the dtype.
        gradient: the gradient of the module's own parameters that is farthest off; for the model
            itself, that of the inputs. None where there is none, and at a later call.
        state: what the call changed and is farthest off; None likewise.
        example: which of the calls of the model this was in, counted from 0.
    """

    name: str
    call: int
    shape: tuple[int, ...]
    error: float
    relative: float
    agrees: bool
    gradient: Difference | None = None
    state: Difference | None = None
    example: int = 0

    @property
    def ok(self) -> bool:
        """Whether output, gradients and state agree."""
        parts = (self.gradient, self.state)
        return self.agrees and all(part.agrees for part in parts if part is not None)


@dataclass(frozen=True)
class Report:
    """What `verify` found; prints as a table, the first module that departs on top.

    Attributes:
        rows: the comparisons, call by call of the model, in each in the order in which the
            original's calls of its modules end.
        unmatched: modules that the original calls and the port does not, by their paths.
        notes: how it was compared, and what was not, and why.
        examples: the calls of the model, in words.
    """

    rows: tuple[Comparison, ...]
    unmatched: tuple[str, ...]
    notes: tuple[str, ...] = ()
    examples: tuple[str, ...] = ("call",)

    @property
    def ok(self) -> bool:
        """Whether everything that was compared agrees, the model's own outputs among it."""
        whole = {row.example for row in self.rows if not row.name}
        return all(row.ok for row in self.rows) and len(whole) == len(self.examples)

    @property
    def first(self) -> Comparison | None:
        """The comparison that is nearest to a fault, if any departs.

        That is the first whose output departs. Where all outputs agree it is the last whose
        gradient departs, since a wrong gradient shows in all that comes before the fault.
        """
        wrong = [row for row in self.rows if not row.ok]
        outputs = [row for row in wrong if not row.agrees]
        wrong = [row for row in wrong if row.example == wrong[0].example]
        gradients = [row for row in wrong if row.gradient is not None and not row.gradient.agrees]
        of_parameters = [row for row in gradients if row.name]
        order = [*outputs[:1], *of_parameters[-1:], *gradients[-1:], *wrong[:1]]
        return order[0] if order else None

    def table(self) -> Table:
        """Return the comparisons as a table of rich."""
        several = len(self.examples) > 1
        calls = ("call",) if several else ()
        table = Table(*calls, "module", "shape", "output", "gradients", "state", "")
        first = self.first
        ordered = self.rows if first is None else (first, *(r for r in self.rows if r != first))
        for row in ordered:
            number = (str(row.example),) if several else ()
            name = (row.name or "(the model)") + (f" call {row.call}" if row.call else "")
            mark = "ok" if row.ok else "[red]departs[/red]"
            parts = (_cell(row.gradient, row.name), _cell(row.state, row.name))
            output = f"{row.relative:.1e}" if row.agrees else f"[red]{row.relative:.1e}[/red]"
            table.add_row(*number, name, str(row.shape), output, *parts, mark)
        return table

    def lines(self) -> list[str]:
        """Return in words what the table does not say."""
        several = len(self.examples) > 1
        calls = [f"{number}: {text}" for number, text in enumerate(self.examples) if several]
        unmatched = f"not called in the port: {', '.join(self.unmatched)}"
        return [*calls, *([unmatched] if self.unmatched else [])]

    def __str__(self) -> str:
        console = Console(width=100, color_system=None)
        with console.capture() as capture:
            for note in self.notes:
                console.print(note, markup=False, highlight=False)
            console.print(self.table())
            for line in self.lines():
                console.print(line, markup=False, highlight=False)
        return capture.get()


def _cell(found: Difference | None, owner: str) -> str:
    if found is None:
        return ""
    within = f"{found.relative:.1e}"
    name = found.name.removeprefix(f"{owner}.")
    return within if found.agrees else f"[red]{name} {within}[/red]"


def verify(
    torch_module: torch.nn.Module,
    flax_module: nnx.Module,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    examples: Sequence[Example] = (),
) -> Report:
    """Run a PyTorch model and its port on the same input, and compare them module by module.

    The outputs of every call of every module are compared; the gradients of the parameters and of
    the inputs, under a fixed cotangent; and what the call changed, such as running statistics.
    Modules are matched by their paths, and by the order of their calls where one is called more
    than once. Both run as copies, in the modes that they are in. Random numbers are fixed on both
    sides, so that a dropout keeps and scales all that it is given.

    Args:
        torch_module: the original.
        flax_module: the port, imported or written by hand, whose parts have the original's names.
        args: the positional arguments: a tuple of tensors or arrays, or one.
        kwargs: the keyword arguments.
        examples: several calls (`jaxnn.call`) in place of one; each is compared by itself, on the
            model as it was given.

    Returns:
        A Report; print it to see the table. Where float32 differs by rounding alone, such as in a
        gradient at the kink of a ReLU, float64 decides.

    Raises:
        TypeError: if the modules are not of these kinds, an example is not a call, or there are
            both arguments and examples.
        ValueError: if the original draws by an operator whose draws cannot be fixed.
        Exception: what the models raise; of several calls, a note says at which.

    Source: torch.nn.Module.register_forward_hook.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
        >>> port = jaxnn.from_torch(net, torch.ones(1, 3))
        >>> report = jaxnn.verify(net, port, torch.ones(4, 3))
        >>> report.ok, [row.name for row in report.rows]
        (True, ['0', '1', ''])
        >>> calls = [jaxnn.call(torch.ones(4, 3)), jaxnn.call(torch.ones(1, 3))]
        >>> report = jaxnn.verify(net, port, examples=calls)
        >>> report.ok, [row.example for row in report.rows]
        (True, [0, 0, 0, 1, 1, 1])
    """
    import torch

    if not isinstance(torch_module, torch.nn.Module) or not isinstance(flax_module, nnx.Module):
        raise TypeError(
            "verify takes a torch.nn.Module and an nnx.Module, got "
            f"{type(torch_module).__name__} and {type(flax_module).__name__}"
        )
    given = _given(args, kwargs, examples)
    found = []
    for number, example in enumerate(given):
        try:
            found.append(_compared(torch_module, flax_module, example, number))
        except Exception as error:
            if len(given) > 1:
                error.add_note(f"at the call {number} of {len(given)}: {example}")
            raise
    rows = [row for rows, _, _ in found for row in rows]
    unmatched = dict.fromkeys(name for _, names, _ in found for name in names)
    told = _notes([notes for _, _, notes in found])
    return Report(tuple(rows), tuple(unmatched), tuple(told), tuple(map(str, given)))


def _given(
    args: Any, kwargs: Mapping[str, Any] | None, examples: Sequence[Example]
) -> Sequence[Example]:
    """Return the calls to compare, one where there are no examples."""
    if not isinstance(examples, (list, tuple)) or not all(isinstance(e, Example) for e in examples):
        raise TypeError(
            "verify: `examples` must be a list of calls, such as [jaxnn.call(x), "
            f"jaxnn.call(x, mask=m)], got {examples!r}"
        )
    is_one = kwargs or not isinstance(args, tuple) or args
    if examples and is_one:
        raise TypeError("verify takes `args` and `kwargs` of one call, or `examples`, not both")
    if isinstance(args, Example):
        raise TypeError("verify: `args` are the arguments themselves; pass a call in `examples`")
    args = args if isinstance(args, tuple) else (args,)
    return examples or [Example(args, dict(kwargs or {}))]


def _compared(
    torch_module: torch.nn.Module, flax_module: nnx.Module, example: Example, number: int
) -> tuple[list[Comparison], list[str], list[str]]:
    """Return the comparisons of one call, what the port does not call, and notes."""
    call = Call.of(example.args, example.kwargs)
    tensors = [*torch_module.parameters(), *torch_module.buffers(), *call.tensors]
    with as_it_was(torch_module), as_wide_as(tensors):
        model, port = copied(torch_module), nnx.clone(flax_module)
        fix_streams(port)
        outputs = outputs_of_torch(twin(model), call)
        rows, unmatched = output_differences(outputs, outputs_of_flax(nnx.clone(port), call))
        found, notes = _parts(model, port, call)
    compared = [
        Comparison(name, index, d.shape, d.error, d.relative, d.agrees) for name, index, d in rows
    ]
    complete = [replace(row, example=number) for row in _by_module(compared, found)]
    return complete, unmatched, notes


def _notes(notes: Sequence[list[str]]) -> list[str]:
    """Return the notes of all calls; what is not of each names its call."""
    distinct = dict.fromkeys(note for of_call in notes for note in of_call)
    common = [note for note in distinct if all(note in of_call for of_call in notes)]
    return common + [
        f"Call {number}: {note}"
        for number, of_call in enumerate(notes)
        for note in of_call
        if note not in common
    ]


def _parts(
    model: torch.nn.Module, port: nnx.Module, call: Call
) -> tuple[list[Difference], list[str]]:
    """Return how gradients and state differ, and what is to be said of that."""
    wanted = of_model(model, call)
    notes = []
    if wanted.drawn:
        drawn = ", ".join(sorted(set(wanted.drawn)))
        notes.append(
            f"The model draws random numbers ({drawn}): each is one fixed number on both sides."
        )
    try:
        got = of_flax(port, call)
    except Exception as error:  # a port may run where nothing is traced, alone
        text = " ".join(str(error).split())[:300]
        return [], [
            *notes,
            f"Gradients and state were not compared: {type(error).__name__}: {text}",
        ]
    if wanted.why_no_gradients:
        notes.append(f"Gradients were not compared: {wanted.why_no_gradients}")
    shapes = [[array.shape for array in side.outputs] for side in (wanted, got)]
    gradients = gradient_differences(wanted, got) if shapes[0] == shapes[1] else []
    found: list[Difference] = []
    missing: list[Difference] = []
    for difference in [*gradients, *state_differences(wanted, got)]:
        is_missing = not _has(got, difference)
        (missing if is_missing else found).append(difference)
    if missing:
        names = ", ".join(difference.name for difference in missing)
        notes.append(f"The port has nothing under these names: {names}.")
    departs = [difference for difference in found if not difference.agrees]
    rounding = of_rounding(departs, model, port, call) if departs else []
    if rounding:
        names = ", ".join(difference.name for difference in rounding)
        notes.append(f"Judged in float64, since float32 rounds them: {names}.")
    return [replace(d, agrees=True) if d in rounding else d for d in found], notes


def _has(got: Outcome, difference: Difference) -> bool:
    """Whether the port has a parameter, input or buffer of that name."""
    if difference.kind == "gradient":
        return difference.name in (got.gradients or {})
    return difference.name in got.state or got.before(difference.name) is not None


def _by_module(rows: list[Comparison], found: list[Difference]) -> list[Comparison]:
    """Return the rows with the differences of gradients and state in those of their modules."""
    parts: dict[tuple[str, str], list[Difference]] = {}
    for difference in found:
        owner = difference.name.rpartition(".")[0]
        parts.setdefault((owner, difference.kind), []).append(difference)

    def worst(name: str, kind: str) -> Difference | None:
        some = parts.pop((name, kind), [])
        return max(some, key=lambda d: (not d.agrees, d.relative), default=None)

    complete = [
        replace(row, gradient=worst(row.name, "gradient"), state=worst(row.name, "buffer"))
        for row in rows
    ]
    # What belongs to no module that is called, such as a list of parameters.
    left = [
        Comparison(owner, 0, (), 0.0, 0.0, True, worst(owner, "gradient"), worst(owner, "buffer"))
        for owner in dict.fromkeys(name for name, _ in parts)
    ]
    return [*left, *complete]
