"""The scaled dot product: the public function, its checks, and the choice of a formulation."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._checks import check_array, check_floating, check_same_dtype
from ..._dtypes import accumulation_dtype
from ..._types import Mask
from ..._xla import by_platform, is_sharded
from ..dropout import Probability, check_probability
from .cpu import in_chunks
from .definition import attend, with_rank


def scaled_dot_product_attention(
    query: Float[Array, "*batch L E"],
    key: Float[Array, "*batch S E"],
    value: Float[Array, "*batch S Ev"],
    attn_mask: Mask | None = None,
    dropout_p: Probability = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    rng: jax.Array | None = None,
    implementation: str | None = None,
) -> Float[Array, "*batch L Ev"]:
    """Average the values, with weights that say how well their keys match a query.

    y = dropout(softmax(query key^T * scale + mask)) value

    A query whose keys are all masked gives zeros.

    Shapes: query (*batch, L, E), key (*batch, S, E), value (*batch, S, Ev), where the leading
    dimensions are broadcast; attn_mask is broadcast to (*batch, L, S); the output is
    (*batch, L, Ev).

    Dtypes: any floating point, the same for all; attn_mask is boolean, float32 or of that dtype.
    Half-precision scores and sums are float32.

    Args:
        query: what is looked for.
        key: what it is compared with.
        value: what is averaged.
        attn_mask: True where a key takes part, or what is added to the scores.
        dropout_p: the probability that a weight is dropped, also in evaluation: it is the caller
            who passes 0 there.
        is_causal: whether query i sees only the keys 0 to i; then there is no attn_mask.
        scale: the factor of the scores, by default 1 / sqrt(E).
        enable_gqa: whether the heads, dimension -3, of key and value may be fewer than those of
            query, each one serving several.
        rng: the key of dropout.
        implementation: None, or "cudnn" for the kernel that NVIDIA's GPUs have for four dimensions
            in half precision, without dropout.

    Raises:
        ValueError: if the shapes do not fit, is_causal is given with a mask, dropout_p is no
            probability or needs `rng`, or `implementation` is unknown.
        TypeError: if the dtypes differ or are not floating-point, or the mask has another than
            those above.

    Source: Vaswani et al., 2017; torch.nn.functional.scaled_dot_product_attention.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])
        >>> jaxnn.functional.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.0)
        Array([[1. , 0. ],
               [0.5, 0.5]], dtype=float32)
    """
    layer = "scaled_dot_product_attention"
    query = check_array(query, "query", layer)
    key = check_array(key, "key", layer)
    value = check_array(value, "value", layer)
    mask = None if attn_mask is None else check_array(attn_mask, "attn_mask", layer)
    check_same_dtype({"query": query, "key": key, "value": value}, layer)
    check_floating(query, "query", layer)
    check_probability(dropout_p, layer)
    if mask is not None and is_causal:
        raise ValueError(
            f"{layer}: `attn_mask` and is_causal=True exclude each other; put the causal part into "
            "the mask with jnp.tril"
        )
    shape = _check_shapes(query, key, value, enable_gqa, layer)
    if mask is not None:
        _check_mask(mask, shape, query, layer)
    if scale is None:
        scale = default_scale(query)
    if implementation is not None:
        return _by_vendor(query, key, value, mask, is_causal, scale, dropout_p, implementation)
    rng = key_of_dropout(dropout_p, rng, layer)
    factor = jnp.asarray(scale, accumulation_dtype(query.dtype))
    return attend_by_platform(
        query, key, value, mask, factor, is_causal, enable_gqa, dropout_p, rng
    )


@partial(jax.jit, static_argnames=("is_causal", "enable_gqa"), inline=True)
def attend_by_platform(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    scale: jax.Array,
    is_causal: bool,
    enable_gqa: bool,
    p: Any,
    rng: jax.Array | None,
) -> jax.Array:
    """Attend by the formula; on a CPU in chunks, if all lengths are known and on one device."""
    lengths, heads = (query.shape[-2], key.shape[-2]), query.shape[-3:-2]
    if enable_gqa:
        query, key, value, mask = _grouped(query, key, value, mask)
    rank = max(array.ndim for array in (query, key, value))
    query, key, value = (with_rank(array, rank) for array in (query, key, value))
    if mask is not None:
        mask = with_rank(mask, rank)
    whole = partial(attend, is_causal=is_causal)
    are_known = all(isinstance(length, int) for length in lengths)
    in_parts = any(is_sharded(a) for a in (query, key, value, mask) if a is not None)
    if rng is not None or not are_known or in_parts:
        output = whole(query, key, value, mask, scale, p=p, rng=rng)
    else:
        formulation = by_platform(cpu=partial(in_chunks, is_causal=is_causal), default=whole)
        output = formulation(query, key, value, mask, scale)
    if enable_gqa:
        output = output.reshape((*output.shape[:-4], *heads, *output.shape[-2:]))
    return output


def _grouped(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Split dimension -3 into groups of heads that share a key, so that no key is repeated."""
    heads, groups = query.shape[-3], key.shape[-3]
    if value.shape[-3] != groups:
        key, value = (jnp.repeat(array, heads // array.shape[-3], -3) for array in (key, value))
        groups = heads

    def split(array: jax.Array) -> jax.Array:
        *batch, count, rows, columns = array.shape
        outer = min(count, groups)
        return array.reshape((*batch, outer, count // max(outer, 1), rows, columns))

    if mask is not None and mask.ndim > 2:
        mask = split(mask)
    return split(query), split(key), split(value), mask


def _by_vendor(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    is_causal: bool,
    scale: float,
    p: Any,
    implementation: str,
) -> jax.Array:
    layer = "scaled_dot_product_attention"
    if implementation != "cudnn":
        raise ValueError(f"{layer}: `implementation` must be None or 'cudnn', got {implementation}")
    if query.ndim != 4 or isinstance(p, jax.core.Tracer) or p != 0:
        raise ValueError(
            f"{layer}: implementation='cudnn' takes four dimensions and no dropout, got shape "
            f"{query.shape} and dropout_p={p}"
        )
    is_bool = mask is not None and mask.dtype == jnp.bool_
    output = jax.nn.dot_product_attention(
        query.swapaxes(1, 2),
        key.swapaxes(1, 2),
        value.swapaxes(1, 2),
        bias=None if is_bool or mask is None else mask.astype(query.dtype),
        mask=mask if is_bool else None,
        is_causal=is_causal,
        scale=scale,
        implementation="cudnn",
    )
    return output.swapaxes(1, 2)


def default_scale(query: jax.Array) -> float:
    """Return 1 / sqrt(E), with which scores of features of variance 1 have variance 1."""
    # Without features every score is 0, whatever its scale.
    return 1 / math.sqrt(max(query.shape[-1], 1))


def key_of_dropout(p: Any, rng: jax.Array | None, layer: str) -> jax.Array | None:
    """Return the key where something is drawn, else None."""
    if not isinstance(p, jax.core.Tracer) and p == 0:
        return None
    if rng is None:
        raise ValueError(f"{layer}: `rng` is needed to draw: pass rng=jax.random.key(0)")
    return rng


def _check_shapes(
    query: jax.Array, key: jax.Array, value: jax.Array, enable_gqa: bool, layer: str
) -> tuple[Any, ...]:
    """Return the shape of the scores, refusing arrays that do not fit one another."""
    shapes = f"got {query.shape}, {key.shape} and {value.shape}"
    if min(query.ndim, key.ndim, value.ndim) < (3 if enable_gqa else 2):
        with_heads = "heads, " if enable_gqa else ""
        raise ValueError(
            f"{layer}: `query`, `key` and `value` must have the dimensions (*batch, {with_heads}"
            f"length, features), {shapes}"
        )
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ValueError(
            f"{layer}: `query` and `key` must have equally many features, and `key` and `value` "
            f"must be equally long, {shapes}"
        )
    batches = [array.shape[:-2] for array in (query, key, value)]
    if enable_gqa:
        count, *shared = (batch[-1] for batch in batches)
        if any(other == 0 or count % other for other in shared):
            raise ValueError(
                f"{layer}: the heads of `key` and `value`, dimension -3, must divide those of "
                f"`query`, {shapes}"
            )
        batches = [(*batch[:-1], count) for batch in batches]
    try:
        jnp.broadcast_shapes(*batches)
        leading = jnp.broadcast_shapes(*batches[:2])
    except ValueError:
        raise ValueError(
            f"{layer}: the leading dimensions of `query`, `key` and `value` must broadcast, "
            f"{shapes}" + ("" if enable_gqa else "; enable_gqa=True repeats heads")
        ) from None
    return (*leading, query.shape[-2], key.shape[-2])


def _check_mask(mask: jax.Array, shape: tuple[Any, ...], query: jax.Array, layer: str) -> None:
    if mask.dtype not in (jnp.bool_, jnp.float32, query.dtype):
        raise TypeError(
            f"{layer}: `attn_mask` must be boolean, float32 or {query.dtype}, got {mask.dtype}"
        )
    sizes = shape[max(len(shape) - mask.ndim, 0) :]
    fits = all(m in (1, n) for m, n in zip(mask.shape, sizes, strict=False))
    if mask.ndim > len(shape) or not fits:
        raise ValueError(
            f"{layer}: `attn_mask` must broadcast to the scores, of shape {shape}, got {mask.shape}"
        )
