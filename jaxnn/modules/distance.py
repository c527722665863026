"""Distances and angles between vectors."""

from __future__ import annotations

from flax import nnx
from jaxtyping import Array, Float, Num

from .. import functional as F
from .._types import Scalar
from ..functional.distance import real_order
from ._module import Module


class CosineSimilarity(Module):
    """Cosine of the angle between two vectors: see `jaxnn.functional.cosine_similarity`.

    Shapes: two arrays that broadcast to one shape -> that shape without the dimension.

    Args:
        dim: the dimension along which the vectors lie.
        eps: the least norm; may be traced.

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
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """Distance between two vectors, the p-norm of their difference.

    See `jaxnn.functional.pairwise_distance`.

    Shapes: two arrays that broadcast to (*N, D) -> (*N), or (*N, 1) with `keepdim`.

    Args:
        p: the order of the norm.
        eps: added to each difference; may be traced.
        keepdim: whether the last dimension stays, with size 1.

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
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
