"""Rows of a table by their numbers, with the gradient that torch gives it, and their bags."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

from ..._dtypes import accumulation_dtype


def lookup(weight: Shaped[Array, "V D"], ids: Int[Array, "*ids"]) -> Shaped[Array, "*ids D"]:
    """Return the rows of `weight`; where an id is out of range, NaN, or 0 for whole numbers."""
    inexact = jnp.issubdtype(weight.dtype, jnp.inexact)
    return gather(weight, ids, jnp.nan if inexact else 0)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def lookup_rows(
    weight: Shaped[Array, "V D"],
    ids: Int[Array, "*ids"],
    padding_idx: int | None,
    scale_grad_by_freq: bool,
    sparse: bool,
) -> Shaped[Array, "*ids D"]:
    """`lookup`, with the table's gradient as the options of `embedding` want it."""
    return lookup(weight, ids)


@lookup_rows.defjvp
def _lookup_rows_jvp(
    padding_idx: int | None,
    scale_grad_by_freq: bool,
    sparse: bool,
    primals: tuple[Array, Array],
    tangents: tuple[Array, Array],
) -> tuple[Array, Array]:
    weight, ids = primals
    if sparse and scale_grad_by_freq:
        raise ValueError(
            "embedding: `scale_grad_by_freq` has no sparse gradient, as in torch: set "
            "sparse=False, or scale_grad_by_freq=False"
        )
    if padding_idx is not None:
        # An id out of range has a zero tangent, and its cotangent is dropped.
        ids = jnp.where(ids == padding_idx, weight.shape[0], ids)
    rows_dot = gather(tangents[0], ids, 0)
    if scale_grad_by_freq:
        count = jnp.zeros(weight.shape[0], jnp.int32)
        count = count.at[ids].add(1, mode="drop", wrap_negative_indices=False)
        frequency = gather(count, ids, 1).astype(accumulation_dtype(weight.dtype))
        rows_dot = rows_dot * jnp.reciprocal(frequency).astype(weight.dtype)[..., None]
    return lookup(weight, primals[1]), rows_dot


def gather(
    table: Shaped[Array, "V *row"], ids: Int[Array, "*ids"], outside: float | int
) -> Shaped[Array, "*ids *row"]:
    """Return rows of the table, filled with `outside` where an id is out of range."""
    sharding = None
    if jax.typeof(ids).sharding.mesh.are_all_axes_explicit:
        # On an Explicit mesh JAX does not choose whether the ids' sharding or the table's wins.
        spec = (*jax.typeof(ids).sharding.spec, *jax.typeof(table).sharding.spec[1:])
        sharding = jax.sharding.PartitionSpec(*spec)
    return table.at[ids].get(
        mode="fill", fill_value=outside, wrap_negative_indices=False, out_sharding=sharding
    )


@partial(jax.jit, static_argnums=(4, 5, 6), inline=True)
def pool(
    rows: Float[Array, "*ids D"],
    ids: Int[Array, "*ids"],
    numbers: Int[Array, " N"] | None,
    factors: Float[Array, "*ids"] | None,
    count: int,
    mode: str,
    padding_idx: int | None,
) -> Float[Array, "bags D"]:
    """Return sums, means or maxima of rows over bags: those of `numbers`, or one for each row."""
    if mode == "max":
        counts = jnp.ones(ids.shape, bool) if padding_idx is None else ids != padding_idx
        if numbers is None:
            return _largest_of_rows(rows, counts)
        return _largest(rows, counts, numbers, count)
    total = _over_bags("sum", weighed(rows, ids, factors, padding_idx), numbers, count)
    return mean_of_bags(total, ids, numbers, count, mode, padding_idx).astype(rows.dtype)


def weighed(
    rows: Float[Array, "*ids D"],
    ids: Int[Array, "*ids"],
    factors: Float[Array, "*ids"] | None,
    padding_idx: int | None,
) -> Float[Array, "*ids D"]:
    """Multiply rows by their factors, in the dtype of sums; those of the padding count nothing."""
    rows = rows.astype(accumulation_dtype(rows.dtype))
    if padding_idx is None:
        return rows if factors is None else rows * factors.astype(rows.dtype)[..., None]
    counts = (ids != padding_idx)[..., None]
    rows = jnp.where(counts, rows, jnp.zeros_like(rows))
    if factors is None:
        return rows
    # Selected on both sides of the product, so that neither factor is in the other's gradient.
    rows = rows * factors.astype(rows.dtype)[..., None]
    return jnp.where(counts, rows, jnp.zeros_like(rows))


def mean_of_bags(
    total: Float[Array, "bags D"],
    ids: Int[Array, "*ids"],
    numbers: Int[Array, " N"] | None,
    count: int,
    mode: str,
    padding_idx: int | None,
) -> Float[Array, "bags D"]:
    """Return the means for the sums, where they are wanted; an empty bag has 0."""
    if mode == "sum":
        return total
    counts = jnp.ones(ids.shape, bool) if padding_idx is None else ids != padding_idx
    size = _over_bags("sum", counts[..., None].astype(total.dtype), numbers, count)
    return total / jnp.maximum(size, jnp.ones_like(size))


def _over_bags(
    reduction: str, values: Shaped[Array, "*ids D"], numbers: Array | None, count: int
) -> Shaped[Array, "bags D"]:
    """Take the sum, max or min of the values of each bag."""
    if numbers is None:
        reduced: Array = getattr(jnp, reduction)(values, axis=1)
        return reduced
    segments = getattr(jax.ops, f"segment_{reduction}")
    pooled: Array = segments(values, numbers, num_segments=count, indices_are_sorted=True)
    return pooled


def _largest_of_rows(
    rows: Float[Array, "bags n D"], counts: Bool[Array, "bags n"]
) -> Float[Array, "bags D"]:
    """Take the maxima one by one: the first of equals wins, and a NaN only if it is first."""

    def step(
        best: tuple[Array, Array], now: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array], None]:
        (largest, found), (row, inside) = best, now
        wins = inside & (~found | (row > largest))
        return (jnp.where(wins, row, largest), found | inside), None

    start = jnp.zeros_like(rows[:, 0]), jnp.zeros_like(counts[:, :1])
    columns = rows.swapaxes(0, 1), counts.swapaxes(0, 1)[..., None]
    return lax.scan(step, start, columns)[0][0]


def _largest(
    rows: Float[Array, "N D"], counts: Bool[Array, " N"], numbers: Array, count: int
) -> Float[Array, "bags D"]:
    """Take the same maxima of bags of any size."""
    size = counts.shape[0]
    if isinstance(size, int) and size == 0:
        return jnp.zeros((count, rows.shape[-1]), rows.dtype)
    fixed = lax.stop_gradient(rows)
    place = jnp.broadcast_to(jnp.arange(size)[:, None], fixed.shape)
    inside = jnp.broadcast_to(counts[:, None], fixed.shape)
    is_number = inside & ~jnp.isnan(fixed)

    def first_place(condition: Array) -> Array:
        return _over_bags("min", jnp.where(condition, place, size), numbers, count)

    def at(places: Array) -> Array:
        return jnp.take_along_axis(rows, jnp.minimum(places, size - 1), 0)

    values = jnp.where(is_number, fixed, jnp.full_like(fixed, -jnp.inf))
    largest = _over_bags("max", values, numbers, count)
    first = first_place(inside)
    winner = first_place(is_number & (values == gather(largest, numbers, 0)))
    winner = jnp.where(jnp.isnan(lax.stop_gradient(at(first))), first, winner)
    return jnp.where(first < size, at(winner), jnp.zeros((), rows.dtype))
