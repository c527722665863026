"""The conditions on sizes of a program, as one would write them."""

from __future__ import annotations

import ast
import itertools
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

from ..importer.guards import Guard, is_of_fixed

_SIZE = re.compile(r"\w+\.shape\[\d+\]")
_EQUAL = re.compile(r"(\w+\.shape\[\d+\]) == (\w+\.shape\[\d+\])")
# A bound of one size from below.
_BOUND = re.compile(r"(\w+\.shape\[\d+\]) (>=|>) (\d+)")


def conditions_of(guards: Iterable[Guard]) -> list[Guard]:
    """Return conditions, each once, without what the arrays' shapes say.

    >>> halves = Guard("x.shape[1] // 2 == x.shape[1] + (-1)*(x.shape[1] // 2)")
    >>> fixed, both = Guard("(4*x.shape[0]) == 12"), Guard("x.shape[2] > 1 and x.shape[1] >= 0")
    >>> [guard.text for guard in conditions_of([halves, fixed, both])]
    ['x.shape[1] % 2 == 0', 'x.shape[2] >= 2']
    """
    found: dict[str, Guard] = {}
    least: dict[str, int] = {}
    for guard in guards:
        for part in _parts(guard.text):
            text = as_written(part)
            bound = _BOUND.fullmatch(text)
            if bound is not None:
                number = int(bound[3]) + (bound[2] == ">")
                if number <= least.get(bound[1], 0):
                    continue
                found.pop(f"{bound[1]} >= {least.get(bound[1])}", None)
                least[bound[1]] = number
                text = f"{bound[1]} >= {number}"
            if text != "True":
                found.setdefault(text, replace(guard, text=text))
    kept = [guard for guard in found.values() if not is_of_fixed(guard)]
    return _without_weaker(_without_consequences(kept))


def _without_consequences(guards: list[Guard]) -> list[Guard]:
    """Return conditions without those that are another one where sizes said to be equal are."""
    first: dict[str, str] = {}
    for guard in guards:
        pair = _EQUAL.fullmatch(guard.text)
        if pair is not None:
            first[pair[2]] = first.get(pair[1], pair[1])
    kept: dict[str, Guard] = {}
    for guard in guards:
        if _EQUAL.fullmatch(guard.text):
            kept.setdefault(guard.text, guard)
        else:
            text = _SIZE.sub(lambda size: first.get(size[0], size[0]), guard.text)
            kept.setdefault(as_written(text), guard)
    return list(kept.values())


def _parts(text: str) -> Iterator[str]:
    """Yield the conditions that are joined by "and"."""
    parsed = ast.parse(text, mode="eval").body
    if isinstance(parsed, ast.BoolOp) and isinstance(parsed.op, ast.And):
        yield from map(ast.unparse, parsed.values)
    else:
        yield ast.unparse(parsed)


@cache
def as_written(text: str) -> str:
    """Return a condition in the simplest form that is known of it.

    An equation has no common factors, `x == 2 * (x // 2)` becomes `x % 2 == 0`, and what is
    compared with a quotient is multiplied out.
    """
    names = list(dict.fromkeys(_SIZE.findall(text)))
    plain = ast.unparse(ast.parse(text, mode="eval"))
    if pair := _EQUAL.fullmatch(plain):
        return " == ".join(sorted(pair.groups()))
    try:
        of_one = [] if len(names) != 1 else ["True", f"{names[0]} >= 1"]
        simple = sorted(_simplified(plain, names), key=len)
        for found in [*of_one, *simple]:
            if len(found) <= len(plain) and _is_as_strict(found, plain, names):
                return found
    except Exception:  # a function that is not known here
        pass
    return plain


def _is_as_strict(new: str, old: str, names: list[str]) -> bool:
    """Whether two conditions say the same of many sizes; an empty array may be refused by one."""
    return all(
        was == is_now or (was and 0 in sizes)
        for sizes, (was, is_now) in _at_many_sizes([old, new], names)
    )


def _without_weaker(guards: list[Guard]) -> list[Guard]:
    """Return conditions without those that another one implies, of many sizes."""
    kept = list(guards)
    for weak in guards:
        names = _SIZE.findall(weak.text)
        for strong in kept:
            if strong is weak or set(_SIZE.findall(strong.text)) != set(names):
                continue
            try:
                found = list(_at_many_sizes([strong.text, weak.text], list(dict.fromkeys(names))))
            except NameError:  # a function that is not known here
                continue
            if any(holds for _, (holds, _) in found) and all(w for _, (holds, w) in found if holds):
                kept.remove(weak)
                break
    return kept


def _at_many_sizes(
    texts: list[str], names: list[str]
) -> Iterator[tuple[tuple[int, ...], list[bool]]]:
    """Yield whether conditions hold at small sizes, at those that they name, and at others."""
    numbers = {int(n) for text in texts for n in re.findall(r"(?<![\[\w])\d+(?!\w)", text)}
    near = {n + d for n in numbers for d in (-1, 0, 1) if n + d >= 0}
    known = sorted({*range(9), *near})
    draw = random.Random(0)
    tried: list[tuple[int, ...]] = []
    if len(names) == 1:
        tried += [(n,) for n in (*range(3000), *near, *(10**n for n in range(4, 10)))]
    else:
        if len(known) ** len(names) < 3000:
            tried += itertools.product(known, repeat=len(names))
        sizes = [*known, *(draw.randrange(4000) for _ in range(30))]
        tried += [tuple(draw.choice(sizes) for _ in names) for _ in range(1000)]
    functions = [_compiled(text, names) for text in texts]
    for at in tried:
        with suppress(ZeroDivisionError):
            yield at, [bool(function(*at)) for function in functions]


def _compiled(text: str, names: list[str]) -> Callable[..., Any]:
    """Return a condition as a function of its sizes."""
    text = _SIZE.sub(lambda size: f"size_{names.index(size[0])}", text)
    arguments = ", ".join(f"size_{at}" for at in range(len(names)))
    known = {"min": min, "max": max, "Min": min, "Max": max, "abs": abs, "int": int}
    made: Callable[..., Any] = eval(f"lambda {arguments}: {text}", {"__builtins__": {}, **known})
    return made


def _simplified(text: str, names: list[str]) -> list[str]:
    """Return forms that a condition may have."""
    import sympy

    symbols = {
        name: sympy.Symbol(f"size_{at}", integer=True, nonnegative=True)
        for at, name in enumerate(names)
    }
    parsed = ast.parse(text, mode="eval").body
    if not isinstance(parsed, ast.Compare) or len(parsed.ops) != 1:
        return []
    sign = _SIGNS[type(parsed.ops[0])]
    left, right = (_value(node, symbols) for node in (parsed.left, parsed.comparators[0]))
    difference = sympy.expand(_with_one(left) - _with_one(right))
    if not difference.free_symbols:
        return [str(bool(_holds(sign, difference)))]
    _, difference = difference.as_content_primitive()
    if sign == "==":
        factors = sympy.gcd_terms(difference).as_ordered_factors()
        kept = [factor for factor in factors if not (factor.is_Symbol or factor.is_Integer)]
        difference = sympy.expand(sympy.Mul(*kept)) if kept else difference
    forms = [
        _multiplied_out(sign, difference),
        _of_difference(sign, difference),
        f"{_printed(_in_one(left))} {sign} {_printed(_in_one(right))}",
    ]
    for name, symbol in symbols.items():
        forms = [re.sub(rf"\b{symbol}\b", name, form) for form in forms]
    return [ast.unparse(ast.parse(form, mode="eval")) for form in forms if form]


def _in_one(expression: Any) -> Any:
    """Return an expression with (a + n * k) // k for a // k + n."""
    import sympy

    def is_sum(part: Any) -> bool:
        return part.is_Add and part.args[0].is_Integer and _floors(part) == 1

    def together(part: Any) -> Any:
        number, *rest = part.args
        (floor,) = (term for term in rest if isinstance(term, sympy.floor))
        others = [term for term in rest if term is not floor]
        return sympy.Add(*others, sympy.floor(floor.args[0] + number, evaluate=False))

    return expression.replace(is_sum, together)


def _floors(total: Any) -> int:
    import sympy

    return sum(isinstance(term, sympy.floor) for term in total.args)


_SIGNS = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_TURNED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _holds(sign: str, difference: Any) -> Any:
    """Return what a difference of known sizes says."""
    return {
        "==": difference == 0, "!=": difference != 0, "<": difference < 0, "<=": difference <= 0,
        ">": difference > 0, ">=": difference >= 0,
    }[sign]  # fmt: skip


def _value(node: ast.expr, symbols: Mapping[str, Any]) -> Any:
    """Return an expression of sizes in sympy's terms."""
    import sympy

    written = ast.unparse(node)
    if written in symbols:
        return symbols[written]
    if isinstance(node, ast.Constant):
        return sympy.Integer(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, symbols)
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, symbols), _value(node.right, symbols)
        if isinstance(node.op, ast.FloorDiv):
            return sympy.floor(left / right)
        if isinstance(node.op, ast.Mod):
            return sympy.Mod(left, right)
        if isinstance(node.op, ast.Pow):
            return left**right
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
    if isinstance(node, ast.Call) and not node.keywords:
        function = {"min": sympy.Min, "max": sympy.Max}[ast.unparse(node.func).lower()]
        return function(*(_value(arg, symbols) for arg in node.args))
    raise NotImplementedError(written)


def _with_one(expression: Any) -> Any:
    """Return an expression with one of two in the place of their extreme, where it is always."""
    import sympy

    def chosen(extreme: Any) -> Any:
        for one in extreme.args:
            rest = [one - other for other in extreme.args if other != one]
            if isinstance(extreme, sympy.Min) and all(_is_never_above_zero(d) for d in rest):
                return one
            if isinstance(extreme, sympy.Max) and all(_is_never_above_zero(-d) for d in rest):
                return one
        return extreme

    while True:
        inner = [e for e in expression.atoms(sympy.Min, sympy.Max) if chosen(e) != e]
        if not inner:
            return expression
        expression = expression.xreplace({inner[0]: chosen(inner[0])})


def _is_never_above_zero(expression: Any) -> bool:
    """Whether it is so for many sizes; what is made of it is compared at the end."""
    symbols = sorted(expression.free_symbols, key=str)
    draw = random.Random(0)
    tried = [[n] * len(symbols) for n in (1, 2, 3, 7)]
    tried += [[draw.randrange(1, 3000) for _ in symbols] for _ in range(12)]
    return all(bool(expression.subs(dict(zip(symbols, n, strict=True))) <= 0) for n in tried)


def _multiplied_out(sign: str, difference: Any) -> str:
    """Return a comparison of one quotient with a number as one of what is divided."""
    import sympy

    floors = list(difference.atoms(sympy.floor))
    if len(floors) != 1 or sign not in ("<", "<=", ">", ">="):
        return ""
    (floor,) = floors
    number = sympy.expand(floor - difference)
    if not number.is_Integer:
        number, sign = sympy.expand(floor + difference), _TURNED[sign]
    if not number.is_Integer:
        return ""
    over, under = sympy.fraction(sympy.together(floor.args[0]))
    if not under.is_Integer:
        return ""
    # floor(a / b) > n is a / b >= n + 1, and a floor is below a whole number if its operand is.
    bound = number if sign in (">=", "<") else number + 1
    kind = ">=" if sign in (">", ">=") else "<"
    return _of_difference(kind, sympy.expand(over - bound * under))


def _of_difference(sign: str, difference: Any) -> str:
    """Return that a difference is zero, or above or below it, with what is taken away on a side."""
    import sympy

    terms = difference.as_ordered_terms()
    above = [term for term in terms if not term.could_extract_minus_sign()]
    below = [-term for term in terms if term.could_extract_minus_sign()]
    for one, other in ((above, below), (below, above)):
        if sign == "==" and len(one) == len(other) == 1 and (rest := _remainder(one[0], other[0])):
            return f"{rest} == 0"
    if not above or (not any(t.free_symbols for t in above) and below):
        above, below, sign = below, above, _TURNED[sign]
    left, right = sympy.Add(*above), sympy.Add(*below)
    return f"{_printed(left)} {sign} {_printed(right)}"


def _remainder(whole: Any, product: Any) -> str:
    """Return `a % n` for a and n * (a // n)."""
    import sympy

    for number in product.atoms(sympy.floor):
        factor = sympy.cancel(product / number)
        if factor.is_Integer and sympy.expand(whole / factor - number.args[0]) == 0:
            return f"({_printed(whole)}) % {factor}"
    return ""


def _printed(expression: Any) -> str:
    """Return an expression as Python, quotients with `//`."""
    import sympy
    from sympy.printing.str import StrPrinter

    class Printer(StrPrinter):  # type: ignore[misc]
        def _print_floor(self, expr: Any) -> str:
            over, under = sympy.fraction(sympy.together(expr.args[0]))
            return f"(({self._print(over)}) // ({self._print(under)}))"

        def _print_Mod(self, expr: Any) -> str:
            return f"(({self._print(expr.args[0])}) % ({self._print(expr.args[1])}))"

        def _print_Min(self, expr: Any) -> str:
            return f"min({', '.join(map(self._print, expr.args))})"

        def _print_Max(self, expr: Any) -> str:
            return f"max({', '.join(map(self._print, expr.args))})"

    return str(Printer().doprint(expression))
