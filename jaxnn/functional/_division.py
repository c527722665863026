"""Division: rounded once, and with a derivative that cancels exactly."""

from __future__ import annotations

import jax

from .._dtypes import accumulation_dtype


def divide(x: jax.Array, divisor: jax.Array) -> jax.Array:
    """Return x / divisor, of one dtype, rounded once.

    XLA multiplies by the reciprocal of a divisor that is broadcast. In half precision that rounds
    twice, and is infinite for a divisor that is small: in float16 from 1.5e-5 on.

    Example:
        >>> import jax.numpy as jnp
        >>> divide(jnp.full((2,), 1e-6, jnp.float16), jnp.array(1e-6, jnp.float16))
        Array([1., 1.], dtype=float16)
    """
    wide = accumulation_dtype(x.dtype)
    return (x.astype(wide) / divisor.astype(wide)).astype(x.dtype)


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
