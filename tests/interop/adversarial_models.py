"""Small PyTorch models whose habits an exporter loses, each with what an import of it must be.

`equal`: values, gradients and state are the original's. `warned`: the same, and a warning names
what only a person can judge. `refused`: an error names the line and the remedy.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.autograd import Function
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from torch.utils import checkpoint


@dataclass
class Case:
    """A model, an example, and what its import must be.

    Attributes:
        make: makes the model.
        verdict: "equal", "warned" or "refused".
        says: what the warning or the error must say, as a pattern.
        args: the arguments of the example.
        others: those of a second call; by default of another batch.
    """

    make: Callable[[], nn.Module]
    verdict: str = "equal"
    says: str = ""
    args: Callable[[], tuple[Any, ...]] = lambda: (torch.randn(4, 3),)
    others: Callable[[], tuple[Any, ...]] = lambda: (torch.randn(5, 3),)


CASES: dict[str, Case] = {}


class Scripted(nn.Module):
    """Two Linears, a parameter, buffers: what the forward pass of a case may use."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.other = nn.Linear(3, 3), nn.Linear(3, 3)
        self.norm, self.drop = nn.BatchNorm1d(3), nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.tensor([0.5, -1.0, 2.0]))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.memory: Any = None
        self.calls = 0
        self.store: dict[str, Any] = {}


def forward(verdict: str = "equal", says: str = "", **options: Any) -> Callable[[Any], Any]:
    """Let a function be the forward pass of a case."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        kind = type(function.__name__, (Scripted,), {"forward": function})
        CASES[function.__name__] = Case(kind, verdict, says, **options)
        return function

    return add


def model(verdict: str = "equal", says: str = "", **options: Any) -> Callable[[Any], Any]:
    """Let a class be the model of a case."""

    def add(kind: type[nn.Module]) -> type[nn.Module]:
        CASES[kind.__name__] = Case(kind, verdict, says, **options)
        return kind

    return add


class Part(nn.Module):
    """A part that keeps what it does to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)


# --- values that cross a module's boundary -------------------------------------------------------


class Appends(Part):
    def forward(self, x, features):
        y = torch.tanh(self.linear(x))
        features.append(y)
        return y


@model()
class ListThatPartsAppendTo(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Appends() for _ in range(3))

    def forward(self, x):
        features = []
        for block in self.blocks:
            x = block(x, features)
        return sum(features) + x


class Fills(Part):
    def forward(self, x, shared):
        shared["key"] = self.linear(x)
        shared.setdefault("deep", []).append({"inner": x * 2})
        return x + 1


@model()
class DictThatPartsFill(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Fills(), Fills()

    def forward(self, x):
        shared = {"given": x}
        y = self.second(self.first(x, shared), shared)
        return y + shared["key"] + shared["deep"][0]["inner"] * shared["deep"][1]["inner"]


class Context:
    pass


class AddsToLoss(Part):
    def forward(self, x, context):
        context.loss = context.loss + self.linear(x).pow(2).sum()
        return x * 2


@model()
class ObjectThatCarriesALoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = AddsToLoss(), AddsToLoss()

    def forward(self, x):
        context = Context()
        context.loss = x.sum()
        return self.second(self.first(x, context), context), context.loss


@dataclasses.dataclass
class State:
    total: Any = None
    queue: Any = dataclasses.field(default_factory=collections.deque)


class Queues(Part):
    def forward(self, x, state):
        y = self.linear(x)
        state.total = y if state.total is None else state.total * y
        state.queue.append(x * 3)
        return x - 1


@model()
class DataclassAndDeque(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Queues(), Queues()

    def forward(self, x):
        state = State()
        y = self.second(self.first(x, state), state)
        return y + state.total + state.queue.popleft() + state.queue[0]


class KeepsAttributes(Part):
    def forward(self, x):
        self.auxiliary = self.linear(x).mean()
        self.hidden = x * 2
        return torch.relu(x)


@model()
class AttributesThatTheParentReads(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = KeepsAttributes(), KeepsAttributes()

    def forward(self, x):
        y = self.second(self.first(x))
        return y + self.first.auxiliary * self.second.auxiliary + self.second.hidden


class ReadsSibling(Part):
    def __init__(self, sibling):
        super().__init__()
        self.sibling = [sibling]

    def forward(self, x):
        return self.linear(x) * self.sibling[0].hidden + self.sibling[0].linear.weight.sum()


@model()
class SiblingThatIsRead(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = KeepsAttributes()
        self.second = ReadsSibling(self.first)

    def forward(self, x):
        return self.second(self.first(x))


class Unused(nn.Module):
    def forward(self, x, extra):
        return x + 1


@model()
class ArgumentThatIsNotUsed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Appends(), Unused()

    def forward(self, x):
        features = []
        return self.second(self.first(x, features), features[0])


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, q, k, v):
        return torch.softmax(self.query(q) @ self.key(k).T, -1) @ v


@model()
class OneTensorThreeTimes(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = Attends()

    def forward(self, x):
        return self.attention(x, x, x) + self.attention(x, x * 2, x)


class Shifted(nn.Module):
    def forward(self, ids, labels=None):
        return (ids[:, :-1].reshape(-1) * labels[:, 1:].reshape(-1)).sum()


@model(args=lambda: ((x := torch.randn(4, 3)), x), others=lambda: ((x := torch.randn(5, 3)), x))
class OneTensorAsTwoArguments(Shifted):
    pass


@forward()
def hooks_that_fill_a_dict(self, x):
    found = {}
    handles = [
        part.register_forward_hook(lambda m, a, y, name=name: found.__setitem__(name, y))
        for name, part in (("linear", self.linear), ("other", self.other))
    ]
    y = self.other(torch.relu(self.linear(x)))
    for handle in handles:
        handle.remove()
    return y + found["linear"] * found["other"]


@model()
class HooksThatChangeWhatPasses(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), Appends()
        self.first.register_forward_hook(lambda module, args, y: y * 2)
        self.first.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
        self.second.register_forward_hook(
            lambda module, args, kwargs, y: y + kwargs["features"][-1], with_kwargs=True
        )

    def forward(self, x):
        return self.second(self.first(x), features=[x])


class Pair(NamedTuple):
    left: Any
    right: Any


class Swaps(Part):
    def forward(self, pair, *rest, flag=False, **options):
        left, right = pair
        total = sum(rest, left * 0) + options.get("bias", 0)
        return Pair(self.linear(right) + total, left) if flag else pair


@model()
class TuplesAndOptions(nn.Module):
    def __init__(self):
        super().__init__()
        self.swap = Swaps()

    def forward(self, x):
        pair = self.swap(Pair(x, x * 2), x, x + 1, flag=True, bias=x.mean())
        pair = self.swap(pair, flag=True)
        return {"left": pair.left, "nested": [pair.right, (None, self.swap(pair))]}


class Returns(Part):
    def forward(self, x):
        return x, [self.linear(x)], {"none": None, "same": x}


@model()
class ContainersThatTheParentChanges(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Returns()

    def forward(self, x):
        same, found, named = self.part(x)
        found.append(same * 2)
        named["more"] = found[1] + 1
        return found, named, same is x


class MayFail(Part):
    def forward(self, x, features):
        features.append(self.linear(x))
        raise ValueError("not this way")


@model("refused", "torch.export cannot capture PartThatRaises")
class PartThatRaises(nn.Module):
    def __init__(self):
        super().__init__()
        self.part, self.linear = MayFail(), nn.Linear(3, 3)

    def forward(self, x):
        features = []
        with contextlib.suppress(ValueError):
            return self.part(x, features)
        return self.linear(x) + features[0]


class Pops(Part):
    def forward(self, x, features):
        return self.linear(x) + features.pop()


@model()
class ListThatPartsTakeFrom(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(Appends() for _ in range(2))
        self.up = nn.ModuleList(Pops() for _ in range(2))

    def forward(self, x):
        features = []
        for part in (*self.down, *self.up):
            x = part(x, features)
        return x


class Yields(Part):
    def forward(self, x):
        for _ in range(3):
            x = self.linear(x)
            yield x


@model()
class PartThatYields(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Yields()

    def forward(self, x):
        return sum(self.part(x))


@forward("refused", "changes a dict that it is given .*return it",
         args=lambda: ({"x": torch.randn(4, 3)},))  # fmt: skip
def callers_dict_that_is_filled(self, given):
    given["y"] = self.linear(given["x"])
    return given["x"] * 2


@forward(args=lambda: ({"x": torch.randn(4, 3)},), others=lambda: ({"x": torch.randn(5, 3)},))
def callers_dict_that_is_filled_and_returned(self, given):
    given["y"] = self.linear(given["x"])
    return given


# --- conditions on sizes ------------------------------------------------------------------------


@forward("refused", r"imported for \(4, 3\).*adversarial_models")
def branch_on_the_batch(self, x):
    return self.linear(x) if x.shape[0] == 4 else self.other(x)


@forward("refused", r"x\.shape\[0\] < 5")
def branch_on_a_bound(self, x):
    return self.linear(x) if x.shape[0] < 5 else self.other(x)


@forward("refused", r"imported for \(4, 3\).*adversarial_models")
def a_size_in_a_text(self, x):
    return self.linear(x) * {"4": 3.0}.get(f"{x.shape[0]}", 1.0)


@forward("refused", r"imported for \(4, 3\).*adversarial_models")
def a_shape_as_a_text(self, x):
    return self.linear(x) * {"torch.Size([4, 3])": 3.0}.get(str(x.shape), 1.0)


@forward("refused", r"x has shape \(5, 3\), but the model was imported for \(4, 3\)")
def a_size_that_is_looked_up(self, x):
    return self.linear(x) * {4: 3.0}.get(x.shape[0], 1.0)


@lru_cache
def ramp(size):
    return torch.arange(size).float()[:, None]


@forward("refused", r"x has shape \(5, 3\), but the model was imported for \(4, 3\)")
def a_size_that_is_cached(self, x):
    return self.linear(x) + ramp(x.shape[0])


@forward("refused", "% 2")
def branch_on_evenness(self, x):
    return self.linear(x) if x.size(0) % 2 == 0 else self.other(x)


@forward("refused", r"imported for \(4, 3\)")
def a_batch_counted_by_len(self, x):
    return self.linear(x) if len(x) < 5 else self.other(x)


@forward("equal", others=lambda: (torch.randn(1, 3),))
def branch_on_a_batch_of_one(self, x):
    return self.linear(x).squeeze(0) * 2 if x.shape[0] == 1 else self.linear(x)


@forward("refused", r"imported for \(4, 3\)")
def loop_over_the_batch(self, x):
    state = torch.zeros(3)
    for row in x:
        state = torch.tanh(self.linear(row) + state)
    return state


@forward("refused", "shape", args=lambda: (torch.randn(4, 3), torch.randn(4, 3)),
         others=lambda: (torch.randn(5, 3), torch.randn(6, 3)))  # fmt: skip
def two_batches_that_must_agree(self, x, y):
    return self.linear(x) + y


@forward()
def sizes_as_numbers(self, x):
    n, width = x.shape
    positions = torch.arange(n, dtype=x.dtype)
    return self.linear(x) * (n / width) + positions[:, None] / n + x.new_ones(n, 1).sum()


@forward()
def product_of_three(self, x):
    return torch.einsum("bi,ij,bj->b", x, self.linear.weight, x)


# --- gradients of its own -----------------------------------------------------------------------


class Round(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.round(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() < 1).to(gradient.dtype)


@forward()
def straight_through(self, x):
    y = self.linear(x)
    return Round.apply(y) * y


class Reverse(Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -ctx.factor * gradient, None


@forward()
def gradient_reversal(self, x):
    y = self.linear(x)
    return self.other(y), self.other(Reverse.apply(y, 0.3))


class Same(Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return gradient.clamp(-0.1, 0.1)


@forward()
def identity_that_clips_gradients(self, x):
    return Same.apply(self.linear(x)) * Same.apply(self.scale)


class Scores(Function):
    """Both of torch's forms: this one has `setup_context`."""

    @staticmethod
    def forward(x, weight, factor):
        y = x @ weight
        return y * factor, y.argmax(-1)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, ctx.factor = inputs
        ctx.save_for_backward(x, weight)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx, gradient, _):
        x, weight = ctx.saved_tensors
        return gradient @ weight.T * ctx.factor * 2, x.T @ gradient * 3, None


@forward()
def function_with_two_results(self, x):
    y, best = Scores.apply(self.linear(x), self.other.weight, 1.5)
    return y * best[:, None]


class Learned(Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.kept = torch.exp(-x * x)
        ctx.save_for_backward(x, scale)
        ctx.set_materialize_grads(False)
        return ctx.kept * scale, x + scale

    @staticmethod
    def backward(ctx, first, second):
        x, _ = ctx.saved_tensors
        first = torch.zeros_like(x) if first is None else first
        second = torch.zeros_like(x) if second is None else second
        needed = ctx.needs_input_grad[1]
        return first * ctx.kept + second / 2, (first * ctx.kept * 0.5).sum(0) if needed else None


@forward()
def function_that_learns(self, x):
    a, b = Learned.apply(self.linear(x), self.scale)
    only, _ = Learned.apply(a, self.scale)
    return a * b + only


class Drops(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return None


@forward()
def function_without_gradient(self, x):
    return Drops.apply(self.linear(x)) + self.other(x)


class Nested(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return Round.apply(x) + x

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return Same.apply(gradient) * Round.apply(x)


@forward()
def function_in_a_function(self, x):
    return Nested.apply(self.linear(x))


class CallsModule(Function):
    @staticmethod
    def forward(ctx, x, module):
        return module(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


@forward("refused", "calls the module linear")
def function_that_calls_a_module(self, x):
    return CallsModule.apply(x, self.linear)


class InPlace(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 3


@forward("refused", "mark_dirty")
def function_that_writes_in_place(self, x):
    return InPlace.apply(self.linear(x))


class RunsTheEngine(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            torch.autograd.backward(x.sin(), gradient)
        return x.grad * 2


@forward()
def function_that_runs_the_engine(self, x):
    return RunsTheEngine.apply(self.linear(x))


@forward()
def hooks_of_a_tensor(self, x):
    y = torch.tanh(self.linear(x))
    y.register_hook(lambda gradient: gradient * 3)
    y.register_hook(lambda gradient: gradient.clamp(-0.5, 0.5))
    return y * y + self.other(y)


@forward()
def hook_that_uses_another_value(self, x):
    weight, y = torch.sigmoid(self.linear(x)), self.other(x)
    y.register_hook(lambda gradient: gradient * weight)
    return y * y


@forward("warned", "changes no gradient")
def hook_that_only_looks(self, x):
    y = self.linear(x)
    y.register_hook(lambda gradient: self.store.__setitem__("gradient", gradient))
    return y * 2


@forward()
def hook_that_is_removed(self, x):
    y = self.linear(x)
    handle = y.register_hook(lambda gradient: gradient * 3)
    handle.remove()
    return y * y


@forward("warned", "at .*adversarial_models")
def hook_where_there_are_gradients(self, x):
    y = self.linear(x)
    if y.requires_grad:
        y.register_hook(lambda gradient: gradient * 2)
    return y * 2


@forward("refused", r"detach_.*adversarial_models.*y\.detach")
def detached_in_place(self, x):
    return self.linear(x).mul(2).detach_() * self.scale


@forward()
def values_by_data(self, x):
    y = self.linear(x)
    return y.data * y + self.scale.data * x


@forward("refused", "computed after")
def hook_that_uses_what_comes_after(self, x):
    y = self.linear(x)
    z = y * 2
    y.register_hook(lambda gradient: gradient * z)
    return z


@model("refused", "backward hook.*adversarial_models")
class BackwardHook(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.linear.register_full_backward_hook(lambda module, grad_in, grad_out: None)

    def forward(self, x):
        return self.linear(x)


@model("refused", "backward hook")
class BackwardPreHook(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.linear.register_full_backward_pre_hook(lambda module, grad: (grad[0] * 2,))

    def forward(self, x):
        return self.linear(x)


@model("refused", r"parameter linear\.weight has a hook")
class HookOfAParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.linear.weight.register_hook(lambda gradient: gradient * 2)

    def forward(self, x):
        return self.linear(x)


@forward()
def checkpointed(self, x):
    y = checkpoint.checkpoint(self.linear, x, use_reentrant=True)
    return checkpoint.checkpoint(self.other, y, use_reentrant=False)


@forward()
def gradients_switched_off_and_on(self, x):
    y = self.linear(x)
    with torch.no_grad():
        a = self.other(y)
        with torch.enable_grad():
            b = self.other(y) * 2
        c = y * 3
    with torch.set_grad_enabled(False):
        d = self.linear(x) * self.scale
    return a + b + c * y + d * self.linear(x) + y.detach() * x


@forward()
def no_grad_as_a_function(self, x):
    torch.set_grad_enabled(False)
    y = self.linear(x)
    torch.set_grad_enabled(True)
    return y * self.other(x)


@model()
class SpectralNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.new = parametrizations.spectral_norm(nn.Linear(3, 5))
        self.old = torch.nn.utils.spectral_norm(nn.Linear(5, 3))

    def forward(self, x):
        return self.old(torch.tanh(self.new(x)))


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight.triu() + weight.triu(1).T


@model()
class Parametrized(nn.Module):
    def __init__(self):
        super().__init__()
        self.symmetric, self.normed = nn.Linear(3, 3), nn.Linear(3, 3)
        parametrize.register_parametrization(self.symmetric, "weight", Symmetric())
        parametrizations.weight_norm(self.normed)

    def forward(self, x):
        return self.normed(self.symmetric(x))


# --- state that is none -------------------------------------------------------------------------


@forward("refused", "memory .*register_buffer")
def memory_in_an_attribute(self, x):
    y = self.linear(x)
    if self.memory is not None:
        y = y + self.memory.mean()
    self.memory = y.detach()
    return y


@forward("refused", "memory .*register_buffer")
def first_input_that_is_kept(self, x):
    if self.memory is None:
        self.memory = x.detach().mean()
    return self.linear(x) - self.memory


@forward("warned", "calls is read and changed")
def counter_without_effect(self, x):
    self.calls += 1
    return self.linear(x)


@forward("refused", "calls")
def counter_with_effect(self, x):
    self.calls += 1
    return self.linear(x) * self.calls


@forward("refused", "store")
def list_that_grows(self, x):
    self.store.setdefault("seen", []).append(x.sum())
    return self.linear(x) + len(self.store["seen"])


@forward()
def constant_that_is_kept(self, x):
    if self.memory is None:
        self.memory = torch.arange(3.0)
    return self.linear(x) + self.memory


@forward()
def results_that_are_left_in_attributes(self, x):
    self.last = self.linear(x)
    self.store["last"] = self.last * 2
    return self.last + self.store["last"]


@forward("warned", "random numbers, at .*adversarial_models")
def pythons_random_numbers(self, x):
    return self.linear(x) + 0 * random.random()


@forward("warned", "random numbers, at .*adversarial_models")
def numpys_random_numbers(self, x):
    return self.linear(x) + 0 * float(np.random.rand())


@forward("refused", "seeds torch's random numbers, at .*adversarial_models")
def random_numbers_that_are_seeded(self, x):
    torch.manual_seed(0)
    return self.linear(x) + torch.rand(3)


@forward("refused", "depends on the time")
def the_time(self, x):
    return self.linear(x) * (time.perf_counter() % 1)


COUNTED = [0]


@forward("refused", "outside of its parameters")
def a_global_counter(self, x):
    COUNTED[0] += 1
    return self.linear(x) * COUNTED[0]


@forward()
def buffers_that_are_assigned(self, x):
    y = self.linear(x)
    self.mean = 0.9 * self.mean + y.detach().mean(0)
    self.count = self.count + 1
    return y + self.mean * self.count


@model()
class BufferOfAPart(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = nn.Module()
        self.part.register_buffer("mean", torch.zeros(3))
        self.linear = nn.Linear(3, 3)

    def forward(self, x):
        self.part.mean = self.part.mean * 0.5 + self.linear(x).detach().mean(0)
        return self.linear(x) + self.part.mean


@forward()
def buffers_in_place(self, x):
    self.mean.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
    self.mean[1:] += 1
    self.count += 1
    return self.linear(x) + self.mean


@forward()
def buffers_by_data(self, x):
    self.mean.data = self.mean * 0.5 + x.detach().mean(0)
    return self.linear(x) + self.mean


@forward("refused", r"buffer mean, which was .*\(3,\)")
def buffer_that_grows(self, x):
    self.mean = torch.cat([self.mean, x.detach().mean(0)])
    return self.linear(x) + self.mean.sum()


@forward("refused", r"buffer norm\.running_mean of a layer")
def buffer_of_a_layer(self, x):
    self.norm.running_mean.zero_()
    return self.norm(self.linear(x))


@forward("refused", r"options of layers.*norm\.momentum")
def option_that_is_set(self, x):
    self.norm.momentum = 0.5
    return self.norm(self.linear(x))


@forward("warned", "torch.Generator of its own")
def a_generator_of_its_own(self, x):
    generator = torch.Generator()
    generator.manual_seed(0)
    return self.linear(x) + torch.rand(3, generator=generator)


@forward("refused", r"parameter linear\.weight in place")
def a_parameter_in_place(self, x):
    self.linear.weight.data.clamp_(-0.1, 0.1)
    return self.linear(x)


@forward()
def a_parameter_read_as_a_number(self, x):
    return self.linear(x) * self.scale[0].item()


# --- modes, arguments, integers, what cannot run -------------------------------------------------


@model()
class FrozenStatistics(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x):
        return self.norm(self.backbone(x))

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self


@model()
class TrainsInEvaluation(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)

    def forward(self, x):
        return self.norm(self.linear(x))

    def eval(self):
        super().eval()
        self.norm.train()
        return self


@forward()
def statistics_frozen_in_forward(self, x):
    self.norm.eval()
    return self.norm(self.linear(x))


@forward("refused", "training and in evaluation mode")
def one_layer_in_both_modes(self, x):
    y = self.norm.train()(x)
    return y + self.norm.eval()(x)


@forward("warned", "writes into its argument 'x'")
def argument_that_is_written(self, x):
    x.mul_(2)
    return self.linear(x)


@forward("refused", "beyond 32 bits, at .*x64")
def hashing(self, x):
    ids = (x * 100).long()
    return self.linear(x) + (ids * 2654435761) % 7


@forward()
def integers_of_infinities_that_are_masked(self, x):
    distance = torch.arange(3)
    bucket = 2 + torch.log(distance.float()).long()
    return self.linear(x) + torch.where(distance < 1, distance, bucket)


@forward("refused", "32 bits")
def a_constant_beyond_32_bits(self, x):
    return self.linear(x) + (torch.full((3,), 2**40) // 2**39)


@forward()
def integers_that_wrap_as_they_should(self, x):
    small = (x.abs() * 50).to(torch.uint8) * 3
    return self.linear(x) + small + (x * 10).to(torch.int32) // -3


@forward("refused", "depends on its values .*index")
def rows_by_a_mask(self, x):
    return self.linear(x)[x[:, 0] > 0]


@forward("warned", "values of tensors, at .*adversarial_models",
         args=lambda: (torch.linspace(-1, 1, 12).view(4, 3),),
         others=lambda: (torch.linspace(-1, 1, 12).view(4, 3),))  # fmt: skip
def a_size_from_a_value(self, x):
    return self.linear(x)[:, : int((x > 0).sum()) % 2 + 1].sum()


@forward("warned", "branches on the values of tensors, at .*adversarial_models")
def branch_on_a_value(self, x):
    y = self.linear(x)
    return y if torch.isfinite(y).all() else torch.zeros_like(y)


@model("warned", "first.weight and second.weight share memory")
class SharesMemory(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight.data = self.first.weight.data[:]

    def forward(self, x):
        return self.second(self.first(x))


@model("warned", "table and third share memory")
class SharesPartsOfATable(nn.Module):
    """Two views of one parameter that do not meet each other."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(3, 3))
        self.first = nn.Parameter(self.table.data[0])
        self.third = nn.Parameter(self.table.data[2])

    def forward(self, x):
        return x @ self.table + self.first * self.third


@model()
class CallOfItsOwn(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def __call__(self, x):
        return super().__call__(x) * 2

    def forward(self, x):
        return self.linear(x)


@model(args=lambda: (torch.randn(4, 3, 8),), others=lambda: (torch.randn(5, 3, 8),))
class PaddingSetLater(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 3, 3, padding=1, padding_mode="reflect")
        self.conv.padding = (2,)
        self.plain = nn.Conv1d(3, 3, 3)
        self.plain.padding, self.plain.stride = (1,), (2,)

    def forward(self, x):
        return self.plain(self.conv(x))


@forward()
def called_with_other_parameters(self, x):
    given = {"weight": self.other.weight * 2, "bias": self.other.bias}
    return torch.func.functional_call(self.linear, given, (x,)) + self.linear(x)


@model(
    "refused",
    r"lstm is given a PackedSequence, at .*adversarial_models",
    args=lambda: (torch.randn(2, 4, 3),),
)
class Packs(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 3, batch_first=True)

    def forward(self, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([4, 2]), batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]


@forward()
def sizes_in_messages(self, x):
    torch._assert(x.dim() == 2, f"expected (batch, features), got {x.shape}")
    torch._check(x.shape[1] == 3, lambda: f"got {x.shape[1]} features of {x.shape[0]}")
    if x.dtype == torch.int32:
        raise TypeError(f"{x.shape}")
    logging.getLogger(__name__).debug(f"{x.shape[0]} rows")
    return self.linear(x)


@forward("refused", r"imported for \(4, 3\).*adversarial_models", args=lambda: (torch.randn(4, 3),))
def a_size_in_a_key(self, x):
    tables = {"4 rows": self.linear, "other": self.other}
    return tables.get(f"{x.shape[0]} rows", self.other)(x)


@forward("refused", r"imported for \(4, 3\).*adversarial_models")
def a_size_in_what_a_check_returns(self, x):
    def _check(text):
        return float(text)

    return self.linear(x) * _check(f"{x.shape[0]}")


@forward()
def written_through_views(self, x):
    y = self.linear(x)
    y[:, 0] = 1
    y[1:].add_(x[:-1])
    y.view(-1)[::2] *= 2
    y.masked_fill_(x > 1, 0.5)
    return y.T.contiguous().T


@forward()
def drops_and_normalises(self, x):
    return F.dropout(self.drop(self.norm(self.linear(x))), 0.3, self.training)


@forward()
def complex_values(self, x):
    y = torch.fft.fft(self.linear(x))
    return torch.view_as_real(y * y.conj() + y), y


HELD = torch.linspace(0, 1, 3)


@forward()
def tensors_from_elsewhere(self, x):
    table = torch.from_numpy(np.arange(300.0, dtype=np.float32).reshape(100, 3))
    return self.linear(x) * HELD + table.sum(0) + torch.tensor([1, 2, 3])


@model()
class ModulesInAPlainList(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = [nn.Linear(3, 3)]
        self.linear = nn.Linear(3, 3)

    def forward(self, x):
        return self.linear(self.hidden[0](x))


@model()
class SharedAndTied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.again = self.first
        self.tied = nn.Linear(3, 3)
        self.tied.weight = self.first.weight
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x):
        return self.norm(self.tied(self.norm(self.again(self.first(x)))))
