"""Modules whose children have names that the state dict's keys have, by position or by name."""

from __future__ import annotations

import operator
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Self, overload

from flax import nnx

from .._module import Module, name_of

# A child may have the name of a method that only Flax has: torch has models with such names.
_FLAX_NAMES = {
    name for name in dir(nnx.Module) if not name.startswith("_") and name not in ("train", "eval")
}


class Container(Module):
    """A module whose children are attributes under the names that the state dict's keys have.

    The children are modules, but in the containers of parameters, which say so in `_checked`.
    `_child_names` holds the children's order, since NNX sorts attributes by name ("10" before "2").
    The names are strings, also those that are numbers: Linen's collections accept no others.
    """

    _child_names: tuple[str, ...]

    def __init__(self) -> None:
        self._child_names = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, nnx.Module):
            self.add_module(name, value)
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name in self._child_names:
            self._child_names = tuple(other for other in self._child_names if other != name)

    def add_module(self, name: str, module: nnx.Module | None) -> None:
        """Register `module` under `name`, in place of the child that has that name, if any.

        Raises:
            TypeError: if the name is no string, or the module is neither an nnx.Module nor None.
            KeyError: if the name is empty, contains a dot, or is already that of an attribute.
        """
        self._register(name, module)

    def _register(self, name: str, child: Any) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{name_of(self)}: a child's name must be a string, got {name!r}")
        child = self._checked(name, child)
        if name not in self._child_names:
            self._check_new_name(name)
            self._child_names = (*self._child_names, name)
        super().__setattr__(name, child)

    def _checked(self, name: str, child: Any) -> Any:
        """Return a child as it is stored."""
        if not isinstance(child, nnx.Module) and child is not None:
            raise TypeError(
                f"{name_of(self)}: child {name!r} must be an nnx.Module, got "
                f"{type(child).__name__}; use a layer, or wrap a function in a jaxnn.Module"
            )
        return nnx.data(child)

    def _check_new_name(self, name: str) -> None:
        if not name or "." in name:
            raise KeyError(
                f"{name_of(self)}: a child's name must not be empty nor contain a dot, got {name!r}"
            )
        if name in vars(self) or (hasattr(type(self), name) and name not in _FLAX_NAMES):
            raise KeyError(f"{name_of(self)}: attribute {name!r} exists already; rename the child")

    def _children(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._child_names}

    def _replace_children(self, children: Mapping[str, Any]) -> None:
        for name in self._child_names:
            delattr(self, name)
        for name, child in children.items():
            self._register(name, child)

    def __len__(self) -> int:
        return len(self._child_names)


class Positions(Container):
    """Children by position."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self._children().values())

    def _name_at(self, index: Any) -> str:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"{name_of(self)}: index {index} is out of range for {len(self)}")
        return self._child_names[position]

    def _slice(self, positions: slice) -> Self:
        raise NotImplementedError

    @overload
    def __getitem__(self, idx: slice) -> Self: ...
    @overload
    def __getitem__(self, idx: int) -> Any: ...
    def __getitem__(self, idx: slice | int) -> Any:
        return self._slice(idx) if isinstance(idx, slice) else getattr(self, self._name_at(idx))

    def __setitem__(self, idx: int, child: Any) -> None:
        self._register(self._name_at(idx), child)


class Names(Container):
    """Children by name."""

    def __getitem__(self, key: str) -> Any:
        return self._children()[key]

    def __setitem__(self, key: str, child: Any) -> None:
        self._register(key, child)

    def __delitem__(self, key: str) -> None:
        if key not in self._child_names:
            raise KeyError(key)
        delattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._child_names)

    def __contains__(self, key: object) -> bool:
        return key in self._child_names

    def keys(self) -> KeysView[str]:
        """Return the names."""
        return self._children().keys()

    def values(self) -> ValuesView[Any]:
        """Return the values."""
        return self._children().values()

    def items(self) -> ItemsView[str, Any]:
        """Return the pairs of name and value."""
        return self._children().items()

    def pop(self, key: str) -> Any:
        """Remove the value at `key` and return it."""
        removed = self[key]
        del self[key]
        return removed

    def clear(self) -> None:
        """Remove all values."""
        self._replace_children({})


def numbered(modules: Iterable[Any]) -> dict[str, Any]:
    return {str(i): module for i, module in enumerate(modules)}


def pair_of(element: Any, position: int) -> tuple[str, Any]:
    if not isinstance(element, Iterable):
        raise TypeError(f"jaxnn: element {position} must be a (name, value) pair, got {element!r}")
    pair = tuple(element)
    if len(pair) != 2:
        raise ValueError(
            f"jaxnn: element {position} must be a (name, value) pair, got {len(pair)} items"
        )
    return pair
