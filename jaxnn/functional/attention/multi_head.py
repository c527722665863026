"""Attention of several heads, with its projections."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._checks import check_array, check_int
from ..._dtypes import accumulation_dtype
from ..._types import Mask
from ..activation import softmax
from ..dropout import Probability, check_probability, dropout
from ..linear import linear
from .definition import additive, product, scores_of
from .scaled_dot_product import attend_by_platform, default_scale, key_of_dropout


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
        static_v: values of the heads, likewise.
        average_attn_weights: whether the mean of the heads' weights is returned.
        is_causal: a promise that attn_mask is the causal mask, which must be there. Without
            `need_weights` and key_padding_mask, the mask itself is then ignored.
        rng: the key of dropout.
        batch_first: whether the batch is the first dimension; not in torch's function.

    Raises:
        ValueError: if shapes or options do not fit, or `rng` is needed and absent.
        TypeError: if the dtypes differ, or a mask has another than those above.

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
        key_of_dropout(p, rng, layer),
    )


class _Options(NamedTuple):
    heads: int
    batch_first: bool
    distinct: int
    add_zero_attn: bool
    need_weights: bool
    average_attn_weights: bool
    is_causal: bool


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
        scale = jnp.asarray(default_scale(q), accumulation_dtype(q.dtype))
        output = attend_by_platform(q, k, v, mask, scale, options.is_causal, False, p, rng)
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
        terms.append(additive(mask, dtype).reshape((*lead, *mask.shape[-2:])))
    if padding is not None:
        terms.append(additive(padding, dtype).reshape((shape[0], 1, 1, padding.shape[-1])))
    if not terms:
        return None
    merged = sum(terms[1:], start=terms[0])
    if merged.shape[-1] + added != keys:
        raise ValueError(
            f"multi_head_attention_forward: the masks are for {merged.shape[-1]} keys, but there "
            f"are {keys - added}"
        )
    return jnp.pad(merged, [(0, 0)] * 3 + [(0, added)])


def _attend_with_weights(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    p: Any,
    rng: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    scores = scores_of(query, key, mask, default_scale(query))
    weights = softmax(scores, -1).astype(query.dtype)
    if rng is not None:
        weights = dropout(weights, p, rng=rng)
    return product(weights, value).astype(query.dtype), weights


class _Sizes(NamedTuple):
    """Batch, heads, queries, keys and features of a head; N is None where there is no batch."""

    N: Any
    H: int
    L: Any
    S: Any
    D: int


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
