"""What the activations share: the mould of an elementwise formula, and checks of its arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._checks import check_array, check_floating
from ..._dtypes import accumulation_dtype


def elementwise(formula: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Jit a formula in x and options, for any dtype: half precision is computed in float32."""

    @functools.wraps(formula)
    def rounded_once(input: jax.Array, *options: Any) -> jax.Array:
        wide = accumulation_dtype(input.dtype)
        wide_options = (jnp.asarray(option).astype(wide) for option in options)
        return formula(input.astype(wide), *wide_options).astype(input.dtype)

    return jax.jit(rounded_once, inline=True)


def check_number(value: Any, name: str, layer: str) -> Any:
    """Return an option that is a number, or an array of one: a known one as a float.

    Raises:
        TypeError: if it is anything else.
    """
    if isinstance(value, (int, float, np.number)):
        return float(value)
    if isinstance(value, (jax.Array, np.ndarray)) and value.size == 1:
        return value.reshape(())
    raise TypeError(f"{layer}: `{name}` must be a number, got {value!r}")


def is_known(*options: Any) -> bool:
    return not any(isinstance(option, jax.core.Tracer) for option in options)


def floating(input: Any, layer: str) -> jax.Array:
    input = check_array(input, "input", layer)
    check_floating(input, "input", layer)
    return input


def real(input: Any, layer: str) -> jax.Array:
    input = check_array(input, "input", layer)
    if input.dtype == jnp.bool_ or jnp.issubdtype(input.dtype, jnp.complexfloating):
        raise TypeError(f"{layer}: `input` must be real numbers, got {input.dtype}")
    return input


def inexact(input: Any, layer: str, *, bool_too: bool = True) -> jax.Array:
    """Return the input, whole numbers as float32, which is torch's default dtype."""
    input = check_array(input, "input", layer)
    if input.dtype == jnp.bool_ and not bool_too:
        raise TypeError(f"{layer}: `input` must be numbers, got bool")
    return input if jnp.issubdtype(input.dtype, jnp.inexact) else input.astype(jnp.float32)
