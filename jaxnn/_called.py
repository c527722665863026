"""A function that XLA computes once, however many operations read its result."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata


def called(
    function: Callable[..., jax.Array], default: Callable[..., jax.Array] | None = None
) -> Callable[..., jax.Array]:
    """Return `function` as one that stays a function in a program for a CPU.

    On other devices it is `default`, which is the function itself unless given. On a CPU XLA fuses
    elementwise operations into each operation that reads their result, and so computes them as
    often. That costs most where a result is a sum of many terms: a depthwise convolution of 7 x 7
    and a LayerNorm behind it took five times as long.
    """

    @jax.jit
    def inner(*arrays: jax.Array) -> jax.Array:
        with set_xla_metadata(inlineable=None):
            return function(*arrays)

    def cpu(*arrays: jax.Array) -> jax.Array:
        with set_xla_metadata(inlineable="false"):
            return inner(*arrays)

    return partial(lax.platform_dependent, cpu=cpu, default=default or function)
