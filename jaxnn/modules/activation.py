"""Activation layers."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Real

from .. import functional as F
from .._checks import check_int
from ._module import Module, parameter_dtype


class ReLU(Module):
    """Replace what is negative by zero.

    relu(x) = max(0, x)

    Shapes: any, kept.

    Args:
        inplace: accepted, without effect.

    Source: torch.nn.ReLU.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ReLU()(jnp.array([-1.0, 2.0]))
        Array([0., 2.], dtype=float32)
    """

    def __init__(self, inplace: bool = False, *, rngs: nnx.Rngs | None = None) -> None:
        self.inplace = inplace

    def __call__(self, input: Real[Array, "..."]) -> Real[Array, "..."]:
        """Return max(0, x)."""
        return F.relu(input)

    def extra_repr(self) -> str:
        """Return `inplace`, where it is set."""
        return "inplace=True" if self.inplace else ""


class PReLU(Module):
    """Scale what is negative by a learnt slope.

    prelu(x) = x where x > 0, else weight * x

    Shapes: any, kept; the second dimension is that of the channels.

    Args:
        num_parameters: the number of slopes: 1, or the number of channels.
        init: their first value.
        dtype: their dtype, which the input must have too.

    Attributes:
        weight: the slopes, of shape (num_parameters).

    Raises:
        ValueError: at the call, if there are neither one slope nor one a channel.
        TypeError: at the call, if the input's dtype is not the slopes'.

    Source: He et al., 2015; torch.nn.PReLU.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.PReLU()(jnp.array([-1.0, 2.0]))
        Array([-0.25,  2.  ], dtype=float32)
    """

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.num_parameters = check_int(num_parameters, "num_parameters", "jaxnn.PReLU", minimum=0)
        self.init = init
        self.weight = nnx.Param(
            jnp.full((self.num_parameters,), init, parameter_dtype(self, dtype))
        )

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return x where x > 0, else weight * x."""
        return F.prelu(input, self.weight[...])

    def extra_repr(self) -> str:
        """Return the number of slopes."""
        return f"num_parameters={self.num_parameters}"


class Softmax(Module):
    """Scale exponentials along a dimension so that they sum to one.

    softmax(x)_i = exp(x_i) / sum_j exp(x_j)

    Shapes: any, kept.

    Args:
        dim: the dimension. None is deprecated, as in torch: see jaxnn.functional.softmax.

    Raises:
        ValueError: at the call, if the input has no such dimension.
        TypeError: at the call, if the input is of no floating-point dtype.

    Source: torch.nn.Softmax.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Softmax(dim=1)(jnp.zeros((1, 4)))
        Array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """

    def __init__(self, dim: int | None = None, *, rngs: nnx.Rngs | None = None) -> None:
        self.dim = dim

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the softmax along `dim`."""
        return F.softmax(input, self.dim, _stacklevel=5)

    def extra_repr(self) -> str:
        """Return the dimension."""
        return f"dim={self.dim}"
