"""Group, layer and root mean square normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ... import functional as F
from ..._checks import check_int
from .._module import Module, parameter_dtype
from .._state import value_of
from ._statistics import check_number


class _Affine(Module):
    weight: Any
    bias: Any

    def _init_affine(
        self, shape: tuple[int, ...], has_weight: bool, has_bias: bool, dtype: DTypeLike
    ) -> None:
        resolved = parameter_dtype(self, dtype)
        self.weight = nnx.Param(jnp.ones(shape, resolved)) if has_weight else nnx.data(None)
        self.bias = nnx.Param(jnp.zeros(shape, resolved)) if has_bias else nnx.data(None)


class GroupNorm(_Affine):
    """Normalise each group of channels of each sample by its own statistics.

    See `jaxnn.functional.group_norm`.

    Shapes: (N, C, *spatial), kept.

    Args:
        num_groups: the number of groups, each of C / num_groups neighbouring channels.
        num_channels: C.
        eps: what is added to the variance.
        affine: whether there are a weight and a bias.
        bias: whether there is a bias, where `affine` is set.
        dtype: the parameters' dtype. The input has the same, or half precision where it is float32.

    Attributes:
        weight: the scale of each channel, at first 1, of shape (C); or None.
        bias: what is added to each channel, at first 0, of shape (C); or None.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.GroupNorm(3, 6)(jnp.ones((20, 6, 10, 10))).shape
        (20, 6, 10, 10)
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.num_groups = check_int(num_groups, "num_groups", "jaxnn.GroupNorm", minimum=1)
        self.num_channels = check_int(num_channels, "num_channels", "jaxnn.GroupNorm", minimum=0)
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"jaxnn.GroupNorm: num_channels={num_channels} cannot be divided into "
                f"num_groups={num_groups}"
            )
        self.eps = check_number(eps, "eps", "jaxnn.GroupNorm")
        self.affine = affine
        self._init_affine((self.num_channels,), affine, affine and bias, dtype)

    def __call__(self, input: Float[Array, "N C *spatial"]) -> Float[Array, "N C *spatial"]:
        return F.group_norm(
            input, self.num_groups, value_of(self.weight), value_of(self.bias), self.eps
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class LayerNorm(_Affine):
    """Normalise over the last dimensions: see `jaxnn.functional.layer_norm`.

    Shapes: (*batch, *normalized_shape), kept.

    Args:
        normalized_shape: the sizes of the last dimensions; an int for the last alone.
        eps: what is added to the variance.
        elementwise_affine: whether there are a weight and a bias.
        bias: whether there is a bias, where `elementwise_affine` is set.
        dtype: the parameters' dtype. The input has the same, or half precision where it is float32.

    Attributes:
        weight: the scale of each element, at first 1, of shape `normalized_shape`; or None.
        bias: what is added to each element, at first 0, of shape `normalized_shape`; or None.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.LayerNorm(2, eps=1e-12)(jnp.array([[1.0, 3.0]]))
        Array([[-1.,  1.]], dtype=float32)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.normalized_shape = _sizes(normalized_shape, "jaxnn.LayerNorm")
        self.eps = check_number(eps, "eps", "jaxnn.LayerNorm")
        self.elementwise_affine = elementwise_affine
        has_bias = elementwise_affine and bias
        self._init_affine(self.normalized_shape, elementwise_affine, has_bias, dtype)

    def __call__(
        self, input: Float[Array, "*batch *normalized"]
    ) -> Float[Array, "*batch *normalized"]:
        weight, bias = value_of(self.weight), value_of(self.bias)
        return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """Divide by the root mean square over the last dimensions: see `jaxnn.functional.rms_norm`.

    Shapes: (*batch, *normalized_shape), kept.

    Args:
        normalized_shape: the sizes of the last dimensions; an int for the last alone.
        eps: what is added to the mean square; None for the function's default.
        elementwise_affine: whether there is a weight.
        dtype: the weight's dtype, which need not be the input's.

    Attributes:
        weight: the scale of each element, at first 1, of shape `normalized_shape`; or None.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.RMSNorm(2)(jnp.array([[3.0, -3.0]]))
        Array([[ 1., -1.]], dtype=float32)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.normalized_shape = _sizes(normalized_shape, "jaxnn.RMSNorm")
        self.eps = None if eps is None else check_number(eps, "eps", "jaxnn.RMSNorm")
        self.elementwise_affine = elementwise_affine
        resolved = parameter_dtype(self, dtype)
        self.weight = (
            nnx.Param(jnp.ones(self.normalized_shape, resolved))
            if elementwise_affine
            else nnx.data(None)
        )

    def __call__(self, x: Float[Array, "*batch *normalized"]) -> Float[Array, "*batch *normalized"]:
        return F.rms_norm(x, self.normalized_shape, value_of(self.weight), self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


def _sizes(normalized_shape: int | Sequence[int], layer: str) -> tuple[int, ...]:
    sizes = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    checked = tuple(check_int(size, "normalized_shape", layer, minimum=0) for size in sizes)
    if not checked:
        raise ValueError(f"{layer}: `normalized_shape` must hold at least one size, got none")
    return checked
