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

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
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


def ntuple(value: Any, n: int) -> list[Any]:
    """``n`` copies of a scalar; a list of length one is spread likewise; others stay."""
    if isinstance(value, list | tuple):
        return list(value) * n if len(value) == 1 else list(value)
    return [value] * n


def _product(values: Any) -> int | None:
    return None if values is None or None in values else math.prod(values)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "all": all,
    "any": any,
    "float": float,
    "int": int,
    "is_int": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "is_list": lambda v: isinstance(v, list | tuple),
    "is_string": lambda v: isinstance(v, str),
    "len": lambda v: None if v is None else len(v),
    "list": list,
    "max": max,
    "min": min,
    "ntuple": ntuple,
    "pair": lambda v: ntuple(v, 2),
    "product": _product,
    "range": lambda n: range(n or 0),
    "single": lambda v: ntuple(v, 1),
    "sqrt": math.sqrt,
    "sum": lambda values: None if None in (values := list(values)) else sum(values),
    "triple": lambda v: ntuple(v, 3),
}


@lru_cache(maxsize=4096)
def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise ExpressionError(f"not an expression: {text!r} ({error})") from None


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
    except ExpressionError as error:
        raise ExpressionError(f"{error} in {text!r}") from None
    except (TypeError, ValueError, OverflowError) as error:
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
        method = getattr(self, f"_{type(node).__name__}", None)
        if method is None:
            raise ExpressionError(f"{type(node).__name__} is not part of the language")
        return method(node)

    def _Constant(self, node: ast.Constant) -> Any:
        if isinstance(node.value, int | float | str):
            return node.value
        raise ExpressionError(f"write null, true or false instead of {node.value!r}")

    def _Name(self, node: ast.Name) -> Any:
        if node.id in self.names:
            return self.names[node.id]
        if node.id in _CONSTANTS:
            return _CONSTANTS[node.id]
        raise ExpressionError(f"unknown name {node.id!r}")

    def _List(self, node: ast.List) -> list[Any]:
        return [self.visit(item) for item in node.elts]

    def _BinOp(self, node: ast.BinOp) -> Any:
        apply = _ARITHMETIC.get(type(node.op))
        if apply is None:
            raise ExpressionError(f"operator {type(node.op).__name__} is not part of the language")
        left, right = self.visit(node.left), self.visit(node.right)
        if left is None or right is None:
            return None
        try:
            return apply(left, right)
        except ZeroDivisionError:
            return None

    def _UnaryOp(self, node: ast.UnaryOp) -> Any:
        value = self.visit(node.operand)
        if isinstance(node.op, ast.Not):
            return not value
        if isinstance(node.op, ast.USub):
            return None if value is None else -value
        raise ExpressionError(f"operator {type(node.op).__name__} is not part of the language")

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
        compare = _COMPARISONS.get(type(operation))
        if compare is None:
            raise ExpressionError(f"{type(operation).__name__} is not part of the language")
        if not isinstance(operation, _EQUALITY) and (left is None or right is None):
            return False
        return compare(left, right)

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
        if value is None or index is None or not -len(value) <= index < len(value):
            return None
        return value[index]

    def _GeneratorExp(self, node: ast.GeneratorExp) -> list[Any]:
        if len(node.generators) != 1 or not isinstance(node.generators[0].target, ast.Name):
            raise ExpressionError("only one 'for NAME in ...' is part of the language")
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
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise ExpressionError("a call is NAME(values)")
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
