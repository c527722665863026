"""Capturing a torch model's forward pass with `torch.export`, module by module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .alike import Alike
from .budget import within_budget
from .conditions import Origin, choices_unnoted, fixed_size, guards_of, noted_origins
from .decisions import Decisions, as_decided, undecided
from .functionalising import functional, switches_as_marks
from .gradients import CustomGradient, Recorder, Refused, marked_gradients
from .guards import Guard
from .marks import RecordedCall, call_of_the_model, library_of_marks, traced
from .modes_read import noted_modes
from .quirks import (
    einsum_in_order,
    gradient_marks,
    masks_as_they_are,
    oblivious,
    quietly,
    sizes_as_numbers,
    squeezes_ask,
)
from .restoring import left_as_it_was
from .structures import (
    among,
    changes_lost,
    describe,
    described_call,
    given_call,
    named_arguments,
    told_apart,
)

if TYPE_CHECKING:
    import torch


@dataclass
class Captured:
    """An exported graph and what is known of it.

    Attributes:
        program: the graph.
        records: what its marks and calls mean, by key.
        origins: where its guards stand.
        gradients: its Functions and hooks, by key.
        modes: whether each layer that is not looked into was called in training mode.
        notes: what the importer has to warn of.
        equalities: the sizes that the user has said to be equal.
        asks_mode: whether anything in the forward pass asks for the mode, or sets it.
        alike: the blocks of which some stand for others.
    """

    program: torch.export.ExportedProgram
    records: list[RecordedCall]
    origins: dict[str, Origin] = field(default_factory=dict)
    gradients: list[CustomGradient] = field(default_factory=list)
    modes: dict[str, bool] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    equalities: tuple[Guard, ...] = ()
    asks_mode: bool = True
    alike: Alike = field(default_factory=Alike)

    def shapes(self) -> list[tuple[int | None, ...]]:
        """Return the shape of each tensor of the call, None for a size that may differ."""
        named = {node.name: node for node in self.program.graph_module.graph.nodes}
        given = [named[str(name)].meta["val"] for name in self.program.graph_signature.user_inputs]
        return [tuple(map(fixed_size, value.shape)) for value in given]

    def guards(self) -> list[Guard]:
        """Return the conditions on sizes, over `flat[i].shape[dim]`."""
        return [*self._found, *self.equalities]

    @cached_property
    def _found(self) -> list[Guard]:
        return guards_of(self.program, self.origins)


def capture(
    model: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    is_layer: Callable[[torch.nn.Module], bool],
    free: Sequence[frozenset[int]],
    decisions: Decisions | None = None,
    size_one: bool = True,
    alike: Alike | None = None,
    limited: bool = False,
) -> Captured:
    """Export `model` in the mode that it is in.

    Args:
        model: the model.
        args: the positional arguments of the example.
        kwargs: its keyword arguments.
        is_layer: whether a module is a layer that is not looked into.
        free: of each tensor of the example, the dimensions that may differ.
        decisions: how branches on values are taken; without them such a branch is refused.
        size_one: whether a dimension that may differ may be 1 (or 0), with the conditions that the
            model has on that; else the exporter takes for granted that it is more.
        limited: whether the capture ends where the reasoning about sizes takes too long.
        alike: the blocks of which some may stand for others.
    """
    import torch

    alike = Alike() if alike is None else alike
    structure, named, tensors, _ = described_call(args, kwargs)
    call = call_of_the_model(model)
    tensors = told_apart(tensors)
    records: list[RecordedCall] = []

    class Flat(torch.nn.Module):
        """The model between flat lists of tensors, so that no structure need be registered."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
            given, options = given_call(args, structure, kwargs, named, among(flat, ()))
            before = named_arguments(model.forward, given, options)
            was = {name: describe(value, [], []) for name, value in before.items()}
            with _assigned_buffers(self.model):
                result = call(*given, **options)
            found: list[torch.Tensor] = []
            describe(result, found, [])
            for name, value in before.items():
                for lost in changes_lost(value, was[name], result):
                    raise Refused(
                        f"the model changes a {type(lost).__name__} that it is given as {name!r}, "
                        "and does not return it; return it in the result, so that it comes back"
                    )
            return tuple(found)

    shapes: Any = None
    if any(free):
        auto = torch.export.Dim.AUTO
        shapes = (tuple(dict.fromkeys(sorted(dims), auto) for dims in free),)
    origins: dict[str, Origin] = {}
    asked: list[str] = []
    library_of_marks()
    operators = torch.ops.jaxnn_import
    recorder = Recorder(operators.mark, operators.stand_in, operators.alias)
    with ExitStack() as stack:
        for context in (
            left_as_it_was(model), traced(model, is_layer, records, alike), gradient_marks(),
            masks_as_they_are(), squeezes_ask(), einsum_in_order(), sizes_as_numbers(), quietly(),
            noted_origins(origins), marked_gradients(recorder), noted_modes(asked),
            oblivious(size_one and any(free)), choices_unnoted(), within_budget(limited),
            switches_as_marks(),
        ):  # fmt: skip
            stack.enter_context(context)
        stack.enter_context(undecided() if decisions is None else as_decided(decisions))
        exported = torch.export.export(Flat(), tuple(tensors), dynamic_shapes=shapes, strict=False)
        exported = functional(exported)
    modes = dict(library_of_marks().modes)
    alike.add_modes(modes)
    return Captured(
        exported, records, origins, recorder.records, modes, recorder.notes,
        asks_mode=bool(asked or decisions), alike=alike,
    )  # fmt: skip


def is_valid_for(captured: Captured, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a program's conditions hold for a call with these arguments."""
    arrays = {f"flat[{i}]": tensor for i, tensor in enumerate(described_call(args, kwargs)[2])}
    return all(guard.holds(arrays) for guard in captured.guards())


@contextmanager
def _assigned_buffers(model: torch.nn.Module) -> Iterator[None]:
    """Mark what is assigned to a buffer's name, and put the buffer itself back."""
    import torch

    was = [(path, m, dict(m._buffers)) for path, m in model.named_modules()]
    yield
    for path, module, buffers in was:
        for name, buffer in buffers.items():
            new = module._buffers.get(name)
            if new is not buffer and isinstance(new, torch.Tensor):
                full = f"{path}.{name}" if path else name
                if buffer is None or (buffer.shape, buffer.dtype) != (new.shape, new.dtype):
                    had = "None" if buffer is None else f"{buffer.dtype} {tuple(buffer.shape)}"
                    raise Refused(
                        f"forward assigns the buffer {full}, which was {had}, what is {new.dtype} "
                        f"{tuple(new.shape)}; register it with the shape and dtype that it keeps"
                    )
                torch.ops.jaxnn_import.mark(f"assign {full}", [new], [])
                module._buffers[name] = buffer
