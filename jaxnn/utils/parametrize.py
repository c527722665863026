"""Parameters that are computed from others whenever they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Shaped

from ..modules import ModuleDict, ModuleList
from ._computed import Computed, plain_class, set_computed, unset_computed

_cache: ContextVar[dict[Any, Any] | None] = ContextVar("parametrized values", default=None)


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, in order, and the tensors that it is computed from.

    Attributes:
        original: what the first parametrization takes; or, where it takes several,
            `original0`, `original1` and so on.

    Raises:
        ValueError: if the value has not the shape and dtype of the tensor, unless `unsafe`.

    Source: torch.nn.utils.parametrize.ParametrizationList.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Linear(2, 3, rngs=nnx.Rngs(0))
        >>> layer = jaxnn.utils.parametrizations.weight_norm(layer)
        >>> layer.parametrizations["weight"].original0.shape
        (3, 1)
    """

    def __init__(
        self,
        modules: Sequence[Any],
        original: nnx.Variable[Any],
        unsafe: bool = False,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        super().__init__(modules)
        self.unsafe = unsafe
        value = original[...]
        inverse = self._inverse(value, can_fail=True)
        self.is_tensor = not isinstance(inverse, tuple)
        if isinstance(inverse, tuple):
            for i, array in enumerate(inverse):
                setattr(self, f"original{i}", type(original)(array))
            self.ntensors = len(inverse)
        else:
            self.ntensors = 1
            original.set_value(inverse)
            self.original = original
        if not unsafe:
            _check_same(self(), value, "the parametrization's value")

    def __call__(self) -> Shaped[Array, "..."]:
        """Return the tensor's value."""
        first, *others = self
        value = first(*self._arrays())
        for parametrization in others:
            value = parametrization(value)
        return value

    def right_inverse(self, value: Shaped[Array, "..."]) -> None:
        """Set the original tensors so that the value becomes this one, as far as it can."""
        inverse = self._inverse(value)
        arrays = inverse if isinstance(inverse, tuple) else (inverse,)
        if len(arrays) != self.ntensors:
            raise ValueError(
                f"the right inverse must return {self.ntensors} arrays, got {len(arrays)}"
            )
        for variable, array in zip(self.originals(), arrays, strict=True):
            _check_same(array, variable[...], "an original tensor")
            variable.set_value(array)

    def originals(self) -> list[nnx.Variable[Any]]:
        """Return the variables that the value is computed from."""
        if self.is_tensor:
            return [self.original]
        return [getattr(self, f"original{i}") for i in range(self.ntensors)]

    def _arrays(self) -> list[jax.Array]:
        return [variable[...] for variable in self.originals()]

    def _inverse(self, value: Any, can_fail: bool = False) -> Any:
        for parametrization in list(self)[::-1]:
            if hasattr(parametrization, "right_inverse"):
                try:
                    value = parametrization.right_inverse(value)
                except NotImplementedError:
                    if not can_fail:
                        raise
        return tuple(value) if isinstance(value, (list, tuple)) else value


def register_parametrization(
    module: Any, tensor_name: str, parametrization: Any, *, unsafe: bool = False
) -> Any:
    """Compute a tensor of `module` by a parametrization, whenever it is read.

    What it is computed from is the module's new parameter, under the key
    `parametrizations.NAME.original`, or `original0`, `original1` and so on where the
    parametrization takes several arrays. It starts at `parametrization.right_inverse(value)`, or
    without such a method at the value itself. A second parametrization is called on the first
    one's value. An assignment to the tensor goes through the right inverses.

    The module's class becomes a subclass of its own.

    Args:
        module: the module; it is changed.
        tensor_name: the name of its parameter or buffer.
        parametrization: a module that takes the original array (or several) and returns the value.
        unsafe: whether the value may be of another shape or dtype than the tensor.

    Returns:
        The module.

    Raises:
        ValueError: if there is no such tensor, or the value is of another shape or dtype.

    Source: torch.nn.utils.parametrize.register_parametrization.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> class Symmetric(jaxnn.Module):
        ...     def __call__(self, x):
        ...         return jnp.triu(x) + jnp.triu(x, 1).T
        >>> layer = jaxnn.Linear(3, 3, rngs=nnx.Rngs(0))
        >>> layer = jaxnn.utils.parametrize.register_parametrization(layer, "weight", Symmetric())
        >>> bool((layer.weight[...] == layer.weight[...].T).all())
        True
        >>> list(jaxnn.state_dict(layer))
        ['bias', 'parametrizations.weight.original']
    """
    if is_parametrized(module, tensor_name):
        entry = module.parametrizations[tensor_name]
        if not unsafe:
            value = entry()
            _check_same(parametrization(value), value, "the parametrization's value")
        entry.unsafe = entry.unsafe or unsafe
        entry.append(parametrization)
        return module
    original = vars(module).get(tensor_name)
    if not isinstance(original, nnx.Variable):
        raise ValueError(
            f"{type(module).__name__} has no parameter or buffer {tensor_name!r}; it has "
            f"{[n for n, v in vars(module).items() if isinstance(v, nnx.Variable)]}"
        )
    entry = ParametrizationList([parametrization], original, unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        module.parametrizations = ModuleDict()
    module.parametrizations[tensor_name] = entry
    set_computed(module, tensor_name, _Parametrized(tensor_name))
    return module


def is_parametrized(module: nnx.Module, tensor_name: str | None = None) -> bool:
    """Whether the module has a parametrized tensor, or this one is.

    Source: torch.nn.utils.parametrize.is_parametrized.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> jaxnn.utils.parametrize.is_parametrized(jaxnn.Linear(2, 3, rngs=nnx.Rngs(0)))
        False
    """
    entries = getattr(module, "parametrizations", None)
    if not isinstance(entries, ModuleDict):
        return False
    return len(entries) > 0 if tensor_name is None else tensor_name in entries


def remove_parametrizations(module: Any, tensor_name: str, leave_parametrized: bool = True) -> Any:
    """Make a parametrized tensor a parameter again.

    Args:
        module: the module; it is changed.
        tensor_name: the tensor's name.
        leave_parametrized: whether it keeps the parametrized value; else it gets the original one.

    Returns:
        The module.

    Raises:
        ValueError: if the tensor is not parametrized, or has several original ones and
            `leave_parametrized` is False.

    Source: torch.nn.utils.parametrize.remove_parametrizations.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Linear(2, 3, rngs=nnx.Rngs(0))
        >>> layer = jaxnn.utils.parametrizations.weight_norm(layer)
        >>> layer = jaxnn.utils.parametrize.remove_parametrizations(layer, "weight")
        >>> list(jaxnn.state_dict(layer))
        ['bias', 'weight']
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"{type(module).__name__} has no parametrization on {tensor_name!r}")
    entry = module.parametrizations[tensor_name]
    if not leave_parametrized and not entry.is_tensor:
        raise ValueError(
            f"{tensor_name!r} is computed from {entry.ntensors} tensors, and so has no original "
            "value: leave_parametrized must be True"
        )
    variable = entry.originals()[0]
    if leave_parametrized:
        value = entry()
        variable = variable if entry.is_tensor else type(variable)(value)
        variable.set_value(value)
    del module.parametrizations[tensor_name]
    unset_computed(module, tensor_name, variable)
    if not is_parametrized(module):
        del module.parametrizations
    return module


def type_before_parametrizations(module: nnx.Module) -> type:
    """Return the class that the module had before it was parametrized.

    Source: torch.nn.utils.parametrize.type_before_parametrizations.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Linear(2, 3, rngs=nnx.Rngs(0))
        >>> layer = jaxnn.utils.parametrizations.weight_norm(layer)
        >>> jaxnn.utils.parametrize.type_before_parametrizations(layer).__name__
        'Linear'
    """
    return plain_class(module)


@contextmanager
def cached() -> Iterator[None]:
    """Compute each parametrized tensor only once in this context.

    A value is computed anew where its original tensors have changed.

    Source: torch.nn.utils.parametrize.cached.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Linear(2, 3, rngs=nnx.Rngs(0))
        >>> layer = jaxnn.utils.parametrizations.weight_norm(layer)
        >>> with jaxnn.utils.parametrize.cached():
        ...     layer.weight[...] is layer.weight[...]
        True
    """
    token = _cache.set({} if _cache.get() is None else _cache.get())
    try:
        yield
    finally:
        _cache.reset(token)


class _Parametrized(Computed):
    def read(self, module: Any) -> nnx.Variable[Any]:
        entry = module.parametrizations[self.name]
        originals = entry.originals()
        return type(originals[0])(_remembered(entry, [v.get_raw_value() for v in originals]))

    def write(self, module: Any, value: Any) -> None:
        module.parametrizations[self.name].right_inverse(jnp.asarray(value))


def _remembered(entry: ParametrizationList, originals: list[Any]) -> Any:
    known = _cache.get()
    if known is None:
        return entry()
    key = (id(entry), *map(id, originals))
    if key not in known:
        known[key] = (entry(), originals, entry)  # kept alive, so that no other has its id
    return known[key][0]


def _check_same(value: Any, wanted: Any, what: str) -> None:
    if value.shape != wanted.shape or value.dtype != wanted.dtype:
        raise ValueError(
            f"{what} must have shape {wanted.shape} and dtype {wanted.dtype}, got {value.shape} "
            f"and {value.dtype}; register_parametrization(..., unsafe=True) allows others"
        )
