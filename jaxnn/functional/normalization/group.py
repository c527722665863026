"""Group normalisation: each group of channels of a sample by its own statistics."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..._checks import check_array, check_floating, check_int
from ..._dtypes import accumulation_dtype
from ..._types import Scalar
from ._parameters import checked_parameters
from .own_statistics import standardize


def group_norm(
    input: Float[Array, "N C *spatial"],
    num_groups: int,
    weight: Float[Array, "C"] | None = None,
    bias: Float[Array, "C"] | None = None,
    eps: Scalar = 1e-5,
) -> Float[Array, "N C *spatial"]:
    """Normalise each group of channels of each sample by its own statistics.

    y = (x - mean) / sqrt(var + eps) * weight + bias,
    with the mean and the biased variance over the group's channels and all positions.

    Shapes: input (N, C, *spatial), kept; weight and bias (C). Group g holds the channels
    g * C / num_groups to (g + 1) * C / num_groups - 1.

    Dtypes: any floating point. The parameters have the input's dtype, or both float32 for an input
    in half precision, which is computed in float32.

    Raises:
        TypeError: if a dtype is none of those.
        ValueError: if a shape does not fit, the channels cannot be divided into the groups, or
            the batch has a single value a group.

    Source: Wu and He, 2018; torch.nn.functional.group_norm.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.group_norm(jnp.array([[1.0, 3.0, 0.0, 4.0]]), 2, eps=1e-12)
        Array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    input = check_array(input, "input", "group_norm")
    check_floating(input, "input", "group_norm")
    groups = check_int(num_groups, "num_groups", "group_norm", minimum=1)
    if input.ndim < 2:
        raise ValueError(
            f"group_norm: `input` must have the dimensions (N, C, ...), got shape {input.shape}"
        )
    batch, channels, *spatial = input.shape
    if channels % groups:
        raise ValueError(
            f"group_norm: the {channels} channels of `input` cannot be divided into "
            f"num_groups={groups}"
        )
    if batch * (channels // groups) * math.prod(spatial) == 1:
        raise ValueError(
            "group_norm: a group of a single value cannot be normalised, got input of shape "
            f"{input.shape} for {groups} groups; use fewer groups"
        )
    vectors = checked_parameters(input, weight, bias, (channels,), "group_norm")
    return _group_norm(input, groups, *vectors, jnp.asarray(eps, accumulation_dtype(input.dtype)))


@partial(jax.jit, static_argnums=1, inline=True)
def _group_norm(
    input: jax.Array,
    groups: int,
    weight: jax.Array | None,
    bias: jax.Array | None,
    eps: jax.Array,
) -> jax.Array:
    batch, channels, *spatial = input.shape
    size = channels // groups * math.prod(spatial)
    y = standardize(input.reshape(batch * groups, size), eps).reshape(input.shape)
    if weight is not None:
        y = y * _along_each(weight, y)
    if bias is not None:
        y = y + _along_each(bias, y)
    return y.astype(input.dtype)


def _along_each(vector: jax.Array, like: jax.Array) -> jax.Array:
    """The vector along dimension 1, one for each sample first.

    Behind the barrier, the gradient is a sum for each sample and then one over the samples; XLA
    would make a single running sum of them, whose rounding grows with its length.
    """
    each = lax.broadcast_in_dim(vector.astype(like.dtype), like.shape[:2], (1,))
    return lax.broadcast_in_dim(lax.optimization_barrier(each), like.shape, (0, 1))
