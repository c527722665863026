"""The p-norm, with torch's derivative where it has none."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from .._dtypes import accumulation_dtype
from ._extremes import largest, smallest
from ._gradients import magnitude


def vector_norm(x: jax.Array, p: float, axes: tuple[int, ...]) -> jax.Array:
    """Return the p-norm over `axes`, which are kept with size 1.

    (sum |x|^p)^(1/p); the largest or smallest |x| for p = inf or -inf; for p = 0 the number of
    elements that are not zero. The derivative is 0 where the norm is, and is shared among equal
    maxima. Half precision is computed in float32 and rounded once; of complex numbers it is the
    norm of their magnitudes.
    """
    if jnp.iscomplexobj(x):
        x = jnp.abs(x)
    wide = x.astype(accumulation_dtype(x.dtype))
    if p == 0:
        norm = (wide != 0).astype(wide.dtype).sum(axes, keepdims=True)
    elif p == 1:
        norm = magnitude(wide).sum(axes, keepdims=True)
    elif p == float("inf"):
        norm = largest(magnitude(wide), axes)
    elif p == -float("inf"):
        norm = smallest(magnitude(wide), axes)
    else:
        norm = _finite_norm(wide, p, axes)
    return norm.astype(x.dtype)


def with_norm(direction: jax.Array, norm: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Return `direction`, scaled to have the 2-norm `norm` over `axes`.

    norm * direction / ||direction||, in half precision computed in float32 and rounded once.
    """
    wide = accumulation_dtype(direction.dtype)
    v = direction.astype(wide)
    factor = norm.astype(wide) / vector_norm(v, 2.0, axes)
    return (v * jnp.broadcast_to(factor, v.shape)).astype(direction.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _finite_norm(x: jax.Array, p: float, axes: tuple[int, ...]) -> jax.Array:
    if p == 2:
        return jnp.sqrt((x * x).sum(axes, keepdims=True))
    # By the largest, which powers neither overflow nor round in a vector of one element.
    largest = jnp.abs(x).max(axes, keepdims=True, initial=0)
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return scale * ((jnp.abs(x) / scale) ** p).sum(axes, keepdims=True) ** (1 / p)


@_finite_norm.defjvp
def _finite_norm_jvp(
    p: float, axes: tuple[int, ...], primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """The direction (x / norm)^(p - 1), which is exactly 1 or -1 for a vector of one element."""
    (x,), (tangent,) = primals, tangents
    norm = _finite_norm(x, p, axes)
    zero = norm == 0
    direction = jnp.where(zero, 0, x / jnp.where(zero, 1, norm))
    if p != 2:
        # Selected twice, since the derivative's infinity times a cotangent of 0 would be NaN.
        size = jnp.where(direction == 0, 1, jnp.abs(direction))
        direction = jnp.where(direction == 0, 0, jnp.sign(direction) * size ** (p - 1))
    along = jnp.where(zero, 0, direction * tangent)
    return norm, along.sum(axes, keepdims=True)
