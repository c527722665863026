"""Adaptive pooling, average and maximum: thin 1d, 2d and 3d functions over N-d cores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ...._checks import check_array, check_floating, check_int
from ...._dtypes import accumulation_dtype, index_dtype
from ...._thresholds import thresholds
from ...._types import IntOrInts
from ...._xla import by_platform
from .._windows import Window, check_rank
from ..average_pool import window_sums
from ..max_pool.winners import max_with_indices, pick_by_gather
from .cpu import means_by_sums
from .definition import adaptive_window, means_by_gather, means_by_reductions, places_of_maxima

OutputSize = int | Sequence[int | None]


def adaptive_avg_pool1d(
    input: Float[Array, "*N C L"], output_size: IntOrInts
) -> Float[Array, "*N C L_out"]:
    """Mean of each of `output_size` windows that cover the last axis; see `adaptive_avg_pool2d`.

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out), with L_out = output_size, a number.

    Raises:
        TypeError, ValueError: as `adaptive_avg_pool2d`.

    Source: torch.nn.functional.adaptive_avg_pool1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.adaptive_avg_pool1d(jnp.array([[1.0, 2.0, 3.0, 4.0, 5.0]]), 3)
        Array([[1.5, 3. , 4.5]], dtype=float32)
    """
    return _adaptive_avg_pool_nd(1, input, output_size)


def adaptive_avg_pool2d(
    input: Float[Array, "*N C H W"], output_size: OutputSize
) -> Float[Array, "*N C H_out W_out"]:
    """Mean of each of H_out * W_out windows that cover the last two axes.

    Formula:
        out[n, c, y, x] = mean of input[n, c,
            floor(y * H / H_out) : ceil((y + 1) * H / H_out),
            floor(x * W / W_out) : ceil((x + 1) * W / W_out)]

    Where there are more windows than positions, these repeat.

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N.

    Args:
        input: floating-point. Half precision is summed in float32.
        output_size: H_out and W_out, or one number for both; None in a pair keeps the input's size.

    Returns:
        The means, of the input's dtype.

    Raises:
        TypeError: if the input is not floating-point, or a size is not an int.
        ValueError: if a size is negative, or the input's shape does not fit.

    Source: torch.nn.functional.adaptive_avg_pool2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.adaptive_avg_pool2d(jnp.arange(6.0).reshape(1, 2, 3), (1, None))
        Array([[[1.5, 2.5, 3.5]]], dtype=float32)
    """
    return _adaptive_avg_pool_nd(2, input, output_size)


def adaptive_avg_pool3d(
    input: Float[Array, "*N C D H W"], output_size: OutputSize
) -> Float[Array, "*N C D_out H_out W_out"]:
    """Mean of each of `output_size` windows that cover the last three axes.

    See `adaptive_avg_pool2d`. None among three sizes keeps the input's.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N.

    Raises:
        TypeError, ValueError: as `adaptive_avg_pool2d`.

    Source: torch.nn.functional.adaptive_avg_pool3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.adaptive_avg_pool3d(jnp.arange(8.0).reshape(1, 2, 2, 2), 1)
        Array([[[[3.5]]]], dtype=float32)
    """
    return _adaptive_avg_pool_nd(3, input, output_size)


def adaptive_max_pool1d(
    input: Float[Array, "*N C L"], output_size: IntOrInts, return_indices: bool = False
) -> Any:
    """Maximum of each of `output_size` windows that cover the last axis; see `adaptive_max_pool2d`.

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out), with L_out = output_size, a number.

    Raises:
        TypeError, ValueError: as `adaptive_max_pool2d`.

    Source: torch.nn.functional.adaptive_max_pool1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.adaptive_max_pool1d(jnp.array([[1.0, 5.0, 3.0, 4.0, 2.0]]), 3)
        Array([[5., 5., 4.]], dtype=float32)
    """
    return _adaptive_max_pool_nd(1, input, output_size, return_indices)


def adaptive_max_pool2d(
    input: Float[Array, "*N C H W"], output_size: OutputSize, return_indices: bool = False
) -> Any:
    """Maximum of each of H_out * W_out windows that cover the last two axes.

    Formula:
        out[n, c, y, x] = max of input[n, c,
            floor(y * H / H_out) : ceil((y + 1) * H / H_out),
            floor(x * W / W_out) : ceil((x + 1) * W / W_out)]

    A NaN in the window makes the maximum NaN. Where there are more windows than positions, these
    repeat.

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N.

    Args:
        input: floating-point.
        output_size: H_out and W_out, or one number for both; None in a pair keeps the input's size.
        return_indices: whether to return the maxima's positions too.

    Returns:
        The maxima, of the input's dtype; with `return_indices` a pair of them and their positions
        h * W + w: the first of equals, the last of NaNs.

    Raises:
        TypeError: if the input is not floating-point, or a size is not an int.
        ValueError: if a size is negative, or the input's shape does not fit.

    Source: torch.nn.functional.adaptive_max_pool2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.arange(6.0).reshape(1, 2, 3)
        >>> jaxnn.functional.adaptive_max_pool2d(x, (1, None), return_indices=True)
        (Array([[[3., 4., 5.]]], dtype=float32), Array([[[3, 4, 5]]], dtype=int32))
    """
    return _adaptive_max_pool_nd(2, input, output_size, return_indices)


def adaptive_max_pool3d(
    input: Float[Array, "*N C D H W"], output_size: OutputSize, return_indices: bool = False
) -> Any:
    """Maximum of each of `output_size` windows that cover the last three axes.

    See `adaptive_max_pool2d`. None among three sizes keeps the input's.

    Positions are (d * H + h) * W + w.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N.

    Raises:
        TypeError, ValueError: as `adaptive_max_pool2d`.

    Source: torch.nn.functional.adaptive_max_pool3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.adaptive_max_pool3d(jnp.arange(8.0).reshape(1, 2, 2, 2), 1)
        Array([[[[7.]]]], dtype=float32)
    """
    return _adaptive_max_pool_nd(3, input, output_size, return_indices)


def adaptive_max_pool1d_with_indices(
    input: Float[Array, "*N C L"], output_size: IntOrInts, return_indices: bool = False
) -> tuple[Float[Array, "*N C L_out"], Int[Array, "*N C L_out"]]:
    """`adaptive_max_pool1d` that returns the indices whatever `return_indices` says, as in torch.

    Shapes, dtypes and errors: as for `adaptive_max_pool1d`.

    Source: torch.nn.functional.adaptive_max_pool1d_with_indices.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.adaptive_max_pool1d_with_indices(jnp.array([[3.0, 1.0, 2.0]]), 1)
        (Array([[3.]], dtype=float32), Array([[0]], dtype=int32))
    """
    return _adaptive_max_pool_nd(1, input, output_size, True)


def adaptive_max_pool2d_with_indices(
    input: Float[Array, "*N C H W"], output_size: OutputSize, return_indices: bool = False
) -> tuple[Float[Array, "*N C H_out W_out"], Int[Array, "*N C H_out W_out"]]:
    """`adaptive_max_pool2d` that returns the indices whatever `return_indices` says, as in torch.

    Shapes, dtypes and errors: as for `adaptive_max_pool2d`.

    Source: torch.nn.functional.adaptive_max_pool2d_with_indices.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.adaptive_max_pool2d_with_indices(jnp.ones((1, 2, 2)), 1)
        (Array([[[1.]]], dtype=float32), Array([[[0]]], dtype=int32))
    """
    return _adaptive_max_pool_nd(2, input, output_size, True)


def adaptive_max_pool3d_with_indices(
    input: Float[Array, "*N C D H W"], output_size: OutputSize, return_indices: bool = False
) -> tuple[Float[Array, "*N C D_out H_out W_out"], Int[Array, "*N C D_out H_out W_out"]]:
    """`adaptive_max_pool3d` that returns the indices whatever `return_indices` says, as in torch.

    Shapes, dtypes and errors: as for `adaptive_max_pool3d`.

    Source: torch.nn.functional.adaptive_max_pool3d_with_indices.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.adaptive_max_pool3d_with_indices(jnp.ones((1, 2, 2, 2)), 1)
        (Array([[[[1.]]]], dtype=float32), Array([[[[0]]]], dtype=int32))
    """
    return _adaptive_max_pool_nd(3, input, output_size, True)


def _adaptive_avg_pool_nd(n: int, input: Array, output_size: OutputSize) -> Array:
    layer = f"adaptive_avg_pool{n}d"
    input, counts = _checked(n, layer, input, output_size)
    return _adaptive_average(input, counts)


@partial(jax.jit, static_argnums=1, inline=True)
def _adaptive_average(x: Float[Array, "..."], counts: tuple[int, ...]) -> Float[Array, "..."]:
    wide = x.astype(accumulation_dtype(x.dtype))
    by_axes = partial(_means_axis_by_axis, counts=counts)
    windows = _equal_windows(x.shape, counts)
    at_once = partial(_means_at_once, windows=windows) if windows else None
    means: Array = by_platform(cpu=by_axes, default=by_axes, tpu=at_once)(wide)
    return means.astype(x.dtype)


def _equal_windows(shape: tuple[int, ...], counts: tuple[int, ...]) -> tuple[Window, ...] | None:
    """Return the windows where they are of one size and share no position."""
    sizes = shape[-len(counts) :]
    if not all(isinstance(size, int) for size in sizes):  # a window of a size that is a symbol
        return None
    if 0 in counts or any(size % count for size, count in zip(sizes, counts, strict=True)):
        return None
    steps = [size // count for size, count in zip(sizes, counts, strict=True)]
    return tuple(Window(step, step, 0, 1, False) for step in steps)


def _means_at_once(x: Float[Array, "..."], windows: tuple[Window, ...]) -> Float[Array, "..."]:
    return window_sums(x, windows) / math.prod(window.kernel for window in windows)


def _means_axis_by_axis(x: Float[Array, "..."], counts: tuple[int, ...]) -> Float[Array, "..."]:
    for axis, count in enumerate(counts, x.ndim - len(counts)):
        x = _means_along(x, axis, count)
    return x


def _means_along(x: Float[Array, "..."], axis: int, count: int) -> Float[Array, "..."]:
    """Return the mean of each of `count` windows along `axis`."""
    size = x.shape[axis]
    if count == 0:
        return lax.slice_in_dim(x, 0, 0, axis=axis)
    # The windows repeat after `period` of them. Where one size divides the other, that is at once.
    repeats = _common_divisor(size, count)
    period = count // repeats
    x = x.reshape(*x.shape[:axis], repeats, size // repeats, *x.shape[axis + 1 :])
    windows = [adaptive_window(i, size // repeats, period) for i in range(period)]
    # No matrix of weights: a NaN or an infinity would spread to windows that do not hold it.
    if period > thresholds().pooling_taps:
        means = means_by_gather(x, axis + 1, windows)
    elif isinstance(size, int) and _longest(windows) <= thresholds().pooling_taps:
        means = means_by_sums(x, axis + 1, tuple(windows))
    else:
        means = means_by_reductions(x, axis + 1, windows)
    return means.reshape(*x.shape[:axis], count, *x.shape[axis + 2 :])


def _common_divisor(size: int, count: int) -> int:
    if isinstance(size, int):
        return math.gcd(size, count)
    if size == count or size % count == 0:
        return count
    raise ValueError(
        f"adaptive pooling: {count} windows over a size of which only {size} is known; state that "
        f"it is a multiple of {count} (constraints=['mod({size}, {count}) == 0'])"
    )


def _longest(windows: Sequence[tuple[int, int]]) -> int:
    return max(end - start for start, end in windows)


def _adaptive_max_pool_nd(
    n: int, input: Array, output_size: OutputSize, return_indices: bool
) -> Any:
    layer = f"adaptive_max_pool{n}d"
    input, counts = _checked(n, layer, input, output_size)
    if input.ndim == n + 2 and input.shape[1] == 0:
        raise ValueError(
            f"{layer}: `input` may be empty only in the batch dimension, got shape {input.shape}"
        )
    output, indices = _adaptive_max(input, counts)
    return (output, indices) if return_indices else output


@partial(jax.jit, static_argnums=1, inline=True)
def _adaptive_max(
    x: Float[Array, "..."], counts: tuple[int, ...]
) -> tuple[Float[Array, "..."], Int[Array, "..."]]:
    if 0 in counts:
        empty = jnp.zeros((*x.shape[: -len(counts)], *counts), x.dtype)
        return empty, empty.astype(index_dtype())
    if windows := _equal_windows(x.shape, counts):
        return max_with_indices(x, windows)
    indices = places_of_maxima(lax.stop_gradient(x), counts)
    return pick_by_gather(x, indices, len(counts)), indices.astype(index_dtype())


def check_output_size(n: int, layer: str, output_size: OutputSize) -> tuple[int | None, ...]:
    """Return `output_size` as `n` sizes, of which None keeps the input's.

    Raises:
        TypeError: if a size is not an int, or None where torch takes none.
        ValueError: if a size is negative, or there are not `n`.
    """
    if not isinstance(output_size, Sequence) or isinstance(output_size, str):
        return (check_int(output_size, "output_size", layer, minimum=0),) * n
    if len(output_size) != n:
        raise ValueError(f"{layer}: `output_size` must be an int or {n} ints, got {output_size!r}")
    return tuple(
        None if size is None and n > 1 else check_int(size, "output_size", layer, minimum=0)
        for size in output_size
    )


def _checked(
    n: int, layer: str, input: Array, output_size: OutputSize
) -> tuple[Array, tuple[int, ...]]:
    sizes = check_output_size(n, layer, output_size)
    input = check_array(input, "input", layer)
    check_rank(input, n, layer)
    check_floating(input, "input", layer)
    if any(size == 0 for size in input.shape[-n:]):
        raise ValueError(
            f"{layer}: `input` may be empty only in the batch dimension, got shape {input.shape}"
        )
    return input, tuple(
        size if count is None else count
        for count, size in zip(sizes, input.shape[-n:], strict=True)
    )
