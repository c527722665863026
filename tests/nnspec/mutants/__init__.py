"""Wrong layers, under the ids that the layer files give them. The judge must fail each of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

import jaxnn

Make = Callable[[Any], Any]

MUTANTS: dict[str, Make] = {}


def mutant(*ids: str) -> Callable[[Make], Make]:
    """Register a function from the right layer (or function) to a wrong one, under its ids."""

    def register(make: Make) -> Make:
        for id_ in ids:
            if id_ in MUTANTS:
                raise ValueError(f"mutant {id_} is registered twice")
            MUTANTS[id_] = make
        return make

    return register


def build(id_: str) -> Any:
    """Return the wrong layer, or function, with this id."""
    name = id_.partition(".")[0]
    layer = getattr(jaxnn, name, None) or getattr(jaxnn.functional, name)
    wrong = MUTANTS[id_](layer)
    # A mutant may construct with **options; its users look at the layer's own signature.
    wrong.__signature__ = inspect.signature(layer)
    return wrong


def reconfigured(layer: type[Any], **changes: Any) -> type[Any]:
    """Return the layer, constructed with other options: values, or functions of the given value."""
    parameters = inspect.signature(layer).parameters

    class Mutant(layer):
        def __init__(self, *values: Any, **options: Any) -> None:
            options.update(zip(parameters, values, strict=False))
            for name, change in changes.items():
                given = options.get(name, parameters[name].default)
                options[name] = change(given) if callable(change) else change
            super().__init__(**options)

    return Mutant


def with_parameter(layer: type[Any], name: str, change: Callable[[Array], Array]) -> type[Any]:
    """Return the layer, called as if one of its parameters were `change(parameter)`."""

    class Mutant(layer):
        def __call__(self, input: Array) -> Any:
            variable = getattr(self, name)
            if variable is None:
                return super().__call__(input)
            value = variable[...]
            variable[...] = change(value)
            output = super().__call__(input)
            variable[...] = value
            return output

    return Mutant


def becoming(make: Make) -> Make:
    """Return the mutation of a lazy layer whose layer to become is mutated."""

    def make_lazy(layer: Any) -> Any:
        class Mutant(layer):
            cls_to_become = make(layer.cls_to_become)

        return Mutant

    return make_lazy


def last_of_equals(ids: Int[Array, "*lead n"]) -> Bool[Array, "*lead n"]:
    """Return where the last axis holds a number that does not come again."""
    later = jnp.triu(jnp.ones((ids.shape[-1],) * 2, bool), 1)
    return ~((ids[..., :, None] == ids[..., None, :]) & later).any(-1)


def gradient_where(kept: Bool[Array, "..."], array: Array) -> Array:
    """Return the array, through which a gradient flows only where `kept` holds."""
    return jnp.where(kept, array, jax.lax.stop_gradient(array))


from . import (  # noqa: E402
    activation,  # noqa: F401
    attention,  # noqa: F401
    container,  # noqa: F401
    convolution,  # noqa: F401
    distance,  # noqa: F401
    dropout,  # noqa: F401
    embedding,  # noqa: F401
    linear,  # noqa: F401
    loss,  # noqa: F401
    normalization,  # noqa: F401
    padding,  # noqa: F401
    pooling,  # noqa: F401
    pooling_fractional,  # noqa: F401
    pooling_inverse,  # noqa: F401
    recurrent,  # noqa: F401
    vision,  # noqa: F401
)
