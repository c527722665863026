"""The operators of torch on JAX arrays, under their names in torch's ATen library.

They are what an imported model runs, and what a ported one calls where JAX has no function of its
own that does the same. Arguments have the names that they have in torch; those that draw random
numbers take `draw`, a function that returns a fresh key.

Example:
    >>> import jax.numpy as jnp
    >>> from jaxnn.interop import aten
    >>> aten.cummax(jnp.array([1, 3, 2]), 0)[0].tolist()
    [1, 3, 3]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .importer.operators import OPERATORS


def __getattr__(name: str) -> Callable[..., Any]:
    try:
        return OPERATORS[name]
    except KeyError:
        raise AttributeError(f"jaxnn.interop.aten has no operator {name!r}") from None


def __dir__() -> list[str]:
    return sorted(OPERATORS)
