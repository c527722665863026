"""The dtypes that results and sums have."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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
