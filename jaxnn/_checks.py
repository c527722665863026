"""Checks of arguments that many layers share; each names the argument and what came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._dtypes import accumulation_dtype


def check_int(value: Any, name: str, layer: str, minimum: int | None = None) -> int:
    """Return `value` as an int, refusing bools, floats and what is below `minimum`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{layer}: `{name}` must be an int, got {value!r}")
    if minimum is not None and value < minimum:
        raise ValueError(f"{layer}: `{name}` must be at least {minimum}, got {value}")
    return int(value)


def check_array(value: Any, name: str, layer: str) -> jax.Array:
    """Return `value` as a JAX array.

    Raises:
        TypeError: if it is no JAX or NumPy array.
    """
    if isinstance(value, jax.Array):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return jnp.asarray(value)
    unwrapped = getattr(value, "__jax_array__", None)
    if unwrapped is not None:
        return jnp.asarray(unwrapped())
    raise TypeError(
        f"{layer}: `{name}` must be a jax.Array, got {type(value).__name__}; convert it with "
        "jnp.asarray"
    )


def check_floating(array: jax.Array, name: str, layer: str, *, complex_too: bool = False) -> None:
    """Refuse what is not of a floating-point dtype (or complex, where that is allowed)."""
    kind = jnp.inexact if complex_too else jnp.floating
    if not jnp.issubdtype(array.dtype, kind):
        raise TypeError(
            f"{layer}: `{name}` must be of a floating-point dtype, got {array.dtype}; convert it "
            f"with {name}.astype(jnp.float32)"
        )


def check_same_dtype(arrays: dict[str, jax.Array | None], layer: str) -> None:
    """Refuse arrays of different dtypes: torch does not promote here, and neither does jaxnn."""
    dtypes = {name: array.dtype for name, array in arrays.items() if array is not None}
    if len(set(dtypes.values())) > 1:
        listed = ", ".join(f"`{name}` is {dtype}" for name, dtype in dtypes.items())
        raise TypeError(f"{layer}: the dtypes must be equal, but {listed}; convert with astype")


def check_dim(dim: Any, ndim: int, name: str, layer: str) -> int:
    """Return dimension `dim` of an array with `ndim` dimensions, counted from the front.

    As in torch, an array without dimensions counts as one with a single dimension.
    """
    dim = check_int(dim, name, layer)
    limit = max(ndim, 1)
    if not -limit <= dim < limit:
        raise ValueError(
            f"{layer}: `{name}` must lie between {-limit} and {limit - 1} for an input with "
            f"{ndim} dimensions, got {dim}"
        )
    return dim % limit


def ntuple(
    value: Any, n: int, name: str, layer: str, minimum: int | None = None
) -> tuple[int, ...]:
    """Return `value`, an int or a sequence of one or `n` ints, as a tuple of `n` ints."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) not in (1, n):
            raise ValueError(f"{layer}: `{name}` must be an int or {n} ints, got {value!r}")
        items = tuple(value) * (n if len(value) == 1 else 1)
    else:
        items = (value,) * n
    return tuple(check_int(item, name, layer, minimum) for item in items)


def check_parameters(
    input: jax.Array, given: dict[str, jax.Array], shape: tuple[int, ...], layer: str
) -> None:
    """Refuse parameters of a normalisation that do not fit its input.

    They are all of the input's dtype, or all of that in which it is accumulated.
    """
    allowed = {input.dtype, accumulation_dtype(input.dtype)}
    dtypes = {name: array.dtype for name, array in given.items()}
    if len(set(dtypes.values())) > 1 or not set(dtypes.values()) <= allowed:
        listed = ", ".join(f"`{name}` is {dtype}" for name, dtype in dtypes.items())
        raise TypeError(
            f"{layer}: for an input of {input.dtype}, the parameters and statistics must all be "
            f"of {' or all of '.join(sorted(map(str, allowed)))}, but {listed}"
        )
    for name, array in given.items():
        if array.shape != shape:
            raise ValueError(
                f"{layer}: `{name}` must have shape {shape} for an input of shape {input.shape}, "
                f"got {array.shape}"
            )


def is_readable(array: Any) -> bool:
    """Whether the host can read `array`: it is not being traced, and all of it is here."""
    return isinstance(array, np.ndarray) or (
        not isinstance(array, jax.core.Tracer) and array.is_fully_addressable
    )
