"""Pooling to a given output size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Float

from ... import functional as F
from ...functional.pooling import check_output_size
from .._module import Module, name_of
from .._options import check_return_indices, static


class _AdaptiveAvgPool(Module):
    _n: ClassVar[int]
    _function: ClassVar[Callable[..., Any]]
    _shown = ("output_size",)

    def __init__(
        self, output_size: int | Sequence[int | None], *, rngs: nnx.Rngs | None = None
    ) -> None:
        check_output_size(self._n, name_of(self), output_size)
        self.output_size = static(output_size)

    def __call__(self, input: Float[Array, "*N C *spatial"]) -> Float[Array, "*N C *spatial_out"]:
        return type(self)._function(input, self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Mean of each of `output_size` windows that cover the last axis.

    See `AdaptiveAvgPool2d` and `jaxnn.functional.adaptive_avg_pool1d`.

    Shapes: (N, C, L) -> (N, C, output_size), or (C, L) -> (C, output_size).

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AdaptiveAvgPool1d(3)(jnp.array([[1.0, 2.0, 3.0, 4.0, 5.0]]))
        Array([[1.5, 3. , 4.5]], dtype=float32)
    """

    _n = 1
    _function = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Mean of each of H_out * W_out windows that cover the last two axes.

    See `jaxnn.functional.adaptive_avg_pool2d`.

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N.

    Args:
        output_size: the sizes of the output, or one number for all; where they are several, None
            keeps the input's size. More than the input has repeat its positions.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AdaptiveAvgPool2d((1, None))(jnp.arange(6.0).reshape(1, 2, 3))
        Array([[[1.5, 2.5, 3.5]]], dtype=float32)
    """

    _n = 2
    _function = staticmethod(F.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Mean of each of `output_size` windows that cover the last three axes.

    See `AdaptiveAvgPool2d` and `jaxnn.functional.adaptive_avg_pool3d`.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AdaptiveAvgPool3d(1)(jnp.arange(8.0).reshape(1, 2, 2, 2))
        Array([[[[3.5]]]], dtype=float32)
    """

    _n = 3
    _function = staticmethod(F.adaptive_avg_pool3d)


class _AdaptiveMaxPool(Module):
    _n: ClassVar[int]
    _function: ClassVar[Callable[..., Any]]
    _shown = ("output_size",)

    def __init__(
        self,
        output_size: int | Sequence[int | None],
        return_indices: bool = False,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        layer = name_of(self)
        check_output_size(self._n, layer, output_size)
        self.output_size = static(output_size)
        self.return_indices = check_return_indices(return_indices, layer)

    def __call__(self, input: Float[Array, "*N C *spatial"]) -> Any:
        return type(self)._function(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Maximum of each of `output_size` windows that cover the last axis.

    See `AdaptiveMaxPool2d` and `jaxnn.functional.adaptive_max_pool1d`.

    Shapes: (N, C, L) -> (N, C, output_size), or (C, L) -> (C, output_size).

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AdaptiveMaxPool1d(3)(jnp.array([[1.0, 5.0, 3.0, 4.0, 2.0]]))
        Array([[5., 5., 4.]], dtype=float32)
    """

    _n = 1
    _function = staticmethod(F.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maximum of each of H_out * W_out windows that cover the last two axes.

    See `jaxnn.functional.adaptive_max_pool2d`.

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N.

    Args:
        output_size: the sizes of the output, as for `AdaptiveAvgPool2d`.
        return_indices: whether the call returns the maxima's positions too, as
            `jaxnn.functional.adaptive_max_pool2d` does.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AdaptiveMaxPool2d((1, None))(jnp.arange(6.0).reshape(1, 2, 3))
        Array([[[3., 4., 5.]]], dtype=float32)
    """

    _n = 2
    _function = staticmethod(F.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Maximum of each of `output_size` windows that cover the last three axes.

    See `AdaptiveMaxPool2d` and `jaxnn.functional.adaptive_max_pool3d`.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AdaptiveMaxPool3d(1)(jnp.arange(8.0).reshape(1, 2, 2, 2))
        Array([[[[7.]]]], dtype=float32)
    """

    _n = 3
    _function = staticmethod(F.adaptive_max_pool3d)
