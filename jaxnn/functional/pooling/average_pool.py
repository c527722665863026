"""Average pooling: an N-d core, and thin 1d, 2d and 3d functions over it."""

from __future__ import annotations

import math
from functools import partial, reduce

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Num

from ..._checks import check_array, check_int
from ..._dtypes import accumulation_dtype
from ..._thresholds import thresholds
from ..._types import IntOrInts
from ..._xla import by_platform
from ._windows import (
    Window,
    along_each_axis,
    check_input,
    reduction_of,
    taps_of,
    window_counts,
    windows_first,
    windows_last,
    windows_of,
)

# torch averages int64 alone of the integers, which without 64-bit mode are int32 here.
_AVERAGED_DTYPES = frozenset(["bfloat16", "float16", "float32", "float64", "int32", "int64"])


def avg_pool1d(
    input: Num[Array, "*N C L"],
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Num[Array, "*N C L_out"]:
    """Mean of each window over the last axis, padded with zeros; see `avg_pool2d`.

    There is no `divisor_override`.

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out).

    Raises:
        TypeError, ValueError: as `avg_pool2d`.

    Source: torch.nn.functional.avg_pool1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.array([[3.0, 1.0, 2.0, 0.0, 5.0]])
        >>> jaxnn.functional.avg_pool1d(x, 2, ceil_mode=True)
        Array([[2., 1., 5.]], dtype=float32)
    """
    windows = average_windows_of(
        1, "avg_pool1d", kernel_size, stride, padding, ceil_mode, count_include_pad, None
    )
    return _avg_pool_nd("avg_pool1d", input, windows, count_include_pad, None)


def avg_pool2d(
    input: Num[Array, "*N C H W"],
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Num[Array, "*N C H_out W_out"]:
    """Mean of each window over the last two axes, padded with zeros.

    Formula:
        out[n, c, y, x] = (sum over i < kH, j < kW of
            input[n, c, y * sH - pH + i, x * sW - pW + j]) / count

    where count is `divisor_override`, or else how many of the window's positions lie in the padded
    input, or, without `count_include_pad`, in the input itself. A ragged last window counts what it
    has.

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N, with H_out =
    floor((H + 2 * padding - kernel_size) / stride) + 1. With `ceil_mode` it is the ceiling, less
    one where the last window would start at or beyond H + padding.

    Args:
        input: floating-point, or int32 and int64, whose means are rounded towards zero. Half
            precision is summed in float32.
        kernel_size: positions in a window; this and the next two, one number or one for each axis.
        stride: step from window to window, None for `kernel_size`.
        padding: zeros added on both sides, at most half of `kernel_size`.
        ceil_mode: whether a last window may be ragged.
        count_include_pad: whether padding counts.
        divisor_override: what every sum is divided by, not 0.

    Returns:
        The means, of the input's dtype.

    Raises:
        TypeError: if the input's dtype cannot be averaged, or an option is not of its type.
        ValueError: if an option is out of range, or the input's shape does not fit.

    Source: torch.nn.functional.avg_pool2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.arange(9.0).reshape(1, 3, 3)
        >>> jaxnn.functional.avg_pool2d(x, 2, ceil_mode=True)
        Array([[[2. , 3.5],
                [6.5, 8. ]]], dtype=float32)
    """
    windows = average_windows_of(
        2, "avg_pool2d", kernel_size, stride, padding, ceil_mode, count_include_pad,
        divisor_override,
    )  # fmt: skip
    return _avg_pool_nd("avg_pool2d", input, windows, count_include_pad, divisor_override)


def avg_pool3d(
    input: Num[Array, "*N C D H W"],
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Num[Array, "*N C D_out H_out W_out"]:
    """Mean of each window over the last three axes, padded with zeros; see `avg_pool2d`.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N.

    Raises:
        TypeError, ValueError: as `avg_pool2d`; also if a window is larger than the input.

    Source: torch.nn.functional.avg_pool3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.avg_pool3d(jnp.arange(8.0).reshape(1, 2, 2, 2), 2)
        Array([[[[3.5]]]], dtype=float32)
    """
    windows = average_windows_of(
        3, "avg_pool3d", kernel_size, stride, padding, ceil_mode, count_include_pad,
        divisor_override,
    )  # fmt: skip
    return _avg_pool_nd("avg_pool3d", input, windows, count_include_pad, divisor_override)


def average_windows_of(
    n: int,
    layer: str,
    kernel_size: IntOrInts,
    stride: IntOrInts | None,
    padding: IntOrInts,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> tuple[Window, ...]:
    """Check the options of average pooling over `n` axes, and return the windows of each axis.

    Raises:
        TypeError: if an option is not of its type.
        ValueError: if a size is too small, the padding exceeds half the kernel, or the divisor is
            0.
    """
    if not isinstance(count_include_pad, bool):
        raise TypeError(
            f"{layer}: `count_include_pad` must be True or False, got {count_include_pad!r}"
        )
    if divisor_override is not None and check_int(divisor_override, "divisor_override", layer) == 0:
        raise ValueError(f"{layer}: `divisor_override` must not be 0; None divides by the count")
    return windows_of(n, layer, kernel_size, stride, padding, 1, ceil_mode)


def _avg_pool_nd(
    layer: str,
    input: Array,
    windows: tuple[Window, ...],
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    input = check_array(input, "input", layer)
    check_input(input, windows, layer)
    if len(windows) == 3:
        check_volume(input, windows, layer)
    if input.dtype.name not in _AVERAGED_DTYPES:
        raise TypeError(
            f"{layer}: `input` of dtype {input.dtype} cannot be averaged; convert it with "
            "input.astype(jnp.float32)"
        )
    return _average(input, windows, count_include_pad, divisor_override)


def check_volume(input: Array, windows: tuple[Window, ...], layer: str) -> None:
    """Refuse a window larger than the input, as torch does over three axes, padded or not."""
    for size, window in zip(input.shape[-3:], windows, strict=True):
        if isinstance(size, int) and size < window.kernel:
            raise ValueError(
                f"{layer}: `input` of shape {input.shape} is smaller than kernel_size "
                f"{window.kernel}, which torch refuses; pad the input with jnp.pad first"
            )


@partial(jax.jit, static_argnums=(1, 2, 3), inline=True)
def _average(
    x: Num[Array, "..."],
    windows: tuple[Window, ...],
    count_include_pad: bool,
    divisor_override: int | None,
) -> Num[Array, "..."]:
    total = window_sums(x.astype(accumulation_dtype(x.dtype)), windows)
    if divisor_override is None:
        divisor = covered(x.shape, windows, count_include_pad, total.dtype)
    else:
        divisor = jnp.asarray(divisor_override, total.dtype)
    # lax.div, as C, rounds the quotient of whole numbers towards zero.
    return lax.div(total, jnp.broadcast_to(divisor, total.shape)).astype(x.dtype)


def window_sums(x: Num[Array, "..."], windows: tuple[Window, ...]) -> Num[Array, "..."]:
    """Return the sum of each window's taps, of which those in the padding count as zero."""
    if math.prod(w.kernel for w in windows) > thresholds().pooling_taps:
        return _sums_axis_by_axis(x, windows)
    disjoint = all(w.kernel <= w.stride and not (w.padding or w.ceil_mode) for w in windows)
    by_formula = partial(_sums_of_taps if disjoint else _sums_axis_by_axis, windows=windows)
    total: Array = by_platform(
        cpu=by_formula, default=by_formula, tpu=partial(_sums_at_once, windows=windows)
    )(x)
    return total


def _sums_of_taps(x: Num[Array, "..."], windows: tuple[Window, ...]) -> Num[Array, "..."]:
    # Each position is read once: a sum of slices, which XLA fuses forwards and backwards.
    return reduce(lax.add, taps_of(x, windows, window_counts(x.shape, windows)))


def _sums_axis_by_axis(x: Num[Array, "..."], windows: tuple[Window, ...]) -> Num[Array, "..."]:
    # kH + kW additions rather than kH * kW.
    for window in along_each_axis(windows):
        x = _sums(x, window)
    return x


def _sums_at_once(x: Num[Array, "..."], windows: tuple[Window, ...]) -> Num[Array, "..."]:
    # One operation of a TPU, and its transpose another.
    return windows_last(_sums(*windows_first(x, windows)), len(windows))


def _sums(x: Num[Array, "..."], windows: tuple[Window, ...]) -> Num[Array, "..."]:
    # A constant, from which JAX knows that this is a sum, and its derivative.
    zero = np.zeros((), x.dtype)
    return lax.reduce_window(x, zero, lax.add, **reduction_of(x.shape, windows))


def covered(
    shape: tuple[int, ...], windows: tuple[Window, ...], count_include_pad: bool, dtype: jnp.dtype
) -> Num[Array, "..."]:
    """Return how many positions count in each window."""
    if all(not w.ceil_mode and (count_include_pad or not w.padding) for w in windows):
        return jnp.asarray(math.prod(w.kernel for w in windows), dtype)
    product = jnp.ones((), dtype)
    for axis, window in enumerate(windows, len(shape) - len(windows)):
        size, reach = shape[axis], window.padding if count_include_pad else 0
        start = jnp.arange(window.count(size)) * window.stride - window.padding
        end = jnp.minimum(start + window.kernel, size + reach)
        count = (end - jnp.maximum(start, -reach)).astype(dtype)
        product = product * lax.expand_dims(count, [i for i in range(len(shape)) if i != axis])
    return product
