"""The names that the original source gives its values, as far as it can be read."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from ..importer.program import Call, Operation, Value
from .code import RESERVED, is_name
from .simplify import Item

_PLACE = re.compile(r'File "(.+)", line (\d+)')


def hints_of(
    items: Sequence[Item],
    call_names: Mapping[str, Sequence[str]],
    size_names: Mapping[tuple[str, int], str],
) -> dict[str, str]:
    """Return the names of the original for the last operation of each of its statements.

    Args:
        items: what is written of a program.
        call_names: what the results of calls are called, by the attribute called.
        size_names: what sizes are called, by the array and the dimension.
    """
    left = {name: list(names) for name, names in call_names.items()}
    hints: dict[str, str] = {}
    last: tuple[str, tuple[str, ...], int] | None = None
    for item in [*items, Item(None)]:
        step = item.step
        found = assigned_at(step.source) if isinstance(step, Operation) else None
        if isinstance(step, Call) and last is not None:
            continue
        # The exporter computes sizes where it needs them first.
        if last is not None and _is_of_sizes(step) and found == last[1:]:
            continue
        if found is not None and len(found[0]) > 1:
            parts = _parts_named(item, found[0])
            hints |= parts
            found = None
        if last is not None and (found is None or found != last[1:]):
            hints[last[0]] = last[1][0]
        last = None if found is None else (step.result, *found)
    for item in items:
        if isinstance(item.step, Operation) and item.step.operator == "sym_size":
            (_, of), *dim = item.step.arguments
            key = getattr(of, "name", ""), dict(dim).get("dim", 0)
            if key in size_names:
                hints[item.step.result] = size_names[key]
        if isinstance(item.step, Call) and isinstance(item.step.results, Value):
            names = left.get(item.step.module.partition(".")[0])
            if names:
                hints[item.step.results.name] = names.pop(0) if len(names) > 1 else names[0]
    return {ssa: name for ssa, name in hints.items() if name not in RESERVED and is_name(name)}


def _is_of_sizes(step: Any) -> bool:
    return isinstance(step, Operation) and step.operator.startswith(("python.", "sym_"))


def _parts_named(item: Item, names: tuple[str, ...]) -> dict[str, str]:
    """Return the names that a statement gives the parts of what it takes apart."""
    step = item.step
    if len(item.targets) == len(names):
        return {ssa: names[at] for at, ssa in item.targets if at < len(names)}
    dim = dict(step.arguments).get("dim")
    if step.operator == "sym_size" and isinstance(dim, int) and dim < len(names):
        return {step.result: names[dim]}
    return {}


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
            # Of several values the last is computed last.
            names = names[-1:] if isinstance(node.value, ast.Tuple) else names
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


def names_of_sizes(kind: type) -> dict[tuple[str, int], str]:
    """Return what a class calls the sizes of its arguments, by the argument and the dimension.

    Args:
        kind: the class, whose `forward` takes `x.shape` apart.
    """
    tree = _forward_of(kind)
    forward = next((n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)), None)
    if forward is None:
        return {}
    found: dict[tuple[str, int], str] = {}
    changed: set[str] = set()
    for node in ast.walk(forward):
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        target = node.targets[0]
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        of, dim = _shape_taken(node.value)
        for at, name in enumerate(names):
            if not isinstance(name, ast.Name):
                continue
            if of and of not in changed and (dim is None) == isinstance(target, ast.Tuple):
                found.setdefault((of, at if dim is None else dim), name.id)
            changed.add(name.id)
    return found


def _shape_taken(value: ast.expr) -> tuple[str, int | None]:
    """Return the variable whose shape, or a size of whose, an expression is."""
    match value:
        case ast.Attribute(value=ast.Name(id=name), attr="shape"):
            return name, None
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="size"), args=[]):
            return name, None
        case (
            ast.Subscript(
                value=ast.Attribute(value=ast.Name(id=name), attr="shape"),
                slice=ast.Constant(value=int(dim)),
            )
            | ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="size"),
                args=[ast.Constant(value=int(dim))],
            )
        ):
            return name, dim
    return "", None


def _forward_of(kind: type) -> ast.AST:
    """Return the source of the class that has the `forward`; nothing where it cannot be read."""
    owner = next((base for base in kind.__mro__ if "forward" in vars(base)), kind)
    try:
        tree = _parsed(textwrap.dedent(inspect.getsource(vars(owner).get("forward", owner))))
    except (OSError, TypeError):
        tree = None
    return ast.Module([], []) if tree is None else tree


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
