"""Losses of an anchor, what should be near it, and what should be far."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num

from ..._dtypes import accumulation_dtype, promoted_dtype
from ..._types import Scalar
from ..activation._elementwise import check_number, is_known
from ..distance import pairwise_distance, real_order
from ._reduction import (
    Reduced,
    broadcast,
    check_reduction,
    check_same_rank,
    elementwise_loss,
    numbers,
    positive_part,
)


def triplet_margin_loss(
    anchor: Num[Array, "..."],
    positive: Num[Array, "..."],
    negative: Num[Array, "..."],
    margin: Scalar = 1.0,
    p: float = 2,
    eps: Scalar = 1e-6,
    swap: bool = False,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Reduced:
    """Distances from an anchor: to the positive less, by a margin, than to the negative.

    loss = max(0, margin + d(anchor, positive) - d(anchor, negative)), d(x, y) = ||x - y + eps||_p;
    with `swap`, d(positive, negative) replaces d(anchor, negative) where it is less.

    Shapes: three arrays (*N, D), which broadcast -> (*N), or () if it is reduced. Half precision is
    computed in float32 and rounded once.

    Args:
        anchor: the vectors that the others are compared with.
        positive: vectors that should be near.
        negative: vectors that should be far.
        margin: by how much; may be traced.
        p: the order of the norm.
        eps: added to the differences; may be traced.
        swap: whether the positive may take the anchor's place.
        size_average: refused, since torch replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".

    Raises:
        ValueError: if the shapes do not fit, the margin is not positive, or the reduction is none
            of the three.
        TypeError: if no array is of a floating-point dtype.

    Source: Balntas et al., 2016; torch.nn.functional.triplet_margin_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> anchor, near, far = jnp.zeros((1, 1)), jnp.array([[1.0]]), jnp.array([[1.5]])
        >>> jaxnn.functional.triplet_margin_loss(anchor, near, far, eps=0.0)
        Array(0.5, dtype=float32)
    """
    layer = "triplet_margin_loss"
    check_reduction(reduction, layer, size_average, reduce)
    margin = check_margin(margin, layer)
    arrays = numbers(layer, anchor=anchor, positive=positive, negative=negative)
    dtype = promoted_dtype(*arrays)
    wide = [array.astype(accumulation_dtype(dtype)) for array in arrays]
    order, eps = real_order(p, layer), check_number(eps, "eps", layer)
    distance = partial(pairwise_distance, p=order, eps=eps)
    return _triplet(layer, wide, distance, margin, bool(swap), reduction).astype(dtype)


def check_margin(margin: Any, layer: str) -> Any:
    """Return the number `margin`, which must be positive."""
    margin = check_number(margin, "margin", layer)
    if is_known(margin) and not margin > 0:
        raise ValueError(f"{layer}: `margin` must be positive, got {margin}")
    return margin


def _triplet(
    layer: str,
    arrays: list[jax.Array],
    distance: Callable[[jax.Array, jax.Array], jax.Array],
    margin: Any,
    swap: bool,
    reduction: str,
) -> jax.Array:
    anchor, positive, negative = arrays
    check_same_rank(layer, anchor=anchor, positive=positive, negative=negative)
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        other = distance(positive, negative)
        far, other = broadcast(layer, far=far, other=other)
        far = jnp.minimum(far, other)
    near, far = broadcast(layer, near=near, far=far)
    return _beyond_margin(reduction, (near, far), (margin,))


@elementwise_loss
def _beyond_margin(near: jax.Array, far: jax.Array, margin: jax.Array) -> jax.Array:
    return positive_part(margin + near - far)


def triplet_margin_with_distance_loss(
    anchor: Num[Array, "..."],
    positive: Num[Array, "..."],
    negative: Num[Array, "..."],
    *,
    distance_function: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    margin: Scalar = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Reduced:
    """`triplet_margin_loss` with any distance.

    loss = max(0, margin + d(anchor, positive) - d(anchor, negative)); with `swap`,
    d(positive, negative) replaces d(anchor, negative) where it is less.

    Shapes: three arrays with as many dimensions -> what d gives, or () if it is reduced.

    Args:
        anchor: what the others are compared with.
        positive: what should be near.
        negative: what should be far.
        distance_function: d, by default `pairwise_distance`.
        margin: by how much; may be traced.
        swap: whether the positive may take the anchor's place.
        reduction: "none", "mean" or "sum".

    Raises:
        ValueError: if the shapes do not fit, the margin is not positive, or the reduction is none
            of the three.
        TypeError: if no array is of a floating-point dtype.

    Source: torch.nn.functional.triplet_margin_with_distance_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> anchor, near, far = jnp.zeros(1), jnp.array([1.0]), jnp.array([1.5])
        >>> jaxnn.functional.triplet_margin_with_distance_loss(
        ...     anchor, near, far, distance_function=lambda x, y: jnp.abs(x - y))
        Array(0.5, dtype=float32)
    """
    layer = "triplet_margin_with_distance_loss"
    check_reduction(reduction, layer)
    margin = check_margin(margin, layer)
    arrays = numbers(layer, anchor=anchor, positive=positive, negative=negative)
    distance = pairwise_distance if distance_function is None else distance_function
    return _triplet(layer, arrays, distance, margin, bool(swap), reduction)
