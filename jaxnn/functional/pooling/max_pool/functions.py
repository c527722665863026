"""Max pooling: thin 1d, 2d and 3d functions over an N-d core."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Num

from ...._checks import check_array
from ...._types import IntOrInts
from .._windows import Window, check_input, windows_of
from .winners import max_with_indices, window_maxima

_POOLED_DTYPES = frozenset(
    ["bfloat16", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8"]
)


def max_pool1d(
    input: Num[Array, "*N C L"],
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maximum of each window over the last axis; see `max_pool2d`.

    Integers are pooled only together with `return_indices`, as in torch.

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out).

    Raises:
        TypeError, ValueError: as `max_pool2d`.

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
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maximum of each window over the last two axes.

    Formula:
        out[n, c, y, x] = max over i < kH, j < kW of
            input[n, c, y * sH - pH + i * dH, x * sW - pW + j * dW]

    Positions outside the input never win. A NaN in the window makes the maximum NaN.

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N, with H_out =
    floor((H + 2 * padding - dilation * (kernel_size - 1) - 1) / stride) + 1. With `ceil_mode` it is
    the ceiling, less one where the last window would start at or beyond H + padding.

    Args:
        input: floating-point or integer (int8 to int64, uint8).
        kernel_size: taps in a window; this and the next three, one number or one for each axis.
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
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maximum of each window over the last three axes; see `max_pool2d`.

    Positions are (d * H + h) * W + w.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N.

    Raises:
        TypeError, ValueError: as `max_pool2d`.

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
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
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
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
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
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
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
    kernel_size: IntOrInts,
    stride: IntOrInts | None,
    padding: IntOrInts,
    dilation: IntOrInts,
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


@partial(jax.jit, static_argnums=1)
def _max_pool(x: Num[Array, "..."], windows: tuple[Window, ...]) -> Num[Array, "..."]:
    return window_maxima(x, windows)
