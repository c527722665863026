"""Max pooling on a TPU, whose compiler has an operation for it."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Num

from .._windows import Window, reduction_of
from .definition import candidate_wins, lowest


def maxima_by_reduction(x: Num[Array, "..."], windows: tuple[Window, ...]) -> Num[Array, "..."]:
    """Return each window's maximum, as one reduction."""

    def later_if_it_wins(best: Array, candidate: Array) -> Array:
        return lax.select(candidate_wins(candidate, best), candidate, best)

    start = jnp.asarray(lowest(x.dtype), x.dtype)
    return lax.reduce_window(x, start, later_if_it_wins, **reduction_of(x.shape, windows))
