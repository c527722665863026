"""The maximum of each window, and where it is."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, Num

from ...._thresholds import thresholds
from .._windows import Window, pad_to_windows, taps_of, window_counts


def select_max(
    x: Num[Array, "..."], windows: tuple[Window, ...]
) -> tuple[Num[Array, "..."], Int[Array, "..."]]:
    """Return each window's maximum, and its flat position in the unpadded volume."""
    least = lowest(x.dtype)
    counts = window_counts(x.shape, windows)
    padded = pad_to_windows(x, windows, least), positions_of(x.shape, windows)
    taps = math.prod(window.kernel for window in windows)
    select = _select_by_taps if taps <= thresholds().pooling_taps else _select_by_doubling
    maxima, indices = select(*padded, windows, counts)
    if any(window.padding for window in windows):
        # Padding wins only where all else holds the lowest value too: then the first tap inside.
        is_lowest = maxima == jnp.asarray(least, x.dtype)
        indices = jnp.where(is_lowest, _first_inside(x.shape, windows), indices)
    return maxima, indices


def candidate_wins(candidate: Num[Array, "..."], best: Num[Array, "..."]) -> Bool[Array, "..."]:
    """Whether `candidate` takes the place of `best`, which came before it."""
    # Of equals the first stays, be it for the index or for a zero's sign; of NaNs the last.
    return (candidate > best) | jnp.isnan(candidate)


def _select_by_taps(
    x: Num[Array, "..."],
    positions: Int[Array, "..."],
    windows: tuple[Window, ...],
    counts: list[int],
) -> tuple[Num[Array, "..."], Int[Array, "..."]]:
    # One elementwise expression of all taps, which XLA fuses into one loop. Pooling one axis after
    # the other needs fewer comparisons, but is fused as well, and then repeats them.
    taps = taps_of(x, windows, counts)
    places = taps_of(positions, windows, counts)
    best, index = taps[0], places[0]
    for tap, place in zip(taps[1:], places[1:], strict=True):
        wins = candidate_wins(tap, best)
        best, index = jnp.where(wins, tap, best), jnp.where(wins, place, index)
    return best, jnp.broadcast_to(index, best.shape)


def _select_by_doubling(
    x: Num[Array, "..."],
    positions: Int[Array, "..."],
    windows: tuple[Window, ...],
    counts: list[int],
) -> tuple[Num[Array, "..."], Int[Array, "..."]]:
    # One axis after the other. A window of m + n taps is one of m taps and one of n taps further
    # on: the width doubles each time, and the last two may overlap. The first in each row, then the
    # first of the rows, is the first in row-major order.
    best, index = x, positions
    for i in range(1, len(windows) + 1):
        window, count, axis, width = windows[-i], counts[-i], x.ndim - i, 1
        while width < window.kernel:
            shift = min(width, window.kernel - width)
            step = shift * window.dilation
            near, far = _shifted(best, step, axis)
            near_index, far_index = _shifted(index, step, axis)
            wins = candidate_wins(far, near)
            best, index = jnp.where(wins, far, near), jnp.where(wins, far_index, near_index)
            width += shift
        end = (count - 1) * window.stride + 1
        best = lax.slice_in_dim(best, 0, end, window.stride, axis)
        index = lax.slice_in_dim(index, 0, end, window.stride, axis)
    return best, jnp.broadcast_to(index, best.shape)


def _shifted(x: Num[Array, "..."], step: int, axis: int) -> tuple[Array, Array]:
    """Return `x` without its last, and without its first `step` entries along `axis`."""
    size = x.shape[axis]
    return (
        lax.slice_in_dim(x, 0, size - step, axis=axis),
        lax.slice_in_dim(x, step, size, axis=axis),
    )


def positions_of(shape: tuple[int, ...], windows: tuple[Window, ...]) -> Int[Array, "..."]:
    """Return, over what the windows span, each position's flat number in the unpadded volume."""
    n = len(windows)
    along = [
        jnp.arange(window.span(size), dtype=jnp.int32) - window.padding
        for window, size in zip(windows, shape[-n:], strict=True)
    ]
    return flat_index(along, shape)


def _first_inside(shape: tuple[int, ...], windows: tuple[Window, ...]) -> Int[Array, "..."]:
    """Return the flat number of each window's first tap that does not lie before the input."""
    n = len(windows)
    along = []
    for window, size in zip(windows, shape[-n:], strict=True):
        start = jnp.arange(window.count(size), dtype=jnp.int32) * window.stride - window.padding
        along.append(jnp.where(start < 0, start % window.dilation, start))
    return flat_index(along, shape)


def flat_index(along: list[Int[Array, "size"]], shape: tuple[int, ...]) -> Int[Array, "..."]:
    """Combine positions along each of the last axes of `shape` to positions in row-major order."""
    ndim, n = len(shape), len(along)
    flat = jnp.zeros((1,) * ndim, jnp.int32)
    for axis, positions in enumerate(along, ndim - n):
        others = [i for i in range(ndim) if i != axis]
        flat = flat * shape[axis] + lax.expand_dims(positions, others)
    return flat


def lowest(dtype: Any) -> float | int:
    """Return what loses to every other number of `dtype`."""
    return -jnp.inf if jnp.issubdtype(dtype, jnp.floating) else int(jnp.iinfo(dtype).min)
