"""Values whose gradient is not that of the arithmetic that made them."""

from __future__ import annotations

import jax
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
