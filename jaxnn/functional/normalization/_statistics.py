"""Statistics of an array over all dimensions but one, and the normalisation by them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..._thresholds import thresholds


def along(vector: jax.Array, like: jax.Array, dim: int = 1) -> jax.Array:
    """Return the vector in the shape of `like`, along dimension `dim`."""
    return lax.broadcast_in_dim(vector, like.shape, (dim,))


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


class Statistics(NamedTuple):
    """Statistics of each element of one dimension over all others: the mean is `shift + offset`."""

    shift: jax.Array
    offset: jax.Array
    var: jax.Array
    unbiased_var: jax.Array


def count_of(input: jax.Array, dim: int, names: tuple[str, ...]) -> Any:
    """Return the number of values that a statistic is of; symbolic where a size is."""
    local = math.prod((*input.shape[:dim], *input.shape[dim + 1 :]))
    return local * lax.psum(1, names) if names else local


def _means(
    arrays: tuple[jax.Array, ...], dim: int, count: jax.Array, names: tuple[str, ...]
) -> tuple[jax.Array, ...]:
    others = tuple(axis for axis in range(arrays[0].ndim) if axis != dim)
    sums = tuple(array.sum(others) for array in arrays)
    sums = lax.psum(sums, names) if names else sums
    return tuple(total / count for total in sums)


def statistics_of(input: jax.Array, dim: int, dtype: Any, names: tuple[str, ...]) -> Statistics:
    """Return the statistics of each element of dimension `dim`, over mapped axes `names` too."""
    x = input.astype(dtype)
    count = jnp.asarray(count_of(input, dim, names)).astype(dtype)
    # The mean of squares less the square of the mean would cancel; and a mean that is large
    # against the deviation cannot be held exactly. So a first mean is subtracted, which is exact,
    # and both moments are taken of the rest.
    (shift,) = _means((x,), dim, count, names)
    centred = x - along(shift, x, dim)
    squares = centred * centred
    offset, square = _means((centred, squares), dim, count, names)
    if isinstance(x.size, int) and x.size <= thresholds().statistics_elements:
        # XLA adds so few one by one, which rounds in one direction; what is left over is small.
        square = square + _means((squares - along(square, x, dim),), dim, count, names)[0]
    var = square - offset * offset
    # Without the barrier, and that in the derivative, XLA keeps the centred input of the forward
    # pass for the backward pass, as large as the input.
    return lax.optimization_barrier(Statistics(shift, offset, var, var * (count / (count - 1))))


@partial(jax.jit, static_argnames=("dim", "names"), inline=True)
def normalize_by_own_statistics(
    input: jax.Array,
    weight: jax.Array,
    bias: jax.Array,
    eps: jax.Array,
    dim: int,
    names: tuple[str, ...] = (),
) -> tuple[jax.Array, Statistics]:
    """Normalise each element of dimension `dim` by its own statistics, and return them.

    y = (x - mean) / sqrt(var + eps) * weight + bias, with the statistics over all other dimensions
    and over the mapped axes `names`. The gradient goes through them, not through those returned.
    """
    return _normalize_by_own(input, weight, bias, eps, dim, names)


@partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def _normalize_by_own(
    input: jax.Array,
    weight: jax.Array,
    bias: jax.Array,
    eps: jax.Array,
    dim: int,
    names: tuple[str, ...],
) -> tuple[jax.Array, Statistics]:
    statistics = statistics_of(input, dim, eps.dtype, names)
    scale = weight.astype(eps.dtype) * lax.rsqrt(statistics.var + eps)
    centred = centre(input, dim, statistics)
    y = centred * along(scale, input, dim) + along(bias.astype(eps.dtype), input, dim)
    return y.astype(input.dtype), statistics


@_normalize_by_own.defjvp
def _normalize_by_own_jvp(
    dim: int,
    names: tuple[str, ...],
    primals: tuple[jax.Array, ...],
    tangents: tuple[jax.Array, ...],
) -> tuple[tuple[jax.Array, Statistics], tuple[jax.Array, Statistics]]:
    input, weight, _, eps = primals
    # The statistics that leave have no derivative; those in the derivative itself do, for a second
    # one, and so are not taken from there.
    statistics = statistics_of(input, dim, eps.dtype, names)
    # Without the checkpoint, the normalised input would be kept for the backward pass, beside the
    # input; it is made again from the statistics.
    derivative = jax.checkpoint(partial(_derivative, dim, names), prevent_cse=False)
    d_output = derivative(input, weight, eps, statistics, tangents)
    no_change = jax.tree.map(jnp.zeros_like, statistics)
    return _normalize_by_own(*primals, dim, names), (d_output, no_change)


def _derivative(
    dim: int,
    names: tuple[str, ...],
    input: jax.Array,
    weight: jax.Array,
    eps: jax.Array,
    statistics: Statistics,
    tangents: tuple[jax.Array, ...],
) -> jax.Array:
    """The derivative of the output, linear in the tangents.

    Collected so that its transpose reduces the output's cotangent twice, and no more.
    """
    d_input, d_weight, d_bias = (tangent.astype(eps.dtype) for tangent in tangents[:3])
    # By the centred input and 1 / variance, not by the normalised input twice, whose rounded factor
    # would enter twice: of four elements, one gradient in 40 was off by more than eight roundings,
    # where now it is one in 170.
    count = jnp.asarray(count_of(input, dim, names)).astype(eps.dtype)
    centred = centre(input, dim, statistics)
    variance = statistics.var + eps
    # Of no elements there is no variance, and the weight's gradient is 0 all the same.
    inverse = jnp.where(count > 0, lax.rsqrt(variance), 0)
    scale = weight.astype(eps.dtype) * inverse
    # Scaled first here, and so last in the transpose: the differences there, which may cancel, are
    # of cotangents as they came, and no rounding of a product is left over.
    scaled = along(scale, input, dim) * d_input
    d_mean, d_slope = change_of_statistics(
        scaled, scale, tangents[3], centred, variance, dim, count, names
    )
    constant = d_bias - d_mean
    slope = d_weight * inverse - d_slope
    d_output = scaled + along(constant, input, dim) + centred * along(slope, input, dim)
    return d_output.astype(input.dtype)


def change_of_statistics(
    scaled: jax.Array,
    scale: jax.Array,
    d_eps: jax.Array,
    centred: jax.Array,
    variance: jax.Array,
    dim: int,
    count: jax.Array,
    names: tuple[str, ...] = (),
) -> tuple[jax.Array, jax.Array]:
    """Return what the change of the mean subtracts, and that of the variance from each deviation.

    `scaled` is the input's tangent times `scale`, and `variance` has eps in it.
    """
    d_mean, d_along = lax.optimization_barrier(
        _means((scaled, centred * scaled), dim, count, names)
    )
    return d_mean, (d_along + scale * d_eps / 2) / variance


def centre(input: jax.Array, dim: int, statistics: Statistics) -> jax.Array:
    """Return the deviations from the mean."""
    x = input.astype(statistics.shift.dtype)
    return (x - along(statistics.shift, x, dim)) - along(statistics.offset, x, dim)


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
