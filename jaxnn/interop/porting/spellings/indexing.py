"""Indices and slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..code import ATOM, Code, call, constant, joined, slice_text, subscript
from ._register import Operands, of_floats, same_dtype, spells

_ENTIRE = (":", True)


def _place(index: tuple[tuple[str, bool], ...], dim: int) -> int | None:
    """Return where the entry of a dimension of the result stands; None where it is none."""
    kept = -1
    for at, (_, keeps) in enumerate(index):
        kept += keeps
        if kept == dim and keeps:
            return at
    return len(index) + dim - kept - 1


def _indexed(
    operands: Operands, given: dict[str, Any], item: tuple[str, bool], parts: list[Code]
) -> Code | None:
    """Return an array with an entry in the place of a whole dimension, or before it."""
    kind, of = operands.kind(given["self"]), operands.code(given["self"])
    if kind is None or kind.dtype is None:
        return None
    is_new = item == ("None", True)
    dim = given.get("dim", 0) % (kind.ndim + is_new)
    base, index = of.index if of.index is not None else (of, ())
    at = _place(index, dim)
    if at is None:
        return None
    index = index + (_ENTIRE,) * (at + 1 - is_new - len(index))
    if not is_new and index[at] != _ENTIRE:
        base, index = of, (_ENTIRE,) * (dim + 1)
        at = dim
    after = index[at:] if is_new else index[at + 1 :]
    code = subscript(base, (*index[:at], item, *after), [of, *parts])
    return code


@spells("unsqueeze")
def _unsqueeze(operands: Operands, given: dict[str, Any]) -> Code | None:
    return _indexed(operands, given, ("None", True), [])


@spells("select")
def _select(operands: Operands, given: dict[str, Any]) -> Code | None:
    index = given["index"]
    if not isinstance(index, int):
        kind = operands.kind(index)
        if kind is None or kind.dtype is not None:
            return None
    code = operands.code(index)
    return _indexed(operands, given, (code.text, False), [code])


def _bounds(operands: Operands, given: Mapping[str, Any]) -> tuple[str, list[Code]] | None:
    bounds: list[Code | None] = []
    for name in ("start", "end"):
        bound = given.get(name)
        is_open = bound is None or (
            isinstance(bound, int) and (bound >= 2**31 or (name == "start" and bound == 0))
        )
        if is_open:
            bounds.append(None)
            continue
        kind = operands.kind(bound)
        if not isinstance(bound, int) and (kind is None or kind.dtype is not None):
            return None
        bounds.append(operands.code(bound))
    if not isinstance(given.get("step", 1), int):
        return None
    text = slice_text(bounds[0], bounds[1], given.get("step", 1))
    return text, [bound for bound in bounds if bound is not None]


@spells("slice")
def _slice(operands: Operands, given: dict[str, Any]) -> Code | None:
    bounds = _bounds(operands, given)
    return None if bounds is None else _indexed(operands, given, (bounds[0], True), bounds[1])


@spells("slice_scatter", "select_scatter")
def _scatter(operands: Operands, given: dict[str, Any]) -> Code | None:
    kind = operands.kind(given["self"])
    if kind is None or not same_dtype(operands, [given["self"], given["src"]]):
        return None
    if "index" in given:
        bounds: Any = (str(given["index"]), []) if isinstance(given["index"], int) else None
    else:
        bounds = _bounds(operands, given)
    if bounds is None:
        return None
    x, src = operands.code(given["self"]), operands.code(given["src"])
    items = [":"] * (given.get("dim", 0) % kind.ndim) + [bounds[0]]
    text = f"{x.at(ATOM)}.at[{', '.join(items)}].set({src.text})"
    return joined(text, [x, src, *bounds[1]])


@spells("index")
def _index(operands: Operands, given: dict[str, Any]) -> Code | None:
    items, parts = [], []
    for index in given["indices"]:
        kind = operands.kind(index)
        if index is not None and (kind is None or kind.is_bool):
            return None
        if index is not None:
            parts.append(operands.code(index))
        items.append(":" if index is None else parts[-1].text)
    while items and items[-1] == ":":
        items.pop()
    x = operands.code(given["self"])
    return joined(f"{x.at(ATOM)}[{', '.join(items)}]", [x, *parts])


@spells("embedding")
def _embedding(operands: Operands, given: dict[str, Any]) -> Code | None:
    padding = given.get("padding_idx", -1)
    if given.get("scale_grad_by_freq") or given.get("sparse"):
        return None
    named = {} if padding == -1 else {"padding_idx": constant(padding)}
    table, ids = operands.code(given["weight"]), operands.code(given["indices"])
    return call("F.embedding", ids, table, **named)


spells("zero")(of_floats("jnp.zeros_like"))
