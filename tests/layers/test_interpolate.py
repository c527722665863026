"""Interpolation of bytes, which is exact, and by Lanczos' kernel, against torch; also imported."""

from __future__ import annotations

import random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import export

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


# --- sizes that are symbols ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"size": (7, 5)}, {"scale_factor": 2}, {"scale_factor": (0.5, 1.5)}]
)
@pytest.mark.parametrize(
    ("mode", "align_corners"),
    [
        ("nearest", None), ("nearest-exact", None), ("area", None), ("bilinear", False),
        ("bilinear", True), ("bicubic", False), ("bicubic", True),
    ],
)  # fmt: skip
def test_sizes_that_are_symbols(mode, align_corners, options):
    if mode == "area":
        options = {"size": (1, 1)}  # of more, the windows have to be known
    given = {"mode": mode, "align_corners": align_corners, **options}
    symbols = export.symbolic_shape("b, 2, h, w", constraints=["h >= 2", "w >= 2"])
    program = export.export(jax.jit(lambda x: jaxnn.functional.interpolate(x, **given)))(
        jax.ShapeDtypeStruct(symbols, jnp.float32)
    )
    for shape in ((1, 2, 4, 6), (3, 2, 9, 5), (2, 2, 7, 5), (1, 2, 2, 10)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        wanted = torch.nn.functional.interpolate(x, **given)
        found = program.call(jnp.asarray(x.numpy()))
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_new_size_that_is_a_symbol():
    symbols = export.symbolic_shape("1, 2, h, w")
    sizes = [
        jax.ShapeDtypeStruct(symbols, jnp.float32),
        jax.ShapeDtypeStruct((1, 2, 4, 4), jnp.float32),
    ]

    def resized(x, y):
        return jaxnn.functional.interpolate(y, x.shape[2:], mode="bilinear", align_corners=True)

    program = export.export(jax.jit(resized))(*sizes)
    y = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    y[0, 0, 1, 1] = float("nan")
    for size in ((1, 1), (4, 4), (1, 9), (12, 5)):
        wanted = torch.nn.functional.interpolate(y, size, mode="bilinear", align_corners=True)
        found = program.call(jnp.zeros((1, 2, *size)), jnp.asarray(y.numpy()))
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_what_needs_sizes_that_are_numbers():
    symbols = export.symbolic_shape("1, 2, h, w")

    def traced(dtype=jnp.float32, **options):
        x = jax.ShapeDtypeStruct(symbols, dtype)
        return jax.eval_shape(lambda x: jaxnn.functional.interpolate(x, **options), x)

    with pytest.raises(ValueError, match="with `antialias`, and of uint8, sizes must be numbers"):
        traced(size=(3, 3), mode="bilinear", antialias=True)
    with pytest.raises(ValueError, match="must be a whole number, or one over a power of two"):
        traced(scale_factor=0.3)
