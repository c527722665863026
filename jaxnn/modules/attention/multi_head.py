"""Attention with several heads."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ... import functional as F
from ... import init
from ..._checks import check_int
from ..._types import Mask
from ...functional.dropout import check_probability
from .._module import RandomModule, RandomSource, parameter_dtype, parameter_key
from .._state import value_of
from ..linear import Linear


class MultiheadAttention(RandomModule):
    """Project queries, keys and values for several heads, attend in each, and project the result.

    y = W_o [head_1, ..., head_H] + b_o, head_h = attention(q_h, k_h, v_h), where q_h, k_h and v_h
    are the parts of W_q query + b_q, W_k key + b_k and W_v value + b_v, of E / H features each: see
    `jaxnn.functional.multi_head_attention_forward`.

    Shapes: query (L, N, E), key (S, N, kdim), value (S, N, vdim) -> (L, N, E), with `batch_first`
    (N, L, E) and so on; or all without N. The weights are (N, L, S), or (N, H, L, S) of every head.

    Args:
        embed_dim: E.
        num_heads: H, which divides E.
        dropout: the probability that a weight is dropped in training.
        bias: whether the projections have the biases b.
        add_bias_kv: whether a learned key and its value are added to those of every batch element.
        add_zero_attn: whether a key of zeros, whose value is zeros, is added too.
        kdim: the features of a key, by default E.
        vdim: the features of a value, by default E.
        batch_first: whether the batch is the first dimension.
        dtype: the parameters' dtype, which the inputs must have too.
        rngs: where the parameters are drawn from, and the stream for dropout.

    Attributes:
        in_proj_weight: W_q, W_k and W_v, one below the other, drawn by Xavier's uniform rule; or,
            where kdim or vdim is not E, None and q_proj_weight, k_proj_weight and v_proj_weight.
        in_proj_bias: b_q, b_k and b_v, which start at 0; or None.
        bias_k: the added key, of shape (1, 1, E), drawn by Xavier's normal rule; or None.
        bias_v: its value.
        out_proj: the `Linear` layer of W_o and b_o, which starts at 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.MultiheadAttention(8, 2, batch_first=True, rngs=nnx.Rngs(0))
        >>> x = jnp.ones((1, 5, 8))
        >>> output, weights = layer(x, x, x)
        >>> output.shape, weights.shape
        ((1, 5, 8), (1, 5, 5))
    """

    _shown = ("embed_dim", "num_heads", "dropout", "kdim", "vdim", "batch_first")

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        layer = "jaxnn.MultiheadAttention"
        self.embed_dim = check_int(embed_dim, "embed_dim", layer, minimum=1)
        self.num_heads = check_int(num_heads, "num_heads", layer, minimum=1)
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"{layer}: `num_heads` must divide `embed_dim`, got {num_heads} and {embed_dim}"
            )
        check_probability(dropout, layer)
        self.dropout = dropout
        self.kdim = self.embed_dim if kdim is None else check_int(kdim, "kdim", layer, minimum=0)
        self.vdim = self.embed_dim if vdim is None else check_int(vdim, "vdim", layer, minimum=0)
        self.head_dim = self.embed_dim // self.num_heads
        self.add_zero_attn = bool(add_zero_attn)
        self.batch_first = bool(batch_first)
        resolved = parameter_dtype(self, dtype)
        keys = iter(jax.random.split(parameter_key(self, rngs), 5))

        def drawn(rows: int, columns: int) -> nnx.Param[Array]:
            return nnx.Param(init.xavier_uniform(next(keys), (rows, columns), resolved))

        def extra_key() -> nnx.Param[Array]:
            return nnx.Param(init.xavier_normal(next(keys), (1, 1, self.embed_dim), resolved))

        absent = nnx.data(None)
        size = self.embed_dim
        is_packed = self.kdim == self.vdim == size
        self.q_proj_weight = absent if is_packed else drawn(size, size)
        self.k_proj_weight = absent if is_packed else drawn(size, self.kdim)
        self.v_proj_weight = absent if is_packed else drawn(size, self.vdim)
        self.in_proj_weight = drawn(3 * size, size) if is_packed else absent
        self.in_proj_bias = nnx.Param(jnp.zeros(3 * size, resolved)) if bias else absent
        self.bias_k = extra_key() if add_bias_kv else absent
        self.bias_v = extra_key() if add_bias_kv else absent
        self.out_proj = Linear(size, size, bias, dtype=dtype, rngs=rngs)
        if self.out_proj.bias is not None:
            self.out_proj.bias[...] = jnp.zeros(size, resolved)
        self._init_random(rngs)

    def __call__(
        self,
        query: Float[Array, "*L embed_dim"],
        key: Float[Array, "*S kdim"],
        value: Float[Array, "*S vdim"],
        key_padding_mask: Mask | None = None,
        need_weights: bool = True,
        attn_mask: Mask | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        *,
        rngs: RandomSource | None = None,
    ) -> tuple[Float[Array, "*L embed_dim"], Float[Array, "..."] | None]:
        """Return the output, and the weights or None.

        Args:
            query: what is looked for.
            key: what it is compared with.
            value: what is averaged.
            key_padding_mask: (N, S), True where a key takes no part, or what is added to its
                scores.
            need_weights: whether the weights are returned, after dropout.
            attn_mask: (L, S) or (N*H, L, S), True where a query does not see a key, or what is
                added to the score.
            average_attn_weights: whether the mean of the heads' weights is returned.
            is_causal: a promise that attn_mask is the causal mask, which must be there.
            rngs: takes the place of the layer's stream.
        """
        draws = not self.deterministic and self.dropout > 0
        return F.multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            value_of(self.in_proj_weight),
            value_of(self.in_proj_bias),
            value_of(self.bias_k),
            value_of(self.bias_v),
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight[...],
            value_of(self.out_proj.bias),
            training=not self.deterministic,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=self.in_proj_weight is None,
            q_proj_weight=value_of(self.q_proj_weight),
            k_proj_weight=value_of(self.k_proj_weight),
            v_proj_weight=value_of(self.v_proj_weight),
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
            rng=self._draw_key(rngs) if draws else None,
            batch_first=self.batch_first,
        )
