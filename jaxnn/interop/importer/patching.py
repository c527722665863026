"""Functions of torch that are others for a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: Any, name: str, new: Any) -> Iterator[None]:
    """Let an attribute of a class or module be another, while in this context.

    >>> import math
    >>> with replaced(math, "tau", 6):
    ...     math.tau
    6
    """
    was = getattr(owner, name)
    setattr(owner, name, new)
    try:
        yield
    finally:
        setattr(owner, name, was)


@contextmanager
def attributes_watched(
    on_read: Callable[[Any, str], None], on_write: Callable[[Any, str], None]
) -> Iterator[None]:
    """Be told of each module's attribute that is read or is to be set, while in this context.

    Args:
        on_read: is given the module and the name of the attribute.
        on_write: likewise.
    """
    import torch

    kind: Any = torch.nn.Module
    store = kind.__setattr__

    def read(module: Any, name: str) -> Any:
        on_read(module, name)
        return object.__getattribute__(module, name)

    def written(module: Any, name: str, value: Any) -> None:
        on_write(module, name)
        store(module, name, value)

    kind.__getattribute__ = read
    try:
        with replaced(kind, "__setattr__", written):
            yield
    finally:
        del kind.__getattribute__
