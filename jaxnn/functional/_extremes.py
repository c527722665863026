"""The largest and the smallest of many, whose derivative survives that they are computed twice."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def largest(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Return the largest along the axes, which stay with size 1; all that equal it are the cause.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> jax.grad(lambda x: largest(x, (0,)).sum())(jnp.array([2.0, 1.0, 2.0]))
        Array([0.5, 0. , 0.5], dtype=float32)
    """
    return x.max(axes, keepdims=True)


@largest.defjvp
def _largest_jvp(
    axes: tuple[int, ...], primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    value = largest(x, axes)
    # XLA may compute `x` once more where it is compared, and round it otherwise: then nothing would
    # equal the largest. So the place of the largest, which is a number of its own, counts in any
    # case.
    is_there, rest = jnp.ones(x.shape, bool), x
    for axis in axes:
        place = jnp.argmax(rest, axis, keepdims=True).astype(jnp.int32)
        is_there &= lax.broadcasted_iota(jnp.int32, x.shape, axis) == place
        rest = rest.max(axis, keepdims=True)
    share = (is_there | (x == value)).astype(x.dtype)
    share = jnp.where(jnp.isnan(value), jnp.nan, share / share.sum(axes, keepdims=True))
    return value, (share * tangent).sum(axes, keepdims=True)


def smallest(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Return the smallest along the axes; see `largest`."""
    return -largest(-x, axes)
