"""Containers of modules and of parameters, and the layers that only change the shape."""

from __future__ import annotations

import inspect
import operator
import reprlib
from collections import OrderedDict
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from functools import cache
from typing import Any, Self, overload

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Shaped

from .. import functional as F
from .._checks import check_int
from ._module import Module, RandomSource, keys_for_parts

# A child may have the name of a method that only Flax has: torch has models with such names.
_FLAX_NAMES = {
    name for name in dir(nnx.Module) if not name.startswith("_") and name not in ("train", "eval")
}


class _Container(Module):
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
            raise TypeError(
                f"jaxnn.{type(self).__name__}: a child's name must be a string, got {name!r}"
            )
        child = self._checked(name, child)
        if name not in self._child_names:
            self._check_new_name(name)
            self._child_names = (*self._child_names, name)
        super().__setattr__(name, child)

    def _checked(self, name: str, child: Any) -> Any:
        """Return a child as it is stored."""
        if not isinstance(child, nnx.Module) and child is not None:
            raise TypeError(
                f"jaxnn.{type(self).__name__}: child {name!r} must be an nnx.Module, got "
                f"{type(child).__name__}; use a layer, or wrap a function in a jaxnn.Module"
            )
        return nnx.data(child)

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

    def _replace_children(self, children: Mapping[str, Any]) -> None:
        for name in self._child_names:
            delattr(self, name)
        for name, child in children.items():
            self._register(name, child)

    def __len__(self) -> int:
        return len(self._child_names)


class _Positions(_Container):
    """Children by position."""

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

    def __setitem__(self, idx: int, child: Any) -> None:
        self._register(self._name_at(idx), child)


class _IndexedContainer(_Positions):
    """What Sequential and ModuleList share: modules by position."""

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
        source = keys_for_parts(rngs)
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


class _Names(_Container):
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


class ModuleDict(_Names):
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


def _stored(value: Any) -> Any:
    """Return what a container of parameters stores: an array becomes an nnx.Param."""
    if isinstance(value, (jax.Array, np.ndarray)):
        return nnx.Param(value)
    return nnx.data(value) if isinstance(value, (nnx.Variable, nnx.Module)) else value


def _description(value: Any) -> str:
    if isinstance(value, nnx.Variable):
        return f"{type(value).__name__}: {value.dtype}{list(value.shape)}"
    return reprlib.repr(value)


class _Parameters(_Container):
    """What ParameterList and ParameterDict share: children that are any values."""

    def _checked(self, name: str, child: Any) -> Any:
        return _stored(child)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = type(self).__name__
        raise TypeError(f"jaxnn.{name} holds parameters and is not called; index it instead")

    def __repr__(self) -> str:
        lines = [f"  ({name}): {_description(child)}" for name, child in self._children().items()]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"]) if lines else super().__repr__()


class ParameterList(_Parameters, _Positions):
    """A list of parameters, which are part of the module that holds it.

    An array becomes an nnx.Param; any other value, an nnx.Variable among them, stays what it is.

    Args:
        values: the values, if any.

    Raises:
        TypeError: if `values` is no iterable, or a single array; or if the list is called.

    Source: torch.nn.ParameterList.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> scales = jaxnn.ParameterList([jnp.ones(2), jnp.zeros(3)])
        >>> scales
        ParameterList(
          (0): Param: float32[2]
          (1): Param: float32[3]
        )
        >>> scales[1][...]
        Array([0., 0., 0.], dtype=float32)
    """

    def __init__(
        self, values: Iterable[Any] | None = None, *, rngs: nnx.Rngs | None = None
    ) -> None:
        super().__init__()
        if values is not None:
            self.extend(values)

    def _slice(self, positions: slice) -> Self:
        return type(self)(list(self)[positions])

    def append(self, value: Any) -> Self:
        """Add `value` at the end, and return the list."""
        self._register(str(len(self)), value)
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Add all `values` at the end, and return the list."""
        single = isinstance(values, (jax.Array, np.ndarray, nnx.Variable))
        if single or not isinstance(values, Iterable):
            raise TypeError(
                "jaxnn.ParameterList: `values` must be an iterable of values, got "
                f"{type(values).__name__}; use append for one value"
            )
        for value in list(values):
            self.append(value)
        return self

    def __iadd__(self, values: Iterable[Any]) -> Self:
        return self.extend(values)


class ParameterDict(_Parameters, _Names):
    """A dict of parameters, which are part of the module that holds it.

    An array becomes an nnx.Param; any other value, an nnx.Variable among them, stays what it is.
    The values of a plain dict are sorted by name, as in torch; else the order is that of insertion.

    Args:
        parameters: a mapping from names to values, or an iterable of pairs of them.

    Raises:
        TypeError: if `parameters` is neither, a name is no string, or the dict is called.
        KeyError: if a name is empty, contains a dot, or is that of an attribute such as "keys".

    Source: torch.nn.ParameterDict.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> params = jaxnn.ParameterDict({"left": jnp.ones(2), "right": jnp.zeros(3)})
        >>> list(params), params["left"][...]
        (['left', 'right'], Array([1., 1.], dtype=float32))
    """

    def __init__(self, parameters: Any = None, *, rngs: nnx.Rngs | None = None) -> None:
        super().__init__()
        if parameters is not None:
            self.update(parameters)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._child_names)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value at `key`, or `default` where there is none."""
        return self._children().get(key, default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value at `key`, which is set to `default` where there is none."""
        if key not in self:
            self[key] = default
        return self[key]

    def popitem(self) -> tuple[str, Any]:
        """Remove the last pair and return it."""
        if not self._child_names:
            raise KeyError("jaxnn.ParameterDict: popitem of an empty dict")
        name = self._child_names[-1]
        return name, self.pop(name)

    def copy(self) -> ParameterDict:
        """Return a new dict with the same values."""
        return ParameterDict(OrderedDict(self.items()))

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """Return a new dict with these names, and the same value for each."""
        return ParameterDict([(key, default) for key in keys])

    def update(self, parameters: Any) -> None:
        """Add all `parameters`; one whose name is already there replaces the old one in place."""
        if isinstance(parameters, (OrderedDict, ParameterDict)):
            pairs = list(parameters.items())
        elif isinstance(parameters, Mapping):
            pairs = sorted(parameters.items())
        elif isinstance(parameters, Iterable):
            pairs = [_pair(element, i) for i, element in enumerate(parameters)]
        else:
            raise TypeError(
                "jaxnn.ParameterDict: `parameters` must be a mapping or an iterable of "
                f"(name, value) pairs, got {type(parameters).__name__}"
            )
        for name, value in pairs:
            self[name] = value

    def __or__(self, other: ParameterDict) -> ParameterDict:
        joined = self.copy()
        joined.update(other)
        return joined

    def __ror__(self, other: ParameterDict) -> ParameterDict:
        joined = ParameterDict(other)
        joined.update(self)
        return joined

    def __ior__(self, other: ParameterDict) -> Self:
        self.update(other)
        return self


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
        raise TypeError(f"jaxnn: element {position} must be a (name, value) pair, got {element!r}")
    pair = tuple(element)
    if len(pair) != 2:
        raise ValueError(
            f"jaxnn: element {position} must be a (name, value) pair, got {len(pair)} items"
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
