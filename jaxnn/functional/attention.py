"""Attention: the scaled dot product, and that of several heads with its projections."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .._checks import (
    accumulation_dtype,
    check_array,
    check_floating,
    check_int,
    check_same_dtype,
    is_sharded,
)
from .activation import softmax
from .dropout import Probability, check_probability, dropout
from .linear import linear

Mask = Bool[Array, "..."] | Float[Array, "..."]

# Scores that are made at a time on a CPU: as many as its cache holds.
_SCORES = 2**20
# Queries that are taken at a time there where they see no later keys.
_CAUSAL_ROWS = 128
_MOST_BLOCKS = 32


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
        TypeError: if the dtypes differ or are no floating point, or the mask's is no mask's.

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
        scale = _default_scale(query)
    if implementation is not None:
        return _by_vendor(query, key, value, mask, is_causal, scale, dropout_p, implementation)
    rng = _key_of_dropout(dropout_p, rng, layer)
    factor = jnp.asarray(scale, accumulation_dtype(query.dtype))
    return _attention(query, key, value, mask, factor, is_causal, enable_gqa, dropout_p, rng)


def multi_head_attention_forward(
    query: Float[Array, "L *N E"],
    key: Float[Array, "S *N K"],
    value: Float[Array, "S *N V"],
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Float[Array, "3*E E"] | None,
    in_proj_bias: Float[Array, "3*E"] | None,
    bias_k: Float[Array, "1 1 E"] | None,
    bias_v: Float[Array, "1 1 E"] | None,
    add_zero_attn: bool,
    dropout_p: Probability,
    out_proj_weight: Float[Array, "E E"],
    out_proj_bias: Float[Array, "E"] | None,
    training: bool = True,
    key_padding_mask: Mask | None = None,
    need_weights: bool = True,
    attn_mask: Mask | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Float[Array, "E E"] | None = None,
    k_proj_weight: Float[Array, "E K"] | None = None,
    v_proj_weight: Float[Array, "E V"] | None = None,
    static_k: Float[Array, "N*H S D"] | None = None,
    static_v: Float[Array, "N*H S D"] | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    *,
    rng: jax.Array | None = None,
    batch_first: bool = False,
) -> tuple[Float[Array, "L *N E"], Float[Array, "..."] | None]:
    """Project queries, keys and values for several heads, attend in each, and project the result.

    y = W_o [head_1, ..., head_H] + b_o, head_h = attention(q_h, k_h, v_h), where q_h, k_h and v_h
    are the parts of W_q query + b_q, W_k key + b_k and W_v value + b_v, of E / H features each.

    A query whose keys are all masked gives b_o without `need_weights`, and NaN with it.

    Shapes: query (L, N, E) or (L, E), key (S, N, K) or (S, K), value (S, N, V) or (S, V), with
    `batch_first` (N, L, E) and so on; key_padding_mask (N, S) or (S); attn_mask (L, S) or
    (N*H, L, S); the output is as query, the weights are (N, L, S) or (N, H, L, S), or without N.

    Dtypes: any floating point, the same for all; masks are boolean or of that dtype.

    Args:
        query: what is looked for.
        key: what it is compared with.
        value: what is averaged.
        embed_dim_to_check: E, which query must have.
        num_heads: H, which divides E.
        in_proj_weight: W_q, W_k and W_v, one below the other.
        in_proj_bias: b_q, b_k and b_v, one after the other.
        bias_k: a key that is added to those of every batch element; goes with bias_v.
        bias_v: its value.
        add_zero_attn: whether a key of zeros, whose value is zeros, is added too.
        dropout_p: the probability that a weight is dropped in training.
        out_proj_weight: W_o.
        out_proj_bias: b_o.
        training: whether weights are dropped.
        key_padding_mask: True where a key takes no part, or what is added to its scores.
        need_weights: whether the weights are returned, after dropout.
        attn_mask: True where a query does not see a key, or what is added to the score.
        use_separate_proj_weight: whether W_q, W_k and W_v are the next three.
        q_proj_weight: W_q.
        k_proj_weight: W_k.
        v_proj_weight: W_v.
        static_k: keys of the heads that take the place of the projected ones.
        static_v: values that do.
        average_attn_weights: whether the mean of the heads' weights is returned.
        is_causal: a promise that attn_mask is the causal mask, which must be there. Without
            `need_weights` and key_padding_mask, the mask is then not looked at.
        rng: the key of dropout.
        batch_first: whether the batch is the first dimension; not in torch's function.

    Raises:
        ValueError: if shapes or options do not fit, or `rng` is needed and absent.
        TypeError: if the dtypes differ, or a mask's is no mask's.

    Source: Vaswani et al., 2017; torch.nn.functional.multi_head_attention_forward.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x, eye = jnp.eye(2), jnp.eye(2)
        >>> output, weights = jaxnn.functional.multi_head_attention_forward(
        ...     x, x, x, 2, 1, jnp.tile(eye, (3, 1)), None, None, None, False, 0.0, eye, None
        ... )
        >>> weights
        Array([[0.66976154, 0.33023846],
               [0.33023846, 0.66976154]], dtype=float32)
    """
    layer = "multi_head_attention_forward"
    # Attention to oneself projects once; whether arrays are the same is not seen inside of jit.
    distinct = 3 if key is not value else 1 if query is key else 2
    query = check_array(query, "query", layer)
    key = check_array(key, "key", layer)
    value = check_array(value, "value", layer)
    masks = {"key_padding_mask": key_padding_mask, "attn_mask": attn_mask}
    padding, mask = (
        None if array is None else check_array(array, name, layer) for name, array in masks.items()
    )
    heads = check_int(num_heads, "num_heads", layer, minimum=1)
    sizes = _head_sizes(query, key, value, embed_dim_to_check, heads, batch_first, layer)
    _check_head_masks(padding, mask, query, sizes, layer)
    if is_causal and mask is None:
        raise ValueError(
            f"{layer}: is_causal=True is a promise about `attn_mask`, which must be given too; "
            "make it with jaxnn.Transformer.generate_square_subsequent_mask"
        )
    # The hint counts only where nothing else needs the mask.
    is_causal = is_causal and padding is None and not need_weights
    mask = None if is_causal else mask
    if use_separate_proj_weight:
        weights = {"q": q_proj_weight, "k": k_proj_weight, "v": v_proj_weight}
        names = [f"{name}_proj_weight" for name, weight in weights.items() if weight is None]
    else:
        weights = {"in": in_proj_weight}
        names = [] if in_proj_weight is not None else ["in_proj_weight"]
        if key.shape != value.shape:
            raise ValueError(
                f"{layer}: `key` and `value` must have the same shape, got {key.shape} and "
                f"{value.shape}; for others pass use_separate_proj_weight=True"
            )
    if names:
        raise ValueError(f"{layer}: `{names[0]}` is needed, got None")
    _check_extra_keys(bias_k, bias_v, static_k, static_v, sizes, layer)
    p = dropout_p if training else 0.0
    check_probability(p, layer)
    options = _Options(
        sizes.H, batch_first, distinct, add_zero_attn, need_weights, average_attn_weights, is_causal
    )
    return _multi_head_attention(
        options,
        (query, key, value),
        (tuple(weights.values()), in_proj_bias, out_proj_weight, out_proj_bias),
        (bias_k, bias_v, static_k, static_v),
        (padding, mask),
        p,
        _key_of_dropout(p, rng, layer),
    )


def _default_scale(query: jax.Array) -> float:
    # Without features every score is 0, whatever its scale.
    return 1 / math.sqrt(max(query.shape[-1], 1))


def _key_of_dropout(p: Any, rng: jax.Array | None, layer: str) -> jax.Array | None:
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


@partial(jax.jit, static_argnames=("is_causal", "enable_gqa"), inline=True)
def _attention(
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
    lengths, heads = (query.shape[-2], key.shape[-2]), query.shape[-3:-2]
    if enable_gqa:
        query, key, value, mask = _grouped(query, key, value, mask)
    rank = max(array.ndim for array in (query, key, value))
    query, key, value = (_with_rank(array, rank) for array in (query, key, value))
    if mask is not None:
        mask = _with_rank(mask, rank)
    whole = partial(_attend, is_causal=is_causal)
    are_known = all(isinstance(length, int) for length in lengths)
    in_parts = any(is_sharded(a) for a in (query, key, value, mask) if a is not None)
    if rng is not None or not are_known or in_parts:
        output = whole(query, key, value, mask, scale, p=p, rng=rng)
    else:
        output = lax.platform_dependent(
            query,
            key,
            value,
            mask,
            scale,
            cpu=partial(_in_chunks, is_causal=is_causal),
            default=whole,
        )
    if enable_gqa:
        output = output.reshape((*output.shape[:-4], *heads, *output.shape[-2:]))
    return output


def _with_rank(array: jax.Array, rank: int) -> jax.Array:
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


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


def _in_chunks(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    scale: jax.Array,
    *,
    is_causal: bool,
) -> jax.Array:
    """Attend in some heads at a time, whose scores stay in the cache and are not kept."""
    batch = jnp.broadcast_shapes(*(array.shape[:-2] for array in (query, key, value)))
    count = math.prod(batch)
    # Two at least: XLA multiplies the transposes of a single matrix half as fast.
    most = max(_SCORES // max(query.shape[-2] * key.shape[-2], 1), 2)
    heads = _divisor(count, most)
    if isinstance(count, int) and 8 * heads < min(count, most):
        # So few of many divide their number that the loop would cost more than the cache gains.
        heads = count

    def chunks(array: jax.Array) -> jax.Array:
        matrix = array.shape[-2:]
        return jnp.broadcast_to(array, (*batch, *matrix)).reshape((count // heads, heads, *matrix))

    def attend(chunk: tuple[jax.Array, ...]) -> jax.Array:
        q, k, v, *own = (array.astype(scale.dtype) for array in chunk)
        # The scale is multiplied with the queries, which are fewer than the scores.
        return _in_rows(q * scale, k, v, own[0] if own else shared, is_causal)

    shared, arrays = None, [query, key, value]
    if mask is not None:
        mask = _bias_of(mask, scale.dtype)
        if math.prod(mask.shape[:-2]) == 1:
            shared = mask.reshape((1, *mask.shape[-2:]))
        else:
            arrays.append(mask)
    split = tuple(map(chunks, arrays))
    if count == heads:
        output = attend(tuple(array[0] for array in split))
    else:
        output = lax.map(attend, split)
    return output.reshape((*batch, *output.shape[-2:])).astype(value.dtype)


def _divisor(number: Any, limit: int) -> int:
    """Return the largest divisor up to the limit, or 1 where the number is symbolic."""
    if not isinstance(number, int):
        return 1
    return next((n for n in range(min(number, limit), 1, -1) if number % n == 0), 1)


def _in_rows(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None, is_causal: bool
) -> jax.Array:
    """Attend with some rows of queries at a time, and only the keys that they may see."""
    heads, length, keys = *query.shape[:2], key.shape[1]
    wanted = _CAUSAL_ROWS if is_causal else _SCORES // max(heads * keys, 1)
    size = max(wanted, -(-length // _MOST_BLOCKS), 1)
    outputs = []
    for start in range(0, max(length, 1), size):
        rows, seen = slice(start, start + size), slice(start + size) if is_causal else slice(None)
        q, k, v = query[:, rows], key[:, seen], value[:, seen]
        own = bias
        if is_causal:
            own = jnp.where(_causal((q.shape[1], k.shape[1]), start), 0.0, -jnp.inf)
            own = own.astype(q.dtype)[None]
        elif bias is not None and bias.shape[1] != 1:
            own = bias[:, rows]
        outputs.append(_attend_at_once(q, k, v, own))
    return jnp.concatenate(outputs, 1) if len(outputs) > 1 else outputs[0]


def _causal(shape: tuple[Any, ...], first_row: int = 0) -> jax.Array:
    """Whether a query, by its row, sees a key."""
    rows, columns = (lax.broadcasted_iota(jnp.int32, shape, axis) for axis in (0, 1))
    return rows + first_row >= columns


@jax.custom_jvp
def _attend_at_once(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None
) -> jax.Array:
    """The values' sum with exponentials for weights, divided by the sum of these afterwards."""
    scores = query @ key.swapaxes(-1, -2)
    exponentials, total = _exponentials(scores if bias is None else scores + bias, -1)
    return (exponentials @ value) / total


def _exponentials(scores: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Return the exponentials of the scores less the largest, and their sum."""
    largest = lax.stop_gradient(scores).max(axis, keepdims=True, initial=-jnp.inf)
    # Where all scores are -inf, the exponentials are 0, and 0 divided by 1.
    exponentials = jnp.exp(scores - jnp.where(largest == -jnp.inf, 0.0, largest))
    total = exponentials.sum(axis, keepdims=True)
    return exponentials, jnp.where(total == 0, 1.0, total)


@_attend_at_once.defjvp
def _attend_at_once_jvp(
    primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[jax.Array, jax.Array]:
    # The checkpoint makes the weights again, so that they are not kept for the backward pass.
    derivative = jax.checkpoint(_derivative_at_once, prevent_cse=False)
    return _attend_at_once(*primals), derivative(primals, tangents)


def _derivative_at_once(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> jax.Array:
    """The derivative of the output, linear in the tangents."""
    (query, key, value, bias), (d_query, d_key, d_value, d_bias) = primals, tangents
    query, d_query = query.swapaxes(-1, -2), d_query.swapaxes(-1, -2)
    # Keys by queries: of the three products with them in the transpose, two then have no operand
    # that is to be transposed, which takes XLA on a CPU twice as long.
    scores, d_scores = key @ query, key @ d_query + d_key @ query
    if bias is not None:
        scores, d_scores = scores + bias.swapaxes(-1, -2), d_scores + d_bias.swapaxes(-1, -2)
    exponentials, total = _exponentials(scores, -2)
    weights = exponentials / total
    # From the weights themselves, so that a query of one key has no gradient, to the last bit.
    change = weights * (d_scores - (weights * d_scores).sum(-2, keepdims=True))
    return change.swapaxes(-1, -2) @ value + weights.swapaxes(-1, -2) @ d_value


def _attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    scale: jax.Array,
    *,
    is_causal: bool,
    p: Any = 0.0,
    rng: jax.Array | None = None,
) -> jax.Array:
    scores = _scores(query, key, mask, scale)
    if is_causal:
        seen = _with_rank(_causal(scores.shape[-2:]), scores.ndim)
        scores = jnp.where(seen, scores, -jnp.inf)
    weights = _weights(scores)
    if rng is not None:
        weights = dropout(weights, p, rng=rng)
    return _average(weights, value).astype(value.dtype)


@jax.custom_jvp
def _average(weights: jax.Array, value: jax.Array) -> jax.Array:
    """The weighted sum of the values, in which half precision multiplies half precision."""
    return _product(weights.astype(value.dtype), value)


@_average.defjvp
def _average_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # The weights' gradient is not rounded to half precision: the softmax takes its mean from it,
    # which may be nearly all of it.
    (weights, value), (d_weights, d_value) = primals, tangents
    d_output = jnp.matmul(d_weights, value.astype(d_weights.dtype))
    return _average(*primals), d_output + _product(weights.astype(value.dtype), d_value)


@jax.custom_jvp
def _weights(scores: jax.Array) -> jax.Array:
    """The softmax over the last dimension, with zeros where all scores are -inf."""
    exponentials, total = _exponentials(scores, -1)
    return exponentials / total


@_weights.defjvp
def _weights_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # From the weights themselves, so that a row of one key has no gradient, to the last bit.
    weights, (tangent,) = _weights(*primals), tangents
    return weights, weights * (tangent - (weights * tangent).sum(-1, keepdims=True))


def _scores(
    query: jax.Array, key: jax.Array, mask: jax.Array | None, scale: jax.Array | float
) -> jax.Array:
    scores = _product(query, key.swapaxes(-1, -2)) * scale
    # A sum and no selection: like torch, so that NaN is not hidden.
    return scores if mask is None else scores + _bias_of(mask, scores.dtype)


def _bias_of(mask: jax.Array, dtype: Any) -> jax.Array:
    """Return a mask that is True where a key takes part as what is added to the scores."""
    return _additive(~mask if mask.dtype == jnp.bool_ else mask, dtype).astype(dtype)


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    """The matrix product, in the dtype of the sums."""
    return jnp.matmul(left, right, preferred_element_type=accumulation_dtype(left.dtype))


class _Sizes(NamedTuple):
    """Batch, heads, queries, keys and features of a head; N is None where there is no batch."""

    N: Any
    H: int
    L: Any
    S: Any
    D: int


class _Options(NamedTuple):
    heads: int
    batch_first: bool
    distinct: int
    add_zero_attn: bool
    need_weights: bool
    average_attn_weights: bool
    is_causal: bool


def _head_sizes(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    embed_dim: int,
    heads: int,
    batch_first: bool,
    layer: str,
) -> _Sizes:
    shapes = f"got {query.shape}, {key.shape} and {value.shape}"
    if query.ndim not in (2, 3) or {key.ndim, value.ndim} != {query.ndim}:
        order = "(N, length, features)" if batch_first else "(length, N, features)"
        raise ValueError(
            f"{layer}: `query`, `key` and `value` must all have the dimensions {order}, or all "
            f"(length, features), {shapes}"
        )
    if query.shape[-1] != embed_dim or embed_dim % heads:
        raise ValueError(
            f"{layer}: `query` must have {embed_dim} features, a multiple of the {heads} heads, "
            f"{shapes}"
        )
    if key.shape[:-1] != value.shape[:-1]:
        raise ValueError(
            f"{layer}: `key` and `value` must be of the same length and batch, {shapes}"
        )
    features = embed_dim // heads
    if query.ndim == 2:
        return _Sizes(None, heads, query.shape[0], key.shape[0], features)
    batch, length = (0, 1) if batch_first else (1, 0)
    if query.shape[batch] != key.shape[batch]:
        raise ValueError(f"{layer}: `query` and `key` must have the same batch size, {shapes}")
    return _Sizes(query.shape[batch], heads, query.shape[length], key.shape[length], features)


def _check_head_masks(
    padding: jax.Array | None, mask: jax.Array | None, query: jax.Array, sizes: _Sizes, layer: str
) -> None:
    n, h, length, keys, _ = sizes
    wanted = {
        "key_padding_mask": (padding, [(keys,) if n is None else (n, keys)]),
        "attn_mask": (mask, [(length, keys), ((1 if n is None else n) * h, length, keys)]),
    }
    for name, (array, shapes) in wanted.items():
        if array is None:
            continue
        if array.dtype not in (jnp.bool_, query.dtype):
            raise TypeError(
                f"{layer}: `{name}` must be boolean or {query.dtype}, got {array.dtype}"
            )
        if array.shape not in shapes:
            listed = " or ".join(map(str, shapes))
            raise ValueError(f"{layer}: `{name}` must have shape {listed}, got {array.shape}")


def _check_extra_keys(
    bias_k: jax.Array | None,
    bias_v: jax.Array | None,
    static_k: jax.Array | None,
    static_v: jax.Array | None,
    sizes: _Sizes,
    layer: str,
) -> None:
    if (bias_k is None) != (bias_v is None):
        raise ValueError(f"{layer}: `bias_k` and `bias_v` go together, but one of them is None")
    for name, static in {"static_k": static_k, "static_v": static_v}.items():
        if static is None:
            continue
        if bias_k is not None:
            raise ValueError(f"{layer}: `bias_k` and `bias_v` cannot be added to `{name}`")
        leading = (1 if sizes.N is None else sizes.N) * sizes.H
        if static.ndim != 3 or (static.shape[0], static.shape[2]) != (leading, sizes.D):
            raise ValueError(
                f"{layer}: `{name}` must have shape (N * num_heads, length, features of a head) = "
                f"({leading}, length, {sizes.D}), got {static.shape}"
            )


@partial(jax.jit, static_argnames=("options",), inline=True)
def _multi_head_attention(
    options: _Options,
    inputs: tuple[jax.Array, jax.Array, jax.Array],
    projections: tuple[Any, ...],
    extra: tuple[jax.Array | None, ...],
    masks: tuple[jax.Array | None, jax.Array | None],
    p: Any,
    rng: jax.Array | None,
) -> tuple[jax.Array, jax.Array | None]:
    query = inputs[0]
    weights, in_bias, out_weight, out_bias = projections
    # Without a batch, the array is a batch of one; where it stands is of no matter.
    batch_first = options.batch_first or query.ndim == 2
    q, k, v = (
        _heads(array if query.ndim == 3 else array[None], options.heads, batch_first)
        for array in _in_projections(inputs, weights, in_bias, options.distinct)
    )
    bias_k, bias_v, static_k, static_v = extra
    k = _with_extra_keys(k, bias_k, static_k, options.add_zero_attn)
    v = _with_extra_keys(v, bias_v, static_v, options.add_zero_attn)
    if k.shape[2] != v.shape[2]:
        raise ValueError(
            "multi_head_attention_forward: keys and values must be equally many, got "
            f"{k.shape[2]} and {v.shape[2]}"
        )
    added = (bias_k is not None) + options.add_zero_attn
    mask = _merged_mask(*masks, q.shape, k.shape[2], added, q.dtype)
    if options.need_weights:
        output, attention = _attend_with_weights(q, k, v, mask, p, rng)
        attention = attention.mean(1) if options.average_attn_weights else attention
        attention = attention if query.ndim == 3 else attention[0]
    else:
        scale = jnp.asarray(_default_scale(q), accumulation_dtype(q.dtype))
        output = _attention(q, k, v, mask, scale, options.is_causal, False, p, rng)
        attention = None
    order = (0, 2, 1, 3) if batch_first else (2, 0, 1, 3)
    output = linear(output.transpose(order).reshape(query.shape), out_weight, out_bias)
    return output, attention


def _in_projections(
    inputs: tuple[jax.Array, ...],
    weights: tuple[jax.Array, ...],
    bias: jax.Array | None,
    distinct: int,
) -> list[jax.Array]:
    """Return queries, keys and values, by one matrix product for each distinct input."""
    if len(weights) == 3:
        biases = [None] * 3 if bias is None else jnp.split(bias, 3)
        return [linear(*each) for each in zip(inputs, weights, biases, strict=True)]
    (weight,) = weights
    size = weight.shape[0] // 3
    first = {1: [0, 3], 2: [0, 1, 3], 3: [0, 1, 2, 3]}[distinct]
    projected: list[jax.Array] = []
    for start, stop in pairwise(first):
        rows = slice(start * size, stop * size)
        part = linear(inputs[start], weight[rows], None if bias is None else bias[rows])
        projected += jnp.split(part, stop - start, -1)
    return projected


def _heads(array: jax.Array, heads: int, batch_first: bool) -> jax.Array:
    """Return what has the dimensions (N, L, E), or (L, N, E), as (N, H, L, E / H)."""
    split = array.reshape((*array.shape[:2], heads, array.shape[2] // heads))
    return split.transpose((0, 2, 1, 3) if batch_first else (1, 2, 0, 3))


def _with_extra_keys(
    array: jax.Array, bias: jax.Array | None, static: jax.Array | None, add_zero_attn: bool
) -> jax.Array:
    """Return the keys (or values) of the heads, with those that the options add at the end."""
    n, heads, _, features = array.shape
    if static is not None:
        array = static.reshape((n, heads, -1, features))
    shape = (n, heads, 1, features)
    if bias is not None:
        row = jnp.broadcast_to(bias.reshape((1, heads, 1, features)), shape)
        array = jnp.concatenate([array, row], 2)
    if add_zero_attn:
        array = jnp.concatenate([array, jnp.zeros(shape, array.dtype)], 2)
    return array


def _merged_mask(
    padding: jax.Array | None,
    mask: jax.Array | None,
    shape: tuple[Any, ...],
    keys: Any,
    added: int,
    dtype: Any,
) -> jax.Array | None:
    """Return the sum of both masks, (N, H, L, keys) where not 1, with 0 for the keys added."""
    terms = []
    if mask is not None:
        lead = (1, 1) if mask.ndim == 2 else shape[:2]
        terms.append(_additive(mask, dtype).reshape((*lead, *mask.shape[-2:])))
    if padding is not None:
        terms.append(_additive(padding, dtype).reshape((shape[0], 1, 1, padding.shape[-1])))
    if not terms:
        return None
    merged = sum(terms[1:], start=terms[0])
    if merged.shape[-1] + added != keys:
        raise ValueError(
            f"multi_head_attention_forward: the masks are for {merged.shape[-1]} keys, but there "
            f"are {keys - added}"
        )
    return jnp.pad(merged, [(0, 0)] * 3 + [(0, added)])


def _additive(mask: jax.Array, dtype: Any) -> jax.Array:
    """Return a mask that is True where nothing is seen as what is added to the scores."""
    return jnp.where(mask, -jnp.inf, 0.0).astype(dtype) if mask.dtype == jnp.bool_ else mask


def _attend_with_weights(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    p: Any,
    rng: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    scores = _scores(query, key, mask, _default_scale(query))
    weights = softmax(scores, -1).astype(query.dtype)
    if rng is not None:
        weights = dropout(weights, p, rng=rng)
    return _product(weights, value).astype(query.dtype), weights
