"""Containers of parameters."""

from __future__ import annotations

import reprlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import jax
import numpy as np
from flax import nnx

from ._container import Container, Names, Positions, pair_of


def _stored(value: Any) -> Any:
    """Return what a container of parameters stores: an array becomes an nnx.Param."""
    if isinstance(value, (jax.Array, np.ndarray)):
        return nnx.Param(value)
    return nnx.data(value) if isinstance(value, (nnx.Variable, nnx.Module)) else value


def _description(value: Any) -> str:
    if isinstance(value, nnx.Variable):
        return f"{type(value).__name__}: {value.dtype}{list(value.shape)}"
    return reprlib.repr(value)


class _Parameters(Container):
    """What ParameterList and ParameterDict share: children that are any values."""

    def _checked(self, name: str, child: Any) -> Any:
        return _stored(child)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = type(self).__name__
        raise TypeError(f"jaxnn.{name} holds parameters and is not called; index it instead")

    def __repr__(self) -> str:
        lines = [f"  ({name}): {_description(child)}" for name, child in self._children().items()]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"]) if lines else super().__repr__()


class ParameterList(_Parameters, Positions):
    """A list of parameters, which are part of the module that holds it.

    An array becomes an nnx.Param; any other value, an nnx.Variable among them, stays what it is.

    Args:
        values: the values, if any.

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


class ParameterDict(_Parameters, Names):
    """A dict of parameters, which are part of the module that holds it.

    An array becomes an nnx.Param; any other value, an nnx.Variable among them, stays what it is.
    The values of a plain dict are sorted by name, as in torch; else the order is that of insertion.

    Args:
        parameters: a mapping from names to values, or an iterable of pairs of them, with names as
            for `ModuleDict`.

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
            pairs = [pair_of(element, i) for i, element in enumerate(parameters)]
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
