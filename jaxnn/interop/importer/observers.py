"""Watching imported modules while they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from flax import nnx

from .program import Body, Custom


class Observer:
    """What is told of the programs that run; a subclass takes note of what it wants to know."""

    def begins(self, body: Body, values: dict[str, Any]) -> None:
        """Be told of a program that begins.

        Args:
            body: the program.
            values: its values by name, to which the run adds.
        """

    def customised(self, step: Custom, known: tuple[Any, ...]) -> None:
        """Be told of a function with a gradient of its own that has run.

        Args:
            step: the function.
            known: its inputs, what it uses beside them, and its results.
        """

    def returns(self, module: nnx.Module, result: Any) -> None:
        """Be told what the call of an imported module returns."""


_SILENT = Observer()
_OBSERVER: ContextVar[Observer] = ContextVar("observer", default=_SILENT)


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Let an observer be told of all that runs in this context."""
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)


def is_observed() -> bool:
    """Whether anyone takes note of what runs, and so of values that no other program may hold."""
    return _OBSERVER.get() is not _SILENT


def observer() -> Observer:
    """Return who is to be told of what runs."""
    return _OBSERVER.get()
