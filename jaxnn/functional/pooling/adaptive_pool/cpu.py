"""The means of adaptive pooling on a CPU."""

from __future__ import annotations

from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ...._xla import out_of_line
from .definition import means_by_reductions


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def means_by_sums(
    x: Float[Array, "..."], axis: int, windows: tuple[tuple[int, int], ...]
) -> Float[Array, "..."]:
    """As `means_by_reductions`, which XLA does not vectorise on a CPU: there 3 times as fast."""

    def sums(x: Float[Array, "..."]) -> Float[Array, "..."]:
        positions = [lax.index_in_dim(x, i, axis, keepdims=False) for i in range(x.shape[axis])]
        parts = [positions[start:end] for start, end in windows]
        return jnp.stack([reduce(jnp.add, part) / len(part) for part in parts], axis)

    def default(x: Float[Array, "..."]) -> Float[Array, "..."]:
        return means_by_reductions(x, axis, windows)

    return out_of_line(sums, default)(x)


@means_by_sums.defjvp
def _means_by_sums_jvp(
    axis: int,
    windows: tuple[tuple[int, int], ...],
    primals: tuple[jax.Array],
    tangents: tuple[jax.Array],
) -> tuple[jax.Array, jax.Array]:
    # The transpose of a reduction is a broadcast, where that of sums writes each of their terms.
    return means_by_sums(*primals, axis, windows), means_by_reductions(*tangents, axis, windows)
