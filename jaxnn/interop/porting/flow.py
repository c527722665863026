"""Whether two programs of a model do the same with the arrays of a call."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import jax
from flax import nnx

from ...modules._module import takes_rngs
from ..importer.binding import bind, match
from ..importer.imported import Imported, forwards_of, run_program, source_of
from ..importer.observers import Observer, observed_by
from ..importer.operators import OPERATORS
from ..importer.program import (
    Assign,
    Body,
    Call,
    Literal,
    Operation,
    State,
    Structure,
    Value,
    rebuild,
)
from ..importer.record import realise
from ..importer.tying import descend, tied_in_place
from .steps import CONVERSIONS, COPIES

_Call = tuple[tuple[Any, ...], dict[str, Any]]
_RESHAPES = ("view", "reshape", "_unsafe_view")


def same_flow(net: Imported, one: Body, other: Body, call: _Call, training: bool) -> bool:
    """Whether two programs of a model compute the same from the arrays of a call.

    They do if all their results come from the same operations, of the same arguments, where what
    gives a value once more at these sizes is left out, and sizes are numbers.

    Args:
        net: the model.
        one: a program, which need not be for the call.
        other: another one.
        call: the arguments.
        training: the mode.
    """
    terms: dict[Any, int] = {}
    try:
        found = [_Flow(net, body, call, training, terms).run() for body in (one, other)]
    except Exception:  # what cannot be followed, or not be run so, is not known to be the same
        return False
    return bool(found[0] == found[1])


class _Noting(Observer):
    def __init__(self) -> None:
        self.seen: list[tuple[Body, dict[str, Any]]] = []

    def begins(self, body: Body, values: dict[str, Any]) -> None:
        self.seen.append((body, values))


class _Flow:
    """A program's values as terms: each the number of what it is computed by.

    Args:
        net: the model.
        body: the program of the model as a whole.
        call: its arguments.
        training: the mode.
        terms: the numbers that are given so far.
    """

    def __init__(
        self, net: Imported, body: Body, call: _Call, training: bool, terms: dict[Any, int]
    ) -> None:
        self.net, self.terms = net, terms
        self.body = replace(body, shapes=(), guards=())
        self.call, self.training = call, training
        self.effects: dict[int, int] = {}
        self.left: list[tuple[Body, dict[str, Any]]] = []

    def run(self) -> Any:
        """Return the terms of the results, and of what the call leaves in the model's state."""
        (self.net.train if self.training else self.net.eval)()
        noting = _Noting()
        with observed_by(noting):
            nnx.eval_shape(partial(_run, body=self.body, call=self.call), self.net)
        self.left = noting.seen
        args, kwargs = self.call
        leaves, structure = jax.tree.flatten((args, kwargs))
        given = [
            self.term("given", at) if hasattr(leaf, "shape") else leaf
            for at, leaf in enumerate(leaves)
        ]
        args, kwargs = jax.tree.unflatten(structure, given)
        with tied_in_place(self.net):
            output, _ = self.of(self.net, self.body, args, kwargs, ())
        return output, self.effects

    def term(self, *what: Any) -> int:
        """Return the number of what computes a value."""
        return self.terms.setdefault(what, len(self.terms))

    def of(
        self, module: Imported, body: Body, args: Sequence[Any], kwargs: Any, captured: Any
    ) -> tuple[Any, list[int]]:
        """Return the terms of a program's results, and of what its caller takes beside these."""
        seen, actual = self.left.pop(0)
        if seen is not body and seen.steps is not body.steps:
            raise ValueError("programs run in another order than they are called in")
        values: dict[str, Any] = dict(zip(body.captured, captured, strict=True))
        bind(source_of(module), body, args, kwargs, values)

        def read(leaf: Any) -> int:
            if isinstance(leaf, Value):
                return int(values[leaf.name])
            if isinstance(leaf, State):
                return self.term("state", id(descend(module, leaf.path)))
            return self.term("literal", repr(leaf))

        for step in body.steps:
            if isinstance(step, Operation):
                values[step.result] = self._operation(step, values, actual, read)
            elif isinstance(step, Call):
                self._call(module, step, values, read)
            elif isinstance(step, Assign):
                self.effects[id(descend(module, step.path))] = rebuild(step.value, read)
            else:
                raise NotImplementedError("a function with a gradient of its own")
        output = realise(rebuild(body.output, read))
        return output, [values[name] for name in body.extra]

    def _operation(self, step: Operation, values: Any, actual: Any, read: Any) -> int:
        result: Any = actual[step.result]
        if isinstance(result, int):
            return self.term("size", int(result))
        given = dict(step.arguments)
        first = given.get(step.arguments[0][0]) if step.arguments else None
        before: Any = actual.get(first.name) if isinstance(first, Value) else None
        if hasattr(before, "shape") and hasattr(result, "shape") and isinstance(first, Value):
            is_same = before.shape == result.shape and before.dtype == result.dtype
            is_zero = step.operator == "add" and type(given.get("other")) is int
            moves = (*COPIES, *CONVERSIONS, *_RESHAPES, "expand", "slice")
            if is_same and (step.operator in moves or (is_zero and given["other"] == 0)):
                return int(values[first.name])
            if step.operator in (*_RESHAPES, "expand") and "dtype" not in given:
                kind = "expand" if step.operator == "expand" else "reshape"
                return self.term(kind, values[first.name], tuple(result.shape))
        parameters = inspect.signature(OPERATORS[step.operator]).parameters
        told = tuple(
            (name, self._told(value, read))
            for name, value in given.items()
            if name not in parameters or not _is_default(value, parameters[name].default)
        )
        return self.term("operation", step.operator, told)

    def _told(self, value: Any, read: Any) -> Any:
        """Return an argument as something that can be compared."""
        if isinstance(value, (Value, State, Literal)):
            return read(value)
        if isinstance(value, (tuple, list)):
            return tuple(self._told(item, read) for item in value)
        if isinstance(value, Structure):
            fields = tuple((name, self._told(item, read)) for name, item in value.fields)
            return value.kind, value.name, fields
        if type(value) is int:
            return self.term("size", value)
        return repr(value)

    def _call(self, module: Imported, step: Call, values: dict[str, Any], read: Any) -> None:
        child: Any = descend(module, step.module)
        args = realise(rebuild(step.args, read))
        kwargs = {name: realise(rebuild(value, read)) for name, value in step.kwargs}
        if isinstance(child, Imported):
            body = forwards_of(child).body(not child.deterministic, step.variant)
            captured = rebuild(step.captured, read)
            result, extra = self.of(child, body, args, kwargs, captured)
            values.update(zip(step.extra, extra, strict=True))
            match(step.results, result, values, step.module)
            return
        told = tuple(self._told(value, read) for value in (*step.args, *map(list, step.kwargs)))
        called = self.term("layer", id(child), told)
        places = iter(range(1000))

        def part(value: Value) -> None:
            values[value.name] = self.term("part", called, next(places))

        rebuild(step.results, part)


def _run(module: Imported, *, body: Body, call: _Call) -> int:
    args, kwargs = call
    rngs = jax.random.key(0) if takes_rngs(module) else None
    run_program(module, body, args, kwargs, rngs)
    return 0


def _is_default(value: Any, default: Any) -> bool:
    with suppress(Exception):
        return type(value) is type(default) and bool(value == default)
    return False
