"""Blocks that are alike are captured three times; what only looks alike, as often as it stands."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import Function
from torch.nn import functional as F

import jaxnn
from jaxnn.interop.importer.alike import Alike
from jaxnn.interop.importer.imported import programs_of

COUNT = 6
MODELS: dict[str, tuple[Callable[[], nn.Module], bool]] = {}
CALLS: list[int] = []


def model(*, alike: bool) -> Callable[[Any], Any]:
    """Let a class be a model; say whether blocks of it may stand for others."""

    def add(kind: Any) -> Any:
        MODELS[kind.__name__] = kind, alike
        return kind

    return add


class Block(nn.Module):
    def __init__(self, number: int = 0):
        super().__init__()
        self.number, self.scale = number, 2.0
        self.linear, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        return x + self.norm(self.linear(x)).relu() * self.scale


class Model(nn.Module):
    """Blocks in a row."""

    Own: Any = Block

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(self.Own(i) for i in range(COUNT))

    def forward(self, x):
        CALLS.clear()
        for block in self.blocks:
            x = block(x)
        return x


def blocks(*, alike: bool) -> Callable[[Any], Any]:
    """Let a function be the forward pass of the blocks of a model."""

    def add(forward: Any) -> Any:
        kind = type("Block", (Block,), {"forward": forward})
        model(alike=alike)(type(forward.__name__, (Model,), {"Own": kind}))
        return forward

    return add


@model(alike=True)
class Plain(Model):
    pass


@model(alike=True)
class InASequential(Model):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(*self.blocks)

    def forward(self, x):
        return self.blocks(x)


@model(alike=True)
class WithArguments(Model):
    class Own(Block):
        def forward(self, x, options, *, bias=None):
            y = super().forward(x) * options["factor"]
            return {"x": y + bias, "same": bias}, (y.sum(), None)

    def forward(self, x):
        bias, total = x.mean(0), 0.0
        for block in self.blocks:
            found, (part, _) = block(x, {"factor": 0.5}, bias=bias)
            x, bias = found["x"], found["same"]
            total = total + part
        return x, total


@blocks(alike=True)
def dropout_of_its_own(self, x):
    return F.dropout(super(type(self), self).forward(x), 0.0, self.training)


@blocks(alike=True)
def buffers_that_change(self, x):
    self.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
    return Block.forward(self, x) - self.mean


@blocks(alike=False)
def counted_by_a_global_once(self, x):
    CALLS.append(len(CALLS))
    return Block.forward(self, x) * (2.0 if len(CALLS) % COUNT == 4 else 1.0)


@blocks(alike=False)
def branch_by_a_global_once(self, x):
    CALLS.append(len(CALLS))
    return Block.forward(self, x).sin() if len(CALLS) % COUNT == 4 else Block.forward(self, x)


@model(alike=False)
class DropoutsDiffer(Model):
    class Own(Block):
        def __init__(self, number):
            super().__init__(number)
            self.drop = nn.Dropout(0.0 if number < 3 else 1.0)

        def forward(self, x):
            return x + self.drop(super().forward(x))


@model(alike=True)
class FirstIsGivenAnotherShape(Model):
    def forward(self, x):
        for block in self.blocks:
            x = block(x)
            x = torch.cat([x, x]) if block is self.blocks[0] else x
        return x


@blocks(alike=False)
def its_number_is_used(self, x):
    return Block.forward(self, x) * (1 + self.number)


@blocks(alike=False)
def its_number_is_used_late(self, x):
    return Block.forward(self, x) * (3 if self.number == 4 else 1)


@blocks(alike=False)
def its_dictionary_is_used(self, x):
    return Block.forward(self, x) * (3 if vars(self)["number"] == 3 else 1)


@model(alike=False)
class NumberAsAnArgument(Model):
    class Own(Block):
        def forward(self, x, number):
            return super().forward(x) * (number + 1)

    def forward(self, x):
        for number, block in enumerate(self.blocks):
            x = block(x, number)
        return x


@model(alike=False)
class AConstantAsATensor(Model):
    class Own(Block):
        def forward(self, x, number):
            return super().forward(x) * (int(number) + 1)

    def forward(self, x):
        for number, block in enumerate(self.blocks):
            x = block(x, torch.tensor(number))
        return x


@model(alike=False)
class ClosuresDiffer(Model):
    class Own(Block):
        def __init__(self, number):
            super().__init__(number)
            self.activation = lambda x: x * (2.0 if number == 3 else 1.0)

        def forward(self, x):
            return self.activation(super().forward(x))


@blocks(alike=False)
def counted_by_a_global(self, x):
    CALLS.append(len(CALLS))
    return Block.forward(self, x) * (1 + len(CALLS) % COUNT)


@model(alike=False)
class CountedByAnObject(Model):
    class Own(Block):
        def forward(self, x):
            self.shared["calls"] = self.shared["calls"] % COUNT + 1
            return super().forward(x) * (2.0 if self.shared["calls"] == 4 else 1.0)

    def __init__(self):
        super().__init__()
        shared = {"calls": 0}
        for block in self.blocks:
            block.shared = shared


@model(alike=False)
class CountedByTheParent(Model):
    class Own(Block):
        def forward(self, x):
            self.parent[0].calls = self.parent[0].calls % COUNT + 1
            return super().forward(x) * (2.0 if self.parent[0].calls == 4 else 1.0)

    def __init__(self):
        super().__init__()
        self.calls, parent = 0, [self]
        for block in self.blocks:
            block.parent = parent


@model(alike=False)
class LeavesWhatTheParentReads(Model):
    class Own(Block):
        def forward(self, x):
            self.left = super().forward(x)
            return self.left * 1

    def forward(self, x):
        x = super().forward(x)
        return x + sum(block.left for block in self.blocks)


@model(alike=False)
class AppendsToAListThatItIsGiven(Model):
    class Own(Block):
        def forward(self, x, found):
            y = super().forward(x)
            found.append(y)
            return y

    def forward(self, x):
        found = []
        for block in self.blocks:
            x = block(x, found)
        return x, sum(found)


@model(alike=False)
class WritesIntoWhatItIsGiven(Model):
    class Own(Block):
        def forward(self, x):
            x.add_(1.0)
            return super().forward(x)

    def forward(self, x):
        kept, x = [], x * 1
        for block in self.blocks:
            kept += [x] if block is self.blocks[3] else []
            x = block(x)
        return x, kept


@model(alike=False)
class UsesWhatItIsNotGiven(Model):
    class Own(Block):
        def forward(self, x):
            return super().forward(x) + self.box[0]

    def __init__(self):
        super().__init__()
        self.box = []
        for block in self.blocks:
            block.box = self.box

    def forward(self, x):
        self.box[:] = [x * 2]
        return super().forward(x)


class Doubled(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 3


@blocks(alike=False)
def function_of_its_own(self, x):
    return Doubled.apply(Block.forward(self, x))


@model(alike=False)
class HooksOfOne(Model):
    def __init__(self):
        super().__init__()
        self.blocks[3].register_forward_hook(lambda module, args, y: y * 2)


@model(alike=False)
class SharedPart(Model):
    def __init__(self):
        super().__init__()
        for block in self.blocks:
            block.linear = self.blocks[0].linear


@model(alike=False)
class ClassesDiffer(Model):
    class Other(Block):
        def forward(self, x):
            return super().forward(x) * 2

    def __init__(self):
        super().__init__()
        self.blocks[2], self.blocks[3], self.blocks[4] = (self.Other() for _ in range(3))


@model(alike=False)
class OptionsOfLayersDiffer(Model):
    class Own(Block):
        def __init__(self, number):
            super().__init__(number)
            self.conv = nn.Conv1d(4, 4, 3, padding=number % 3)

        def forward(self, x):
            return self.conv(super().forward(x).t()).t()


@model(alike=False)
class CalledTwice(Model):
    def forward(self, x):
        for block in (*self.blocks, *self.blocks):
            x = block(x)
        return x


@model(alike=False)
class Frozen(Model):
    def __init__(self):
        super().__init__()
        for number, block in enumerate(self.blocks):
            block.linear.requires_grad_(number % 2 == 0)


@model(alike=False)
class OwnForwardOfOne(Model):
    def __init__(self):
        super().__init__()
        one = self.blocks[3]
        one.forward = lambda x: Block.forward(one, x) * 3


@pytest.fixture
def standing(monkeypatch) -> list[str]:
    """The blocks that were not looked into."""
    noted: list[str] = []
    stand_in = Alike.stand_in

    def counted(self: Any, path: str, *rest: Any) -> None:
        noted.append(path)
        stand_in(self, path, *rest)

    monkeypatch.setattr(Alike, "stand_in", counted)
    return noted


@pytest.mark.parametrize("name", MODELS)
def test_blocks(name, standing):
    make, alike = MODELS[name]
    torch.manual_seed(0)
    net = make().train(False)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        imported = jaxnn.from_torch(net, torch.randn(5, 4))  # which proves itself
    if alike:
        assert standing
        assert len({programs_of(imported.blocks[i], False) for i in range(COUNT)}) == 1


def test_the_blocks_run_their_own_weights(standing):
    net = Plain().eval()
    imported = jaxnn.from_torch(net, torch.randn(5, 4))
    assert len(set(standing)) == COUNT - 4  # the first settles sizes
    for rows in (1, 5, 9):
        x = torch.randn(rows, 4)
        wanted = net(x).detach().numpy()
        np.testing.assert_allclose(imported(x.numpy()), wanted, rtol=1e-5, atol=1e-5)
    inner = imported.blocks[4]
    x = torch.randn(2, 4)
    wanted = net.blocks[4](x).detach().numpy()
    np.testing.assert_allclose(inner(x.numpy()), wanted, rtol=1e-5, atol=1e-5)
