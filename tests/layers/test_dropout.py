"""Dropout: shares, masks, and the streams that layers draw from."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import draw
from flax import nnx

import jaxnn
import jaxnn.functional as F


def test_dropout() -> None:
    x, key = draw(200, 50), jax.random.key(0)
    dropped = F.dropout(x, 0.3, rng=key)
    kept = np.asarray(dropped) != 0
    assert abs(kept.mean() - 0.7) < 5 * math.sqrt(0.21 / x.size)
    np.testing.assert_allclose(dropped, np.where(kept, x / np.float32(0.7), 0), rtol=1e-6)
    gradient = jax.grad(lambda x: F.dropout(x, 0.3, rng=key).sum())(x)
    np.testing.assert_array_equal(np.asarray(gradient) != 0, kept)
    np.testing.assert_array_equal(jax.jit(F.dropout)(x, 0.3, rng=key), dropped)
    traced = jax.jit(lambda x, p: F.dropout(x, p, rng=key))
    for p, expected in ((0.0, x), (1.0, 0 * x)):
        np.testing.assert_array_equal(F.dropout(x, p), expected)
        np.testing.assert_array_equal(traced(x, p), expected)
        assert np.isfinite(jax.grad(lambda x, p=p: traced(x, p).sum())(x)).all()
    np.testing.assert_array_equal(F.dropout(np.arange(3), training=False), np.arange(3))
    for p in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="`p`"):
            jaxnn.Dropout(p)
    with pytest.raises(ValueError, match="rng"):
        jaxnn.Dropout()(x)
    with pytest.raises(TypeError, match="dtype"):
        F.dropout(np.arange(3), rng=key)


def test_layers_draw_from_streams_of_their_own() -> None:
    rngs = nnx.Rngs(0)
    first, second = jaxnn.Dropout(rngs=rngs), jaxnn.Dropout(rngs=rngs)
    x = jnp.ones((10, 10))
    outputs = [first(x), first(x), second(x)]
    assert len({np.asarray(output).tobytes() for output in outputs}) == 3
    again = jaxnn.Dropout(rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(again(x), outputs[0])
    np.testing.assert_array_equal(
        first(x, rngs=jax.random.key(1)), second(x, rngs=jax.random.key(1))
    )
