"""The layers as Linen modules, through Flax's bridge: `jaxnn.linen.Conv2d(3, 8, 3)`, and so on.

A layer takes the arguments of the layer of the same name in `jaxnn`, and two more: `name`, as every
Linen module, and the mode, under Flax's names: `deterministic` and `use_running_average`, False for
training. Parameters are in the collection "params", buffers in "batch_stats". What draws random
numbers needs a key for "dropout".

Example:
    >>> import flax.linen as nn
    >>> import jax, jax.numpy as jnp
    >>> import jaxnn.linen
    >>> class Net(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x, train):
    ...         x = jaxnn.linen.Conv2d(3, 8, 3)(x)
    ...         x = jaxnn.linen.BatchNorm2d(8, use_running_average=not train)(x)
    ...         return jaxnn.linen.Flatten()(x)
    >>> net, x = Net(), jnp.ones((2, 3, 5, 5))
    >>> variables = net.init(jax.random.key(0), x, train=True)
    >>> sorted(variables["params"]), list(variables["batch_stats"])
    (['BatchNorm2d_0', 'Conv2d_0'], ['BatchNorm2d_0'])
    >>> y, updates = net.apply(variables, x, train=True, mutable=["batch_stats"])
    >>> y.shape
    (2, 72)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from flax.core import FrozenDict
from flax.nnx import bridge

from . import modules
from .modules._lazy import LazyModule
from .modules._module import MODE_FLAGS, Module

# Containers hold modules that exist already; in Linen, they are made where they are used.
_NO_LAYERS = {
    *("Frozen", "Module", "ModuleDict", "ModuleList", "NonPersistent"),
    *("ParameterDict", "ParameterList", "Sequential"),
}

__all__ = sorted(set(modules.__all__) - _NO_LAYERS)  # noqa: PLE0605 (derived from the modules)


def __getattr__(name: str) -> Callable[..., bridge.ToLinen]:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no layer {name!r}")
    return _linen_layer(getattr(modules, name))


def __dir__() -> list[str]:
    return [*globals(), *__all__]


class _LazyToLinen(bridge.ToLinen):
    """A lazy layer in Linen, where modules are made at the call and so know their input's shape."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        construct = self.nnx_class
        input = args[0] if args else kwargs["input"]

        def construct_for_input(*args: Any, **kwargs: Any) -> Module:
            module = construct(*args, **kwargs)
            assert isinstance(module, LazyModule)
            return module.build(module.channels_of_input(input))

        object.__setattr__(self, "nnx_class", construct_for_input)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            object.__setattr__(self, "nnx_class", construct)


@cache
def _linen_layer(layer: type[Module]) -> Callable[..., bridge.ToLinen]:
    # Linen names modules after their class.
    base = _LazyToLinen if issubclass(layer, LazyModule) else bridge.ToLinen
    linen_class = type(layer.__name__, (base,), {"__module__": __name__})

    def construct(*args: Any, **kwargs: Any) -> Module:
        modes = {mode: kwargs.pop(mode) for mode in MODE_FLAGS if mode in kwargs}
        module = layer(*args, **kwargs)
        module.set_attributes(**modes)
        return module

    def build(*args: Any, name: str | None = None, **kwargs: Any) -> bridge.ToLinen:
        return linen_class(construct, args=args, kwargs=FrozenDict(kwargs), name=name)

    build.__name__ = build.__qualname__ = layer.__name__
    build.__doc__ = f"`jaxnn.{layer.__name__}` as a Linen module.\n\n{layer.__doc__}"
    return build
