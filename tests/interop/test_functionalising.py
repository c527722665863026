"""A captured graph without writes: renamed where that is all there is, else by torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import jaxnn
from jaxnn.interop.importer.imported import programs_of
from jaxnn.interop.importer.operators import DRAWING

FORWARDS: dict[str, tuple[Callable[..., Any], bool]] = {}


def forward(*, renamed: bool) -> Callable[[Any], Any]:
    """Let a function be the forward pass of a model; say whether its writes are only renamed."""

    def add(function: Any) -> Any:
        FORWARDS[function.__name__] = function, renamed
        return function

    return add


class Model(nn.Module):
    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        self.linear, self.relu = nn.Linear(4, 4), nn.ReLU(inplace=True)
        self.function = function
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x):
        return self.function(self, x)


@forward(renamed=True)
def nothing_is_written(self, x):
    return self.linear(x).relu()


@forward(renamed=True)
def what_is_computed_is_written(self, x):
    y = self.linear(x)
    y += 1
    return y.mul_(x)


@forward(renamed=True)
def layers_in_place(self, x):
    y = self.linear(x)
    z = self.relu(y)
    z += x
    return y + z, z.relu_()


@forward(renamed=True)
def a_copy_is_written_but_not_its_source(self, x):
    y = self.linear(x)
    copy = torch.zeros_like(y)
    copy.copy_(y)
    copy.add_(1)
    return y - copy


@forward(renamed=True)
def a_view_from_before_is_not_used_after(self, x):
    y = self.linear(x)
    first = y[:, 0] * 2
    y.add_(3.0)
    flat = y.reshape(-1)
    flat.sub_(1)
    return flat + first.sum()


@forward(renamed=True)
def written_without_gradient(self, x):
    with torch.no_grad():
        y = self.linear(x)
        y.mul_(2)
    return y + self.linear(x)


@forward(renamed=True)
def switched_off_within_switched_on(self, x):
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        y = self.linear(x)
        with torch.enable_grad():
            z = self.linear(x) * 2
    return y + z


@forward(renamed=True)
def an_argument_is_written(self, x):
    x = x * 1
    y = F.relu(x, inplace=True)
    return x + y


@forward(renamed=True)
def filled_and_masked(self, x):
    y = self.linear(x)
    y.masked_fill_(y > 0, -1.0)
    z = torch.empty_like(y).fill_(2.0)
    return y + z.clamp_(max=1.5) + torch.tensor([1.0, 2.0, 3.0, 4.0])


@forward(renamed=False)
def a_view_from_before_is_used_after(self, x):
    y = self.linear(x)
    transposed = y.t()
    y.add_(1)
    return transposed * 2


@forward(renamed=False)
def written_through_a_view(self, x):
    y = self.linear(x)
    y.view(-1).mul_(2)
    return y


@forward(renamed=False)
def a_part_is_written(self, x):
    y = self.linear(x)
    y[:, 0] = 0
    return y


@forward(renamed=False)
def a_view_of_what_a_copy_wrote(self, x):
    y = self.linear(x)
    y.copy_(self.linear(y))
    first = y[0]
    y.add_(1)
    return first


@forward(renamed=False)
def detached_but_the_same_memory(self, x):
    y = self.linear(x)
    seen = y.detach()
    y.mul_(3)
    return y + seen


@forward(renamed=False)
def a_buffer_is_written(self, x):
    self.seen.add_(1)
    return x + self.seen


@forward(renamed=False)
def the_result_is_cast_to_what_is_written(self, x):
    y = self.linear(x).to(torch.bfloat16)
    y += x
    return y.float()


@forward(renamed=False)
def written_where_a_broadcast_reads(self, x):
    y = self.linear(x)
    rows = y[0].expand_as(y)
    y.relu_()
    return rows + 1


@pytest.mark.parametrize("name", FORWARDS)
def test_writes(name, monkeypatch):
    function, renamed = FORWARDS[name]
    kind = torch.export.ExportedProgram
    original, calls = kind.run_decompositions, []

    def counted(self, *args: Any) -> Any:
        calls.append(args)
        return original(self, *args)

    monkeypatch.setattr(kind, "run_decompositions", counted)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jaxnn.from_torch(Model(function).eval(), torch.randn(3, 4))  # which proves itself
    assert bool(calls) is not renamed


COMPOSITES: dict[str, Callable[[torch.Tensor], Any]] = {
    "conj": lambda z: z.conj() * z, "positive": lambda z: +z, "real": lambda z: z.real * 2,
    "imag": lambda z: z.imag * 2, "to": lambda z: z.to(torch.complex64), "mH": lambda z: z.mH * 2,
    "adjoint": lambda z: z.adjoint() @ z, "mT": lambda z: z.mT * 2, "T": lambda z: z[0].T * 2,
    "H": lambda z: z[0].H * 2, "narrow": lambda z: z.narrow(1, 1, 2),
    "view_as": lambda z: z.view_as(torch.zeros(4, 3, 2)), "ravel": lambda z: z.ravel() * 2,
    "reshape_as": lambda z: z.mT.reshape_as(torch.zeros(4, 6)),
    "flatten": lambda z: (z.flatten(), z.flatten(1), z.flatten(0, 1), z.flatten(1, -1)),
    "flatten a scalar": lambda z: z.sum().flatten(),
    "unflatten": lambda z: z.unflatten(2, (2, -1)), "swapaxes": lambda z: z.swapaxes(0, -1) * 2,
    "movedim": lambda z: (z.movedim(0, -1) * 2, z.moveaxis((0, 1), (2, 0)) * 2),
    "expand_as": lambda z: z[:1].expand_as(z) * 2,
    "broadcast_to": lambda z: torch.broadcast_to(z[0], (2, 3, 4)) * 2,
    "split": lambda z: [part * 2 for part in z.split([1, 3], -1)],
    "tensor_split": lambda z: [p * 2 for p in (*z.tensor_split(3, 2), *z.tensor_split((1, 2), 1))],
    "chunk": lambda z: [part * 2 for part in z.chunk(3, -1)],
    "type_as": lambda z: z.real.type_as(z), "contiguous": lambda z: z.mT.contiguous() * 2,
    "numbers": lambda z: z / z.numel(),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPOSITES)
def test_what_the_exporter_leaves_whole(name):
    class Net(nn.Module):
        def forward(self, z):
            return COMPOSITES[name](z)

    values = torch.arange(24.0).reshape(2, 3, 4)
    jaxnn.from_torch(Net(), torch.complex(values, values.flip(0) - 3), dynamic=False)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("p", [0.0, 0.5])
def test_a_dropout_that_drops_nothing_draws_nothing(training, p):
    class Net(nn.Module):
        def forward(self, x):
            return F.dropout(x, p, training) + F.alpha_dropout(x, 0.0, training)

    net = jaxnn.from_torch(Net(), torch.ones(2, 3))
    draws = training and p > 0
    assert bool(DRAWING & _operators(net, True)) is draws


def _operators(net: Any, training: bool) -> set[str]:
    return {step.operator for program in programs_of(net, training) for step in program.body.steps}
