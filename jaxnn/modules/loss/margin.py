"""Losses that ask for a margin, between scores, classes or pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Float, Int, Num

from ... import functional as F
from ..._types import Scalar
from ...functional.loss.margin import check_power
from .._state import value_of
from ._loss import Loss, PlainLoss, WeightedLoss


class HingeEmbeddingLoss(Loss):
    """Distances of pairs: small for the like, beyond a margin for the unlike.

    See `jaxnn.functional.hinge_embedding_loss`.

    Shapes: input and target broadcast to one shape, which the loss has, or () if it is reduced.

    Args:
        margin: the least distance of unlike pairs; may be traced.
        reduction: "none", "mean" or "sum".

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
        self._init_reduction(reduction, size_average, reduce)
        self.margin = margin

    def __call__(self, input: Num[Array, "..."], target: Num[Array, "..."]) -> Float[Array, "..."]:
        return F.hinge_embedding_loss(input, target, margin=self.margin, reduction=self.reduction)


class _PairLoss(Loss):
    _function: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        margin: Scalar = 0.0,
        size_average: None = None,
        reduce: None = None,
        reduction: str = "mean",
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_reduction(reduction, size_average, reduce)
        self.margin = margin

    def __call__(
        self, input1: Num[Array, "..."], input2: Num[Array, "..."], target: Num[Array, "..."]
    ) -> Float[Array, "..."]:
        options = {"margin": self.margin, "reduction": self.reduction}
        return type(self)._function(input1, input2, target, **options)


class MarginRankingLoss(_PairLoss):
    """Scores of pairs, of which one should be ranked above the other.

    See `jaxnn.functional.margin_ranking_loss`.

    Shapes: three arrays with as many dimensions, which broadcast to one shape; the loss has it, or
    () if it is reduced.

    Args:
        margin: by how much the scores should differ; may be traced.
        reduction: "none", "mean" or "sum".

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> first, second = jnp.array([1.0, 1.0]), jnp.array([0.0, 3.0])
        >>> jaxnn.MarginRankingLoss()(first, second, jnp.array([1.0, 1.0]))
        Array(1., dtype=float32)
    """

    _function = staticmethod(F.margin_ranking_loss)


class CosineEmbeddingLoss(_PairLoss):
    """Angles between vectors: small for like pairs, beyond a margin for unlike ones.

    See `jaxnn.functional.cosine_embedding_loss`.

    Shapes: (N, D), (N, D), (N) -> (N), or (D), (D), () -> (); or () if it is reduced.

    Args:
        margin: the largest cosine of unlike pairs; may be traced.
        reduction: "none", "mean" or "sum".

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x1, x2 = jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.array([[0.0, 2.0], [3.0, 4.0]])
        >>> jaxnn.CosineEmbeddingLoss(reduction="none")(x1, x2, jnp.array([1, -1]))
        Array([1. , 0.6], dtype=float32)
    """

    _function = staticmethod(F.cosine_embedding_loss)


class SoftMarginLoss(PlainLoss):
    """Logistic loss of two classes: see `jaxnn.functional.soft_margin_loss`.

    Shapes: the target broadcasts to the input's shape, which the loss has, or () if it is
    reduced.

    Args:
        reduction: "none", "mean" or "sum".

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.SoftMarginLoss()(jnp.array([0.0, 200.0]), jnp.array([1, -1]))
        Array(100.34657, dtype=float32)
    """

    _function = staticmethod(F.soft_margin_loss)


class MultiLabelSoftMarginLoss(WeightedLoss):
    """Logistic losses of several classes that may hold at once, averaged over the classes.

    See `jaxnn.functional.multilabel_soft_margin_loss`.

    Shapes: (*N, C), (*N, C) -> (*N), or () if it is reduced; input, target and weight broadcast.

    Args:
        weight: a factor for each class, held as a buffer.
        reduction: "none", "mean" or "sum".

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> logits, truth = jnp.array([[0.0, 200.0]]), jnp.array([[1, 1]])
        >>> jaxnn.MultiLabelSoftMarginLoss()(logits, truth)
        Array(0.3465736, dtype=float32)
    """

    _function = staticmethod(F.multilabel_soft_margin_loss)


class MultiMarginLoss(Loss):
    """Scores of classes, of which the target's should exceed the others by a margin.

    See `jaxnn.functional.multi_margin_loss`.

    Shapes: input (N, C) or (C), target (N) or () -> (N) or (), or () if it is reduced.

    Args:
        p: the power, 1 or 2.
        margin: by how much; may be traced.
        weight: a factor for each class, a vector, held as a buffer.
        reduction: "none", "mean" or "sum".

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
        return F.multi_margin_loss(
            input,
            target,
            p=self.p,
            margin=self.margin,
            weight=value_of(self.weight),
            reduction=self.reduction,
        )


class MultiLabelMarginLoss(PlainLoss):
    """Scores of classes, of which those that hold should exceed the others by 1.

    See `jaxnn.functional.multilabel_margin_loss`. The targets of a row are those before its first
    -1.

    Shapes: input (N, C) or (C), target alike -> (N) or (), or () if it is reduced.

    Args:
        reduction: "none", "mean" or "sum".

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> scores, truth = jnp.array([0.0, 0.25, 0.5, 1.0]), jnp.array([3, 0, -1, 1])
        >>> jaxnn.MultiLabelMarginLoss()(scores, truth)
        Array(0.875, dtype=float32)
    """

    _function = staticmethod(F.multilabel_margin_loss)
