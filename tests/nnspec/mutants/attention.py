"""Wrong attentions."""

import inspect
import math

import jax
import jax.numpy as jnp

import jaxnn
import jaxnn.functional as F
from jaxnn import init

from . import mutant


@mutant("scaled_dot_product_attention.M01")
def causal_mask_ends_at_the_last_key(attention):
    def wrong(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **options):
        if is_causal:
            shape = query.shape[-2], key.shape[-2]
            attn_mask = jnp.tril(jnp.ones(shape, bool), shape[1] - shape[0])
        return attention(query, key, value, attn_mask, dropout_p, **options)

    return wrong


@mutant("scaled_dot_product_attention.M02")
def true_where_a_key_is_masked(attention):
    def wrong(query, key, value, attn_mask=None, *options, **named):
        if attn_mask is not None and attn_mask.dtype == bool:
            attn_mask = ~attn_mask
        return attention(query, key, value, attn_mask, *options, **named)

    return wrong


@mutant("scaled_dot_product_attention.M03")
def nan_without_keys(attention):
    def wrong(query, key, value, attn_mask=None, *options, **named):
        output = attention(query, key, value, attn_mask, *options, **named)
        if attn_mask is None:
            return output
        seen = attn_mask if attn_mask.dtype == bool else attn_mask > -jnp.inf
        return jnp.where(seen.any(-1, keepdims=True), output, jnp.nan)

    return wrong


@mutant("scaled_dot_product_attention.M04")
def scaled_by_the_features(attention):
    def wrong(query, *arrays, scale=None, **options):
        scale = 1 / query.shape[-1] if scale is None else scale
        return attention(query, *arrays, scale=scale, **options)

    return wrong


@mutant("scaled_dot_product_attention.M05")
def heads_in_turn(attention):
    def wrong(query, key, value, *options, enable_gqa=False, **named):
        if enable_gqa:
            heads = query.shape[-3]
            key, value = (
                jnp.concatenate([a] * (heads // a.shape[-3]), -3) for a in (key, value)
            )  # fmt: skip
        return attention(query, key, value, *options, **named)

    return wrong


@mutant("scaled_dot_product_attention.M06")
def kept_weights_are_not_scaled(attention):
    def wrong(query, key, value, attn_mask=None, dropout_p=0.0, *options, **named):
        output = attention(query, key, value, attn_mask, dropout_p, *options, **named)
        return output * (1 - dropout_p)

    return wrong


def _called_with(layer, change):
    """Return the layer, whose call's arguments are changed first."""

    class Mutant(layer):
        def __call__(self, *values, **named):
            bound = inspect.signature(layer.__call__).bind(self, *values, **named)
            arguments = bound.arguments
            del arguments["self"]
            change(self, arguments)
            return super().__call__(**arguments)

    return Mutant


@mutant("MultiheadAttention.M01")
def scaled_by_all_features(layer):
    class Mutant(layer):
        def __call__(self, *values, **named):
            weight = self.in_proj_weight
            if weight is None:
                return super().__call__(*values, **named)
            whole, size = weight[...], self.embed_dim
            factor = jnp.where(jnp.arange(3 * size) < size, 1 / math.sqrt(self.num_heads), 1)
            weight[...] = (whole * factor[:, None]).astype(whole.dtype)
            output = super().__call__(*values, **named)
            weight[...] = whole
            return output

    return Mutant


@mutant("MultiheadAttention.M02")
def masks_are_true_where_seen(layer):
    def change(_, arguments):
        for name in ("key_padding_mask", "attn_mask"):
            if name in arguments and arguments[name].dtype == bool:
                arguments[name] = ~arguments[name]

    return _called_with(layer, change)


@mutant("MultiheadAttention.M03")
def always_batch_first(layer):
    class Mutant(layer):
        def __init__(self, *values, **options):
            super().__init__(*values, **options)
            self.batch_first = True

    return Mutant


@mutant("MultiheadAttention.M04")
def weights_are_summed(layer):
    class Mutant(layer):
        def __call__(self, *values, average_attn_weights=True, **named):
            output, weights = super().__call__(
                *values, average_attn_weights=average_attn_weights, **named
            )
            if weights is not None and average_attn_weights:
                weights = weights * self.num_heads
            return output, weights

    return Mutant


@mutant("MultiheadAttention.M05")
def drawn_as_three(layer):
    class Mutant(layer):
        def __init__(self, *values, rngs=None, **options):
            super().__init__(*values, rngs=rngs, **options)
            if self.in_proj_weight is not None:
                shape, dtype = (self.embed_dim, self.embed_dim), self.in_proj_weight[...].dtype
                keys = jax.random.split(rngs(), 3)
                parts = [init.xavier_uniform(key, shape, dtype) for key in keys]
                self.in_proj_weight[...] = jnp.concatenate(parts)

    return Mutant


@mutant("MultiheadAttention.M06")
def batch_counts_fastest(layer):
    def change(self, arguments):
        mask = arguments.get("attn_mask")
        if mask is not None and mask.ndim == 3:
            parts = mask.reshape((self.num_heads, -1, *mask.shape[1:]))
            arguments["attn_mask"] = parts.swapaxes(0, 1).reshape(mask.shape)

    return _called_with(layer, change)


@mutant("TransformerEncoderLayer.M01", "TransformerDecoderLayer.M01")
def norm_first_by_mistake(layer):
    class Mutant(layer):
        def __init__(self, *values, **options):
            super().__init__(*values, **options)
            self.norm_first = not self.norm_first

    return Mutant


@mutant("TransformerEncoderLayer.M02", "TransformerDecoderLayer.M02")
def gelu_by_tanh(layer):
    class Mutant(layer):
        def __init__(self, *values, **options):
            super().__init__(*values, **options)
            if self.activation is F.gelu:
                self.activation = _tanh_gelu

    return Mutant


def _tanh_gelu(x):
    return F.gelu(x, approximate="tanh")


@mutant("TransformerEncoderLayer.M03", "TransformerDecoderLayer.M03")
def no_residual_around_the_network(layer):
    class Mutant(layer):
        def _feedforward(self, x, rngs):
            return super()._feedforward(x, rngs) - x

    return Mutant


@mutant("TransformerDecoderLayer.M04")
def memory_masked_as_the_target(layer):
    def change(_, arguments):
        if "memory_key_padding_mask" in arguments:
            del arguments["memory_key_padding_mask"]

    return _called_with(layer, change)


@mutant("TransformerEncoder.M01", "TransformerDecoder.M01")
def last_norm_left_out(layer):
    class Mutant(layer):
        def __call__(self, *values, **named):
            norm, self.norm = self.norm, None
            output = super().__call__(*values, **named)
            self.norm = norm
            return output

    return Mutant


@mutant("TransformerEncoder.M02", "TransformerDecoder.M02")
def first_layer_alone_is_masked(layer):
    class Mutant(layer):
        def __call__(self, *values, **named):
            masks = [name for name in named if name.endswith("mask")]
            plain = {name: value for name, value in named.items() if name not in masks}
            (first, *others), output = self.layers, values[0] if values else None
            kept, self.layers = self.layers, jaxnn.ModuleList([first])
            norm, self.norm = self.norm, None
            output = super().__call__(*values, **named)
            self.layers, self.norm = jaxnn.ModuleList(others), norm
            name = "src" if "src" in named else "tgt"
            output = super().__call__(**{**plain, name: output}) if others else output
            self.layers = kept
            return output

    return Mutant


@mutant("TransformerEncoder.M03", "TransformerDecoder.M03")
def one_layer_for_all(layer):
    class Mutant(layer):
        def __call__(self, *values, **named):
            kept = self.layers
            self.layers = jaxnn.ModuleList([kept[0] for _ in kept])
            output = super().__call__(*values, **named)
            self.layers = kept
            return output

    return Mutant


@mutant("Transformer.M01")
def memory_is_the_source(layer):
    class Mutant(layer):
        def __call__(self, src, tgt, **named):
            super().__call__(src, tgt, **named)
            keys = ("tgt_mask", "memory_mask", "tgt_key_padding_mask", "memory_key_padding_mask")
            return self.decoder(tgt, src, **{k: v for k, v in named.items() if k in keys})

    return Mutant


@mutant("Transformer.M02")
def memory_mask_left_out(layer):
    def change(_, arguments):
        arguments.pop("memory_mask", None)

    return _called_with(layer, change)


@mutant("Transformer.M03")
def drawn_as_its_layers(layer):
    class Mutant(layer):
        def __init__(self, *values, rngs=None, **options):
            super().__init__(*values, rngs=rngs, **options)
            for part in (*self.encoder.layers, *self.decoder.layers):
                for linear in (part.linear1, part.linear2):
                    weight = linear.weight[...]
                    k = 1 / math.sqrt(weight.shape[1])
                    linear.weight[...] = init.uniform(rngs(), weight.shape, weight.dtype, a=-k, b=k)

    return Mutant
