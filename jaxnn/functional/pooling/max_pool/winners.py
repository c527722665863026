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
from ..._gradients import with_transpose_of
from .._windows import Window, pad_to_windows, taps_of, window_counts
from .definition import positions_of, select_max
from .tpu import is_selectable, maxima_by_reduction, scatter_to_maxima


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def window_maxima(x: Num[Array, "..."], windows: tuple[Window, ...]) -> Num[Array, "..."]:
    """Return each window's maximum."""
    selected = lambda x: select_max(x, windows)[0]  # noqa: E731
    reduced = partial(maxima_by_reduction, windows=windows)
    # Of many taps a GPU too reads the input once where it need not say which of them won.
    default = selected if _are_few(windows) else reduced
    maxima: Array = by_platform(cpu=selected, default=default, tpu=reduced)(x)
    return maxima


def _are_few(windows: tuple[Window, ...]) -> bool:
    return math.prod(window.kernel for window in windows) <= thresholds().pooling_taps


@window_maxima.defjvp
def _window_maxima_jvp(
    windows: tuple[Window, ...], primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    # The tangent of a maximum is the winner's tangent; the transpose adds the cotangent there. So
    # all that the derivative keeps of `x` is where the winners are; on a TPU it keeps `x`.
    (x,), (x_dot,) = primals, tangents
    _, indices = select_max(lax.stop_gradient(x), windows)
    return window_maxima(x, windows), _pick(x_dot, x, indices, windows)


@partial(jax.jit, static_argnums=1)
def max_with_indices(
    x: Num[Array, "..."], windows: tuple[Window, ...]
) -> tuple[Num[Array, "..."], Int[Array, "..."]]:
    """Return each window's maximum, and its flat position in the unpadded volume."""
    _, indices = select_max(lax.stop_gradient(x), windows)
    return window_maxima(x, windows), indices.astype(index_dtype())


def _pick(
    x_dot: Num[Array, "..."],
    x: Num[Array, "..."],
    indices: Int[Array, "..."],
    windows: tuple[Window, ...],
) -> Num[Array, "..."]:
    """Return what `x_dot` holds at the windows' `indices`: linear in it, and zero outside it."""
    by_taps = partial(pick_by_taps, windows=windows)
    if is_sharded(x):
        # On an Explicit mesh the gather's reshape would join a sharded dimension with others.
        return by_taps(x_dot, indices)
    # The transpose of the gather is a scatter: the fastest on a CPU, but a loop on a TPU, and
    # atomic additions in any order on a GPU. There the transpose of slices serves, which fuses.
    by_gather = partial(pick_by_gather, n=len(windows))
    pick = by_taps if _are_few(windows) else by_gather

    def cpu(x_dot: Array, x: Array, indices: Array) -> Array:
        return by_gather(x_dot, indices)

    def default(x_dot: Array, x: Array, indices: Array) -> Array:
        return pick(x_dot, indices)

    def tpu(x_dot: Array, x: Array, indices: Array) -> Array:
        def value(x_dot: Array, x: Array, indices: Array) -> Array:
            return pick(x_dot, indices)

        def transpose(cotangent: Array, x: Array, indices: Array) -> Array:
            return scatter_to_maxima(cotangent, x, windows)

        return with_transpose_of(value, transpose, x_dot, x, indices)

    own = tpu if is_selectable(x, windows) else None
    picked: Array = by_platform(cpu=cpu, default=default, tpu=own)(x_dot, x, indices)
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
