"""The windows of adaptive pooling, their means, and the places of their maxima.

Of `size` positions, window i of `count` is the positions from floor(i * size / count) up to, but
without, ceil((i + 1) * size / count).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ..max_pool.definition import candidate_wins, flat_index


def adaptive_window(i: int, size: int, count: int) -> tuple[int, int]:
    """Return where window i of `count` over `size` positions starts and ends."""
    return i * size // count, -(-(i + 1) * size // count)


def means_by_reductions(
    x: Float[Array, "..."], axis: int, windows: Sequence[tuple[int, int]]
) -> Float[Array, "..."]:
    """Return the mean of each window along `axis`: the definition."""
    slices = [lax.slice_in_dim(x, start, end, axis=axis) for start, end in windows]
    return jnp.stack([part.mean(axis) for part in slices], axis)


def means_by_gather(
    x: Float[Array, "..."], axis: int, windows: list[tuple[int, int]]
) -> Float[Array, "..."]:
    """The same of so many windows that a slice for each would take long to compile."""
    start, end = np.array(windows).T
    positions = start[:, None] + np.arange((end - start).max())
    inside = positions < end[:, None]
    taps = jnp.take(x, jnp.asarray(positions), axis, mode="clip")
    inside = np.expand_dims(inside, tuple(range(2, taps.ndim - axis)))
    taps = jnp.where(inside[(None,) * axis], taps, jnp.zeros_like(taps))
    lengths = np.expand_dims((end - start).astype(x.dtype), tuple(range(1, x.ndim - axis)))
    return taps.sum(axis + 1) / lengths[(None,) * axis]


def places_of_maxima(x: Float[Array, "..."], counts: tuple[int, ...]) -> Int[Array, "..."]:
    """Return the flat position of each window's maximum."""
    # One axis after the other: the first in each row, then the first of the rows, is the first in
    # row-major order.
    along = [jnp.arange(size, dtype=jnp.int32) for size in x.shape[-len(counts) :]]
    best, index = x, flat_index(along, x.shape)
    for axis in range(x.ndim - 1, x.ndim - 1 - len(counts), -1):
        best, index = _select_along(best, index, axis, counts[axis - x.ndim])
    return index


def _select_along(
    best: Float[Array, "..."], index: Int[Array, "..."], axis: int, count: int
) -> tuple[Float[Array, "..."], Int[Array, "..."]]:
    size = best.shape[axis]
    start, end = np.array([adaptive_window(i, size, count) for i in range(count)]).T
    # The lengths differ by one at most. So two spans of one power of two, which may overlap, make
    # up each window.
    width = 1
    while 2 * width <= (end - start).min():
        spans = [(0, size - 2 * width + 1), (width, size - width + 1)]
        near, far = ([lax.slice_in_dim(a, *s, axis=axis) for a in (best, index)] for s in spans)
        best, index = _later_if_it_wins(near, far)
        width *= 2
    near, far = (
        [jnp.take(a, places, axis) for a in (best, index)] for places in (start, end - width)
    )
    return _later_if_it_wins(near, far)


def _later_if_it_wins(near: list[Array], far: list[Array]) -> tuple[Array, Array]:
    wins = candidate_wins(far[0], near[0])
    return jnp.where(wins, far[0], near[0]), jnp.where(wins, far[1], near[1])
