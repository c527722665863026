"""What XLA is told: which formulation a platform gets, and what it keeps as a function.

Nothing else under jaxnn asks for a platform.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from ._dtypes import accumulation_dtype


def by_platform(
    cpu: Callable[..., Any],
    default: Callable[..., Any],
    *,
    tpu: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Return a function that is `cpu` in a program for a CPU, and `default` in any other.

    `tpu` stands in for `default` on a TPU, where that is dear there. The choice is made when a
    program is lowered, and leaves no trace in it.

    Example:
        >>> int(by_platform(cpu=lambda x: x + 1, default=lambda x: 1 + x)(2))
        3
    """
    own = {} if tpu is None else {"tpu": tpu}
    return partial(lax.platform_dependent, cpu=cpu, default=default, **own)


def widened(x: jax.Array) -> jax.Array:
    """Return `x` in the dtype that sums over it are taken in, for a maximum and what is below it.

    A TPU's compiler takes the maximum of the narrow numbers instead, and then reads the input
    twice. A rounding to the precision that they have, which changes none, keeps it from that.

    Example:
        >>> import jax.numpy as jnp
        >>> widened(jnp.ones(1, jnp.bfloat16))
        Array([1.], dtype=float32)
    """
    narrow, wide = x.dtype, accumulation_dtype(x.dtype)
    if narrow == wide:
        return x
    precision = jnp.finfo(narrow).nexp, jnp.finfo(narrow).nmant

    def plain(x: jax.Array) -> jax.Array:
        return x.astype(wide)

    def tpu(x: jax.Array) -> jax.Array:
        return lax.reduce_precision(x.astype(wide), *precision)

    output: jax.Array = by_platform(cpu=plain, default=plain, tpu=tpu)(x)
    return output


def out_of_line(
    function: Callable[..., jax.Array], default: Callable[..., jax.Array] | None = None
) -> Callable[..., jax.Array]:
    """Return `function` as one that a program for a CPU calls, and does not inline.

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

    return by_platform(cpu, default or function)


def is_sharded(array: jax.Array) -> bool:
    """Whether its type says that a dimension is spread over devices, and so cannot be scanned."""
    return any(axis is not None for axis in jax.typeof(array).sharding.spec)
