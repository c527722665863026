"""Stacks of a transformer's layers, and the whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ... import functional as F
from ... import init
from ..._checks import check_int
from ..._types import Mask
from .._module import Module, RandomModule, RandomSource, keys_for_parts, parameter_key
from ..container import ModuleList
from ..normalization import LayerNorm
from .transformer_layer import Activation, TransformerDecoderLayer, TransformerEncoderLayer


class TransformerEncoder(Module):
    """A stack of encoder layers.

    y = norm(layer_n(... layer_1(x)))

    The layers are copies of the given one, and start with its parameters; each draws numbers of its
    own. Unlike torch's, whose result there depends on whether gradients are recorded, evaluation
    treats the padded positions as training does.

    Shapes: as those of the layer.

    Args:
        encoder_layer: a `TransformerEncoderLayer`, or what is called as one; it is copied.
        num_layers: the number of layers.
        norm: a last layer, or None.
        enable_nested_tensor: accepted, without effect.
        mask_check: accepted, without effect.
        rngs: where the layers' own streams are forked from, by default from those of the layer.

    Attributes:
        layers: the layers.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.TransformerEncoderLayer(8, 2, rngs=nnx.Rngs(0))
        >>> jaxnn.TransformerEncoder(layer, 3).eval()(jnp.ones((5, 3, 8))).shape
        (5, 3, 8)
    """

    def __init__(
        self,
        encoder_layer: nnx.Module,
        num_layers: int,
        norm: nnx.Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.layers = _copies(encoder_layer, num_layers, rngs, "jaxnn.TransformerEncoder")
        self.num_layers = len(self.layers)
        self.norm = nnx.data(norm)
        self.enable_nested_tensor = enable_nested_tensor
        self.mask_check = mask_check

    def __call__(
        self,
        src: Float[Array, "*S d_model"],
        mask: Mask | None = None,
        src_key_padding_mask: Mask | None = None,
        is_causal: bool | None = None,
        *,
        rngs: RandomSource | None = None,
    ) -> Float[Array, "*S d_model"]:
        """Return the sequence, encoded; the arguments are those of `TransformerEncoderLayer`.

        `is_causal` may be None, which in torch looks at the mask: here it is no promise, and gives
        the same numbers.
        """
        options = _with_rngs(rngs)
        output = src
        for layer in self.layers:
            output = layer(
                output,
                src_mask=mask,
                is_causal=bool(is_causal),
                src_key_padding_mask=src_key_padding_mask,
                **options,
            )
        return output if self.norm is None else self.norm(output)


class TransformerDecoder(Module):
    """A stack of decoder layers.

    y = norm(layer_n(... layer_1(x, memory), memory))

    The layers are copies of the given one, and start with its parameters; each draws numbers of its
    own.

    Shapes: as those of the layer.

    Args:
        decoder_layer: a `TransformerDecoderLayer`, or what is called as one; it is copied.
        num_layers: the number of layers.
        norm: a last layer, or None.
        rngs: where the layers' own streams are forked from, by default from those of the layer.

    Attributes:
        layers: the layers.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.TransformerDecoderLayer(8, 2, rngs=nnx.Rngs(0))
        >>> decoder = jaxnn.TransformerDecoder(layer, 3).eval()
        >>> decoder(jnp.ones((5, 3, 8)), jnp.ones((7, 3, 8))).shape
        (5, 3, 8)
    """

    def __init__(
        self,
        decoder_layer: nnx.Module,
        num_layers: int,
        norm: nnx.Module | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.layers = _copies(decoder_layer, num_layers, rngs, "jaxnn.TransformerDecoder")
        self.num_layers = len(self.layers)
        self.norm = nnx.data(norm)

    def __call__(
        self,
        tgt: Float[Array, "*T d_model"],
        memory: Float[Array, "*S d_model"],
        tgt_mask: Mask | None = None,
        memory_mask: Mask | None = None,
        tgt_key_padding_mask: Mask | None = None,
        memory_key_padding_mask: Mask | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
        *,
        rngs: RandomSource | None = None,
    ) -> Float[Array, "*T d_model"]:
        """Return the sequence, decoded; the arguments are those of `TransformerDecoderLayer`.

        `tgt_is_causal` may be None, as for `TransformerEncoder`.
        """
        options = _with_rngs(rngs)
        output = tgt
        for layer in self.layers:
            output = layer(
                output,
                memory,
                tgt_mask=tgt_mask,
                memory_mask=memory_mask,
                tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask,
                tgt_is_causal=bool(tgt_is_causal),
                memory_is_causal=memory_is_causal,
                **options,
            )
        return output if self.norm is None else self.norm(output)


class Transformer(Module):
    """An encoder and a decoder.

    y = decoder(tgt, encoder(src)), each a stack of layers with a last normalisation

    Every matrix of parameters is drawn by Xavier's uniform rule, also in a given encoder or
    decoder.

    Shapes: src (S, N, E), tgt (T, N, E), with `batch_first` (N, S, E) and (N, T, E), or (S, E) and
    (T, E); the output is as tgt.

    Args:
        num_encoder_layers: layers of the encoder.
        num_decoder_layers: layers of the decoder.
        custom_encoder: what stands for the encoder, or None.
        custom_decoder: what stands for the decoder, or None.
        d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first,
            norm_first, bias, dtype, rngs: as for `TransformerEncoderLayer`.

    Attributes:
        encoder: the encoder.
        decoder: the decoder.

    Source: Vaswani et al., 2017; torch.nn.Transformer.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> net = jaxnn.Transformer(8, 2, 1, 1, 16, rngs=nnx.Rngs(0)).eval()
        >>> mask = jaxnn.Transformer.generate_square_subsequent_mask(5)
        >>> net(jnp.ones((7, 3, 8)), jnp.ones((5, 3, 8)), tgt_mask=mask, tgt_is_causal=True).shape
        (5, 3, 8)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        custom_encoder: Any = None,
        custom_decoder: Any = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        parameter_key(self, rngs)
        layer_options: tuple[Any, ...] = (
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first,
            norm_first, bias,
        )  # fmt: skip

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)

        if custom_encoder is None:
            layer = TransformerEncoderLayer(*layer_options, dtype=dtype, rngs=rngs)
            custom_encoder = TransformerEncoder(layer, num_encoder_layers, norm())
        if custom_decoder is None:
            other = TransformerDecoderLayer(*layer_options, dtype=dtype, rngs=rngs)
            custom_decoder = TransformerDecoder(other, num_decoder_layers, norm())
        self.encoder = custom_encoder
        self.decoder = custom_decoder
        for _, node in nnx.iter_graph((self.encoder, self.decoder)):
            if isinstance(node, nnx.Param) and node[...].ndim > 1:
                key = parameter_key(self, rngs)
                node[...] = init.xavier_uniform(key, node[...].shape, node[...].dtype)
        self.d_model = d_model
        self.nhead = nhead
        self.batch_first = bool(batch_first)

    def __call__(
        self,
        src: Float[Array, "*S d_model"],
        tgt: Float[Array, "*T d_model"],
        src_mask: Mask | None = None,
        tgt_mask: Mask | None = None,
        memory_mask: Mask | None = None,
        src_key_padding_mask: Mask | None = None,
        tgt_key_padding_mask: Mask | None = None,
        memory_key_padding_mask: Mask | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
        *,
        rngs: RandomSource | None = None,
    ) -> Float[Array, "*T d_model"]:
        """Return the second sequence, decoded with the first one as memory.

        Args:
            src: the sequence that is encoded.
            tgt: the sequence that is decoded.
            src_mask: (S, S) or (N * nhead, S, S), as `attn_mask` of `MultiheadAttention`.
            tgt_mask: (T, T) or (N * nhead, T, T).
            memory_mask: (T, S) or (N * nhead, T, S).
            src_key_padding_mask: (N, S), as its `key_padding_mask`.
            tgt_key_padding_mask: (N, T).
            memory_key_padding_mask: (N, S).
            src_is_causal: a promise that src_mask is the causal mask, which must be there.
            tgt_is_causal: the same of tgt_mask.
            memory_is_causal: the same of memory_mask.
            rngs: takes the place of the layers' streams.
        """
        src, tgt = jnp.asarray(src), jnp.asarray(tgt)
        if any(array.shape[-1:] != (self.d_model,) for array in (src, tgt)):
            raise ValueError(
                f"jaxnn.Transformer: `src` and `tgt` must have {self.d_model} features, got shapes "
                f"{src.shape} and {tgt.shape}"
            )
        options = _with_rngs(rngs)
        memory = self.encoder(
            src,
            mask=src_mask,
            src_key_padding_mask=src_key_padding_mask,
            is_causal=src_is_causal,
            **options,
        )
        return self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
            **options,
        )

    @staticmethod
    def generate_square_subsequent_mask(
        sz: int, *, dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "sz sz"]:
        """Return the causal mask: 0 where a position sees another, -inf where that comes later."""
        seen = jnp.tril(jnp.ones((sz, sz), bool))
        return jnp.where(seen, 0.0, -jnp.inf).astype(dtype)


def _copies(layer: nnx.Module, count: int, rngs: nnx.Rngs | None, name: str) -> ModuleList:
    """Return copies of a layer, each with random streams of its own."""
    number = check_int(count, "num_layers", name, minimum=1)
    copies = [nnx.clone(layer) for _ in range(number)]
    streams = [_random_modules(layer), *map(_random_modules, copies)]
    for original, *modules in zip(*streams, strict=True):
        for module in modules if original.rngs is not None else ():
            module.rngs = (original.rngs if rngs is None else rngs["dropout"]).fork()
    return ModuleList(copies)


def _random_modules(module: nnx.Module) -> list[RandomModule]:
    return [node for _, node in nnx.iter_modules(module) if isinstance(node, RandomModule)]


def _with_rngs(rngs: RandomSource | None) -> Mapping[str, Any]:
    """Return the option `rngs` where it is given: a layer of another kind may not know it."""
    return {} if rngs is None else {"rngs": keys_for_parts(rngs)}
