"""The expression language: what it computes, what it refuses, and that it always ends."""

import math

import pytest

from nnspec.expression import ExpressionError, Function, evaluate, names_in


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2*3", 7),
        ("-7 // 2", -4),
        ("-7 % 3", 2),
        ("7 / 2", 3.5),
        ("2**-6", 2.0**-6),
        ("1 < 2 <= 2", True),
        ("1 < 3 < 2", False),
        ("1 if false else 2", 2),
        ("not null", True),
        ("null or 3", 3),
        ("2 and 0", 0),
        ("[1, 2] + [3]", [1, 2, 3]),
        ("[1, 2, 3][-1]", 3),
        ("[1, 2, 3][1:]", [2, 3]),
        ("'same' == 'same'", True),
        ("2 in [1, 2]", True),
        ("inf > 1", True),
        ("sum(i*i for i in range(4) if i > 1)", 13),
        ("all(i < 3 for i in range(3))", True),
        ("[i + 1 for i in range(2)]", [1, 2]),
        ("pair(3)", [3, 3]),
        ("pair([3])", [3, 3]),
        ("pair([1, 2])", [1, 2]),
        ("triple(1)", [1, 1, 1]),
        ("ntuple(2, 4)", [2, 2, 2, 2]),
        ("product([])", 1),
        ("is_int(true)", False),
        ("max(1, 4, 2)", 4),
        ("sqrt(4)", 2.0),
    ],
)
def test_values(text, value):
    assert evaluate(text, {}) == value


@pytest.mark.parametrize(
    "text",
    [
        "null + 1", "-null", "1 // 0", "1 % 0", "1 / 0", "0**-1", "(-8)**0.5", "[1][1]", "[1][-2]",
        "null[0]", "len(null)", "max(1, null)", "min([null, 1])", "abs(null)", "sum([1, null])",
        "product([2, null])", "null",
    ],
)  # fmt: skip
def test_what_is_unknown_is_null(text):
    assert evaluate(text, {}) is None


@pytest.mark.parametrize("comparison", ["<", "<=", ">", ">="])
def test_order_against_null_is_false(comparison):
    assert evaluate(f"null {comparison} 1", {}) is False
    assert evaluate(f"1 {comparison} null", {}) is False


def test_constants():
    assert evaluate("[null, true, false, inf]", {}) == [None, True, False, math.inf]


def test_a_function_sees_its_arguments_the_names_and_earlier_functions():
    functions = {
        "half": Function("half", ("x",), "x // 2"),
        "out": Function("out", ("L",), "half(L) + p"),
    }
    assert evaluate("out(7)", {"p": 1, "x": 100}, functions) == 4


def test_no_function_can_recur():
    functions = {
        "f": Function("f", ("x",), "g(x)"),
        "g": Function("g", ("x",), "f(x)"),
    }
    with pytest.raises(ExpressionError, match="unknown function 'g'"):
        evaluate("g(1)", {}, functions)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an expression"),
        ("1 +", "not an expression: '1 \\+'"),
        ("x = 1", "not an expression"),
        ("1; 2", "not an expression"),
        ("y", "unknown name 'y' in 'y'"),
        ("y(1)", "unknown function 'y'"),
        ("x.real", "Attribute is not part of the language in 'x.real'"),
        ("x.real()", "a call is NAME"),
        ("(lambda: 1)()", "a call is NAME"),
        ("lambda: 1", "Lambda is not"),
        ("max(*[1, 2])", "Starred is not"),
        ("max(x, key=x)", "keyword is not"),
        ("{1: 2}", "Dict is not"),
        ("(1, 2)", "Tuple is not"),
        ("f'{x}'", "JoinedStr is not"),
        ("(y := 1)", "NamedExpr is not"),
        ("x & 1", "BitAnd is not"),
        ("~x", "Invert is not"),
        ("x is 1", "Is is not"),
        ("None", "write null, true or false instead of None"),
        ("True", "write null, true or false instead of True"),
        ("b'a'", "write null, true or false"),
        ("[i for i in [1] for j in [2]]", "only one 'for"),
        ("[i for i, j in [1]]", "only one 'for"),
        ("[1, 2, 3][::2]", "a slice has no step"),
        ("__import__('os')", "unknown function '__import__'"),
        ("x + 'a'", "no arithmetic with 1 and 'a'"),
        ("'a' * 9", "no arithmetic"),
        ("[0] * 9", "no arithmetic"),
        ("pair()", "pair"),
        ("x in 3", "in 'x in 3'"),
        ("sqrt(-1)", "sqrt"),
        ("9**9**9", "too large"),
        ("range(100000000)", "too long"),
        ("int('a')", "int"),
    ],
)
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_refused_with_the_text(text, message):
    with pytest.raises(ExpressionError, match=message):
        evaluate(text, {"x": 1})


def test_refused_before_anything_is_evaluated():
    with pytest.raises(ExpressionError, match="Attribute is not"):
        evaluate("1 if true else x.real", {"x": 1})


@pytest.mark.parametrize("text", ["(" * 5000 + "1" + ")" * 5000, "+".join(["1"] * 50000)])
def test_deep_expressions_are_refused(text):
    with pytest.raises(ExpressionError):
        evaluate(text, {})


def test_names():
    assert names_in("out(H, i) + sum(j for j in range(k))") == {"out", "H", "i", "k"}
