"""Attention on a CPU: as many scores at a time as its cache holds, and none of them kept."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..._thresholds import thresholds
from .definition import bias_of, causal, change_of_weights, exponentials_of


def in_chunks(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    scale: jax.Array,
    *,
    is_causal: bool,
) -> jax.Array:
    """Attend in some heads at a time, whose scores stay in the cache and are not kept."""
    batch = jnp.broadcast_shapes(*(array.shape[:-2] for array in (query, key, value)))
    count = math.prod(batch)
    # Two at least: XLA multiplies the transposes of a single matrix half as fast.
    most = max(thresholds().attention_scores // max(query.shape[-2] * key.shape[-2], 1), 2)
    heads = _divisor(count, most)
    if isinstance(count, int) and 8 * heads < min(count, most):
        # So few of many divide their number that the loop would cost more than the cache gains.
        heads = count

    def chunks(array: jax.Array) -> jax.Array:
        matrix = array.shape[-2:]
        return jnp.broadcast_to(array, (*batch, *matrix)).reshape((count // heads, heads, *matrix))

    def attend(chunk: tuple[jax.Array, ...]) -> jax.Array:
        q, k, v, *own = (array.astype(scale.dtype) for array in chunk)
        # The scale is multiplied with the queries, which are fewer than the scores.
        return _in_rows(q * scale, k, v, own[0] if own else shared, is_causal)

    shared, arrays = None, [query, key, value]
    if mask is not None:
        mask = bias_of(mask, scale.dtype)
        if math.prod(mask.shape[:-2]) == 1:
            shared = mask.reshape((1, *mask.shape[-2:]))
        else:
            arrays.append(mask)
    split = tuple(map(chunks, arrays))
    if count == heads:
        output = attend(tuple(array[0] for array in split))
    else:
        output = lax.map(attend, split)
    return output.reshape((*batch, *output.shape[-2:])).astype(value.dtype)


def _divisor(number: Any, limit: int) -> int:
    """Return the largest divisor up to the limit, or 1 where the number is symbolic."""
    if not isinstance(number, int):
        return 1
    return next((n for n in range(min(number, limit), 1, -1) if number % n == 0), 1)


def _in_rows(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None, is_causal: bool
) -> jax.Array:
    """Attend with some rows of queries at a time, and only the keys that they may see."""
    heads, length, keys = *query.shape[:2], key.shape[1]
    sizes = thresholds()
    fitting = sizes.attention_scores // max(heads * keys, 1)
    wanted = sizes.attention_causal_rows if is_causal else fitting
    size = max(wanted, -(-length // sizes.attention_blocks), 1)
    outputs = []
    for start in range(0, max(length, 1), size):
        rows, seen = slice(start, start + size), slice(start + size) if is_causal else slice(None)
        q, k, v = query[:, rows], key[:, seen], value[:, seen]
        own = bias
        if is_causal:
            own = jnp.where(causal((q.shape[1], k.shape[1]), start), 0.0, -jnp.inf)
            own = own.astype(q.dtype)[None]
        elif bias is not None and bias.shape[1] != 1:
            own = bias[:, rows]
        outputs.append(_attend_at_once(q, k, v, own))
    return jnp.concatenate(outputs, 1) if len(outputs) > 1 else outputs[0]


@jax.custom_jvp
def _attend_at_once(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None
) -> jax.Array:
    """The values' sum with exponentials for weights, divided by the sum of these afterwards."""
    scores = query @ key.swapaxes(-1, -2)
    exponentials, total = exponentials_of(scores if bias is None else scores + bias, -1)
    return (exponentials @ value) / total


@_attend_at_once.defjvp
def _attend_at_once_jvp(
    primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[jax.Array, jax.Array]:
    # The checkpoint makes the weights again, so that they are not kept for the backward pass.
    derivative = jax.checkpoint(_derivative_at_once, prevent_cse=False)
    return _attend_at_once(*primals), derivative(primals, tangents)


def _derivative_at_once(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> jax.Array:
    """The derivative of the output, linear in the tangents."""
    (query, key, value, bias), (d_query, d_key, d_value, d_bias) = primals, tangents
    query, d_query = query.swapaxes(-1, -2), d_query.swapaxes(-1, -2)
    # Keys by queries: of the three products with them in the transpose, two then have no operand
    # that is to be transposed, which takes XLA on a CPU twice as long.
    scores, d_scores = key @ query, key @ d_query + d_key @ query
    if bias is not None:
        scores, d_scores = scores + bias.swapaxes(-1, -2), d_scores + d_bias.swapaxes(-1, -2)
    exponentials, total = exponentials_of(scores, -2)
    weights = exponentials / total
    change = change_of_weights(weights, d_scores, -2)
    return change.swapaxes(-1, -2) @ value + weights.swapaxes(-1, -2) @ d_value
