"""What attention is: the values' average, with the softmax of the scores for weights."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..._dtypes import accumulation_dtype
from ..dropout import dropout


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    scale: jax.Array,
    *,
    is_causal: bool,
    p: Any = 0.0,
    rng: jax.Array | None = None,
) -> jax.Array:
    """dropout(softmax(query key^T * scale + mask)) value, for arrays of one rank."""
    scores = scores_of(query, key, mask, scale)
    if is_causal:
        seen = with_rank(causal(scores.shape[-2:]), scores.ndim)
        scores = jnp.where(seen, scores, -jnp.inf)
    weights = _weights(scores)
    if rng is not None:
        weights = dropout(weights, p, rng=rng)
    return _average(weights, value).astype(value.dtype)


def scores_of(
    query: jax.Array, key: jax.Array, mask: jax.Array | None, scale: jax.Array | float
) -> jax.Array:
    """How well each key matches each query: (..., L, S)."""
    scores = product(query, key.swapaxes(-1, -2)) * scale
    # A sum and no selection: like torch, so that NaN is not hidden.
    return scores if mask is None else scores + bias_of(mask, scores.dtype)


def causal(shape: tuple[Any, ...], first_row: int = 0) -> jax.Array:
    """Whether a query, by its row, sees a key."""
    rows, columns = (lax.broadcasted_iota(jnp.int32, shape, axis) for axis in (0, 1))
    return rows + first_row >= columns


@jax.custom_jvp
def _weights(scores: jax.Array) -> jax.Array:
    """The softmax over the last dimension, with zeros where all scores are -inf."""
    exponentials, total = exponentials_of(scores, -1)
    return exponentials / total


@_weights.defjvp
def _weights_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    weights = _weights(*primals)
    return weights, change_of_weights(weights, tangents[0], -1)


def change_of_weights(weights: jax.Array, d_scores: jax.Array, axis: int) -> jax.Array:
    """Return the derivative of a softmax, linear in `d_scores`.

    From the weights themselves, so that a row of one key has no gradient, to the last bit.
    """
    return weights * (d_scores - (weights * d_scores).sum(axis, keepdims=True))


def exponentials_of(scores: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Return the exponentials of the scores less the largest, and their sum."""
    # The largest is at least the lowest finite number: where all scores are -inf, the exponentials
    # are 0, and 0 divided by 1. The scores are raised to it and not their maximum, since a TPU
    # makes scores, exponentials and sums together only if nothing stands between a row's maximum
    # and the subtraction; a reduction that starts there would do too, but XLA drops what a
    # reduction of one element starts with.
    axis %= scores.ndim
    raised = jnp.maximum(lax.stop_gradient(scores), jnp.finfo(scores.dtype).min)
    largest = jnp.expand_dims(lax.reduce_max(raised, (axis,)), axis)
    exponentials = jnp.exp(scores - largest)
    total = exponentials.sum(axis, keepdims=True)
    return exponentials, jnp.where(total == 0, 1.0, total)


@jax.custom_jvp
def _average(weights: jax.Array, value: jax.Array) -> jax.Array:
    """The weighted sum of the values, in which half precision multiplies half precision."""
    return product(weights.astype(value.dtype), value)


@_average.defjvp
def _average_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # The weights' gradient is not rounded to half precision: the softmax takes its mean from it,
    # which may be nearly all of it.
    (weights, value), (d_weights, d_value) = primals, tangents
    d_output = jnp.matmul(d_weights, value.astype(d_weights.dtype))
    return _average(*primals), d_output + product(weights.astype(value.dtype), d_value)


def product(left: jax.Array, right: jax.Array) -> jax.Array:
    """The matrix product, in the dtype of the sums."""
    return jnp.matmul(left, right, preferred_element_type=accumulation_dtype(left.dtype))


def bias_of(mask: jax.Array, dtype: Any) -> jax.Array:
    """Return a mask that is True where a key takes part as what is added to the scores."""
    return additive(~mask if mask.dtype == jnp.bool_ else mask, dtype).astype(dtype)


def additive(mask: jax.Array, dtype: Any) -> jax.Array:
    """Return a mask that is True where nothing is seen as what is added to the scores."""
    return jnp.where(mask, -jnp.inf, 0.0).astype(dtype) if mask.dtype == jnp.bool_ else mask


def with_rank(array: jax.Array, rank: int) -> jax.Array:
    """Return the array with dimensions of size 1 in front, `rank` in all."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)
