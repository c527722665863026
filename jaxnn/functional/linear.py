"""The linear map, and the bilinear one."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Num

from .._checks import check_array, check_floating, check_same_dtype
from .._dtypes import accumulation_dtype


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

    Dtypes: any floating point or complex, the same for all. Half precision is computed in float32
    and rounded once.

    Raises:
        TypeError: if the dtypes differ, or are neither floating-point nor complex.
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
    check_floating(input1, "input1", "bilinear", complex_too=True)
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


def grouped_mm(
    mat_a: Float[Array, "..."],
    mat_b: Float[Array, "..."],
    *,
    offs: Int[Array, "G"] | None = None,
    bias: None = None,
    out_dtype: DTypeLike | None = None,
) -> Float[Array, "..."]:
    """Multiply groups of rows, of columns or of summands, each by a matrix of its own.

    Group g is what lies from offs[g-1] (0 for the first) to offs[g]:

    - mat_a (M, K), mat_b (G, K, N): y[m] = mat_a[m] mat_b[g], with m in group g; y is (M, N);
    - mat_a (G, M, K), mat_b (K, N): y[:, n] = mat_a[g] mat_b[:, n], with n in group g; (M, N);
    - mat_a (M, K), mat_b (K, N): y[g] = the sum of mat_a[:, k] mat_b[k] over k in group g;
      (G, M, N);
    - mat_a (G, M, K), mat_b (G, K, N): y[g] = mat_a[g] mat_b[g], without offs; (G, M, N).

    Dtypes: float32, bfloat16 or float16, the same for both; half precision is accumulated in
    float32 and rounded once. The first form, JAX's ragged product, has no second derivative.

    Args:
        mat_a: the left matrices.
        mat_b: the right matrices.
        offs: where each group ends, int32, ascending, the last at the end of what is parted.
        bias: not supported, as in torch.
        out_dtype: the dtype of mat_a, or None.

    Raises:
        TypeError: if the dtypes do not fit.
        ValueError: if the shapes do not fit, offs is missing or superfluous, or bias is given.

    Source: torch.nn.functional.grouped_mm.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> rows, experts = jnp.ones((3, 1)), jnp.array([[[2.0]], [[5.0]]])
        >>> jaxnn.functional.grouped_mm(rows, experts, offs=jnp.array([1, 3], "int32"))[:, 0]
        Array([2., 5., 5.], dtype=float32)
    """
    layer = "grouped_mm"
    mat_a, mat_b = check_array(mat_a, "mat_a", layer), check_array(mat_b, "mat_b", layer)
    check_same_dtype({"mat_a": mat_a, "mat_b": mat_b}, layer)
    if mat_a.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16):
        raise TypeError(
            f"{layer}: `mat_a` must be float32, bfloat16 or float16, got {mat_a.dtype}; convert it "
            "with astype"
        )
    if out_dtype is not None and jnp.dtype(out_dtype) != mat_a.dtype:
        raise ValueError(f"{layer}: `out_dtype` must be that of `mat_a`, got {out_dtype}")
    if bias is not None:
        raise ValueError(f"{layer}: `bias` is not supported; add it to the result")
    shapes = f"got {mat_a.shape} and {mat_b.shape}"
    if mat_a.ndim not in (2, 3) or mat_b.ndim not in (2, 3):
        raise ValueError(f"{layer}: `mat_a` and `mat_b` must have 2 or 3 dimensions, {shapes}")
    if mat_a.shape[-1] != mat_b.shape[-2]:
        raise ValueError(f"{layer}: the last dimension of `mat_a` must be mat_b's K, {shapes}")
    whole = mat_a.ndim == mat_b.ndim == 3
    if whole != (offs is None):
        raise ValueError(
            f"{layer}: `offs` goes with a matrix of two dimensions, and with no other, {shapes}"
        )
    ends = None
    if offs is not None:
        ends = check_array(offs, "offs", layer)
        if ends.dtype != jnp.int32 or ends.ndim != 1:
            raise TypeError(f"{layer}: `offs` must be a vector of int32, got {ends.dtype}")
    groups = [array.shape[0] for array in (mat_a, mat_b) if array.ndim == 3]
    groups += [] if ends is None else [ends.shape[0]]
    if len(set(groups)) > 1:
        raise ValueError(f"{layer}: the numbers of groups must be equal, got {groups}; {shapes}")
    return _grouped_mm(mat_a, mat_b, ends)


@partial(jax.jit, inline=True)
def _grouped_mm(mat_a: jax.Array, mat_b: jax.Array, ends: jax.Array | None) -> jax.Array:
    product = partial(jnp.matmul, preferred_element_type=accumulation_dtype(mat_a.dtype))
    if ends is None:
        return product(mat_a, mat_b).astype(mat_a.dtype)
    if mat_a.ndim == 2 and mat_b.ndim == 3:
        sizes = jnp.diff(ends, prepend=jnp.zeros((1,), ends.dtype))
        wide = accumulation_dtype(mat_a.dtype)
        rows = lax.ragged_dot(mat_a, mat_b, sizes, preferred_element_type=wide)
        return rows.astype(mat_a.dtype)
    if mat_a.ndim == 3:
        columns = _members(ends, mat_b.shape[1])[:, None, :]
        whole = product(mat_a, mat_b[None])
        return jnp.where(columns, whole, jnp.zeros_like(whole)).sum(0).astype(mat_a.dtype)
    summands = _members(ends, mat_a.shape[1])[:, None, :]
    left = jnp.where(summands, mat_a[None], jnp.zeros_like(mat_a)[None])
    return product(left, mat_b[None]).astype(mat_a.dtype)


def _members(ends: jax.Array, length: int) -> jax.Array:
    """Return which of `length` places lie in which group, as (G, length)."""
    place = jnp.arange(length, dtype=ends.dtype)[None]
    starts = jnp.concatenate([jnp.zeros((1,), ends.dtype), ends[:-1]])
    return (starts[:, None] <= place) & (place < ends[:, None])
