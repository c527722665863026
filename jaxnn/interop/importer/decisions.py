"""What a model reads of its tensors' values, answered as it was on the example."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .lines import is_torchs
from .structures import copied_call

if TYPE_CHECKING:
    import torch


# What a model's code reads of a tensor's values, to branch on or to compute a shape with.
_READS = ("__bool__", "__int__", "__float__", "__index__", "item", "tolist")


@dataclass
class Decisions:
    """What a model read of its tensors' values, in order, when it ran on the example."""

    answers: list[Any] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def decide(model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Decisions:
    """Run a copy of the model on the example, and note what it reads of its tensors' values."""
    import torch

    decisions = Decisions()
    twin = copy.deepcopy(model)

    def answer(original: Callable[..., Any], tensor: Any, caller: Any) -> Any:
        value = original(tensor)
        decisions.answers.append(value)
        line = f"{caller.f_code.co_filename}:{caller.f_lineno}"
        decisions.lines += [line] if line not in decisions.lines else []
        return value

    args, kwargs = copied_call(args, kwargs)
    with reads(answer), coins_that_never_drop(), torch.enable_grad():
        twin(*args, **kwargs)
    return decisions


class _AsksForGradients(RuntimeError):
    """A data-dependent branch: what needs a gradient differs while a model is traced."""


@contextmanager
def undecided() -> Iterator[None]:
    """Refuse what only a run of the model can answer; its values the exporter refuses itself."""

    def answer(original: Callable[..., Any], tensor: Any, caller: Any) -> Any:
        if getattr(original, "__name__", "") == "__get__":
            raise _AsksForGradients("data-dependent: the model asks whether a tensor has gradients")
        return original(tensor)

    with reads(answer):
        yield


@contextmanager
def as_decided(decisions: Decisions) -> Iterator[None]:
    """Answer what the model reads of its tensors' values as it was on the example."""
    answers = iter(decisions.answers)
    with reads(lambda original, tensor, caller: next(answers)), coins_that_never_drop():
        yield


@contextmanager
def reads(answer: Callable[[Callable[..., Any], Any, Any], Any]) -> Iterator[None]:
    """Let `answer` answer what the model's own code reads of a tensor's values."""
    import torch

    originals = {name: getattr(torch.Tensor, name) for name in _READS}
    needs_gradient: Any = torch.Tensor.requires_grad

    def patch(name: str) -> None:
        original = originals[name]

        def read(self: Any) -> Any:
            caller = sys._getframe(1)
            if not is_torchs(caller):
                return answer(original, self, caller)
            return original(self)

        setattr(torch.Tensor, name, read)

    def asked(self: Any) -> Any:
        caller = sys._getframe(1)
        if is_torchs(caller) or isinstance(self, torch.nn.Parameter):
            return needs_gradient.__get__(self)
        return answer(needs_gradient.__get__, self, caller)

    def set_gradient(self: Any, value: bool) -> None:
        needs_gradient.__set__(self, value)

    try:
        for name in _READS:
            patch(name)
        torch.Tensor.requires_grad = property(asked, set_gradient)  # type: ignore[assignment,method-assign]
        yield
    finally:
        del torch.Tensor.requires_grad
        for name, original in originals.items():
            setattr(torch.Tensor, name, original)


@contextmanager
def coins_that_never_drop() -> Iterator[None]:
    """Let `torch.rand` of a single number be 1, which no probability exceeds."""
    import torch

    rand = torch.rand

    def steady(*size: Any, **options: Any) -> Any:
        shape = size[0] if len(size) == 1 and isinstance(size[0], (list, tuple)) else size
        single = all(isinstance(n, int) and n == 1 for n in shape)
        return torch.ones(shape) if single else rand(*size, **options)

    torch.rand = steady  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.rand = rand
