"""Losses of one class among many: from logarithms of probabilities, from logits, from features."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Num

from ..._checks import check_array, check_floating, check_int, check_same_dtype
from ..._dtypes import accumulation_dtype, promoted_dtype
from ..._types import Scalar
from ..activation._elementwise import check_number, is_known
from ..linear import linear
from ._classes import check_targets, check_weight, log_sum_exp, over_targets, pick, target_weights
from ._reduction import check_reduction, reduced


def nll_loss(
    input: Float[Array, "..."],
    target: Int[Array, "..."],
    weight: Float[Array, "C"] | None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """Negative log likelihood of the target's class, given logarithms of probabilities.

    loss_n = -weight[target_n] * input[n, target_n], and 0 where target_n = ignore_index; the mean
    is divided by the sum of the weights of the targets that are not ignored, so it is NaN where
    all are.

    Shapes: input (N, C, *positions) or (C), target (N, *positions) or (); the loss has the target's
    shape, or () if it is reduced. Half precision is computed in float32 and rounded once.

    Args:
        input: the logarithms of the probabilities.
        target: the true classes.
        weight: a factor for each class.
        size_average: refused, since torch replaced it by `reduction`.
        ignore_index: the target that does not count.
        reduce: refused, like size_average.
        reduction: "none", "mean" or "sum".

    Raises:
        IndexError: if a concrete target is not a class; under `jax.jit` its loss is NaN.
        ValueError: if the shapes do not fit, or the reduction is none of the three.
        TypeError: if the targets are not integers, or input and weight not of one floating dtype.

    Source: torch.nn.functional.nll_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> log_probs = jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75]]))
        >>> jaxnn.functional.nll_loss(log_probs, jnp.array([0, 0]), reduction="sum")
        Array(2.0794415, dtype=float32)
    """
    check_reduction(reduction, "nll_loss", size_average, reduce)
    input = _floating(input, "input", "nll_loss")
    target, axis = _targets(input, target, ignore_index, "nll_loss")
    weight = check_weight(weight, input, axis, "nll_loss")
    return _nll(input, target, weight, axis, int(ignore_index), reduction)


@partial(jax.jit, static_argnums=(3, 4, 5), inline=True)
def _nll(
    input: jax.Array,
    target: jax.Array,
    weight: jax.Array | None,
    axis: int,
    ignore_index: int,
    reduction: str,
) -> jax.Array:
    wide = accumulation_dtype(input.dtype)
    target, weights, counts = target_weights(target, weight, input.shape[axis], ignore_index, wide)
    loss = jnp.where(counts, 0 - pick(input, target, axis).astype(wide), 0) * weights
    return over_targets(loss, weights, reduction).astype(input.dtype)


def cross_entropy(
    input: Float[Array, "..."],
    target: Num[Array, "..."],
    weight: Float[Array, "C"] | None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
    label_smoothing: Scalar = 0.0,
) -> Float[Array, "..."]:
    """Cross entropy between the softmax of the input and the target.

    With p = softmax(input) over the classes, s = label_smoothing and w = weight:
    loss_n = -(1 - s) w[t_n] log p[n, t_n] - s / C * sum_c w_c log p[n, c] for a target of classes,
    and 0 where t_n = ignore_index; the mean is divided by the sum of w[t_n] over the others, so it
    is NaN where all are ignored. A target of the input's own shape holds probabilities q:
    loss_n = -sum_c w_c ((1 - s) q[n, c] + s / C) log p[n, c], and its mean is over all n.

    Shapes: input (N, C, *positions) or (C), target (N, *positions) or (), or of the input's shape;
    the loss has the shape of a target of classes, or () if it is reduced. Half precision is
    computed in float32 and rounded once.

    Args:
        input: the logits.
        target: the true classes, or probabilities of all classes.
        weight: a factor for each class.
        size_average: refused, since torch replaced it by `reduction`.
        ignore_index: the target that does not count, among classes.
        reduce: refused, like size_average.
        reduction: "none", "mean" or "sum".
        label_smoothing: the share of the target that all classes have alike, from 0 to 1; may be
            traced. What is negative counts as 0.

    Raises:
        IndexError: if a concrete target is not a class; under `jax.jit` its loss is NaN.
        ValueError: if the shapes do not fit, label_smoothing exceeds 1, ignore_index is given
            for probabilities, or the reduction is none of the three.
        TypeError: if classes are not integers, probabilities no floats, or the input and the weight
            of classes not of one floating dtype.

    Source: torch.nn.functional.cross_entropy.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> logits = jnp.zeros((3, 2))
        >>> jaxnn.functional.cross_entropy(logits, jnp.array([0, 1, -100]))
        Array(0.6931472, dtype=float32)
        >>> jaxnn.functional.cross_entropy(logits, jnp.full((3, 2), 0.5), reduction="none")
        Array([0.6931472, 0.6931472, 0.6931472], dtype=float32)
    """
    check_reduction(reduction, "cross_entropy", size_average, reduce)
    label_smoothing = check_smoothing(label_smoothing, "cross_entropy")
    is_smooth = not is_known(label_smoothing) or label_smoothing > 0
    input = _floating(input, "input", "cross_entropy")
    if jnp.shape(target) == input.shape:
        target = _floating(target, "target", "cross_entropy")
        if ignore_index >= 0:
            raise ValueError(
                "cross_entropy: `ignore_index` is for targets that are classes, but the target has "
                "the input's shape and so holds probabilities; reshape it or leave it out"
            )
        weight = _weight_of_probabilities(weight, input)
        return _from_probabilities(input, target, weight, label_smoothing, reduction)
    target, axis = _targets(input, target, ignore_index, "cross_entropy")
    weight = check_weight(weight, input, axis, "cross_entropy")
    return _from_classes(
        input, target, weight, label_smoothing, axis, int(ignore_index), reduction, is_smooth
    )


def check_smoothing(label_smoothing: Any, layer: str) -> Any:
    """Return the number `label_smoothing`, which must not exceed 1."""
    label_smoothing = check_number(label_smoothing, "label_smoothing", layer)
    if is_known(label_smoothing) and label_smoothing > 1:
        raise ValueError(
            f"{layer}: `label_smoothing` must lie between 0 and 1, got {label_smoothing}"
        )
    return label_smoothing


@partial(jax.jit, static_argnums=(4, 5, 6, 7), inline=True)
def _from_classes(
    input: jax.Array,
    target: jax.Array,
    weight: jax.Array | None,
    label_smoothing: jax.Array,
    axis: int,
    ignore_index: int,
    reduction: str,
    is_smooth: bool,
) -> jax.Array:
    dtype, classes = accumulation_dtype(input.dtype), input.shape[axis]
    target, weights, counts = target_weights(target, weight, classes, ignore_index, dtype)
    # Widened once, so that in half precision both parts of the gradient are added before rounding.
    wide = input.astype(dtype)
    largest, below = _below_largest(wide, axis)
    partition = log_sum_exp(below, axis)
    chosen = pick(wide, target, axis) - largest
    loss = over_targets(jnp.where(counts, partition - chosen, 0) * weights, weights, reduction)
    if is_smooth:
        # All differences again behind the barrier, since what two sums share is held in memory.
        again = wide - jnp.expand_dims(lax.optimization_barrier(largest), axis)
        smooth = _weighted_sum(jnp.expand_dims(partition, axis) - again, weight, axis)
        smooth = over_targets(jnp.where(counts, smooth, 0), weights, reduction)
        share = jnp.maximum(jnp.asarray(label_smoothing).astype(dtype), 0)
        loss = (1 - share) * loss + share / classes * smooth
    return loss.astype(input.dtype)


@partial(jax.jit, static_argnums=4, inline=True)
def _from_probabilities(
    input: jax.Array,
    target: jax.Array,
    weight: jax.Array | None,
    label_smoothing: jax.Array,
    reduction: str,
) -> jax.Array:
    result = promoted_dtype(input, target, *([] if weight is None else [weight]))
    dtype, axis = accumulation_dtype(result), min(input.ndim, 2) - 1
    _, below = _below_largest(input.astype(dtype), axis)
    partition = log_sum_exp(below, axis)
    share = jnp.maximum(jnp.asarray(label_smoothing).astype(dtype), 0)
    smooth = target.astype(dtype) * (1 - share) + share / input.shape[axis]
    terms = (jnp.expand_dims(partition, axis) - below) * smooth
    return reduced(_weighted_sum(terms, weight, axis), reduction).astype(result)


def _below_largest(input: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Return the largest logit along the axis, a constant, and all logits less that."""
    largest = lax.stop_gradient(input).max(axis, initial=-jnp.inf)
    return largest, input - jnp.expand_dims(largest, axis)


def _weighted_sum(x: jax.Array, weight: jax.Array | None, axis: int) -> jax.Array:
    if weight is not None:
        x = x * weight.astype(x.dtype).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return x.sum(axis)


def _weight_of_probabilities(weight: Any, input: jax.Array) -> jax.Array | None:
    """Return the weights of the classes, which need not have the input's dtype here."""
    if weight is None:
        return None
    weight = _floating(weight, "weight", "cross_entropy")
    check_weight(weight.astype(input.dtype), input, min(input.ndim, 2) - 1, "cross_entropy")
    return weight


def _floating(array: Any, name: str, layer: str) -> jax.Array:
    array = check_array(array, name, layer)
    check_floating(array, name, layer)
    if array.ndim == 0:
        raise ValueError(f"{layer}: `{name}` must have a dimension of classes, got shape ()")
    return array


def _targets(input: jax.Array, target: Any, ignore_index: Any, layer: str) -> tuple[jax.Array, int]:
    """Return the targets, checked, in the shape of the loss, and the dimension of the classes."""
    check_int(ignore_index, "ignore_index", layer)
    axis = min(input.ndim, 2) - 1
    target = check_targets(target, input.shape[axis], layer, ignore_index)
    expected = (*input.shape[:axis], *input.shape[axis + 1 :])
    if target.shape != expected:
        raise ValueError(
            f"{layer}: `target` must have shape {expected} for an input of shape {input.shape}, "
            f"got {target.shape}"
        )
    return target, axis


def linear_cross_entropy(
    input: Float[Array, "*N in_features"],
    linear_weight: Float[Array, "C *positions in_features"],
    target: Num[Array, "..."],
    *,
    linear_bias: Float[Array, "C *positions"] | None = None,
    weight: Float[Array, "C"] | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: Scalar = 0.0,
    options: Any = None,
) -> Float[Array, "..."]:
    """Cross entropy of logits that are a linear map of the input.

    loss = cross_entropy(input linear_weight^T + linear_bias, target, weight, ...)

    Shapes: input (N, F) or (F), linear_weight (C, F) or (C, *positions, F), target and loss as for
    `cross_entropy` of logits (N, C, *positions) or (C).

    Args:
        input: the features.
        linear_weight: the map to the logits.
        target: the true classes, or probabilities of all classes.
        linear_bias: added to the logits.
        weight: a factor for each class.
        reduction: "none", "mean" or "sum".
        ignore_index: the target that does not count, among classes; None for -100.
        label_smoothing: the share of the target that all classes have alike; may be traced.
        options: how torch divides the work into parts, which changes no value: accepted, without
            effect.

    Raises:
        IndexError: if a concrete target is not a class; under `jax.jit` its loss is NaN.
        ValueError: if the shapes do not fit, there are positions without a batch, ignore_index is
            given for probabilities, or as for `cross_entropy`.
        TypeError: if the dtypes of input, weights and bias differ.

    Source: torch.nn.functional.linear_cross_entropy.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> features, table = jnp.ones((1, 3)), jnp.zeros((2, 3))
        >>> jaxnn.functional.linear_cross_entropy(features, table, jnp.array([1]))
        Array(0.6931472, dtype=float32)
    """
    layer = "linear_cross_entropy"
    del options
    input = _floating(input, "input", layer)
    linear_weight = _floating(linear_weight, "linear_weight", layer)
    if input.ndim > 2 or linear_weight.ndim < 2 or input.shape[-1] != linear_weight.shape[-1]:
        raise ValueError(
            f"{layer}: `input` must have shape (N, F) or (F), and `linear_weight` (C, F) or "
            f"(C, *positions, F), got {input.shape} and {linear_weight.shape}"
        )
    shape = linear_weight.shape[:-1]
    if len(shape) > 1 and input.ndim == 1:
        raise ValueError(f"{layer}: `input` must have a batch, (N, F), got {input.shape}")
    if linear_bias is not None:
        linear_bias = check_array(linear_bias, "linear_bias", layer)
        if linear_bias.shape != shape:
            raise ValueError(
                f"{layer}: `linear_bias` must have shape {shape}, got {linear_bias.shape}"
            )
        check_same_dtype({"input": input, "linear_bias": linear_bias}, layer)
        linear_bias = linear_bias.reshape(math.prod(shape))
    check_same_dtype({"input": input, "linear_weight": linear_weight}, layer)
    table = linear_weight.reshape(math.prod(shape), input.shape[-1])
    logits = linear(input, table, linear_bias).reshape(*input.shape[:-1], *shape)
    if ignore_index is not None and jnp.shape(target) == logits.shape:
        raise ValueError(
            f"{layer}: `ignore_index` is for targets that are classes, not for probabilities"
        )
    return cross_entropy(
        logits,
        target,
        weight,
        ignore_index=-100 if ignore_index is None else ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )
