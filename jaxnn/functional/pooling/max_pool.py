"""Max pooling: an N-d core, and thin 1d, 2d and 3d functions over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, Num

from ..._checks import check_array
from ..._dtypes import index_dtype
from ..._thresholds import thresholds
from ..._xla import by_platform, is_sharded
from ._windows import (
    Window,
    check_input,
    pad_to_windows,
    taps_of,
    window_counts,
    windows_of,
)

_POOLED_DTYPES = frozenset(
    ["bfloat16", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8"]
)


def max_pool1d(
    input: Num[Array, "*N C L"],
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maximum of each window over the last axis.

    Formula:
        out[n, c, o] = max over j < kernel_size of input[n, c, o * stride - padding + j * dilation]

    Positions outside the input never win. A NaN in the window makes the maximum NaN.

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out), with L_out =
    floor((L + 2 * padding - dilation * (kernel_size - 1) - 1) / stride) + 1. With `ceil_mode` it is
    the ceiling, less one where the last window would start at or beyond L + padding.

    Args:
        input: floating-point; integers only together with `return_indices`, as in torch.
        kernel_size: taps in a window.
        stride: step from window to window, None for `kernel_size`.
        padding: positions added on both sides, at most half of `kernel_size`.
        dilation: step from tap to tap.
        ceil_mode: whether a last window may be ragged.
        return_indices: whether to return the maxima's positions too (the class takes this option
            before `ceil_mode`, as in torch).

    Returns:
        The maxima, of the input's dtype; with `return_indices` a pair of them and their positions.

    Raises:
        TypeError: if the input's dtype cannot be pooled, or an option is not of its type.
        ValueError: if an option is out of range, or the input's shape does not fit.

    Source: torch.nn.functional.max_pool1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.array([[3.0, 1.0, 2.0, 0.0, 5.0]])
        >>> jaxnn.functional.max_pool1d(x, 2, ceil_mode=True)
        Array([[3., 2., 5.]], dtype=float32)
    """
    return _max_pool_nd(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Num[Array, "*N C H W"],
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maximum of each window over the last two axes.

    Formula:
        out[n, c, y, x] = max over i < kH, j < kW of
            input[n, c, y * sH - pH + i * dH, x * sW - pW + j * dW]

    Positions outside the input never win. A NaN in the window makes the maximum NaN.

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N; each size as in
    `max_pool1d`.

    Args:
        input: floating-point or integer (int8 to int64, uint8).
        kernel_size: taps in a window; this and the next three, one number or (height, width).
        stride: step from window to window, None for `kernel_size`.
        padding: positions added on both sides, at most half of `kernel_size`.
        dilation: step from tap to tap.
        ceil_mode: whether a last window may be ragged.
        return_indices: whether to return the maxima's positions too (the class takes this option
            before `ceil_mode`, as in torch).

    Returns:
        The maxima, of the input's dtype; with `return_indices` a pair of them and their positions
        h * W + w in the unpadded plane: the first of equals, the last of NaNs.

    Raises:
        TypeError: if the input's dtype cannot be pooled, or an option is not of its type.
        ValueError: if an option is out of range, or the input's shape does not fit.

    Source: torch.nn.functional.max_pool2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.arange(9.0).reshape(1, 3, 3)
        >>> jaxnn.functional.max_pool2d(x, 2, ceil_mode=True)
        Array([[[4., 5.],
                [7., 8.]]], dtype=float32)
        >>> jaxnn.functional.max_pool2d(x, 2, return_indices=True)[1]
        Array([[[4]]], dtype=int32)
    """
    return _max_pool_nd(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Num[Array, "*N C D H W"],
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maximum of each window over the last three axes.

    Formula:
        out[n, c, z, y, x] = max over h < kD, i < kH, j < kW of
            input[n, c, z * sD - pD + h * dD, y * sH - pH + i * dH, x * sW - pW + j * dW]

    Positions outside the input never win. A NaN in the window makes the maximum NaN.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N; each size as in
    `max_pool1d`.

    Args:
        input: floating-point or integer (int8 to int64, uint8).
        kernel_size: taps in a window; this and the next three, one number or (depth, height,
            width).
        stride: step from window to window, None for `kernel_size`.
        padding: positions added on both sides, at most half of `kernel_size`.
        dilation: step from tap to tap.
        ceil_mode: whether a last window may be ragged.
        return_indices: whether to return the maxima's positions too (the class takes this option
            before `ceil_mode`, as in torch).

    Returns:
        The maxima, of the input's dtype; with `return_indices` a pair of them and their positions
        (d * H + h) * W + w in the unpadded volume: the first of equals, the last of NaNs.

    Raises:
        TypeError: if the input's dtype cannot be pooled, or an option is not of its type.
        ValueError: if an option is out of range, or the input's shape does not fit.

    Source: torch.nn.functional.max_pool3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.max_pool3d(jnp.arange(8.0).reshape(1, 2, 2, 2), 2)
        Array([[[[7.]]]], dtype=float32)
    """
    return _max_pool_nd(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool1d_with_indices(
    input: Num[Array, "*N C L"],
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Num[Array, "*N C L_out"], Int[Array, "*N C L_out"]]:
    """`max_pool1d` that returns the indices whatever `return_indices` says, as in torch.

    Shapes, dtypes and errors: as for `max_pool1d`.

    Source: torch.nn.functional.max_pool1d_with_indices.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.max_pool1d_with_indices(jnp.array([[3, 1, 2, 4]]), 2)
        (Array([[3, 4]], dtype=int32), Array([[0, 3]], dtype=int32))
    """
    return _max_pool_nd(1, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(
    input: Num[Array, "*N C H W"],
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Num[Array, "*N C H_out W_out"], Int[Array, "*N C H_out W_out"]]:
    """`max_pool2d` that returns the indices whatever `return_indices` says, as in torch.

    Shapes, dtypes and errors: as for `max_pool2d`.

    Source: torch.nn.functional.max_pool2d_with_indices.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.max_pool2d_with_indices(jnp.arange(4).reshape(1, 2, 2), 2)
        (Array([[[3]]], dtype=int32), Array([[[3]]], dtype=int32))
    """
    return _max_pool_nd(2, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(
    input: Num[Array, "*N C D H W"],
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Num[Array, "*N C D_out H_out W_out"], Int[Array, "*N C D_out H_out W_out"]]:
    """`max_pool3d` that returns the indices whatever `return_indices` says, as in torch.

    Shapes, dtypes and errors: as for `max_pool3d`.

    Source: torch.nn.functional.max_pool3d_with_indices.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.max_pool3d_with_indices(jnp.arange(8).reshape(1, 2, 2, 2), 2)
        (Array([[[[7]]]], dtype=int32), Array([[[[7]]]], dtype=int32))
    """
    return _max_pool_nd(3, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def _max_pool_nd(
    n: int,
    input: Array,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    layer = f"max_pool{n}d"
    windows = windows_of(n, layer, kernel_size, stride, padding, dilation, ceil_mode)
    input = check_array(input, "input", layer)
    check_input(input, windows, layer)
    # torch's kernel for one axis that gives no indices knows no integers.
    whole_numbers = not jnp.issubdtype(input.dtype, jnp.floating)
    if input.dtype.name not in _POOLED_DTYPES or (n == 1 and whole_numbers and not return_indices):
        raise TypeError(
            f"{layer}: `input` of dtype {input.dtype} cannot be pooled; convert it with "
            "input.astype(jnp.float32)"
        )
    return max_with_indices(input, windows) if return_indices else _max_pool(input, windows)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def window_maxima(x: Num[Array, "..."], windows: tuple[Window, ...]) -> Num[Array, "..."]:
    """Return each window's maximum."""
    return select_max(x, windows)[0]


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
def _max_pool(x: Num[Array, "..."], windows: tuple[Window, ...]) -> Num[Array, "..."]:
    return window_maxima(x, windows)


@partial(jax.jit, static_argnums=1)
def max_with_indices(
    x: Num[Array, "..."], windows: tuple[Window, ...]
) -> tuple[Num[Array, "..."], Int[Array, "..."]]:
    """Return each window's maximum, and its flat position in the unpadded volume."""
    _, indices = select_max(lax.stop_gradient(x), windows)
    return window_maxima(x, windows), indices.astype(index_dtype())


def select_max(
    x: Num[Array, "..."], windows: tuple[Window, ...]
) -> tuple[Num[Array, "..."], Int[Array, "..."]]:
    """Return each window's maximum, and its flat position in the unpadded volume."""
    lowest = _lowest(x.dtype)
    counts = window_counts(x.shape, windows)
    padded = pad_to_windows(x, windows, lowest), _positions(x.shape, windows)
    taps = math.prod(window.kernel for window in windows)
    select = _select_by_taps if taps <= thresholds().pooling_taps else _select_by_doubling
    maxima, indices = select(*padded, windows, counts)
    if any(window.padding for window in windows):
        # Padding wins only where all else holds the lowest value too: then the first tap inside.
        is_lowest = maxima == jnp.asarray(lowest, x.dtype)
        indices = jnp.where(is_lowest, _first_inside(x.shape, windows), indices)
    return maxima, indices


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


def candidate_wins(candidate: Num[Array, "..."], best: Num[Array, "..."]) -> Bool[Array, "..."]:
    """Whether `candidate` takes the place of `best`, which came before it."""
    # Of equals the first stays, be it for the index or for a zero's sign; of NaNs the last.
    return (candidate > best) | jnp.isnan(candidate)


def _pick(
    x: Num[Array, "..."], indices: Int[Array, "..."], windows: tuple[Window, ...]
) -> Num[Array, "..."]:
    """Return what `x` holds at the windows' `indices`: linear in `x`, and zero outside it."""
    by_gather = partial(pick_by_gather, n=len(windows))
    if is_sharded(x):
        # On an Explicit mesh the gather's reshape would join a sharded dimension with others.
        return _pick_by_taps(x, indices, windows)
    if math.prod(window.kernel for window in windows) > thresholds().pooling_taps:
        return by_gather(x, indices)
    # The transpose of the gather is a scatter: the fastest on a CPU, but a loop on a TPU, and
    # atomic additions in any order on a GPU. There the transpose of slices serves, which fuses.
    by_taps = partial(_pick_by_taps, windows=windows)
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


def _pick_by_taps(
    x: Num[Array, "..."], indices: Int[Array, "..."], windows: tuple[Window, ...]
) -> Num[Array, "..."]:
    counts = window_counts(x.shape, windows)
    places = taps_of(_positions(x.shape, windows), windows, counts)
    taps = taps_of(pad_to_windows(x, windows, 0), windows, counts)
    picked = jnp.zeros_like(indices, x.dtype)
    for tap, place in zip(taps, places, strict=True):
        picked = jnp.where(indices == place, tap, picked)
    return picked


def _shifted(x: Num[Array, "..."], step: int, axis: int) -> tuple[Array, Array]:
    """Return `x` without its last, and without its first `step` entries along `axis`."""
    size = x.shape[axis]
    return (
        lax.slice_in_dim(x, 0, size - step, axis=axis),
        lax.slice_in_dim(x, step, size, axis=axis),
    )


def _positions(shape: tuple[int, ...], windows: tuple[Window, ...]) -> Int[Array, "..."]:
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


def _lowest(dtype: Any) -> float | int:
    return -jnp.inf if jnp.issubdtype(dtype, jnp.floating) else int(jnp.iinfo(dtype).min)
