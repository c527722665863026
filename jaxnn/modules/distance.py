"""Distances and angles between vectors."""

from __future__ import annotations

from flax import nnx
from jaxtyping import Array, Float, Num

from .. import functional as F
from .._types import Scalar
from ..functional.distance import real_order
from ._module import Module


class CosineSimilarity(Module):
    """Cosine of the angle between two vectors.

    cos = sum(x1 x2) / (max(||x1||, eps) max(||x2||, eps)), along a dimension, which is gone

    Shapes: two arrays that broadcast to one shape -> that shape without the dimension.

    Args:
        dim: the dimension along which the vectors lie.
        eps: the least norm; may be traced.
        rngs: not needed.

    Raises:
        ValueError: at the call, if the shapes do not broadcast, or have no such dimension.
        TypeError: at the call, if neither array is of a floating-point dtype.

    Source: torch.nn.CosineSimilarity.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.CosineSimilarity()(jnp.array([[1.0, 0.0]]), jnp.array([[3.0, 4.0]]))
        Array([0.6], dtype=float32)
    """

    def __init__(self, dim: int = 1, eps: Scalar = 1e-8, *, rngs: nnx.Rngs | None = None) -> None:
        self.dim = dim
        self.eps = eps

    def __call__(self, x1: Float[Array, "..."], x2: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the cosine."""
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """Distance between two vectors, the p-norm of their difference.

    d = ||x1 - x2 + eps||_p, along the last dimension; the derivative is 0 where the norm is.

    Shapes: two arrays that broadcast to (*N, D) -> (*N), or (*N, 1) with `keepdim`.

    Args:
        p: the order of the norm.
        eps: added to each difference; may be traced.
        keepdim: whether the last dimension stays, with size 1.
        rngs: not needed.

    Raises:
        ValueError: at the call, if the shapes do not broadcast.
        TypeError: if p is no number; at the call, if neither array is of a floating-point dtype.

    Source: torch.nn.PairwiseDistance.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.PairwiseDistance(eps=0.0)(jnp.array([[3.0, 4.0]]), jnp.zeros((1, 2)))
        Array([5.], dtype=float32)
    """

    def __init__(
        self,
        p: float = 2.0,
        eps: Scalar = 1e-6,
        keepdim: bool = False,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.norm = real_order(p, "jaxnn.PairwiseDistance")
        self.eps = eps
        self.keepdim = keepdim

    def __call__(self, x1: Num[Array, "*N D"], x2: Num[Array, "*N D"]) -> Float[Array, "..."]:
        """Return the distance."""
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
