"""Pieces of Python source, put together with the brackets that they need."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

_LARGEST = float(np.finfo(np.float32).max)

# What a variable must not be called, beside keywords: names that the file uses.
RESERVED = {
    "F", "aten", "bool", "complex", "float", "getattr", "int", "jax", "jaxnn", "jnp", "max", "min",
    "nnx", "ported", "rngs", "self", "l", "O", "I", "namedtuple", "OrderedDict", "Record", "range",
    "tuple", "list", "dict", "abs", "all", "any", "pow", "round", "sum",
}  # fmt: skip

# How tightly an expression holds together.
TERNARY, COMPARE, OR, XOR, AND, SHIFT, SUM, PRODUCT, SIGN, POWER, ATOM = range(11)


@dataclass(frozen=True)
class Code:
    """An expression.

    Attributes:
        text: its source.
        level: how tightly it holds together.
        items: which items of the program are written in it, by number.
        ordered: whether it may not change places with another such expression.
        depth: how many operations are written into one another.
        index: where it is a subscript, what it is of, and the entries with whether each keeps a
            dimension.
    """

    text: str
    level: int = ATOM
    items: frozenset[int] = frozenset()
    ordered: bool = False
    depth: int = 0
    index: tuple[Code, tuple[tuple[str, bool], ...]] | None = None

    def at(self, level: int) -> str:
        """Return the source as a part of an expression of that level."""
        return self.text if self.level >= level else f"({self.text})"


def joined(text: str, parts: Iterable[Code], level: int = ATOM) -> Code:
    """Return an expression that is made of others."""
    parts = list(parts)
    return Code(
        text,
        level,
        frozenset().union(*(part.items for part in parts)),
        any(part.ordered for part in parts),
        1 + max((part.depth for part in parts), default=-1) if parts else 0,
    )


def call(function: str, *args: Code, **options: Code) -> Code:
    """Return a call.

    >>> call("jnp.stack", Code("x"), axis=Code("1")).text
    'jnp.stack(x, axis=1)'
    """
    return joined(f"{function}({_arguments(args, options)})", [*args, *options.values()])


def method(of: Code, name: str, *args: Code, **options: Code) -> Code:
    """Return a call of a method."""
    text = f"{of.at(ATOM)}.{name}({_arguments(args, options)})"
    return joined(text, [of, *args, *options.values()])


def _arguments(args: tuple[Code, ...], options: dict[str, Code]) -> str:
    named = [f"{name}={value.text}" for name, value in options.items() if is_name(name)]
    others = [f'"{name}": {value.text}' for name, value in options.items() if not is_name(name)]
    if others:
        named.append(f"**{{{', '.join(others)}}}")
    return ", ".join([*(arg.text for arg in args), *named])


def is_name(text: str) -> bool:
    """Whether the text can be an argument's or an attribute's name."""
    return text.isidentifier() and not keyword.iskeyword(text)


def binary(sign: str, level: int, left: Code, right: Code) -> Code:
    """Return an operation of two expressions.

    >>> binary("*", PRODUCT, binary("+", SUM, Code("a"), Code("b")), Code("c")).text
    '(a + b) * c'
    """
    space = " "
    if sign == "**":
        left_text, right_text = left.at(ATOM), right.at(SIGN)
        space = "" if _is_simple(left.text) and _is_simple(right.text) else " "
    else:
        left_text, right_text = left.at(level), right.at(level + 1)
    return joined(f"{left_text}{space}{sign}{space}{right_text}", [left, right], level)


def _is_simple(text: str) -> bool:
    return bool(re.fullmatch(r"-?[\d.]+(e-?\d+)?|[A-Za-z_][\w.]*", text))


def prefix(sign: str, of: Code) -> Code:
    """Return a sign before an expression."""
    return joined(f"{sign}{of.at(SIGN)}", [of], SIGN)


def subscript(of: Code, items: tuple[tuple[str, bool], ...], parts: Iterable[Code] = ()) -> Code:
    """Return an expression with indices, each with whether it keeps a dimension."""
    shown = list(items)
    while shown and shown[-1] == (":", True):
        shown.pop()
    if not shown:
        return of
    text = ", ".join(item for item, _ in shown)
    # A variable is indexed as its array is.
    base = of.at(ATOM).removesuffix("[...]")
    return replace(joined(f"{base}[{text}]", [of, *parts]), index=(of, items))


def slice_text(start: Code | None, stop: Code | None, step: int = 1) -> str:
    """Return a slice, with the spaces that ruff wants.

    >>> slice_text(None, Code("x.shape[0]")), slice_text(Code("1"), Code("-1"), 2)
    (': x.shape[0]', '1:-1:2')
    """
    bounds = ["" if bound is None else bound.text for bound in (start, stop)]
    if step != 1:
        bounds.append(str(step))
    if all(re.fullmatch(r"-?\w*", bound) for bound in bounds):
        return ":".join(bounds)
    return " : ".join(bounds).strip() if bounds[-1] else f"{bounds[0]} :"


def constant(value: Any) -> Code:
    """Return a number, a string or None as source.

    >>> constant(-0.5).text, constant(float("-inf")).text, constant("a").text
    ('-0.5', '-jnp.inf', '"a"')
    """
    if isinstance(value, str):
        quoted = repr(value)
        return Code(quoted if '"' in value else f'"{quoted[1:-1]}"')
    if isinstance(value, float) and not math.isfinite(value):
        name = "jnp.nan" if math.isnan(value) else "jnp.inf"
        return Code(f"-{name}", SIGN) if value < 0 else Code(name)
    if isinstance(value, float) and abs(value) == _LARGEST:
        return Code(f"jnp.finfo(jnp.float32).{'min' if value < 0 else 'max'}")
    text = repr(value).replace("e+", "e")
    return Code(text, SIGN if text.startswith("-") else ATOM)


_PYTHON_TYPES = {"int64": "int", "float64": "float", "bool": "bool", "complex128": "complex"}


def dtype(name: str) -> Code:
    """Return a dtype; those of Python stand for the widest that JAX's mode allows.

    >>> dtype("float32").text, dtype("int64").text
    ('jnp.float32', 'int')
    """
    return Code(_PYTHON_TYPES.get(name, f"jnp.{name}"))


def sequence(parts: list[Code], brackets: str = "()") -> Code:
    """Return a tuple or list."""
    comma = "," if len(parts) == 1 and brackets == "()" else ""
    text = ", ".join(part.text for part in parts)
    return replace(joined(f"{brackets[0]}{text}{comma}{brackets[1]}", parts), depth=_depth(parts))


def _depth(parts: list[Code]) -> int:
    return max((part.depth for part in parts), default=0)
