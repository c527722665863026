"""One program for training and evaluation mode, where one will do."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..importer.guards import Guard
from ..importer.operators import OPERATORS
from ..importer.program import (
    Assign,
    Body,
    Call,
    Custom,
    Literal,
    Operation,
    State,
    Structure,
    Value,
    leaves,
    rebuild,
)
from .steps import COPIES, substituted


@dataclass(frozen=True)
class Choice:
    """A constant that depends on the mode."""

    training: Any
    evaluation: Any


@dataclass(frozen=True)
class OfMode(Guard):
    """A condition on sizes that one mode has alone.

    Attributes:
        training: which.
    """

    training: bool = False


class Different(Exception):
    """The programs differ in more than constants."""


def merged(training: Body, evaluation: Body) -> Body | None:
    """Return the program that is both, if there is one, under the names of the first.

    Where constants differ stands a `Choice`; what is dropped in training alone is dropped where
    the mode says so.
    """
    training = _with_plain_dropout(_without_copies(training))
    evaluation = _with_plain_dropout(_without_copies(evaluation))
    try:
        return _Merge().bodies(training, evaluation)
    except Different:
        return None


def _with_plain_dropout(body: Body) -> Body:
    """Return a program whose dropouts give their result alone, not the mask."""
    first = {
        step.arguments[0][1].name: step
        for step in body.steps
        if isinstance(step, Operation) and step.operator == "python.getitem"
        and isinstance(step.arguments[0][1], Value) and step.arguments[1][1] == 0
    }  # fmt: skip
    taken = {id(step) for step in first.values()}
    steps: list[Any] = []
    for step in body.steps:
        if isinstance(step, Operation) and step.operator == "native_dropout":
            if step.result not in first:
                return body
            steps.append(replace(step, result=first[step.result].result, operator="dropout"))
        elif id(step) in taken and _maker(step, body) == "native_dropout":
            continue
        else:
            steps.append(step)
    return replace(body, steps=tuple(steps))


def _maker(step: Any, body: Body) -> str:
    """Return the operator that made what a step takes a part of."""
    of = step.arguments[0][1].name
    return next((s.operator for s in body.steps if isinstance(s, Operation) and s.result == of), "")


def _without_copies(body: Body) -> Body:
    """Return a program without the copies of its values, which the exporter makes in one mode."""
    same: dict[str, Any] = {}
    steps = []
    for original in body.steps:
        step = substituted(original, same)
        value = step.arguments[0][1] if isinstance(step, Operation) and step.arguments else None
        if isinstance(step, Operation) and step.operator in COPIES and isinstance(value, Value):
            same[step.result] = value
        else:
            steps.append(step)
    names = tuple(same[name].name if name in same else name for name in body.extra)
    output = substituted(Assign("", body.output), same).value
    return replace(body, steps=tuple(steps), output=output, extra=names)


class _Merge:
    """Walks both programs at once."""

    def __init__(self) -> None:
        # The evaluation's values under the names of training, and what a dropout is given.
        self.names: dict[str, str] = {}
        self.given: dict[str, Any] = {}

    def bodies(self, training: Body, evaluation: Body) -> Body:
        if any(
            getattr(training, name) != getattr(evaluation, name)
            for name in ("inputs", "captured", "shapes")
        ):
            raise Different
        steps: list[Any] = []
        others = list(evaluation.steps)
        for step in training.steps:
            if self._drops_alone(step, others[0] if others else None):
                steps.append(self._dropping(step))
            elif others:
                steps.append(self._step(step, others.pop(0)))
            else:
                raise Different
        names = tuple(self.names.get(name, name) for name in evaluation.extra)
        if others or names != training.extra:
            raise Different
        output = self._value(training.output, evaluation.output)
        guards = _of_both(training.guards, evaluation.guards)
        return replace(training, steps=tuple(steps), output=output, guards=guards)

    def _drops_alone(self, step: Any, other: Any) -> bool:
        """Whether training drops where evaluation has no operation."""
        if not isinstance(step, Operation) or not step.operator.endswith("dropout"):
            return False
        return not (isinstance(other, Operation) and other.operator == step.operator)

    def _dropping(self, step: Any) -> Any:
        arguments = dict(step.arguments)
        self.given[step.result] = step.arguments[0][1]
        arguments["train"] = Choice(True, False)
        return replace(step, arguments=tuple(arguments.items()))

    def _step(self, training: Any, evaluation: Any) -> Any:
        if type(training) is not type(evaluation):
            raise Different
        if isinstance(training, Operation):
            if training.operator != evaluation.operator:
                raise Different
            self.names[evaluation.result] = training.result
            return replace(training, arguments=self._arguments(training, evaluation))
        if isinstance(training, Call):
            if (training.module, training.variant) != (evaluation.module, evaluation.variant):
                raise Different
            merged = {
                name: self._value(getattr(training, name), getattr(evaluation, name))
                for name in ("args", "kwargs", "captured")
            }
            self._rename(training.results, evaluation.results)
            self._rename(tuple(map(Value, training.extra)), tuple(map(Value, evaluation.extra)))
            return replace(training, **merged)
        if isinstance(training, Custom):
            return self._custom(training, evaluation)
        if training.path != evaluation.path:
            raise Different
        return Assign(training.path, self._value(training.value, evaluation.value))

    def _custom(self, training: Custom, evaluation: Custom) -> Custom:
        names = ("name", "forward", "backward", "outputs", "saved")
        if any(getattr(training, name) != getattr(evaluation, name) for name in names):
            raise Different
        inputs = self._value(training.inputs, evaluation.inputs)
        captured = self._value(training.captured, evaluation.captured)
        self._rename(tuple(map(Value, training.results)), tuple(map(Value, evaluation.results)))
        return replace(training, inputs=inputs, captured=captured)

    def _rename(self, training: Any, evaluation: Any) -> None:
        ours, theirs = leaves(training), leaves(evaluation)
        if len(ours) != len(theirs):
            raise Different
        self.names |= {b.name: a.name for a, b in zip(ours, theirs, strict=True)}
        renamed = rebuild(evaluation, lambda v: Value(self.names[v.name]))
        if renamed != training:
            raise Different

    def _arguments(self, training: Operation, evaluation: Operation) -> tuple[tuple[str, Any], ...]:
        """Return the arguments of both, where one may give what is the default in the other."""
        ours, theirs = dict(training.arguments), dict(evaluation.arguments)
        if ours.keys() != theirs.keys():
            parameters = inspect.signature(OPERATORS[training.operator]).parameters
            for given, other in ((ours, theirs), (theirs, ours)):
                for name in other.keys() - given.keys():
                    if name not in parameters:
                        raise Different
                    given[name] = parameters[name].default
        if training.operator in ("view", "reshape", "_unsafe_view"):
            sizes = next(name for name in ours if name in ("size", "shape"))
            pair = _filled(ours[sizes], theirs[sizes]), _filled(theirs[sizes], ours[sizes])
            ours[sizes], theirs[sizes] = pair
        return tuple((name, self._value(ours[name], theirs[name])) for name in ours)

    def _value(self, training: Any, evaluation: Any) -> Any:
        if isinstance(training, Value) and isinstance(evaluation, Value):
            value: Any = training
            while value.name != self.names.get(evaluation.name, evaluation.name):
                # In evaluation a dropout is what it is given.
                value = self.given.get(value.name)
                if not isinstance(value, Value):
                    raise Different
            return training
        if training == evaluation and type(training) is type(evaluation) and not leaves(training):
            return training
        if isinstance(training, (bool, int, float)) and isinstance(evaluation, (bool, int, float)):
            return Choice(training, evaluation)
        if type(training) is not type(evaluation):
            raise Different
        if isinstance(training, (tuple, list)) and len(training) == len(evaluation):
            return type(training)(map(self._value, training, evaluation))
        if isinstance(training, Structure) and training.kind == evaluation.kind:
            ours, theirs = dict(training.fields), dict(evaluation.fields)
            if list(ours) != list(theirs):
                raise Different
            fields = tuple((name, self._value(ours[name], theirs[name])) for name in ours)
            return Structure(training.kind, training.name, fields)
        if isinstance(training, (State, Literal)) and training == evaluation:
            return training
        raise Different


def _of_both(training: Sequence[Guard], evaluation: Sequence[Guard]) -> tuple[Guard, ...]:
    """Return the conditions of both modes, and those that one has alone."""
    own = [
        OfMode(guard.text, guard.line, is_training)
        for is_training, ours, theirs in (
            (True, training, evaluation),
            (False, evaluation, training),
        )
        for guard in ours
        if guard not in theirs
    ]
    return (*(guard for guard in training if guard in evaluation), *own)


def _filled(sizes: Any, others: Any) -> Any:
    """Return sizes with one that is known elsewhere in place of -1."""
    if len(sizes) != len(others):
        return sizes
    pairs = zip(sizes, others, strict=True)
    return [
        other if type(size) is int and size == -1 and type(other) is int else size
        for size, other in pairs
    ]
