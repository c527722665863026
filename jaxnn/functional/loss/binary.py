"""Losses of yes or no, from probabilities and from logits."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._checks import check_array, check_floating, check_same_dtype, is_readable
from ..._config import check_indices
from .._logarithm import log_one_plus_exp
from ._reduction import (
    Reduced,
    broadcast,
    check_reduction,
    check_same_shape,
    elementwise_loss,
    numbers,
)


def binary_cross_entropy(
    input: Float[Array, "..."],
    target: Float[Array, "..."],
    weight: Float[Array, "..."] | None = None,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Reduced:
    """Cross entropy between probabilities of yes and the target.

    loss = -weight * (target * log(input) + (1 - target) * log(1 - input)), where no logarithm is
    below -100. The derivative, (input - target) / (input (1 - input)), has a divisor of at least
    1e-12.

    Shapes: input and target of one shape, which the loss has, or () if it is reduced; weight
    broadcasts to it. Half precision is computed in float32 and rounded once.

    Args:
        input: the predicted probabilities.
        target: the true ones.
        weight: a factor for each element.
        size_average: refused, since torch replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".

    Raises:
        ValueError: if the shapes do not fit, a concrete input or target is not a probability, or
            the reduction is none of the three.
        TypeError: if the arrays are not of one floating-point dtype.

    Source: torch.nn.functional.binary_cross_entropy.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.binary_cross_entropy(jnp.array([0.5, 1.0]), jnp.array([1.0, 1.0]))
        Array(0.3465736, dtype=float32)
    """
    layer = "binary_cross_entropy"
    check_reduction(reduction, layer, size_average, reduce)
    input, target = _pair(layer, input, target)
    check_same_dtype({"input": input, "target": target}, layer)
    _check_probabilities(layer, input=input, target=target)
    arrays = (input, target, *_factors(layer, input, weight=weight))
    return _binary(reduction, arrays)


def _pair(layer: str, input: Any, target: Any) -> tuple[jax.Array, jax.Array]:
    input = check_array(input, "input", layer)
    target = check_array(target, "target", layer)
    check_floating(input, "input", layer)
    check_floating(target, "target", layer)
    check_same_shape(layer, input=input, target=target)
    return input, target


def _check_probabilities(layer: str, **arrays: jax.Array) -> None:
    for name, array in arrays.items():
        if check_indices.enabled and is_readable(array):
            values = np.asarray(array)
            if not bool(np.all((values >= 0) & (values <= 1))):
                raise ValueError(
                    f"{layer}: `{name}` must lie between 0 and 1; take the sigmoid of logits, or "
                    "binary_cross_entropy_with_logits"
                )


def _factors(layer: str, input: jax.Array, **weights: Any) -> list[jax.Array]:
    """Return the weights that there are, broadcast to the input's shape."""
    found = []
    for name, given in weights.items():
        if given is not None:
            (weight,) = numbers(layer, **{name: given})
            weight = broadcast(layer, **{"input": input, name: weight})[1]
            if weight.shape != input.shape:
                raise ValueError(
                    f"{layer}: `{name}` must broadcast to the input's shape {input.shape}, got "
                    f"{jnp.shape(given)}"
                )
            found.append(weight.astype(input.dtype))
    return found


@elementwise_loss
def _binary(input: jax.Array, target: jax.Array, *weight: jax.Array) -> jax.Array:
    loss = _cross_entropy(input, target)
    return loss * weight[0] if weight else loss


def _log1p(x: jax.Array) -> jax.Array:
    # XLA's log1p is wrong by hundreds of roundings in float64 between -0.5 and -0.29.
    return jnp.where(x < -0.25, jnp.log(1 + x), jnp.log1p(x))


# torch has it in single precision, whatever the dtype.
_LEAST_DIVISOR = float(np.float32(1e-12))


@jax.custom_jvp
def _cross_entropy(input: jax.Array, target: jax.Array) -> jax.Array:
    lowest = jnp.full_like(input, -100)
    yes = jnp.maximum(jnp.log(input), lowest)
    no = jnp.maximum(_log1p(-input), lowest)
    return (target - 1) * no - target * yes


@_cross_entropy.defjvp
def _cross_entropy_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    input, target = primals
    slope = (input - target) / jnp.maximum((1 - input) * input, _LEAST_DIVISOR)
    # log(1 - input) - log(input), which would cancel near a half.
    slope_of_target = _log1p((1 - 2 * input) / input)
    return _cross_entropy(input, target), slope * tangents[0] + slope_of_target * tangents[1]


def binary_cross_entropy_with_logits(
    input: Float[Array, "..."],
    target: Float[Array, "..."],
    weight: Float[Array, "..."] | None = None,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    pos_weight: Float[Array, "..."] | None = None,
) -> Reduced:
    """Cross entropy between the sigmoid of the input and the target, without overflow.

    loss = -weight * (pos_weight * target * log(p) + (1 - target) * log(1 - p)), p = sigmoid(input)

    Shapes: input and target of one shape, which the loss has, or () if it is reduced; weight and
    pos_weight broadcast to it. Half precision is computed in float32 and rounded once.

    Args:
        input: the logits.
        target: the true probabilities.
        weight: a factor for each element.
        size_average: refused, since torch replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".
        pos_weight: a factor for the part of yes, often one for each class.

    Raises:
        ValueError: if the shapes do not fit, or the reduction is none of the three.
        TypeError: if input or target is not floating-point.

    Source: torch.nn.functional.binary_cross_entropy_with_logits.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> logits, truth = jnp.array([0.0, 800.0]), jnp.array([1.0, 1.0])
        >>> jaxnn.functional.binary_cross_entropy_with_logits(logits, truth)
        Array(0.3465736, dtype=float32)
    """
    layer = "binary_cross_entropy_with_logits"
    check_reduction(reduction, layer, size_average, reduce)
    input, target = _pair(layer, input, target)
    factors = _factors(layer, input, weight=weight, pos_weight=pos_weight)
    flags = (weight is not None, pos_weight is not None)
    return _with_logits(reduction, (input, target, *factors), (), flags)


@elementwise_loss
def _with_logits(input: jax.Array, target: jax.Array, *more: Any) -> jax.Array:
    *factors, is_weighted, has_pos_weight = more
    if has_pos_weight:
        yes = factors[-1] * target * log_one_plus_exp(-input)
        loss = (1 - target) * log_one_plus_exp(input) + yes
    else:
        loss = log_one_plus_exp(input) - target * input
    return loss * factors[0] if is_weighted else loss
