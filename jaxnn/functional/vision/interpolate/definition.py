"""What each output of a dimension looks at: a neighbour, or several that it weighs."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

# How far the kernels reach, in elements of the larger image.
_REACHES = {"linear": 1, "cubic": 2, "lanczos": 3}


class Taps(NamedTuple):
    """What each output of a dimension weighs: arrays of shape (outputs, the most taps of one)."""

    element: np.ndarray
    weight: np.ndarray
    is_there: np.ndarray


@lru_cache(maxsize=256)
def nearest(old: int, new: int, scale: float | None, exact: bool) -> tuple[int, ...]:
    """The input's index for each output, computed in float32 as torch does."""
    if not exact and new in (old, 2 * old):
        return tuple(i * old // new for i in range(new))
    return tuple(nearest_places(np, old, new, scale, exact).tolist())


def nearest_places(library: Any, old: Any, new: Any, scale: float | None, exact: bool) -> Any:
    """Return the places that `nearest` looks at.

    Args:
        library: numpy, or jax.numpy, which computes them in the program, of sizes that may be
            symbols.
        old: the input's size.
        new: the output's.
        scale: their ratio, where it is given.
        exact: whether the middle of an output is looked at.
    """
    real = partial(library.asarray, dtype="float32")
    step = real(old) / real(new) if scale is None else real(1 / scale)
    position = library.arange(new, dtype="float32") + real(0.5 if exact else 0)
    place = library.floor(position * step).astype("int32")
    return library.minimum(place, library.asarray(old - 1, dtype="int32"))


def _step(old: int, new: int, scale: float | None, align_corners: bool, real: Any) -> Any:
    """The input's distance from one output to the next, computed in the given precision."""
    if align_corners:
        return real(old - 1) / real(new - 1) if new > 1 else real(0)
    return real(old) / real(new) if scale is None else real(1 / scale)


@lru_cache(maxsize=256)
def taps_of(
    old: int, new: int, scale: float | None, kernel: str, align_corners: bool, dtype: str
) -> Taps:
    """What linear or cubic interpolation weighs, some with a weight of zero, as torch does."""
    index, weight = places_and_weights(np, old, new, scale, kernel, align_corners, dtype)
    return Taps(index, weight.astype(dtype), np.ones(index.shape, bool))


def places_and_weights(
    library: Any,
    old: Any,
    new: Any,
    scale: float | None,
    kernel: str,
    align_corners: bool,
    dtype: str,
) -> tuple[Any, Any]:
    """Return what each output looks at and weighs, of shape (outputs, taps).

    Args:
        library: as for `nearest_places`, and so are `old`, `new` and `scale`.
        kernel: "linear" or "cubic".
        align_corners: whether the first and the last element keep their places.
        dtype: that of the weights.
    """
    real, whole = (partial(library.asarray, dtype=kind) for kind in (dtype, "int32"))
    position = library.arange(new).astype(dtype)
    if align_corners:  # of one output, the place is 0 whatever the step
        place = position * (real(old - 1) / library.maximum(real(new - 1), real(1)))
    else:
        step = real(old) / real(new) if scale is None else real(1 / scale)
        place = step * (position + real(0.5)) - real(0.5)
    if kernel == "linear":
        is_other = real(new) != real(old)
        place = library.where(is_other, library.maximum(place, real(0)), position)
        first = library.minimum(library.floor(place).astype("int32"), whole(old - 1))
        fraction = library.clip(place - first.astype(dtype), real(0), real(1))
        index = library.stack([first, first + is_other.astype("int32")], axis=1)
        weight = library.stack([1 - fraction, fraction], axis=1)
    else:
        first = library.floor(place).astype("int32")
        fraction = place - first.astype(dtype)
        taps = (-1, 0, 1, 2)
        index = library.stack([first + i for i in taps], axis=1)
        weight = library.stack([_keys(fraction - i, real(-0.75), library) for i in taps], axis=1)
    return library.clip(index, whole(0), whole(old - 1)), weight


def _keys(x: Any, a: Any, library: Any = np) -> Any:
    """The cubic convolution kernel."""
    x = library.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return library.where(x <= 1, near, library.where(x < 2, far, library.zeros_like(x)))


@lru_cache(maxsize=256)
def antialiased_taps(
    old: int, new: int, scale: float | None, kernel: str, align_corners: bool, dtype: str
) -> Taps:
    """What a kernel weighs that is stretched where the image shrinks."""
    real = np.dtype(dtype).type
    step = _step(old, new, scale, align_corners, real)
    stretch = np.maximum(step, real(1))
    reach = real(_REACHES[kernel]) * stretch
    centre = step * (np.arange(new).astype(dtype) + real(0.5))
    first = np.maximum((centre - reach + real(0.5)).astype(int), 0)
    last = np.minimum((centre + reach + real(0.5)).astype(int), old)
    index = first[:, None] + np.arange((last - first).max())
    is_there = index < last[:, None]
    distance = (index.astype(dtype) - centre[:, None] + real(0.5)) / stretch
    if kernel == "linear":
        weight = np.maximum(1 - np.abs(distance), 0)
    elif kernel == "cubic":
        weight = _keys(distance, real(-0.5))
    else:
        near = np.abs(distance) < 3
        weight = np.where(near, np.sinc(distance) * np.sinc(distance / 3), real(0))
    weight = np.where(is_there, weight, real(0))
    total = weight.sum(axis=1, keepdims=True)
    weight = weight / np.where(total == 0, real(1), total)
    return Taps(np.clip(index, 0, old - 1).astype(np.int32), weight.astype(dtype), is_there)


def turned(taps: Taps, old: int) -> Taps:
    """Return the same from the other side: for each element, which outputs weigh it."""
    output, number = np.nonzero(taps.is_there)
    element = taps.element[output, number]
    order = np.argsort(element, kind="stable")
    element, output, weight = element[order], output[order], taps.weight[output, number][order]
    counts = np.bincount(element, minlength=old)
    place = np.arange(len(element)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (old, counts.max())
    turned = Taps(np.zeros(shape, np.int32), np.zeros(shape, weight.dtype), np.zeros(shape, bool))
    for part, values in zip(turned, (output, weight, True), strict=True):
        part[element, place] = values
    return turned


def whole_taps(taps: Taps, old: int) -> tuple[Taps, int]:
    """Return the weights times 2**bits as whole numbers, with as many bits as 16 can hold."""
    output, number = np.nonzero(taps.is_there)
    matrix = np.zeros((len(taps.element), old))
    # What stands for an element beyond the edge is one with the edge's own.
    np.add.at(matrix, (output, taps.element[output, number]), taps.weight[output, number])
    bits = next(b for b in range(23) if b == 22 or int(0.5 + matrix.max() * 2 ** (b + 1)) >= 2**15)
    weight = np.trunc(matrix * 2**bits + np.copysign(0.5, matrix)).astype(np.int32)
    element = np.broadcast_to(taps.element, taps.weight.shape)
    first = np.arange(element.shape[1])
    is_new = taps.is_there & ~np.array(
        [[any(row[:k] == row[k]) for k in first] for row in np.where(taps.is_there, element, -1)]
    )
    return Taps(element, np.take_along_axis(weight, element, 1), is_new), bits
