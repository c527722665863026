"""The softmax family: of any shape, which is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Float

from ... import functional as F
from .._module import Module
from ._base import Plain


class _AlongDimension(Module):
    _function: ClassVar[Callable[..., Any]]
    _shown = ("dim",)

    def __init__(self, dim: int | None = None, *, rngs: nnx.Rngs | None = None) -> None:
        self.dim = dim

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        return type(self)._function(input, self.dim, _stacklevel=5)


class Softmax(_AlongDimension):
    """Scale exponentials along a dimension so that they sum to one.

    See `jaxnn.functional.softmax`.

    Args:
        dim: the dimension. None is deprecated, as in torch: see the function.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Softmax(dim=1)(jnp.zeros((1, 4)))
        Array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """

    _function = staticmethod(F.softmax)


class LogSoftmax(_AlongDimension):
    """Take the logarithm of the softmax, without underflow: see `jaxnn.functional.log_softmax`.

    Args:
        dim: as for `Softmax`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.LogSoftmax(dim=0)(jnp.array([0.0, 1000.0]))
        Array([-1000.,     0.], dtype=float32)
    """

    _function = staticmethod(F.log_softmax)


class Softmin(_AlongDimension):
    """Softmax of the negated input: see `jaxnn.functional.softmin`.

    Args:
        dim: as for `Softmax`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Softmin(dim=1)(jnp.zeros((1, 4)))
        Array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """

    _function = staticmethod(F.softmin)


class Softmax2d(Plain):
    """Softmax over the channels, at each place of an image: see `jaxnn.functional.softmax`.

    Shapes: (N, C, H, W) or (C, H, W), kept.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Softmax2d()(jnp.zeros((1, 4, 1, 1))).reshape(-1)
        Array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """

    def __call__(self, input: Float[Array, "*N C H W"]) -> Float[Array, "*N C H W"]:
        if input.ndim not in (3, 4):
            raise ValueError(
                "jaxnn.Softmax2d: `input` must have the dimensions (N, C, H, W) or (C, H, W), got "
                f"shape {input.shape}"
            )
        return F.softmax(input, -3)
