"""Accuracy classes: what is near enough, at the edge of each bound."""

import ml_dtypes
import numpy as np
import pytest

from nnspec.accuracy import FLOOR, Accuracy, Reference, compare, largest_error
from nnspec.judge import says_the_same
from nnspec.resolve import choose
from nnspec.tensors import UNIT_ROUNDOFF, cast

INF, NAN = np.inf, np.nan


def judged(
    got, oracle, kind, argument=0.0, *, dtype="float32", error=0.0, size=None, inner=None,
    profile="float32",
):  # fmt: skip
    """Whether the class lets `got` pass for `oracle`."""
    got = cast(np.asarray(got, np.float64), dtype)
    oracle = np.asarray(oracle, np.float64)
    magnitude = None if size is None else np.asarray(size, np.float64)
    reference = Reference(oracle, error, magnitude)
    return compare("output.y", got, reference, dtype, kind, argument, inner, profile) is None


def test_exact_is_bit_for_bit():
    assert judged([0.1, INF, -INF, NAN, -0.0], [0.1, INF, -INF, NAN, -0.0], "exact")
    assert judged([1 / 3], [1 / 3], "exact", dtype="bfloat16")  # the oracle is rounded too
    assert not judged([0.0], [-0.0], "exact")
    assert not judged([np.nextafter(np.float32(1), np.float32(2))], [1.0], "exact")


def test_equal_takes_either_zero():
    assert judged([0.0, -0.0], [-0.0, 0.0], "equal")
    assert not judged([1e-45], [0.0], "equal")


@pytest.mark.parametrize("kind", ["exact", "equal", "ulp", "dot", "sum", "calibrated"])
@pytest.mark.parametrize(
    ("got", "wanted"), [(NAN, 1.0), (1.0, NAN), (INF, 1.0), (INF, -INF), (1.0, INF), (NAN, INF)]
)
def test_what_is_not_finite_is_compared_as_such(kind, got, wanted):
    assert not judged([got, 1.0], [wanted, 1.0], kind, 1e9, error=1e9, size=[1e9, 1e9])
    assert judged([got, 1.0], [got, 1.0], kind, 1.0, error=1.0, size=[1.0, 1.0])


def test_ulp():
    one_up = np.nextafter(np.float32(1), np.float32(2))
    two_up = np.nextafter(one_up, np.float32(2))
    assert judged([one_up], [1.0], "ulp", 1)
    assert not judged([two_up], [1.0], "ulp", 1)
    assert judged([two_up], [1.0], "ulp", 2)
    assert judged([1e-45], [0.0], "ulp", 1)  # the smallest subnormal is a unit too
    assert not judged([1e-43], [0.0], "ulp", 1)


@pytest.mark.parametrize("kind", ["dot", "sum"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dot_is_relative_to_the_sum_of_absolute_values(kind, dtype):
    bound = 2 * 3 * UNIT_ROUNDOFF[dtype] * 64
    assert judged([0.99 * bound], [0.0], kind, 3, dtype=dtype, size=[64.0])
    assert not judged([1.1 * bound], [0.0], kind, 3, dtype=dtype, size=[64.0])


def test_dot_with_a_wider_accumulation():
    u = UNIT_ROUNDOFF["bfloat16"]
    wide = {"dtype": "bfloat16", "size": [1.0], "inner": "float32"}
    assert judged([1 + 2 * u], [1.0], "dot", 3, **wide)  # one rounding of the result
    assert not judged([1 + 4 * u], [1.0], "dot", 3, **wide)
    assert judged([1 + 4 * u], [1.0], "dot", 3, dtype="bfloat16", size=[1.0])


@pytest.mark.parametrize(("kind", "argument"), [("dot", 1), ("calibrated", 0)])
def test_a_device_that_multiplies_with_fewer_digits(kind, argument):
    near, far = [1 + 2.0**-13], [1 + 2.0**-6]
    assert not judged(near, [1.0], kind, argument, size=[1.0])
    assert judged(near, [1.0], kind, argument, size=[1.0], profile="tf32")
    assert not judged(far, [1.0], kind, argument, size=[1.0], profile="tf32")
    # What is computed in float64 there is not looser.
    double = {"dtype": "float64", "size": [1.0]}
    assert not judged(near, [1.0], kind, argument, **double, profile="tf32")


def test_calibrated_is_three_times_the_reference_with_a_floor():
    assert judged([1 + 2.9e-3], [1.0], "calibrated", error=1e-3)
    assert not judged([1 + 3.1e-3], [1.0], "calibrated", error=1e-3)
    floor = FLOOR * UNIT_ROUNDOFF["float32"] * 100
    assert judged([100, 0.9 * floor], [100, 0.0], "calibrated")
    assert not judged([100, 1.1 * floor], [100, 0.0], "calibrated")


def test_calibrated_in_float64_allows_for_the_error_of_the_oracle():
    near, far = [1 + 3.5e-12], [1 + 4.5e-12]
    assert judged(near, [1.0], "calibrated", dtype="float64", error=1e-12)
    assert not judged(far, [1.0], "calibrated", dtype="float64", error=1e-12)
    assert not judged([1 + 3.5e-4], [1.0], "calibrated", error=1e-4)


def test_shape_looks_at_shape_and_dtype_alone():
    assert judged([1.0, 2.0], [8.0, NAN], "shape")
    assert not judged([1.0], [1.0, 2.0], "shape")


@pytest.mark.parametrize("kind", ["exact", "calibrated", "shape"])
def test_the_dtype_must_be_right(kind):
    half = np.ones(2, ml_dtypes.bfloat16)
    found = compare("output.y", half, Reference(np.ones(2)), "float32", kind)
    assert str(found) == "output.y dtype: got bfloat16, wanted float32"


def test_indices_may_have_either_width():
    oracle = Reference(np.array([1, 2]))
    for dtype in (np.int32, np.int64):
        assert compare("output.i", np.array([1, 2], dtype), oracle, "index", "exact") is None
    assert compare("output.i", np.array([1, 2], np.int16), oracle, "index", "exact")
    assert compare("output.i", np.array([1.0, 2.0]), oracle, "index", "exact")


def test_a_difference_names_the_first_wrong_element():
    got, wanted = np.array([[1, 2], [3, 5], [0, 6]]), np.array([[1, 2], [3, 4], [5, 6]])
    found = compare("output.y", got, Reference(wanted), "int64", "exact")
    assert str(found) == "output.y[1, 1]: got 5, wanted 4 (2 of 6 elements wrong)"
    found = compare("output.y", np.float32([2]), Reference(np.ones(1)), "float32", "ulp", 1)
    assert str(found) == (
        "output.y[0]: got 2.0, wanted 1.0, bound 1.19209e-07 (1 of 1 elements wrong)"
    )


def test_empty_and_scalar_tensors():
    assert judged(np.zeros((0, 3)), np.zeros((0, 3)), "calibrated")
    assert judged(2.0, 2.0, "exact")
    assert not judged(2.0, 3.0, "exact")


def test_choose():
    declared = [{"when": "n > 1", "class": "dot(2*n)"}, {"when": "n == 1", "class": "exact"}]
    assert choose(declared, {"n": 3}, {}) == Accuracy("dot", 6.0)
    assert choose(declared, {"n": 1}, {}) == Accuracy("exact", 0.0)
    assert choose(declared, {"n": 0}, {}) == Accuracy("calibrated", 0.0)
    assert choose("ulp(2)", {}, {}) == Accuracy("ulp", 2.0)


def test_largest_error_is_of_what_is_finite():
    assert largest_error(np.float32([1, NAN, INF]), np.array([1.5, 0, 0])) == 0.5
    assert largest_error(np.float32([NAN]), np.array([1.0])) == 0.0
    assert largest_error(np.zeros(2, np.float32), np.zeros(3)) == 0.0


def test_a_literal_says_the_same_to_six_digits():
    assert says_the_same(np.array([0.3333333]), np.array([1 / 3]), "float32")
    assert not says_the_same(np.array([0.333]), np.array([1 / 3]), "float32")
    assert not says_the_same(np.zeros(2), np.zeros(3), "float32")
    assert says_the_same(np.array([NAN, INF]), np.array([NAN, INF]), "float32")
    assert not says_the_same(np.array([1]), np.array([2]), "float32")
    # A maximum of inputs that were rounded to bfloat16.
    assert says_the_same(np.array([0.9954]), np.array([0.99609375]), "bfloat16")
