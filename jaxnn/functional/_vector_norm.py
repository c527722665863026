"""The p-norm, with torch's derivative where it has none."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from .._checks import accumulation_dtype


def vector_norm(x: jax.Array, p: float, axes: tuple[int, ...]) -> jax.Array:
    """Return the p-norm over `axes`, which are kept with size 1.

    (sum |x|^p)^(1/p); the largest or smallest |x| for p = inf or -inf; for p = 0 the number of
    elements that are not zero. The derivative is 0 where the norm is, and is shared among equal
    maxima. Half precision is computed in float32 and rounded once.
    """
    wide = x.astype(accumulation_dtype(x.dtype))
    if p == 0:
        norm = (wide != 0).astype(wide.dtype).sum(axes, keepdims=True)
    elif p == 1:
        norm = _absolute(wide).sum(axes, keepdims=True)
    elif p == float("inf"):
        norm = _absolute(wide).max(axes, keepdims=True)
    elif p == -float("inf"):
        norm = _absolute(wide).min(axes, keepdims=True)
    elif p == 2:
        norm = _two_norm(wide, axes)
    else:
        norm = _root(_power(_absolute(wide), p).sum(axes, keepdims=True), p)
    return norm.astype(x.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _two_norm(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return jnp.sqrt((x * x).sum(axes, keepdims=True))


@_two_norm.defjvp
def _two_norm_jvp(
    axes: tuple[int, ...], primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """The direction x / norm, rounded as such: exactly 1 or -1 for a vector of one element."""
    (x,), (tangent,) = primals, tangents
    norm = _two_norm(x, axes)
    zero = norm == 0
    direction = jnp.where(zero, 0, x / jnp.where(zero, 1, norm))
    return norm, (direction * tangent).sum(axes, keepdims=True)


def _absolute(x: jax.Array) -> jax.Array:
    """|x|, with derivative 0 at 0, where that of jnp.abs is 1."""
    return x * lax.stop_gradient(jnp.sign(x))


def _power(x: jax.Array, p: float) -> jax.Array:
    """x^p for x >= 0, with derivative 0 at 0 where that is infinite."""
    return _without_derivative_at_zero(x, p) if p < 1 else x**p


def _root(total: jax.Array, p: float) -> jax.Array:
    """The p-th root, with derivative 0 at 0, where it is infinite."""
    return _without_derivative_at_zero(total, 1 / p)


def _without_derivative_at_zero(x: jax.Array, exponent: float) -> jax.Array:
    zero = x == 0
    # Selected twice, since the derivative's infinity times a cotangent of 0 would be NaN.
    safe = jnp.where(zero, jnp.ones_like(x), x)
    power = jnp.sqrt(safe) if exponent == 0.5 else safe**exponent
    at_zero = jnp.zeros_like(x) if exponent > 0 else jnp.full_like(x, jnp.inf)
    return jnp.where(zero, at_zero, power)
