"""The models of `models.py` as one writes them with flax.nnx: channels last, Flax's own layers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


def convolution(
    inputs: int, outputs: int, size: int, stride: int = 1, *, rngs: nnx.Rngs, **options: Any
) -> nnx.Conv:
    options = {"padding": size // 2, "use_bias": False, **options}
    return nnx.Conv(inputs, outputs, (size, size), stride, rngs=rngs, **options)


class Bottleneck(nnx.Module):
    def __init__(self, inputs: int, width: int, stride: int, rngs: nnx.Rngs):
        self.conv1 = convolution(inputs, width, 1, rngs=rngs)
        self.conv2 = convolution(width, width, 3, stride, rngs=rngs)
        self.conv3 = convolution(width, 4 * width, 1, rngs=rngs)
        self.bn1, self.bn2 = nnx.BatchNorm(width, rngs=rngs), nnx.BatchNorm(width, rngs=rngs)
        self.bn3 = nnx.BatchNorm(4 * width, rngs=rngs)
        downsample = None
        if stride != 1 or inputs != 4 * width:
            downsample = nnx.Sequential(
                convolution(inputs, 4 * width, 1, stride, rngs=rngs),
                nnx.BatchNorm(4 * width, rngs=rngs),
            )
        self.downsample = nnx.data(downsample)

    def __call__(self, x: jax.Array) -> jax.Array:
        identity = x if self.downsample is None else self.downsample(x)
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = nnx.relu(self.bn2(self.conv2(x)))
        return nnx.relu(self.bn3(self.conv3(x)) + identity)


class ResNet50(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.conv1 = convolution(3, 64, 7, 2, rngs=rngs)
        self.bn1 = nnx.BatchNorm(64, rngs=rngs)
        blocks, inputs = [], 64
        for stage, count in enumerate((3, 4, 6, 3)):
            for index in range(count):
                stride = 2 if stage and not index else 1
                blocks.append(Bottleneck(inputs, 64 * 2**stage, stride, rngs))
                inputs = 256 * 2**stage
        self.blocks = nnx.Sequential(*blocks)
        self.fc = nnx.Linear(2048, 1000, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = nnx.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        return self.fc(self.blocks(x).mean((1, 2)))


class ConvNeXtBlock(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs):
        self.depthwise = convolution(
            width, width, 7, use_bias=True, feature_group_count=width, rngs=rngs
        )
        self.norm = nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs)
        self.expand = nnx.Linear(width, 4 * width, rngs=rngs)
        self.project = nnx.Linear(4 * width, width, rngs=rngs)
        self.scale = nnx.Param(jnp.full((width,), 1e-6))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.expand(self.norm(self.depthwise(x)))
        return x + self.scale[...] * self.project(nnx.gelu(y, approximate=False))


class ConvNeXtTiny(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        widths, depths = (96, 192, 384, 768), (3, 3, 9, 3)
        patches = {"padding": 0, "use_bias": True, "rngs": rngs}
        layers: list[Any] = [
            convolution(3, 96, 4, 4, **patches), nnx.LayerNorm(96, epsilon=1e-6, rngs=rngs),
        ]  # fmt: skip
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if index:
                before = widths[index - 1]
                layers += [
                    nnx.LayerNorm(before, epsilon=1e-6, rngs=rngs),
                    convolution(before, width, 2, 2, **patches),
                ]
            layers += [ConvNeXtBlock(width, rngs) for _ in range(depth)]
        self.features = nnx.Sequential(*layers)
        self.norm = nnx.LayerNorm(768, epsilon=1e-6, rngs=rngs)
        self.head = nnx.Linear(768, 1000, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.norm(self.features(x).mean((1, 2))))


class Twice(nnx.Module):
    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs):
        self.conv1 = convolution(inputs, outputs, 3, use_bias=True, rngs=rngs)
        self.conv2 = convolution(outputs, outputs, 3, use_bias=True, rngs=rngs)
        self.bn1, self.bn2 = nnx.BatchNorm(outputs, rngs=rngs), nnx.BatchNorm(outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.bn1(self.conv1(x)))
        return nnx.relu(self.bn2(self.conv2(x)))


class UNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        pairs = list(pairwise((32, 64, 128, 256)))
        self.first = Twice(3, 32, rngs)
        self.down = nnx.List(Twice(a, b, rngs) for a, b in pairs)
        self.up = nnx.List(
            nnx.ConvTranspose(b, a, (2, 2), 2, rngs=rngs) for a, b in reversed(pairs)
        )
        self.merge = nnx.List(Twice(2 * a, a, rngs) for a, _ in reversed(pairs))
        self.last = convolution(32, 2, 1, use_bias=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        levels = [self.first(x)]
        for down in self.down:
            levels.append(down(nnx.max_pool(levels[-1], (2, 2), (2, 2))))
        y = levels.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            y = merge(jnp.concatenate([levels.pop(), up(y)], -1))
        return self.last(y)


class BERTLayer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, width: int = 768, heads: int = 12):
        self.query, self.key, self.value, self.output = (
            nnx.data(nnx.Linear(width, width, rngs=rngs)) for _ in range(4)
        )
        self.expand = nnx.Linear(width, 4 * width, rngs=rngs)
        self.project = nnx.Linear(4 * width, width, rngs=rngs)
        self.norm1 = nnx.LayerNorm(width, epsilon=1e-12, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, epsilon=1e-12, rngs=rngs)
        self.heads = heads

    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*x.shape[:2], self.heads, x.shape[2] // self.heads)
        q, k, v = (f(x).reshape(shape) for f in (self.query, self.key, self.value))
        mixed = nnx.dot_product_attention(q, k, v).reshape(x.shape)
        x = self.norm1(x + self.output(mixed))
        return self.norm2(x + self.project(nnx.gelu(self.expand(x), approximate=False)))


class BERTBase(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.words = nnx.Embed(30522, 768, rngs=rngs)
        self.positions = nnx.Embed(512, 768, rngs=rngs)
        self.norm = nnx.LayerNorm(768, epsilon=1e-12, rngs=rngs)
        self.layers = nnx.Sequential(*(BERTLayer(rngs) for _ in range(12)))

    def __call__(self, ids: jax.Array) -> jax.Array:
        x = self.words(ids) + self.positions(jnp.arange(ids.shape[1]))[None]
        return self.layers(self.norm(x))


class GPT2Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, width: int = 768, heads: int = 12):
        self.ln_1 = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.ln_2 = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.c_attn = nnx.Linear(width, 3 * width, rngs=rngs)
        self.c_proj = nnx.Linear(width, width, rngs=rngs)
        self.c_fc = nnx.Linear(width, 4 * width, rngs=rngs)
        self.c_out = nnx.Linear(4 * width, width, rngs=rngs)
        self.heads = heads

    def __call__(self, x: jax.Array) -> jax.Array:
        length = x.shape[1]
        shape = (*x.shape[:2], self.heads, x.shape[2] // self.heads)
        q, k, v = (p.reshape(shape) for p in jnp.split(self.c_attn(self.ln_1(x)), 3, -1))
        mask = jnp.tril(jnp.ones((1, 1, length, length), bool))
        mixed = nnx.dot_product_attention(q, k, v, mask=mask).reshape(x.shape)
        x = x + self.c_proj(mixed)
        return x + self.c_out(nnx.gelu(self.c_fc(self.ln_2(x))))


class LlamaBlock(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, width: int = 1024, heads: int = 16, hidden: int = 2816):
        def linear(inputs: int, outputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, use_bias=False, rngs=rngs)

        self.norm1 = nnx.RMSNorm(width, rngs=rngs)
        self.norm2 = nnx.RMSNorm(width, rngs=rngs)
        self.q, self.k, self.v, self.o = (nnx.data(linear(width, width)) for _ in range(4))
        self.gate, self.up = linear(width, hidden), linear(width, hidden)
        self.down = linear(hidden, width)
        self.heads = heads

    def __call__(self, x: jax.Array) -> jax.Array:
        length = x.shape[1]
        shape = (*x.shape[:2], self.heads, x.shape[2] // self.heads)
        y = self.norm1(x)
        q, k, v = (f(y).reshape(shape) for f in (self.q, self.k, self.v))
        q, k = (rotated(a) for a in (q, k))
        mask = jnp.tril(jnp.ones((1, 1, length, length), bool))
        x = x + self.o(nnx.dot_product_attention(q, k, v, mask=mask).reshape(x.shape))
        y = self.norm2(x)
        return x + self.down(nnx.silu(self.gate(y)) * self.up(y))


def rotated(x: jax.Array) -> jax.Array:
    """Rotary positions, of (batch, length, heads, width)."""
    length, width = x.shape[1], x.shape[3]
    rates = 1.0 / 10000 ** (jnp.arange(0, width, 2) / width)
    angles = jnp.tile(jnp.arange(length)[:, None] * rates, 2)[None, :, None]
    cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)
    a, b = jnp.split(x, 2, -1)
    return x * cos + jnp.concatenate([-b, a], -1) * sin


class LSTMLanguageModel(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, words: int = 5000, width: int = 256):
        self.embedding = nnx.Embed(words, width, rngs=rngs)
        self.lstm = nnx.Sequential(
            *(nnx.RNN(nnx.LSTMCell(width, width, rngs=rngs), time_major=True) for _ in range(2))
        )
        self.decoder = nnx.Linear(width, words, rngs=rngs)

    def __call__(self, ids: jax.Array) -> jax.Array:
        return self.decoder(self.lstm(self.embedding(ids)))


MODELS: dict[str, Callable[[nnx.Rngs], nnx.Module]] = {
    "ResNet50": ResNet50, "ConvNeXtTiny": ConvNeXtTiny, "UNet": UNet, "BERTLayer": BERTLayer,
    "BERTBase": BERTBase, "GPT2Block": GPT2Block, "LlamaBlock": LlamaBlock,
    "LSTMLanguageModel": LSTMLanguageModel,
}  # fmt: skip
