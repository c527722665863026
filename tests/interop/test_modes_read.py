"""One capture serves both modes where nothing in the forward pass can tell them apart."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import jaxnn
from jaxnn.interop.importer import capturing

MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {}


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.drop = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.0)


def model(captures: int) -> Callable[[Any], Any]:
    """Let a forward pass or a class be a model that needs so many captures."""

    def add(made: Any) -> Any:
        name = made.__name__
        is_class = isinstance(made, type)
        MODELS[name] = made if is_class else type(name, (Model,), {"forward": made}), captures
        return made

    return add


@model(1)
def layers_alone(self, x):
    return self.drop(self.norm(self.linear(x))).relu()


@model(1)
class Nested(Model):
    def __init__(self):
        super().__init__()
        self.parts = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.BatchNorm1d(4), nn.ReLU()))
        self.attend = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x):
        return self.attend(self.parts(x)[None])[0] + self.linear(x)


@model(2)
def a_function_is_given_the_mode(self, x):
    return F.dropout(self.linear(x), 0.0, self.training) * (2.0 if self.training else 1.0)


@model(2)
def a_layer_is_asked(self, x):
    return self.linear(x) * 2 if self.norm.training else self.norm(self.linear(x))


@model(2)
def a_layer_is_asked_by_name(self, x):
    return self.linear(x) * (1 + getattr(self.drop, "training"))  # noqa: B009


@model(2)
def a_layer_is_set(self, x):
    self.norm.eval()
    return self.norm(self.linear(x))


@model(2)
def a_layer_is_set_back(self, x):
    was = self.norm.training
    self.norm.train(False)
    y = self.norm(self.linear(x))
    self.norm.train(was)
    return y


@model(2)
def the_dictionary_is_asked(self, x):
    return self.linear(x) * (1 + vars(self)["training"])


@model(2)
class TrainOfItsOwn(Model):
    factor = 1.0

    def train(self, mode=True):
        self.factor = 3.0 if mode else 1.0
        return super().train(mode)

    def forward(self, x):
        return self.linear(x) * self.factor


@model(2)
class PartWithTrainOfItsOwn(Model):
    def __init__(self):
        super().__init__()
        self.part = TrainOfItsOwn()

    def forward(self, x):
        return self.part(x) + self.linear(x)


@model(2)
class TrainOfOneObject(Model):
    def __init__(self):
        super().__init__()
        self.linear.train = lambda mode=True: self.linear

    def forward(self, x):
        return self.norm(self.linear(x))


@model(2)
class HookThatAsks(Model):
    def __init__(self):
        super().__init__()
        self.linear.register_forward_hook(lambda module, args, y: y * (1 + module.training))

    def forward(self, x):
        return self.linear(x)


@model(2)
class LayerOfItsOwn(Model):
    class Scale(nn.Linear):
        def forward(self, x):
            return super().forward(x) * (2.0 if self.training else 1.0)

    def __init__(self):
        super().__init__()
        self.linear = self.Scale(4, 4)

    def forward(self, x):
        return self.linear(x)


@model(2)
class StatisticsByFunction(Model):
    def forward(self, x):
        norm = self.norm
        return F.batch_norm(x, norm.running_mean, norm.running_var, training=norm.training)


@model(2)
class SpectralNorm(Model):
    def __init__(self):
        super().__init__()
        self.linear = nn.utils.parametrizations.spectral_norm(self.linear)

    def forward(self, x):
        return self.linear(x)


@pytest.mark.parametrize("name", MODELS)
def test_captures(name, monkeypatch):
    make, wanted = MODELS[name]
    original, seen = capturing.capture, []

    def counted(*args: Any, **options: Any) -> Any:
        seen.append(args)
        return original(*args, **options)

    monkeypatch.setattr(capturing, "capture", counted)
    torch.manual_seed(0)
    net = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # It proves itself, in both modes.
        jaxnn.from_torch(net, torch.randn(5, 4), dynamic=False)
    assert len(seen) == wanted
    assert "__getattribute__" not in vars(nn.Module)


def test_what_holds_in_training_alone_is_known():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x):
            return self.norm(x) * 2

    net = jaxnn.from_torch(Net().eval(), torch.randn(5, 4))
    one = torch.randn(1, 4).numpy()
    assert net.eval()(one).shape == (1, 4)
    with pytest.raises(ValueError, match="a single value cannot be normalised in training"):
        net.train()(one)
