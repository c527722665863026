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


class Forked(torch.nn.Module):
    """Two kinds of call: with a mask it goes by another layer."""

    def __init__(self):
        super().__init__()
        self.first, self.masked = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x, mask=None):
        x = self.first(x)
        return x.tanh() if mask is None else self.drop(self.masked(x * mask))


class ForkedByHand(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.first, self.masked = (jaxnn.Linear(3, 3, rngs=rngs) for _ in range(2))
        self.drop = jaxnn.Dropout(0.5, rngs=rngs)

    def __call__(self, x, mask=None):
        x = self.first(x)
        return jnp.tanh(x) if mask is None else self.drop(self.masked(x * mask))


def test_several_calls_are_compared_each_by_itself():
    torch.manual_seed(0)
    net, port = Forked(), ForkedByHand(nnx.Rngs(0))
    jaxnn.load_state_dict(port, net.state_dict())
    x = torch.randn(2, 3)
    calls = [jaxnn.call(x), jaxnn.call(torch.randn(5, 3), mask=torch.rand(5, 3))]
    report = jaxnn.verify(net, port, examples=calls)
    assert report.ok
    assert [(row.example, row.name) for row in report.rows] == [
        (0, "masked"), (0, "first"), (0, ""),  # a parameter has a gradient, if of zeros
        (1, "first"), (1, "masked"), (1, "drop"), (1, ""),
    ]  # fmt: skip
    assert report.examples == ("call(float32[2, 3])", "call(float32[5, 3], mask=float32[5, 3])")
    assert "1: call(float32[5, 3], mask=float32[5, 3])" in str(report)
    assert [note[:7] for note in report.notes] == ["Call 1:"]  # that one draws

    port.masked.bias[...] += 1.0
    report = jaxnn.verify(net, port, examples=calls)
    assert not report.ok
    assert (report.first.example, report.first.name) == (1, "masked")
    assert all(row.ok for row in report.rows if row.example == 0)
    assert jaxnn.verify(net, port, examples=calls[:1]).ok
    assert not jaxnn.verify(net, port, examples=calls[1:]).ok

    with pytest.raises(RuntimeError, match="mat1") as raised:
        jaxnn.verify(net, port, examples=[*calls, jaxnn.call(torch.ones(2, 4))])
    assert "at the call 2 of 3: call(float32[2, 4])" in raised.value.__notes__
    for wrong in (
        lambda: jaxnn.verify(net, port, x, examples=calls),
        lambda: jaxnn.verify(net, port, (), {"x": x}, examples=calls),
        lambda: jaxnn.verify(net, port, examples=[(x,)]),
        lambda: jaxnn.verify(net, port, calls[0]),
    ):
        with pytest.raises(TypeError, match="examples"):
            wrong()


def test_what_one_call_lacks_is_not_made_up_for_by_another():
    """A wrong gradient in the first call stands before one in the second."""

    class Kept(nnx.Module):
        def __init__(self):
            self.layer = jaxnn.Linear(3, 3, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.layer(jax.lax.stop_gradient(x) if x.shape[0] == 2 else x)

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(x)

    net, port = Whole(), Kept()
    jaxnn.load_state_dict(port, net.state_dict())
    calls = [jaxnn.call(torch.randn(n, 3, requires_grad=True)) for n in (4, 2)]
    report = jaxnn.verify(net, port, examples=calls)
    assert not report.ok
    assert (report.first.example, report.first.name) == (1, "")
