"""The linear map, and the bilinear one."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Num

from .._checks import accumulation_dtype, check_array, check_floating, check_same_dtype


def linear(
    input: Num[Array, "*batch in_features"],
    weight: Num[Array, "*out_features in_features"],
    bias: Num[Array, "..."] | None = None,
) -> Num[Array, "*batch *out_features"]:
    """Apply a linear map to the last dimension.

    y = x W^T + b

    Shapes: input (*batch, in_features), weight (out_features, in_features), bias (out_features)
    or what broadcasts to the output; the output is (*batch, out_features). With a weight of shape
    (in_features) the output is (*batch), and there is no bias.

    Dtypes: any number but bool, the same for all. Half precision is accumulated in float32 and
    rounded once.

    Raises:
        TypeError: if the dtypes differ, or are bool.
        ValueError: if the shapes do not fit.

    Source: torch.nn.functional.linear.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.linear(jnp.ones((1, 2)), jnp.ones((3, 2)), jnp.array([0.0, 1.0, 2.0]))
        Array([[2., 3., 4.]], dtype=float32)
    """
    input = check_array(input, "input", "linear")
    weight = check_array(weight, "weight", "linear")
    bias = None if bias is None else check_array(bias, "bias", "linear")
    check_same_dtype({"input": input, "weight": weight, "bias": bias}, "linear")
    if input.dtype == jnp.bool_:
        raise TypeError("linear: `input` must be numbers, got bool; convert it with astype")
    if input.ndim == 0:
        raise ValueError("linear: `input` must have at least one dimension, got none")
    if weight.ndim not in (1, 2):
        raise ValueError(
            "linear: `weight` must have shape (out_features, in_features) or (in_features), got "
            f"{weight.shape}"
        )
    if input.shape[-1] != weight.shape[-1]:
        raise ValueError(
            f"linear: the last dimension of `input` must be in_features={weight.shape[-1]}, got "
            f"input of shape {input.shape}"
        )
    if bias is not None:
        _check_bias(bias, input, weight)
    return _linear(input, weight, bias)


def _check_bias(bias: jax.Array, input: jax.Array, weight: jax.Array) -> None:
    if weight.ndim == 1:
        raise ValueError("linear: a `weight` of one dimension takes no `bias`")
    shape = (*input.shape[:-1], weight.shape[0])
    fits = bias.ndim <= len(shape) and all(
        size in (1, wanted) for size, wanted in zip(bias.shape[::-1], shape[::-1], strict=False)
    )
    if not fits:
        raise ValueError(
            f"linear: `bias` must have shape ({weight.shape[0]},) or broadcast to the output's "
            f"shape {shape}, got {bias.shape}"
        )


@partial(jax.jit, inline=True)
def _linear(input: jax.Array, weight: jax.Array, bias: jax.Array | None) -> jax.Array:
    if bias is None:
        return _contract(input, weight)
    if input.dtype in (jnp.bfloat16, jnp.float16):
        return _half_precision_affine(input, weight, bias)
    product = _contract(input, weight)
    return product + jnp.broadcast_to(bias, product.shape)


def _contract(input: jax.Array, weight: jax.Array, dtype: jnp.dtype | None = None) -> jax.Array:
    last = ((input.ndim - 1,), (weight.ndim - 1,))
    return lax.dot_general(input, weight, (last, ((), ())), preferred_element_type=dtype)


@jax.custom_jvp
def _half_precision_affine(input: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    """The affine map in float32, rounded once at the end, as torch's fused kernels do."""
    product = _contract(input, weight, jnp.dtype(jnp.float32))
    return (product + _wide(bias, product.shape)).astype(input.dtype)


@_half_precision_affine.defjvp
def _half_precision_affine_jvp(
    primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    # The derivative multiplies in half precision, which the hardware has units for; the gradient
    # of the bias is a long sum, and so is taken in float32.
    input, weight, _ = primals
    d_input, d_weight, d_bias = tangents
    d_product = _contract(d_input, weight) + _contract(input, d_weight)
    d_output = d_product.astype(jnp.float32) + _wide(d_bias, d_product.shape)
    return _half_precision_affine(*primals), d_output.astype(input.dtype)


def _wide(bias: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.broadcast_to(bias.astype(jnp.float32), shape)


def bilinear(
    input1: Float[Array, "*batch in1_features"],
    input2: Float[Array, "*batch in2_features"],
    weight: Float[Array, "out_features in1_features in2_features"],
    bias: Float[Array, "out_features"] | None = None,
) -> Float[Array, "*batch out_features"]:
    """Apply a bilinear form to the last dimensions of two arrays.

    y_o = sum_ij x1_i W_oij x2_j + b_o

    Shapes: input1 (*batch, in1_features), input2 (*batch, in2_features), weight (out_features,
    in1_features, in2_features), bias (out_features); the output is (*batch, out_features).

    Dtypes: any floating point, the same for all. Half precision is computed in float32 and rounded
    once.

    Raises:
        TypeError: if the dtypes differ, or are no floating point.
        ValueError: if the shapes do not fit.

    Source: torch.nn.functional.bilinear.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.bilinear(jnp.ones(2), jnp.ones(3), jnp.ones((1, 2, 3)))
        Array([6.], dtype=float32)
    """
    input1 = check_array(input1, "input1", "bilinear")
    input2 = check_array(input2, "input2", "bilinear")
    weight = check_array(weight, "weight", "bilinear")
    bias = None if bias is None else check_array(bias, "bias", "bilinear")
    given = {"input1": input1, "input2": input2, "weight": weight, "bias": bias}
    check_same_dtype(given, "bilinear")
    check_floating(input1, "input1", "bilinear")
    if weight.ndim != 3:
        raise ValueError(
            "bilinear: `weight` must have shape (out_features, in1_features, in2_features), got "
            f"{weight.shape}"
        )
    out_features, in1_features, in2_features = weight.shape
    sizes = input1.shape[-1:], input2.shape[-1:]
    same_batch = input1.shape[:-1] == input2.shape[:-1]
    if sizes != ((in1_features,), (in2_features,)) or not same_batch:
        raise ValueError(
            f"bilinear: `input1` and `input2` must have shapes (*batch, {in1_features}) and "
            f"(*batch, {in2_features}), got {input1.shape} and {input2.shape}"
        )
    if bias is not None and bias.shape != (out_features,):
        raise ValueError(f"bilinear: `bias` must have shape ({out_features},), got {bias.shape}")
    return _bilinear(input1, input2, weight, bias)


@partial(jax.jit, inline=True)
def _bilinear(
    input1: jax.Array, input2: jax.Array, weight: jax.Array, bias: jax.Array | None
) -> jax.Array:
    wide = accumulation_dtype(input1.dtype)
    x1, x2, w = (array.astype(wide) for array in (input1, input2, weight))
    forms = jnp.einsum("...i,oij->...oj", x1, w)
    output = jnp.einsum("...oj,...j->...o", forms, x2)
    if bias is not None:
        output = output + jnp.broadcast_to(bias.astype(wide), output.shape)
    return output.astype(input1.dtype)
