"""Connectionist temporal classification."""

from __future__ import annotations

from flax import nnx
from jaxtyping import Array, Float, Int

from ... import functional as F
from ...functional.loss.sequence import Lengths, check_blank
from ._loss import Loss


class CTCLoss(Loss):
    """Connectionist temporal classification: negative log likelihood over all alignments.

    See `jaxnn.functional.ctc_loss`.

    Shapes: log_probs (T, N, C), targets (N, S) or (sum of target_lengths), both lengths (N), loss
    (N), or () if it is reduced; without N: log_probs (T, C), targets (S), lengths () or (1).

    Args:
        blank: the class that stands for none.
        reduction: "none", "mean" or "sum".
        zero_infinity: whether an infinite loss and its gradient are 0.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> log_probs = jnp.log(jnp.full((2, 1, 2), 0.5))
        >>> jaxnn.CTCLoss()(log_probs, jnp.array([[1]]), (2,), (1,))
        Array(0.2876821, dtype=float32)
    """

    def __init__(
        self,
        blank: int = 0,
        reduction: str = "mean",
        zero_infinity: bool = False,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_reduction(reduction)
        self.blank = check_blank(blank)
        self.zero_infinity = bool(zero_infinity)

    def __call__(
        self,
        log_probs: Float[Array, "T *N C"],
        targets: Int[Array, "..."],
        input_lengths: Lengths,
        target_lengths: Lengths,
    ) -> Float[Array, "..."]:
        return F.ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction,
            self.zero_infinity,
        )  # fmt: skip
