"""Operators that reduce, scan, sort and search."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .... import functional as F
from ...._dtypes import accumulation_dtype
from ....functional._extremes import largest, smallest
from ....functional._gradients import straight_through
from ....functional._vector_norm import vector_norm
from ._register import (
    axes_of,
    default_float,
    dtype_of,
    index_dtype,
    is_float,
    operator,
)
from .elementwise import convert

Dim = int | list[int] | tuple[int, ...] | None


def _summed_dtype(self: jax.Array, dtype: str | None) -> Any:
    if dtype is not None:
        return dtype_of(dtype)
    return self.dtype if is_float(self) else index_dtype()


@operator("sum")
def _sum(
    self: jax.Array, dim: Dim = None, keepdim: bool = False, dtype: str | None = None
) -> jax.Array:
    x = self.astype(_summed_dtype(self, dtype))
    return x.sum(axes_of(dim, x.ndim), keepdims=keepdim)


@operator("mean")
def _mean(
    self: jax.Array, dim: Dim = None, keepdim: bool = False, dtype: str | None = None
) -> jax.Array:
    x = self if dtype is None else self.astype(dtype_of(dtype))
    return x.mean(axes_of(dim, x.ndim), keepdims=keepdim)


@operator("prod")
def _prod(
    self: jax.Array, dim: int | None = None, keepdim: bool = False, dtype: str | None = None
) -> jax.Array:
    x = self.astype(_summed_dtype(self, dtype))
    return x.prod(axes_of(dim, x.ndim), keepdims=keepdim)


def _variance(
    self: jax.Array, dim: Dim, unbiased: bool | None, correction: Any, keepdim: bool
) -> tuple[jax.Array, jax.Array]:
    """Return variance and mean, of half precision in float32."""
    self = self.astype(accumulation_dtype(self.dtype))
    axes = axes_of(dim, self.ndim)
    if correction is None:
        correction = 0 if unbiased is False else 1
    mean = self.mean(axes, keepdims=True)
    centred = self - mean
    count = math.prod(self.shape[a] for a in axes)
    square = (centred * jnp.conj(centred)).real if jnp.iscomplexobj(self) else centred * centred
    total = square.sum(axes, keepdims=keepdim)
    divisor = count - correction
    variance = total / max(divisor, 0) if isinstance(count, int) and divisor > 0 else (
        total / divisor if not isinstance(count, int) else total / jnp.zeros((), total.dtype)
    )  # fmt: skip
    return variance, mean if keepdim else mean.reshape(variance.shape)


@operator("var")
def _var(
    self: jax.Array, dim: Dim = None, unbiased: bool | None = None, correction: Any = None,
    keepdim: bool = False,
) -> jax.Array:  # fmt: skip
    return _var_mean(self, dim, unbiased, correction, keepdim)[0]  # type: ignore[no-any-return]


@operator("std")
def _std(
    self: jax.Array, dim: Dim = None, unbiased: bool | None = None, correction: Any = None,
    keepdim: bool = False,
) -> jax.Array:  # fmt: skip
    return _std_mean(self, dim, unbiased, correction, keepdim)[0]  # type: ignore[no-any-return]


def _root(variance: jax.Array) -> jax.Array:
    # torch's derivative at 0 is 0, where that of the root is infinite.
    zero = variance == 0
    root = jnp.sqrt(jnp.where(zero, jnp.ones_like(variance), variance))
    return jnp.where(zero, jnp.zeros_like(variance), root)


@operator("var_mean")
def _var_mean(
    self: jax.Array, dim: Dim = None, unbiased: bool | None = None, correction: Any = None,
    keepdim: bool = False,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    variance, mean = _variance(self, dim, unbiased, correction, keepdim)
    return _rounded(variance, self), mean.astype(self.dtype)


def _rounded(moment: jax.Array, self: jax.Array) -> jax.Array:
    """Return a moment, which is real, in the precision of what it is of."""
    return moment if jnp.iscomplexobj(self) else moment.astype(self.dtype)


@operator("std_mean")
def _std_mean(
    self: jax.Array, dim: Dim = None, unbiased: bool | None = None, correction: Any = None,
    keepdim: bool = False,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    variance, mean = _variance(self, dim, unbiased, correction, keepdim)
    return _rounded(_root(variance), self), mean.astype(self.dtype)


@operator("amax")
def _amax(self: jax.Array, dim: Dim = None, keepdim: bool = False) -> jax.Array:
    axes = axes_of(dim, self.ndim)
    if not is_float(self):
        return self.max(axes, keepdims=keepdim)
    value = largest(self, axes)
    return value if keepdim else jnp.squeeze(value, axes)


@operator("amin")
def _amin(self: jax.Array, dim: Dim = None, keepdim: bool = False) -> jax.Array:
    axes = axes_of(dim, self.ndim)
    if not is_float(self):
        return self.min(axes, keepdims=keepdim)
    value = smallest(self, axes)
    return value if keepdim else jnp.squeeze(value, axes)


@operator("aminmax")
def _aminmax(
    self: jax.Array, dim: int | None = None, keepdim: bool = False
) -> tuple[jax.Array, jax.Array]:
    return _amin(self, dim, keepdim), _amax(self, dim, keepdim)


def _extremes(self: jax.Array, index: jax.Array, dim: int, keepdim: bool) -> Any:
    """The elements at `index`, with the gradient to these alone."""
    if self.ndim == 0:
        return self, index
    kept = jnp.expand_dims(index, dim)
    values = jnp.take_along_axis(self, kept, dim)
    if keepdim:
        return values, kept
    return jnp.squeeze(values, dim), index


@operator("max")
def _max(self: jax.Array, dim: int | None = None, keepdim: bool = False, other: Any = None) -> Any:
    if other is not None:
        return jnp.maximum(self, other)
    if dim is None:
        return _amax(self)
    return _extremes(self, _argmax(self, dim), dim, keepdim)


@operator("min")
def _min(self: jax.Array, dim: int | None = None, keepdim: bool = False, other: Any = None) -> Any:
    if other is not None:
        return jnp.minimum(self, other)
    if dim is None:
        return _amin(self)
    return _extremes(self, _argmin(self, dim), dim, keepdim)


@operator("argmax")
def _argmax(self: jax.Array, dim: int | None = None, keepdim: bool = False) -> jax.Array:
    if self.ndim == 0:
        return jnp.zeros((), index_dtype())
    return jnp.argmax(self, dim, keepdims=keepdim).astype(index_dtype())


@operator("argmin")
def _argmin(self: jax.Array, dim: int | None = None, keepdim: bool = False) -> jax.Array:
    if self.ndim == 0:
        return jnp.zeros((), index_dtype())
    return jnp.argmin(self, dim, keepdims=keepdim).astype(index_dtype())


@operator("any")
def _any(self: jax.Array, dim: Dim = None, keepdim: bool = False) -> jax.Array:
    return convert(self, bool).any(axes_of(dim, self.ndim), keepdims=keepdim)


@operator("all")
def _all(self: jax.Array, dim: Dim = None, keepdim: bool = False) -> jax.Array:
    return convert(self, bool).all(axes_of(dim, self.ndim), keepdims=keepdim)


@operator("count_nonzero")
def _count_nonzero(self: jax.Array, dim: Dim = None) -> jax.Array:
    return (self != 0).sum(axes_of(dim, self.ndim)).astype(index_dtype())


@operator("logsumexp")
def _logsumexp(self: jax.Array, dim: Dim, keepdim: bool = False) -> jax.Array:
    return jax.nn.logsumexp(self, axes_of(dim, self.ndim), keepdims=keepdim)


@operator("linalg_vector_norm")
def _vector_norm(
    self: jax.Array, ord: float = 2, dim: Dim = None, keepdim: bool = False,
    dtype: str | None = None,
) -> jax.Array:  # fmt: skip
    x = self if dtype is None else self.astype(dtype_of(dtype))
    axes = axes_of(dim, x.ndim)
    norm = vector_norm(x, float(ord), axes)
    return norm if keepdim else jnp.squeeze(norm, axes)


@operator("norm")
def _norm(
    self: jax.Array, p: Any = 2, dim: Dim = None, keepdim: bool = False, dtype: Any = None
) -> jax.Array:
    return _vector_norm(self, 2 if p is None or p == "fro" else p, dim, keepdim, dtype)  # type: ignore[no-any-return]


@operator("dist")
def _dist(self: jax.Array, other: jax.Array, p: float = 2) -> jax.Array:
    return _vector_norm(self - other, p)  # type: ignore[no-any-return]


@operator("renorm")
def _renorm(self: jax.Array, p: float, dim: int, maxnorm: float) -> jax.Array:
    x = self.astype(accumulation_dtype(self.dtype))
    norm = vector_norm(x, float(p), tuple(a for a in range(x.ndim) if a != dim % x.ndim))
    factor = jnp.where(norm > maxnorm, maxnorm / (norm + 1e-7), jnp.ones_like(norm))
    return (x * jnp.broadcast_to(factor, x.shape)).astype(self.dtype)


# --- scans --------------------------------------------------------------------------------------


@operator("cumsum")
def _cumsum(self: jax.Array, dim: int, dtype: str | None = None) -> jax.Array:
    x = self.astype(_summed_dtype(self, dtype))
    return x if x.ndim == 0 else jnp.cumsum(x, dim)


@operator("cumprod")
def _cumprod(self: jax.Array, dim: int, dtype: str | None = None) -> jax.Array:
    x = self.astype(_summed_dtype(self, dtype))
    return x if x.ndim == 0 else jnp.cumprod(x, dim)


@operator("logcumsumexp")
def _logcumsumexp(self: jax.Array, dim: int) -> jax.Array:
    return lax.cumlogsumexp(self, dim % self.ndim)


@operator("cummax")
def _cummax(self: jax.Array, dim: int) -> tuple[jax.Array, jax.Array]:
    return _running(self, dim, jnp.greater_equal)


@operator("cummin")
def _cummin(self: jax.Array, dim: int) -> tuple[jax.Array, jax.Array]:
    return _running(self, dim, jnp.less_equal)


def _running(self: jax.Array, dim: int, wins: Any) -> tuple[jax.Array, jax.Array]:
    axis = dim % self.ndim
    positions = lax.broadcasted_iota(index_dtype(), self.shape, axis)

    def later(a: Any, b: Any) -> Any:
        take = wins(b[0], a[0])
        return jnp.where(take, b[0], a[0]), jnp.where(take, b[1], a[1])

    _, index = lax.associative_scan(later, (lax.stop_gradient(self), positions), axis=axis)
    return jnp.take_along_axis(self, index, axis), index


@operator("diff")
def _diff(
    self: jax.Array, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None
) -> jax.Array:
    return jnp.diff(self, n, dim, prepend, append)


# --- sorting ------------------------------------------------------------------------------------


@operator("sort")
def _sort(
    self: jax.Array, dim: int = -1, descending: bool = False, stable: bool | None = None
) -> tuple[jax.Array, jax.Array]:
    index = _argsort(self, dim, descending)
    return (self if self.ndim == 0 else jnp.take_along_axis(self, index, dim)), index


@operator("argsort")
def _argsort(
    self: jax.Array, dim: int = -1, descending: bool = False, stable: bool = False
) -> jax.Array:
    if self.ndim == 0:
        return jnp.zeros((), index_dtype())
    return jnp.argsort(self, dim, stable=True, descending=descending).astype(index_dtype())


@operator("topk")
def _topk(
    self: jax.Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[jax.Array, jax.Array]:
    if self.ndim == 0:
        return self, jnp.zeros((), index_dtype())
    order = _argsort(self, dim, descending=largest)
    index = lax.slice_in_dim(order, 0, k, axis=dim % self.ndim)
    return jnp.take_along_axis(self, index, dim), index


@operator("kthvalue")
def _kthvalue(self: jax.Array, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    order = _argsort(self, dim)
    index = lax.index_in_dim(order, k - 1, dim % self.ndim, keepdims=False)
    return _extremes(self, index, dim, keepdim)


@operator("median")
def _median(self: jax.Array, dim: int | None = None, keepdim: bool = False) -> Any:
    if dim is None:
        flat = self.reshape(-1)
        value, place = _kthvalue(flat, (flat.shape[0] + 1) // 2)
        value = lax.stop_gradient(value)
        # All that are equal have a part in it, and its place in any case: see `largest`.
        is_it = (flat == value) | (jnp.isnan(flat) & jnp.isnan(value))
        is_it |= jnp.arange(flat.shape[0], dtype=place.dtype) == place
        mean = jnp.where(is_it, flat, 0).sum() / is_it.sum().astype(flat.dtype)
        return straight_through(mean, value) if is_float(self) else value
    return _kthvalue(self, (self.shape[dim] + 1) // 2, dim, keepdim)


@operator("searchsorted")
def _searchsorted(
    sorted_sequence: jax.Array, self: Any, out_int32: bool = False, right: bool = False,
    side: str | None = None, sorter: Any = None,
) -> jax.Array:  # fmt: skip
    where = "right" if right or side == "right" else "left"
    search = partial(jnp.searchsorted, side=where)
    for _ in range(sorted_sequence.ndim - 1):
        search = jax.vmap(search)  # type: ignore[assignment]
    return search(sorted_sequence, jnp.asarray(self)).astype(index_dtype())


@operator("bucketize")
def _bucketize(
    self: jax.Array, boundaries: jax.Array, out_int32: bool = False, right: bool = False
) -> jax.Array:
    return _searchsorted(boundaries, self, right=right)  # type: ignore[no-any-return]


@operator("histc")
def _histc(self: jax.Array, bins: int = 100, min: float = 0, max: float = 0) -> jax.Array:
    flat = self.reshape(-1)
    low = jnp.where(min == max, flat.min(), min).astype(flat.dtype)
    high = jnp.where(min == max, flat.max(), max).astype(flat.dtype)
    same = low == high
    low, high = jnp.where(same, low - 1, low), jnp.where(same, high + 1, high)
    place = jnp.clip(((flat - low) * bins / (high - low)).astype(jnp.int32), 0, bins - 1)
    counted = ((flat >= low) & (flat <= high)).astype(flat.dtype)
    return jnp.zeros((bins,), flat.dtype).at[place].add(counted)


# --- softmax ------------------------------------------------------------------------------------


@operator("softmax", "_softmax", "special_softmax")
def _softmax(
    self: jax.Array, dim: int, dtype: str | None = None, half_to_float: bool = False
) -> jax.Array:
    x = self if dtype is None else self.astype(dtype_of(dtype))
    return F.softmax(x if is_float(x) else x.astype(default_float()), dim)


@operator("_safe_softmax")
def _safe_softmax(self: jax.Array, dim: int, dtype: str | None = None) -> jax.Array:
    x = _softmax(self, dim, dtype)
    empty = (self == -jnp.inf).all(dim, keepdims=True)
    return jnp.where(empty, jnp.zeros_like(x), x)


@operator("log_softmax", "_log_softmax", "special_log_softmax")
def _log_softmax(
    self: jax.Array, dim: int, dtype: str | None = None, half_to_float: bool = False
) -> jax.Array:
    x = self if dtype is None else self.astype(dtype_of(dtype))
    return F.log_softmax(x if is_float(x) else x.astype(default_float()), dim)
