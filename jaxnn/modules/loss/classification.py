"""Losses of one class among many, and of yes or no."""

from __future__ import annotations

import warnings
from typing import Any

from flax import nnx
from jaxtyping import Array, Float, Int, Num

from ... import functional as F
from ..._types import Scalar
from ...functional.loss.cross_entropy import check_smoothing
from .._module import value_of
from ._loss import Loss


class NLLLoss(Loss):
    """Negative log likelihood of the target's class, given logarithms of probabilities.

    loss_n = -weight[target_n] * input[n, target_n], and 0 where target_n = ignore_index; the mean
    is divided by the sum of the weights of the targets that are not ignored, so it is NaN where all
    are.

    Shapes: input (N, C, *positions) or (C), target (N, *positions) or (); the loss has the target's
    shape, or none if it is reduced.

    Args:
        weight: a factor for each class, held as a buffer.
        size_average: refused: torch has replaced it by `reduction`.
        ignore_index: the target that does not count.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        rngs: not needed.

    Raises:
        ValueError: if the reduction is none of the three; at the call, if the shapes do not fit.
        IndexError: at the call, if a concrete target is no class; under `jax.jit` its loss is NaN.
        TypeError: at the call, if the targets are no integers, or input and weight not of one
            floating dtype.

    Source: torch.nn.NLLLoss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> log_probs = jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75]]))
        >>> jaxnn.NLLLoss(reduction="sum")(log_probs, jnp.array([0, 0]))
        Array(2.0794415, dtype=float32)
    """

    def __init__(
        self,
        weight: Float[Array, "C"] | None = None,
        size_average: None = None,
        ignore_index: int = -100,
        reduce: None = None,
        reduction: str = "mean",
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs
        self._init_reduction(reduction, size_average, reduce)
        self.weight = self._buffer(weight, "weight")
        self.ignore_index = ignore_index

    def __call__(
        self, input: Float[Array, "..."], target: Int[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return the loss."""
        return F.nll_loss(
            input,
            target,
            weight=value_of(self.weight),
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )


class CrossEntropyLoss(Loss):
    """Cross entropy between the softmax of the input and the target, classes or probabilities.

    With p = softmax(input), s = label_smoothing and w = weight: loss_n = -(1 - s) w[t_n] log p[n,
    t_n] - s / C * sum_c w_c log p[n, c] for classes t, and 0 where t_n = ignore_index; the mean is
    divided by the sum of w[t_n] over the others. For probabilities q, loss_n = -sum_c w_c ((1 - s)
    q[n, c] + s / C) log p[n, c], and the mean is over all n.

    Shapes: input (N, C, *positions) or (C), target (N, *positions) or () for classes, else of the
    input's shape; the loss has the shape of a target of classes, or none if it is reduced.

    Args:
        weight: a factor for each class, held as a buffer.
        size_average: refused: torch has replaced it by `reduction`.
        ignore_index: the target that does not count, among classes.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        label_smoothing: the share of the target that all classes have alike; may be traced.
        rngs: not needed.

    Raises:
        ValueError: if label_smoothing exceeds 1, or the reduction is none of the three; at the
            call, if the shapes do not fit, or ignore_index is given for probabilities.
        IndexError: at the call, if a concrete target is no class; under `jax.jit` its loss is NaN.
        TypeError: at the call, if classes are no integers, probabilities no floats, or the input
            and the weight of classes not of one floating dtype.

    Source: torch.nn.CrossEntropyLoss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.CrossEntropyLoss()(jnp.zeros((3, 2)), jnp.array([0, 1, -100]))
        Array(0.6931472, dtype=float32)
    """

    def __init__(
        self,
        weight: Float[Array, "C"] | None = None,
        size_average: None = None,
        ignore_index: int = -100,
        reduce: None = None,
        reduction: str = "mean",
        label_smoothing: Scalar = 0.0,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs
        self._init_reduction(reduction, size_average, reduce)
        self.weight = self._buffer(weight, "weight")
        self.ignore_index = ignore_index
        self.label_smoothing = check_smoothing(label_smoothing, "jaxnn.CrossEntropyLoss")

    def __call__(
        self, input: Float[Array, "..."], target: Num[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return the loss."""
        return F.cross_entropy(
            input,
            target,
            weight=value_of(self.weight),
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class BCELoss(Loss):
    """Cross entropy between probabilities of yes and the target.

    loss = -weight * (target * log(input) + (1 - target) * log(1 - input)), where no logarithm is
    below -100

    Shapes: input and target of one shape, which the loss has, or none if it is reduced; weight
    broadcasts to it.

    Args:
        weight: a factor for each element, held as a buffer.
        size_average: refused: torch has replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        rngs: not needed.

    Raises:
        ValueError: if the reduction is none of the three; at the call, if the shapes do not fit, or
            a concrete input or target is no probability.
        TypeError: at the call, if input and target are not of one floating-point dtype.

    Source: torch.nn.BCELoss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.BCELoss()(jnp.array([0.5, 1.0]), jnp.array([1.0, 1.0]))
        Array(0.3465736, dtype=float32)
    """

    checks_values = True

    def __init__(
        self,
        weight: Float[Array, "..."] | None = None,
        size_average: None = None,
        reduce: None = None,
        reduction: str = "mean",
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs
        self._init_reduction(reduction, size_average, reduce)
        self.weight = self._buffer(weight, "weight")

    def __call__(
        self, input: Float[Array, "..."], target: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return the loss."""
        return F.binary_cross_entropy(
            input,
            target,
            weight=value_of(self.weight),
            reduction=self.reduction,
        )


class BCEWithLogitsLoss(Loss):
    """Cross entropy between the sigmoid of the input and the target, without overflow.

    loss = -weight * (pos_weight * target * log(p) + (1 - target) * log(1 - p)), p = sigmoid(input)

    Shapes: input and target of one shape, which the loss has, or none if it is reduced; weight and
    pos_weight broadcast to it.

    Args:
        weight: a factor for each element, held as a buffer.
        size_average: refused: torch has replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        pos_weight: a factor for the part of yes, held as a buffer.
        rngs: not needed.

    Raises:
        ValueError: if the reduction is none of the three; at the call, if the shapes do not fit.
        TypeError: at the call, if input or target is of no floating-point dtype.

    Source: torch.nn.BCEWithLogitsLoss.

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
        del rngs
        self._init_reduction(reduction, size_average, reduce)
        self.weight = self._buffer(weight, "weight")
        self.pos_weight = self._buffer(pos_weight, "pos_weight")

    def __call__(
        self, input: Float[Array, "..."], target: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return the loss."""
        return F.binary_cross_entropy_with_logits(
            input,
            target,
            weight=value_of(self.weight),
            reduction=self.reduction,
            pos_weight=value_of(self.pos_weight),
        )


class NLLLoss2d(NLLLoss):
    """The deprecated name of `NLLLoss`, which takes any number of positions.

    Shapes: as `NLLLoss`.

    Source: torch.nn.NLLLoss2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> import warnings
        >>> with warnings.catch_warnings(action="ignore"):
        ...     loss = jaxnn.NLLLoss2d()
        >>> loss(jnp.full((1, 2, 1, 1), -2.0), jnp.zeros((1, 1, 1), int))
        Array(2., dtype=float32)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn("NLLLoss2d is deprecated: use NLLLoss", FutureWarning, stacklevel=2)
        super().__init__(*args, **kwargs)
