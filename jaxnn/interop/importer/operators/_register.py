"""The table of operators, and torch's rules for the dtypes of their results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...._dtypes import accumulation_dtype

OPERATORS: dict[str, Callable[..., Any]] = {}
DRAWING: set[str] = set()


def operator(*names: str, draws: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Enter a function, whose arguments have the names of torch's schema, under `names`.

    One that draws also takes `draw`, a function that returns a fresh key.
    """

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            OPERATORS[name] = function
            if draws:
                DRAWING.add(name)
        return function

    return enter


def dtype_of(name: str | None) -> np.dtype[Any] | None:
    """Return the dtype that torch calls `name`, as wide as JAX's mode allows.

    >>> dtype_of("int64"), dtype_of("bfloat16"), dtype_of(None)
    (dtype('int32'), dtype(bfloat16), None)
    """
    if name is None:
        return None
    return jax.dtypes.canonicalize_dtype(np.dtype(jnp.dtype(name)))


def index_dtype() -> np.dtype[Any]:
    """Return the dtype that stands for torch's int64."""
    return jax.dtypes.canonicalize_dtype(np.dtype("int64"))


def default_float() -> np.dtype[Any]:
    """Return torch's default dtype."""
    return np.dtype("float32")


def result_dtype(*values: Any) -> np.dtype[Any]:
    """Return torch's result_type: arrays with dimensions rule those without, these rule numbers."""
    wide, narrow, numbers = None, None, None
    for value in values:
        if value is None:
            continue
        if not hasattr(value, "dtype"):
            numbers = _promoted(numbers, _number_dtype(value))
        elif value.ndim:
            wide = _promoted(wide, value.dtype)
        else:
            narrow = _promoted(narrow, value.dtype)
    result = _ruled(_ruled(wide, narrow), numbers)
    assert result is not None
    return result


def _number_dtype(value: Any) -> np.dtype[Any]:
    if isinstance(value, bool):
        return np.dtype(bool)
    if isinstance(value, float):
        return default_float()
    return np.dtype("complex64") if isinstance(value, complex) else index_dtype()


def _promoted(first: Any, second: Any) -> Any:
    if first is None or second is None:
        return second if first is None else first
    return jnp.promote_types(first, second)


def _ruled(higher: Any, lower: Any) -> Any:
    if higher is None or lower is None:
        return lower if higher is None else higher
    if jnp.issubdtype(higher, jnp.inexact):
        is_complex = jnp.issubdtype(lower, jnp.complexfloating)
        return jnp.promote_types(higher, np.complex64) if is_complex else higher
    if higher == np.bool_ or jnp.issubdtype(lower, jnp.inexact):
        return jnp.promote_types(higher, lower)
    return higher


def is_float(value: Any) -> bool:
    """Whether an array, a dtype or a number is of a floating-point or complex kind."""
    if not hasattr(value, "dtype") and not isinstance(value, np.dtype):
        return isinstance(value, (float, complex))
    return bool(jnp.issubdtype(getattr(value, "dtype", value), jnp.inexact))


def aligned(*values: Any, dtype: Any = None, floats: bool = False) -> list[jax.Array]:
    """Return the values as arrays of one dtype, torch's unless given, and of one rank.

    With `floats`, integers become torch's default dtype, as where it divides.
    """
    if dtype is None:
        dtype = result_dtype(*values)
        if floats and not is_float(dtype):
            dtype = default_float()
    arrays = [jnp.asarray(value, dtype) for value in values]
    return same_rank(*arrays)


def rounded_once(
    function: Callable[..., jax.Array], *values: Any, floats: bool = False
) -> jax.Array:
    """Return `function` of the values as arrays of one dtype, as `aligned` has them.

    In half precision with a number, or an array of another dtype, it is computed in float32 and
    rounded at the end: torch takes these as they are, where JAX would round them before.
    """
    arrays = aligned(*values, floats=floats)
    dtype = arrays[0].dtype
    wide = accumulation_dtype(dtype)
    if wide == dtype or all(getattr(value, "dtype", None) == dtype for value in values):
        return function(*arrays)
    return function(*aligned(*values, dtype=wide)).astype(dtype)


def same_rank(*arrays: jax.Array) -> list[jax.Array]:
    """Return the arrays with leading dimensions of size 1, so that all have one rank."""
    rank = max(array.ndim for array in arrays)
    return [a if a.ndim == rank else a.reshape((1,) * (rank - a.ndim) + a.shape) for a in arrays]


def as_array(value: Any) -> jax.Array:
    """Return a number as torch would make a tensor of it, and an array as it is."""
    return value if hasattr(value, "dtype") else jnp.asarray(value, _number_dtype(value))


def axes_of(dim: Any, ndim: int) -> tuple[int, ...]:
    """Return the dimensions that `dim` names, counted from the front; all for None or ()."""
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return tuple(range(ndim))
    dims = dim if isinstance(dim, (list, tuple)) else [dim]
    return tuple(d % ndim if ndim else 0 for d in dims) if ndim else ()
