"""Parameters and statistics moved from where they start, which hides what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from flax import nnx

from .outcomes import variables_of

if TYPE_CHECKING:
    import torch


def deltas_of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Return what is added to parameters and statistics that are zeros, ones or the like.

    They are where a new model starts, and hide what becomes of the values. Signs are kept.
    """
    rng = np.random.default_rng(0)
    statistics = [
        (name, buffer) for name, buffer in model.named_buffers()
        if name.endswith(("running_mean", "running_var"))
    ]  # fmt: skip
    deltas = {}
    for name, tensor in [*model.named_parameters(), *statistics]:
        if tensor.is_floating_point() and tensor.numel():
            first = tensor.detach().reshape(-1)[0]
            if bool((tensor.detach() == first).all()):
                noise = 0.02 * rng.standard_normal(tuple(tensor.shape))
                sign = float(first.sign())
                deltas[name] = sign * np.abs(noise) if sign else noise
    return deltas


def move(model: torch.nn.Module, net: nnx.Module, deltas: Mapping[str, np.ndarray]) -> None:
    """Add the same to both sides, so that they stay as far apart as they were."""
    import torch

    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    variables = variables_of(net)
    for name, delta in deltas.items():
        with torch.no_grad():
            tensors[name] += torch.from_numpy(np.asarray(delta)).to(tensors[name])
        if name in variables:
            variable = variables[name]
            value = variable.get_value()
            variable.set_value(value + jnp.asarray(delta, value.dtype))
