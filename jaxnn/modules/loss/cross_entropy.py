"""Losses of one class among many."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Num

from ... import functional as F
from ..._checks import check_int
from ..._types import Scalar
from ...functional.activation._elementwise import is_known
from ...functional.loss.cross_entropy import check_smoothing
from .._state import value_of
from ..linear import Linear
from ._loss import Loss


class NLLLoss(Loss):
    """Negative log likelihood of the target's class, given logarithms of probabilities.

    See `jaxnn.functional.nll_loss`.

    Shapes: input (N, C, *positions) or (C), target (N, *positions) or (); the loss has the target's
    shape, or () if it is reduced.

    Args:
        weight: a factor for each class, held as a buffer.
        ignore_index: the target that does not count.
        reduction: "none", "mean" or "sum".

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
        self._init_reduction(reduction, size_average, reduce)
        self.weight = self._buffer(weight, "weight")
        self.ignore_index = ignore_index

    def __call__(
        self, input: Float[Array, "..."], target: Int[Array, "..."]
    ) -> Float[Array, "..."]:
        return F.nll_loss(
            input,
            target,
            weight=value_of(self.weight),
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )


class NLLLoss2d(NLLLoss):
    """The deprecated name of `NLLLoss`, which takes any number of positions.

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


class CrossEntropyLoss(Loss):
    """Cross entropy between the softmax of the input and the target, classes or probabilities.

    See `jaxnn.functional.cross_entropy`.

    Shapes: input (N, C, *positions) or (C), target (N, *positions) or () for classes, else of the
    input's shape; the loss has the shape of a target of classes, or () if it is reduced.

    Args:
        weight: a factor for each class, held as a buffer.
        ignore_index: the target that does not count, among classes.
        reduction: "none", "mean" or "sum".
        label_smoothing: the share of the target that all classes have alike; may be traced.

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
        self._init_reduction(reduction, size_average, reduce)
        self.weight = self._buffer(weight, "weight")
        self.ignore_index = ignore_index
        self.label_smoothing = check_smoothing(label_smoothing, "jaxnn.CrossEntropyLoss")

    def __call__(
        self, input: Float[Array, "..."], target: Num[Array, "..."]
    ) -> Float[Array, "..."]:
        return F.cross_entropy(
            input,
            target,
            weight=value_of(self.weight),
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class LinearCrossEntropyLoss(Loss):
    """Cross entropy of logits that are a linear map of the input.

    See `jaxnn.functional.linear_cross_entropy`. The logits have the shape
    (N, num_classes, *out_features).

    Shapes: input (N, in_features) or (in_features), target (N, *out_features) or () for classes,
    else of the logits' shape; the loss has the shape of a target of classes, or () if it is
    reduced.

    Args:
        in_features: size of the input's last dimension.
        num_classes: the number of classes.
        out_features: the positions, each of which has its own classes.
        bias: whether the linear map has a bias.
        dtype: the parameters' dtype, which the input must have too.
        reduction: "none", "mean" or "sum".
        weight: a factor for each class, held as a buffer.
        ignore_index: the target that does not count, among classes; None for -100.
        label_smoothing: the share of the target that all classes have alike, from 0 to 1; may be
            traced.
        options: how torch divides the work into parts, which changes no value: accepted, without
            effect.
        rngs: where the parameters are drawn from.

    Attributes:
        linear: the layer that makes the logits, num_classes times the product of out_features.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> loss = jaxnn.LinearCrossEntropyLoss(3, 2, reduction="none", rngs=nnx.Rngs(0))
        >>> loss(jnp.zeros((2, 3)), jnp.array([0, 1]))
        Array([0.6931472, 0.6931472], dtype=float32)
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: Sequence[int] = (),
        bias: bool = False,
        dtype: DTypeLike = jnp.float32,
        reduction: str = "mean",
        weight: Float[Array, "C"] | None = None,
        ignore_index: int | None = None,
        label_smoothing: Scalar = 0.0,
        options: Any = None,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        layer = "jaxnn.LinearCrossEntropyLoss"
        self._init_reduction(reduction)
        self.num_classes = check_int(num_classes, "num_classes", layer, minimum=0)
        self.out_features = tuple(
            check_int(size, "out_features", layer, minimum=0) for size in out_features
        )
        self.ignore_index = ignore_index
        self.label_smoothing = check_smoothing(label_smoothing, layer)
        if is_known(label_smoothing) and label_smoothing < 0:
            raise ValueError(
                f"{layer}: `label_smoothing` must lie between 0 and 1, got {label_smoothing}"
            )
        self.weight = self._buffer(weight, "weight")
        if self.weight is not None and self.weight.shape != (num_classes,):
            raise ValueError(
                f"{layer}: `weight` must have shape ({num_classes},), got {self.weight.shape}"
            )
        self.options = nnx.static(options)
        size = math.prod(self.out_features, start=self.num_classes)
        self.linear = Linear(in_features, size, bias=bias, dtype=dtype, rngs=rngs)

    def __call__(
        self, input: Float[Array, "*N in_features"], target: Num[Array, "..."]
    ) -> Float[Array, "..."]:
        shape = (self.num_classes, *self.out_features)
        bias = value_of(self.linear.bias)
        return F.linear_cross_entropy(
            input,
            self.linear.weight[...].reshape(*shape, self.linear.in_features),
            target,
            linear_bias=None if bias is None else bias.reshape(shape),
            weight=value_of(self.weight),
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
        )

    def extra_repr(self) -> str:
        return (
            f"in_features={self.linear.in_features}, num_classes={self.num_classes}, "
            f"out_features={self.out_features}, bias={self.linear.bias is not None}, "
            f"reduction={self.reduction}, ignore_index={self.ignore_index}, "
            f"label_smoothing={self.label_smoothing}, options={self.options}"
        )
