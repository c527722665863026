"""Distances and angles between vectors."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num

from .._checks import check_array, check_dim, check_floating
from .._dtypes import accumulation_dtype, promoted_dtype
from .._types import Scalar
from ._division import quotient
from ._gradients import magnitude, straight_through
from ._vector_norm import vector_norm
from .activation._elementwise import check_number


def cosine_similarity(
    x1: Float[Array, "..."], x2: Float[Array, "..."], dim: int = 1, eps: Scalar = 1e-8
) -> Float[Array, "..."]:
    """Cosine of the angle between two vectors.

    cos = sum(x1 x2) / (max(||x1||, eps) max(||x2||, eps)), along a dimension, which is gone

    Shapes: two arrays that broadcast to one shape -> that shape without the dimension. Half
    precision is computed in float32 and rounded once.

    Args:
        x1: the first vectors.
        x2: the second vectors.
        dim: the dimension along which they lie, of the shape that both broadcast to.
        eps: the least norm; may be traced.

    Raises:
        ValueError: if the shapes do not broadcast, or have no such dimension.
        TypeError: if neither array is of a floating-point dtype.

    Source: torch.nn.functional.cosine_similarity.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.cosine_similarity(jnp.array([[1.0, 0.0]]), jnp.array([[3.0, 4.0]]))
        Array([0.6], dtype=float32)
    """
    layer = "cosine_similarity"
    x1, x2 = _pair(layer, x1, x2)
    eps = check_number(eps, "eps", layer)
    axis = check_dim(dim, x1.ndim, "dim", layer)
    return _cosine(x1, x2, eps, axis)


@partial(jax.jit, static_argnums=3, inline=True)
def _cosine(x1: jax.Array, x2: jax.Array, eps: jax.Array, axis: int) -> jax.Array:
    dtype = promoted_dtype(x1, x2)
    wide = accumulation_dtype(dtype)
    axes = (axis,) if x1.ndim else ()
    directions = []
    least = jnp.asarray(eps).astype(wide)
    for x in (x1.astype(wide), x2.astype(wide)):
        norm = vector_norm(x, 2, axes)
        # The derivative is that of a division by the norm, also where eps is the larger.
        divisor = straight_through(norm, jnp.where(norm < least, least, norm))
        directions.append(quotient(x, jnp.broadcast_to(divisor, x.shape)))
    return (directions[0] * directions[1]).sum(axes).astype(dtype)


def pairwise_distance(
    x1: Num[Array, "*N D"],
    x2: Num[Array, "*N D"],
    p: float = 2.0,
    eps: Scalar = 1e-6,
    keepdim: bool = False,
) -> Float[Array, "..."]:
    """Distance between two vectors, the p-norm of their difference.

    d = ||x1 - x2 + eps||_p, along the last dimension; the derivative is 0 where the norm is.

    Shapes: two arrays that broadcast to (*N, D) -> (*N), or (*N, 1) with `keepdim`. Half precision
    is computed in float32 and rounded once.

    Args:
        x1: the first vectors.
        x2: the second vectors.
        p: the order of the norm; inf, -inf and 0 as for `normalize`.
        eps: added to each difference; may be traced.
        keepdim: whether the last dimension stays, with size 1.

    Raises:
        ValueError: if the shapes do not broadcast, or a norm of negative or infinite order would
            be of nothing.
        TypeError: if neither array is of a floating-point dtype, or p is not a number.

    Source: torch.nn.functional.pairwise_distance.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.pairwise_distance(jnp.array([[3.0, 4.0]]), jnp.zeros((1, 2)), eps=0.0)
        Array([5.], dtype=float32)
    """
    layer = "pairwise_distance"
    x1, x2 = _pair(layer, x1, x2)
    order, eps = real_order(p, layer), check_number(eps, "eps", layer)
    if x1.ndim and x1.shape[-1] == 0 and (order < 0 or order == float("inf")):
        raise ValueError(f"{layer}: the norm of order {p} of no elements does not exist")
    return _pairwise(x1, x2, eps, order, bool(keepdim))


@partial(jax.jit, static_argnums=(3, 4), inline=True)
def _pairwise(x1: jax.Array, x2: jax.Array, eps: jax.Array, p: float, keepdim: bool) -> jax.Array:
    dtype = promoted_dtype(x1, x2)
    wide = accumulation_dtype(dtype)
    difference = x1.astype(wide) - x2.astype(wide) + jnp.asarray(eps).astype(wide)
    if not difference.ndim:
        return vector_norm(difference, p, ()).astype(dtype)
    norm = vector_norm(difference, p, (difference.ndim - 1,))
    return (norm if keepdim else norm.squeeze(-1)).astype(dtype)


def pdist(input: Float[Array, "N D"], p: float = 2.0) -> Float[Array, "N*(N-1)/2"]:
    """Distances between all pairs of rows.

    d_ij = ||input_i - input_j||_p for i < j, in the order (0, 1), (0, 2), ..., (1, 2), ...; the
    derivative is 0 where the distance is.

    Shapes: (N, D) -> (N (N - 1) / 2).

    Args:
        input: the rows.
        p: the order of the norm, not negative; for 0 the number of elements that differ.

    Raises:
        ValueError: if the input is not a matrix, or p is negative.
        TypeError: if the input is not floating-point, or p is not a number.

    Source: torch.nn.functional.pdist.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.pdist(jnp.array([[0.0], [1.0], [3.0]]))
        Array([1., 3., 2.], dtype=float32)
    """
    input = check_array(input, "input", "pdist")
    check_floating(input, "input", "pdist")
    order = real_order(p, "pdist")
    if input.ndim != 2 or order < 0:
        raise ValueError(
            f"pdist: `input` must be a matrix and `p` not negative, got shape {input.shape} and {p}"
        )
    return _pdist(input, order)


@partial(jax.jit, static_argnums=1, inline=True)
def _pdist(input: jax.Array, p: float) -> jax.Array:
    first, second = np.triu_indices(input.shape[0], 1)
    if input.shape[1] == 0:
        return jnp.zeros(first.shape, input.dtype)
    difference = input[first] - input[second]
    if p == 0:
        # As in torch, a difference that is NaN counts as NaN.
        return jnp.minimum(jnp.ceil(jnp.abs(difference)), 1).sum(1)
    norm = vector_norm(difference, p, (1,))
    if p == float("inf"):
        # Each of several largest differences has the whole derivative, not a share of it. A
        # factor, as in torch, so that all derivatives of a distance that is NaN are.
        size = magnitude(difference)
        distance = jnp.abs(size - norm)
        is_largest = jnp.where(jnp.isnan(distance), distance, (distance == 0).astype(size.dtype))
        norm = straight_through((lax.stop_gradient(is_largest) * size).sum(1, keepdims=True), norm)
    return norm.squeeze(1)


def real_order(p: Any, layer: str) -> float:
    """Return the order of a norm as a float."""
    if isinstance(p, bool) or not isinstance(p, (int, float)):
        raise TypeError(f"{layer}: `p` must be a number, got {p!r}")
    return float(p)


def _pair(layer: str, x1: Any, x2: Any) -> tuple[jax.Array, jax.Array]:
    """Return both arrays, broadcast to one shape."""
    x1, x2 = check_array(x1, "x1", layer), check_array(x2, "x2", layer)
    if not jnp.issubdtype(promoted_dtype(x1, x2), jnp.floating):
        raise TypeError(
            f"{layer}: `x1` or `x2` must be of a floating-point dtype, got {x1.dtype}, {x2.dtype}"
        )
    try:
        shape = jnp.broadcast_shapes(x1.shape, x2.shape)
    except ValueError:
        raise ValueError(
            f"{layer}: the shapes do not broadcast: `x1` has {x1.shape}, `x2` has {x2.shape}"
        ) from None
    return jnp.broadcast_to(x1, shape), jnp.broadcast_to(x2, shape)
