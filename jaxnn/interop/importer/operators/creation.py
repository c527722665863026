"""Operators that make arrays, of constants or of random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .... import functional as F
from ._register import (
    aligned,
    default_float,
    dtype_of,
    index_dtype,
    is_float,
    operator,
    result_dtype,
)

Sizes = Sequence[Any]
Draw = Callable[[], jax.Array]


def _dtype(dtype: str | None, like: jax.Array | None = None) -> Any:
    if dtype is not None:
        return dtype_of(dtype)
    return default_float() if like is None else like.dtype


@operator("zeros")
def _zeros(size: Sizes, dtype: str | None = None) -> jax.Array:
    return jnp.zeros(tuple(size), _dtype(dtype))


@operator("ones")
def _ones(size: Sizes, dtype: str | None = None) -> jax.Array:
    return jnp.ones(tuple(size), _dtype(dtype))


@operator("empty", "empty_permuted")
def _empty(size: Sizes, dtype: str | None = None, physical_layout: Any = None) -> jax.Array:
    return jnp.zeros(tuple(size), _dtype(dtype))


@operator("empty_strided")
def _empty_strided(size: Sizes, stride: Sizes, dtype: str | None = None) -> jax.Array:
    return jnp.zeros(tuple(size), _dtype(dtype))


@operator("full")
def _full(size: Sizes, fill_value: Any, dtype: str | None = None) -> jax.Array:
    wanted = result_dtype(fill_value) if dtype is None else dtype_of(dtype)
    return jnp.full(tuple(size), fill_value, wanted)


@operator("zeros_like")
def _zeros_like(self: jax.Array, dtype: str | None = None) -> jax.Array:
    return jnp.zeros(self.shape, _dtype(dtype, self))


@operator("ones_like")
def _ones_like(self: jax.Array, dtype: str | None = None) -> jax.Array:
    return jnp.ones(self.shape, _dtype(dtype, self))


@operator("empty_like")
def _empty_like(self: jax.Array, dtype: str | None = None) -> jax.Array:
    return jnp.zeros(self.shape, _dtype(dtype, self))


@operator("full_like")
def _full_like(self: jax.Array, fill_value: Any, dtype: str | None = None) -> jax.Array:
    return jnp.full(self.shape, fill_value, _dtype(dtype, self))


@operator("new_zeros", "new_empty")
def _new_zeros(self: jax.Array, size: Sizes, dtype: str | None = None) -> jax.Array:
    return jnp.zeros(tuple(size), _dtype(dtype, self))


@operator("new_empty_strided")
def _new_empty_strided(
    self: jax.Array, size: Sizes, stride: Sizes, dtype: str | None = None
) -> jax.Array:
    return jnp.zeros(tuple(size), _dtype(dtype, self))


@operator("new_ones")
def _new_ones(self: jax.Array, size: Sizes, dtype: str | None = None) -> jax.Array:
    return jnp.ones(tuple(size), _dtype(dtype, self))


@operator("new_full")
def _new_full(self: jax.Array, size: Sizes, fill_value: Any, dtype: str | None = None) -> jax.Array:
    return jnp.full(tuple(size), fill_value, _dtype(dtype, self))


@operator("arange")
def _arange(end: Any = None, start: Any = 0, step: Any = 1, dtype: str | None = None) -> jax.Array:
    numbers = [n for n in (start, end, step) if n is not None]
    floats = any(isinstance(n, float) for n in numbers)
    wanted = (default_float() if floats else index_dtype()) if dtype is None else dtype_of(dtype)
    return jnp.arange(start, end, step).astype(wanted)


@operator("linspace")
def _linspace(start: Any, end: Any, steps: int, dtype: str | None = None) -> jax.Array:
    return jnp.linspace(start, end, steps, dtype=_dtype(dtype))


@operator("logspace")
def _logspace(
    start: Any, end: Any, steps: int, base: float = 10.0, dtype: str | None = None
) -> jax.Array:
    return jnp.logspace(start, end, steps, base=base, dtype=_dtype(dtype))


@operator("eye")
def _eye(n: Any, m: Any = None, dtype: str | None = None) -> jax.Array:
    return jnp.eye(n, m, dtype=_dtype(dtype))


@operator("tril_indices")
def _tril_indices(row: int, col: int, offset: int = 0, dtype: str | None = None) -> jax.Array:
    return jnp.stack(jnp.tril_indices(row, offset, col)).astype(index_dtype())


@operator("triu_indices")
def _triu_indices(row: int, col: int, offset: int = 0, dtype: str | None = None) -> jax.Array:
    return jnp.stack(jnp.triu_indices(row, offset, col)).astype(index_dtype())


@operator("hann_window")
def _hann_window(window_length: int, periodic: bool = True, dtype: str | None = None) -> jax.Array:
    n = window_length + 1 if periodic else window_length
    return jnp.hanning(n)[:window_length].astype(_dtype(dtype))


# --- random numbers -----------------------------------------------------------------------------


@operator("rand", draws=True)
def _rand(draw: Draw, size: Sizes, dtype: str | None = None) -> jax.Array:
    return jax.random.uniform(draw(), tuple(size), _dtype(dtype))


@operator("randn", draws=True)
def _randn(draw: Draw, size: Sizes, dtype: str | None = None) -> jax.Array:
    return jax.random.normal(draw(), tuple(size), _dtype(dtype))


@operator("rand_like", draws=True)
def _rand_like(draw: Draw, self: jax.Array, dtype: str | None = None) -> jax.Array:
    return jax.random.uniform(draw(), self.shape, _dtype(dtype, self))


@operator("randn_like", draws=True)
def _randn_like(draw: Draw, self: jax.Array, dtype: str | None = None) -> jax.Array:
    return jax.random.normal(draw(), self.shape, _dtype(dtype, self))


@operator("randint", draws=True)
def _randint(
    draw: Draw, high: int, size: Sizes, low: int = 0, dtype: str | None = None
) -> jax.Array:
    drawn = jax.random.randint(draw(), tuple(size), low, high)
    return drawn.astype(index_dtype() if dtype is None else dtype_of(dtype))


@operator("randint_like", draws=True)
def _randint_like(
    draw: Draw, self: jax.Array, high: int, low: int = 0, dtype: str | None = None
) -> jax.Array:
    return jax.random.randint(draw(), self.shape, low, high).astype(_dtype(dtype, self))


@operator("randperm", draws=True)
def _randperm(draw: Draw, n: int, dtype: str | None = None) -> jax.Array:
    return jax.random.permutation(draw(), n).astype(index_dtype())


@operator("bernoulli", draws=True)
def _bernoulli(draw: Draw, self: jax.Array, p: Any = None) -> jax.Array:
    return jax.random.bernoulli(draw(), self if p is None else p, self.shape).astype(self.dtype)


@operator("uniform", draws=True)
def _uniform(draw: Draw, self: jax.Array, to: float = 1.0, **named: Any) -> jax.Array:
    # The lower bound has a name that no argument can have here.
    return jax.random.uniform(draw(), self.shape, self.dtype, named.get("from", 0.0), to)


@operator("normal", "normal_functional", draws=True)
def _normal(
    draw: Draw, self: Any = None, mean: Any = 0.0, std: Any = 1.0, size: Sizes | None = None,
    dtype: str | None = None,
) -> jax.Array:  # fmt: skip
    if size is not None:
        return mean + std * jax.random.normal(draw(), tuple(size), _dtype(dtype))
    like = self if self is not None else jnp.broadcast_arrays(*aligned(mean, std))[0]
    return mean + std * jax.random.normal(draw(), like.shape, like.dtype)


@operator("exponential", draws=True)
def _exponential(draw: Draw, self: jax.Array, lambd: float = 1.0) -> jax.Array:
    return jax.random.exponential(draw(), self.shape, self.dtype) / lambd


@operator("multinomial", draws=True)
def _multinomial(
    draw: Draw, self: jax.Array, num_samples: int, replacement: bool = False
) -> jax.Array:
    logits = jnp.log(self)
    if replacement:
        shape = (num_samples, *self.shape[:-1])
        drawn = jnp.moveaxis(jax.random.categorical(draw(), logits, shape=shape), 0, -1)
    else:
        noise = logits + jax.random.gumbel(draw(), logits.shape, logits.dtype)
        drawn = jax.lax.top_k(noise, num_samples)[1]
    return drawn.astype(index_dtype())


def _dropping(function: Any) -> Any:
    def dropped(draw: Draw, input: jax.Array, p: float, train: bool | None = True) -> jax.Array:
        draws = bool(train) and 0 < p < 1 and is_float(input)
        return function(input, p, training=bool(train), rng=draw() if draws else None)  # type: ignore[no-any-return]

    return dropped


for _name, _function in (
    ("dropout", F.dropout),
    ("feature_dropout", F.dropout2d),
    ("alpha_dropout", F.alpha_dropout),
    ("feature_alpha_dropout", F.feature_alpha_dropout),
):
    operator(_name, draws=True)(_dropping(_function))


@operator("native_dropout", draws=True)
def _native_dropout(
    draw: Draw, input: jax.Array, p: float, train: bool | None = True
) -> tuple[jax.Array, jax.Array]:
    if not train:
        return input, jnp.ones(input.shape, bool)
    kept = jax.random.bernoulli(draw(), 1 - p, input.shape)
    scale = 1 / (1 - p) if p < 1 else 0.0
    return jnp.where(kept, input * scale, jnp.zeros_like(input)), kept


@operator("rrelu_with_noise_functional", draws=True)
def _rrelu(
    draw: Draw, self: jax.Array, noise: jax.Array, lower: float = 0.125,
    upper: float = 1 / 3, training: bool = False,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    return F.rrelu(self, lower, upper, training, rng=draw() if training else None), noise
