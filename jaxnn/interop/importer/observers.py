"""Watching programs while they run: what their values are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from .program import Body, Custom


class Observer(Protocol):
    """What is told of the programs that run."""

    def body(self, body: Body, values: dict[str, Any]) -> None:
        """Take note of a program that begins: its values by name, which the run adds to."""

    def custom(self, step: Custom, known: tuple[Any, ...]) -> None:
        """Take note of a function with a gradient of its own that has run.

        Args:
            step: the function.
            known: its inputs, what it uses beside them, and its results.
        """


_OBSERVER: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Let an observer be told of every program that runs in this context."""
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)


def tell_body(body: Body, values: dict[str, Any]) -> None:
    """Tell the observer, if there is one, of a program that begins."""
    observer = _OBSERVER.get()
    if observer is not None:
        observer.body(body, values)


def tell_custom(step: Custom, known: tuple[Any, ...]) -> None:
    """Tell the observer, if there is one, of a function with a gradient of its own that has run."""
    observer = _OBSERVER.get()
    if observer is not None:
        observer.custom(step, known)
