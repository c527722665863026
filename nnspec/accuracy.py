"""How near is near enough: declared by class, never by a free tolerance.

==============  =================================================================================
class           an element ``y`` with oracle ``o`` passes when
==============  =================================================================================
``exact``       it is ``o`` rounded to the dtype, bit for bit, signed zeros included
``equal``       as ``exact``, but 0 and -0 are the same
``ulp(n)``      ``|y - o| <= n`` units in the last place of ``o``
``dot(K)``      ``|y - o| <= 2 K u B``, with ``B`` the same sum over absolute values
``sum(K)``      the same, where only the cotangents are made absolute: sums of selected cotangents
``calibrated``  ``|y - o| <= max(CALIBRATION * e, FLOOR * u * max|o|)``, with ``e`` the reference's
                own largest error in that dtype (see :class:`nnspec.oracle.LiveOracle`); in
                float64, where ``o`` is off likewise, 4 e and 2 FLOOR
``shape``       only shape and dtype are looked at
==============  =================================================================================

``u`` is the unit roundoff of the tensor's dtype. In every class NaN answers NaN and an infinity
the same infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .tensors import PROFILES, SMALLEST, UNIT_ROUNDOFF, cast, is_float

CALIBRATION = 3.0
FLOOR = 8.0


@dataclass(frozen=True)
class Accuracy:
    """The class that holds for a tensor of a call, with the value of its argument."""

    kind: str
    argument: float = 0.0
    waiver: str = ""
    """Why it is looser than what the layer declares, and since when."""

    def __str__(self) -> str:
        return f"{self.kind}({self.argument:g})" if self.argument else self.kind


@dataclass(frozen=True)
class Reference:
    """What a tensor is judged against: the oracle, and what its class needs beside it."""

    oracle: np.ndarray
    measure: float | Callable[[], float] = 0.0
    """The reference's own largest error in the judged dtype, or what measures it when asked."""
    magnitude: np.ndarray | None = None
    """For ``dot`` and ``sum``: the oracle on absolute values."""

    @property
    def error(self) -> float:
        """The reference's own largest error in the judged dtype."""
        return self.measure() if callable(self.measure) else self.measure


@dataclass(frozen=True)
class Difference:
    """The first element (or the shape, or the dtype) that is wrong."""

    what: str
    index: tuple[int, ...] | None = None
    got: Any = None
    wanted: Any = None
    bound: float | None = None
    wrong: int = 0
    total: int = 0

    def __str__(self) -> str:
        if self.index is None:
            return f"{self.what}: got {self.got}, wanted {self.wanted}"
        bound = "" if self.bound is None else f", bound {self.bound:.6g}"
        return (
            f"{self.what}[{', '.join(map(str, self.index))}]: got {self.got!r}, "
            f"wanted {self.wanted!r}{bound} ({self.wrong} of {self.total} elements wrong)"
        )


def compare(
    what: str,
    got: np.ndarray,
    reference: Reference,
    dtype: str,
    kind: str,
    argument: float = 0.0,
    accumulate: str | None = None,
    profile: str = "float32",
) -> Difference | None:
    """The first difference between ``got`` and the oracle under an accuracy class, or None.

    ``profile`` is how precise the products of float32 are on the device.
    """
    oracle = reference.oracle
    accepted = ("int32", "int64") if dtype == "index" else (dtype,)
    if got.dtype.name not in accepted and (got.dtype.name, dtype) != ("int32", "int64"):
        return Difference(f"{what} dtype", None, got.dtype.name, " or ".join(accepted))
    if got.shape != oracle.shape:
        return Difference(f"{what} shape", None, list(got.shape), list(oracle.shape))
    if kind == "shape":
        return None
    if not is_float(got):
        return _first(what, got, oracle, got != oracle, None)
    wanted = cast(oracle, dtype)
    values = got.astype(np.float64)
    same = (values == wanted.astype(np.float64)) | (np.isnan(values) & np.isnan(oracle))
    if kind == "exact":
        same &= np.isnan(values) | (np.signbit(values) == np.signbit(oracle.astype(np.float64)))
        return _first(what, got, wanted, ~same, None)
    if kind == "equal":
        return _first(what, got, wanted, ~same, None)
    with np.errstate(invalid="ignore"):
        error = np.where(np.isfinite(values) & np.isfinite(oracle), np.abs(values - oracle), np.inf)
    bound = _floor(reference, dtype, kind, argument, accumulate, PROFILES[profile])
    # A result that rounds over the largest finite number may be infinite on either side.
    wrong = ~same & (error > bound)
    if kind == "calibrated" and wrong.any():
        # Only now, since measuring the reference's error takes many runs.
        bound = np.maximum(bound, _calibrated(reference, dtype))
        wrong &= error > bound
    return _first(what, got, oracle, wrong, bound)


def bound(
    reference: Reference,
    dtype: str,
    kind: str,
    argument: float = 0.0,
    accumulate: str | None = None,
    profile: str = "float32",
) -> np.ndarray:
    """How far each element may be off the oracle; 0 for the classes ``exact`` and ``equal``."""
    if kind in ("exact", "equal") or not is_float(reference.oracle):
        return np.zeros(reference.oracle.shape)
    floor = _floor(reference, dtype, kind, argument, accumulate, PROFILES[profile])
    return np.maximum(floor, _calibrated(reference, dtype)) if kind == "calibrated" else floor


def _calibrated(reference: Reference, dtype: str) -> float:
    # In float64 the oracle is off by as much as the reference, which it is.
    times = CALIBRATION + 1 if dtype == "float64" else CALIBRATION
    return times * reference.error


def _floor(
    reference: Reference,
    dtype: str,
    kind: str,
    argument: float,
    accumulate: str | None,
    products: float,
) -> np.ndarray:
    u = UNIT_ROUNDOFF[dtype]
    inner = UNIT_ROUNDOFF[accumulate or dtype]
    if "float32" in (dtype, accumulate):
        inner = max(inner, products)
    size = np.abs(np.where(np.isfinite(reference.oracle), reference.oracle, 0.0)).astype(np.float64)
    if kind == "ulp":
        unit = 2 * u * 2.0 ** np.floor(np.log2(np.maximum(size, 2.0**-1000)))
        return argument * np.maximum(unit, SMALLEST[dtype])
    if kind in ("dot", "sum"):
        assert reference.magnitude is not None, "dot needs the sum over absolute values"
        rounding = 0.0 if inner == u else 2 * u * size
        return 2 * argument * inner * reference.magnitude + rounding + SMALLEST[dtype]
    largest = size.max(initial=0.0)
    # The oracle is of float64, so there it may be off as far as what is judged.
    sides = 2 if dtype == "float64" else 1
    floor = sides * FLOOR * max(u, inner) * largest
    return np.full(size.shape, max(floor, SMALLEST[dtype]))


def _first(
    what: str, got: np.ndarray, wanted: np.ndarray, wrong: np.ndarray, bound: np.ndarray | None
) -> Difference | None:
    count = int(np.count_nonzero(wrong))
    if not count:
        return None
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return Difference(
        what, index, got[index].item(), wanted[index].item(),
        None if bound is None else float(bound[index]), count, wrong.size,
    )  # fmt: skip


def largest_error(value: np.ndarray, oracle: np.ndarray) -> float:
    """The largest finite absolute error of a tensor, 0 where shapes differ or nothing is finite."""
    if value.shape != oracle.shape or not is_float(value):
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(value.astype(np.float64) - oracle.astype(np.float64))
    return float(np.max(error, where=np.isfinite(error), initial=0.0))
