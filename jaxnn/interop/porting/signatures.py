"""The arguments of a program as the parameters of a method."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..importer.program import Body, Input, Structure, Value, leaves
from .code import RESERVED, constant, is_name


def parameters_of(body: Body) -> list[str]:
    """Return the parameters of a method: constants are part of the program, and none of it."""
    parameters, is_named = [], False
    for item in body.inputs:
        if not leaves(item.structure):
            continue
        name = argument(item)
        if item.variadic == "*":
            is_named = True
        elif item.keyword_only and not is_named and not item.variadic:
            parameters.append("*")
            is_named = True
        parameters.append(f"{item.variadic}{name}")
    captured = list(body.captured)
    if captured and any(parameter.startswith("**") for parameter in parameters):
        return [*parameters[:-1], *captured, parameters[-1]]
    return [*parameters, *captured]


def argument(item: Input) -> str:
    """Return what the method calls an argument."""
    return f"{item.name}_" if item.name in RESERVED or not is_name(item.name) else item.name


def without_constants(
    body: Body, args: list[Any], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return a call's arguments without those that are constants, which the program contains."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    left, known = list(args), dict(kwargs)
    for item in body.inputs:
        if item.variadic == "*":
            taken, left = left, []
            if leaves(item.structure):
                positional += taken
        elif item.variadic == "**":
            if leaves(item.structure):
                named |= known
        elif left and not item.keyword_only:
            value = left.pop(0)
            if leaves(item.structure):
                positional.append(value)
        elif item.name in known:
            value = known.pop(item.name)
            if leaves(item.structure):
                named[argument(item)] = value
    return positional, named


def places_of(body: Body) -> dict[str, str]:
    """Return where each array among the arguments is found."""
    found: dict[str, str] = {}

    def reach(text: str, structure: Any) -> None:
        if isinstance(structure, Value):
            found[structure.name] = text
        elif isinstance(structure, Structure):
            for name, item in structure.fields:
                is_entry = structure.kind == "dict" or not is_name(str(name))
                reach(f"{text}[{constant(name).text}]" if is_entry else f"{text}.{name}", item)
        elif isinstance(structure, (tuple, list)):
            for place, item in enumerate(structure):
                reach(f"{text}[{place}]", item)

    for item in body.inputs:
        reach(argument(item), item.structure)
    return found


def of_arrays(condition: str, places: Mapping[str, str]) -> str:
    """Return a condition on the sizes of arrays that are found elsewhere.

    >>> of_arrays("x.shape[0] == y.shape[0]", {"x": "x", "y": "pair[1]"})
    'x.shape[0] == pair[1].shape[0]'
    """

    def found(match: re.Match[str]) -> str:
        return f"{places.get(match[1], match[1])}.shape"

    return re.sub(r"(\w+)\.shape", found, condition)
