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
from .modules._module import Module

_MODES = ("deterministic", "use_running_average")
# Containers hold modules that exist already; in Linen, they are made where they are used.
_NO_LAYERS = {"Frozen", "Module", "ModuleDict", "ModuleList", "NonPersistent", "Sequential"}

__all__ = sorted(set(modules.__all__) - _NO_LAYERS)  # noqa: PLE0605 (derived from the modules)


def __getattr__(name: str) -> Callable[..., bridge.ToLinen]:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no layer {name!r}")
    return _linen_layer(getattr(modules, name))


def __dir__() -> list[str]:
    return [*globals(), *__all__]


@cache
def _linen_layer(layer: type[Module]) -> Callable[..., bridge.ToLinen]:
    # Linen names modules after their class.
    linen_class = type(layer.__name__, (bridge.ToLinen,), {"__module__": __name__})

    def construct(*args: Any, **kwargs: Any) -> Module:
        modes = {mode: kwargs.pop(mode) for mode in _MODES if mode in kwargs}
        module = layer(*args, **kwargs)
        module.set_attributes(**modes)
        return module

    def build(*args: Any, name: str | None = None, **kwargs: Any) -> bridge.ToLinen:
        return linen_class(construct, args=args, kwargs=FrozenDict(kwargs), name=name)

    build.__name__ = build.__qualname__ = layer.__name__
    build.__doc__ = f"`jaxnn.{layer.__name__}` as a Linen module.\n\n{layer.__doc__}"
    return build
