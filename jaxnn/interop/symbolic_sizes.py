"""Sizes that may differ at each call of an exported program, and what it asks of them."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import jax
from flax import nnx
from jax.export import SymbolicScope, symbolic_shape

from .importer.guards import evaluated
from .importer.imported import Imported, programs_of
from .importer.undecided import Undecided

Dynamic = Literal["batch", False] | Mapping[str, str | Mapping[int, str]]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Sizes:
    """The shapes of a call's arrays, some of their sizes symbols.

    Attributes:
        names: what each array is called.
        shapes: in the example.
        specs: as `jax.export.symbolic_shape` takes them; None for the example's own.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    specs: tuple[str | None, ...]

    @staticmethod
    def of(
        dynamic: Dynamic, module: nnx.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Sizes:
        """Return the sizes of a call of a module.

        Raises:
            ValueError: if `dynamic` names no array of the call, or does not fit its shape.
            TypeError: if it is something else.
        """
        arrays = dict(_named_arrays(module, args, kwargs))
        shapes = {name: tuple(map(int, array.shape)) for name, array in arrays.items()}
        specs = _specs(dynamic, shapes)
        wanted = tuple(specs.get(name) for name in shapes)
        return Sizes(tuple(shapes), tuple(shapes.values()), wanted)

    def symbolic(self, constraints: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return the shapes, with symbols of which the constraints are known.

        Raises:
            ValueError: if a spec is no shape, or does not fit the example's.
        """
        scope = SymbolicScope(constraints)
        found: list[tuple[Any, ...]] = []
        for name, shape, spec in zip(self.names, self.shapes, self.specs, strict=True):
            if spec is None:
                found.append(shape)
                continue
            try:
                symbols = symbolic_shape(spec, like=shape, scope=scope)
            except ValueError as error:
                raise ValueError(f"export: `dynamic` of {name}: {error}") from error
            if len(symbols) != len(shape):
                raise ValueError(
                    f"export: `dynamic` of {name} is {spec!r}, but its shape is {shape}; say all "
                    'sizes, "_" for one that stays as it is, or "..." for all that follow'
                )
            found.append(tuple(symbols))
        return found

    def in_the_example(self) -> dict[str, int]:
        """Return the size that each symbol has in the example.

        Raises:
            ValueError: if a symbol has two sizes, or none gives its own.
        """
        found: dict[str, int] = {}
        for shape, symbols in zip(self.shapes, self.symbolic(()), strict=True):
            for size, symbol in zip(shape, map(str, symbols), strict=True):
                names = set(re.findall(r"[A-Za-z_]\w*", symbol)) - _FUNCTIONS
                if len(names) != 1:  # a number, or what two symbols make
                    continue
                (name,) = names
                value = _solved(symbol, name, size)
                if value is None:
                    raise ValueError(f"export: {symbol} is {size} in the example for no {name}")
                if found.setdefault(name, value) != value:
                    raise ValueError(
                        f"export: the symbol {name} is {found[name]} and {value} in the example; "
                        "sizes that differ need symbols of their own"
                    )
        return found


# Of what JAX writes symbolic sizes with.
_FUNCTIONS = {"floordiv", "mod", "max", "min"}


def _solved(expression: str, name: str, size: int) -> int | None:
    """Return what a symbol is, where an expression of it is a size: 2*h is 8 where h is 4."""
    if expression == name:
        return size
    text = _as_python(expression)
    return next((n for n in range(1, size + 1) if evaluated(text, {name: n}) == size), None)


def _named_arrays(
    module: nnx.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of a call, in the order of its leaves, by argument and place in it."""
    positions = _positional_names(module, len(args))
    for path, leaf in jax.tree_util.tree_flatten_with_path((args, dict(kwargs)))[0]:
        if is_array(leaf):
            kind, which, *rest = path
            name = which.key if kind.idx else positions[which.idx]  # kwargs, args
            yield f"{name}{jax.tree_util.keystr(tuple(rest))}", leaf


def is_array(leaf: Any) -> bool:
    """Whether a leaf of a call's arguments is an array, and not a constant of the program."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def _positional_names(module: nnx.Module, count: int) -> list[str]:
    if isinstance(module, Imported):
        programs = programs_of(module, training=False)
        inputs = () if isinstance(programs, str) or not programs else programs[0].body.inputs
        names = [item.name for item in inputs if not item.keyword_only and not item.variadic]
        rest = next((item.name for item in inputs if item.variadic == "*"), "args")
    else:
        kind: Any = type(module)
        _, *parameters = inspect.signature(kind.__call__).parameters.values()
        names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, _EITHER)]
        rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "args")
    return [*names, *(f"{rest}[{i}]" for i in range(max(0, count - len(names))))][:count]


_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD


def _specs(dynamic: Dynamic, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    if dynamic is False:
        return {}
    if dynamic == "batch":
        batches = [shape[0] for shape in shapes.values() if shape]
        if not batches:
            raise ValueError(
                "export: no array among the arguments has a leading dimension that could be the "
                "batch; pass dynamic=False"
            )
        leading = {name: shape[0] for name, shape in shapes.items() if shape}
        return {name: "batch, ..." for name, size in leading.items() if size == batches[0]}
    if not isinstance(dynamic, Mapping):
        raise TypeError(
            'export: `dynamic` must be "batch", False, or a mapping from the names of arrays to '
            f'shapes, such as {{"input_ids": "(b, s)"}}, got {dynamic!r}'
        )
    if unknown := [name for name in dynamic if name not in shapes]:
        raise ValueError(
            f"export: `dynamic` has {unknown}, which no array of the example is called; they are "
            + ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        )
    return {name: _spec(name, wanted, shapes[name]) for name, wanted in dynamic.items()}


def _spec(name: str, wanted: str | Mapping[int, str], shape: tuple[int, ...]) -> str:
    if isinstance(wanted, str):
        return wanted
    if beyond := [dim for dim in wanted if not -len(shape) <= dim < len(shape)]:
        raise ValueError(
            f"export: `dynamic` of {name} has the dimensions {beyond}, but its shape is {shape}"
        )
    by_place = {dim % len(shape): symbol for dim, symbol in wanted.items()}
    return ", ".join(by_place.get(dim, "_") for dim in range(len(shape)))


# --- what a program asks of them ----------------------------------------------------------------


def with_what_is_asked(
    sizes: Sizes, constraints: Sequence[str], trace: Callable[[list[tuple[Any, ...]]], Result]
) -> tuple[Result, list[str]]:
    """Trace with symbolic sizes, and state among their constraints what the program asks of them.

    Where the program's way depends on what is not known of a size, a condition that it was imported
    under or a comparison of a layer, the way of the example is taken, and its condition is stated:
    the exported program refuses sizes for which it does not hold.

    Args:
        sizes: the shapes with their symbols.
        constraints: what is stated beforehand.
        trace: the function of shapes that traces.

    Returns:
        What the trace gives, and all constraints.

    Raises:
        ValueError: if a condition is none that can be stated, with the line that asks for it.
    """
    stated, example = list(constraints), sizes.in_the_example()
    while True:
        shapes = sizes.symbolic(stated)
        try:
            return trace(shapes), stated
        except (TypeError, ValueError) as error:
            if any(sizes.specs):
                error.add_note(_MULTIPLES)
            raise
        except Undecided as question:
            asked = _Asked(question.text, question.sizes, question.line)
            reason: Exception = question
        except jax.errors.InconclusiveDimensionOperation as error:
            found = _COMPARISON.search(str(error))
            if found is None:
                raise
            symbols = {str(size): size for shape in shapes for size in shape}
            asked = _Asked(_as_python(" ".join(found.groups())), symbols, _last_note(error))
            reason = error
        new = _constraints(asked, example, reason)
        if not new or set(new) <= set(stated):
            raise _refusal(asked, "what JAX knows of the sizes does not decide it") from reason
        try:
            sizes.symbolic([*stated, *new])
        except (ValueError, NotImplementedError) as error:
            raise _refusal(asked, f"JAX does not take {new} ({error})") from error
        stated += [constraint for constraint in new if constraint not in stated]


_MULTIPLES = (
    "with symbols for sizes: what is to be a multiple of a number is best written so, as in "
    "(b, _, 8*h, 8*w), since little is known of a symbol that is divided"
)
# How JAX says which comparison it cannot decide.
_COMPARISON = re.compile(r"comparison '([^']*)' (>=|<=|>|<) '([^']*)' is inconclusive")


@dataclass(frozen=True)
class _Asked:
    """A condition on sizes that a trace came upon.

    Attributes:
        text: as Python.
        sizes: the symbolic sizes, by how they stand in it.
        line: the line of the model that asks for it.
        example: what they are in the example.
    """

    text: str
    sizes: Mapping[str, Any]
    line: str
    example: Mapping[str, int] = field(default_factory=dict)


def _as_python(text: str) -> str:
    return text.replace("^", "**")


def _last_note(error: Exception) -> str:
    notes = getattr(error, "__notes__", [])
    return notes[0] if notes else ""


def _refusal(asked: _Asked, why: str) -> ValueError:
    given = {name: str(size) for name, size in asked.sizes.items() if name in asked.text}
    told = ", ".join(f"{name} is {size}" for name, size in given.items() if name != size)
    return ValueError(
        f"export: the program asks whether {asked.text}{f' ({told})' if told else ''}, at "
        f"{asked.line or 'no line of its own'}: {why}. Leave the size out of `dynamic`, so that it "
        "is the example's, or state what holds in `constraints` (--constraint)"
    )


def _constraints(asked: _Asked, example: Mapping[str, int], reason: Exception) -> list[str]:
    """Return the constraints that say of a condition what it is in the example."""
    node = ast.parse(asked.text, mode="eval").body
    try:
        concrete = {
            name: size if isinstance(size, int) else evaluated(_as_python(str(size)), example)
            for name, size in asked.sizes.items()
        }
        asked = replace(asked, example={**example, **concrete})
        holds = bool(evaluated(asked.text, asked.example))
    except NotImplementedError as error:
        raise _refusal(asked, f"what it is in the example is not known ({error})") from error
    found = list(_stated(node, asked, holds))
    for constraint in found:
        pinned = re.fullmatch(r"(\w+) == (\d+)", constraint)
        if pinned is not None:
            raise _refusal(
                asked,
                f"{pinned[1]} would be {pinned[2]} at every call; give what is equal the same "
                "symbol",
            ) from reason
    return found


def _stated(node: ast.expr, asked: _Asked, holds: bool) -> Iterator[str]:
    """Yield what states that a condition holds, or that it does not."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield from _stated(node.operand, asked, not holds)
    elif isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And) == holds:
        for part in node.values:
            yield from _stated(part, asked, holds)
    elif isinstance(node, ast.BoolOp):  # of which one part decides
        deciding = (part for part in node.values if _in_example(part, asked) == holds)
        yield from _stated(next(deciding), asked, holds)
    elif isinstance(node, ast.Compare) and (holds or len(node.ops) == 1):
        if holds and (order := _as_order(node)) is not None:
            node = order
        terms = [_value(term, asked) for term in (node.left, *node.comparators)]
        for op, one, other in zip(node.ops, terms, terms[1:], strict=False):
            kind = type(op) if holds else _OPPOSITE.get(type(op))
            if kind not in _OPPOSITE:
                raise _refusal(asked, f"{ast.unparse(node)} cannot be stated to JAX")
            yield from _compared(kind, one, other, asked)
    else:
        raise _refusal(asked, f"{ast.unparse(node)} cannot be stated to JAX")


def _in_example(node: ast.expr, asked: _Asked) -> bool:
    return bool(evaluated(ast.unparse(node), asked.example))


def _as_order(node: ast.Compare) -> ast.Compare | None:
    """Return a <= b for a == min(a, b), and a >= b for the maximum."""
    if len(node.ops) > 1 or not isinstance(node.ops[0], ast.Eq):
        return None
    for one, other in ((node.left, node.comparators[0]), (node.comparators[0], node.left)):
        kind = _ORDERS.get(ast.unparse(other.func).lower()) if isinstance(other, ast.Call) else None
        if kind is not None and isinstance(other, ast.Call) and len(other.args) == 2:
            texts = [ast.unparse(arg) for arg in other.args]
            if ast.unparse(one) in texts:
                bound = other.args[1 - texts.index(ast.unparse(one))]
                return ast.Compare(one, [kind()], [bound])
    return None


_ORDERS: dict[str, type[ast.cmpop]] = {"min": ast.LtE, "max": ast.GtE}
_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
}  # fmt: skip


def _value(node: ast.expr, asked: _Asked) -> Any:
    try:
        value = evaluated(ast.unparse(node), asked.sizes)
    except Exception as error:
        raise _refusal(asked, f"{ast.unparse(node)} cannot be stated to JAX ({error})") from error
    if isinstance(value, (float, jax.Array)):
        raise _refusal(asked, f"{ast.unparse(node)} is no whole number, which JAX asks for")
    return value


def _compared(kind: type[ast.cmpop] | None, one: Any, other: Any, asked: _Asked) -> Iterator[str]:
    if kind is ast.Gt or kind is ast.GtE:
        yield f"{one} >= {other + 1 if kind is ast.Gt else other}"
    elif kind is ast.Lt or kind is ast.LtE:
        yield f"{one + 1 if kind is ast.Lt else one} <= {other}"
    elif kind is ast.Eq:
        yield from _equal(one, other)
    elif _is_known(lambda: one >= other) or _is_more_than_one(one, other, asked):
        yield f"{one} >= {other + 1}"
    elif _is_known(lambda: one <= other):
        yield f"{one + 1} <= {other}"
    else:
        raise _refusal(asked, f"{one} != {other} cannot be stated to JAX")


def _is_more_than_one(one: Any, other: Any, asked: _Asked) -> bool:
    """Whether what is asked is whether a number is not 0 or 1, and in the example it is more."""
    if isinstance(one, int) or other not in (0, 1):
        return False
    return bool(evaluated(_as_python(str(one)), asked.example) > other)


def _equal(one: Any, other: Any) -> Iterator[str]:
    """Yield an equality: JAX puts the right side for the left, which must be of one term."""
    for left, right in ((one, other), (other, one)):
        is_one_term = not isinstance(left, int) and not re.search(r" [+-] ", str(left))
        if is_one_term and not re.search(rf"\b{re.escape(str(left))}\b", str(right)):
            yield f"{left} == {right}"
            return
    yield from (f"{one} >= {other}", f"{one} <= {other}")


def _is_known(comparison: Callable[[], Any]) -> bool:
    try:
        return bool(comparison())
    except jax.errors.InconclusiveDimensionOperation:
        return False
