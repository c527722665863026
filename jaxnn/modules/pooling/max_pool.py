"""Maximum pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Num

from ... import functional as F
from ..._types import IntOrInts
from ...functional.pooling import windows_of
from .._module import Module, name_of
from .._options import check_return_indices, static


class _MaxPool(Module):
    _n: ClassVar[int]
    _function: ClassVar[Callable[..., Any]]
    _shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def __init__(
        self,
        kernel_size: IntOrInts,
        stride: IntOrInts | None = None,
        padding: IntOrInts = 0,
        dilation: IntOrInts = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        layer = name_of(self)
        windows_of(self._n, layer, kernel_size, stride, padding, dilation, ceil_mode)
        self.kernel_size = static(kernel_size)
        self.stride = static(stride) or self.kernel_size
        self.padding = static(padding)
        self.dilation = static(dilation)
        self.return_indices = check_return_indices(return_indices, layer)
        self.ceil_mode = ceil_mode

    def __call__(self, input: Num[Array, "*N C *spatial"]) -> Any:
        return type(self)._function(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )


class MaxPool1d(_MaxPool):
    """Maximum of each window over the last axis.

    See `MaxPool2d` and `jaxnn.functional.max_pool1d`.

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out).

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.MaxPool1d(3, stride=2, padding=1)(jnp.array([[3.0, 1.0, 2.0, 0.0, 5.0]]))
        Array([[3., 2., 5.]], dtype=float32)
    """

    _n = 1
    _function = staticmethod(F.max_pool1d)


class MaxPool2d(_MaxPool):
    """Maximum of each window over the last two axes: see `jaxnn.functional.max_pool2d`.

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N.

    Args:
        kernel_size: taps in a window; this and the next three, one number or one an axis.
        stride: step from window to window, None for `kernel_size`.
        padding: positions added on both sides, which never win; at most half of `kernel_size`.
        dilation: step from tap to tap.
        return_indices: whether the call returns the maxima's positions too, as
            `jaxnn.functional.max_pool2d` does.
        ceil_mode: whether a last window may be ragged.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.MaxPool2d(2, ceil_mode=True)(jnp.arange(9.0).reshape(1, 3, 3))
        Array([[[4., 5.],
                [7., 8.]]], dtype=float32)
    """

    _n = 2
    _function = staticmethod(F.max_pool2d)


class MaxPool3d(_MaxPool):
    """Maximum of each window over the last three axes.

    See `MaxPool2d` and `jaxnn.functional.max_pool3d`.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.MaxPool3d(2)(jnp.arange(8.0).reshape(1, 2, 2, 2))
        Array([[[[7.]]]], dtype=float32)
    """

    _n = 3
    _function = staticmethod(F.max_pool3d)
