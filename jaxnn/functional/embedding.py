"""Embeddings: rows of a table, looked up by their numbers, alone or in bags; and one-hot rows."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

from .._checks import check_array, check_floating, check_int, check_same_dtype, is_readable
from .._config import check_indices
from .._dtypes import index_dtype
from .._xla import by_platform
from ._gradients import straight_through


def embedding(
    input: Int[Array, "*ids"],
    weight: Shaped[Array, "V D"],
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Shaped[Array, "*ids D"]:
    """Row `input[...]` of the table `weight`, for each id.

    Formula:
        out[..., :] = weight[input[...], :]

    With `max_norm`, first every row of `weight` that `input` names and whose norm exceeds
    `max_norm` is multiplied by max_norm / (norm + 1e-7), once, however often it is named. torch
    writes these rows to `weight`; here they are in the result, and `embedding_with_weight` returns
    the rewritten table. The derivative does not see the scaling.

    Shapes: (*), (V, D) -> (*, D), of the dtype of `weight`.

    Args:
        input: ids, int32 or int64, of any shape, 0 <= id < V.
        weight: the table, V rows of D numbers.
        padding_idx: the row, counted from the end if negative, that gets no gradient.
        max_norm: the largest norm of a row.
        norm_type: p of the p-norm.
        scale_grad_by_freq: whether each id's gradient is divided by how often `input` has the id.
        sparse: whether torch's gradient would be sparse: it changes no value, but excludes
            `scale_grad_by_freq` from differentiation. See `jaxnn.sparse` for sparse gradients.

    Raises:
        IndexError: if an id is out of range and `input` is concrete (see `jaxnn.check_indices`).
            Under `jax.jit` the id's row is NaN, or 0 for whole numbers, and it has no gradient.
        TypeError: if `input` is not int32 or int64, or an option is not of its type.
        ValueError: if `weight` is no matrix, or `padding_idx` is out of range; at differentiation,
            if both `sparse` and `scale_grad_by_freq` are set.

    Source: torch.nn.functional.embedding.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> table = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> jaxnn.functional.embedding(jnp.array([2, 0]), table)
        Array([[5., 6.],
               [1., 2.]], dtype=float32)
    """
    return embedding_with_weight(
        input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse
    )[0]


def embedding_with_weight(
    input: Int[Array, "*ids"],
    weight: Shaped[Array, "V D"],
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> tuple[Shaped[Array, "*ids D"], Shaped[Array, "V D"]]:
    """`embedding`, and the table as torch leaves it: with the rows that `max_norm` scaled.

    Arguments, shapes, dtypes and errors: as for `embedding`. Rows that `input` does not name, and
    rows within `max_norm`, keep their bits. The derivative of the table is that of `weight`.

    Returns:
        The rows, shape (*, D), and the table, shape (V, D).

    Source: torch.nn.functional.embedding, torch.embedding_renorm_.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> table = jnp.array([[3.0, 4.0], [30.0, 40.0]])
        >>> rows, table = jaxnn.functional.embedding_with_weight(
        ...     jnp.array([0]), table, max_norm=1.0)
        >>> table
        Array([[ 0.6,  0.8],
               [30. , 40. ]], dtype=float32)
    """
    ids, weight, padding_idx = checked_table(input, weight, padding_idx, max_norm, norm_type)
    return _embedding(weight, ids, padding_idx, bool(scale_grad_by_freq), bool(sparse)), weight


def checked_table(
    input: Any, weight: Any, padding_idx: int | None, max_norm: float | None, norm_type: float
) -> tuple[Int[Array, "*ids"], Shaped[Array, "V D"], int | None]:
    """Check what `embedding` takes, and return the ids, the table scaled, and the padding's row."""
    weight = check_array(weight, "weight", "embedding")
    if weight.ndim != 2:
        raise ValueError(
            f"embedding: `weight` must have shape (V, D), got shape {weight.shape}; reshape it"
        )
    ids = check_ids(input, weight.shape[0], "embedding")
    padding_idx = check_padding_idx(padding_idx, weight.shape[0], "embedding")
    if max_norm is not None:
        check_norms(max_norm, norm_type, "embedding")
        check_floating(weight, "weight", "embedding", complex_too=True)
        limit, bound = _norm_bounds(max_norm, _accumulator(weight.dtype))
        weight = _renormalise(weight, ids, limit, bound, float(norm_type))
    return ids, weight, padding_idx


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


def in_order(input: Any, weight: Any) -> tuple[Any, Any]:
    """Return ids and table, which torch takes in either order."""
    dtypes = [given.dtype for given in (input, weight) if hasattr(given, "dtype")]
    kinds = (jnp.floating, jnp.integer)
    if [jnp.issubdtype(*pair) for pair in zip(dtypes, kinds, strict=False)] == [True, True]:
        return weight, check_array(input, "weight", "embedding_bag")
    return input, check_array(weight, "weight", "embedding_bag")


class Bags(NamedTuple):
    """Which bag each id belongs to: `numbers`, for ids in a row, or None for one bag a row."""

    total: int
    numbers: Int[Array, " N"] | None


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
        rows = _embedding(weight, ids, *options)
        return pool_bags(rows, ids, bags, per_sample_weights, mode, padding_idx)
    factors = None if per_sample_weights is None else jnp.asarray(per_sample_weights)
    return _lookup_and_pool(weight, ids, factors, (mode, *options))


# How bags are pooled: the mode, `padding_idx`, `scale_grad_by_freq` and `sparse`.
Pooling = tuple[str, int | None, bool, bool]


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
    # XLA on a CPU writes all rows to memory before it adds them, which takes 2.6 times as long as
    # to add one row of each bag after the other; other devices do it at once.
    pool = by_platform(cpu=partial(_add_one_by_one, pooling), default=partial(_add_all, pooling))
    bags: Array = pool(weight, ids, factors)
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
    rows = _lookup(weight, ids, *options)
    return _pool(rows, ids, None, factors, ids.shape[0], mode, options[0])


def _add_one_by_one(
    pooling: Pooling, weight: Array, ids: Array, factors: Array | None
) -> Float[Array, "bags D"]:
    mode, padding_idx = pooling[:2]

    def add(total: Array, column: tuple[Array, Array | None]) -> tuple[Array, None]:
        rows = _weighed(lookup(weight, column[0]), *column, padding_idx)
        return total + rows, None

    start = jnp.zeros_like(_weighed(lookup(weight, ids[:, 0]), ids[:, 0], None, None))
    columns = ids.T, None if factors is None else factors.T
    total, _ = lax.scan(add, start, columns, unroll=8)
    return _mean(total, ids, None, ids.shape[0], mode, padding_idx).astype(weight.dtype)


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
    return _pool(rows, ids, bags.numbers, factors, bags.total, mode, padding_idx)


@partial(jax.jit, static_argnums=(4, 5, 6), inline=True)
def _pool(
    rows: Float[Array, "*ids D"],
    ids: Int[Array, "*ids"],
    numbers: Int[Array, " N"] | None,
    factors: Float[Array, "*ids"] | None,
    count: int,
    mode: str,
    padding_idx: int | None,
) -> Float[Array, "bags D"]:
    if mode == "max":
        counts = jnp.ones(ids.shape, bool) if padding_idx is None else ids != padding_idx
        if numbers is None:
            return _largest_of_rows(rows, counts)
        return _largest(rows, counts, numbers, count)
    total = _over_bags("sum", _weighed(rows, ids, factors, padding_idx), numbers, count)
    return _mean(total, ids, numbers, count, mode, padding_idx).astype(rows.dtype)


def _weighed(
    rows: Float[Array, "*ids D"],
    ids: Int[Array, "*ids"],
    factors: Float[Array, "*ids"] | None,
    padding_idx: int | None,
) -> Float[Array, "*ids D"]:
    """Multiply rows by their factors, in the dtype of sums; those of the padding count nothing."""
    rows = rows.astype(_accumulator(rows.dtype))
    if padding_idx is None:
        return rows if factors is None else rows * factors.astype(rows.dtype)[..., None]
    counts = (ids != padding_idx)[..., None]
    rows = jnp.where(counts, rows, jnp.zeros_like(rows))
    if factors is None:
        return rows
    # Selected on both sides of the product, so that neither factor is in the other's gradient.
    rows = rows * factors.astype(rows.dtype)[..., None]
    return jnp.where(counts, rows, jnp.zeros_like(rows))


def _mean(
    total: Float[Array, "bags D"],
    ids: Int[Array, "*ids"],
    numbers: Int[Array, " N"] | None,
    count: int,
    mode: str,
    padding_idx: int | None,
) -> Float[Array, "bags D"]:
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
    winner = first_place(is_number & (values == _gather(largest, numbers, 0)))
    winner = jnp.where(jnp.isnan(lax.stop_gradient(at(first))), first, winner)
    return jnp.where(first < size, at(winner), jnp.zeros((), rows.dtype))


def one_hot(input: Int[Array, "*shape"], num_classes: int = -1) -> Int[Array, "*shape classes"]:
    """Rows that are 1 at the given classes and 0 elsewhere.

    Formula:
        out[..., k] = 1 where k = input[...], else 0

    Shapes: (*) -> (*, num_classes), of int64 where JAX has 64 bits, else int32.

    Args:
        input: classes, int32 or int64, 0 <= class < num_classes.
        num_classes: how many there are; -1 for one more than the largest in `input`, which then
            must be concrete.

    Raises:
        IndexError: if a class is out of range and `input` is concrete. Under `jax.jit` its row is
            zero.
        TypeError: if `input` is not int32 or int64, or `num_classes` is no int.
        ValueError: if `num_classes` is -1 and `input` is traced or empty.

    Source: torch.nn.functional.one_hot.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.one_hot(jnp.array([0, 2]))
        Array([[1, 0, 0],
               [0, 0, 1]], dtype=int32)
    """
    num_classes = check_int(num_classes, "num_classes", "one_hot")
    classes = check_array(input, "input", "one_hot")
    if classes.dtype not in (jnp.int32, jnp.int64):
        raise TypeError(
            f"one_hot: `input` must be int32 or int64, got {classes.dtype}; convert it with astype"
        )
    if num_classes == -1:
        if isinstance(classes, jax.core.Tracer):
            raise ValueError(
                "one_hot: num_classes=-1 counts the classes in `input`, which is traced: give "
                "num_classes"
            )
        if classes.size == 0:
            raise ValueError("one_hot: num_classes=-1 needs a class, got none: give num_classes")
        num_classes = int(np.asarray(classes).max()) + 1
    if num_classes < 1:
        raise ValueError(f"one_hot: `num_classes` must be at least 1, or -1, got {num_classes}")
    if is_readable(classes) and check_indices.enabled and classes.size:
        for value in (int(np.asarray(classes).min()), int(np.asarray(classes).max())):
            if not 0 <= value < num_classes:
                raise IndexError(
                    f"one_hot: `input` has the class {value}, which must lie between 0 and "
                    f"num_classes - 1 = {num_classes - 1}"
                )
    return _one_hot(classes, num_classes)


@partial(jax.jit, static_argnums=1, inline=True)
def _one_hot(classes: Int[Array, "*shape"], num_classes: int) -> Int[Array, "*shape classes"]:
    places = jnp.arange(num_classes, dtype=classes.dtype)
    places = places.reshape((1,) * classes.ndim + (num_classes,))
    return (classes[..., None] == places).astype(index_dtype())


def check_ids(input: Any, rows: int, layer: str) -> Int[Array, "*ids"]:
    """Return the ids as a JAX array, their dtype checked, and their range where they are concrete.

    Raises:
        IndexError: if a concrete id does not lie between 0 and `rows` - 1.
        TypeError: if the ids are not int32 or int64.
    """
    ids = check_array(input, "input", layer)
    dtype = getattr(input, "dtype", ids.dtype)
    if dtype not in (jnp.int32, jnp.int64):
        raise TypeError(
            f"{layer}: `input` holds ids and must be int32 or int64, got {dtype}; convert it with "
            "input.astype(jnp.int32)"
        )
    # A NumPy array is checked as it came: without 64 bits the conversion wraps large ids around.
    concrete = input if isinstance(input, np.ndarray) else ids
    if check_indices.enabled and is_readable(concrete) and concrete.size and isinstance(rows, int):
        values = np.asarray(concrete)
        for value in (values.min(), values.max()):
            if not 0 <= value < rows:
                raise IndexError(
                    f"{layer}: `input` has the id {value}, but the table has {rows} rows: ids must "
                    f"lie between 0 and {rows - 1}"
                )
    return ids


def check_padding_idx(padding_idx: int | None, rows: int, layer: str) -> int | None:
    """Return `padding_idx` counted from the front, or None.

    Raises:
        TypeError: if it is no int.
        ValueError: if it is out of range.
    """
    if padding_idx is None:
        return None
    padding_idx = check_int(padding_idx, "padding_idx", layer)
    if not -rows <= padding_idx < rows:
        raise ValueError(
            f"{layer}: `padding_idx` must lie between {-rows} and {rows - 1} for a table of "
            f"{rows} rows, got {padding_idx}"
        )
    return padding_idx % rows


def check_norms(max_norm: Any, norm_type: Any, layer: str) -> None:
    """Refuse a `max_norm` that is no number, and a `norm_type` that is no Python number."""
    numbers = (int, float, np.number, jax.Array)
    if not isinstance(max_norm, numbers) or jnp.ndim(max_norm) != 0:
        raise TypeError(f"{layer}: `max_norm` must be a number or None, got {max_norm!r}")
    if not isinstance(norm_type, (int, float, np.number)):
        raise TypeError(f"{layer}: `norm_type` must be a number, got {norm_type!r}")


def lookup(weight: Shaped[Array, "V D"], ids: Int[Array, "*ids"]) -> Shaped[Array, "*ids D"]:
    """Return the rows of `weight`; where an id is out of range, NaN, or 0 for whole numbers."""
    inexact = jnp.issubdtype(weight.dtype, jnp.inexact)
    return _gather(weight, ids, jnp.nan if inexact else 0)


@partial(jax.jit, static_argnums=(2, 3, 4))
def _embedding(
    weight: Shaped[Array, "V D"],
    ids: Int[Array, "*ids"],
    padding_idx: int | None,
    scale_grad_by_freq: bool,
    sparse: bool,
) -> Shaped[Array, "*ids D"]:
    return _lookup(weight, ids, padding_idx, scale_grad_by_freq, sparse)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _lookup(
    weight: Shaped[Array, "V D"],
    ids: Int[Array, "*ids"],
    padding_idx: int | None,
    scale_grad_by_freq: bool,
    sparse: bool,
) -> Shaped[Array, "*ids D"]:
    return lookup(weight, ids)


@_lookup.defjvp
def _lookup_jvp(
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
    rows_dot = _gather(tangents[0], ids, 0)
    if scale_grad_by_freq:
        count = jnp.zeros(weight.shape[0], jnp.int32)
        count = count.at[ids].add(1, mode="drop", wrap_negative_indices=False)
        frequency = _gather(count, ids, 1).astype(_accumulator(weight.dtype))
        rows_dot = rows_dot * jnp.reciprocal(frequency).astype(weight.dtype)[..., None]
    return lookup(weight, primals[1]), rows_dot


@partial(jax.jit, static_argnums=4)
def _renormalise(
    weight: Float[Array, "V D"],
    ids: Int[Array, "*ids"],
    limit: Float[Array, ""],
    bound: Float[Array, ""],
    norm_type: float,
) -> Float[Array, "V D"]:
    fixed = lax.stop_gradient(weight)
    rows = _gather(fixed, ids, 0)
    norm = _rounded(_norm(rows.astype(_accumulator(weight.dtype)), norm_type), weight.dtype)
    scale = _rounded(bound / (norm + 1e-7), weight.dtype).astype(weight.dtype)
    new = fixed.at[ids].set(
        jnp.where(norm > limit, rows * scale, rows), mode="drop", wrap_negative_indices=False
    )
    return straight_through(weight, new)


def _rounded(x: Float[Array, "..."], dtype: Any) -> Float[Array, "..."]:
    # torch has the norm and the scale in the table's own dtype. A conversion there and back does
    # not round: XLA may skip it.
    info = jnp.finfo(dtype)
    return lax.reduce_precision(x, info.nexp, info.nmant)


def _norm(rows: Shaped[Array, "*ids D"], p: float) -> Float[Array, "*ids 1"]:
    size = jnp.abs(rows)
    if p == 2:
        return jnp.sqrt(jnp.sum(size * size, axis=-1, keepdims=True))
    if p == 1:
        return jnp.sum(size, axis=-1, keepdims=True)
    if math.isinf(p):
        extremum = jnp.max if p > 0 else jnp.min
        return extremum(size, axis=-1, keepdims=True, initial=0 if p > 0 else jnp.inf)
    if p == 0:
        return jnp.sum(size != 0, axis=-1, keepdims=True).astype(size.dtype)
    return jnp.sum(size**p, axis=-1, keepdims=True) ** (1 / p)


def _norm_bounds(max_norm: Any, dtype: Any) -> tuple[Array, Array]:
    """Return the largest number of `dtype` up to `max_norm`, and the nearest to it.

    A norm exceeds the former exactly when it exceeds `max_norm`, which has double precision.
    """
    real = jnp.finfo(dtype).dtype
    bound = jnp.asarray(max_norm, real)
    if isinstance(max_norm, jax.Array):
        return bound, bound
    limit = np.asarray(max_norm, real)
    if float(limit) > float(max_norm):
        limit = np.nextafter(limit, np.asarray(-np.inf, real))
    return jnp.asarray(limit), bound


def _gather(
    table: Shaped[Array, "V *row"], ids: Int[Array, "*ids"], outside: float | int
) -> Shaped[Array, "*ids *row"]:
    sharding = None
    if jax.typeof(ids).sharding.mesh.are_all_axes_explicit:
        # On an Explicit mesh JAX does not choose whether the ids' sharding or the table's wins.
        spec = (*jax.typeof(ids).sharding.spec, *jax.typeof(table).sharding.spec[1:])
        sharding = jax.sharding.PartitionSpec(*spec)
    return table.at[ids].get(
        mode="fill", fill_value=outside, wrap_negative_indices=False, out_sharding=sharding
    )


def _accumulator(dtype: Any) -> Any:
    """Return the dtype in which torch computes with numbers of `dtype`."""
    return jnp.float32 if dtype in (jnp.bfloat16, jnp.float16) else dtype
