"""Average pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Num

from ... import functional as F
from ..._types import IntOrInts
from ...functional.pooling import average_windows_of
from .._module import Module, name_of
from .._options import static


class _AvgPool(Module):
    _n: ClassVar[int]
    _function: ClassVar[Callable[..., Any]]
    _shown = ("kernel_size", "stride", "padding")

    def __init__(
        self,
        kernel_size: IntOrInts,
        stride: IntOrInts | None = None,
        padding: IntOrInts = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        options = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        average_windows_of(self._n, name_of(self), *options)
        self.kernel_size = static(kernel_size)
        self.stride = static(stride) or self.kernel_size
        self.padding = static(padding)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def __call__(self, input: Num[Array, "*N C *spatial"]) -> Num[Array, "*N C *spatial_out"]:
        return type(self)._function(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


class AvgPool1d(_AvgPool):
    """Mean of each window over the last axis, padded with zeros.

    See `AvgPool2d`, which also has a `divisor_override`, and `jaxnn.functional.avg_pool1d`.

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out).

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AvgPool1d(3, stride=2, padding=1)(jnp.array([[3.0, 3.0, 2.0, 1.0, 3.0]]))
        Array([[2.       , 2.       , 1.3333334]], dtype=float32)
    """

    _n = 1

    def __init__(
        self,
        kernel_size: IntOrInts,
        stride: IntOrInts | None = None,
        padding: IntOrInts = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad, rngs=rngs)

    def __call__(self, input: Num[Array, "*N C L"]) -> Num[Array, "*N C L_out"]:
        return F.avg_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
        )


class AvgPool2d(_AvgPool):
    """Mean of each window over the last two axes, padded with zeros.

    See `jaxnn.functional.avg_pool2d`.

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N.

    Args:
        kernel_size: positions in a window; this and the next two, one number or one an axis.
        stride: step from window to window, None for `kernel_size`.
        padding: zeros added on both sides, at most half of `kernel_size`.
        ceil_mode: whether a last window may be ragged.
        count_include_pad: whether padding counts.
        divisor_override: what every sum is divided by, not 0.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AvgPool2d(2, ceil_mode=True)(jnp.arange(9.0).reshape(1, 3, 3))
        Array([[[2. , 3.5],
                [6.5, 8. ]]], dtype=float32)
    """

    _n = 2
    _function = staticmethod(F.avg_pool2d)


class AvgPool3d(_AvgPool):
    """Mean of each window over the last three axes, padded with zeros.

    See `AvgPool2d` and `jaxnn.functional.avg_pool3d`.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AvgPool3d(2)(jnp.arange(8.0).reshape(1, 2, 2, 2))
        Array([[[[3.5]]]], dtype=float32)
    """

    _n = 3
    _function = staticmethod(F.avg_pool3d)
