"""What a point of a grid looks at: the elements around it, and their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# Where, as in torch, what has no place in a volume lies: none of its neighbours is inside.
_OUTSIDE = -100


class Tap(NamedTuple):
    """An element in one dimension that a point looks at."""

    place: jax.Array
    weight: jax.Array
    is_inside: jax.Array


def taps_of(
    point: jax.Array, size: int, n: int, mode: str, padding_mode: str, align_corners: bool
) -> list[Tap]:
    """Return what a point looks at in a dimension of the given size, one of `n`."""
    place = (point + 1) / 2 * (size - 1) if align_corners else ((point + 1) * size - 1) / 2
    if mode == "bicubic":
        first = jnp.floor(place)
        return [
            _tap(_placed(first + i, size, 0, padding_mode, align_corners), weight, size)
            for i, weight in zip((-1, 0, 1, 2), _cubic_weights(place - first), strict=True)
        ]
    if n == 3:
        place = _placed(place, size, size - 1, padding_mode, align_corners)
        place = jnp.where(jnp.isfinite(place), place, jnp.full_like(place, _OUTSIDE))
    elif mode == "nearest":
        place = _placed(place, size, 0, padding_mode, align_corners)
    else:
        place = _padded(place, size, padding_mode, align_corners)
    if mode == "nearest":
        return [_tap(jnp.round(place), jnp.ones_like(place), size)]
    first = jnp.floor(place)
    fraction = place - first
    return [_tap(first, 1 - fraction, size), _tap(first + 1, fraction, size)]


def meet(taps: tuple[Tap, ...], sizes: Sequence[int]) -> Tap:
    """Return one tap of the flattened image for one of each dimension."""
    index, weight, is_inside = taps[0]
    for tap, size in zip(taps[1:], sizes[1:], strict=True):
        index = index * size + tap.place
        weight = weight * tap.weight
        is_inside = is_inside & tap.is_inside
    return Tap(index, weight, is_inside)


def _tap(place: jax.Array, weight: jax.Array, size: int) -> Tap:
    index = jnp.clip(lax.stop_gradient(place), 0, size - 1).astype(jnp.int32)
    return Tap(index, weight, (place >= 0) & (place <= size - 1))


def _placed(
    place: jax.Array, size: int, otherwise: int, padding_mode: str, align_corners: bool
) -> jax.Array:
    """As `_padded`, and `otherwise`, where torch has it, for what is not a number."""
    place = _padded(place, size, padding_mode, align_corners)
    if padding_mode == "zeros":
        return place
    return jnp.where(jnp.isnan(place), jnp.full_like(place, otherwise), place)


def _padded(place: jax.Array, size: int, padding_mode: str, align_corners: bool) -> jax.Array:
    """Return the place inside that stands for one outside."""
    if padding_mode == "zeros":
        return place
    if padding_mode == "reflection":
        place = _reflected(place, size, align_corners)
    # At the bounds, too, the derivative is 0.
    inside = jnp.where(place >= size - 1, jnp.full_like(place, size - 1), place)
    return jnp.where(place <= 0, jnp.zeros_like(place), inside)


def _reflected(place: jax.Array, size: int, align_corners: bool) -> jax.Array:
    """Return the place, reflected at the edges until it lies between them."""
    low, span = (0.0, size - 1) if align_corners else (-0.5, size)
    if span == 0:
        return jnp.zeros_like(place)
    distance = jnp.where(place < low, low - place, place - low)
    rest = lax.rem(distance, jnp.full_like(distance, span))
    is_turned = lax.rem(jnp.floor(distance / span), jnp.full_like(distance, 2)) == 1
    return jnp.where(is_turned, span - rest, rest) + low


def _cubic_weights(fraction: jax.Array) -> list[jax.Array]:
    """Return the cubic convolution kernel at the distances of the four neighbours."""
    a = -0.75

    def near(x: jax.Array) -> jax.Array:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: jax.Array) -> jax.Array:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(fraction + 1), near(fraction), near(1 - fraction), far(2 - fraction)]
