"""Operators that select, gather and scatter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .... import functional as F
from ._register import as_array, index_dtype, operator, same_rank
from .elementwise import convert


def _slice_of(length: Any, start: Any, end: Any, step: Any = 1) -> slice:
    """Return the slice with bounds that torch would clamp, which may be symbolic."""

    def bound(at: Any, default: Any) -> Any:
        if at is None:
            return default
        if isinstance(at, int) and isinstance(length, int):
            return max(0, min(at + length if at < 0 else at, length))
        if isinstance(at, int):
            # Of a symbolic length: the common bounds stand within it.
            if at >= 2**31:
                return length
            return at if at >= 0 else length + at
        return at

    return slice(bound(start, 0), bound(end, length), step)


@operator("slice", "slice_copy")
def _slice(
    self: jax.Array, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> jax.Array:
    axis = dim % self.ndim
    part = _slice_of(self.shape[axis], start, end, step)
    if part == slice(0, self.shape[axis], 1):
        return self
    if isinstance(part.start, int) and isinstance(part.stop, int) and part.stop < part.start:
        part = slice(part.start, part.start, step)
    return lax.slice_in_dim(self, part.start, part.stop, stride=step, axis=axis)


@operator("slice_scatter")
def _slice_scatter(
    self: jax.Array, src: jax.Array, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> jax.Array:
    axis = dim % self.ndim
    part = _slice_of(self.shape[axis], start, end, step)
    if part == slice(0, self.shape[axis], 1):
        return jnp.broadcast_to(src.astype(self.dtype), self.shape)
    where = (slice(None),) * axis + (part,)
    return self.at[where].set(src.astype(self.dtype))


@operator("select", "select_copy")
def _select(self: jax.Array, dim: int, index: Any) -> jax.Array:
    axis = dim % self.ndim
    if isinstance(index, int):
        place = index if index >= 0 else index + self.shape[axis]
        return jnp.squeeze(lax.slice_in_dim(self, place, place + 1, axis=axis), axis)
    return lax.dynamic_index_in_dim(self, index, axis, keepdims=False)


@operator("select_scatter")
def _select_scatter(self: jax.Array, src: jax.Array, dim: int, index: int) -> jax.Array:
    axis = dim % self.ndim
    return self.at[(slice(None),) * axis + (index,)].set(src.astype(self.dtype))


@operator("diagonal_scatter")
def _diagonal_scatter(
    self: jax.Array, src: jax.Array, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> jax.Array:
    moved = jnp.moveaxis(self, (dim1, dim2), (-2, -1))
    i = jnp.arange(src.shape[-1])
    moved = moved.at[..., i + max(-offset, 0), i + max(offset, 0)].set(src.astype(self.dtype))
    return jnp.moveaxis(moved, (-2, -1), (dim1, dim2))


@operator("narrow", "narrow_copy")
def _narrow(self: jax.Array, dim: int, start: Any, length: Any) -> jax.Array:
    if isinstance(start, int):
        return _slice(self, dim, start, start + length)  # type: ignore[no-any-return]
    return lax.dynamic_slice_in_dim(self, start, length, dim % self.ndim)


@operator("index_select")
def _index_select(self: jax.Array, dim: int, index: jax.Array) -> jax.Array:
    return jnp.take(self, jnp.atleast_1d(index), axis=dim, mode="clip")


@operator("gather")
def _gather(self: jax.Array, dim: int, index: jax.Array, sparse_grad: bool = False) -> jax.Array:
    if self.ndim == 0:
        return self
    axis = dim % self.ndim
    return self[_grid(self, axis, index)]


def _grid(self: jax.Array, axis: int, index: jax.Array) -> tuple[Any, ...]:
    """Return the places of the elements that `index` names along `axis`."""
    return tuple(
        index if a == axis else lax.broadcasted_iota(index.dtype, index.shape, a)
        for a in range(self.ndim)
    )


@operator("take_along_dim")
def _take_along_dim(self: jax.Array, indices: jax.Array, dim: int | None = None) -> jax.Array:
    return jnp.take_along_axis(self, indices, dim)


@operator("take")
def _take(self: jax.Array, index: jax.Array) -> jax.Array:
    return self.reshape(-1)[index]


@operator("scatter")
def _scatter(
    self: jax.Array, dim: int, index: jax.Array, src: Any = None, value: Any = None,
    reduce: str | None = None,
) -> jax.Array:  # fmt: skip
    if src is None:
        src = jnp.full(index.shape, value, self.dtype)
    places = _grid(self, dim % self.ndim, index)
    src = src[tuple(slice(0, n) for n in index.shape)].astype(self.dtype)
    if reduce is None:
        return self.at[places].set(src)
    return self.at[places].add(src) if reduce == "add" else self.at[places].multiply(src)


@operator("scatter_add")
def _scatter_add(self: jax.Array, dim: int, index: jax.Array, src: jax.Array) -> jax.Array:
    return _scatter(self, dim, index, src, reduce="add")  # type: ignore[no-any-return]


@operator("scatter_reduce")
def _scatter_reduce(
    self: jax.Array, dim: int, index: jax.Array, src: jax.Array, reduce: str,
    include_self: bool = True,
) -> jax.Array:  # fmt: skip
    places = _grid(self, dim % self.ndim, index)
    src = src[tuple(slice(0, n) for n in index.shape)].astype(self.dtype)
    methods = {"sum": "add", "mean": "add", "prod": "multiply", "amax": "max", "amin": "min"}
    start = self
    if not include_self:
        neutral = {"sum": 0, "mean": 0, "prod": 1, "amax": -jnp.inf, "amin": jnp.inf}[reduce]
        start = self.at[places].set(jnp.asarray(neutral, self.dtype))
    result: jax.Array = getattr(start.at[places], methods[reduce])(src)
    if reduce != "mean":
        return result
    first = jnp.ones_like(self) if include_self else jnp.ones_like(self).at[places].set(0)
    count = first.at[places].add(jnp.ones_like(src))
    return result / jnp.maximum(count, 1)


@operator("index_add")
def _index_add(
    self: jax.Array, dim: int, index: jax.Array, source: jax.Array, alpha: float = 1
) -> jax.Array:
    where = (slice(None),) * (dim % self.ndim) + (index,)
    return self.at[where].add((source * alpha).astype(self.dtype))


@operator("index_copy")
def _index_copy(self: jax.Array, dim: int, index: jax.Array, source: jax.Array) -> jax.Array:
    return self.at[(slice(None),) * (dim % self.ndim) + (index,)].set(source)


@operator("index_fill")
def _index_fill(self: jax.Array, dim: int, index: jax.Array, value: Any) -> jax.Array:
    return self.at[(slice(None),) * (dim % self.ndim) + (index,)].set(value)


def _indices(self: jax.Array, indices: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(slice(None) if i is None else i for i in indices)


@operator("index", "_unsafe_index")
def _index(self: jax.Array, indices: Sequence[Any]) -> jax.Array:
    if any(i is not None and i.dtype == bool for i in indices):
        raise NotImplementedError("indexing with a mask has a size that depends on its values")
    return self[_indices(self, indices)]


@operator("index_put", "_unsafe_index_put", "_index_put_impl")
def _index_put(
    self: jax.Array, indices: Sequence[Any], values: Any, accumulate: bool = False,
    unsafe: bool = False,
) -> jax.Array:  # fmt: skip
    values = as_array(values).astype(self.dtype)
    if len(indices) == 1 and indices[0] is not None and indices[0].dtype == bool:
        mask = indices[0].reshape(indices[0].shape + (1,) * (self.ndim - indices[0].ndim))
        if values.size == 1 or values.shape[0] == 1 or mask.ndim > indices[0].ndim:
            chosen, x, y = same_rank(mask, self, values)
            return jnp.where(chosen, x + y if accumulate else y, x)
        # The k-th True takes the k-th value.
        order = jnp.cumsum(mask.reshape(-1)) - 1
        spread = values.reshape(-1)[jnp.clip(order, 0, values.size - 1)].reshape(self.shape)
        return jnp.where(mask, self + spread if accumulate else spread, self)
    if any(i is not None and i.dtype == bool for i in indices):
        raise NotImplementedError("indexing with masks has a size that depends on their values")
    places = self.at[_indices(self, indices)]
    return places.add(values) if accumulate else places.set(values)


@operator("masked_scatter")
def _masked_scatter(self: jax.Array, mask: jax.Array, source: jax.Array) -> jax.Array:
    mask, x = jnp.broadcast_arrays(*same_rank(mask, self))
    flat = source.reshape(-1)
    order = jnp.clip(jnp.cumsum(mask.reshape(-1)) - 1, 0, flat.shape[0] - 1)
    return jnp.where(mask, flat[order].reshape(mask.shape).astype(self.dtype), x)


@operator("embedding")
def _embedding(
    weight: jax.Array, indices: jax.Array, padding_idx: int = -1,
    scale_grad_by_freq: bool = False, sparse: bool = False,
) -> jax.Array:  # fmt: skip
    padding = None if padding_idx == -1 else padding_idx
    return F.embedding(indices, weight, padding, scale_grad_by_freq=scale_grad_by_freq)


@operator("one_hot")
def _one_hot(self: jax.Array, num_classes: int = -1) -> jax.Array:
    if num_classes == -1:
        raise NotImplementedError("one_hot without num_classes has a size that depends on values")
    return jax.nn.one_hot(self, num_classes, dtype=index_dtype())


@operator("isin")
def _isin(
    elements: Any, test_elements: Any, assume_unique: bool = False, invert: bool = False
) -> jax.Array:
    return jnp.isin(elements, test_elements, assume_unique, invert)


@operator("item", "_local_scalar_dense")
def _item(self: jax.Array) -> Any:
    # A number of Python's has no gradient.
    return lax.stop_gradient(self.reshape(()))


@operator("fill")
def _fill(self: jax.Array, value: Any) -> jax.Array:
    return jnp.broadcast_to(convert(as_array(value), self.dtype), self.shape)


@operator("zero")
def _zero(self: jax.Array) -> jax.Array:
    return jnp.zeros_like(self)
