"""The hyperbolic tangent, with a derivative that does not cancel, and to the last digit."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._dtypes import accumulation_dtype


@jax.custom_jvp
def steep_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """tanh(x), whose derivative keeps its digits where the tanh is near 1."""
    return jnp.tanh(x)


@steep_tanh.defjvp
def _steep_tanh_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,) = primals
    # No jnp.abs, whose derivative at 0 would be 0, and so the third derivative of the tanh there.
    z = jnp.exp(2 * jnp.where(x < 0, x, -x))
    return steep_tanh(x), tangents[0] * _steep_slope(z)


def _steep_slope(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """The derivative of the tanh, by z = exp(-2 |x|).

    One less the square of the tanh would cancel where the tanh is near 1.
    """
    return 4 * z / ((1 + z) * (1 + z))


def accurate_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """tanh(x), to about one unit in the last place, where XLA's is three or four off.

    Along a sequence these add up. Half precision is computed in float32, by `steep_tanh`.
    """
    wide = accumulation_dtype(x.dtype)
    return _accurate_tanh(x) if wide == x.dtype else steep_tanh(x.astype(wide)).astype(x.dtype)


@jax.custom_jvp
def _accurate_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    # Near 0 it is the approximation of Moshier's Cephes library.
    square = x * x
    far = jnp.sign(x) * (1 - 2 / (jnp.exp(2 * jnp.abs(x)) + 1))
    return jnp.where(jnp.abs(x) < 0.625, x + x * square * _tail(square), far)


@_accurate_tanh.defjvp
def _accurate_tanh_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,) = primals
    y = _accurate_tanh(x)
    # One less its square is exact where the tanh is small.
    z = jnp.exp(-2 * jnp.abs(x))
    slope = jnp.where(jnp.abs(x) < 0.625, 1 - y * y, _steep_slope(z))
    return y, tangents[0] * slope


def _tail(square: Array) -> Array:
    """(tanh(x) - x) / x^3, for x^2 below 0.4."""
    if square.dtype == jnp.float32:
        coefficients = (
            -5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1,
            -3.33332819422e-1,
        )  # fmt: skip
        return _polynomial(square, coefficients)
    above = (-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3)
    below = (
        1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3
    )  # fmt: skip
    return _polynomial(square, above) / _polynomial(square, below)


def _polynomial(x: Array, coefficients: Sequence[float]) -> Array:
    total = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total
