"""A call's arguments under the names of a program, and what that refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .guards import Guard, briefly
from .program import Body, Opaque, Structure, Value, leaves
from .record import Record

_REMEDY = (
    "give from_torch such a call too (examples=), or let it capture what is new (recapture=True)"
)


class Misfit(ValueError):
    """A call that a program is not for.

    Attributes:
        stage: how far it got: the greater, the nearer it is.
    """

    def __init__(self, text: str, stage: int) -> None:
        super().__init__(text)
        self.stage = stage

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.stage)


def bind(
    name: str, body: Body, args: Sequence[Any], kwargs: Mapping[str, Any], values: dict[str, Any]
) -> None:
    """Put the arrays of a call's arguments into `values`, under the names of the program.

    Raises:
        TypeError: if an argument is missing or unknown.
        ValueError: if one differs from that of the import in more than an array's values.
    """
    positional, named = list(args), dict(kwargs)
    for item in body.inputs:
        if item.variadic == "*":
            given: Any = tuple(positional)
            positional = []
        elif item.variadic == "**":
            given, named = dict(named), {}
        elif positional and not item.keyword_only:
            given = positional.pop(0)
            if item.name in named:
                raise TypeError(f"{name}: argument {item.name!r} is given twice")
        elif item.name in named:
            given = named.pop(item.name)
        elif not leaves(item.structure):  # a constant
            continue
        else:
            raise TypeError(f"{name}: argument {item.name!r} is missing")
        match(item.structure, given, values, item.name)
    if positional or named:
        known = [item.name for item in body.inputs]
        raise TypeError(
            f"{name} takes the arguments {known}; got {len(args)} by position, {list(kwargs)} by "
            "name"
        )


def check_sizes(
    name: str,
    shapes: Sequence[tuple[str, tuple[int | None, ...]]],
    guards: Sequence[Guard],
    values: Mapping[str, Any],
) -> None:
    """Refuse arrays of other sizes than those that a program holds for.

    Raises:
        ValueError: naming the condition, and the line that asks for it.
    """
    for array, shape in shapes:
        if wrong := misfit(values[array].shape, shape, "imported"):
            pairs = enumerate(zip(values[array].shape, shape, strict=False))
            asked = [f"{array}.shape[{d}] == {n}" for d, (size, n) in pairs if size != n]
            line = next((guard.line for guard in guards if guard.text in asked), "")
            told = f", which it asks for at {line}" if line else ""
            raise Misfit(f"{name}: {array} {wrong}{told}; {_REMEDY}", 3)
    for guard in guards:
        if not guard.holds(values):
            sizes = ", ".join(
                f"{array}: {tuple(values[array].shape)}"
                for array, _ in shapes
                if f"{array}.shape" in guard.text
            )
            raise Misfit(
                f"{name}: the model was imported for sizes with {briefly(guard)}, which it asks "
                f"for at {guard.line or 'no line of its own'}; got {sizes}: {_REMEDY}",
                4,
            )


def misfit(found: Sequence[int], shape: Sequence[int | None], done: str) -> str:
    """Return how a shape differs from the one that a model was captured for, None for any size.

    >>> misfit((2, 3), (None, 3), "imported"), misfit((3,), (None, 3), "imported")
    ('', 'has shape (3,), but the model was imported for (any, 3)')
    """
    pairs = zip(found, shape, strict=False)
    if len(found) == len(shape) and all(wanted in (None, size) for size, wanted in pairs):
        return ""
    told = ", ".join("any" if size is None else str(size) for size in shape)
    return f"has shape {tuple(found)}, but the model was {done} for ({told})"


def match(structure: Any, given: Any, values: dict[str, Any], where: str) -> None:
    """Put the arrays of `given`, whose structure must be that of `structure`, into `values`.

    Raises:
        ValueError: if the structures differ, or something in them that is not an array.
    """
    if isinstance(structure, Value):
        if given is None or isinstance(given, (str, dict, list, tuple)):
            raise Misfit(f"{where} must be an array, got {type(given).__name__}", 1)
        is_known = isinstance(given, (int, jax.Array, jax.ShapeDtypeStruct))
        values[structure.name] = given if is_known else jnp.asarray(given)
    elif isinstance(structure, Opaque):
        if given != structure:
            raise Misfit(
                f"{where} was a {structure.name} at the import, which the call changes or takes "
                "arrays from; only the module around it can give that: call the model as a whole",
                1,
            )
    elif isinstance(structure, Structure):
        for name, item in structure.fields:
            match(item, _member(given, name, where), values, f"{where}[{name!r}]")
    elif isinstance(structure, (tuple, list)):
        items = list(given.values()) if isinstance(given, Record) else given
        if not isinstance(items, (tuple, list)) or len(items) != len(structure):
            raise Misfit(
                f"{where} was a {type(structure).__name__} of {len(structure)} at the import, got "
                f"{_briefly(given)}",
                1,
            )
        for index, (item, value) in enumerate(zip(structure, items, strict=True)):
            match(item, value, values, f"{where}[{index}]")
    elif not _same(structure, given):
        raise Misfit(
            f"{where} was {structure!r} at the import, which is part of the program; got "
            f"{_briefly(given)}: {_REMEDY}",
            2,
        )


def _member(given: Any, name: Any, where: str) -> Any:
    if isinstance(given, Mapping) and name in given:
        return given[name]
    if isinstance(name, str) and hasattr(given, name):
        return getattr(given, name)
    raise Misfit(f"{where} has no {name!r}; got {_briefly(given)}", 1)


def _same(structure: Any, given: Any) -> bool:
    if hasattr(given, "shape"):
        return False
    return bool(structure == given) or repr(structure) == repr(given) == "nan"


def _briefly(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"an array of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"one of {len(value)}"
    return repr(value) if isinstance(value, (int, float, str, type(None))) else type(value).__name__
