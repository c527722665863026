"""Lazy layers: where their parameters come from, and where they cannot."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnn

x = jnp.ones((2, 5))


def make_net() -> Any:
    rngs = nnx.Rngs(0)
    return jaxnn.Sequential(
        jaxnn.LazyLinear(4, rngs=rngs), jaxnn.ReLU(), jaxnn.LazyLinear(3, bias=False, rngs=rngs)
    )


def test_the_first_call_makes_ordinary_layers() -> None:
    net = make_net()
    assert jaxnn.state_dict(net) == {}
    assert isinstance(net[0], jaxnn.Linear)
    first = net(x)
    assert type(net[0]) is type(net[2]) is jaxnn.Linear
    assert {k: v.shape for k, v in jaxnn.state_dict(net).items()} == {
        "0.weight": (4, 5), "0.bias": (4,), "2.weight": (3, 4),
    }  # fmt: skip
    np.testing.assert_allclose(nnx.jit(lambda net, x: net(x))(net, x), first, rtol=1e-6)
    assert nnx.graphdef(net[0]) == nnx.graphdef(jaxnn.Linear(5, 4, rngs=nnx.Rngs(0)))
    assert not np.array_equal(net[0].bias[:3], net[2].weight[0, :3])
    with pytest.raises(ValueError, match="in_features=5"):
        net(jnp.ones((2, 6)))


@pytest.mark.parametrize("transform", [nnx.jit, nnx.grad, jax.jit, nnx.remat])
def test_a_transformation_comes_too_early(transform: Any) -> None:
    with pytest.raises(ValueError, match="LazyLinear has no parameters yet"):
        transform(lambda net, x: net(x).sum())(make_net(), x)


def test_a_state_dict_makes_the_parameters() -> None:
    source = make_net()
    expected = source(x)
    net = make_net()
    report = jaxnn.load_state_dict(net, jaxnn.state_dict(source))
    assert not report.missing_keys
    assert not report.unexpected_keys
    np.testing.assert_array_equal(nnx.jit(lambda net, x: net(x))(net, x), expected)


def test_a_refused_state_dict_changes_nothing() -> None:
    net = make_net()
    weights = {"0.weight": np.ones((4, 5)), "0.bias": np.ones(3), "2.weight": np.ones((3, 4))}
    with pytest.raises(ValueError, match=r"0\.bias"):
        jaxnn.load_state_dict(net, weights)
    assert type(net[0]) is jaxnn.LazyLinear
    report = jaxnn.load_state_dict(net, {"0.weight": np.ones((4, 5))}, strict=False)
    assert report.missing_keys == ["0.bias"]
    assert type(net[2]) is jaxnn.LazyLinear
    assert net(x).shape == (2, 3)


def test_the_draw_is_that_of_the_seed() -> None:
    ours, again = make_net(), make_net()
    np.testing.assert_array_equal(ours(x), again(x))
    with pytest.raises(ValueError, match="rngs"):
        jaxnn.LazyLinear(3)
    net = nnx.merge(*nnx.split(make_net()))
    np.testing.assert_array_equal(net(x), ours(x))


def test_dtype_and_mode_are_kept() -> None:
    layer = jaxnn.LazyLinear(3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert layer(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    assert layer.weight.dtype == jnp.bfloat16
