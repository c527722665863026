"""Layer normalisation of many rows on a CPU."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..._xla import out_of_line
from .definition import Statistics, along, centre, over_last
from .own_statistics import change_of_statistics, kept_statistics_of, normalize_rows


@jax.custom_jvp
def normalize_many_rows(
    rows: jax.Array, weight: jax.Array | None, bias: jax.Array | None, eps: jax.Array
) -> jax.Array:
    """As `normalize_rows`, with a derivative in whose transpose the sums stand apart on a CPU.

    XLA hands sums over so many elements to a library there, together with all that is made of them,
    and writes out each vector as a matrix for it: forward and backward took 2 to 5 times as long.
    """
    return normalize_rows(rows, weight, bias, eps)


@normalize_many_rows.defjvp
def _normalize_many_rows_jvp(
    primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[jax.Array, jax.Array]:
    # Checkpointed, so that the choice of the platform is part of the backward pass and no input to
    # it, and so that nothing is kept beside the rows.
    derivative = jax.checkpoint(_derivative_of_rows, prevent_cse=False)
    return normalize_many_rows(*primals), derivative(primals, tangents)


def _derivative_of_rows(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> jax.Array:
    """The derivative of the output, linear in the tangents."""
    (rows, weight, _, eps), (d_rows, d_weight, d_bias, d_eps) = primals, tangents
    dtype, size = eps.dtype, rows.shape[1]
    weight = jnp.ones(size, dtype) if weight is None else weight.astype(dtype)
    d_weight, d_bias = (
        jnp.zeros(size, dtype) if vector is None else vector.astype(dtype)
        for vector in (d_weight, d_bias)
    )
    statistics = kept_statistics_of(rows, 0, dtype, ())
    variance = statistics.var + eps
    inverse = lax.rsqrt(variance)
    scaled = d_rows.astype(dtype) * along(inverse, rows, 0)
    constant, slope = change_of_statistics(
        scaled, inverse, d_eps, centre(rows, 0, statistics), variance, 0, jnp.asarray(size, dtype)
    )

    # Checkpointed as well, so that what the sums are of is made where they are.
    @partial(jax.checkpoint, prevent_cse=False)
    def through_statistics(rows: jax.Array, *vectors: jax.Array) -> jax.Array:
        *moments, weight, constant, slope = vectors
        centred = centre(rows, 0, Statistics(*moments))
        changes = along(constant, centred, 0) + centred * along(slope, centred, 0)
        return -over_last(weight, centred) * changes

    @partial(jax.checkpoint, prevent_cse=False)
    def through_parameters(rows: jax.Array, *vectors: jax.Array) -> jax.Array:
        *moments, inverse, d_weight, d_bias = vectors
        standardized = centre(rows, 0, Statistics(*moments)) * along(inverse, rows, 0)
        return standardized * over_last(d_weight, rows) + over_last(d_bias, rows)

    d_output = scaled * over_last(weight, scaled)
    d_output += out_of_line(through_statistics)(rows, *statistics, weight, constant, slope)
    d_output += out_of_line(through_parameters)(rows, *statistics, inverse, d_weight, d_bias)
    return d_output.astype(rows.dtype)
