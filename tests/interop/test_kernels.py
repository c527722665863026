"""Layers whose outputs are known by shape alone: recurrent ones, attention, some losses."""

from __future__ import annotations

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

import jaxnn
from jaxnn.interop.importer.kernels import kernels_by_shape

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")
rand = torch.randn


def recurrent() -> Any:
    """Yield recurrent layers with all options, each with the arguments of a call."""
    options = itertools.product((1, 2), (False, True), (False, True), (0, 3), (False, True))
    for layers, bidirectional, first, projected, given in options:
        named = {"num_layers": layers, "bidirectional": bidirectional, "batch_first": first}
        x = rand(3, 7, 5) if first else rand(7, 3, 5)
        states = [rand(layers * (1 + bidirectional), 3, size) for size in (projected or 6, 6)]
        lstm = nn.LSTM(5, 6, proj_size=projected, **named)
        yield lstm, (x, tuple(states)) if given else (x,)
        if not projected:
            for layer in (nn.GRU(5, 6, **named), nn.RNN(5, 6, nonlinearity="relu", **named)):
                yield layer, (x, states[0]) if given else (x,)
    yield nn.LSTM(5, 6, bias=False), (rand(7, 5),)
    yield nn.GRU(5, 6), (rand(7, 5), rand(1, 6))
    yield nn.RNN(5, 6, dtype=torch.float64), (rand(7, 3, 5).double(),)


def others() -> Any:
    """Yield attention and losses, each with the arguments of a call."""
    x, memory = rand(3, 7, 8), rand(3, 9, 8)
    attend = nn.MultiheadAttention(8, 2, batch_first=True)
    yield attend, (x, memory, memory)
    yield attend, (x[0], memory[0], memory[0])
    yield nn.MultiheadAttention(8, 2, kdim=4, vdim=5), (x, rand(3, 7, 4)[:, :7], rand(3, 7, 5))
    extra = nn.MultiheadAttention(8, 2, add_bias_kv=True, add_zero_attn=True)
    yield extra, (x, memory[:, :7], memory[:, :7])
    yield nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (x,)
    yield nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), (x, memory)
    scores, labels = rand(9, 3, 5).log_softmax(-1), torch.randint(1, 5, (3, 4))
    for reduction in ("none", "mean"):
        loss = nn.CTCLoss(reduction=reduction)
        yield loss, (scores, labels, torch.tensor([9, 9, 8]), torch.tensor([4, 3, 2]))
        nll = nn.GaussianNLLLoss(reduction=reduction)
        yield nll, (rand(7, 5), rand(7, 5), torch.rand(7) + 1)
    softmax = nn.AdaptiveLogSoftmaxWithLoss(16, 20, [5, 10])
    yield softmax, (rand(7, 16), torch.randint(20, (7,)))


def tensors_of(result: Any) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    return [t for item in result if item is not None for t in tensors_of(item)]


@pytest.mark.parametrize(
    "make", [recurrent, others], ids=lambda make: make.__name__
)  # fmt: skip
def test_shapes_and_dtypes_are_those_that_torch_computes(make):
    count = 0
    for layer, args in make():
        wanted = tensors_of(layer(*args))
        with kernels_by_shape():
            found = tensors_of(layer(*args))
        assert [(t.shape, t.dtype) for t in found] == [(t.shape, t.dtype) for t in wanted], layer
        after = tensors_of(layer.eval()(*args))
        assert [t.shape for t in after] == [t.shape for t in wanted]
        count += 1
    assert count > 10


@pytest.mark.parametrize("average", [True, False])
def test_weights_of_attention(average):
    layer, x = nn.MultiheadAttention(8, 2), rand(7, 3, 8)
    wanted = layer(x, x, x, average_attn_weights=average)[1]
    with kernels_by_shape():
        found = layer(x, x, x, average_attn_weights=average)[1]
        assert layer(x, x, x, need_weights=False)[1] is None
    assert found.shape == wanted.shape


@pytest.mark.parametrize(
    ("layer", "args"),
    [
        (nn.LSTM(5, 6), (rand(7, 3, 4),)),
        (nn.LSTM(5, 6), (rand(7, 3, 5), (rand(1, 2, 6), rand(1, 3, 6)))),
        (nn.GRU(5, 6), (rand(5),)),
        (nn.MultiheadAttention(8, 2), (rand(7, 3, 8), rand(7, 3, 6), rand(7, 3, 6))),
        (nn.MultiheadAttention(8, 2), (rand(7, 3, 8), rand(7, 3, 8), rand(6, 3, 8))),
        (nn.AdaptiveLogSoftmaxWithLoss(6, 20, [5]), (rand(7, 5), torch.zeros(7).long())),
    ],
)
def test_what_torch_refuses_is_refused(layer, args):
    with pytest.raises((RuntimeError, ValueError, AssertionError)):
        layer(*args)
    with kernels_by_shape(), pytest.raises((RuntimeError, ValueError)):
        layer(*args)


def test_torchs_own_come_back():
    layer, x = nn.LSTM(5, 6), rand(7, 3, 5)
    wanted = layer(x)[0]
    with pytest.raises(ZeroDivisionError), kernels_by_shape():
        raise ZeroDivisionError
    assert torch.equal(layer(x)[0], wanted)
    assert torch.backends.mha.get_fastpath_enabled()


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 8, 2, bidirectional=True)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        return self.out(self.lstm(x)[0])


def test_a_recurrent_layer_leaves_its_length_free():
    # Time comes first, and is the dimension that may differ.
    model = Tagger().eval()
    net = jaxnn.from_torch(model, rand(7, 2, 4))
    for length in (1, 3, 11):
        x = rand(length, 2, 4)
        wanted = model(x).detach().numpy()
        np.testing.assert_allclose(net(jnp.asarray(x.numpy())), wanted, atol=1e-6)


class Ctc(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.loss = nn.Linear(4, 5), nn.CTCLoss()

    def forward(self, x, labels, lengths, label_lengths):
        return self.loss(self.linear(x).log_softmax(-1), labels, lengths, label_lengths)


class Gaussian(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.loss = nn.Linear(4, 4), nn.GaussianNLLLoss()

    def forward(self, x, target):
        return self.loss(self.linear(x), target, x.square() + 1)


def test_losses_that_look_at_values_within_a_model():
    lengths = torch.tensor([9, 9, 8]), torch.tensor([4, 3, 2])
    jaxnn.from_torch(Ctc(), (rand(9, 3, 4), torch.randint(1, 5, (3, 4)), *lengths))
    jaxnn.from_torch(Gaussian(), (rand(3, 4), rand(3, 4)))
