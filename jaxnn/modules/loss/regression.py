"""Losses between predicted and true numbers, and between distributions."""

from __future__ import annotations

from typing import Any

from flax import nnx
from jaxtyping import Array, Float, Num

from ... import functional as F
from ..._types import Scalar
from ...functional.loss.regression import check_beta, check_delta
from ._loss import Loss, PlainLoss


class L1Loss(PlainLoss):
    """Absolute error: see `jaxnn.functional.l1_loss`.

    Shapes: input and target broadcast to one shape, with a warning where they differ; the loss has
    that shape, or () if it is reduced.

    Args:
        reduction: "none", "mean" or "sum".

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.L1Loss()(jnp.array([1.0, 2.0]), jnp.array([3.0, 5.0]))
        Array(2.5, dtype=float32)
    """

    _function = staticmethod(F.l1_loss)


class MSELoss(PlainLoss):
    """Squared error: see `jaxnn.functional.mse_loss`.

    Shapes: as for `L1Loss`.

    Args:
        reduction: "none", "mean" or "sum".

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.MSELoss()(jnp.array([1.0, 2.0]), jnp.array([3.0, 5.0]))
        Array(6.5, dtype=float32)
    """

    _function = staticmethod(F.mse_loss)


class HuberLoss(Loss):
    """Squared error where it is small, absolute error where it is large.

    See `jaxnn.functional.huber_loss`.

    Shapes: as for `L1Loss`.

    Args:
        reduction: "none", "mean" or "sum".
        delta: where the absolute error begins, positive; may be traced.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.HuberLoss()(jnp.array([1.0, 2.0]), jnp.array([1.5, 5.0]))
        Array(1.3125, dtype=float32)
    """

    def __init__(
        self, reduction: str = "mean", delta: Scalar = 1.0, *, rngs: nnx.Rngs | None = None
    ) -> None:
        self._init_reduction(reduction)
        self.delta = check_delta(delta, "jaxnn.HuberLoss")

    def __call__(
        self, input: Float[Array, "..."], target: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class SmoothL1Loss(Loss):
    """Squared error where it is small, absolute error where it is large, with slope 1 there.

    See `jaxnn.functional.smooth_l1_loss`.

    Shapes: as for `L1Loss`.

    Args:
        reduction: "none", "mean" or "sum".
        beta: where the absolute error begins, 0 for everywhere; may be traced.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.SmoothL1Loss()(jnp.array([1.0, 2.0]), jnp.array([1.5, 5.0]))
        Array(1.3125, dtype=float32)
    """

    def __init__(
        self,
        size_average: None = None,
        reduce: None = None,
        reduction: str = "mean",
        beta: Scalar = 1.0,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_reduction(reduction, size_average, reduce)
        self.beta = check_beta(beta, "jaxnn.SmoothL1Loss")

    def __call__(self, input: Num[Array, "..."], target: Num[Array, "..."]) -> Float[Array, "..."]:
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class KLDivLoss(Loss):
    """Kullback-Leibler divergence of a distribution from the target, element by element.

    See `jaxnn.functional.kl_div`. The input is a logarithm of probabilities. Only "batchmean" gives
    the mean of the divergence over a batch: "mean" divides by the number of elements.

    Shapes: input and target broadcast to one shape, which the loss has, or () if it is reduced.

    Args:
        reduction: "none", "mean", "sum" or "batchmean".
        log_target: whether the target is a logarithm too.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> uniform = jnp.log(jnp.full((1, 2), 0.5))
        >>> jaxnn.KLDivLoss(reduction="batchmean")(uniform, jnp.array([[1.0, 0.0]]))
        Array(0.6931472, dtype=float32)
    """

    def __init__(
        self,
        size_average: None = None,
        reduce: None = None,
        reduction: str = "mean",
        log_target: bool = False,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_reduction(reduction, size_average, reduce, also=("batchmean",))
        self.log_target = log_target

    def __call__(
        self, input: Float[Array, "..."], target: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class PoissonNLLLoss(Loss):
    """Negative log likelihood of counts under a Poisson distribution.

    See `jaxnn.functional.poisson_nll_loss`.

    Shapes: input and target broadcast to one shape, which the loss has, or () if it is reduced.

    Args:
        log_input: whether the input is the logarithm of the rate.
        full: whether the constant term is added.
        eps: added to a rate before its logarithm is taken; may be traced.
        reduction: "none", "mean" or "sum".

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.PoissonNLLLoss()(jnp.array([0.0, 0.0]), jnp.array([1.0, 2.0]))
        Array(1., dtype=float32)
    """

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        size_average: None = None,
        eps: Scalar = 1e-8,
        reduce: None = None,
        reduction: str = "mean",
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_reduction(reduction, size_average, reduce)
        self.log_input = log_input
        self.full = full
        self.eps = eps

    def __call__(
        self, log_input: Num[Array, "..."], target: Num[Array, "..."]
    ) -> Float[Array, "..."]:
        return F.poisson_nll_loss(
            log_input,
            target,
            log_input=self.log_input,
            full=self.full,
            eps=self.eps,
            reduction=self.reduction,
        )


class GaussianNLLLoss(Loss):
    """Negative log likelihood of numbers under normal distributions.

    See `jaxnn.functional.gaussian_nll_loss`.

    Shapes: input and target broadcast to one shape, which the loss has, or () if it is reduced;
    var has the input's shape, or that without the last dimension, or with one dimension of 1.

    Args:
        full: whether the constant term is added.
        eps: the least variance; may be traced.
        reduction: "none", "mean" or "sum".

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> mean, truth = jnp.array([1.0, 2.0]), jnp.array([3.0, 2.0])
        >>> jaxnn.GaussianNLLLoss()(mean, truth, jnp.array([1.0, 1.0]))
        Array(1., dtype=float32)
    """

    checks_values = True

    def __init__(
        self,
        *,
        full: bool = False,
        eps: Scalar = 1e-6,
        reduction: str = "mean",
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_reduction(reduction)
        self.full = full
        self.eps = eps

    def __call__(
        self, input: Num[Array, "..."], target: Num[Array, "..."], var: Num[Array, "..."] | float
    ) -> Float[Array, "..."]:
        options: Any = {"full": self.full, "eps": self.eps, "reduction": self.reduction}
        return F.gaussian_nll_loss(input, target, var, **options)
