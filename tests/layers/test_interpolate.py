"""Interpolation of bytes, which is exact, and by Lanczos' kernel, against torch; also imported."""

from __future__ import annotations

import random
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxnn

MODES = [(mode, antialias) for mode in ("bilinear", "bicubic") for antialias in (False, True)]
MODES.append(("lanczos", True))


def options(draw: random.Random, mode: str, antialias: bool) -> dict[str, Any]:
    given: dict[str, Any] = {"mode": mode, "antialias": antialias}
    if draw.random() < 0.3 and mode != "lanczos":
        given["align_corners"] = True
    if draw.random() < 0.6:
        return {**given, "size": (draw.randint(2, 20), draw.randint(2, 20))}
    factors = tuple(draw.choice([0.5, 0.7, 1.0, 1.5, 2.0, 3.3]) for _ in range(2))
    return {**given, "scale_factor": factors, "recompute_scale_factor": draw.random() < 0.5}


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("mode", "antialias"), MODES)
def test_as_torch(mode: str, antialias: bool, dtype: str) -> None:
    draw, numbers = random.Random(mode), np.random.default_rng(0)
    for _ in range(6):
        shape = (2, draw.randint(1, 7), draw.randint(4, 12), draw.randint(4, 12))
        x = numbers.integers(0, 256, shape).astype(dtype)
        given = options(draw, mode, antialias)
        wanted = torch.nn.functional.interpolate(torch.from_numpy(x), **given)
        got = jaxnn.functional.interpolate(jnp.asarray(x), **given)
        assert got.dtype == dtype
        if dtype == "uint8":
            np.testing.assert_array_equal(got, wanted)
        else:
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-3)


class Resized(torch.nn.Module):
    def __init__(self, mode: str, antialias: bool):
        super().__init__()
        self.options = {"mode": mode, "antialias": antialias}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(x, (6, 9), **self.options)


@pytest.mark.parametrize(("mode", "antialias"), MODES)
def test_imported(mode: str, antialias: bool) -> None:
    x = torch.randint(0, 256, (1, 3, 8, 7), dtype=torch.uint8)
    model = Resized(mode, antialias)
    net = jaxnn.from_torch(model, (x,))
    np.testing.assert_array_equal(net(jnp.asarray(x.numpy())), model(x))
