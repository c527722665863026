"""Values of parameters, as a file spells them: their types, and the numbers that JSON has not."""

from __future__ import annotations

import re
from typing import Any

NOT_JSON = ("inf", "-inf", "nan")


def unspelled(value: Any) -> Any:
    """The float that a file spells as a string; anything else as it is.

    >>> unspelled("-inf"), unspelled("same"), unspelled([1, 2])
    (-inf, 'same', [1, 2])
    """
    return float(value) if value in NOT_JSON else value


def has_type(value: Any, declared: str) -> bool:
    """Whether a parameter's value is of one of the types in ``int|int2|float|null``.

    >>> has_type([2, 3], "int|int2"), has_type(True, "int"), has_type("inf", "float")
    (True, False, True)
    >>> has_type([None, 3], "int2?"), has_type([None, 3], "int2"), has_type([0.5, 1], "float2")
    (True, False, True)
    """
    return any(_is(value, kind) for kind in declared.split("|"))


def _is(value: Any, kind: str) -> bool:
    if kind == "null":
        return value is None
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "float":
        return value in NOT_JSON or (isinstance(value, int | float) and not isinstance(value, bool))
    if kind == "tensor":
        return isinstance(value, dict) and value.keys() == {"tensor"}
    if kind in ("layer", "function"):
        return isinstance(value, dict) and {kind} <= value.keys() <= {kind, "params"}
    match = re.fullmatch(r"(int|float)([*\d])(\??)", kind)
    if match is None or not isinstance(value, list):
        return False
    element, count, nullable = match.groups()
    items = [item for item in value if not (nullable and item is None)]
    return all(_is(item, element) for item in items) and count in ("*", str(len(value)))
