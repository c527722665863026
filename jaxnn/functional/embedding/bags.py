"""Sums, means and maxima of a table's rows, over bags of ids."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._checks import check_array, check_floating, check_same_dtype, is_readable
from ..._config import check_indices
from ..._xla import by_platform
from .cpu import Pooling, add_one_by_one
from .definition import lookup_rows, pool
from .table import checked_table, embed


def embedding_bag(
    input: Int[Array, "*ids"],
    weight: Float[Array, "V D"],
    offsets: Int[Array, " bags"] | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Float[Array, "*ids"] | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Float[Array, "bags D"]:
    """Sums, means or maxima of rows of the table `weight`, over bags of ids.

    Formula:
        out[b] = sum of per_sample_weights[i] * weight[input[i]] over i in bag b, or their mean, or
        their maximum in each column

    An empty bag gives zeros. In a maximum the first of equals has the gradient, and as in torch a
    NaN counts only where it comes first.

    Shapes: input (B, n) for B bags of n ids, or (N) with offsets (B), where bag b begins at
    offsets[b] and ends where the next begins; weight (V, D) -> (B, D), of the dtype of `weight`.

    Args:
        input: ids, int32 or int64, 0 <= id < V.
        weight: the table. As in torch, input and weight may come in the other order.
        offsets: where the bags of a one-dimensional input begin; the first is 0.
        max_norm: the largest norm of a row, as for `embedding`.
        norm_type: p of the p-norm.
        scale_grad_by_freq: whether each id's gradient is divided by how often `input` has the id;
            not for maxima.
        mode: "sum", "mean" or "max".
        sparse: as for `embedding`; not for maxima.
        per_sample_weights: a factor for each id, of the shape of `input` and the dtype of
            `weight`; for sums only.
        include_last_offset: whether `offsets` has one number more, the end of the last bag.
        padding_idx: the row, counted from the end if negative, that counts in no bag.

    Raises:
        IndexError: if an id is out of range and `input` is concrete (see `jaxnn.check_indices`).
        TypeError: if an argument is not of its type.
        ValueError: if the shapes do not fit, the offsets are concrete and do not rise from 0 to at
            most N, or options do not go together.

    Source: torch.nn.functional.embedding_bag.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> table = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> ids, offsets = jnp.array([2, 0, 1]), jnp.array([0, 2])
        >>> jaxnn.functional.embedding_bag(ids, table, offsets, mode="sum")
        Array([[6., 8.],
               [3., 4.]], dtype=float32)
    """
    input, weight = in_order(input, weight)
    bags = check_bags(
        input, offsets, per_sample_weights, weight, include_last_offset, mode,
        scale_grad_by_freq, sparse,
    )  # fmt: skip
    ids, weight, padding_idx = checked_table(input, weight, padding_idx, max_norm, norm_type)
    return lookup_bags(
        ids, weight, bags, per_sample_weights, mode, padding_idx, scale_grad_by_freq, sparse
    )


class Bags(NamedTuple):
    """Which bag each id belongs to: `numbers`, for ids in a row, or None for one bag a row."""

    total: int
    numbers: Int[Array, " N"] | None


def lookup_bags(
    ids: Int[Array, "*ids"],
    weight: Float[Array, "V D"],
    bags: Bags,
    per_sample_weights: Float[Array, "*ids"] | None,
    mode: str,
    padding_idx: int | None,
    scale_grad_by_freq: bool,
    sparse: bool,
) -> Float[Array, "bags D"]:
    """Return sums, means or maxima of rows over bags, without holding the rows where it can."""
    options = (padding_idx, bool(scale_grad_by_freq), bool(sparse))
    if mode == "max" or bags.numbers is not None or not isinstance(ids.shape[1], int):
        rows = embed(weight, ids, *options)
        return pool_bags(rows, ids, bags, per_sample_weights, mode, padding_idx)
    factors = None if per_sample_weights is None else jnp.asarray(per_sample_weights)
    return _lookup_and_pool(weight, ids, factors, (mode, *options))


@partial(jax.jit, static_argnums=3)
def _lookup_and_pool(
    weight: Float[Array, "V D"],
    ids: Int[Array, "bags n"],
    factors: Float[Array, "bags n"] | None,
    pooling: Pooling,
) -> Float[Array, "bags D"]:
    return _pool_rows(weight, ids, factors, pooling)


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _pool_rows(
    weight: Array, ids: Array, factors: Array | None, pooling: Pooling
) -> Float[Array, "bags D"]:
    add = by_platform(cpu=partial(add_one_by_one, pooling), default=partial(_add_all, pooling))
    bags: Array = add(weight, ids, factors)
    return bags


@_pool_rows.defjvp
def _pool_rows_jvp(
    pooling: Pooling,
    primals: tuple[Array, Array, Array | None],
    tangents: tuple[Array, Array, Array | None],
) -> tuple[Array, Array]:
    _, tangent = jax.jvp(partial(_add_all, pooling), primals, tangents)
    return _pool_rows(*primals, pooling), tangent


def _add_all(
    pooling: Pooling, weight: Array, ids: Array, factors: Array | None
) -> Float[Array, "bags D"]:
    mode, *options = pooling
    rows = lookup_rows(weight, ids, *options)
    return pool(rows, ids, None, factors, ids.shape[0], mode, options[0])


def pool_bags(
    rows: Float[Array, "*ids D"],
    ids: Int[Array, "*ids"],
    bags: Bags,
    per_sample_weights: Float[Array, "*ids"] | None,
    mode: str,
    padding_idx: int | None,
) -> Float[Array, "bags D"]:
    """Return sums, means or maxima of looked-up rows over bags."""
    factors = None if per_sample_weights is None else jnp.asarray(per_sample_weights)
    return pool(rows, ids, bags.numbers, factors, bags.total, mode, padding_idx)


def in_order(input: Any, weight: Any) -> tuple[Any, Any]:
    """Return ids and table, which torch takes in either order."""
    dtypes = [given.dtype for given in (input, weight) if hasattr(given, "dtype")]
    kinds = (jnp.floating, jnp.integer)
    if [jnp.issubdtype(*pair) for pair in zip(dtypes, kinds, strict=False)] == [True, True]:
        return weight, check_array(input, "weight", "embedding_bag")
    return input, check_array(weight, "weight", "embedding_bag")


def check_bags(
    input: Any,
    offsets: Any,
    per_sample_weights: Any,
    weight: Any,
    include_last_offset: bool,
    mode: str,
    scale_grad_by_freq: bool,
    sparse: bool,
) -> Bags:
    """Check what `embedding_bag` takes beside the ids' range, and return the bags."""
    name = "embedding_bag"
    ids = check_array(input, "input", name)
    check_floating(weight, "weight", name)
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f'{name}: `mode` must be "sum", "mean" or "max", got {mode!r}')
    if mode == "max" and (scale_grad_by_freq or sparse):
        option = "scale_grad_by_freq" if scale_grad_by_freq else "sparse"
        raise ValueError(f'{name}: mode="max" does not go with {option}=True')
    if per_sample_weights is not None:
        factors = check_array(per_sample_weights, "per_sample_weights", name)
        if mode != "sum":
            raise ValueError(f'{name}: `per_sample_weights` need mode="sum", got {mode!r}')
        if factors.shape != ids.shape:
            raise ValueError(
                f"{name}: `per_sample_weights` must have the shape of `input`, {ids.shape}, got "
                f"{factors.shape}"
            )
        check_same_dtype({"weight": weight, "per_sample_weights": factors}, name)
    if ids.ndim == 2:
        if offsets is not None:
            raise ValueError(
                f"{name}: an `input` of two dimensions has a bag in each row: leave `offsets` out"
            )
        if isinstance(ids.shape[1], int) and ids.shape[1] == 0:
            raise ValueError(f"{name}: the rows of `input` must have an id, got shape {ids.shape}")
        return Bags(ids.shape[0], None)
    if ids.ndim != 1 or offsets is None:
        raise ValueError(
            f"{name}: `input` must have shape (bags, ids), or (ids,) with `offsets`, got "
            f"{ids.shape}{' without offsets' if offsets is None else ''}"
        )
    return _bags_from_offsets(ids, check_array(offsets, "offsets", name), bool(include_last_offset))


def _bags_from_offsets(ids: Array, offsets: Array, include_last: bool) -> Bags:
    name = "embedding_bag"
    if offsets.dtype not in (jnp.int32, jnp.int64):
        raise TypeError(f"{name}: `offsets` must be int32 or int64, got {offsets.dtype}")
    count = offsets.shape[0] - include_last if offsets.ndim == 1 else -1
    if offsets.ndim != 1 or (isinstance(count, int) and count < 0):
        raise ValueError(
            f"{name}: `offsets` must have shape (bags{' + 1' if include_last else ''},), got "
            f"{offsets.shape}"
        )
    if is_readable(offsets) and offsets.size:
        known = np.asarray(offsets)
        rises = known[0] == 0 and (np.diff(known) >= 0).all() and known[-1] <= ids.shape[0]
        if check_indices.enabled and not rises:
            raise ValueError(
                f"{name}: `offsets` must rise from 0 to at most the number of ids, "
                f"{ids.shape[0]}, got {known.tolist()}"
            )
    places = jnp.arange(ids.shape[0], dtype=offsets.dtype)
    numbers = jnp.searchsorted(offsets, places, side="right") - 1
    # An id before the first bag is in none, and a number beyond the last one's is dropped.
    return Bags(count, jnp.where(numbers < 0, offsets.shape[0], numbers))
