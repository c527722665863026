"""What normalisation is: by statistics over all dimensions but one, given or the input's own."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..._thresholds import thresholds


class Statistics(NamedTuple):
    """Statistics of each element of one dimension over all others: the mean is `shift + offset`."""

    shift: jax.Array
    offset: jax.Array
    var: jax.Array
    unbiased_var: jax.Array


def normalize(
    input: jax.Array,
    weight: jax.Array,
    bias: jax.Array,
    eps: jax.Array,
    dim: int,
    statistics: Statistics,
) -> jax.Array:
    """(x - mean) / sqrt(var + eps) * weight + bias, for each element of dimension `dim`."""
    scale = weight.astype(eps.dtype) * lax.rsqrt(statistics.var + eps)
    centred = centre(input, dim, statistics)
    y = centred * along(scale, input, dim) + along(bias.astype(eps.dtype), input, dim)
    return y.astype(input.dtype)


def centre(input: jax.Array, dim: int, statistics: Statistics) -> jax.Array:
    """Return the deviations from the mean."""
    x = input.astype(statistics.shift.dtype)
    return (x - along(statistics.shift, x, dim)) - along(statistics.offset, x, dim)


def statistics_of(input: jax.Array, dim: int, dtype: Any, names: tuple[str, ...]) -> Statistics:
    """Return the statistics of each element of dimension `dim`, over mapped axes `names` too."""
    x = input.astype(dtype)
    count = jnp.asarray(count_of(input, dim, names)).astype(dtype)
    # The mean of squares less the square of the mean would cancel; and a mean that is large
    # against the deviation cannot be held exactly. So a first mean is subtracted, which is exact,
    # and both moments are taken of the rest.
    (shift,) = means_over((x,), dim, count, names)
    centred = x - along(shift, x, dim)
    squares = centred * centred
    offset, square = means_over((centred, squares), dim, count, names)
    if isinstance(x.size, int) and x.size <= thresholds().statistics_elements:
        # XLA adds so few one by one, which rounds in one direction; what is left over is small.
        square = square + means_over((squares - along(square, x, dim),), dim, count, names)[0]
    var = square - offset * offset
    return Statistics(shift, offset, var, var * (count / (count - 1)))


def means_over(
    arrays: tuple[jax.Array, ...], dim: int, count: jax.Array, names: tuple[str, ...]
) -> tuple[jax.Array, ...]:
    """Return the mean of each array over all dimensions but `dim`, and over mapped axes `names`."""
    others = tuple(axis for axis in range(arrays[0].ndim) if axis != dim)
    sums = tuple(array.sum(others) for array in arrays)
    sums = lax.psum(sums, names) if names else sums
    return tuple(total / count for total in sums)


def count_of(input: jax.Array, dim: int, names: tuple[str, ...]) -> Any:
    """Return the number of values that a statistic is of; symbolic where a size is."""
    local = math.prod((*input.shape[:dim], *input.shape[dim + 1 :]))
    return local * lax.psum(1, names) if names else local


@partial(jax.jit, inline=True)
def normalize_by(
    input: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    weight: jax.Array,
    bias: jax.Array,
    eps: jax.Array,
) -> jax.Array:
    """Normalise each channel, dimension 1, by the given statistics, which have no gradient."""
    x, weight, bias = (array.astype(eps.dtype) for array in (input, weight, bias))
    mean, var = (lax.stop_gradient(array).astype(eps.dtype) for array in (mean, var))
    scale = weight * lax.rsqrt(var + eps)
    y = (x - along(mean, x)) * along(scale, x) + along(bias, x)
    return y.astype(input.dtype)


@partial(jax.jit, inline=True)
def updated(
    running_mean: jax.Array,
    running_var: jax.Array,
    batch: Statistics,
    momentum: jax.Array,
    kept: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Return the running statistics after a batch, as `kept` of the old and `momentum` of it."""

    def mix(running: jax.Array, new: jax.Array) -> jax.Array:
        mixed = kept * running.astype(kept.dtype) + momentum * new
        return lax.stop_gradient(mixed.astype(running.dtype))

    # Below this the offset is the rounding of the centred values, which normalising wants out of
    # them; as a mean the first one is the better.
    noise = 8 * jnp.finfo(kept.dtype).eps * jnp.sqrt(batch.var)
    offset = jnp.where(jnp.abs(batch.offset) <= noise, jnp.zeros_like(batch.offset), batch.offset)
    return mix(running_mean, batch.shift + offset), mix(running_var, batch.unbiased_var)


def along(vector: jax.Array, like: jax.Array, dim: int = 1) -> jax.Array:
    """Return the vector in the shape of `like`, along dimension `dim`."""
    return lax.broadcast_in_dim(vector, like.shape, (dim,))


def over_last(vector: jax.Array, like: jax.Array) -> jax.Array:
    """Return the vector in the shape of `like`, along its last dimensions."""
    dims = range(like.ndim - vector.ndim, like.ndim)
    return lax.broadcast_in_dim(vector.astype(like.dtype), like.shape, tuple(dims))
