"""How far two arrays are apart, and when that is more than rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# What two honest implementations differ by, relative to the largest element.
TOLERANCES = {
    "float64": 1e-9,
    "complex128": 1e-9,
    "float32": 1e-4,
    "complex64": 1e-4,
    "bfloat16": 5e-2,
    "float16": 5e-3,
}
# A gradient is compared on its own scale, unless it is next to nothing beside the largest.
SMALLEST_SCALE = 0.01
# What is left in float64 of a difference that is rounding in float32, at most.
SHRINKS = 1e-4


@dataclass(frozen=True)
class Difference:
    """How an array of the port differs from that of the original.

    Attributes:
        name: of the array: "output 0", "input 1", "blocks.0.weight".
        kind: "output", "gradient" or "buffer".
        shape: its shape, in the original.
        error: the largest absolute difference, NaN where the shapes differ.
        relative: that, divided by the scale.
        agrees: whether that is within the tolerance of the dtype.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    error: float
    relative: float
    agrees: bool

    @property
    def ok(self) -> bool:
        """Whether it agrees."""
        return self.agrees


def difference(
    name: str, kind: str, wanted: np.ndarray, got: np.ndarray | None, floor: float = 0.0
) -> Difference:
    """Compare two arrays: numbers by the tolerance of the narrower dtype, integers exactly.

    Args:
        name: of the array.
        kind: "output", "gradient" or "buffer".
        wanted: the original's.
        got: the port's, None where it has none.
        floor: the smallest scale that the error is divided by.
    """
    if got is None or wanted.shape != got.shape:
        return Difference(name, kind, wanted.shape, float("nan"), float("nan"), False)
    tolerance = max(TOLERANCES.get(str(array.dtype), 0.0) for array in (wanted, got))
    error, largest = distance(wanted, got), magnitude(wanted)
    scale = max(largest, floor)
    relative = error / scale if scale else error
    return Difference(name, kind, wanted.shape, error, relative, bool(relative <= tolerance))


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest absolute difference; the same infinity, or NaN in both, is none.

    >>> nan, inf = np.nan, np.inf
    >>> distance(np.array([1, inf, nan]), np.array([1.5, inf, nan]))
    0.5
    >>> distance(np.array([1, inf, 2j]), np.array([1, inf, 2.5j]))
    0.5
    >>> distance(np.array([1.0, nan]), np.array([1.0, 2.0]))
    nan
    """
    if _is_exact(one) and _is_exact(other):
        # Float64 would not tell large integers apart.
        apart = one != other
        far = np.abs(one.astype(np.float64) - other.astype(np.float64))
        return float(np.max(np.where(apart, np.maximum(far, 1), 0), initial=0))
    if one.dtype == other.dtype and one.dtype.kind == "f":  # large ones take time and memory
        with np.errstate(invalid="ignore", over="ignore"):
            farthest = _largest(one - other)
        if np.isfinite(farthest):
            return farthest
    wide, ours = _wide(one), _wide(other)
    same = (wide == ours) | (np.isnan(wide) & np.isnan(ours))
    with np.errstate(invalid="ignore"):
        return float(np.max(np.where(same, 0, np.abs(wide - ours)), initial=0))


def magnitude(array: np.ndarray) -> float:
    """Return the largest finite absolute value.

    >>> magnitude(np.array([3.0, -np.inf, 4j]))
    4.0
    """
    if array.dtype.kind == "f" and np.isfinite(largest := _largest(array)):
        return largest
    size = np.abs(_wide(array))
    return float(np.max(size, initial=0, where=np.isfinite(size)))


def _largest(array: np.ndarray) -> float:
    """Return the largest absolute value, which is not finite if one of them is not."""
    return float(max(array.max(), -array.min())) if array.size else 0.0


def _is_exact(array: np.ndarray) -> bool:
    return array.dtype.kind in "iub"


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def gradient_floor(gradients: Iterable[np.ndarray]) -> float:
    """Return the scale below which a gradient is nothing beside the largest of `gradients`."""
    return SMALLEST_SCALE * max(map(magnitude, gradients), default=0.0)


def is_rounding(narrow: Difference, wide: Difference) -> bool:
    """Whether a difference shrinks with precision, so that it is of rounding.

    At a kink (a ReLU's input that is zero but for rounding) two correct programs have two gradients
    in float32, and the same one in float64; and an ill-conditioned value has few digits in float32.
    A fault is as large in float64. What is finite in one alone is not rounding.

    Args:
        narrow: how the models differ.
        wide: how they differ when both are converted to float64.
    """
    if not np.isfinite(narrow.error):
        return False
    return wide.agrees or bool(wide.error <= SHRINKS * narrow.error)


def leaves_of(output: Any) -> list[Any]:
    """Return the tensors or arrays, and the numbers, of a result, in order.

    >>> leaves_of({"a": [np.float32(1), None], "b": (2, "text")})
    [np.float32(1.0), 2]
    """
    if hasattr(output, "shape") and hasattr(output, "dtype"):
        return [output]
    if isinstance(output, (bool, int, float, complex)):
        return [output]
    return [leaf for item in _items(output) for leaf in leaves_of(item)]


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, (tuple, list)):
        return value
    is_object = hasattr(value, "__dict__") and not callable(value)
    return vars(value).values() if is_object else ()


def map_leaves(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """Return the same containers with `leaf` of each array in them."""
    if isinstance(value, dict):
        return {name: map_leaves(item, leaf) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_leaves(item, leaf) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(map_leaves(item, leaf) for item in value)
    return leaf(value) if hasattr(value, "shape") else value
