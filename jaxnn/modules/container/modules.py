"""Containers of modules."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Self

from flax import nnx

from ..._checks import check_int
from .._module import RandomSource, keys_for_parts, name_of, takes_rngs
from ._container import Names, Positions, numbered, pair_of


class _Indexed(Positions):
    """What Sequential and ModuleList share: modules by position."""

    def __delitem__(self, idx: slice | int) -> None:
        names = self._child_names[idx] if isinstance(idx, slice) else [self._name_at(idx)]
        kept = [child for name, child in self._children().items() if name not in names]
        self._replace_children(numbered(kept))

    def append(self, module: nnx.Module | None) -> Self:
        """Add `module` at the end, and return the container."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[nnx.Module | None]) -> Self:
        """Add all `modules` at the end, and return the container."""
        if not isinstance(modules, Iterable):
            raise TypeError(
                f"{name_of(self)}: `modules` must be an iterable of modules, got "
                f"{type(modules).__name__}"
            )
        for module in list(modules):
            self.append(module)
        return self

    def _insert(self, index: int, module: nnx.Module | None) -> None:
        children = list(self)
        children.insert(index, module)
        self._replace_children(numbered(children))

    def pop(self, key: int | slice) -> Any:
        """Remove the child at `key`, or the children in a slice, and return it or them."""
        removed = self[key]
        del self[key]
        return removed


class Sequential(_Indexed):
    """Modules in a chain: each is called with the output of the one before.

    At the call, modules that draw take their keys from `rngs`, where it is given.

    Args:
        args: the modules; or one OrderedDict, whose keys name them.

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
        for name, module in (args[0] if named else numbered(args)).items():
            self.add_module(name, module)

    def __call__(self, input: Any, *, rngs: RandomSource | None = None) -> Any:
        source = keys_for_parts(rngs)
        for module in self:
            if source is not None and takes_rngs(module):
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


class ModuleList(_Indexed):
    """A list of modules, whose parameters are part of the module that holds it.

    Args:
        modules: the modules, if any.

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


class ModuleDict(Names):
    """A dict of modules, in order of insertion, whose parameters are part of what holds it.

    Args:
        modules: a mapping from names to modules, or an iterable of pairs of them. A name is a
            string, not empty and without a dot, and not that of an attribute such as "train".

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
            pairs = [pair_of(element, i) for i, element in enumerate(modules)]
        else:
            raise TypeError(
                "jaxnn.ModuleDict: `modules` must be a mapping or an iterable of (name, module) "
                f"pairs, got {type(modules).__name__}"
            )
        for name, module in pairs:
            self[name] = module


def _check_sequential(other: Any) -> None:
    if not isinstance(other, Sequential):
        raise ValueError(
            f"jaxnn.Sequential: only a Sequential can be added, got {type(other).__name__}; use "
            "extend for other iterables"
        )


def _check_factor(factor: Any) -> int:
    return check_int(factor, "other", "jaxnn.Sequential", minimum=1)
