"""The names that the original source gives its values, as far as it can be read."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import textwrap
from functools import cache

_PLACE = re.compile(r'File "(.+)", line (\d+)')


def assigned_at(source: str) -> tuple[tuple[str, ...], int] | None:
    """Return the variables that the statement at a place assigns, with where the statement begins.

    A statement whose outermost part calls a module is left to `names_of_calls`.

    Args:
        source: the place, as Python's tracebacks write it.
    """
    place = _PLACE.search(source)
    return None if place is None else _assignments(place[1]).get(int(place[2]))


@cache
def _assignments(file: str) -> dict[int, tuple[tuple[str, ...], int]]:
    tree = _parsed("".join(linecache.getlines(file)))
    found: dict[int, tuple[tuple[str, ...], int]] = {}
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target: ast.expr = node.targets[0]
        elif isinstance(node, ast.AugAssign):
            target = node.target
        else:
            continue
        parts = target.elts if isinstance(target, ast.Tuple) else [target]
        names = tuple(part.id for part in parts if isinstance(part, ast.Name))
        if len(names) == len(parts) and _attribute_called(node.value) is None:
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            found |= dict.fromkeys(lines, (names, node.lineno))
    return found


def names_of_calls(kind: type) -> dict[str, list[str]]:
    """Return the variables that the calls of each attribute are assigned to, in order.

    Args:
        kind: the class whose methods call `self.attribute(...)`.
    """
    owner = next((base for base in kind.__mro__ if "forward" in vars(base)), kind)
    try:
        tree = _parsed(textwrap.dedent(inspect.getsource(owner)))
    except (OSError, TypeError):
        return {}
    found: dict[str, list[str]] = {}
    items: dict[str, str] = {}
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.For):
            items |= _items_of(node)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
            attribute = _attribute_called(node.value, items)
            if isinstance(target, ast.Name) and attribute is not None:
                found.setdefault(attribute, []).append(target.id)
    return found


def _items_of(loop: ast.For) -> dict[str, str]:
    """Return the variable of a loop over a list of modules, with the list's attribute."""
    over, target = loop.iter, loop.target
    if isinstance(over, ast.Call) and over.args:  # enumerate
        over = over.args[0]
    if isinstance(target, ast.Tuple):
        target = target.elts[-1]
    if isinstance(target, ast.Name) and isinstance(over, ast.Attribute):
        return {target.id: over.attr}
    return {}


def _attribute_called(value: ast.expr, items: dict[str, str] | None = None) -> str | None:
    """Return the attribute of `self` that an expression calls outermost, if it does."""
    if isinstance(value, ast.Subscript):
        value = value.value
    if not isinstance(value, ast.Call):
        return None
    function = value.func
    while isinstance(function, ast.Subscript):
        function = function.value
    if isinstance(function, ast.Name):
        return (items or {}).get(function.id)
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return function.attr if function.value.id == "self" else None
    return None


def _parsed(source: str) -> ast.AST | None:
    try:
        return ast.parse(source)
    except SyntaxError:
        return None
