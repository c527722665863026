"""Values whose gradient is not that of the arithmetic that made them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


@jax.custom_jvp
def straight_through(w: Float[Array, "..."], new: Float[Array, "..."]) -> Float[Array, "..."]:
    """`new`, with the derivative of `w`: a write that differentiation does not see.

    Formula:
        straight_through(w, new) = new, and d straight_through = dw

    The sum `w + stop_gradient(new - w)` has the same derivative, but rounds.

    Args:
        w: the value before the write, shape (...).
        new: the value after it, same shape and dtype.

    Returns:
        `new`, bit for bit.

    Example:
        >>> import jax
        >>> jax.value_and_grad(lambda w: straight_through(w, 2 * w))(3.0)
        (Array(6., dtype=float32, weak_type=True), Array(1., dtype=float32, weak_type=True))
    """
    del w
    return new


@straight_through.defjvp
def _straight_through_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    return straight_through(*primals), tangents[0]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def with_derivative_of(
    value: Callable[[jax.Array], jax.Array],
    derivative: Callable[[jax.Array], jax.Array],
    x: Float[Array, "..."],
) -> Float[Array, "..."]:
    """Return `value(x)`, whose derivative is the linear map `derivative`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxnn.functional._gradients import with_derivative_of
        >>> jax.grad(lambda x: with_derivative_of(jnp.sign, lambda t: 2 * t, x))(3.0)
        Array(2., dtype=float32, weak_type=True)
    """
    return value(x)


@with_derivative_of.defjvp
def _with_derivative_of_jvp(
    value: Callable[[jax.Array], jax.Array],
    derivative: Callable[[jax.Array], jax.Array],
    primals: tuple[jax.Array],
    tangents: tuple[jax.Array],
) -> tuple[jax.Array, jax.Array]:
    return with_derivative_of(value, derivative, *primals), derivative(*tangents)


def magnitude(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """|x|, with derivative 0 at 0, where that of jnp.abs is 1."""
    return x * lax.stop_gradient(jnp.sign(x))
