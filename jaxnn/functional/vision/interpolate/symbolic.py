"""The outputs where a size is a symbol, as in an export: the program finds what each looks at."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ...._dtypes import accumulation_dtype
from .definition import nearest_places, places_and_weights


def are_symbols(sizes: Sequence[Any]) -> bool:
    """Whether one of some sizes is a symbol."""
    return not all(isinstance(size, int) for size in sizes)


def take_by_program(
    input: jax.Array, sizes: Sequence[Any], scales: Sequence[float | None], exact: bool
) -> jax.Array:
    """Take the nearest element for each output."""
    for axis, (new, scale) in enumerate(zip(sizes, scales, strict=True), 2):
        old = input.shape[axis]
        if exact or new != old:
            places = nearest_places(jnp, old, new, scale, exact)
            input = jnp.take(input, places, axis, mode="clip")
    return input


def weighed_by_program(
    input: jax.Array,
    sizes: Sequence[Any],
    scales: Sequence[float | None],
    kernel: str,
    align_corners: bool,
) -> jax.Array:
    """Weigh each output's taps, in float32 at least."""
    x = input.astype(accumulation_dtype(input.dtype))
    for axis, (new, scale) in enumerate(zip(sizes, scales, strict=True), 2):
        index, weight = places_and_weights(
            jnp, x.shape[axis], new, scale, kernel, align_corners, x.dtype.name
        )
        x = _weighed_along(x, axis, index, weight)
    return x.astype(input.dtype)


def _weighed_along(x: jax.Array, axis: int, index: jax.Array, weight: jax.Array) -> jax.Array:
    def tap(number: int) -> jax.Array:
        values = jnp.take(x, index[:, number], axis, mode="clip")
        return values * lax.broadcast_in_dim(weight[:, number], values.shape, (axis,))

    return reduce(jnp.add, map(tap, range(index.shape[1])))
