"""Cross entropy of yes or no."""

from __future__ import annotations

from flax import nnx
from jaxtyping import Array, Float

from ... import functional as F
from .._state import value_of
from ._loss import Loss, WeightedLoss


class BCELoss(WeightedLoss):
    """Cross entropy between probabilities of yes and the target.

    See `jaxnn.functional.binary_cross_entropy`.

    Shapes: input and target of one shape, which the loss has, or () if it is reduced; weight
    broadcasts to it.

    Args:
        weight: a factor for each element, held as a buffer.
        reduction: "none", "mean" or "sum".

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.BCELoss()(jnp.array([0.5, 1.0]), jnp.array([1.0, 1.0]))
        Array(0.3465736, dtype=float32)
    """

    checks_values = True
    _function = staticmethod(F.binary_cross_entropy)


class BCEWithLogitsLoss(Loss):
    """Cross entropy between the sigmoid of the input and the target, without overflow.

    See `jaxnn.functional.binary_cross_entropy_with_logits`.

    Shapes: as for `BCELoss`; pos_weight broadcasts too.

    Args:
        weight: a factor for each element, held as a buffer.
        reduction: "none", "mean" or "sum".
        pos_weight: a factor for the part of yes, held as a buffer.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.BCEWithLogitsLoss()(jnp.array([0.0, 800.0]), jnp.array([1.0, 1.0]))
        Array(0.3465736, dtype=float32)
    """

    def __init__(
        self,
        weight: Float[Array, "..."] | None = None,
        size_average: None = None,
        reduce: None = None,
        reduction: str = "mean",
        pos_weight: Float[Array, "..."] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_reduction(reduction, size_average, reduce)
        self.weight = self._buffer(weight, "weight")
        self.pos_weight = self._buffer(pos_weight, "pos_weight")

    def __call__(
        self, input: Float[Array, "..."], target: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        return F.binary_cross_entropy_with_logits(
            input,
            target,
            weight=value_of(self.weight),
            reduction=self.reduction,
            pos_weight=value_of(self.pos_weight),
        )
