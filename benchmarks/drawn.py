"""Entries of sizes and options that nobody chose: drawn from realistic ranges, by a seed.

A formulation that was fitted to the sizes of a table shows here. Each family draws what people
give such layers, below a cost at which one call still takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from statistics import geometric_mean, quantiles
from typing import Any

import numpy as np

from .entries import (
    Entry,
    Inputs,
    Normal,
    Uniform,
    Whole,
    connectionist,
    convolution,
    function,
)

BARS = {"mean": 1.0, "ninth decile": 1.3}
ELEMENTS = 4_000_000
"""Of the largest input."""
FLOPS = 2e9


class Draw:
    """Numbers of the kinds that sizes are."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def of(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def between(self, low: int, high: int) -> int:
        """A whole number, as likely to be small as large: uniform in its logarithm."""
        return int(np.exp(self.rng.uniform(np.log(low), np.log(high + 1))))

    def plane(self, channels: int | None = None) -> tuple[int, int, int, int]:
        """Images (batch, channels, height, width) that stand somewhere in a network."""
        channels = channels or self.of(3, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 384, 512)
        height = self.between(7, 160)
        width = self.of(height, height, height, self.between(7, 160))
        batch = self.between(1, 32)
        while batch * channels * height * width > ELEMENTS and batch > 1:
            batch //= 2
        while batch * channels * height * width > ELEMENTS:
            height, width = max(7, height // 2), max(7, width // 2)
        return batch, channels, height, width

    def rows(self) -> tuple[int, int, int]:
        """Sequences (batch, length, width)."""
        width = self.of(64, 96, 128, 256, 320, 384, 512, 768, 1024, 1280, 2048)
        length, batch = self.between(1, 1024), self.between(1, 64)
        while batch * length * width > ELEMENTS:
            batch, length = (batch // 2, length) if batch > 1 else (batch, length // 2)
        return batch, length, width


def entries(family: str, count: int, seed: int) -> Iterator[Entry]:
    """Entries of one family, always the same for a seed."""
    draw = Draw(np.random.default_rng([seed, *family.encode()]))
    for _ in range(count):
        name, make, inputs = FAMILIES[family](draw)
        yield Entry(name, family, make, (inputs,), (None, None))


def verdict(rows: list[dict[str, Any]], phase: str) -> dict[str, float]:
    """The geometric mean of the rows' ratios to torch, and their ninth decile."""
    ratios = [row[phase]["ratio"] for row in rows]
    worst = quantiles(ratios, n=10, method="inclusive")[8] if len(ratios) > 1 else ratios[0]
    return {"mean": geometric_mean(ratios), "ninth decile": worst}


Drawn = tuple[str, Callable[[Any], Any], Inputs]


def _module(name: str, inputs: Inputs, *arguments: Any, **options: Any) -> Drawn:
    told = [*map(str, arguments), *(f"{k}={v}" for k, v in options.items())]
    make: Callable[[Any], Any] = lambda nn: getattr(nn, name)(*arguments, **options)  # noqa: E731
    return f"{name}({', '.join(told)})", make, inputs


def _pooling(draw: Draw) -> Drawn:
    kind = draw.of("MaxPool2d", "MaxPool2d", "AvgPool2d")
    kernel, stride, padding = draw.of((2, 2, 0), (3, 2, 1), (3, 1, 1), (3, 2, 0), (5, 1, 2))
    return _module(kind, (Normal(draw.plane()),), kernel, stride, padding)


def _adaptive(draw: Draw) -> Drawn:
    kind = draw.of("AdaptiveAvgPool2d", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d")
    return _module(kind, (Normal(draw.plane()),), draw.of(1, 1, 2, 3, 5, 6, 7))


def _statistics(draw: Draw) -> Drawn:
    shape = draw.plane()
    return _module(draw.of("BatchNorm2d", "BatchNorm2d", "InstanceNorm2d"), (Normal(shape),),
                   shape[1])  # fmt: skip


def _normalization(draw: Draw) -> Drawn:
    kind = draw.of("LayerNorm", "LayerNorm", "RMSNorm", "GroupNorm", "Softmax", "LogSoftmax")
    if kind == "GroupNorm":
        shape = draw.plane(draw.of(32, 64, 96, 128, 192, 256))
        return _module(kind, (Normal(shape),), draw.of(1, 4, 8, 32), shape[1])
    shape = draw.rows()
    return _module(kind, (Normal(shape),), -1 if kind.endswith("Softmax") else shape[2])


def _embedding(draw: Draw) -> Drawn:
    words, width = draw.between(100, 50000), draw.of(16, 32, 64, 128, 256, 512)
    kind = draw.of("Embedding", "EmbeddingBag")
    shape = (draw.between(8, 1024), draw.between(2, 128 if kind == "Embedding" else 32))
    while shape[0] * shape[1] * width > ELEMENTS:
        shape = (shape[0] // 2, shape[1])
    options = {} if kind == "Embedding" else {"mode": draw.of("sum", "mean")}
    return _module(kind, (Whole(shape, words),), words, width, **options)


def _convolved(draw: Draw, groups: Callable[[int], int], kernels: tuple[int, ...]) -> Drawn:
    while True:
        shape = draw.plane()
        count = groups(shape[1])
        outputs = shape[1] if count > 1 else draw.of(16, 32, 64, 96, 128, 192, 256, 512)
        kernel, stride = draw.of(*kernels), draw.of(1, 1, 1, 2)
        work = 2 * np.prod(shape) * outputs * kernel**2 / count / stride**2
        if shape[1] % count == 0 and work < FLOPS:
            break
    options = {"stride": stride, "padding": kernel // 2, "groups": count}
    make = partial(_convolution, shape[1], outputs, kernel, **options)
    told = ", ".join(f"{k}={v}" for k, v in options.items())
    return f"Conv2d({shape[1]}, {outputs}, {kernel}, {told})", make, (Normal(shape),)


def _convolution(*arguments: int, **options: int) -> Any:
    *sizes, nn = arguments
    return convolution(nn, *sizes, **options)


def _dense(draw: Draw) -> Drawn:
    return _convolved(draw, lambda _: 1, (1, 1, 3, 3, 3, 5, 7))


def _depthwise(draw: Draw) -> Drawn:
    return _convolved(draw, lambda channels: channels, (3, 3, 5, 7))


def _grouped(draw: Draw) -> Drawn:
    count = draw.of(2, 4, 8, 16, 32)
    return _convolved(draw, lambda channels: count if channels > count else 2, (3, 3, 1, 5))


def _transposed(draw: Draw) -> Drawn:
    while True:
        shape = draw.plane(draw.of(16, 32, 64, 128, 256))
        outputs = draw.of(8, 16, 32, 64, 128)
        kernel, stride, padding = draw.of((2, 2, 0), (4, 2, 1), (3, 2, 1), (3, 1, 1))
        if 2 * np.prod(shape) * outputs * kernel**2 < FLOPS:
            break
    return _module("ConvTranspose2d", (Normal(shape),), shape[1], outputs, kernel, stride, padding)


def _linear(draw: Draw) -> Drawn:
    while True:
        batch, length, width = draw.rows()
        outputs = draw.of(width, width, 4 * width, 10, 1000, max(1, width // 4))
        if 2 * batch * length * width * outputs < 4 * FLOPS:
            break
    return _module("Linear", (Normal((batch * length, width)),), width, outputs)


def _recurrent(draw: Draw) -> Drawn:
    width, hidden = draw.of(32, 64, 128, 256), draw.of(32, 64, 128, 256, 512)
    shape = (draw.between(4, 128), draw.between(1, 64), width)
    options = draw.of({}, {}, {"num_layers": 2}, {"bidirectional": True})
    return _module(draw.of("LSTM", "GRU"), (Normal(shape),), width, hidden, **options)


def _attention(draw: Draw) -> Drawn:
    heads, width = draw.of(4, 8, 12, 16), draw.of(32, 64, 64, 128)
    length, batch = draw.between(16, 1024), draw.between(1, 8)
    while batch * heads * length**2 * width * 4 > 2 * FLOPS:
        batch, length = (batch // 2, length) if batch > 1 else (batch, length // 2)
    options = draw.of({}, {}, {"is_causal": True})
    shape = Normal((batch, heads, length, width))
    make = function("scaled_dot_product_attention", **options)
    return f"SDPA({options or ''})", make, (shape,) * 3


def _loss(draw: Draw) -> Drawn:
    kind = draw.of("CrossEntropyLoss", "NLLLoss", "MSELoss", "SmoothL1Loss", "BCEWithLogitsLoss")
    count, classes = draw.between(32, 8192), draw.between(8, 32000)
    while count * classes > 16 * ELEMENTS:
        count //= 2
    if kind in ("CrossEntropyLoss", "NLLLoss"):
        return _module(kind, (Normal((count, classes)), Whole((count,), classes)))
    return _module(kind, (Normal((count, min(classes, 512))),) * 2)


def _ctc(draw: Draw) -> Drawn:
    time, batch, classes = draw.between(40, 300), draw.between(1, 32), draw.of(28, 32, 64, 128)
    targets = Whole((batch, draw.between(5, time // 4)), classes, 1)
    return "CTCLoss", connectionist, (Normal((time, batch, classes)), targets)


def _upsampling(draw: Draw) -> Drawn:
    mode, scale = draw.of("nearest", "bilinear", "bilinear", "bicubic"), draw.of(2, 2, 4, 1.5, 0.5)
    shape = draw.plane()
    while np.prod(shape) * scale**2 > 2 * ELEMENTS:
        shape = draw.plane()
    make = function("interpolate", scale_factor=scale, mode=mode)
    return f"interpolate({scale}, {mode})", make, (Normal(shape),)


def _folding(draw: Draw) -> Drawn:
    shape = draw.plane()
    while np.prod(shape) * 9 > 2 * ELEMENTS:
        shape = draw.plane()
    if draw.of(True, False) or shape[1] % 4:
        return _module("Unfold", (Normal(shape),), draw.of(2, 3), padding=1)
    return _module("PixelShuffle", (Normal(shape),), 2)


def _grid(draw: Draw) -> Drawn:
    shape = draw.plane()
    while np.prod(shape) > ELEMENTS // 2:
        shape = draw.plane()
    grid = Uniform((shape[0], *shape[2:], 2))
    make = function("grid_sample", mode=draw.of("bilinear", "nearest"), align_corners=False)
    return "grid_sample", make, (Normal(shape), grid)


def _activation(draw: Draw) -> Drawn:
    kind = draw.of("GELU", "SiLU", "Mish", "ELU", "Tanh", "Hardswish", "ReLU", "Sigmoid")
    return _module(kind, (Normal(draw.of(draw.rows, draw.plane)()),))


FAMILIES: dict[str, Callable[[Draw], Drawn]] = {
    "pooling": _pooling, "adaptive pooling": _adaptive, "batch statistics": _statistics,
    "normalization": _normalization, "embedding": _embedding, "convolution": _dense,
    "depthwise convolution": _depthwise, "grouped convolution": _grouped,
    "transposed convolution": _transposed, "linear": _linear, "recurrent": _recurrent,
    "attention": _attention, "loss": _loss, "CTC": _ctc, "upsampling": _upsampling,
    "folding": _folding, "grid_sample": _grid, "activation": _activation,
}  # fmt: skip
