"""Normalisation by the input's own statistics, with a derivative that keeps the input alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..._xla import by_platform
from .definition import (
    Statistics,
    along,
    centre,
    count_of,
    means_over,
    normalize,
    over_last,
    statistics_of,
)


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
    if dim == 0:
        # Each row with its statistics is one kernel on a GPU, if nothing stands between them.
        statistics = by_platform(cpu=lax.optimization_barrier, default=_as_they_are)(statistics)
    else:
        statistics = lax.optimization_barrier(statistics)
    return normalize(input, weight, bias, eps, dim, statistics), statistics


def _as_they_are(statistics: Statistics) -> Statistics:
    return statistics


def kept_statistics_of(
    input: jax.Array, dim: int, dtype: Any, names: tuple[str, ...]
) -> Statistics:
    """Return the statistics, as numbers that are kept.

    Without the barrier, and that in the derivative, XLA keeps the centred input of the forward pass
    for the backward pass, as large as the input.
    """
    return lax.optimization_barrier(statistics_of(input, dim, dtype, names))


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
    statistics = kept_statistics_of(input, dim, eps.dtype, names)
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
        means_over((scaled, centred * scaled), dim, count, names)
    )
    return d_mean, (d_along + scale * d_eps / 2) / variance


def normalize_rows(
    rows: jax.Array, weight: jax.Array | None, bias: jax.Array | None, eps: jax.Array
) -> jax.Array:
    """Normalise each row by its own statistics, with a weight and a bias along the rows."""
    y = standardize(rows, eps)
    if weight is not None:
        y = y * over_last(weight, y)
    if bias is not None:
        y = y + over_last(bias, y)
    return y.astype(rows.dtype)


def standardize(rows: jax.Array, eps: jax.Array) -> jax.Array:
    """Give each row mean 0 and variance 1, in the precision of eps."""
    ones, zeros = jnp.ones(rows.shape[0], eps.dtype), jnp.zeros(rows.shape[0], eps.dtype)
    output, _ = normalize_by_own_statistics(rows.astype(eps.dtype), ones, zeros, eps, 0)
    return output
