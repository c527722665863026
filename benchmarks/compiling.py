"""How long the training step of a ResNet-50 takes to compile, imported and in Flax's own layers."""

from __future__ import annotations

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import nnx

import jaxnn

from .models import ResNet50

SHAPE = (2, 3, 64, 64)


class FlaxBottleneck(nnx.Module):
    def __init__(self, inputs: int, width: int, stride: int, rngs: nnx.Rngs):
        def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nnx.Conv:
            return nnx.Conv(
                inputs, outputs, (size, size), stride, padding=size // 2, use_bias=False, rngs=rngs
            )

        self.conv1, self.bn1 = convolution(inputs, width, 1), nnx.BatchNorm(width, rngs=rngs)
        self.conv2 = convolution(width, width, 3, stride)
        self.bn2 = nnx.BatchNorm(width, rngs=rngs)
        self.conv3 = convolution(width, 4 * width, 1)
        self.bn3 = nnx.BatchNorm(4 * width, rngs=rngs)
        downsample = None
        if stride != 1 or inputs != 4 * width:
            downsample = nnx.Sequential(
                convolution(inputs, 4 * width, 1, stride), nnx.BatchNorm(4 * width, rngs=rngs)
            )
        self.downsample = nnx.data(downsample)

    def __call__(self, x: jax.Array) -> jax.Array:
        identity = x if self.downsample is None else self.downsample(x)
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = nnx.relu(self.bn2(self.conv2(x)))
        return nnx.relu(self.bn3(self.conv3(x)) + identity)


class FlaxResNet50(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(3, 64, (7, 7), 2, padding=3, use_bias=False, rngs=rngs)
        self.bn1 = nnx.BatchNorm(64, rngs=rngs)
        blocks, inputs = [], 64
        for stage, count in enumerate((3, 4, 6, 3)):
            for index in range(count):
                stride = 2 if stage and not index else 1
                blocks.append(FlaxBottleneck(inputs, 64 * 2**stage, stride, rngs))
                inputs = 256 * 2**stage
        self.blocks = nnx.Sequential(*blocks)
        self.fc = nnx.Linear(2048, 1000, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = nnx.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        return self.fc(self.blocks(x).mean((1, 2)))


def compile_times(rounds: int = 3) -> dict[str, dict[str, Any]]:
    """Return the median seconds to trace and to compile, interleaved, without any cache."""
    jax.config.update("jax_enable_compilation_cache", False)
    torch.manual_seed(0)
    models = {
        "jaxnn": (jaxnn.from_torch(ResNet50(), torch.randn(SHAPE), check=False), SHAPE),
        "flax": (FlaxResNet50(nnx.Rngs(0)), (SHAPE[0], *SHAPE[2:], SHAPE[1])),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, (model, shape) in models.items():
            jax.clear_caches()
            times[name].append(_compile(model, jnp.ones(shape)))
    result = {}
    for name, pairs in times.items():
        trace, compilation = (statistics.median(column) for column in zip(*pairs, strict=True))
        result[name] = {"trace": trace, "compile": compilation, "total": trace + compilation}
    return result


def _compile(model: nnx.Module, x: jax.Array) -> tuple[float, float]:
    graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)

    def step(parameters: Any, rest: Any, x: jax.Array) -> Any:
        def loss(parameters: Any) -> Any:
            net = nnx.merge(graphdef, parameters, rest, copy=True)
            return (net(x) ** 2).mean(), nnx.state(net, nnx.Not(nnx.Param))

        (value, after), gradients = jax.value_and_grad(loss, has_aux=True)(parameters)
        return value, jax.tree.map(lambda p, g: p - 0.1 * g, parameters, gradients), after

    started = time.perf_counter()
    lowered = jax.jit(step).lower(parameters, rest, x)
    traced = time.perf_counter()
    lowered.compile()
    return traced - started, time.perf_counter() - traced
