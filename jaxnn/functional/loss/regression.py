"""Losses between predicted and true numbers, and between distributions."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy
from jaxtyping import Array, Float, Num

from ..._checks import check_array, check_floating, check_same_dtype, is_readable
from ..._config import check_indices
from ..._types import Scalar
from .._gradients import magnitude, straight_through
from ..activation._elementwise import check_number, is_known
from ._reduction import (
    Reduced,
    broadcast,
    broadcast_pair,
    check_reduction,
    check_same_shape,
    elementwise_loss,
    numbers,
)


def mse_loss(
    input: Num[Array, "..."],
    target: Num[Array, "..."],
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    weight: Num[Array, "..."] | None = None,
) -> Reduced:
    """Squared error.

    loss = weight * (input - target)^2; its mean is divided by the sum of the weights.

    Shapes: input and target broadcast to one shape, with a warning where they differ; the loss has
    that shape, or () if it is reduced. Half precision is computed in float32 and rounded once.

    Args:
        input: the prediction.
        target: the truth.
        size_average: refused, since torch replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        weight: a factor for each element, of the input's shape.

    Raises:
        ValueError: if the shapes do not fit, or the reduction is none of the three.
        TypeError: if neither array is of a floating-point dtype.

    Source: torch.nn.functional.mse_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.mse_loss(jnp.array([1.0, 2.0]), jnp.array([3.0, 5.0]))
        Array(6.5, dtype=float32)
    """
    check_reduction(reduction, "mse_loss", size_average, reduce)
    return _weighted("mse_loss", _squared_error, input, target, weight, reduction)


@elementwise_loss
def _squared_error(input: jax.Array, target: jax.Array) -> jax.Array:
    return (input - target) ** 2


def l1_loss(
    input: Num[Array, "..."],
    target: Num[Array, "..."],
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    weight: Num[Array, "..."] | None = None,
) -> Reduced:
    """Absolute error.

    loss = weight * |input - target|, with derivative 0 where both are equal; its mean is divided by
    the sum of the weights.

    Arguments, shapes, dtypes and errors: as for `mse_loss`.

    Source: torch.nn.functional.l1_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.l1_loss(jnp.array([1.0, 2.0]), jnp.array([3.0, 5.0]))
        Array(2.5, dtype=float32)
    """
    check_reduction(reduction, "l1_loss", size_average, reduce)
    return _weighted("l1_loss", _absolute_error, input, target, weight, reduction)


@elementwise_loss
def _absolute_error(input: jax.Array, target: jax.Array) -> jax.Array:
    error = input - target
    # Of a NaN the derivative is 0, as in torch.
    return error * jax.lax.stop_gradient(jnp.where(jnp.isnan(error), 0, jnp.sign(error)))


def _weighted(
    layer: str, error: Any, input: Any, target: Any, weight: Any, reduction: str
) -> jax.Array:
    """Return the reduced error; its weighted mean is divided by the sum of the weights."""
    input, target = numbers(layer, input=input, target=target)
    given, (input, target) = input, broadcast_pair(layer, input, target)
    if weight is None:
        return error(reduction, (input, target))
    loss = error("none", (input, target))
    weight = _weight_like(given, loss, weight, layer)
    if reduction == "mean":
        return _ratio("sum", (loss, weight))
    return _product(reduction, (loss, weight))


def _weight_like(input: jax.Array, loss: jax.Array, weight: Any, layer: str) -> jax.Array:
    weight = check_array(weight, "weight", layer)
    check_same_shape(layer, input=input, weight=weight)
    return broadcast(layer, loss=loss, weight=weight)[1]


@elementwise_loss
def _product(loss: jax.Array, weight: jax.Array) -> jax.Array:
    return loss * weight


@elementwise_loss
def _ratio(loss: jax.Array, weight: jax.Array) -> jax.Array:
    return (loss * weight).sum() / weight.sum()


def huber_loss(
    input: Float[Array, "..."],
    target: Float[Array, "..."],
    reduction: str = "mean",
    delta: Scalar = 1.0,
    weight: Float[Array, "..."] | None = None,
) -> Reduced:
    """Squared error where it is small, absolute error where it is large.

    loss = weight * (e^2 / 2 where |e| < delta, else delta * (|e| - delta / 2)), e = input - target

    Shapes: input and target broadcast to one shape, with a warning where they differ; the loss has
    that shape, or () if it is reduced. Half precision is computed in float32 and rounded once.

    Args:
        input: the prediction.
        target: the truth.
        reduction: "none", "mean" or "sum".
        delta: where the absolute error begins; may be traced.
        weight: a factor for each element, of the input's shape; the mean is over the elements.

    Raises:
        ValueError: if the shapes do not fit, delta is not positive, or the reduction is none of the
            three.
        TypeError: if input and target are not of one floating-point dtype.

    Source: Huber, 1964; torch.nn.functional.huber_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.huber_loss(jnp.array([1.0, 2.0]), jnp.array([1.5, 5.0]))
        Array(1.3125, dtype=float32)
    """
    check_reduction(reduction, "huber_loss")
    delta = check_delta(delta, "huber_loss")
    input, target = numbers("huber_loss", input=input, target=target)
    check_same_dtype({"input": input, "target": target}, "huber_loss")
    given, pair = input, broadcast_pair("huber_loss", input, target)
    if weight is None:
        return _huber(reduction, tuple(pair), (delta,))
    loss = _huber("none", tuple(pair), (delta,))
    return _product(reduction, (loss, _weight_like(given, loss, weight, "huber_loss")))


def check_delta(delta: Any, layer: str) -> Any:
    """Return the number `delta`, which must be positive."""
    delta = check_number(delta, "delta", layer)
    if is_known(delta) and not delta > 0:
        raise ValueError(f"{layer}: `delta` must be positive, got {delta}")
    return delta


@elementwise_loss
def _huber(input: jax.Array, target: jax.Array, delta: jax.Array) -> jax.Array:
    error = input - target
    size = magnitude(error)
    # An error that is NaN is near, where the slope is NaN.
    near = ~(size >= delta)
    # The inner selection keeps an infinite error out of the square's gradient.
    square = 0.5 * jnp.where(near, error, jnp.zeros_like(error)) ** 2
    return jnp.where(near, square, delta * (size - 0.5 * delta))


def smooth_l1_loss(
    input: Num[Array, "..."],
    target: Num[Array, "..."],
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    beta: Scalar = 1.0,
) -> Reduced:
    """Squared error where it is small, absolute error where it is large, with slope 1 there.

    loss = e^2 / (2 beta) where |e| < beta, else |e| - beta / 2, e = input - target

    Shapes: input and target broadcast to one shape, with a warning where they differ; the loss has
    that shape, or () if it is reduced. Half precision is computed in float32 and rounded once.

    Args:
        input: the prediction.
        target: the truth.
        size_average: refused, since torch replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        beta: where the absolute error begins, 0 for everywhere; may be traced.

    Raises:
        ValueError: if the shapes do not fit, beta is negative, or the reduction is none of the
            three.
        TypeError: if neither array is of a floating-point dtype.

    Source: Girshick, 2015; torch.nn.functional.smooth_l1_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.smooth_l1_loss(jnp.array([1.0, 2.0]), jnp.array([1.5, 5.0]))
        Array(1.3125, dtype=float32)
    """
    check_reduction(reduction, "smooth_l1_loss", size_average, reduce)
    beta = check_beta(beta, "smooth_l1_loss")
    input, target = numbers("smooth_l1_loss", input=input, target=target)
    input, target = broadcast_pair("smooth_l1_loss", input, target)
    return _smooth_l1(reduction, (input, target), (beta,))


def check_beta(beta: Any, layer: str) -> Any:
    """Return the number `beta`, which must not be negative."""
    beta = check_number(beta, "beta", layer)
    if is_known(beta) and beta < 0:
        raise ValueError(f"{layer}: `beta` must not be negative, got {beta}")
    return beta


@elementwise_loss
def _smooth_l1(input: jax.Array, target: jax.Array, beta: jax.Array) -> jax.Array:
    error = input - target
    size = magnitude(error)
    # An error that is NaN is near, where the slope is NaN, unless nothing is.
    near = ~(size >= beta) & (beta > 0)
    # Both inner selections keep what is not selected out of the gradient: inf, and 0 / 0.
    safe_beta = jnp.where(beta > 0, beta, jnp.ones_like(beta))
    square = 0.5 * jnp.where(near, error, jnp.zeros_like(error)) ** 2 / safe_beta
    return jnp.where(near, square, size - 0.5 * beta)


def kl_div(
    input: Float[Array, "..."],
    target: Float[Array, "..."],
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Reduced:
    """Kullback-Leibler divergence of a distribution from the target, element by element.

    loss = target * (log(target) - input), which is 0 where the target is 0; with `log_target`,
    loss = exp(target) * (target - input). The input is a logarithm of probabilities.

    Only "batchmean", the sum divided by the size of dimension 0, is the divergence's mean over a
    batch: "mean" divides by the number of elements.

    Shapes: input and target broadcast to one shape; the loss has that shape, or () if it is
    reduced. Half precision is computed in float32 and rounded once.

    Args:
        input: the logarithm of the prediction.
        target: the true distribution, or its logarithm.
        size_average: refused, since torch replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean", "sum" or "batchmean".
        log_target: whether the target is a logarithm.

    Raises:
        ValueError: if the shapes do not broadcast, or the reduction is none of the four.
        TypeError: if input or target is not floating-point.

    Source: Kullback and Leibler, 1951; torch.nn.functional.kl_div.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> uniform = jnp.log(jnp.full((1, 2), 0.5))
        >>> jaxnn.functional.kl_div(uniform, jnp.array([[1.0, 0.0]]), reduction="batchmean")
        Array(0.6931472, dtype=float32)
    """
    check_reduction(reduction, "kl_div", size_average, reduce, also=("batchmean",))
    input = check_array(input, "input", "kl_div")
    target = check_array(target, "target", "kl_div")
    check_floating(input, "input", "kl_div")
    check_floating(target, "target", "kl_div")
    pair = tuple(broadcast("kl_div", input=input, target=target))
    if reduction != "batchmean":
        return _kl_div(reduction, pair, (), (bool(log_target),))
    size = input.shape[0] if input.ndim else 1
    return _kl_div_of_batch("sum", pair, (size,), (bool(log_target),))


def _divergence(input: jax.Array, target: jax.Array, log_target: bool) -> jax.Array:
    if log_target:
        return jnp.exp(target) * (target - input)
    return xlogy(target, target) - target * input


_kl_div = elementwise_loss(_divergence)


@elementwise_loss
def _kl_div_of_batch(
    input: jax.Array, target: jax.Array, size: jax.Array, log_target: bool
) -> jax.Array:
    return _divergence(input, target, log_target).sum() / size


def poisson_nll_loss(
    input: Num[Array, "..."],
    target: Num[Array, "..."],
    log_input: bool = True,
    full: bool = False,
    size_average: None = None,
    eps: Scalar = 1e-8,
    reduce: None = None,
    reduction: str = "mean",
) -> Reduced:
    """Negative log likelihood of counts under a Poisson distribution.

    loss = exp(input) - target * input, or input - target * log(input + eps) without `log_input`;
    with `full`, plus Stirling's approximation of log(target!), for targets above 1:
    target * log(target) - target + log(2 pi target) / 2

    Shapes: input and target broadcast to one shape; the loss has that shape, or () if it is
    reduced. Half precision is computed in float32 and rounded once.

    Args:
        input: the predicted rate, or its logarithm.
        target: the counts.
        log_input: whether the input is a logarithm.
        full: whether the constant term is added.
        size_average: refused, since torch replaced it by `reduction`.
        eps: added to a rate before its logarithm is taken; may be traced.
        reduce: refused, like size_average.
        reduction: "none", "mean" or "sum".

    Raises:
        ValueError: if the shapes do not broadcast, or the reduction is none of the three.
        TypeError: if neither array is of a floating-point dtype.

    Source: torch.nn.functional.poisson_nll_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.poisson_nll_loss(jnp.array([0.0, 0.0]), jnp.array([1.0, 2.0]))
        Array(1., dtype=float32)
    """
    check_reduction(reduction, "poisson_nll_loss", size_average, reduce)
    eps = check_number(eps, "eps", "poisson_nll_loss")
    input, target = numbers("poisson_nll_loss", input=input, target=target)
    input, target = broadcast("poisson_nll_loss", input=input, target=target)
    return _poisson(reduction, (input, target), (eps,), (bool(log_input), bool(full)))


@elementwise_loss
def _poisson(
    input: jax.Array, target: jax.Array, eps: jax.Array, log_input: bool, full: bool
) -> jax.Array:
    rate, log_rate = (jnp.exp(input), input) if log_input else (input, jnp.log(input + eps))
    loss = rate - target * log_rate
    if not full:
        return loss
    stirling = target * jnp.log(target) - target + 0.5 * jnp.log(2 * math.pi * target)
    return loss + jnp.where(target <= 1, jnp.zeros_like(stirling), stirling)


def gaussian_nll_loss(
    input: Num[Array, "..."],
    target: Num[Array, "..."],
    var: Num[Array, "..."] | float,
    full: bool = False,
    eps: Scalar = 1e-6,
    reduction: str = "mean",
) -> Reduced:
    """Negative log likelihood of numbers under normal distributions.

    loss = (log(v) + (input - target)^2 / v) / 2, plus log(2 pi) / 2 with `full`, where
    v = max(var, eps), whose derivative is 1 also where eps is the larger.

    Shapes: input and target broadcast to one shape, which the loss has, or () if it is reduced;
    var has the input's shape, or that without the last dimension, or with one dimension of 1.

    Args:
        input: the predicted mean.
        target: the truth.
        var: the predicted variance, or a float for all.
        full: whether the constant term is added.
        eps: the least variance; may be traced.
        reduction: "none", "mean" or "sum".

    Raises:
        ValueError: if the shapes do not fit, a variance that is concrete is negative, or the
            reduction is none of the three.
        TypeError: if none of the arrays is of a floating-point dtype.

    Source: Nix and Weigend, 1994; torch.nn.functional.gaussian_nll_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> mean, truth = jnp.array([1.0, 2.0]), jnp.array([3.0, 2.0])
        >>> jaxnn.functional.gaussian_nll_loss(mean, truth, jnp.array([1.0, 1.0]))
        Array(1., dtype=float32)
    """
    check_reduction(reduction, "gaussian_nll_loss")
    eps = check_number(eps, "eps", "gaussian_nll_loss")
    if isinstance(var, float):
        input = check_array(input, "input", "gaussian_nll_loss")
        is_float = jnp.issubdtype(input.dtype, jnp.floating)
        var = jnp.full(input.shape, var, input.dtype if is_float else jnp.float32)
    input, target, var = numbers("gaussian_nll_loss", input=input, target=target, var=var)
    _check_variance(var)
    var = _variance_for(input, var)
    arrays = broadcast("gaussian_nll_loss", input=input, target=target, var=var)
    return _gaussian(reduction, tuple(arrays), (eps,), (bool(full),))


def _check_variance(var: jax.Array) -> None:
    if check_indices.enabled and is_readable(var) and bool(np.any(np.asarray(var) < 0)):
        raise ValueError("gaussian_nll_loss: `var` must not be negative, as a variance is not")


def _variance_for(input: jax.Array, var: jax.Array) -> jax.Array:
    """Return the variances with as many dimensions as the input."""
    if var.shape == input.shape:
        return var
    if var.shape == input.shape[:-1]:
        return var[..., None]
    if var.ndim == input.ndim:
        different = [v for i, v in zip(input.shape, var.shape, strict=True) if i != v]
        if different == [1]:
            return var
    raise ValueError(
        f"gaussian_nll_loss: `var` must have the input's shape {input.shape}, or that without the "
        f"last dimension, or with one dimension of 1, got {var.shape}"
    )


@elementwise_loss
def _gaussian(
    input: jax.Array, target: jax.Array, var: jax.Array, eps: jax.Array, full: bool
) -> jax.Array:
    var = straight_through(var, jnp.where(var < eps, jnp.broadcast_to(eps, var.shape), var))
    loss = 0.5 * (jnp.log(var) + (input - target) ** 2 / var)
    return loss + 0.5 * math.log(2 * math.pi) if full else loss
