"""The layers of a transformer's encoder and decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ... import functional as F
from ..._types import Mask
from .._module import Module, RandomSource, keys_for_parts, name_of
from ..dropout import Dropout
from ..linear import Linear
from ..normalization import LayerNorm
from .multi_head import MultiheadAttention

Activation = str | Callable[[jax.Array], jax.Array]


class _TransformerLayer(Module):
    """What encoder and decoder layers share: a network of two layers after the attentions."""

    def _init_feedforward(
        self,
        d_model: int,
        dim_feedforward: int,
        dropout: float,
        bias: bool,
        dtype: DTypeLike,
        rngs: nnx.Rngs | None,
    ) -> None:
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype=dtype, rngs=rngs)
        self.dropout = Dropout(dropout, rngs=rngs)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype=dtype, rngs=rngs)

    def _init_activation(self, activation: Activation) -> None:
        layer = name_of(self)
        known = {"relu": F.relu, "gelu": F.gelu}
        if isinstance(activation, str) and activation not in known:
            raise ValueError(
                f"{layer}: `activation` must be 'relu', 'gelu' or a function, got {activation!r}"
            )
        chosen = known[activation] if isinstance(activation, str) else activation
        if not callable(chosen):
            raise TypeError(
                f"{layer}: `activation` must be 'relu', 'gelu' or a function, got {activation!r}"
            )
        self.activation = chosen

    def _feedforward(self, x: jax.Array, rngs: RandomSource | None) -> jax.Array:
        return self.linear2(self.dropout(self.activation(self.linear1(x)), rngs=rngs))


class TransformerEncoderLayer(_TransformerLayer):
    """Self-attention and a network of two layers, each with a residual and a normalisation.

    y = norm1(x + dropout1(attention(x, x, x))), z = norm2(y + dropout2(W_2 f(W_1 y))); with
    `norm_first` y = x + dropout1(attention(norm1(x), ...)), z = y + dropout2(W_2 f(W_1 norm2(y)))

    Shapes: (S, N, E), with `batch_first` (N, S, E), or (S, E); kept.

    Args:
        d_model: E.
        nhead: the number of heads, which divides E.
        dim_feedforward: features between the two layers of the network.
        dropout: the probability of every dropout in training, that of attention weights too.
        activation: f, "relu", "gelu", or a function or layer.
        layer_norm_eps: eps of the normalisations.
        batch_first: whether the batch is the first dimension.
        norm_first: whether the normalisations come before, and not after the sums.
        bias: whether the linear layers and normalisations have biases.
        dtype: the parameters' dtype, which the input must have too.
        rngs: where the parameters are drawn from, and the streams for dropout.

    Attributes:
        self_attn: the attention.
        linear1, linear2: W_1 and W_2.
        norm1, norm2: the normalisations.

    Source: Vaswani et al., 2017; torch.nn.TransformerEncoderLayer.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.TransformerEncoderLayer(8, 2, batch_first=True, rngs=nnx.Rngs(0))
        >>> layer.eval()(jnp.ones((3, 5, 8))).shape
        (3, 5, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype, rngs=rngs
        )
        self._init_feedforward(d_model, dim_feedforward, dropout, bias, dtype, rngs)
        self.norm_first = bool(norm_first)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1 = Dropout(dropout, rngs=rngs)
        self.dropout2 = Dropout(dropout, rngs=rngs)
        self._init_activation(activation)

    def __call__(
        self,
        src: Float[Array, "*S d_model"],
        src_mask: Mask | None = None,
        src_key_padding_mask: Mask | None = None,
        is_causal: bool = False,
        *,
        rngs: RandomSource | None = None,
    ) -> Float[Array, "*S d_model"]:
        """Return the sequence, encoded.

        Args:
            src: the sequence.
            src_mask: (S, S) or (N * nhead, S, S), as `attn_mask` of `MultiheadAttention`.
            src_key_padding_mask: (N, S), as its `key_padding_mask`.
            is_causal: a promise that src_mask is the causal mask, which must be there.
            rngs: takes the place of the layers' streams.
        """
        rngs = keys_for_parts(rngs)

        def attend(x: jax.Array) -> jax.Array:
            output, _ = self.self_attn(
                x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal, rngs=rngs
            )
            return self.dropout1(output, rngs=rngs)

        def feed(x: jax.Array) -> jax.Array:
            return self.dropout2(self._feedforward(x, rngs), rngs=rngs)

        x = src
        if self.norm_first:
            x = x + attend(self.norm1(x))
            return x + feed(self.norm2(x))
        x = self.norm1(x + attend(x))
        return self.norm2(x + feed(x))


class TransformerDecoderLayer(_TransformerLayer):
    """Self-attention, attention to a memory and a network, each with residual and normalisation.

    y = norm1(x + dropout1(attention(x, x, x))), z = norm2(y + dropout2(attention(y, m, m))),
    norm3(z + dropout3(W_2 f(W_1 z))); with `norm_first` each part takes the normalised and adds to
    what is not

    The arguments are those of `TransformerEncoderLayer`.

    Shapes: tgt (T, N, E), memory (S, N, E), with `batch_first` (N, T, E) and (N, S, E), or (T, E)
    and (S, E); the output is as tgt.

    Attributes:
        self_attn: the attention of the sequence to itself.
        multihead_attn: its attention to the memory.
        linear1, linear2: W_1 and W_2.
        norm1, norm2, norm3: the normalisations.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.TransformerDecoderLayer(8, 2, batch_first=True, rngs=nnx.Rngs(0))
        >>> layer.eval()(jnp.ones((3, 5, 8)), jnp.ones((3, 7, 8))).shape
        (3, 5, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        options: dict[str, Any] = {"batch_first": batch_first, "dtype": dtype, "rngs": rngs}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, **options)
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, **options)
        self._init_feedforward(d_model, dim_feedforward, dropout, bias, dtype, rngs)
        self.norm_first = bool(norm_first)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1 = Dropout(dropout, rngs=rngs)
        self.dropout2 = Dropout(dropout, rngs=rngs)
        self.dropout3 = Dropout(dropout, rngs=rngs)
        self._init_activation(activation)

    def __call__(
        self,
        tgt: Float[Array, "*T d_model"],
        memory: Float[Array, "*S d_model"],
        tgt_mask: Mask | None = None,
        memory_mask: Mask | None = None,
        tgt_key_padding_mask: Mask | None = None,
        memory_key_padding_mask: Mask | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
        *,
        rngs: RandomSource | None = None,
    ) -> Float[Array, "*T d_model"]:
        """Return the sequence, decoded.

        Args:
            tgt: the sequence.
            memory: what the encoder made.
            tgt_mask: (T, T) or (N * nhead, T, T), as `attn_mask` of `MultiheadAttention`.
            memory_mask: (T, S) or (N * nhead, T, S).
            tgt_key_padding_mask: (N, T), as its `key_padding_mask`.
            memory_key_padding_mask: (N, S).
            tgt_is_causal: a promise that tgt_mask is the causal mask, which must be there.
            memory_is_causal: the same of memory_mask.
            rngs: takes the place of the layers' streams.
        """
        rngs = keys_for_parts(rngs)

        def attend(x: jax.Array) -> jax.Array:
            output, _ = self.self_attn(
                x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal, rngs=rngs
            )
            return self.dropout1(output, rngs=rngs)

        def look_up(x: jax.Array) -> jax.Array:
            output, _ = self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, False, memory_mask,
                is_causal=memory_is_causal, rngs=rngs,
            )  # fmt: skip
            return self.dropout2(output, rngs=rngs)

        def feed(x: jax.Array) -> jax.Array:
            return self.dropout3(self._feedforward(x, rngs), rngs=rngs)

        x = tgt
        if self.norm_first:
            x = x + attend(self.norm1(x))
            x = x + look_up(self.norm2(x))
            return x + feed(self.norm3(x))
        x = self.norm1(x + attend(x))
        x = self.norm2(x + look_up(x))
        return self.norm3(x + feed(x))
