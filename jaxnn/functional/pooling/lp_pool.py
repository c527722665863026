"""Power-average pooling: an N-d core, and thin 1d, 2d and 3d functions over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num

from ..._checks import check_array, check_int
from ..._dtypes import accumulation_dtype
from ..._types import IntOrInts, Scalar
from ._windows import Window, check_input, windows_of
from .average_pool import check_volume, covered, window_sums
from .max_pool.winners import window_maxima


def lp_pool1d(
    input: Num[Array, "*N C L"],
    norm_type: Scalar,
    kernel_size: int,
    stride: IntOrInts | None = None,
    ceil_mode: bool = False,
) -> Float[Array, "*N C L_out"]:
    """Power mean, times a power of the window's size, over the last axis; see `lp_pool2d`.

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out).

    Raises:
        TypeError, ValueError: as `lp_pool2d`.

    Source: torch.nn.functional.lp_pool1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.lp_pool1d(jnp.array([[3.0, 4.0, 6.0, 8.0]]), 2, 2)
        Array([[ 5., 10.]], dtype=float32)
    """
    return _lp_pool_nd(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Num[Array, "*N C H W"],
    norm_type: Scalar,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    ceil_mode: bool = False,
) -> Float[Array, "*N C H_out W_out"]:
    """Power mean, times a power of the window's size, of each window over the last two axes.

    Formula:
        out[n, c, y, x] = (sum over i < kH, j < kW of input[n, c, y * sH + i, x * sW + j]^p)^(1 / p)

    with p = norm_type. There are no absolute values: where the sum of an odd or fractional power is
    negative, so may be the root, or NaN. For p of inf or -inf the output is the maximum or minimum
    of the absolute values. A ragged last window has its mean, not its sum, times the whole size.

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N, with H_out =
    floor((H - kernel_size) / stride) + 1. With `ceil_mode` it is the ceiling, less one where the
    last window would start at or beyond H.

    Args:
        input: floating-point; whole numbers are converted to float32.
        norm_type: p, not 0, which may be traced if it is finite.
        kernel_size: positions in a window; this and the next, one number or one for each axis.
        stride: step from window to window, None for `kernel_size`.
        ceil_mode: whether a last window may be ragged.

    Returns:
        The roots, of the input's dtype. Where the sum is 0, no gradient flows through it.

    Raises:
        TypeError: if an option is not of its type.
        ValueError: if an option is out of range, or the input's shape does not fit.

    Source: torch.nn.functional.lp_pool2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.lp_pool2d(jnp.ones((1, 2, 4)), 2, 2)
        Array([[[2., 2.]]], dtype=float32)
    """
    return _lp_pool_nd(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Num[Array, "*N C D H W"],
    norm_type: Scalar,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    ceil_mode: bool = False,
) -> Float[Array, "*N C D_out H_out W_out"]:
    """Power mean, times a power of the window's size, over the last three axes; see `lp_pool2d`.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N.

    Raises:
        TypeError, ValueError: as `lp_pool2d`; also if a window is larger than the input.

    Source: torch.nn.functional.lp_pool3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.lp_pool3d(jnp.ones((1, 2, 2, 2)), 1, 2)
        Array([[[[8.]]]], dtype=float32)
    """
    return _lp_pool_nd(3, input, norm_type, kernel_size, stride, ceil_mode)


def lp_windows_of(
    n: int,
    layer: str,
    norm_type: Scalar,
    kernel_size: IntOrInts,
    stride: IntOrInts | None,
    ceil_mode: bool,
) -> tuple[Window, ...]:
    """Check the options of power-average pooling, and return the windows of each axis.

    Raises:
        TypeError: if an option is not of its type.
        ValueError: if a size is too small, `kernel_size` has not `n` elements, or p is 0.
    """
    if not isinstance(norm_type, (int, float, np.number, jax.Array)) or jnp.ndim(norm_type) != 0:
        raise TypeError(f"{layer}: `norm_type` must be a number, got {norm_type!r}")
    if not isinstance(norm_type, jax.core.Tracer) and norm_type == 0:
        raise ValueError(f"{layer}: `norm_type` must not be 0, of which there is no root")
    if n == 1:
        check_int(kernel_size, "kernel_size", layer, minimum=1)
    elif isinstance(kernel_size, Sequence) and len(kernel_size) != n:
        raise ValueError(f"{layer}: `kernel_size` must be an int or {n} ints, got {kernel_size!r}")
    return windows_of(n, layer, kernel_size, stride, 0, 1, ceil_mode)


def _lp_pool_nd(
    n: int,
    input: Array,
    norm_type: Scalar,
    kernel_size: IntOrInts,
    stride: IntOrInts | None,
    ceil_mode: bool,
) -> Array:
    layer = f"lp_pool{n}d"
    windows = lp_windows_of(n, layer, norm_type, kernel_size, stride, ceil_mode)
    input = check_array(input, "input", layer)
    check_input(input, windows, layer)
    if not jnp.issubdtype(input.dtype, jnp.floating):
        input = input.astype(jnp.float32)
    if isinstance(norm_type, jax.Array):
        return _power_average(input, None, norm_type, windows)
    if math.isinf(norm_type):
        return _extreme_magnitude(input, float(norm_type), windows)
    if n == 3:
        check_volume(input, windows, layer)
    return _power_average(input, float(norm_type), None, windows)


@partial(jax.jit, static_argnums=(1, 2), inline=True)
def _extreme_magnitude(
    x: Float[Array, "..."], sign: float, windows: tuple[Window, ...]
) -> Float[Array, "..."]:
    slope = jnp.where(jnp.isnan(x), jnp.zeros_like(x), jnp.sign(x))
    # As in torch the slope of the magnitude is 0 at 0 and at NaN.
    magnitude = x * lax.stop_gradient(slope)
    return window_maxima(magnitude, windows) if sign > 0 else -window_maxima(-magnitude, windows)


@partial(jax.jit, static_argnums=(1, 3), inline=True)
def _power_average(
    x: Float[Array, "..."], known: float | None, traced: Any, windows: tuple[Window, ...]
) -> Float[Array, "..."]:
    # A known power is a constant, which XLA turns into products and roots.
    wide = x.astype(accumulation_dtype(x.dtype))
    p = jnp.asarray(known if traced is None else traced, wide.dtype)
    if known is not None and known.is_integer() and abs(known) <= 16:
        powers = lax.integer_pow(wide, int(known))
    else:
        powers = jnp.power(wide, p)
    total = window_sums(powers, windows)
    if any(window.ceil_mode for window in windows):
        # torch multiplies the mean, also that of a ragged window, by the size of a whole one.
        whole = math.prod(window.kernel for window in windows)
        total = total * (whole / covered(x.shape, windows, True, total.dtype))
    # Where the sum is 0 the root's infinite slope is cut off; where it is NaN, its slope is 0.
    total = jnp.where(jnp.isnan(total), 0 * total, total)
    total = jnp.where(total == 0, jnp.zeros_like(total), total)
    return jnp.power(total, 1 / p).astype(x.dtype)
