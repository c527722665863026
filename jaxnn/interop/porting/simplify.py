"""What of a program is left to be written: the steps that do something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..importer.program import (
    Assign,
    Body,
    Call,
    Literal,
    Operation,
    Value,
)
from .observing import Kinds
from .parts import Part
from .steps import CONVERSIONS, COPIES, results_of, states_in, substituted, values_in


@dataclass(frozen=True)
class Item:
    """A step that is left after what does nothing is left out.

    Attributes:
        step: the step; None for the result.
        targets: of an operation with several results, their names by place.
    """

    step: Any
    targets: tuple[tuple[int, str], ...] = ()


def simplified(body: Body, part: Part, kinds: Kinds) -> list[Item]:
    """Return what is left of a program, its result last.

    Left out is what gives a value once more (a copy, a conversion to the dtype that it has, a
    size that is known), what is not used, and the taking apart of several results.

    Args:
        body: the program.
        part: a module that has it.
        kinds: what is known of its values.
    """
    return _Simplifying(body, part, kinds).items()


class _Simplifying:
    def __init__(self, body: Body, part: Part, kinds: Kinds) -> None:
        self.body, self.part, self.kinds = body, part, kinds
        # What stands for a value that is another once more.
        self.same: dict[str, Any] = {}
        self.stopped: set[str] = set()
        self.sizes: dict[str, Value] = {}

    def items(self) -> list[Item]:
        steps: list[Any] = []
        for original in self.body.steps:
            step = substituted(original, self.same)
            equal = self._equal(step) if isinstance(step, Operation) else None
            if equal is None:
                steps.append(step)
            else:
                self.same[step.result] = equal
        steps = _with_rests(_assigned_early(steps))
        extra = tuple(Value(name) for name in self.body.extra)
        result = substituted(Assign("", (self.body.output, extra)), self.same)
        needed = set(values_in(result))
        kept: list[Any] = []
        for step in reversed(steps):
            is_call = isinstance(step, Call) and self.part.at(step.module).mutable
            if is_call or isinstance(step, Assign) or needed & set(results_of(step)):
                kept.append(step)
                needed |= set(values_in(step))
        return [*self._unpacked(kept[::-1]), Item(result)]

    def _equal(self, step: Operation) -> Any:
        """Return the value that an operation gives once more; None where it gives a new one."""
        given = dict(step.arguments)
        if step.operator.startswith(("python.", "sym_")) and step.operator != "python.getitem":
            return self._known_size(step)
        value = given.get(step.arguments[0][0]) if step.arguments else None
        if not isinstance(value, (Value, Literal)):
            return None
        if step.operator in COPIES:
            return value
        # In evaluation mode a dropout does nothing.
        if step.operator.endswith("dropout") and given.get("train", True) is False:
            return value
        kind, result = self.kinds.of(value), self.kinds.named(step.result)
        if kind is None or result is None or kind.dtype is None:
            return None
        if step.operator == "add" and given.get("other") == 0:
            return value if kind == result else None
        if step.operator in ("copy", "slice_scatter"):
            # What is written everywhere replaces all.
            source = given.get("src")
            is_whole = isinstance(source, Value) and self.kinds.of(source) == result == kind
            return source if is_whole and (step.operator == "copy" or _is_entire(given)) else None
        is_same = kind.dtype == result.dtype and kind.shapes == result.shapes
        if step.operator == "slice":
            return value if _is_entire(given) else None
        if step.operator == "detach":
            is_stopped = isinstance(value, Value) and value.name in self.stopped
            self.stopped.add(step.result)
            return value if is_stopped or not kind.is_float else None
        if step.operator in ("expand", "view", "reshape"):
            return value if is_same and "dtype" not in given else None
        return value if is_same and step.operator in CONVERSIONS else None

    def _known_size(self, step: Operation) -> Any:
        """Return a size that has been computed before."""
        key = f"{step.operator}{step.arguments}"
        if key not in self.sizes:
            self.sizes[key] = Value(step.result)
            return None
        return self.sizes[key]

    def _unpacked(self, steps: list[Any]) -> list[Item]:
        """Let an operation with several results name those that are used."""
        parts: dict[str, dict[int, str]] = {}
        whole: set[str] = set(values_in(self.body.output)) | set(self.body.extra)
        for step in steps:
            if isinstance(step, Operation) and step.operator == "python.getitem":
                (_, of), (_, place) = step.arguments
                if isinstance(of, Value) and isinstance(place, int) and place >= 0:
                    parts.setdefault(of.name, {}).setdefault(place, step.result)
                    if parts[of.name][place] != step.result:
                        self.same[step.result] = Value(parts[of.name][place])
                    continue
            whole |= set(values_in(step))
        items = []
        unpacked = {
            name for name in parts
            if name not in whole and (kind := self.kinds.named(name)) is not None and kind.length
        }  # fmt: skip
        for step in steps:
            if isinstance(step, Operation):
                if step.result in unpacked:
                    items.append(Item(step, tuple(sorted(parts[step.result].items()))))
                    continue
                is_part = step.operator == "python.getitem" and isinstance(
                    step.arguments[0][1], Value
                )
                if is_part and step.arguments[0][1].name in unpacked:
                    continue
            items.append(Item(substituted(step, self.same)))
        return items


def _is_entire(given: Mapping[str, Any]) -> bool:
    """Whether a slice is all of a dimension."""
    end = given.get("end")
    is_open = end is None or (isinstance(end, int) and end >= 2**31)
    return is_open and not given.get("start") and given.get("step", 1) == 1


def _with_rests(steps: list[Any]) -> list[Any]:
    """Return the steps with -1 for a size that is computed for one new shape alone."""
    computed = {
        step.result: step for step in steps
        if isinstance(step, Operation) and step.operator.startswith("python.")
    }  # fmt: skip
    uses = Counter(name for step in steps for name in values_in(step))
    return [_with_rest(step, computed, uses) for step in steps]


def _with_rest(step: Any, computed: Mapping[str, Any], uses: Mapping[str, int]) -> Any:
    if not isinstance(step, Operation) or step.operator not in ("view", "reshape", "_unsafe_view"):
        return step
    arguments = dict(step.arguments)
    name = next((name for name in ("size", "shape") if name in arguments), "")
    sizes = list(arguments.get(name, ()))
    places = [
        at for at, size in enumerate(sizes)
        if isinstance(size, Value) and size.name in computed and uses[size.name] == 1
    ]  # fmt: skip
    if len(places) != 1 or -1 in sizes:
        return step
    sizes[places[0]] = -1
    return replace(step, arguments=tuple({**arguments, name: sizes}.items()))


def _assigned_early(steps: list[Any]) -> list[Any]:
    """Return the steps with state set where its value is known, unless it is read after that."""
    for assign in [step for step in steps if isinstance(step, Assign)]:
        if not isinstance(assign.value, Value):
            continue
        made = next(
            (at for at, step in enumerate(steps)
             if not isinstance(step, Assign) and assign.value.name in results_of(step)),
            None,
        )  # fmt: skip
        if made is None or any(assign.path in states_in(step) for step in steps[made + 1 :]):
            continue
        steps = [step for step in steps if step is not assign]
        steps.insert(made + 1, assign)
    return steps
