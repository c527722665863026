"""Values, gradients and derivatives of a function against the same in torch, in float64."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import torch

generator = np.random.default_rng(0)


def draw(*shape: int) -> np.ndarray:
    return generator.standard_normal(shape).astype(np.float32)


def assert_close(actual: Any, expected: Any, tolerance: float) -> None:
    """Compare relative to the largest element."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    bound = tolerance * max(np.abs(expected).max(initial=0), 1e-30)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


def assert_same_function(ours: Any, theirs: Any, *arguments: np.ndarray) -> None:
    """Compare values, gradients, and derivatives forwards, with torch in float64."""
    doubles = tuple(torch.tensor(a, dtype=torch.float64) for a in arguments)
    expected, expected_vjp = torch.func.vjp(theirs, *doubles)
    output, vjp = jax.vjp(ours, *arguments)
    assert_close(output, expected, 2e-6)
    cotangent = draw(*output.shape)
    gradients = vjp(cotangent)
    wanted = expected_vjp(torch.tensor(cotangent, dtype=torch.float64))
    for gradient, expected in zip(gradients, wanted, strict=True):
        assert_close(gradient, expected, 2e-6)
    tangents = tuple(draw(*a.shape) for a in arguments)
    _, derivative = jax.jvp(ours, arguments, tangents)
    backwards = sum(np.vdot(g, t) for g, t in zip(gradients, tangents, strict=True))
    np.testing.assert_allclose(np.vdot(derivative, cotangent), backwards, rtol=1e-3, atol=1e-3)
