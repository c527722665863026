"""What torch runs in each block of a model that may be alike."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .alike import Group

if TYPE_CHECKING:
    import torch


class Runs:
    """What torch runs in each block of a call of the model: operators, and numbers given to these.

    Args:
        groups: the blocks that look alike.
    """

    def __init__(self, groups: Sequence[Group] = ()) -> None:
        self.of: dict[str, list[Any]] = {}
        self._paths = {path for group in groups for path in group.members}
        self._within: list[str] = []

    @contextmanager
    def noted(self, model: torch.nn.Module) -> Iterator[None]:
        """Let the blocks say when they are called, while in this context."""
        members = {path: m for path, m in model.named_modules() if path in self._paths}
        self.of = {path: [] for path in members}
        for path, module in members.items():
            module.__dict__["forward"] = self._telling(path, module.forward)
        try:
            yield
        finally:
            for module in members.values():
                del module.__dict__["forward"]

    def _telling(self, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def told(*args: Any, **kwargs: Any) -> Any:
            self._within.append(path)
            try:
                return forward(*args, **kwargs)
            finally:
                self._within.pop()

        return told

    def runs(self, operator: Any, args: Any, kwargs: Any) -> None:
        """Be told that torch runs an operator."""
        from torch.utils import _pytree as pytree

        if self._within:
            given = [v for v in pytree.tree_leaves((args, kwargs)) if not hasattr(v, "dtype")]
            self.of[self._within[-1]].append((str(operator), repr(given)))
