"""Division: rounded once, and with a derivative that cancels exactly."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .._dtypes import accumulation_dtype


def divide(x: jax.Array, divisor: jax.Array) -> jax.Array:
    """Return x / divisor, of one dtype, rounded once.

    XLA multiplies by the reciprocal of a divisor that is broadcast. That is a unit in the last
    place off for every other number, so that 533 / 41 is less than 13; in half precision it is
    infinite for a divisor that is small, in float16 from 1.5e-5 on. A divisor that depends on each
    element of x is divided by. Nothing is greater than infinity, but XLA does not know.

    Example:
        >>> import jax.numpy as jnp
        >>> divide(jnp.array([533.0, 574.0]), jnp.array(41.0))
        Array([13., 14.], dtype=float32)
        >>> divide(jnp.full((2,), 1e-6, jnp.float16), jnp.array(1e-6, jnp.float16))
        Array([1., 1.], dtype=float16)
    """
    wide = accumulation_dtype(x.dtype)
    x_wide, one = x.astype(wide), jnp.ones((), wide)
    each = jnp.where(jnp.real(x_wide) > jnp.inf, one, divisor.astype(wide))
    return (x_wide / each).astype(x.dtype)


@jax.custom_jvp
def quotient(x: jax.Array, divisor: jax.Array) -> jax.Array:
    """Return x / divisor, of one shape, where the divisor is a norm of x.

    The derivative is that of the rounded quotient, and so exactly 0 for a vector of one element.
    """
    return x / divisor


@quotient.defjvp
def _quotient_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    y = quotient(*primals)
    return y, (tangents[0] - y * tangents[1]) / primals[1]
