"""Rows of a table, looked up by their numbers."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Shaped

from ..._checks import check_array, check_floating, check_int, is_readable
from ..._config import check_indices
from ..._dtypes import accumulation_dtype, rounded
from .._gradients import straight_through
from .definition import gather, lookup_rows


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
        ValueError: if `weight` is not a matrix, or `padding_idx` is out of range; at
            differentiation, if both `sparse` and `scale_grad_by_freq` are set.

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
    return embed(weight, ids, padding_idx, bool(scale_grad_by_freq), bool(sparse)), weight


@partial(jax.jit, static_argnums=(2, 3, 4))
def embed(
    weight: Shaped[Array, "V D"],
    ids: Int[Array, "*ids"],
    padding_idx: int | None,
    scale_grad_by_freq: bool,
    sparse: bool,
) -> Shaped[Array, "*ids D"]:
    """Look up ids that are checked, in a table whose rows are scaled."""
    return lookup_rows(weight, ids, padding_idx, scale_grad_by_freq, sparse)


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
        limit, bound = _norm_bounds(max_norm, accumulation_dtype(weight.dtype))
        weight = _renormalise(weight, ids, limit, bound, float(norm_type))
    return ids, weight, padding_idx


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
        TypeError: if it is not an int.
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
    """Refuse a `max_norm` that is not a number, and a `norm_type` that is no Python number."""
    numbers = (int, float, np.number, jax.Array)
    if not isinstance(max_norm, numbers) or jnp.ndim(max_norm) != 0:
        raise TypeError(f"{layer}: `max_norm` must be a number or None, got {max_norm!r}")
    if not isinstance(norm_type, (int, float, np.number)):
        raise TypeError(f"{layer}: `norm_type` must be a number, got {norm_type!r}")


@partial(jax.jit, static_argnums=4)
def _renormalise(
    weight: Float[Array, "V D"],
    ids: Int[Array, "*ids"],
    limit: Float[Array, ""],
    bound: Float[Array, ""],
    norm_type: float,
) -> Float[Array, "V D"]:
    fixed = lax.stop_gradient(weight)
    rows = gather(fixed, ids, 0)
    # torch has the norm and the scale in the table's own dtype.
    norm = rounded(_norm(rows.astype(accumulation_dtype(weight.dtype)), norm_type), weight.dtype)
    scale = rounded(bound / (norm + 1e-7), weight.dtype).astype(weight.dtype)
    new = fixed.at[ids].set(
        jnp.where(norm > limit, rows * scale, rows), mode="drop", wrap_negative_indices=False
    )
    return straight_through(weight, new)


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
