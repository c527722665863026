"""Pooling by a root of a sum of powers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Float, Num

from ... import functional as F
from ..._types import IntOrInts
from ...functional.pooling import lp_windows_of
from .._module import Module, name_of
from .._options import static


class _LPPool(Module):
    _n: ClassVar[int]
    _function: ClassVar[Callable[..., Any]]
    _shown = ("norm_type", "kernel_size", "stride", "ceil_mode")

    def __init__(
        self,
        norm_type: float,
        kernel_size: IntOrInts,
        stride: IntOrInts | None = None,
        ceil_mode: bool = False,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        lp_windows_of(self._n, name_of(self), norm_type, kernel_size, stride, ceil_mode)
        self.norm_type = norm_type
        self.kernel_size = static(kernel_size)
        self.stride = static(stride)
        self.ceil_mode = ceil_mode

    def __call__(self, input: Num[Array, "*N C *spatial"]) -> Float[Array, "*N C *spatial_out"]:
        options = self.norm_type, self.kernel_size, self.stride, self.ceil_mode
        return type(self)._function(input, *options)


class LPPool1d(_LPPool):
    """Root of the sum of powers of each window over the last axis.

    See `LPPool2d` and `jaxnn.functional.lp_pool1d`.

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out).

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.LPPool1d(2, 2)(jnp.array([[3.0, 4.0, 6.0, 8.0]]))
        Array([[ 5., 10.]], dtype=float32)
    """

    _n = 1
    _function = staticmethod(F.lp_pool1d)


class LPPool2d(_LPPool):
    """Root of the sum of powers of each window over the last two axes.

    See `jaxnn.functional.lp_pool2d`.

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N; each size as of
    `AvgPool2d` without padding.

    Args:
        norm_type: the power, not 0.
        kernel_size: positions in a window; this and the next one, one number or one an axis.
        stride: step from window to window, None for `kernel_size`.
        ceil_mode: whether a last window may be ragged.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.LPPool2d(2, 2)(jnp.ones((1, 2, 4)))
        Array([[[2., 2.]]], dtype=float32)
    """

    _n = 2
    _function = staticmethod(F.lp_pool2d)


class LPPool3d(_LPPool):
    """Root of the sum of powers of each window over the last three axes.

    See `LPPool2d` and `jaxnn.functional.lp_pool3d`.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.LPPool3d(1, 2)(jnp.ones((1, 2, 2, 2)))
        Array([[[[8.]]]], dtype=float32)
    """

    _n = 3
    _function = staticmethod(F.lp_pool3d)
