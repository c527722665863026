"""The conditions on sizes that a captured program holds for, as data that needs no torch."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, reduce
from typing import TYPE_CHECKING, Any

import jax

from .undecided import Undecided

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Guard:
    """A condition on the sizes of a call's arrays.

    Attributes:
        text: a Python expression over `name.shape[dim]`.
        line: the line of the model that asks for it.
    """

    text: str
    line: str = field(default="", compare=False, repr=False)

    def holds(self, arrays: Mapping[str, Any]) -> bool:
        """Whether it holds for arrays of these names.

        Raises:
            Undecided: if a size is symbolic, and what is known of it does not decide.

        Example:
            >>> import jax.numpy as jnp
            >>> Guard("x.shape[0] % 2 == 0").holds({"x": jnp.ones(3)})
            False
        """
        sizes = {
            f"{name}.shape[{dim}]": size
            for name, array in arrays.items()
            for dim, size in enumerate(getattr(array, "shape", ()))
        }
        try:
            return bool(evaluated(self.text, sizes, {ast.Eq: _equal, ast.NotEq: _differ}))
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise Undecided(self.text, self.line, sizes, reason) from error


def _equal(one: Any, other: Any) -> bool:
    # Of symbolic sizes JAX says that they differ where it does not know; an order it must know.
    return bool(one == other) or not (one < other or one > other)


def _differ(one: Any, other: Any) -> bool:
    return not _equal(one, other)


def _max(*values: Any) -> Any:
    are_numbers = all(isinstance(value, (int, float)) for value in values)
    # The order of symbolic sizes need not be known.
    return max(values) if are_numbers else reduce(jax.core.max_dim, values)


def _min(*values: Any) -> Any:
    are_numbers = all(isinstance(value, (int, float)) for value in values)
    return min(values) if are_numbers else reduce(jax.core.min_dim, values)


_OPERATORS: dict[type[Any], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
    ast.Pow: operator.pow, ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "max": _max, "Max": _max, "min": _min, "Min": _min, "abs": abs, "int": int, "float": float,
    "math.floor": lambda value: int(value // 1), "math.ceil": lambda value: -int(-value // 1),
    "math.trunc": int, "round": round, "math.sqrt": lambda value: value**0.5,
    "floordiv": operator.floordiv, "mod": operator.mod,
}  # fmt: skip


def evaluated(
    text: str, sizes: Mapping[str, Any], compared: Mapping[type[Any], Callable[..., Any]] = {}
) -> Any:
    """Return the value of an expression over sizes.

    Args:
        text: arithmetic and comparisons over the names of `sizes`.
        sizes: numbers, or symbols that know arithmetic.
        compared: comparisons that are another function than Python's own.

    Raises:
        NotImplementedError: if it holds anything else.
    """
    operators = {**_OPERATORS, **compared}

    def value(node: Any) -> Any:
        written = ast.unparse(node)
        if written in sizes:
            return sizes[written]
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.BinOp):
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.UnaryOp):
            return _OPERATORS[type(node.op)](value(node.operand))
        if isinstance(node, ast.BoolOp):
            parts = (value(part) for part in node.values)
            return all(parts) if isinstance(node.op, ast.And) else any(parts)
        if isinstance(node, ast.Compare):
            terms = [value(node.left), *map(value, node.comparators)]
            found = [
                operators[type(op)](a, b)
                for op, a, b in zip(node.ops, terms, terms[1:], strict=False)
            ]
            return found[0] if len(found) == 1 else all(found)
        if isinstance(node, ast.IfExp):
            return value(node.body if value(node.test) else node.orelse)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _FUNCTIONS:
            return _FUNCTIONS[ast.unparse(node.func)](*map(value, node.args))
        raise NotImplementedError(f"{written} in the condition {text}")

    return value(_parsed(text))


@cache
def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def briefly(guard: Guard, limit: int = 160) -> str:
    """Return a condition for a message: of a long one the beginning."""
    return guard.text if len(guard.text) <= limit else f"{guard.text[:limit]} ..."


def is_of_fixed(guard: Guard) -> bool:
    """Whether a condition says of one size that it is a number."""
    return bool(re.fullmatch(r"[^ ]+\.shape\[\d+\] == \d+", guard.text))


def renamed(guards: Iterable[Guard], name: Callable[[str, str], str | None]) -> tuple[Guard, ...]:
    """Return the guards over other names, without those that have a size of no name.

    Args:
        guards: conditions over `flat[i].shape[dim]`.
        name: what a size is called, by i and dim.
    """
    found = []
    for guard in guards:
        pairs = re.findall(r"flat\[(\d+)\]\.shape\[(\d+)\]", guard.text)
        names = {pair: name(*pair) for pair in pairs}
        if all(names.values()):
            text = guard.text
            for (i, dim), new in names.items():
                text = text.replace(f"flat[{i}].shape[{dim}]", str(new))
            found.append(Guard(text, guard.line))
    return tuple(found)
