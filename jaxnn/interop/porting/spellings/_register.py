"""The table of spellings, how one is entered, and what several of them ask of their operands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from .... import functional as F
from ...importer.operators import OPERATORS, result_dtype
from ..code import Code, binary, call
from ..observing import Kind


class Operands(Protocol):
    """How a spelling learns of its operands."""

    def code(self, value: Any) -> Code:
        """Return the operand's source."""
        ...

    def kind(self, value: Any) -> Kind | None:
        """Return what is known of it; of a number, None."""
        ...


Spelling = Callable[[Operands, dict[str, Any]], Code | None]
SPELLINGS: dict[str, Spelling] = {}


def spells(*names: str) -> Callable[[Spelling], Spelling]:
    """Enter a spelling; one that returns None leaves the operator to its ATen name."""

    def enter(spelling: Spelling) -> Spelling:
        for name in names:
            SPELLINGS[name] = spelling
        return spelling

    return enter


def spelled(operands: Operands, operator: str, arguments: Sequence[tuple[str, Any]]) -> Code:
    """Return the source of an operation."""
    given = {name: value for name, value in arguments if value is not None}
    if operator in SPELLINGS:
        code = SPELLINGS[operator](operands, given)
        if code is not None:
            return code
    return by_name(operands, operator, dict(arguments))


def by_name(operands: Operands, operator: str, given: dict[str, Any]) -> Code:
    """Return a call of the operator under its ATen name."""
    named = {name: operands.code(value) for name, value in given.items() if value is not None}
    function = f"aten.{operator}" if operator.isidentifier() else f'getattr(aten, "{operator}")'
    positional = []
    for name, parameter in inspect.signature(OPERATORS[operator]).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return call(function, *named.values())
        if name == "draw" and "draw" not in given and parameter.default is parameter.empty:
            positional.append(operands.code("draw"))
        elif name in named and (parameter.default is parameter.empty or not positional):
            positional.append(named.pop(name))
        else:
            break
    if "draw" in inspect.signature(OPERATORS[operator]).parameters and not any(
        "draw" in code.text for code in positional
    ):
        named["draw"] = operands.code("draw")
    return call(function, *positional, **named)


def is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


def promotes_alike(operands: Operands, *values: Any, floats: bool = False) -> bool:
    """Whether JAX gives an operation on the values the dtype that torch gives it."""
    ours, theirs = [], []
    for value in values:
        kind = operands.kind(value)
        if kind is not None and kind.length is not None:
            return False
        if kind is None or kind.dtype is None:
            if not is_number(value) and kind is None:
                return False
            number = value if is_number(value) else 1
            ours.append(number)
            theirs.append(number)
        else:
            ours.append(kind.dtype)
            theirs.append(jax.ShapeDtypeStruct(kind.shapes[0], kind.dtype))
    if not any(hasattr(value, "dtype") for value in theirs):
        return not floats
    with jax.numpy_dtype_promotion("standard"):
        result = jnp.result_type(*ours)
    if floats and not jnp.issubdtype(result, jnp.inexact):
        return False
    return bool(result == result_dtype(*theirs))


def is_array(operands: Operands, value: Any) -> bool:
    kind = operands.kind(value)
    return kind is not None and kind.dtype is not None and kind.length is None


def same_dtype(operands: Operands, values: Sequence[Any]) -> bool:
    kinds = [operands.kind(value) for value in values]
    return all(k is not None and k.dtype is not None for k in kinds) and (
        len({k.dtype for k in kinds if k is not None}) == 1
    )


def signed(name: str, sign: str, level: int) -> Spelling:
    """Return the spelling of an operation of two values by a sign."""

    def spelling(operands: Operands, given: dict[str, Any]) -> Code | None:
        first, second = list(given.values())[:2]
        if len(given) != 2 or not promotes_alike(operands, first, second, floats=name == "div"):
            return None
        arrays = [v for v in (first, second) if is_array(operands, v)]
        if sign == "@" and not (len(arrays) == 2 and same_dtype(operands, arrays)):
            return None
        if name.startswith("logical") and not all(
            (k := operands.kind(v)) is not None and k.is_bool for v in (first, second)
        ):
            return None
        return binary(sign, level, operands.code(first), operands.code(second))

    return spelling


def of_floats(function: str) -> Spelling:
    """Return the spelling of an operation on floats by a function that has its options."""
    library, _, name = function.partition(".")
    known = set(inspect.signature(getattr(F, name)).parameters) if library == "F" else set()

    def spelling(operands: Operands, given: dict[str, Any]) -> Code | None:
        given = dict(given)
        if given.get("half_to_float") is False:
            del given["half_to_float"]
        x = given.pop("self")
        kind = operands.kind(x)
        if kind is None or not kind.is_float or not set(given) <= known:
            return None
        if "dtype" in given:
            return None
        dims = [given.pop("dim")] if list(given) == ["dim"] else []
        options = {name: operands.code(value) for name, value in given.items()}
        return call(function, operands.code(x), *(operands.code(d) for d in dims), **options)

    return spelling
