"""What weight and spectral normalisation compute, in both of their forms."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from .. import functional as F
from ..functional._vector_norm import vector_norm, with_norm
from ..modules._module import RandomSource, key_from
from ._computed import plain_class


def norm_except_dim(v: jax.Array, dim: int) -> jax.Array:
    """Return the 2-norm over all dimensions but `dim`, or over all where it is -1."""
    norm = vector_norm(v, 2.0, _axes_except(v, dim))
    return norm.reshape(()) if dim == -1 else norm


def weight_from(g: jax.Array, v: jax.Array, dim: int) -> jax.Array:
    """Return v, scaled to have the norm g."""
    return with_norm(v, g, _axes_except(v, dim))


def _axes_except(v: jax.Array, dim: int) -> tuple[int, ...]:
    return tuple(axis for axis in range(v.ndim) if dim == -1 or axis != dim % v.ndim)


def as_matrix(weight: jax.Array, dim: int) -> jax.Array:
    """Return the weight with `dim` first and all other dimensions flattened."""
    first = jnp.moveaxis(weight, dim, 0)
    return first.reshape((first.shape[0], -1))


def draw_vectors(
    weight: jax.Array, dim: int, eps: float, rngs: RandomSource | None, name: str
) -> tuple[jax.Array, jax.Array]:
    """Return random unit vectors for the rows and the columns of the weight's matrix."""
    if rngs is None:
        raise ValueError(f"{name} draws the vectors of its power iteration: pass rngs=nnx.Rngs(0)")
    keys = jax.random.split(key_from(rngs, "params", name))
    sizes = as_matrix(weight, dim).shape
    drawn = (
        jax.random.normal(k, (n,), weight.dtype) for k, n in zip(keys, sizes, strict=True)
    )  # fmt: skip
    u, v = (F.normalize(vector, dim=0, eps=eps) for vector in drawn)
    return u, v


def largest_singular_value(matrix: jax.Array, u: jax.Array, v: jax.Array) -> jax.Array:
    """Return u^T W v, whose gradient takes u and v for constants."""
    return jnp.dot(lax.stop_gradient(u), matrix @ lax.stop_gradient(v))


def spectral_dim(module: nnx.Module, dim: int | None) -> int:
    """Return the dimension of the outputs: 1 for transposed convolutions, else 0."""
    if dim is not None:
        return dim
    return 1 if plain_class(module).__name__.startswith("ConvTranspose") else 0


def is_training(module: Any) -> bool:
    """Whether the module is in training mode, by the flag that `eval` sets."""
    return not module.use_running_average
