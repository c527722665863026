"""The dtypes that results and sums have."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike


def accumulation_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the dtype that sums over values of `dtype` are taken in: at least 32 bits wide."""
    resolved = np.dtype(dtype)
    is_narrow = jnp.issubdtype(resolved, jnp.floating) and resolved.itemsize < 4
    return np.dtype(np.float32) if is_narrow else resolved


def promoted_dtype(*arrays: jax.Array) -> np.dtype[Any]:
    """Return the dtype of the arrays' sum, where torch promotes, also under strict promotion."""
    with jax.numpy_dtype_promotion("standard"):
        return np.dtype(jnp.result_type(*(array.dtype for array in arrays)))


def index_dtype() -> np.dtype[Any]:
    """Return the dtype of indices: int64 where JAX has 64 bits, else int32."""
    return np.dtype(jax.dtypes.canonicalize_dtype(jnp.int64))


def rounded(x: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Return x rounded to numbers of a floating-point `dtype`, in the dtype that it has.

    A conversion there and back does not: XLA may skip it.

    >>> rounded(jnp.array([1.001, 1e-5]), jnp.float16)
    Array([1.0009766e+00, 1.0013580e-05], dtype=float32)
    """
    info = jnp.finfo(dtype)
    near = lax.reduce_precision(x, info.nexp, info.nmant)
    if info.nexp == jnp.finfo(x.dtype).nexp:
        return near
    # What is below the normal numbers of a narrower range would be 0 there.
    step = float(info.smallest_subnormal)
    return jnp.where(jnp.abs(x) < float(info.tiny), jnp.round(x / step) * step, near)
