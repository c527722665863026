"""What is timed: one entry a layer and formulation, with its sizes and its bar."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import models


@dataclass(frozen=True)
class Normal:
    """A float32 array from the normal distribution."""

    shape: tuple[int, ...]

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal(self.shape, np.float32)


@dataclass(frozen=True)
class Uniform:
    """A float32 array between -1 and 1: coordinates."""

    shape: tuple[int, ...]

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-1, 1, self.shape).astype(np.float32)


@dataclass(frozen=True)
class Whole:
    """Integers from `low`, below `below`."""

    shape: tuple[int, ...]
    below: int
    low: int = 0

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(self.low, self.below, self.shape)


Inputs = tuple[Normal | Uniform | Whole, ...]


@dataclass(frozen=True)
class Entry:
    """One thing to time.

    `make` gets a library, `torch.nn` or `jaxnn`, which name and order everything alike, and gives
    the layer; a model is written in torch and imported. `sizes` are from small to large, and the
    bar is of the middle one: the time of jaxnn over that of torch, forward and forward with
    backward. A model's forward is in evaluation, its other number is a training step. `flax` and
    `equinox` make the peer's own layer, if it has one, for inputs with the channels last (`flax`)
    or without a batch, mapped over it (`equinox`).
    """

    name: str
    family: str
    make: Callable[[Any], Any]
    sizes: tuple[Inputs, ...]
    bar: tuple[float | None, float | None]
    flax: Callable[[Any, Any], Any] | None = None
    equinox: Callable[[Any, Any], Any] | None = None
    imported: bool = False
    has_backward: bool = True

    @property
    def middle(self) -> int:
        """The size that the bar is of."""
        return len(self.sizes) // 2


def function(name: str, **options: Any) -> Callable[[Any], Any]:
    """A function of torch.nn.functional, by its name, with options."""
    return lambda nn: lambda *inputs: getattr(nn.functional, name)(*inputs, **options)


def images(*shapes: tuple[int, ...]) -> tuple[Inputs, ...]:
    return tuple((Normal(shape),) for shape in shapes)


PLANES = images((2, 32, 28, 28), (8, 64, 56, 56), (16, 64, 112, 112))
ROWS = images((8, 64, 256), (32, 128, 512), (32, 256, 1024))
CLASSES = tuple(
    (Normal((n, c)), Whole((n,), c)) for n, c in ((256, 1000), (4096, 32000), (8192, 32000))
)


def convolution(nn: Any, *arguments: Any, **options: Any) -> Any:
    return nn.Conv2d(*arguments, bias=False, **options)


def flax_convolution(
    features: tuple[int, int], kernel: int, **options: Any
) -> Callable[[Any, Any], Any]:
    return lambda nnx, rngs: nnx.Conv(
        *features, (kernel, kernel), use_bias=False, rngs=rngs, **options
    )


def equinox_convolution(*arguments: Any, **options: Any) -> Callable[[Any, Any], Any]:
    return lambda eqx, key: eqx.nn.Conv2d(*arguments, use_bias=False, key=key, **options)


def _pooling() -> list[Entry]:
    bar = (0.3, 0.6)
    return [
        Entry(
            "MaxPool2d 3/2/1", "pooling", lambda nn: nn.MaxPool2d(3, 2, 1), PLANES, bar,
            flax=lambda nnx, _: lambda x: nnx.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))),
            equinox=lambda eqx, _: eqx.nn.MaxPool2d(3, 2, 1),
        ),
        Entry(
            "MaxPool2d 2", "pooling", lambda nn: nn.MaxPool2d(2), PLANES, bar,
            flax=lambda nnx, _: lambda x: nnx.max_pool(x, (2, 2), (2, 2)),
            equinox=lambda eqx, _: eqx.nn.MaxPool2d(2, 2),
        ),
        Entry("MaxPool1d 3/2/1", "pooling", lambda nn: nn.MaxPool1d(3, 2, 1),
              images((4, 32, 256), (16, 64, 2048), (32, 128, 4096)), bar),
        Entry("MaxPool3d 2", "pooling", lambda nn: nn.MaxPool3d(2),
              images((1, 8, 8, 16, 16), (2, 16, 16, 32, 32), (4, 32, 16, 56, 56)), bar),
        Entry(
            "AvgPool2d 3/2/1", "pooling", lambda nn: nn.AvgPool2d(3, 2, 1), PLANES, bar,
            flax=lambda nnx, _: lambda x: nnx.avg_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))),
            equinox=lambda eqx, _: eqx.nn.AvgPool2d(3, 2, 1),
        ),
        Entry("AvgPool2d 2", "pooling", lambda nn: nn.AvgPool2d(2), PLANES, bar),
        Entry("LPPool2d 2, 3/2", "pooling", lambda nn: nn.LPPool2d(2, 3, 2), PLANES, bar),
        Entry(
            "MaxUnpool2d 2", "pooling",
            lambda nn: lambda x: nn.functional.max_unpool2d(
                *nn.functional.max_pool2d(x, 2, return_indices=True), 2
            ),
            PLANES, bar,
        ),
        Entry("AdaptiveAvgPool2d 7", "adaptive pooling", lambda nn: nn.AdaptiveAvgPool2d(7),
              PLANES, (0.5, 0.7)),
        Entry("AdaptiveAvgPool2d 5", "adaptive pooling", lambda nn: nn.AdaptiveAvgPool2d(5),
              PLANES, (0.5, 0.7)),
        Entry("AdaptiveMaxPool2d 7", "adaptive pooling", lambda nn: nn.AdaptiveMaxPool2d(7),
              PLANES, (0.5, 0.7)),
    ]  # fmt: skip


def _normalization() -> list[Entry]:
    statistics, own = (0.3, 0.8), (1.0, 1.5)
    return [
        Entry(
            "BatchNorm2d, training", "batch statistics", lambda nn: nn.BatchNorm2d(64),
            images((2, 64, 28, 28), (8, 64, 56, 56), (16, 64, 112, 112)), statistics,
            flax=lambda nnx, rngs: nnx.BatchNorm(64, use_running_average=False, rngs=rngs),
        ),
        Entry("InstanceNorm2d", "batch statistics", lambda nn: nn.InstanceNorm2d(64),
              images((2, 64, 28, 28), (8, 64, 56, 56), (16, 64, 112, 112)), statistics),
        Entry(
            "LayerNorm 512", "normalization", lambda nn: nn.LayerNorm(512),
            images((4, 32, 512), (32, 128, 512), (64, 256, 512)), own,
            flax=lambda nnx, rngs: nnx.LayerNorm(512, epsilon=1e-5, rngs=rngs),
            equinox=lambda eqx, _: eqx.filter_vmap(eqx.nn.LayerNorm(512)),
        ),
        Entry(
            "RMSNorm 512", "normalization", lambda nn: nn.RMSNorm(512),
            images((4, 32, 512), (32, 128, 512), (64, 256, 512)), own,
            flax=lambda nnx, rngs: nnx.RMSNorm(512, epsilon=1.1920929e-07, rngs=rngs),
        ),
        Entry(
            "GroupNorm 8", "normalization", lambda nn: nn.GroupNorm(8, 64),
            images((2, 64, 28, 28), (8, 64, 56, 56), (16, 64, 112, 112)), own,
            flax=lambda nnx, rngs: nnx.GroupNorm(64, num_groups=8, epsilon=1e-5, rngs=rngs),
            equinox=lambda eqx, _: eqx.nn.GroupNorm(8, 64),
        ),
        Entry("softmax", "normalization", lambda nn: nn.Softmax(-1), ROWS, own),
        Entry("log_softmax", "normalization", lambda nn: nn.LogSoftmax(-1), ROWS, own),
    ]  # fmt: skip


def _embedding() -> list[Entry]:
    return [
        Entry(
            "Embedding 30000 x 512", "embedding", lambda nn: nn.Embedding(30000, 512),
            tuple((Whole(s, 30000),) for s in ((8, 32), (32, 128), (64, 512))), (0.9, 0.9),
            flax=lambda nnx, rngs: nnx.Embed(30000, 512, rngs=rngs),
        ),
        Entry("EmbeddingBag 30000 x 128, sum", "embedding",
              lambda nn: nn.EmbeddingBag(30000, 128, mode="sum"),
              tuple((Whole(s, 30000),) for s in ((64, 8), (512, 32), (2048, 64))), (0.8, 1.0)),
        Entry("EmbeddingBag 30000 x 128, mean", "embedding",
              lambda nn: nn.EmbeddingBag(30000, 128, mode="mean"),
              tuple((Whole(s, 30000),) for s in ((64, 8), (512, 32), (2048, 64))), (0.8, 1.0)),
    ]  # fmt: skip


def _convolution() -> list[Entry]:
    dense, depthwise, grouped = (1.0, 1.2), (0.6, 1.0), (1.0, 1.3)
    planes = images((2, 64, 14, 14), (8, 64, 56, 56), (16, 64, 112, 112))
    return [
        Entry("Conv2d 1x1", "convolution", lambda nn: convolution(nn, 64, 128, 1), planes, dense,
              flax=flax_convolution((64, 128), 1), equinox=equinox_convolution(64, 128, 1)),
        Entry("Conv2d 3x3", "convolution", lambda nn: convolution(nn, 64, 64, 3, padding=1),
              planes, dense, flax=flax_convolution((64, 64), 3),
              equinox=equinox_convolution(64, 64, 3, padding=1)),
        Entry("Conv2d 7x7, stride 2", "convolution",
              lambda nn: convolution(nn, 3, 64, 7, stride=2, padding=3),
              images((2, 3, 64, 64), (8, 3, 224, 224), (16, 3, 224, 224)), dense,
              flax=flax_convolution((3, 64), 7, strides=2, padding=3)),
        Entry("Conv2d depthwise 3x3", "depthwise convolution",
              lambda nn: convolution(nn, 64, 64, 3, padding=1, groups=64), planes, depthwise,
              flax=flax_convolution((64, 64), 3, feature_group_count=64)),
        Entry("Conv2d depthwise 3x3, stride 2", "depthwise convolution",
              lambda nn: convolution(nn, 64, 64, 3, stride=2, padding=1, groups=64),
              planes, depthwise),
        Entry("Conv2d depthwise 7x7", "depthwise convolution",
              lambda nn: convolution(nn, 64, 64, 7, padding=3, groups=64), planes, depthwise),
        Entry("Conv2d groups=4", "grouped convolution",
              lambda nn: convolution(nn, 64, 64, 3, padding=1, groups=4), planes, grouped,
              flax=flax_convolution((64, 64), 3, feature_group_count=4)),
        Entry("Conv2d groups=32", "grouped convolution",
              lambda nn: convolution(nn, 128, 128, 3, padding=1, groups=32),
              images((2, 128, 14, 14), (8, 128, 28, 28), (16, 128, 56, 56)), grouped),
        Entry("ConvTranspose2d 4/2/1", "transposed convolution",
              lambda nn: nn.ConvTranspose2d(64, 32, 4, 2, 1),
              images((2, 64, 14, 14), (8, 64, 28, 28), (16, 64, 56, 56)), (0.8, 1.2)),
        Entry("ConvTranspose2d 2/2", "transposed convolution",
              lambda nn: nn.ConvTranspose2d(64, 32, 2, 2),
              images((2, 64, 14, 14), (8, 64, 28, 28), (16, 64, 56, 56)), (0.8, 1.2)),
        Entry("Linear", "linear", lambda nn: nn.Linear(512, 512),
              images((32, 512), (4096, 512), (16384, 512)), (1.0, 1.2),
              flax=lambda nnx, rngs: nnx.Linear(512, 512, rngs=rngs),
              equinox=lambda eqx, key: eqx.nn.Linear(512, 512, key=key)),
    ]  # fmt: skip


def _recurrent() -> list[Entry]:
    sizes = images((16, 4, 256), (64, 32, 256), (128, 64, 256))
    bar = (1.0, 1.2)
    return [
        Entry("LSTM", "recurrent", lambda nn: nn.LSTM(256, 256), sizes, bar,
              flax=lambda nnx, rngs: nnx.RNN(nnx.LSTMCell(256, 256, rngs=rngs), time_major=True)),
        Entry("LSTM, 2 layers", "recurrent", lambda nn: nn.LSTM(256, 256, 2), sizes, bar),
        Entry("LSTM, bidirectional", "recurrent",
              lambda nn: nn.LSTM(256, 256, bidirectional=True), sizes, bar),
        Entry("GRU", "recurrent", lambda nn: nn.GRU(256, 256), sizes, bar),
        Entry("GRU, 2 layers", "recurrent", lambda nn: nn.GRU(256, 256, 2), sizes, bar),
    ]  # fmt: skip


def _attention() -> list[Entry]:
    heads = tuple((Normal(s),) * 3 for s in ((2, 4, 64, 64), (4, 8, 512, 64), (4, 12, 1024, 64)))
    rows = images((2, 64, 256), (8, 128, 256), (8, 512, 256))
    return [
        Entry("SDPA", "attention", function("scaled_dot_product_attention"), heads, (0.8, 1.0)),
        Entry("SDPA, causal", "attention",
              function("scaled_dot_product_attention", is_causal=True), heads, (0.8, 1.0)),
        Entry("MultiheadAttention", "attention", self_attention, rows, (1.0, 1.1)),
        Entry("TransformerEncoderLayer", "attention",
              lambda nn: nn.TransformerEncoderLayer(256, 8, 1024, 0.0, batch_first=True),
              rows, (1.0, 1.1)),
    ]  # fmt: skip


def self_attention(nn: Any) -> Any:
    layer = nn.MultiheadAttention(256, 8, batch_first=True)
    return Called(layer, lambda layer, x: layer(x, x, x, need_weights=False)[0])


@dataclass(frozen=True)
class Called:
    """A layer that is called in another way than with its inputs alone."""

    layer: Any
    call: Callable[..., Any]


def _loss() -> list[Entry]:
    bar = (0.5, 0.5)
    pairs = tuple((Normal(s), Normal(s)) for s in ((256, 128), (4096, 256), (8192, 1024)))
    return [
        Entry("CrossEntropyLoss", "loss", lambda nn: nn.CrossEntropyLoss(), CLASSES, bar),
        Entry("CrossEntropyLoss, smoothed", "loss",
              lambda nn: nn.CrossEntropyLoss(label_smoothing=0.1), CLASSES[:2], bar),
        Entry("NLLLoss", "loss", lambda nn: nn.NLLLoss(), CLASSES[:2], bar),
        Entry("MSELoss", "loss", lambda nn: nn.MSELoss(), pairs, bar),
        Entry("SmoothL1Loss", "loss", lambda nn: nn.SmoothL1Loss(), pairs, bar),
        Entry("KLDivLoss", "loss", lambda nn: nn.KLDivLoss(reduction="batchmean", log_target=True),
              pairs, bar),
        Entry("BCEWithLogitsLoss", "loss",
              lambda nn: lambda x, y: nn.functional.binary_cross_entropy_with_logits(x, y * 0 + 1),
              pairs, bar),
        Entry("CTCLoss", "CTC", connectionist, tuple(
            (Normal((t, n, 64)), Whole((n, 20), 64, 1)) for t, n in ((60, 4), (150, 16), (300, 32))
        ), (0.8, 0.7)),
    ]  # fmt: skip


def connectionist(nn: Any) -> Any:
    def loss(scores: Any, targets: Any) -> Any:
        time, batch = scores.shape[:2]
        lengths = ((time,) * batch, (targets.shape[1],) * batch)
        return nn.functional.ctc_loss(nn.functional.log_softmax(scores, -1), targets, *lengths)

    return loss


def _vision() -> list[Entry]:
    bar = (0.6, 0.8)
    small = images((2, 16, 16, 16), (8, 32, 32, 32), (8, 64, 56, 56))
    upsampled = [
        Entry(f"Upsample 2x, {mode}", "upsampling",
              lambda nn, mode=mode: nn.Upsample(scale_factor=2, mode=mode), small, bar)
        for mode in ("nearest", "bilinear", "bicubic")
    ]  # fmt: skip
    grids = tuple(
        (Normal((n, c, s, s)), Uniform((n, s, s, 2)))
        for n, c, s in ((2, 16, 16), (4, 32, 56), (8, 64, 56))
    )
    return [
        *upsampled,
        Entry("interpolate 1.5x, bilinear", "upsampling",
              function("interpolate", scale_factor=1.5, mode="bilinear"), small, bar),
        Entry("Unfold 3", "folding", lambda nn: nn.Unfold(3, padding=1),
              images((2, 16, 14, 14), (8, 32, 28, 28), (8, 64, 56, 56)), bar),
        Entry("Fold 3", "folding", lambda nn: nn.Fold((28, 28), 3, padding=1),
              images((2, 72, 784), (8, 288, 784), (8, 576, 784)), bar),
        Entry("PixelShuffle 2", "folding", lambda nn: nn.PixelShuffle(2),
              images((2, 64, 14, 14), (8, 64, 56, 56), (16, 64, 112, 112)), bar),
        Entry("grid_sample, bilinear", "grid_sample", function("grid_sample", align_corners=False),
              grids, (1.5, 1.5)),
    ]  # fmt: skip


def _activation() -> list[Entry]:
    return [
        Entry(name, "activation", lambda nn, name=name: getattr(nn, name)(), ROWS, (1.0, 1.2))
        for name in ("GELU", "SiLU", "Mish", "ELU", "Tanh", "Hardswish")
    ]


def _models() -> list[Entry]:
    bar = (1.0, 1.2)

    def model(name: str, *sizes: Inputs) -> Entry:
        return Entry(name, "model", lambda _: getattr(models, name)(), sizes, bar, imported=True)

    pictures = images((1, 3, 64, 64), (4, 3, 128, 128))
    return [
        model("ResNet18", *pictures),
        model("MobileNetV2", *pictures),
        model("ConvNeXtTiny", *pictures),
        model("UNet", *pictures),
        model("BERTLayer", (Normal((2, 64, 768)),), (Normal((4, 128, 768)),)),
        model("GPT2Block", (Normal((2, 64, 768)),), (Normal((4, 128, 768)),)),
        model("LSTMLanguageModel", (Whole((16, 4), 5000),), (Whole((64, 16), 5000),)),
        Entry("dispatch of 150 layers", "dispatch", lambda _: models.ManySmallLayers(),
              ((Normal((1, 8)),),), (1.0, None), imported=True, has_backward=False),
    ]  # fmt: skip


def _whole_models() -> list[Entry]:
    def model(name: str, *inputs: Normal | Whole) -> Entry:
        def flax(nnx: Any, rngs: Any) -> Any:
            del nnx
            return importlib.import_module(".flax_models", __package__).MODELS[name](rngs)

        return Entry(
            name, "whole model", lambda _: getattr(models, name)(), (inputs,), (1.0, 1.0),
            flax=flax, imported=True,
        )  # fmt: skip

    return [
        model("ResNet50", Normal((8, 3, 224, 224))),
        model("ConvNeXtTiny", Normal((8, 3, 224, 224))),
        model("UNet", Normal((8, 3, 256, 256))),
        model("BERTBase", Whole((8, 128), 30522)),
        model("GPT2Block", Normal((8, 512, 768))),
        model("LlamaBlock", Normal((8, 512, 1024))),
        model("LSTMLanguageModel", Whole((64, 32), 5000)),
    ]


WHOLE_MODELS: tuple[Entry, ...] = tuple(_whole_models())
"""Models of the sizes that they are trained at: compiled, not timed on a CPU."""

ENTRIES: tuple[Entry, ...] = (
    *_pooling(), *_normalization(), *_embedding(), *_convolution(), *_recurrent(), *_attention(),
    *_loss(), *_vision(), *_activation(), *_models(),
)  # fmt: skip
