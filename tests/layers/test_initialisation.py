"""Initial values against those of torch: moments, ranges and what is refused."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import jaxnn


@pytest.mark.parametrize("name", ["Linear", "Conv2d"])
def test_parameters_are_drawn_as_in_torch(name: str) -> None:
    arguments = {"Linear": (30, 400), "Conv2d": (10, 60, 3)}[name]
    theirs = getattr(torch.nn, name)(*arguments)
    ours = getattr(jaxnn, name)(*arguments, rngs=nnx.Rngs(0))
    for key, value in jaxnn.state_dict(ours).items():
        expected = theirs.state_dict()[key]
        assert value.shape == expected.shape
        bound = 1 / math.sqrt(theirs.weight[0].numel())
        assert np.abs(value).max() <= bound
        assert np.abs(value).max() > 0.9 * bound
        assert abs(value.mean()) < 5 * bound / math.sqrt(3 * value.size)


INITIALISATIONS: dict[str, dict[str, Any]] = {
    "uniform": {"a": -1.0, "b": 3.0},
    "normal": {"mean": 1.0, "std": 2.0},
    "trunc_normal": {"mean": 0.5, "std": 1.5, "a": -1.0, "b": 2.0},
    "xavier_uniform": {"gain": 2.0},
    "xavier_normal": {"gain": 2.0},
    "kaiming_uniform": {"a": 0.5, "mode": "fan_out"},
    "kaiming_normal": {"nonlinearity": "relu"},
    "orthogonal": {"gain": 2.0},
    "sparse": {"sparsity": 0.25, "std": 0.5},
    "constant": {"val": 3.0},
    "ones": {},
    "zeros": {},
    "eye": {},
}


def kolmogorov_smirnov(first: np.ndarray, second: np.ndarray) -> float:
    values = np.sort(np.concatenate([first.ravel(), second.ravel()]))
    ranks = [np.searchsorted(np.sort(a.ravel()), values, "right") / a.size for a in (first, second)]
    return float(np.abs(ranks[0] - ranks[1]).max())


@pytest.mark.parametrize(("name", "options"), INITIALISATIONS.items())
def test_initialisations_have_the_moments_of_torch(name: str, options: dict[str, Any]) -> None:
    shape = (200, 300)
    ours = np.asarray(getattr(jaxnn.init, name)(jax.random.key(0), shape, **options))
    theirs = getattr(torch.nn.init, f"{name}_")(torch.empty(shape), **options).numpy()
    assert ours.shape == shape
    np.testing.assert_allclose(ours.mean(), theirs.mean(), atol=0.02)
    np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.02)
    np.testing.assert_allclose((ours == 0).mean(), (theirs == 0).mean(), atol=1e-6)
    # The two-sample Kolmogorov-Smirnov distance, which 1e-7 of such pairs exceed.
    assert kolmogorov_smirnov(ours, theirs) < 2.9 * math.sqrt(2 / ours.size)
    half = getattr(jaxnn.init, name)(jax.random.key(0), shape, jnp.bfloat16, **options)
    assert half.dtype == jnp.bfloat16


def test_initialisations_beyond_moments() -> None:
    key = jax.random.key(0)
    for shape, groups in (((4, 2, 3), 2), ((6, 3, 2, 3), 3), ((2, 3, 1, 2, 3), 1)):
        expected = torch.nn.init.dirac_(torch.empty(shape), groups).numpy()
        np.testing.assert_array_equal(jaxnn.init.dirac(None, shape, groups=groups), expected)
    tail = jaxnn.init.trunc_normal(key, (1000,), a=6.0, b=7.0)
    assert 6 <= float(tail.min()) < float(tail.mean()) < 6.3
    w = jaxnn.init.orthogonal(key, (8, 2, 2))
    np.testing.assert_allclose(w.reshape(8, 4).T @ w.reshape(8, 4), np.eye(4), atol=1e-6)
    assert jaxnn.init.calculate_gain("leaky_relu", 0.2) == torch.nn.init.calculate_gain(
        "leaky_relu", 0.2
    )
    for make in (
        lambda: jaxnn.init.calculate_gain("gelu"),
        lambda: jaxnn.init.kaiming_uniform(key, (3,)),
        lambda: jaxnn.init.kaiming_uniform(key, (3, 3), mode="fan"),
        lambda: jaxnn.init.eye(None, (3,)),
        lambda: jaxnn.init.dirac(None, (3, 3, 3), groups=2),
        lambda: jaxnn.init.normal(key, (3,), std=-1.0),
        lambda: jaxnn.init.uniform(key, (3,), a=1.0, b=0.0),
    ):
        with pytest.raises(ValueError, match="`"):
            make()
