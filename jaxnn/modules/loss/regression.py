"""Losses between predicted and true numbers, and between distributions."""

from __future__ import annotations

from flax import nnx
from jaxtyping import Array, Float, Num

from ... import functional as F
from ..._types import Scalar
from ...functional.loss.regression import check_beta, check_delta
from ._loss import Loss


class L1Loss(Loss):
    """Absolute error.

    loss = |input - target|, with derivative 0 where both are equal

    Shapes: input and target broadcast to one shape, with a warning where they differ; the loss has
    that shape, or none if it is reduced.

    Args:
        size_average: refused: torch has replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        rngs: not needed.

    Raises:
        ValueError: if the reduction is none of the three; at the call, if the shapes do not fit.
        TypeError: at the call, if neither array is of a floating-point dtype.

    Source: torch.nn.L1Loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.L1Loss()(jnp.array([1.0, 2.0]), jnp.array([3.0, 5.0]))
        Array(2.5, dtype=float32)
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

    def __call__(self, input: Num[Array, "..."], target: Num[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss."""
        return F.l1_loss(
            input,
            target,
            reduction=self.reduction,
        )


class MSELoss(Loss):
    """Squared error.

    loss = (input - target)^2

    Shapes: input and target broadcast to one shape, with a warning where they differ; the loss has
    that shape, or none if it is reduced.

    Args:
        size_average: refused: torch has replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        rngs: not needed.

    Raises:
        ValueError: if the reduction is none of the three; at the call, if the shapes do not fit.
        TypeError: at the call, if neither array is of a floating-point dtype.

    Source: torch.nn.MSELoss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.MSELoss()(jnp.array([1.0, 2.0]), jnp.array([3.0, 5.0]))
        Array(6.5, dtype=float32)
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

    def __call__(self, input: Num[Array, "..."], target: Num[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss."""
        return F.mse_loss(
            input,
            target,
            reduction=self.reduction,
        )


class HuberLoss(Loss):
    """Squared error where it is small, absolute error where it is large.

    loss = e^2 / 2 where |e| < delta, else delta * (|e| - delta / 2), e = input - target

    Shapes: input and target broadcast to one shape, with a warning where they differ; the loss has
    that shape, or none if it is reduced.

    Args:
        reduction: "none", "mean" or "sum".
        delta: where the absolute error begins; may be traced.
        rngs: not needed.

    Raises:
        ValueError: if delta is not positive, or the reduction is none of the three; at the call, if
            the shapes do not fit.
        TypeError: at the call, if input and target are not of one floating-point dtype.

    Source: torch.nn.HuberLoss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.HuberLoss()(jnp.array([1.0, 2.0]), jnp.array([1.5, 5.0]))
        Array(1.3125, dtype=float32)
    """

    def __init__(
        self,
        reduction: str = "mean",
        delta: Scalar = 1.0,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs
        self._init_reduction(reduction)
        self.delta = check_delta(delta, "jaxnn.HuberLoss")

    def __call__(
        self, input: Float[Array, "..."], target: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return the loss."""
        return F.huber_loss(
            input,
            target,
            reduction=self.reduction,
            delta=self.delta,
        )


class SmoothL1Loss(Loss):
    """Squared error where it is small, absolute error where it is large, with slope 1 there.

    loss = e^2 / (2 beta) where |e| < beta, else |e| - beta / 2, e = input - target

    Shapes: input and target broadcast to one shape, with a warning where they differ; the loss has
    that shape, or none if it is reduced.

    Args:
        size_average: refused: torch has replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        beta: where the absolute error begins, 0 for everywhere; may be traced.
        rngs: not needed.

    Raises:
        ValueError: if beta is negative, or the reduction is none of the three; at the call, if the
            shapes do not fit.
        TypeError: at the call, if neither array is of a floating-point dtype.

    Source: torch.nn.SmoothL1Loss.

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
        del rngs
        self._init_reduction(reduction, size_average, reduce)
        self.beta = check_beta(beta, "jaxnn.SmoothL1Loss")

    def __call__(self, input: Num[Array, "..."], target: Num[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss."""
        return F.smooth_l1_loss(
            input,
            target,
            reduction=self.reduction,
            beta=self.beta,
        )


class KLDivLoss(Loss):
    """Kullback-Leibler divergence of a distribution from the target, element by element.

    loss = target * (log(target) - input), or exp(target) * (target - input) with `log_target`. The
    input is a logarithm of probabilities. Only "batchmean", the sum divided by the size of
    dimension 0, is the mean of the divergence: "mean" divides by the number of elements.

    Shapes: input and target broadcast to one shape, which the loss has, or none if it is reduced.

    Args:
        size_average: refused: torch has replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean", "sum" or "batchmean".
        log_target: whether the target is a logarithm too.
        rngs: not needed.

    Raises:
        ValueError: if the reduction is none of the four; at the call, if the shapes do not
            broadcast.
        TypeError: at the call, if input or target is of no floating-point dtype.

    Source: torch.nn.KLDivLoss.

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
        del rngs
        self._init_reduction(reduction, size_average, reduce, also=("batchmean",))
        self.log_target = log_target

    def __call__(
        self, input: Float[Array, "..."], target: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return the loss."""
        return F.kl_div(
            input,
            target,
            reduction=self.reduction,
            log_target=self.log_target,
        )


class PoissonNLLLoss(Loss):
    """Negative log likelihood of counts under a Poisson distribution.

    loss = exp(input) - target * input, or input - target * log(input + eps) without `log_input`;
    with `full`, plus target * log(target) - target + log(2 pi target) / 2 for targets above 1

    Shapes: input and target broadcast to one shape, which the loss has, or none if it is reduced.

    Args:
        log_input: whether the input is the logarithm of the rate.
        full: whether the constant term is added.
        size_average: refused: torch has replaced it by `reduction`.
        eps: added to a rate before its logarithm is taken; may be traced.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        rngs: not needed.

    Raises:
        ValueError: if the reduction is none of the three; at the call, if the shapes do not fit.
        TypeError: at the call, if neither array is of a floating-point dtype.

    Source: torch.nn.PoissonNLLLoss.

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
        del rngs
        self._init_reduction(reduction, size_average, reduce)
        self.log_input = log_input
        self.full = full
        self.eps = eps

    def __call__(
        self, log_input: Num[Array, "..."], target: Num[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return the loss."""
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

    loss = (log(v) + (input - target)^2 / v) / 2, plus log(2 pi) / 2 with `full`, where v = max(var,
    eps), whose derivative is 1 also where eps is the larger

    Shapes: input and target broadcast to one shape, which the loss has, or none if it is reduced;
    var has the input's shape, or that without the last dimension, or with one dimension of 1.

    Args:
        full: whether the constant term is added.
        eps: the least variance; may be traced.
        reduction: "none", "mean" or "sum".
        rngs: not needed.

    Raises:
        ValueError: if the reduction is none of the three; at the call, if the shapes do not fit, or
            a variance that is concrete is negative.
        TypeError: at the call, if no array is of a floating-point dtype.

    Source: torch.nn.GaussianNLLLoss.

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
        del rngs
        self._init_reduction(reduction)
        self.full = full
        self.eps = eps

    def __call__(
        self, input: Num[Array, "..."], target: Num[Array, "..."], var: Num[Array, "..."] | float
    ) -> Float[Array, "..."]:
        """Return the loss."""
        return F.gaussian_nll_loss(
            input,
            target,
            var,
            full=self.full,
            eps=self.eps,
            reduction=self.reduction,
        )
