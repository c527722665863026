"""Pooling layers: thin classes over `jaxnn.functional.pooling`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Num

from .. import functional as F
from ..functional.pooling import windows_of
from ._module import Module


class _MaxPoolNd(Module):
    _n: ClassVar[int]

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs  # nothing is drawn
        layer = f"jaxnn.{type(self).__name__}"
        windows_of(self._n, layer, kernel_size, stride, padding, dilation, ceil_mode)
        if not isinstance(return_indices, bool):
            raise TypeError(
                f"{layer}: `return_indices` must be True or False, got {return_indices!r}"
            )
        self.kernel_size = _static(kernel_size)
        self.stride = _static(stride) or self.kernel_size
        self.padding = _static(padding)
        self.dilation = _static(dilation)
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )

    def __call__(self, input: Num[Array, "*N C *spatial"]) -> Any:
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[self._n - 1]
        return pool(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )


class MaxPool1d(_MaxPoolNd):
    """Maximum of each window over the last axis.

    Formula:
        out[n, c, o] = max over j < kernel_size of input[n, c, o * stride - padding + j * dilation]

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out), with L_out =
    floor((L + 2 * padding - dilation * (kernel_size - 1) - 1) / stride) + 1. With `ceil_mode` it is
    the ceiling, less one where the last window would start at or beyond L + padding.

    Args:
        kernel_size: taps in a window.
        stride: step from window to window, None for `kernel_size`.
        padding: positions added on both sides, which never win; at most half of `kernel_size`.
        dilation: step from tap to tap.
        return_indices: whether the call returns the maxima's positions too.
        ceil_mode: whether a last window may be ragged.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input's dtype cannot be
            pooled (integers only together with `return_indices`, as in torch).
        ValueError: if an option is out of range; at the call, if the input's shape does not fit.

    Source: torch.nn.MaxPool1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.MaxPool1d(3, stride=2, padding=1)(jnp.array([[3.0, 1.0, 2.0, 0.0, 5.0]]))
        Array([[3., 2., 5.]], dtype=float32)
    """

    _n = 1


class MaxPool2d(_MaxPoolNd):
    """Maximum of each window over the last two axes.

    Formula:
        out[n, c, y, x] = max over i < kH, j < kW of
            input[n, c, y * sH - pH + i * dH, x * sW - pW + j * dW]

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N; each size as for
    `MaxPool1d`.

    Args:
        kernel_size: taps in a window; this and the next three, one number or (height, width).
        stride: step from window to window, None for `kernel_size`.
        padding: positions added on both sides, which never win; at most half of `kernel_size`.
        dilation: step from tap to tap.
        return_indices: whether the call returns the maxima's positions h * W + w in the unpadded
            plane too: the first of equals, the last of NaNs.
        ceil_mode: whether a last window may be ragged.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input's dtype cannot be
            pooled.
        ValueError: if an option is out of range; at the call, if the input's shape does not fit.

    Source: torch.nn.MaxPool2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.MaxPool2d(2, ceil_mode=True)(jnp.arange(9.0).reshape(1, 3, 3))
        Array([[[4., 5.],
                [7., 8.]]], dtype=float32)
    """

    _n = 2


class MaxPool3d(_MaxPoolNd):
    """Maximum of each window over the last three axes.

    Formula:
        out[n, c, z, y, x] = max over h < kD, i < kH, j < kW of
            input[n, c, z * sD - pD + h * dD, y * sH - pH + i * dH, x * sW - pW + j * dW]

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N; each size as for
    `MaxPool1d`.

    Args:
        kernel_size: taps in a window; this and the next three, one number or (depth, height,
            width).
        stride: step from window to window, None for `kernel_size`.
        padding: positions added on both sides, which never win; at most half of `kernel_size`.
        dilation: step from tap to tap.
        return_indices: whether the call returns the maxima's positions (d * H + h) * W + w in the
            unpadded volume too: the first of equals, the last of NaNs.
        ceil_mode: whether a last window may be ragged.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input's dtype cannot be
            pooled.
        ValueError: if an option is out of range; at the call, if the input's shape does not fit.

    Source: torch.nn.MaxPool3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.MaxPool3d(2)(jnp.arange(8.0).reshape(1, 2, 2, 2))
        Array([[[[7.]]]], dtype=float32)
    """

    _n = 3


def _static(option: Any) -> Any:
    """Return a list as a tuple: a module's list would count as part of its state."""
    return tuple(option) if isinstance(option, Sequence) else option
