"""A model that is run or traced stays as it was."""

from __future__ import annotations

import copy
import inspect
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@contextmanager
def left_as_it_was(model: torch.nn.Module) -> Iterator[None]:
    """Put back what the modules' attributes hold: a traced call leaves its own tensors there."""
    kept = [_Kept(module) for module in model.modules()]
    try:
        yield
    finally:
        for one in kept:
            one.put_back()


class _Kept:
    """The attributes of a module or object, and what the containers among them hold."""

    def __init__(self, owner: Any, memo: set[int] | None = None) -> None:
        import torch

        self.owner, self.held = owner, dict(vars(owner))
        self.within: list[_Kept] = []
        self.contents: list[tuple[Any, Any]] = []
        memo = set() if memo is None else memo
        for name, value in self.held.items():
            if isinstance(owner, torch.nn.Module) and name in _REGISTERED:
                self.contents.append((value, copy.copy(value)))
            else:
                self._note(value, memo)

    def _note(self, value: Any, memo: set[int]) -> None:
        import torch

        if id(value) in memo or isinstance(value, (torch.nn.Module, torch.Tensor, type)):
            return
        memo.add(id(value))
        if isinstance(value, (dict, list, deque, set)):
            self.contents.append((value, copy.copy(value)))
            items = value.values() if isinstance(value, dict) else value
            for item in list(items):
                self._note(item, memo)
        elif isinstance(value, tuple):
            for item in value:
                self._note(item, memo)
        elif hasattr(value, "__dict__") and not callable(value) and not inspect.ismodule(value):
            self.within.append(_Kept(value, memo))

    def put_back(self) -> None:
        held = vars(self.owner)
        for name in [name for name in held if name not in self.held]:
            del held[name]
        held.update(self.held)
        for container, content in self.contents:
            container.clear()
            if isinstance(container, (dict, set)):
                container.update(content)
            else:
                container.extend(content)
        for one in self.within:
            one.put_back()


# What a module registers itself, whose parts are noted by themselves.
_REGISTERED = {"_parameters", "_buffers", "_modules"}
