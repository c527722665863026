"""`verify` finds where a port departs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch_models
from flax import nnx

import jaxnn


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    net, args, kwargs = torch_models.tied_language_model()
    net = net.eval()
    return net, jaxnn.from_torch(net, args, kwargs), args, kwargs


def test_an_import_agrees(pair):
    report = jaxnn.verify(*pair)
    assert report.ok
    assert report.first is None
    assert not report.unmatched
    names = [row.name for row in report.rows]
    assert names[:3] == ["token", "blocks.0.to_qkv", "blocks.0.out"]
    assert names[-1] == ""
    assert "(the model)" in str(report)


def test_the_first_that_departs_is_on_top(pair):
    net, port, args, kwargs = pair
    wrong = nnx.clone(port)
    wrong.blocks[1].to_qkv.weight[...] += 0.5
    report = jaxnn.verify(net, wrong, args, kwargs)
    assert not report.ok
    assert report.first.name == "blocks.1.to_qkv"
    lines = [line for line in str(report).splitlines() if "ok" in line or "departs" in line]
    assert "blocks.1.to_qkv" in lines[0]
    assert "departs" in lines[0]
    assert [row.agrees for row in report.rows][:4] == [True] * 4


class ByHand(nnx.Module):
    """A port of a Sequential that calls its layer twice, as the original does."""

    def __init__(self, rngs: nnx.Rngs):
        self.layer = jaxnn.Linear(3, 3, rngs=rngs)
        self.extra = jaxnn.ReLU()

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.layer(jnp.tanh(self.layer(x)))


class Original(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.other = torch.nn.Linear(3, 3), torch.nn.Tanh()

    def forward(self, x):
        return self.layer(self.other(self.layer(x)))


def test_a_port_by_hand_is_matched_call_by_call():
    net = Original().double()
    with jax.enable_x64(True):
        port = ByHand(nnx.Rngs(0))
        port.layer = jaxnn.Linear(3, 3, dtype="float64", rngs=nnx.Rngs(0))
        jaxnn.load_state_dict(port, net.state_dict())
    report = jaxnn.verify(net, port, np.ones((2, 3)))
    assert [(row.name, row.call) for row in report.rows] == [("layer", 0), ("layer", 1), ("", 0)]
    assert report.ok
    assert max(row.relative for row in report.rows) < 1e-12
    assert report.unmatched == ("other",)


def test_shapes_that_differ_and_no_modules():
    net = torch.nn.Sequential(torch.nn.Flatten(0))
    port = jaxnn.Sequential(jaxnn.Flatten(1))
    assert not jaxnn.verify(net, port, torch.ones(2, 3, 4)).ok
    with pytest.raises(TypeError, match=r"takes a torch\.nn\.Module and an nnx\.Module, got"):
        jaxnn.verify(net, net, torch.ones(2, 3, 4))
