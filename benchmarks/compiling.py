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

from . import flax_models
from .models import ResNet50

SHAPE = (2, 3, 64, 64)


def compile_times(rounds: int = 3) -> dict[str, dict[str, Any]]:
    """Return the median seconds to trace and to compile, interleaved, without any cache."""
    jax.config.update("jax_enable_compilation_cache", False)
    torch.manual_seed(0)
    models = {
        "jaxnn": (jaxnn.from_torch(ResNet50(), torch.randn(SHAPE), check=False), SHAPE),
        "flax": (flax_models.ResNet50(nnx.Rngs(0)), (SHAPE[0], *SHAPE[2:], SHAPE[1])),
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
