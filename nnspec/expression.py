"""The expression language of the specification: small, total and integer-minded.

Shapes, domains, conditions and bounds in a layer file are strings in this language. It is a
subset of Python's expression syntax, so that it reads without a manual and parses with
:mod:`ast`; ``spec/README.md`` writes the grammar out for other languages.

Every expression has a value: an unknown dimension is ``null``; arithmetic on ``null`` gives
``null``; an order comparison with ``null`` is false; ``//`` and ``%`` by zero give ``null``.
There are no loops but ``for`` over ``range``, and no recursion.

>>> evaluate("(L + 2*p - k) // s + 1", {"L": 5, "p": 0, "k": 2, "s": 2})
2
>>> evaluate("L // s", {"L": 5, "s": 0}) is None
True
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


class ExpressionError(ValueError):
    """The text is not an expression of the language, or names something unknown."""


@dataclass(frozen=True)
class Function:
    """A function that a layer file defines: ``{name: out, args: [L, i], is: "..."}``."""

    name: str
    arguments: tuple[str, ...]
    body: str


_CONSTANTS: dict[str, Any] = {"null": None, "true": True, "false": False, "inf": math.inf}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _power(base: float, exponent: float) -> float | None:
    if abs(base) > 1 and exponent * math.log2(abs(base)) > _LARGEST_POWER:
        raise ExpressionError(f"{base}**{exponent} is too large")
    value = base**exponent
    return None if isinstance(value, complex) else value


def _range(n: int | None) -> range:
    if n is not None and n > _LARGEST_RANGE:
        raise ExpressionError(f"range({n}) is too long")
    return range(n or 0)


# Nothing in a layer comes near; an evaluation that would not end is refused.
_LARGEST_POWER = 1024
_LARGEST_RANGE = 10_000

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_EQUALITY = (ast.Eq, ast.NotEq)

_LANGUAGE = (
    ast.Constant, ast.Name, ast.Load, ast.Store, ast.List, ast.Subscript, ast.Slice, ast.Call,
    ast.BinOp, ast.UnaryOp, ast.USub, ast.Not, ast.BoolOp, ast.And, ast.Or, ast.Compare, ast.In,
    ast.NotIn, ast.IfExp, ast.GeneratorExp, ast.ListComp, ast.comprehension,
    *_ARITHMETIC, *_COMPARISONS,
)  # fmt: skip


def ntuple(value: Any, n: int) -> list[Any]:
    """``n`` copies of a scalar; a list of length one is spread likewise; others stay."""
    if isinstance(value, list | tuple):
        return list(value) * n if len(value) == 1 else list(value)
    return [value] * n


def _product(values: Any) -> int | None:
    return None if values is None or None in values else math.prod(values)


def _of_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which of null gives null."""

    def apply(*values: Any) -> Any:
        numbers = values[0] if len(values) == 1 and isinstance(values[0], list) else values
        return None if None in numbers else function(*values)

    return apply


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": _of_numbers(abs),
    "all": all,
    "any": any,
    "float": _of_numbers(float),
    "int": _of_numbers(int),
    "is_int": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "is_list": lambda v: isinstance(v, list | tuple),
    "is_string": lambda v: isinstance(v, str),
    "len": lambda v: None if v is None else len(v),
    "list": list,
    "max": _of_numbers(max),
    "min": _of_numbers(min),
    "ntuple": ntuple,
    "pair": lambda v: ntuple(v, 2),
    "product": _product,
    "range": _range,
    "single": lambda v: ntuple(v, 1),
    "sqrt": _of_numbers(math.sqrt),
    "sum": lambda values: None if None in (values := list(values)) else sum(values),
    "triple": lambda v: ntuple(v, 3),
}


@lru_cache(maxsize=4096)
def _parse(text: str) -> ast.expr:
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ExpressionError(f"not an expression: {text!r} ({why})") from None
    for node in ast.walk(tree):
        problem = _foreign(node)
        if problem:
            raise ExpressionError(f"{problem} in {text!r}")
    return tree


def _foreign(node: ast.AST) -> str | None:
    """Why a node is not part of the language, or None."""
    if not isinstance(node, _LANGUAGE):
        return f"{type(node).__name__} is not part of the language"
    if isinstance(node, ast.Constant) and type(node.value) not in (int, float, str):
        return f"write null, true or false instead of {node.value!r}"
    if isinstance(node, ast.Call) and not isinstance(node.func, ast.Name):
        return "a call is NAME(values)"
    if isinstance(node, ast.Slice) and node.step is not None:
        return "a slice has no step"
    if isinstance(node, ast.GeneratorExp | ast.ListComp) and (
        len(node.generators) != 1 or not isinstance(node.generators[0].target, ast.Name)
    ):
        return "only one 'for NAME in ...' is part of the language"
    return None


def evaluate(
    text: str,
    names: Mapping[str, Any],
    functions: Mapping[str, Function | Callable[..., Any]] | None = None,
) -> Any:
    """The value of the expression ``text``, with ``names`` and the layer's own ``functions``.

    Raises:
      ExpressionError: for syntax outside the language and for unknown names, with the text.
    """
    try:
        return _Evaluator(names, functions or {}).visit(_parse(text))
    except (ExpressionError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ExpressionError(f"{error} in {text!r}") from None


def names_in(text: str) -> set[str]:
    """The free names of an expression, calls included."""
    tree = _parse(text)
    bound = {
        node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.comprehension) and isinstance(node.target, ast.Name)
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return used - bound - set(_CONSTANTS) - set(_FUNCTIONS)


class _Evaluator:
    def __init__(
        self, names: Mapping[str, Any], functions: Mapping[str, Function | Callable[..., Any]]
    ):
        self.names = names
        self.functions = functions

    def visit(self, node: ast.expr) -> Any:
        return getattr(self, f"_{type(node).__name__}")(node)

    def _Constant(self, node: ast.Constant) -> Any:
        return node.value

    def _Name(self, node: ast.Name) -> Any:
        if node.id in self.names:
            return self.names[node.id]
        if node.id in _CONSTANTS:
            return _CONSTANTS[node.id]
        raise ExpressionError(f"unknown name {node.id!r}")

    def _List(self, node: ast.List) -> list[Any]:
        return [self.visit(item) for item in node.elts]

    def _BinOp(self, node: ast.BinOp) -> Any:
        left, right = self.visit(node.left), self.visit(node.right)
        if left is None or right is None:
            return None
        joins = isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list)
        if not joins and not (_is_number(left) and _is_number(right)):
            raise ExpressionError(f"no arithmetic with {left!r} and {right!r}")
        try:
            return _ARITHMETIC[type(node.op)](left, right)
        except ZeroDivisionError:
            return None

    def _UnaryOp(self, node: ast.UnaryOp) -> Any:
        value = self.visit(node.operand)
        if isinstance(node.op, ast.Not):
            return not value
        return None if value is None else -value

    def _BoolOp(self, node: ast.BoolOp) -> Any:
        wanted = isinstance(node.op, ast.Or)
        value: Any = None
        for item in node.values:
            value = self.visit(item)
            if bool(value) is wanted:
                return value
        return value

    def _Compare(self, node: ast.Compare) -> bool:
        left = self.visit(node.left)
        for operation, right_node in zip(node.ops, node.comparators, strict=True):
            right = self.visit(right_node)
            if not self._holds(operation, left, right):
                return False
            left = right
        return True

    @staticmethod
    def _holds(operation: ast.cmpop, left: Any, right: Any) -> bool:
        if isinstance(operation, ast.In):
            return right is not None and left in right
        if isinstance(operation, ast.NotIn):
            return right is not None and left not in right
        if not isinstance(operation, _EQUALITY) and (left is None or right is None):
            return False
        return _COMPARISONS[type(operation)](left, right)

    def _IfExp(self, node: ast.IfExp) -> Any:
        return self.visit(node.body if self.visit(node.test) else node.orelse)

    def _Subscript(self, node: ast.Subscript) -> Any:
        value = self.visit(node.value)
        if isinstance(node.slice, ast.Slice):
            bounds = [
                None if part is None else self.visit(part)
                for part in (node.slice.lower, node.slice.upper)
            ]
            return None if value is None else value[bounds[0] : bounds[1]]
        index = self.visit(node.slice)
        if isinstance(value, Mapping):
            return value.get(index)
        if value is None or index is None or not -len(value) <= index < len(value):
            return None
        return value[index]

    def _GeneratorExp(self, node: ast.GeneratorExp) -> list[Any]:
        loop = node.generators[0]
        assert isinstance(loop.target, ast.Name)
        values = []
        for item in self.visit(loop.iter) or ():
            inner = _Evaluator({**self.names, loop.target.id: item}, self.functions)
            if all(inner.visit(condition) for condition in loop.ifs):
                values.append(inner.visit(node.elt))
        return values

    _ListComp = _GeneratorExp

    def _Call(self, node: ast.Call) -> Any:
        assert isinstance(node.func, ast.Name)
        arguments = [self.visit(item) for item in node.args]
        function = self.functions.get(node.func.id) or _FUNCTIONS.get(node.func.id)
        if function is None:
            raise ExpressionError(f"unknown function {node.func.id!r}")
        if isinstance(function, Function):
            if len(arguments) != len(function.arguments):
                raise ExpressionError(
                    f"{function.name} takes {len(function.arguments)} values, got {len(arguments)}"
                )
            # A function sees only functions defined before it, so that none can recur.
            earlier = {}
            for name, other in self.functions.items():
                if name == function.name:
                    break
                earlier[name] = other
            scope = {**self.names, **dict(zip(function.arguments, arguments, strict=True))}
            return _Evaluator(scope, earlier).visit(_parse(function.body))
        return function(*arguments)
