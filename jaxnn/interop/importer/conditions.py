"""The conditions on sizes that the exporter finds: which of them are the model's, and where."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .guards import Guard, evaluated
from .lines import is_asked, line_of_the_model
from .patching import replaced

if TYPE_CHECKING:
    import torch

_SIZE = re.compile(r"L\['flat'\]\[(\d+)\]\.size\(\)\[(\d+)\]")


@dataclass(frozen=True)
class Origin:
    """Where a condition comes from.

    Attributes:
        line: the line of the model.
        is_asked: whether the model's own code or a layer's asks for it, not a kernel's.
    """

    line: str = ""
    is_asked: bool = False


@contextmanager
def noted_origins(origins: dict[str, Origin]) -> Iterator[None]:
    """Note where the exporter decides each condition, by its text, while in this context."""
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    log: Any = ShapeEnv._log_guard

    def noted(self: Any, prefix: str, guard: Any, *rest: Any, **options: Any) -> Any:
        origins.setdefault(str(guard), Origin(line_of_the_model(), is_asked()))
        return log(self, prefix, guard, *rest, **options)

    with replaced(ShapeEnv, "_log_guard", noted):
        yield


@contextmanager
def choices_unnoted() -> Iterator[None]:
    """Let kernels choose their way by a size without a condition on it, while in this context.

    How an operand is spread, and whether memory is contiguous, is asked of each array: what it
    computes is the same. A condition noted for that would answer the model's own questions too, or
    keep a size of one out.
    """
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    evaluate: Any = ShapeEnv.evaluate_expr

    def evaluated(self: Any, expression: Any, *args: Any, **options: Any) -> Any:
        if _is_choice(expression) and not is_asked():
            found = expression.xreplace(self.backed_var_to_val)
            if not found.free_symbols and _is_of_more(expression, bool(found)):
                return found
        return evaluate(self, expression, *args, **options)

    with replaced(ShapeEnv, "evaluate_expr", evaluated):
        yield


def _is_choice(condition: Any) -> bool:
    """Whether a condition tells 0 or 1 from other sizes."""
    if not getattr(condition, "is_Relational", False):
        return False
    return any(
        side.is_Integer and int(side) in (0, 1, 2) for side in (condition.lhs, condition.rhs)
    )


def _is_of_more(condition: Any, holds: bool) -> bool:
    """Whether the answer is that of sizes which are neither 0 nor 1."""
    import sympy

    size, number = condition.lhs, condition.rhs
    kind = type(condition)
    if size.is_Integer:
        size, number = number, size
        kind = {sympy.Lt: sympy.Gt, sympy.Gt: sympy.Lt, sympy.Le: sympy.Ge, sympy.Ge: sympy.Le}.get(
            kind, kind
        )
    return (kind, int(number), holds) in {
        (sympy.Eq, 0, False), (sympy.Eq, 1, False), (sympy.Ne, 0, True), (sympy.Ne, 1, True),
        (sympy.Gt, 1, True), (sympy.Ge, 2, True), (sympy.Le, 1, False), (sympy.Lt, 2, False),
    }  # fmt: skip


def guards_of(program: torch.export.ExportedProgram, origins: Mapping[str, Origin]) -> list[Guard]:
    """Return the conditions that a program was captured under, over `flat[i].shape[dim]`.

    Those that follow from others are left out.
    """
    from torch.fx.experimental.symbolic_shapes import ShapeGuardPythonPrinter

    environment = _shape_environment(program)
    if environment is None:
        return []
    sources = environment.var_to_sources
    printer = ShapeGuardPythonPrinter(sources, lambda source: source.name, sources)
    found: dict[str, Guard] = {}
    for guard in environment.guards:
        if not guard.expr.free_symbols <= set(sources):
            continue
        origin = origins.get(str(guard.expr), Origin())
        known = _simplified(guard.expr, environment)
        if not known.free_symbols:
            known = guard.expr  # said of a size that is fixed, for the line
            if not known.is_Equality or len(known.free_symbols) > 1:
                continue
        elif _holds_for_all(known, environment):
            continue
        text = _SIZE.sub(r"flat[\1].shape[\2]", printer.doprint(known))
        if "L[" not in text:  # strides and parameters do not change
            found.setdefault(text, Guard(text, origin.line))
    for bound in _bounds(environment):
        below = {bound.size: bound.least - 1}
        if not any(_excludes(guard, below) for guard in found.values()):
            found[bound.text] = Guard(bound.text)
    return _without_consequences(list(found.values()))


def fixed_size(size: Any) -> int | None:
    """Return the number that a size is fixed to, None for what may differ."""
    import torch

    if isinstance(size, torch.SymInt):
        expression = size.node.expr
        return int(expression) if expression.is_Integer else None
    return size if isinstance(size, int) else None


def _simplified(condition: Any, environment: Any) -> Any:
    """Return a condition with the numbers of fixed sizes, and what is known to be least."""
    import sympy

    numbers = {
        symbol: found
        for symbol in condition.free_symbols
        if (found := environment.replace(symbol)).is_Integer
    }
    condition = condition.xreplace(numbers)
    if (
        len(condition.free_symbols) == 1
        and condition.is_Relational
        and not condition.atoms(sympy.Function)
    ):
        return condition

    def chosen(extreme: Any) -> Any:
        is_least = type(extreme).__name__ == "Min"
        for one in extreme.args:
            below = [_range(one - other, environment) for other in extreme.args if other != one]
            if all(r.upper <= 0 if is_least else r.lower >= 0 for r in below):
                return one
        return extreme

    def is_extreme(part: Any) -> bool:
        return type(part).__name__ in ("Min", "Max")

    try:
        return condition.replace(is_extreme, chosen)
    except Exception:  # a function whose bounds are not known
        return condition


def _range(expression: Any, environment: Any) -> Any:
    """Return the bounds of an expression over sizes."""
    from torch.utils._sympy.value_ranges import ValueRanges, bound_sympy, int_oo

    def of(symbol: Any) -> Any:
        return environment.var_to_range.get(symbol, ValueRanges(0, int_oo))

    return bound_sympy(expression, {symbol: of(symbol) for symbol in expression.free_symbols})


def _holds_for_all(condition: Any, environment: Any) -> bool:
    """Whether a condition holds for all sizes that are possible at all.

    What is possible of one size follows from the conditions on it alone, so these do not count for
    themselves.
    """
    import sympy
    from torch.utils._sympy.value_ranges import ValueRanges, bound_sympy, int_oo

    if isinstance(condition, (sympy.And, sympy.Or)):
        parts = [_holds_for_all(part, environment) for part in condition.args]
        return all(parts) if isinstance(condition, sympy.And) else any(parts)
    kind = type(condition)
    if kind not in (sympy.Gt, sympy.Ge, sympy.Lt, sympy.Le, sympy.Ne):
        return False
    symbols = condition.free_symbols
    try:
        difference = condition.lhs - condition.rhs
        if len(symbols) == 1:
            found = bound_sympy(difference, dict.fromkeys(symbols, ValueRanges(0, int_oo)))
        else:
            found = _range(difference, environment)
    except Exception:  # a function whose bounds are not known
        return False
    holds = {
        sympy.Ne: found.lower > 0 or found.upper < 0, sympy.Gt: found.lower > 0,
        sympy.Ge: found.lower >= 0, sympy.Lt: found.upper < 0, sympy.Le: found.upper <= 0,
    }  # fmt: skip
    return bool(holds[kind])


def _shape_environment(program: torch.export.ExportedProgram) -> Any:
    for node in program.graph.nodes:
        mode = getattr(node.meta.get("val"), "fake_mode", None)
        if mode is not None and mode.shape_env is not None:
            return mode.shape_env
    return None


@dataclass(frozen=True)
class _Bound:
    """The least that the exporter takes a size to be."""

    size: str
    least: int

    @property
    def text(self) -> str:
        return f"{self.size} >= {self.least}"


def _bounds(environment: Any) -> Iterator[_Bound]:
    """Yield the least that the exporter takes each size to be, where that is more than 1."""
    for symbol, sources in environment.var_to_sources.items():
        bounds = environment.var_to_range.get(symbol)
        name = _SIZE.fullmatch(sources[0].name) if sources else None
        if name is None or bounds is None or environment.replace(symbol).is_Integer:
            continue
        if bounds.lower.is_Integer and bounds.lower > 1:
            yield _Bound(f"flat[{name[1]}].shape[{name[2]}]", int(bounds.lower))


def _excludes(guard: Guard, sizes: Mapping[str, int]) -> bool:
    """Whether a condition on these sizes alone does not hold."""
    try:
        return not evaluated(guard.text, sizes)
    except NotImplementedError:  # of other sizes
        return False


def _without_consequences(guards: list[Guard]) -> list[Guard]:
    """Return the guards without those that hold whenever the sizes said to be equal are equal."""
    import sympy

    equality = re.compile(r"(flat\[\d+\]\.shape\[\d+\]) == (flat\[\d+\]\.shape\[\d+\])")
    first: dict[str, str] = {}

    def root(name: str) -> str:
        while name in first:
            name = first[name]
        return name

    kept = []
    for guard in guards:
        pair = equality.fullmatch(guard.text)
        if pair is not None:
            kept.append(guard)
            if root(pair[1]) != root(pair[2]):
                first[root(pair[2])] = root(pair[1])
    symbols: dict[str, Any] = {}
    for guard in guards:
        for name in re.findall(r"flat\[\d+\]\.shape\[\d+\]", guard.text):
            symbols[name] = sympy.Symbol(root(name), nonnegative=True, integer=True)
    seen = set()
    for guard in guards:
        if guard in kept:
            continue
        try:
            known = evaluated(guard.text, symbols, {ast.Eq: sympy.Eq, ast.NotEq: sympy.Ne})
        except Exception:
            known = guard.text  # undecided
        if known not in (True, sympy.true) and str(known) not in seen:
            seen.add(str(known))
            kept.append(guard)
    return kept
