"""Activations."""

from __future__ import annotations

import warnings
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Real

from .._checks import accumulation_dtype, check_array, check_dim, check_floating, check_same_dtype


def relu(input: Real[Array, "..."], inplace: bool = False) -> Real[Array, "..."]:
    """Replace what is negative by zero.

    relu(x) = max(0, x), with relu(-0.0) = -0.0; its derivative is 1 above zero, 0 elsewhere, and 1
    at NaN.

    Shapes: any, kept. Dtypes: any real numbers but bool.

    Args:
        input: the array.
        inplace: accepted, without effect.

    Raises:
        TypeError: if the input is bool or complex.

    Source: torch.nn.functional.relu.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.relu(jnp.array([-1.0, 2.0]))
        Array([0., 2.], dtype=float32)
    """
    input = check_array(input, "input", "relu")
    if input.dtype == jnp.bool_ or jnp.issubdtype(input.dtype, jnp.complexfloating):
        raise TypeError(f"relu: `input` must be real numbers, got {input.dtype}")
    return _relu(input)


@jax.custom_jvp
def _rectify(input: jax.Array) -> jax.Array:
    return jnp.where(input < 0, jnp.zeros_like(input), input)


@_rectify.defjvp
def _rectify_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    output = _rectify(*primals)
    return output, jnp.where(output <= 0, jnp.zeros_like(output), tangents[0])


_relu = jax.jit(_rectify, inline=True)


def prelu(
    input: Float[Array, "N C *spatial"], weight: Float[Array, "#C"]
) -> Float[Array, "N C *spatial"]:
    """Scale what is negative by a learnt slope: one for all, or one a channel.

    prelu(x) = x where x > 0, else weight * x

    Shapes: input of any shape, whose second dimension is that of the channels; an input of one
    dimension has a single channel. weight (C), (1) or ().

    Raises:
        TypeError: if the dtypes differ, or are no floating-point dtype.
        ValueError: if the weight has neither one element nor one a channel.

    Source: torch.nn.functional.prelu.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.prelu(jnp.array([[-1.0, -1.0]]), jnp.array([0.5, 0.25]))
        Array([[-0.5 , -0.25]], dtype=float32)
    """
    input = check_array(input, "input", "prelu")
    weight = check_array(weight, "weight", "prelu")
    check_same_dtype({"input": input, "weight": weight}, "prelu")
    check_floating(input, "input", "prelu")
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.ndim > 1 or weight.size not in (1, channels):
        raise ValueError(
            f"prelu: `weight` must hold one slope, or one for each of the {channels} channels of "
            f"an input of shape {input.shape}, got shape {weight.shape}"
        )
    return _prelu(input, weight)


@partial(jax.jit, inline=True)
def _prelu(input: jax.Array, weight: jax.Array) -> jax.Array:
    aligned = (1, -1, *[1] * (input.ndim - 2)) if weight.size != 1 else (1,) * input.ndim
    # In half precision the slope's gradient sums products: they are made and added in float32.
    wide = accumulation_dtype(input.dtype)
    x, slope = input.astype(wide), weight.astype(wide)
    slope = jnp.broadcast_to(slope.reshape(aligned), x.shape)
    positive = x > 0
    # Without the inner selection the slope's gradient would be 0 * inf = NaN at an infinite input.
    negative = jnp.where(positive, jnp.zeros_like(x), x)
    return jnp.where(positive, x, slope * negative).astype(input.dtype)


def softmax(
    input: Float[Array, "..."],
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: DTypeLike | None = None,
) -> Float[Array, "..."]:
    """Scale exponentials along a dimension so that they sum to one.

    softmax(x)_i = exp(x_i) / sum_j exp(x_j)

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.
        dim: the dimension. None is deprecated, as in torch, and means dimension 0 for inputs of no,
            one or three dimensions, else dimension 1.
        dtype: what the input is converted to first.

    Raises:
        TypeError: if the input (as converted) is of no floating-point dtype.
        ValueError: if the input has no such dimension.

    Source: torch.nn.functional.softmax.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.softmax(jnp.zeros((1, 4)), dim=1)
        Array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """
    input = check_array(input, "input", "softmax")
    if dtype is not None:
        input = input.astype(dtype)
    check_floating(input, "input", "softmax")
    if dim is None:
        warnings.warn(
            "softmax: `dim` chosen by the number of dimensions, which is deprecated: pass dim=",
            stacklevel=_stacklevel,
        )
        dim = 0 if input.ndim in (0, 1, 3) else 1
    axis = check_dim(dim, input.ndim, "dim", "softmax")
    return _softmax(input, axis) if input.ndim else jnp.exp(input - input)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _normalised_exponentials(input: jax.Array, axis: int) -> jax.Array:
    wide = input.astype(accumulation_dtype(input.dtype))
    exponentials = jnp.exp(wide - wide.max(axis, keepdims=True, initial=-jnp.inf))
    return (exponentials / exponentials.sum(axis, keepdims=True)).astype(input.dtype)


@_normalised_exponentials.defjvp
def _normalised_exponentials_jvp(
    axis: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # In terms of the output, which is then all that the backward pass keeps.
    output = _normalised_exponentials(*primals, axis)
    wide = output.astype(accumulation_dtype(output.dtype))
    product = wide * tangents[0].astype(wide.dtype)
    d_output = product - wide * product.sum(axis, keepdims=True)
    return output, d_output.astype(output.dtype)


_softmax = jax.jit(_normalised_exponentials, static_argnums=1, inline=True)
