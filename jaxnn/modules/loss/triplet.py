"""Losses of an anchor, what should be near it, and what should be far."""

from __future__ import annotations

from collections.abc import Callable

import jax
from flax import nnx
from jaxtyping import Array, Float, Num

from ... import functional as F
from ..._types import Scalar
from ...functional.loss.triplet import check_margin
from ._loss import Loss


class TripletMarginLoss(Loss):
    """Distances from an anchor: to the positive less, by a margin, than to the negative.

    See `jaxnn.functional.triplet_margin_loss`.

    Shapes: three arrays (*N, D), which broadcast -> (*N), or () if it is reduced.

    Args:
        margin: by how much, positive; may be traced.
        p: the order of the norm.
        eps: added to the differences; may be traced.
        swap: whether the positive may take the anchor's place.
        reduction: "none", "mean" or "sum".

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> anchor, near, far = jnp.zeros((1, 1)), jnp.array([[1.0]]), jnp.array([[1.5]])
        >>> jaxnn.TripletMarginLoss(eps=0.0)(anchor, near, far)
        Array(0.5, dtype=float32)
    """

    def __init__(
        self,
        margin: Scalar = 1.0,
        p: float = 2.0,
        eps: Scalar = 1e-6,
        swap: bool = False,
        size_average: None = None,
        reduce: None = None,
        reduction: str = "mean",
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_reduction(reduction, size_average, reduce)
        self.margin = check_margin(margin, "jaxnn.TripletMarginLoss")
        self.p = p
        self.eps = eps
        self.swap = swap

    def __call__(
        self, anchor: Num[Array, "..."], positive: Num[Array, "..."], negative: Num[Array, "..."]
    ) -> Float[Array, "..."]:
        return F.triplet_margin_loss(
            anchor,
            positive,
            negative,
            margin=self.margin,
            p=self.p,
            eps=self.eps,
            swap=self.swap,
            reduction=self.reduction,
        )


class TripletMarginWithDistanceLoss(Loss):
    """`TripletMarginLoss` with any distance.

    See `jaxnn.functional.triplet_margin_with_distance_loss`.

    Shapes: three arrays with as many dimensions -> what d gives, or () if it is reduced.

    Args:
        distance_function: d, by default `jaxnn.functional.pairwise_distance`.
        margin: by how much, positive; may be traced.
        swap: whether the positive may take the anchor's place.
        reduction: "none", "mean" or "sum".

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> distance = lambda x, y: jnp.abs(x - y)
        >>> loss = jaxnn.TripletMarginWithDistanceLoss(distance_function=distance)
        >>> loss(jnp.zeros(1), jnp.array([1.0]), jnp.array([1.5]))
        Array(0.5, dtype=float32)
    """

    def __init__(
        self,
        *,
        distance_function: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
        margin: Scalar = 1.0,
        swap: bool = False,
        reduction: str = "mean",
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_reduction(reduction)
        self.distance_function = distance_function
        self.margin = check_margin(margin, "jaxnn.TripletMarginWithDistanceLoss")
        self.swap = swap

    def __call__(
        self, anchor: Num[Array, "..."], positive: Num[Array, "..."], negative: Num[Array, "..."]
    ) -> Float[Array, "..."]:
        return F.triplet_margin_with_distance_loss(
            anchor,
            positive,
            negative,
            distance_function=self.distance_function,
            margin=self.margin,
            swap=self.swap,
            reduction=self.reduction,
        )
