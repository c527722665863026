"""Group, layer and root mean square normalisation: each sample by statistics of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..._checks import check_array, check_floating, check_int, check_parameters
from ..._dtypes import accumulation_dtype
from ..._thresholds import thresholds
from ..._types import Scalar
from ..._xla import is_sharded
from .cpu import normalize_many_rows
from .definition import over_last
from .own_statistics import normalize_rows, standardize


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
    vectors = _checked_parameters(input, weight, bias, (channels,), "group_norm")
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


def layer_norm(
    input: Float[Array, "*batch *normalized"],
    normalized_shape: Sequence[int],
    weight: Float[Array, "*normalized"] | None = None,
    bias: Float[Array, "*normalized"] | None = None,
    eps: Scalar = 1e-5,
) -> Float[Array, "*batch *normalized"]:
    """Normalise over the last dimensions, those of `normalized_shape`.

    y = (x - mean) / sqrt(var + eps) * weight + bias,
    with the mean and the biased variance over these dimensions.

    Shapes: input (*batch, *normalized_shape), kept; weight and bias `normalized_shape`.

    Dtypes: any floating point. The parameters have the input's dtype, or both float32 for an input
    in half precision, which is computed in float32.

    Raises:
        TypeError: if a dtype is none of those, or `normalized_shape` is not a sequence of ints.
        ValueError: if a shape does not fit, or `normalized_shape` is empty.

    Source: Ba, Kiros and Hinton, 2016; torch.nn.functional.layer_norm.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.layer_norm(jnp.array([[1.0, 3.0]]), (2,), eps=1e-12)
        Array([[-1.,  1.]], dtype=float32)
    """
    input = check_array(input, "input", "layer_norm")
    shape = _check_normalized_shape(input, normalized_shape, "layer_norm")
    vectors = _checked_parameters(input, weight, bias, shape, "layer_norm")
    eps = jnp.asarray(eps, accumulation_dtype(input.dtype))
    return _layer_norm(input, len(shape), *vectors, eps)


@partial(jax.jit, static_argnums=1, inline=True)
def _layer_norm(
    input: jax.Array,
    count: int,
    weight: jax.Array | None,
    bias: jax.Array | None,
    eps: jax.Array,
) -> jax.Array:
    lead, size = input.shape[:-count], math.prod(input.shape[-count:])
    rows = input.reshape(math.prod(lead), size)
    weight, bias = (vector if vector is None else vector.reshape(size) for vector in (weight, bias))
    is_static = isinstance(rows.size, int) and not is_sharded(rows)
    are_many = is_static and rows.size >= thresholds().layer_norm_elements
    normalize = normalize_many_rows if are_many else normalize_rows
    return normalize(rows, weight, bias, eps).reshape(input.shape)


def rms_norm(
    input: Float[Array, "*batch *normalized"],
    normalized_shape: Sequence[int],
    weight: Float[Array, "*normalized"] | None = None,
    eps: Scalar | None = None,
) -> Float[Array, "*batch *normalized"]:
    """Divide by the root mean square over the last dimensions, those of `normalized_shape`.

    y = x / sqrt(mean(x^2) + eps) * weight

    Shapes: input (*batch, *normalized_shape), kept; weight `normalized_shape`.

    Dtypes: any floating point, also another for the weight; the output has the input's. Half
    precision is computed in float32.

    Args:
        input: the array.
        normalized_shape: the sizes of the last dimensions.
        weight: the scales; None for 1.
        eps: what is added to the mean square; None for the difference between 1 and the next
            number, of float64 for an input of that dtype, else of float32.

    Raises:
        TypeError: if a dtype is not floating-point, or `normalized_shape` is not a sequence of
            ints.
        ValueError: if a shape does not fit, or `normalized_shape` is empty.

    Source: Zhang and Sennrich, 2019; torch.nn.functional.rms_norm.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.rms_norm(jnp.array([[3.0, -3.0]]), (2,), eps=1e-12)
        Array([[ 1., -1.]], dtype=float32)
    """
    input = check_array(input, "input", "rms_norm")
    shape = _check_normalized_shape(input, normalized_shape, "rms_norm")
    if weight is not None:
        weight = check_array(weight, "weight", "rms_norm")
        check_floating(weight, "weight", "rms_norm")
        if weight.shape != shape:
            raise ValueError(
                f"rms_norm: `weight` must have the shape `normalized_shape` {shape}, got "
                f"{weight.shape}"
            )
    wide = accumulation_dtype(input.dtype)
    eps = jnp.asarray(jnp.finfo(wide).eps if eps is None else eps, wide)
    return _rms_norm(input, len(shape), weight, eps)


@partial(jax.jit, static_argnums=1, inline=True)
def _rms_norm(input: jax.Array, count: int, weight: jax.Array | None, eps: jax.Array) -> jax.Array:
    x = input.astype(eps.dtype)
    last = tuple(range(x.ndim - count, x.ndim))
    y = x * lax.rsqrt((x * x).mean(last, keepdims=True) + eps)
    if weight is not None:
        y = y * over_last(weight, y)
    return y.astype(input.dtype)


def _checked_parameters(
    input: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    shape: tuple[int, ...],
    layer: str,
) -> tuple[jax.Array | None, jax.Array | None]:
    """Return weight and bias as arrays, refusing what does not fit the input."""
    given = {
        name: check_array(array, name, layer)
        for name, array in {"weight": weight, "bias": bias}.items()
        if array is not None
    }
    check_parameters(input, given, shape, layer)
    return given.get("weight"), given.get("bias")


def _check_normalized_shape(
    input: jax.Array, normalized_shape: Sequence[int], layer: str
) -> tuple[int, ...]:
    check_floating(input, "input", layer)
    if not isinstance(normalized_shape, Sequence):
        raise TypeError(
            f"{layer}: `normalized_shape` must be a tuple or list of ints, got {normalized_shape!r}"
        )
    shape = tuple(check_int(size, "normalized_shape", layer) for size in normalized_shape)
    if not shape:
        raise ValueError(f"{layer}: `normalized_shape` must hold at least one size, got none")
    if input.shape[-len(shape) :] != shape:
        raise ValueError(
            f"{layer}: the last dimensions of `input` must be `normalized_shape` {shape}, got "
            f"input of shape {input.shape}"
        )
    return shape
