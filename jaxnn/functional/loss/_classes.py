"""Targets that are numbers of classes: their check, and the loss of one class among many."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._checks import check_array, check_same_dtype, is_readable
from ..._config import check_indices

TARGET_DTYPES = (jnp.int64, jnp.int32, jnp.uint8)


def check_targets(
    target: Any, classes: int, layer: str, ignore: int | None = None
) -> Int[Array, "..."]:
    """Return the targets, their dtype checked, and their range where they are concrete.

    Raises:
        IndexError: if a concrete target is neither `ignore` nor between 0 and `classes` - 1.
        TypeError: if the targets are not int64, int32 or uint8.
    """
    array = check_array(target, "target", layer)
    dtype = getattr(target, "dtype", array.dtype)
    if dtype not in TARGET_DTYPES:
        raise TypeError(
            f"{layer}: `target` holds classes and must be int32, int64 or uint8, got {dtype}; "
            "convert it with target.astype(jnp.int32)"
        )
    # A NumPy array is checked as it came: without 64 bits the conversion wraps large ids around.
    concrete = target if isinstance(target, np.ndarray) else array
    if check_indices.enabled and is_readable(concrete) and isinstance(classes, int):
        values = np.asarray(concrete)
        wrong = values[(values != ignore) & ((values < 0) | (values >= classes))]
        if wrong.size:
            raise IndexError(
                f"{layer}: `target` holds the class {wrong[0]}, but the input has {classes} "
                f"classes: targets must lie between 0 and {classes - 1}"
            )
    return array.astype(jnp.int32) if array.dtype == jnp.uint8 else array


def check_weight(weight: Any, input: jax.Array, axis: int, layer: str) -> jax.Array | None:
    """Return the weights of the classes, one for each and of the input's dtype, or None."""
    if weight is None:
        return None
    weight = check_array(weight, "weight", layer)
    if weight.shape != (input.shape[axis],):
        raise ValueError(
            f"{layer}: `weight` must have shape ({input.shape[axis]},), one for each class, got "
            f"{weight.shape}"
        )
    check_same_dtype({"input": input, "weight": weight}, layer)
    return weight


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def pick(x: Float[Array, "..."], target: Int[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Return the elements of `x` that the targets number along the axis, which is gone."""
    index = jnp.expand_dims(target, axis)
    return jnp.take_along_axis(x, index, axis, mode="clip").squeeze(axis)


@pick.defjvp
def _pick_jvp(
    axis: int, primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, Any]
) -> tuple[jax.Array, jax.Array]:
    # A masked sum, since its transpose fuses with what is added to it; a scatter does not.
    x, target = primals
    number = jax.lax.broadcasted_iota(target.dtype, x.shape, axis % x.ndim)
    chosen = number == jnp.expand_dims(target, axis)
    return pick(x, target, axis), jnp.where(chosen, tangents[0], 0).sum(axis)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_sum_exp(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Return log(sum(exp(x))) along the axis, which is gone, for x that does not overflow."""
    return jnp.log(jnp.exp(x).sum(axis))


@log_sum_exp.defjvp
def _log_sum_exp_jvp(
    axis: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # By the result, so that nothing of the input's size is kept beside the input.
    total = log_sum_exp(primals[0], axis)
    probability = jnp.exp(primals[0] - jnp.expand_dims(total, axis))
    return total, (probability * tangents[0]).sum(axis)


def over_targets(
    loss: Float[Array, "..."], weight: Float[Array, "..."], reduction: str
) -> Float[Array, "..."]:
    """Reduce the losses, already weighted; their mean is divided by the sum of the weights."""
    if reduction == "mean":
        return loss.sum() / weight.sum()
    return loss if reduction == "none" else loss.sum()


def target_weights(
    target: Int[Array, "..."],
    weight: Float[Array, "C"] | None,
    classes: int,
    ignore: int,
    dtype: Any,
) -> tuple[Int[Array, "..."], Float[Array, "..."], Any]:
    """Return targets that are classes, the weight of each, and where the loss counts.

    An ignored target has weight 0 and class 0; one that is not a class has weight NaN.
    """
    counts = target != ignore
    is_class = (target >= 0) & (target < classes)
    safe = jnp.where(counts & is_class, target, 0)
    one = jnp.ones(target.shape, dtype)
    if weight is not None and classes:
        one = weight[safe].astype(dtype)
    valid = jnp.where(is_class, one, jnp.full_like(one, jnp.nan))
    return safe, jnp.where(counts, valid, jnp.zeros_like(one)), counts
