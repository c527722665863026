"""Max pooling on a TPU, whose compiler has an operation for it, and one for its derivative."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num

from .._windows import Window, reduction_of, windows_first, windows_last
from .definition import candidate_wins, lowest

_INFINITY = 2.0**127
"""Above half of every finite number of float32."""
_PLACES = 2**23 - 1
"""Numbers of float32 between that and the next infinity."""


def maxima_by_reduction(x: Num[Array, "..."], windows: tuple[Window, ...]) -> Num[Array, "..."]:
    """Return each window's maximum, as one reduction."""

    def later_if_it_wins(best: Array, candidate: Array) -> Array:
        return lax.select(candidate_wins(candidate, best), candidate, best)

    first, all_windows = windows_first(x, windows)
    start = jnp.asarray(lowest(x.dtype), x.dtype)
    reduction = reduction_of(first.shape, all_windows)
    maxima = lax.reduce_window(first, start, later_if_it_wins, **reduction)
    return windows_last(maxima, len(windows))


def is_selectable(x: Num[Array, "..."], windows: tuple[Window, ...]) -> bool:
    """Whether `scatter_to_maxima` can be used."""
    sizes = x.shape[-len(windows) :]
    return (
        x.dtype.name in ("float32", "bfloat16", "float16")
        and all(isinstance(size, int) for size in sizes)
        and math.prod(sizes) <= _PLACES
        and all(window.dilation == 1 for window in windows)
    )


def scatter_to_maxima(
    cotangent: Float[Array, "..."], x: Float[Array, "..."], windows: tuple[Window, ...]
) -> Float[Array, "..."]:
    """Return zeros of the shape of `x`, with each window's cotangent added at its maximum.

    It is what JAX makes of the derivative of a maximum, "select and scatter", which XLA also parts
    over chips. That keeps the first of equals, in row-major order, and knows nothing of NaN.
    """
    first, all_windows = windows_first(x.astype(jnp.float32), windows)
    keys = _ordered(first, len(windows))
    reduction = reduction_of(keys.shape, all_windows)
    # A constant, from which JAX knows that this is a maximum.
    start = np.array(-np.inf, np.float32)
    maxima = partial(lax.reduce_window, init_value=start, computation=lax.max, **reduction)
    _, scatter = jax.vjp(maxima, keys)
    (scattered,) = scatter(windows_first(cotangent.astype(jnp.float32), windows)[0])
    return windows_last(scattered, len(windows)).astype(x.dtype)


def _ordered(x: Float[Array, "..."], n: int) -> Float[Array, "..."]:
    """Return finite numbers in the order in which `x` wins: NaN above infinity, later ones more.

    Windows slide over the first `n` axes. Halves leave room above the finite numbers. They are
    exact, but of the smallest normal numbers, below 2.4e-38: where subnormal ones count as zeros,
    as on a TPU, their halves are zeros.
    """
    places = jnp.zeros(x.shape, jnp.int32)
    for axis in range(n):
        places = places * x.shape[axis] + lax.broadcasted_iota(jnp.int32, x.shape, axis)
    after_infinity = jnp.asarray(_INFINITY, jnp.float32).view(jnp.int32) + 1
    nans = (places + after_infinity).view(jnp.float32)
    return jnp.where(jnp.isnan(x), nans, lax.clamp(-_INFINITY, x * 0.5, _INFINITY))
