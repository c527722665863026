"""Functions with torch's derivative where it is a choice: at zeros, poles, and where powers end."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ...functional._gradients import straight_through

Pair = tuple[jax.Array, jax.Array]


@jax.custom_jvp
def atan2(y: jax.Array, x: jax.Array) -> jax.Array:
    """Return the angle of the point (x, y), with derivative 0 at the origin."""
    return jnp.arctan2(y, x)


@atan2.defjvp
def _atan2_jvp(primals: Pair, tangents: Pair) -> Pair:
    y, x = primals
    square = x * x + y * y
    is_origin = (x == 0) & (y == 0)
    inverse = jnp.where(is_origin, 0, 1 / jnp.where(is_origin, 1, square))
    return atan2(y, x), tangents[0] * (x * inverse) - tangents[1] * (y * inverse)


@jax.custom_jvp
def hypot(x: jax.Array, y: jax.Array) -> jax.Array:
    """Return sqrt(x^2 + y^2), whose derivative at the origin is NaN."""
    return jnp.hypot(x, y)


@hypot.defjvp
def _hypot_jvp(primals: Pair, tangents: Pair) -> Pair:
    length = hypot(*primals)
    x, y = (lax.div(*jnp.broadcast_arrays(each, length)) for each in primals)
    return length, tangents[0] * x + tangents[1] * y


def copysign(x: jax.Array, sign: jax.Array) -> jax.Array:
    """Return |x| with a sign, with derivative 0 at 0."""
    result = jnp.copysign(x, sign)
    slope = jnp.where(x == 0, 0, jnp.sign(x) * jnp.copysign(jnp.ones_like(x), sign))
    return straight_through(x * lax.stop_gradient(slope), lax.stop_gradient(result))


@jax.custom_jvp
def digamma(x: jax.Array) -> jax.Array:
    """Return the derivative of `lgamma`, which at 0 is an infinity of the other sign."""
    return jnp.where(x == 0, jnp.copysign(jnp.inf, -x), lax.digamma(x))


@digamma.defjvp
def _digamma_jvp(primals: tuple[Any], tangents: tuple[Any]) -> Pair:
    (x,) = primals
    slope = jnp.where(x == 0, jnp.inf, lax.polygamma(jnp.ones_like(x), x))
    return digamma(x), tangents[0] * slope


@jax.custom_jvp
def lgamma(x: jax.Array) -> jax.Array:
    """Return the logarithm of the gamma function's absolute value."""
    return lax.lgamma(x)


@lgamma.defjvp
def _lgamma_jvp(primals: tuple[Any], tangents: tuple[Any]) -> Pair:
    (x,) = primals
    return lgamma(x), tangents[0] * digamma(x)


@jax.custom_jvp
def power(x: jax.Array, exponent: jax.Array) -> jax.Array:
    """Return x^exponent; a power of 0, and 0 to what is not negative, are constants."""
    return jnp.power(x, exponent)


@power.defjvp
def _power_jvp(primals: Pair, tangents: Pair) -> Pair:
    x, exponent = jnp.broadcast_arrays(*primals)
    result = power(x, exponent)
    by_base = jnp.where(exponent == 0, 0, exponent * jnp.power(x, exponent - 1))
    by_exponent = jnp.where((x == 0) & (exponent >= 0), 0, result * jnp.log(x))
    return result, by_base * tangents[0] + by_exponent * tangents[1]


@jax.custom_jvp
def entropy(x: jax.Array) -> jax.Array:
    """Return -x log x, 0 at 0 and -inf below, with the derivative of the formula everywhere."""
    return jax.scipy.special.entr(x)


@entropy.defjvp
def _entropy_jvp(primals: tuple[Any], tangents: tuple[Any]) -> Pair:
    (x,) = primals
    return entropy(x), tangents[0] * (-1 - jnp.log(x))
