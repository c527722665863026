"""Losses that ask for a margin, between scores, classes or pairs."""

from __future__ import annotations

from flax import nnx
from jaxtyping import Array, Float, Int, Num

from ... import functional as F
from ..._types import Scalar
from ...functional.loss.margin import check_power
from .._module import value_of
from ._loss import Loss


class HingeEmbeddingLoss(Loss):
    """Distances of pairs: small for the like, beyond a margin for the unlike.

    loss = input where target = 1, max(0, margin - input) where target = -1, the sum of both
    elsewhere

    Shapes: input and target broadcast to one shape, which the loss has, or none if it is reduced.

    Args:
        margin: the least distance of unlike pairs; may be traced.
        size_average: refused: torch has replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        rngs: not needed.

    Raises:
        ValueError: if the reduction is none of the three; at the call, if the shapes do not fit.
        TypeError: at the call, if the input is of no floating-point dtype.

    Source: torch.nn.HingeEmbeddingLoss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.HingeEmbeddingLoss()(jnp.array([0.25, 0.25]), jnp.array([1, -1]))
        Array(0.5, dtype=float32)
    """

    def __init__(
        self,
        margin: Scalar = 1.0,
        size_average: None = None,
        reduce: None = None,
        reduction: str = "mean",
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs
        self._init_reduction(reduction, size_average, reduce)
        self.margin = margin

    def __call__(self, input: Num[Array, "..."], target: Num[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss."""
        return F.hinge_embedding_loss(
            input,
            target,
            margin=self.margin,
            reduction=self.reduction,
        )


class MarginRankingLoss(Loss):
    """Scores of pairs, of which one should be ranked above the other.

    loss = max(0, -target * (input1 - input2) + margin)

    Shapes: three arrays with as many dimensions, which broadcast to one shape; the loss has it, or
    none if it is reduced.

    Args:
        margin: by how much the scores should differ; may be traced.
        size_average: refused: torch has replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        rngs: not needed.

    Raises:
        ValueError: if the reduction is none of the three; at the call, if the shapes do not fit.
        TypeError: at the call, if no array is of a floating-point dtype.

    Source: torch.nn.MarginRankingLoss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> first, second = jnp.array([1.0, 1.0]), jnp.array([0.0, 3.0])
        >>> jaxnn.MarginRankingLoss()(first, second, jnp.array([1.0, 1.0]))
        Array(1., dtype=float32)
    """

    def __init__(
        self,
        margin: Scalar = 0.0,
        size_average: None = None,
        reduce: None = None,
        reduction: str = "mean",
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs
        self._init_reduction(reduction, size_average, reduce)
        self.margin = margin

    def __call__(
        self, input1: Num[Array, "..."], input2: Num[Array, "..."], target: Num[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return the loss."""
        return F.margin_ranking_loss(
            input1,
            input2,
            target,
            margin=self.margin,
            reduction=self.reduction,
        )


class SoftMarginLoss(Loss):
    """Logistic loss of two classes.

    loss = log(1 + exp(-target * input)), without overflow

    Shapes: the target broadcasts to the input's shape, which the loss has, or none if it is
    reduced.

    Args:
        size_average: refused: torch has replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        rngs: not needed.

    Raises:
        ValueError: if the reduction is none of the three; at the call, if the shapes do not fit.
        TypeError: at the call, if the input is of no floating-point dtype, or the target bool.

    Source: torch.nn.SoftMarginLoss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.SoftMarginLoss()(jnp.array([0.0, 200.0]), jnp.array([1, -1]))
        Array(100.34657, dtype=float32)
    """

    def __init__(
        self,
        size_average: None = None,
        reduce: None = None,
        reduction: str = "mean",
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs
        self._init_reduction(reduction, size_average, reduce)

    def __call__(
        self, input: Float[Array, "..."], target: Num[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return the loss."""
        return F.soft_margin_loss(
            input,
            target,
            reduction=self.reduction,
        )


class MultiLabelSoftMarginLoss(Loss):
    """Logistic losses of several classes that may hold at once, averaged over the classes.

    loss_n = -mean_c(weight_c (target log(p) + (1 - target) log(1 - p))), p = sigmoid(input)

    Shapes: (*N, C), (*N, C) -> (*N), or none if it is reduced; input, target and weight broadcast.

    Args:
        weight: a factor for each class, held as a buffer.
        size_average: refused: torch has replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        rngs: not needed.

    Raises:
        ValueError: if the reduction is none of the three; at the call, if the shapes do not fit.
        TypeError: at the call, if the input is of no floating-point dtype, or the target bool.

    Source: torch.nn.MultiLabelSoftMarginLoss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> logits, truth = jnp.array([[0.0, 200.0]]), jnp.array([[1, 1]])
        >>> jaxnn.MultiLabelSoftMarginLoss()(logits, truth)
        Array(0.3465736, dtype=float32)
    """

    def __init__(
        self,
        weight: Num[Array, "..."] | None = None,
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
        self, input: Float[Array, "*N C"], target: Num[Array, "*N C"]
    ) -> Float[Array, "..."]:
        """Return the loss."""
        return F.multilabel_soft_margin_loss(
            input,
            target,
            weight=value_of(self.weight),
            reduction=self.reduction,
        )


class MultiMarginLoss(Loss):
    """Scores of classes, of which the target's should exceed the others by a margin.

    loss_n = sum over c != t of weight_t max(0, margin - input[n, t] + input[n, c])^p, divided by C

    Shapes: input (N, C) or (C), target (N) or () -> (N) or (), or () if it is reduced.

    Args:
        p: the power, 1 or 2.
        margin: by how much; may be traced.
        weight: a factor for each class, held as a buffer.
        size_average: refused: torch has replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        rngs: not needed.

    Raises:
        ValueError: if p is neither 1 nor 2, weight is no vector, or the reduction is none of the
            three; at the call, if the shapes do not fit.
        IndexError: at the call, if a concrete target is no class; under `jax.jit` its loss is NaN.
        TypeError: at the call, if the targets are no integers, or input and weight not of one
            floating dtype.

    Source: torch.nn.MultiMarginLoss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> scores = jnp.array([[1.0, 0.5, 0.0, 2.0]])
        >>> jaxnn.MultiMarginLoss()(scores, jnp.array([0]))
        Array(0.625, dtype=float32)
    """

    def __init__(
        self,
        p: int = 1,
        margin: Scalar = 1.0,
        weight: Float[Array, "C"] | None = None,
        size_average: None = None,
        reduce: None = None,
        reduction: str = "mean",
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs
        self._init_reduction(reduction, size_average, reduce)
        check_power(p, "jaxnn.MultiMarginLoss")
        self.p = p
        self.margin = margin
        self.weight = self._buffer(weight, "weight")
        if self.weight is not None and self.weight.ndim != 1:
            raise ValueError(
                "jaxnn.MultiMarginLoss: `weight` must be a vector, one number for each class, got "
                f"shape {self.weight.shape}"
            )

    def __call__(
        self, input: Float[Array, "*N C"], target: Int[Array, "*N"]
    ) -> Float[Array, "..."]:
        """Return the loss."""
        return F.multi_margin_loss(
            input,
            target,
            p=self.p,
            margin=self.margin,
            weight=value_of(self.weight),
            reduction=self.reduction,
        )


class MultiLabelMarginLoss(Loss):
    """Scores of classes, of which those that hold should exceed the others by 1.

    loss_n = sum over t in target_n, c not in target_n of max(0, 1 - input[n, t] + input[n, c]),
    divided by C. The targets of a row are those before its first -1.

    Shapes: input (N, C) or (C), target alike -> (N) or (), or () if it is reduced.

    Args:
        size_average: refused: torch has replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        rngs: not needed.

    Raises:
        ValueError: if the reduction is none of the three; at the call, if the shapes do not fit.
        IndexError: at the call, if a concrete target is neither a class nor -1; under `jax.jit` its
            loss is NaN.
        TypeError: at the call, if the targets are no integers, or the input is of no floating-point
            dtype.

    Source: torch.nn.MultiLabelMarginLoss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> scores, truth = jnp.array([0.0, 0.25, 0.5, 1.0]), jnp.array([3, 0, -1, 1])
        >>> jaxnn.MultiLabelMarginLoss()(scores, truth)
        Array(0.875, dtype=float32)
    """

    def __init__(
        self,
        size_average: None = None,
        reduce: None = None,
        reduction: str = "mean",
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs
        self._init_reduction(reduction, size_average, reduce)

    def __call__(
        self, input: Float[Array, "*N C"], target: Int[Array, "*N C"]
    ) -> Float[Array, "..."]:
        """Return the loss."""
        return F.multilabel_margin_loss(
            input,
            target,
            reduction=self.reduction,
        )


class CosineEmbeddingLoss(Loss):
    """Angles between vectors: small for like pairs, beyond a margin for unlike ones.

    loss = 1 - cos where target = 1, max(0, cos - margin) where target = -1, 0 elsewhere, with cos =
    sum(x1 x2) / sqrt((sum(x1^2) + 1e-12) (sum(x2^2) + 1e-12))

    Shapes: (N, D), (N, D), (N) -> (N), or (D), (D), () -> (); or () if it is reduced.

    Args:
        margin: the largest cosine of unlike pairs; may be traced.
        size_average: refused: torch has replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        rngs: not needed.

    Raises:
        ValueError: if the reduction is none of the three; at the call, if the shapes do not fit.
        TypeError: at the call, if neither input is of a floating-point dtype.

    Source: torch.nn.CosineEmbeddingLoss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x1, x2 = jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.array([[0.0, 2.0], [3.0, 4.0]])
        >>> jaxnn.CosineEmbeddingLoss(reduction="none")(x1, x2, jnp.array([1, -1]))
        Array([1. , 0.6], dtype=float32)
    """

    def __init__(
        self,
        margin: Scalar = 0.0,
        size_average: None = None,
        reduce: None = None,
        reduction: str = "mean",
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs
        self._init_reduction(reduction, size_average, reduce)
        self.margin = margin

    def __call__(
        self, input1: Num[Array, "..."], input2: Num[Array, "..."], target: Num[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return the loss."""
        return F.cosine_embedding_loss(
            input1,
            input2,
            target,
            margin=self.margin,
            reduction=self.reduction,
        )
