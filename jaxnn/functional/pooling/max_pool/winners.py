"""The derivative of the maxima: what a tangent holds where the winners are."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, Num

from ...._dtypes import index_dtype
from ...._thresholds import thresholds
from ...._xla import by_platform, is_sharded
from .._windows import Window, pad_to_windows, taps_of, window_counts
from .definition import positions_of, select_max
from .tpu import maxima_by_reduction


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def window_maxima(x: Num[Array, "..."], windows: tuple[Window, ...]) -> Num[Array, "..."]:
    """Return each window's maximum."""
    selected = lambda x: select_max(x, windows)[0]  # noqa: E731
    reduced = partial(maxima_by_reduction, windows=windows)
    maxima: Array = by_platform(cpu=selected, default=selected, tpu=reduced)(x)
    return maxima


@window_maxima.defjvp
def _window_maxima_jvp(
    windows: tuple[Window, ...], primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    # The tangent of a maximum is the winner's tangent; the transpose adds the cotangent there. So
    # all that the derivative keeps of `x` is where the winners are.
    (x,), (x_dot,) = primals, tangents
    maxima, indices = select_max(x, windows)
    return maxima, _pick(x_dot, indices, windows)


@partial(jax.jit, static_argnums=1)
def max_with_indices(
    x: Num[Array, "..."], windows: tuple[Window, ...]
) -> tuple[Num[Array, "..."], Int[Array, "..."]]:
    """Return each window's maximum, and its flat position in the unpadded volume."""
    _, indices = select_max(lax.stop_gradient(x), windows)
    return window_maxima(x, windows), indices.astype(index_dtype())


def _pick(
    x: Num[Array, "..."], indices: Int[Array, "..."], windows: tuple[Window, ...]
) -> Num[Array, "..."]:
    """Return what `x` holds at the windows' `indices`: linear in `x`, and zero outside it."""
    by_gather = partial(pick_by_gather, n=len(windows))
    if is_sharded(x):
        # On an Explicit mesh the gather's reshape would join a sharded dimension with others.
        return pick_by_taps(x, indices, windows)
    if math.prod(window.kernel for window in windows) > thresholds().pooling_taps:
        return by_gather(x, indices)
    # The transpose of the gather is a scatter: the fastest on a CPU, but a loop on a TPU, and
    # atomic additions in any order on a GPU. There the transpose of slices serves, which fuses.
    by_taps = partial(pick_by_taps, windows=windows)
    picked: Array = by_platform(cpu=by_gather, default=by_taps)(x, indices)
    return picked


def pick_by_gather(x: Num[Array, "..."], indices: Int[Array, "..."], n: int) -> Num[Array, "..."]:
    """Return what `x` holds at flat `indices` into its last `n` axes; zero outside them."""
    # One leading dimension, however many `x` has: the scatter's loop is the tighter for it.
    lead, size, count = (math.prod(s) for s in (x.shape[:-n], x.shape[-n:], indices.shape[-n:]))
    picked = jnp.take_along_axis(
        x.reshape(lead, size), indices.reshape(lead, count), 1, mode="fill", fill_value=0
    )
    return picked.reshape(indices.shape)


def pick_by_taps(
    x: Num[Array, "..."], indices: Int[Array, "..."], windows: tuple[Window, ...]
) -> Num[Array, "..."]:
    """The same, of indices that lie in their windows: by slices, whose transpose fuses."""
    counts = window_counts(x.shape, windows)
    places = taps_of(positions_of(x.shape, windows), windows, counts)
    taps = taps_of(pad_to_windows(x, windows, 0), windows, counts)
    picked = jnp.zeros_like(indices, x.dtype)
    for tap, place in zip(taps, places, strict=True):
        picked = jnp.where(indices == place, tap, picked)
    return picked
