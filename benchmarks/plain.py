"""Layers as one writes them in jax.numpy and lax, without a thought of speed.

What an accelerator's compiler makes of these is what a layer of jaxnn is measured by where Flax
and Equinox have no such layer. Each gets the layer's parameters by torch's names, and its inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Parameters = dict[str, Any]


def _pooled(x: Any, start: float, reduce: Any, kernel: int, stride: int, padding: int = 0) -> Any:
    spatial = x.ndim - 2
    pads = ((0, 0), (0, 0), *((padding, padding),) * spatial)
    window, strides = (1, 1, *(kernel,) * spatial), (1, 1, *(stride,) * spatial)
    return lax.reduce_window(x, start, reduce, window, strides, pads)


max_pool = partial(_pooled, start=-jnp.inf, reduce=lax.max)
sum_pool = partial(_pooled, start=0.0, reduce=lax.add)


def adaptive(x: Any, size: int, reduce: Callable[..., Any]) -> Any:
    """Bins of one dimension after the other."""
    for axis in (2, 3):
        length = x.shape[axis]
        bins = [
            lax.slice_in_dim(x, i * length // size, -(-(i + 1) * length // size), axis=axis)
            for i in range(size)
        ]
        x = jnp.stack([reduce(b, axis=axis) for b in bins], axis)
    return x


def convolution(
    x: Any, weight: Any, stride: int = 1, padding: int = 0, groups: int = 1, bias: Any = None
) -> Any:
    y = lax.conv_general_dilated(
        x, weight, (stride, stride), [(padding, padding)] * 2, feature_group_count=groups
    )
    return y if bias is None else y + bias[:, None, None]


def transposed_convolution(x: Any, weight: Any, bias: Any, stride: int, padding: int) -> Any:
    kernel = weight.shape[-1]
    pads = [(kernel - 1 - padding,) * 2] * 2
    y = lax.conv_general_dilated(
        x, jnp.flip(weight, (2, 3)).swapaxes(0, 1), (1, 1), pads, lhs_dilation=(stride, stride)
    )
    return y + bias[:, None, None]


def instance_norm(x: Any, eps: float = 1e-5) -> Any:
    mean, variance = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    return (x - mean) * lax.rsqrt(variance + eps)


def bag(p: Parameters, ids: Any, reduce: Callable[..., Any]) -> Any:
    return reduce(p["weight"][ids], axis=1)


def lstm(p: Parameters, x: Any, layers: int = 1, directions: int = 1) -> Any:
    def layer(x: Any, suffix: str, reverse: bool) -> Any:
        w_ih, w_hh = p[f"weight_ih_{suffix}"], p[f"weight_hh_{suffix}"]
        bias = p[f"bias_ih_{suffix}"] + p[f"bias_hh_{suffix}"]

        def step(carry: Any, row: Any) -> Any:
            h, c = carry
            i, f, g, o = jnp.split(row + h @ w_hh.T, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((x.shape[1], w_hh.shape[1]), x.dtype)
        return lax.scan(step, (zeros, zeros), x @ w_ih.T + bias, reverse=reverse)[1]

    return _stacked(layer, x, layers, directions)


def gru(p: Parameters, x: Any, layers: int = 1) -> Any:
    def layer(x: Any, suffix: str, reverse: bool) -> Any:
        w_ih, w_hh = p[f"weight_ih_{suffix}"], p[f"weight_hh_{suffix}"]
        b_ih, b_hh = p[f"bias_ih_{suffix}"], p[f"bias_hh_{suffix}"]

        def step(h: Any, row: Any) -> Any:
            r_i, z_i, n_i = jnp.split(row, 3, -1)
            r_h, z_h, n_h = jnp.split(h @ w_hh.T + b_hh, 3, -1)
            r, z = jax.nn.sigmoid(r_i + r_h), jax.nn.sigmoid(z_i + z_h)
            h = (1 - z) * jnp.tanh(n_i + r * n_h) + z * h
            return h, h

        zeros = jnp.zeros((x.shape[1], w_hh.shape[1]), x.dtype)
        return lax.scan(step, zeros, x @ w_ih.T + b_ih, reverse=reverse)[1]

    return _stacked(layer, x, layers, 1)


def _stacked(layer: Callable[..., Any], x: Any, layers: int, directions: int) -> Any:
    for index in range(layers):
        made = [layer(x, f"l{index}", False)]
        if directions == 2:
            made.append(layer(x, f"l{index}_reverse", True))
        x = jnp.concatenate(made, -1)
    return x


def attention(q: Any, k: Any, v: Any, is_causal: bool = False) -> Any:
    scores = jnp.einsum("bhqd,bhkd->bhqk", q, k) * q.shape[-1] ** -0.5
    if is_causal:
        mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        scores = jnp.where(mask, scores, -jnp.inf)
    return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores, -1), v)


def multihead_attention(p: Parameters, x: Any, heads: int = 8, prefix: str = "") -> Any:
    batch, length, width = x.shape
    rows = x @ p[f"{prefix}in_proj_weight"].T + p[f"{prefix}in_proj_bias"]
    q, k, v = (
        part.reshape(batch, length, heads, width // heads).swapaxes(1, 2)
        for part in jnp.split(rows, 3, -1)
    )
    mixed = attention(q, k, v).swapaxes(1, 2).reshape(x.shape)
    return mixed @ p[f"{prefix}out_proj.weight"].T + p[f"{prefix}out_proj.bias"]


def layer_norm(x: Any, weight: Any, bias: Any, eps: float = 1e-5) -> Any:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + eps) * weight + bias


def encoder_layer(p: Parameters, x: Any) -> Any:
    y = x + multihead_attention(p, x, prefix="self_attn.")
    y = layer_norm(y, p["norm1.weight"], p["norm1.bias"])
    hidden = jax.nn.relu(y @ p["linear1.weight"].T + p["linear1.bias"])
    y = y + hidden @ p["linear2.weight"].T + p["linear2.bias"]
    return layer_norm(y, p["norm2.weight"], p["norm2.bias"])


def cross_entropy(x: Any, target: Any, smoothing: float = 0.0) -> Any:
    logs = jax.nn.log_softmax(x, -1)
    picked = -jnp.take_along_axis(logs, target[:, None], 1)[:, 0]
    if smoothing:
        picked = (1 - smoothing) * picked - smoothing * logs.mean(-1)
    return picked.mean()


def nll(x: Any, target: Any) -> Any:
    return -jnp.take_along_axis(x, target[:, None], 1).mean()


def smooth_l1(x: Any, y: Any) -> Any:
    d = jnp.abs(x - y)
    return jnp.where(d < 1, 0.5 * d * d, d - 0.5).mean()


def binary_cross_entropy(x: Any, y: Any) -> Any:
    y = y * 0 + 1
    return (jax.nn.softplus(x) - x * y).mean()


def ctc(scores: Any, targets: Any) -> Any:
    import optax

    time, batch, _ = scores.shape
    losses = optax.ctc_loss(
        scores.swapaxes(0, 1), jnp.zeros((batch, time), scores.dtype),
        targets, jnp.zeros(targets.shape, scores.dtype),
    )  # fmt: skip
    return (losses / targets.shape[1]).mean()


def resized(x: Any, method: str, scale: float = 2.0) -> Any:
    shape = (*x.shape[:2], *(int(s * scale) for s in x.shape[2:]))
    return jax.image.resize(x, shape, method, antialias=False)


def unfold(x: Any, kernel: int, padding: int) -> Any:
    patches = lax.conv_general_dilated_patches(x, (kernel,) * 2, (1, 1), [(padding, padding)] * 2)
    return patches.reshape(*patches.shape[:2], -1)


def fold(x: Any, size: int, kernel: int, padding: int) -> Any:
    batch, rows, _ = x.shape
    shape = (batch, rows // kernel**2, size, size)
    made = partial(unfold, kernel=kernel, padding=padding)
    return jax.linear_transpose(made, jax.ShapeDtypeStruct(shape, x.dtype))(x)[0]


def pixel_shuffle(x: Any, factor: int) -> Any:
    n, c, h, w = x.shape
    y = x.reshape(n, c // factor**2, factor, factor, h, w).transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // factor**2, h * factor, w * factor)


def grid_sample(x: Any, grid: Any) -> Any:
    height, width = x.shape[2:]
    column = ((grid[..., 0] + 1) * width - 1) / 2
    row = ((grid[..., 1] + 1) * height - 1) / 2
    left, top = jnp.floor(column), jnp.floor(row)

    def corner(r: Any, c: Any, weight: Any) -> Any:
        inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
        ri = jnp.clip(r, 0, height - 1).astype(jnp.int32)
        ci = jnp.clip(c, 0, width - 1).astype(jnp.int32)
        picked = jax.vmap(lambda image, i, j: image[:, i, j])(x, ri, ci)
        return picked * jnp.where(inside, weight, 0)[:, None]

    right, low = column - left, row - top
    return (
        corner(top, left, (1 - low) * (1 - right)) + corner(top, left + 1, (1 - low) * right)
        + corner(top + 1, left, low * (1 - right)) + corner(top + 1, left + 1, low * right)
    )  # fmt: skip


PLAIN: dict[str, Callable[..., Any]] = {
    "MaxPool1d 3/2/1": lambda p, x: max_pool(x, kernel=3, stride=2, padding=1),
    "MaxPool3d 2": lambda p, x: max_pool(x, kernel=2, stride=2),
    "AvgPool2d 2": lambda p, x: sum_pool(x, kernel=2, stride=2) / 4,
    "LPPool2d 2, 3/2": lambda p, x: jnp.sqrt(sum_pool(x * x, kernel=3, stride=2)),
    "AdaptiveAvgPool2d 7": lambda p, x: adaptive(x, 7, jnp.mean),
    "AdaptiveAvgPool2d 5": lambda p, x: adaptive(x, 5, jnp.mean),
    "AdaptiveMaxPool2d 7": lambda p, x: adaptive(x, 7, jnp.max),
    "InstanceNorm2d": lambda p, x: instance_norm(x),
    "softmax": lambda p, x: jax.nn.softmax(x, -1),
    "log_softmax": lambda p, x: jax.nn.log_softmax(x, -1),
    "EmbeddingBag 30000 x 128, sum": lambda p, ids: bag(p, ids, jnp.sum),
    "EmbeddingBag 30000 x 128, mean": lambda p, ids: bag(p, ids, jnp.mean),
    "Conv2d depthwise 3x3, stride 2": lambda p, x: convolution(x, p["weight"], 2, 1, 64),
    "Conv2d depthwise 7x7": lambda p, x: convolution(x, p["weight"], 1, 3, 64),
    "Conv2d groups=32": lambda p, x: convolution(x, p["weight"], 1, 1, 32),
    "ConvTranspose2d 4/2/1": lambda p, x: transposed_convolution(x, p["weight"], p["bias"], 2, 1),
    "ConvTranspose2d 2/2": lambda p, x: transposed_convolution(x, p["weight"], p["bias"], 2, 0),
    "LSTM": lstm,
    "LSTM, 2 layers": partial(lstm, layers=2),
    "LSTM, bidirectional": partial(lstm, directions=2),
    "GRU": gru,
    "GRU, 2 layers": partial(gru, layers=2),
    "SDPA": lambda p, q, k, v: attention(q, k, v),
    "SDPA, causal": lambda p, q, k, v: attention(q, k, v, is_causal=True),
    "MultiheadAttention": multihead_attention,
    "TransformerEncoderLayer": encoder_layer,
    "CrossEntropyLoss": lambda p, x, y: cross_entropy(x, y),
    "CrossEntropyLoss, smoothed": lambda p, x, y: cross_entropy(x, y, 0.1),
    "NLLLoss": lambda p, x, y: nll(x, y),
    "MSELoss": lambda p, x, y: ((x - y) ** 2).mean(),
    "SmoothL1Loss": lambda p, x, y: smooth_l1(x, y),
    "KLDivLoss": lambda p, x, y: (jnp.exp(y) * (y - x)).sum() / x.shape[0],
    "BCEWithLogitsLoss": lambda p, x, y: binary_cross_entropy(x, y),
    "CTCLoss": lambda p, x, y: ctc(x, y),
    "Upsample 2x, nearest": lambda p, x: x.repeat(2, 2).repeat(2, 3),
    "Upsample 2x, bilinear": lambda p, x: resized(x, "bilinear"),
    "Upsample 2x, bicubic": lambda p, x: resized(x, "bicubic"),
    "interpolate 1.5x, bilinear": lambda p, x: resized(x, "bilinear", 1.5),
    "Unfold 3": lambda p, x: unfold(x, 3, 1),
    "Fold 3": lambda p, x: fold(x, 28, 3, 1),
    "PixelShuffle 2": lambda p, x: pixel_shuffle(x, 2),
    "grid_sample, bilinear": lambda p, x, grid: grid_sample(x, grid),
    "GELU": lambda p, x: jax.nn.gelu(x, approximate=False),
    "SiLU": lambda p, x: jax.nn.silu(x),
    "Mish": lambda p, x: x * jnp.tanh(jax.nn.softplus(x)),
    "ELU": lambda p, x: jax.nn.elu(x),
    "Tanh": lambda p, x: jnp.tanh(x),
    "Hardswish": lambda p, x: jax.nn.hard_swish(x),
}
