"""The way back from maximum pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Float, Int

from ... import functional as F
from ..._types import IntOrInts
from ...functional.pooling import unpool_options
from .._module import Module, name_of


class _MaxUnpool(Module):
    _n: ClassVar[int]
    _function: ClassVar[Callable[..., Any]]
    _shown = ("kernel_size", "stride", "padding")

    def __init__(
        self,
        kernel_size: IntOrInts,
        stride: IntOrInts | None = None,
        padding: IntOrInts = 0,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        options = unpool_options(self._n, name_of(self), kernel_size, stride, padding)
        self.kernel_size, self.stride, self.padding = options

    def __call__(
        self,
        input: Float[Array, "*N C *spatial"],
        indices: Int[Array, "*N C *spatial"],
        output_size: Sequence[int] | None = None,
    ) -> Float[Array, "*N C *spatial_out"]:
        options = self.kernel_size, self.stride, self.padding, output_size
        return type(self)._function(input, indices, *options)


class MaxUnpool1d(_MaxUnpool):
    """Put each value at its index along the last axis, and zero elsewhere.

    See `MaxUnpool2d` and `jaxnn.functional.max_unpool1d`.

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out).

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.array([[1.0, 3.0, 5.0, 4.0]])
        >>> pooled, indices = jaxnn.MaxPool1d(2, return_indices=True)(x)
        >>> jaxnn.MaxUnpool1d(2)(pooled, indices)
        Array([[0., 3., 5., 0.]], dtype=float32)
    """

    _n = 1
    _function = staticmethod(F.max_unpool1d)


class MaxUnpool2d(_MaxUnpool):
    """Put each value at its index in the plane, and zero elsewhere.

    See `jaxnn.functional.max_unpool2d`, which also says what `output_size` may be at the call.

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N, each size
    being (size - 1) * stride - 2 * padding + kernel_size, or what `output_size` says at the call.

    Args:
        kernel_size: positions in a window of the pooling; this and the next two, one number or
            one an axis.
        stride: step of the pooling, None for `kernel_size`.
        padding: padding of the pooling.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.array([[[1.0, 3.0], [5.0, 4.0]]])
        >>> pooled, indices = jaxnn.MaxPool2d(2, return_indices=True)(x)
        >>> jaxnn.MaxUnpool2d(2)(pooled, indices)
        Array([[[0., 0.],
                [5., 0.]]], dtype=float32)
    """

    _n = 2
    _function = staticmethod(F.max_unpool2d)


class MaxUnpool3d(_MaxUnpool):
    """Put each value at its index in the volume, and zero elsewhere.

    See `MaxUnpool2d` and `jaxnn.functional.max_unpool3d`.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.array([[[[1.0, 3.0]], [[5.0, 4.0]]]])
        >>> pooled, indices = jaxnn.MaxPool3d((2, 1, 2), return_indices=True)(x)
        >>> jaxnn.MaxUnpool3d((2, 1, 2))(pooled, indices)
        Array([[[[0., 0.]],
        <BLANKLINE>
                [[5., 0.]]]], dtype=float32)
    """

    _n = 3
    _function = staticmethod(F.max_unpool3d)
