"""Max pooling on a TPU, whose compiler has an operation for it, and one for its transpose.

Both get the order of `candidate_wins`: by JAX's own maximum and "greater or equal", the gradient of
a NaN goes to another element.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Num

from ...._dtypes import accumulation_dtype
from .._windows import Window, along_each_axis, reduction_of, windows_first, windows_last
from .definition import candidate_wins, lowest


def maxima_by_reduction(x: Num[Array, "..."], windows: tuple[Window, ...]) -> Num[Array, "..."]:
    """Return each window's maximum, as one reduction."""

    def later_if_it_wins(best: Array, candidate: Array) -> Array:
        return lax.select(candidate_wins(candidate, best), candidate, best)

    start = jnp.asarray(lowest(x.dtype), x.dtype)
    return lax.reduce_window(x, start, later_if_it_wins, **reduction_of(x.shape, windows))


def can_scatter(shape: tuple[int, ...], windows: tuple[Window, ...]) -> bool:
    """Whether the operation knows such windows: not dilated, and of known extent."""
    sizes = shape[-len(windows) :]
    is_known = all(isinstance(w.reach(n), int) for w, n in zip(windows, sizes, strict=True))
    return is_known and all(w.dilation == 1 for w in windows)


def scatter_to_maxima(
    cotangent: Num[Array, "..."], x: Num[Array, "..."], windows: tuple[Window, ...]
) -> Num[Array, "..."]:
    """Return zeros like `x`, to which each window's cotangent is added where its maximum is."""
    # One axis after the other, since the order of a window's axes is the compiler's choice. The
    # first row that has the maximum, then the first in that row, is the first in row-major order.
    # In half precision the operation repacks what it reads.
    wide = accumulation_dtype(x.dtype)
    first, _ = windows_first(cotangent.astype(wide), windows)
    x, all_windows = windows_first(x.astype(wide), windows)
    along = along_each_axis(all_windows)
    partly = [x]
    for window in along[:0:-1]:
        partly.append(maxima_by_reduction(partly[-1], window))
    for window in along:
        first = _scatter(first, partly.pop(), window)
    return windows_last(first, len(windows)).astype(cotangent.dtype)


def _scatter(cotangent: Array, x: Array, windows: tuple[Window, ...]) -> Array:
    reduction = reduction_of(x.shape, windows)
    del reduction["window_dilation"]
    zero = jnp.zeros((), x.dtype)

    def stays(best: Array, candidate: Array) -> Array:
        return ~candidate_wins(candidate, best)

    select, add = (jax.make_jaxpr(f)(zero, zero).jaxpr for f in (stays, lax.add))

    # The primitive cannot be mapped. What is mapped is one dimension more before the windows'.
    @custom_vmap
    def scattered(cotangent: Array, x: Array) -> Array:
        output: Array = lax.select_and_scatter_p.bind(
            x, cotangent, zero, select_jaxpr=select, select_consts=(), scatter_jaxpr=add,
            scatter_consts=(), **reduction,
        )  # fmt: skip
        return output

    @scattered.def_vmap
    def _(size: int, is_mapped: list[bool], *arrays: Array) -> tuple[Array, bool]:
        cotangent, x = (
            a if mapped else jnp.broadcast_to(a, (size, *a.shape))
            for a, mapped in zip(arrays, is_mapped, strict=True)
        )
        return _scatter(cotangent, x, windows), True

    output: Array = scattered(cotangent, x)
    return output
