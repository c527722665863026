"""What has several names in a torch model: it is stored once, and found under each at a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flax import nnx


def descend(module: Any, path: str) -> Any:
    """Return what is at the dotted `path` below `module`.

    Raises:
        ValueError: if it is tied to a part of a larger module, which is not at work here.
    """
    node = module
    for name in filter(None, path.split(".")):
        node = getattr(node, name)
    if node is None:
        raise ValueError(
            f"{path} is tied to another part of the model and is not stored here: call the model "
            "as a whole"
        )
    return node


@contextmanager
def tied_in_place(module: Any) -> Iterator[None]:
    """Let what is tied be reached under each of its names, for the time of a call.

    A variable is stored once, since NNX's tree mode forbids that two attributes share it.
    """
    owners = []
    try:
        for alias, path in module._tied:
            owner, _, name = alias.rpartition(".")
            node = descend(module, owner)
            if getattr(node, name) is None:
                owners.append((node, name))
                _place(node, name, descend(module, path))
        yield
    finally:
        for node, name in reversed(owners):
            _place(node, name, None)


def tie(module: Any, names: Mapping[str, str], keys: Callable[[], Iterable[str]]) -> None:
    """Let a parameter, buffer or module have further names, which a call finds it under.

    Args:
        module: the whole model.
        names: the further names, each with the first, under which it is stored.
        keys: a function that gives all keys of the state dict, in torch's order; it is called
            while everything is in its place.
    """
    for alias in names:
        owner, _, name = alias.rpartition(".")
        node = descend(module, owner)
        vars(node).setdefault(name, None)
        setattr(node, name, nnx.data(None))
    module._tied = tuple(names.items())
    with tied_in_place(module):
        module._tied = ()
        module._state_keys = tuple(keys())
    module._tied = tuple(names.items())


def _place(node: Any, name: str, value: Any) -> None:
    # Past the checks of containers, and past NNX's, which would see a shared variable.
    vars(node)[name] = value
