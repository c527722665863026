"""Containers: Sequential, ModuleList and ModuleDict, and the layers that only change the shape."""

from __future__ import annotations

import inspect
import operator
from collections import OrderedDict
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from functools import cache
from typing import Any, Self, overload

from flax import nnx
from jaxtyping import Array, Shaped

from .. import functional as F
from .._checks import check_int
from ._module import Module, RandomSource

# A child may have the name of a method that only Flax has: torch has models with such names.
_FLAX_NAMES = {
    name for name in dir(nnx.Module) if not name.startswith("_") and name not in ("train", "eval")
}


class _Container(Module):
    """A module whose children are attributes under the names that the state dict's keys have.

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
        container = type(self).__name__
        if not isinstance(name, str):
            raise TypeError(f"jaxnn.{container}: a child's name must be a string, got {name!r}")
        if not isinstance(module, nnx.Module) and module is not None:
            raise TypeError(
                f"jaxnn.{container}: child {name!r} must be an nnx.Module, got "
                f"{type(module).__name__}; use a layer, or wrap a function in a jaxnn.Module"
            )
        if name not in self._child_names:
            self._check_new_name(name)
            self._child_names = (*self._child_names, name)
        super().__setattr__(name, nnx.data(module))

    def _check_new_name(self, name: str) -> None:
        container = type(self).__name__
        if not name or "." in name:
            raise KeyError(
                f"jaxnn.{container}: a child's name must not be empty nor contain a dot, got "
                f"{name!r}"
            )
        if name in vars(self) or (hasattr(type(self), name) and name not in _FLAX_NAMES):
            raise KeyError(
                f"jaxnn.{container}: attribute {name!r} exists already; rename the child"
            )

    def _children(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._child_names}

    def _replace_children(self, children: Mapping[str, nnx.Module | None]) -> None:
        for name in self._child_names:
            delattr(self, name)
        for name, child in children.items():
            self.add_module(name, child)

    def __len__(self) -> int:
        return len(self._child_names)


class _IndexedContainer(_Container):
    """What Sequential and ModuleList share: children by position."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self._children().values())

    def _name_at(self, index: Any) -> str:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(
                f"jaxnn.{type(self).__name__}: index {index} is out of range for {len(self)}"
            )
        return self._child_names[position]

    def _slice(self, positions: slice) -> Self:
        raise NotImplementedError

    @overload
    def __getitem__(self, idx: slice) -> Self: ...
    @overload
    def __getitem__(self, idx: int) -> Any: ...
    def __getitem__(self, idx: slice | int) -> Any:
        return self._slice(idx) if isinstance(idx, slice) else getattr(self, self._name_at(idx))

    def __setitem__(self, idx: int, module: nnx.Module | None) -> None:
        self.add_module(self._name_at(idx), module)

    def __delitem__(self, idx: slice | int) -> None:
        names = self._child_names[idx] if isinstance(idx, slice) else [self._name_at(idx)]
        kept = [child for name, child in self._children().items() if name not in names]
        self._replace_children(_numbered(kept))

    def append(self, module: nnx.Module | None) -> Self:
        """Add `module` at the end, and return the container."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[nnx.Module | None]) -> Self:
        """Add all `modules` at the end, and return the container."""
        if not isinstance(modules, Iterable):
            raise TypeError(
                f"jaxnn.{type(self).__name__}: `modules` must be an iterable of modules, got "
                f"{type(modules).__name__}"
            )
        for module in list(modules):
            self.append(module)
        return self

    def _insert(self, index: int, module: nnx.Module | None) -> None:
        children = list(self)
        children.insert(index, module)
        self._replace_children(_numbered(children))

    def pop(self, key: int | slice) -> Any:
        """Remove the child at `key`, or the children in a slice, and return it or them."""
        removed = self[key]
        del self[key]
        return removed


class Sequential(_IndexedContainer):
    """Modules in a chain: each is called with the output of the one before.

    Args:
        args: the modules; or one OrderedDict, whose keys name them.

    Shapes: those of the first module's input and the last module's output.

    Raises:
        TypeError: if an argument is no nnx.Module.

    Source: torch.nn.Sequential.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> net = jaxnn.Sequential(jaxnn.Linear(2, 3, rngs=nnx.Rngs(0)), jaxnn.ReLU())
        >>> net(jnp.ones((4, 2))).shape
        (4, 3)
        >>> list(jaxnn.state_dict(net))
        ['0.weight', '0.bias']
    """

    def __init__(self, *args: Any, rngs: nnx.Rngs | None = None) -> None:
        super().__init__()
        named = len(args) == 1 and isinstance(args[0], OrderedDict)
        for name, module in (args[0] if named else _numbered(args)).items():
            self.add_module(name, module)

    def __call__(self, input: Any, *, rngs: RandomSource | None = None) -> Any:
        """Call the modules in turn; those that draw take their keys from `rngs`, where given."""
        # One key for all would make every layer draw the same.
        source = rngs if rngs is None or isinstance(rngs, nnx.Pytree) else nnx.Rngs(rngs)
        for module in self:
            if source is not None and _accepts_rngs(type(module)):  # type: ignore[arg-type]
                input = module(input, rngs=source)
            else:
                input = module(input)
        return input

    def _slice(self, positions: slice) -> Self:
        return type(self)(OrderedDict(list(self._children().items())[positions]))

    def insert(self, index: int, module: nnx.Module | None) -> Self:
        """Insert `module` before position `index`, renumber, and return the container."""
        if not -len(self) <= index <= len(self):
            raise IndexError(f"jaxnn.Sequential: index {index} is out of range for {len(self)}")
        self._insert(index, module)
        return self

    def __add__(self, other: Sequential) -> Sequential:
        _check_sequential(other)
        return Sequential(*self, *other)

    def __iadd__(self, other: Sequential) -> Self:
        _check_sequential(other)
        return self.extend(other)

    def __mul__(self, other: int) -> Sequential:
        return Sequential(*list(self) * _check_factor(other))

    __rmul__ = __mul__

    def __imul__(self, other: int) -> Self:
        return self.extend(list(self) * (_check_factor(other) - 1))


class ModuleList(_IndexedContainer):
    """A list of modules, whose parameters are part of the module that holds it.

    Args:
        modules: the modules, if any.

    Raises:
        TypeError: if `modules` is no iterable of nnx.Module.

    Source: torch.nn.ModuleList.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> rngs = nnx.Rngs(0)
        >>> layers = jaxnn.ModuleList([jaxnn.Linear(2, 2, rngs=rngs) for _ in range(3)])
        >>> len(layers[1:]), layers[-1] is layers[2]
        (2, True)
    """

    def __init__(
        self,
        modules: Iterable[nnx.Module | None] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def _slice(self, positions: slice) -> Self:
        return type(self)(list(self)[positions])

    def insert(self, index: int, module: nnx.Module | None) -> None:
        """Insert `module` before position `index`, as list.insert does."""
        self._insert(index, module)

    def __add__(self, other: Iterable[nnx.Module | None]) -> ModuleList:
        return ModuleList([*self, *other])

    def __iadd__(self, modules: Iterable[nnx.Module | None]) -> Self:
        return self.extend(modules)


class ModuleDict(_Container):
    """A dict of modules, in order of insertion, whose parameters are part of what holds it.

    Args:
        modules: a mapping from names to modules, or an iterable of pairs of them.

    Raises:
        TypeError: if a value is no nnx.Module, or a name no string.
        KeyError: if a name is empty, contains a dot, or is that of an attribute such as "train".

    Source: torch.nn.ModuleDict.

    Example:
        >>> import jaxnn
        >>> activations = jaxnn.ModuleDict({"relu": jaxnn.ReLU(), "none": jaxnn.Identity()})
        >>> list(activations)
        ['relu', 'none']
    """

    def __init__(
        self,
        modules: Mapping[str, nnx.Module | None]
        | Iterable[tuple[str, nnx.Module | None]]
        | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Any:
        return self._children()[key]

    def __setitem__(self, key: str, module: nnx.Module | None) -> None:
        self.add_module(key, module)

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
        """Return the modules."""
        return self._children().values()

    def items(self) -> ItemsView[str, Any]:
        """Return the pairs of name and module."""
        return self._children().items()

    def pop(self, key: str) -> Any:
        """Remove the module at `key` and return it."""
        removed = self[key]
        del self[key]
        return removed

    def clear(self) -> None:
        """Remove all modules."""
        self._replace_children({})

    def update(
        self,
        modules: Mapping[str, nnx.Module | None] | Iterable[tuple[str, nnx.Module | None]],
    ) -> None:
        """Add all `modules`; one whose name is already there replaces the old one in its place."""
        if isinstance(modules, (Mapping, ModuleDict)):
            pairs = list(modules.items())
        elif isinstance(modules, Iterable):
            pairs = [_pair(element, i) for i, element in enumerate(modules)]
        else:
            raise TypeError(
                "jaxnn.ModuleDict: `modules` must be a mapping or an iterable of (name, module) "
                f"pairs, got {type(modules).__name__}"
            )
        for name, module in pairs:
            self[name] = module


class Flatten(Module):
    """Join a range of dimensions into one.

    Shapes: (*before, S_start, ..., S_end, *after) -> (*before, S_start * ... * S_end, *after).

    Args:
        start_dim: the first dimension of the range.
        end_dim: the last dimension of the range.

    Raises:
        TypeError: if a dimension is no int.
        ValueError: at the call, if the input lacks a dimension, or the range ends before it starts.

    Source: torch.nn.Flatten.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Flatten()(jnp.ones((2, 3, 4))).shape
        (2, 12)
    """

    def __init__(
        self, start_dim: int = 1, end_dim: int = -1, *, rngs: nnx.Rngs | None = None
    ) -> None:
        self.start_dim = check_int(start_dim, "start_dim", "jaxnn.Flatten")
        self.end_dim = check_int(end_dim, "end_dim", "jaxnn.Flatten")

    def __call__(self, input: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Return the input in its new shape."""
        return F.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """Return the range."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Split one dimension into several.

    Shapes: (*before, S, *after) -> (*before, U_1, ..., U_n, *after), with S = U_1 * ... * U_n.

    Args:
        dim: the dimension to split.
        unflattened_size: its new sizes, as a tuple or list; one of them may be -1.

    Raises:
        TypeError: if `unflattened_size` is no tuple or list of ints.
        ValueError: at the call, if the sizes do not multiply to the dimension's.

    Source: torch.nn.Unflatten.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Unflatten(1, (3, 4))(jnp.ones((2, 12))).shape
        (2, 3, 4)
    """

    def __init__(
        self,
        dim: int,
        unflattened_size: tuple[int, ...] | list[int],
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        if not isinstance(unflattened_size, (tuple, list)):
            raise TypeError(
                "jaxnn.Unflatten: `unflattened_size` must be a tuple or list of ints, got "
                f"{unflattened_size!r}"
            )
        self.dim = check_int(dim, "dim", "jaxnn.Unflatten")
        self.unflattened_size = tuple(
            check_int(size, "unflattened_size", "jaxnn.Unflatten") for size in unflattened_size
        )

    def __call__(self, input: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Return the input in its new shape."""
        return F.unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        """Return the dimension and its new sizes."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


def _numbered(modules: Iterable[Any]) -> dict[str, Any]:
    return {str(i): module for i, module in enumerate(modules)}


def _pair(element: Any, position: int) -> tuple[str, Any]:
    if not isinstance(element, Iterable):
        raise TypeError(f"jaxnn.ModuleDict: element {position} is no pair, got {element!r}")
    pair = tuple(element)
    if len(pair) != 2:
        raise ValueError(
            f"jaxnn.ModuleDict: element {position} must be a (name, module) pair, got "
            f"{len(pair)} items"
        )
    return pair


def _check_sequential(other: Any) -> None:
    if not isinstance(other, Sequential):
        raise ValueError(
            f"jaxnn.Sequential: only a Sequential can be added, got {type(other).__name__}; use "
            "extend for other iterables"
        )


def _check_factor(factor: Any) -> int:
    return check_int(factor, "other", "jaxnn.Sequential", minimum=1)


@cache
def _accepts_rngs(module_type: Any) -> bool:
    return "rngs" in inspect.signature(module_type.__call__).parameters
