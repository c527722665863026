"""Softmax, its relatives, and the draw from it."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

from ..._checks import check_array, check_dim, check_floating
from ..._dtypes import accumulation_dtype
from ..._types import Scalar
from ..._xla import widened
from .._gradients import straight_through
from ._elementwise import check_number


def softmax(
    input: Num[Array, "..."],
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: DTypeLike | None = None,
) -> Float[Array, "..."]:
    """Scale exponentials along a dimension so that they sum to one.

    softmax(x)_i = exp(x_i) / sum_j exp(x_j)

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.
        dim: the dimension. None is deprecated, as in torch, and means dimension 0 for inputs of no,
            one or three dimensions, else dimension 1.
        dtype: what the input is converted to first.

    Raises:
        TypeError: if the input (as converted) is not floating-point.
        ValueError: if the input has no such dimension.

    Source: torch.nn.functional.softmax.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.softmax(jnp.zeros((1, 4)), dim=1)
        Array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """
    input, axis = _along(input, dim, dtype, "softmax", _stacklevel)
    return _softmax(input, axis) if input.ndim else jnp.exp(input - input)


def _along(
    input: Any, dim: int | None, dtype: DTypeLike | None, layer: str, stacklevel: int
) -> tuple[jax.Array, int]:
    """Return the input as converted, and the dimension."""
    input = check_array(input, "input", layer)
    if dtype is not None:
        input = input.astype(dtype)
    check_floating(input, "input", layer)
    if dim is None:
        warnings.warn(
            f"{layer}: `dim` chosen by the number of dimensions, which is deprecated: pass dim=",
            stacklevel=stacklevel + 1,
        )
        dim = 0 if input.ndim in (0, 1, 3) else 1
    return input, check_dim(dim, input.ndim, "dim", layer)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _normalised_exponentials(input: jax.Array, axis: int) -> jax.Array:
    wide = widened(input)
    exponentials = jnp.exp(wide - wide.max(axis, keepdims=True, initial=-jnp.inf))
    return (exponentials / exponentials.sum(axis, keepdims=True)).astype(input.dtype)


@_normalised_exponentials.defjvp
def _normalised_exponentials_jvp(
    axis: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # In terms of the output, which is then all that the backward pass keeps.
    output = _normalised_exponentials(*primals, axis)
    wide = output.astype(accumulation_dtype(output.dtype))
    product = wide * tangents[0].astype(wide.dtype)
    d_output = product - wide * product.sum(axis, keepdims=True)
    return output, d_output.astype(output.dtype)


_softmax = jax.jit(_normalised_exponentials, static_argnums=1, inline=True)


def log_softmax(
    input: Num[Array, "..."],
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: DTypeLike | None = None,
) -> Float[Array, "..."]:
    """Take the logarithm of the softmax, without underflow.

    log_softmax(x)_i = x_i - log(sum_j exp(x_j))

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.
        dim: the dimension. None is deprecated, as in torch, and means dimension 0 for inputs of no,
            one or three dimensions, else dimension 1.
        dtype: what the input is converted to first.

    Raises:
        TypeError: if the input (as converted) is not floating-point.
        ValueError: if the input has no such dimension.

    Source: torch.nn.functional.log_softmax.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.log_softmax(jnp.array([0.0, 1000.0]), dim=0)
        Array([-1000.,     0.], dtype=float32)
    """
    input, axis = _along(input, dim, dtype, "log_softmax", _stacklevel)
    return _log_softmax(input, axis) if input.ndim else input - input


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _log_of_softmax(input: jax.Array, axis: int) -> jax.Array:
    wide = widened(input)
    shifted = wide - wide.max(axis, keepdims=True, initial=-jnp.inf)
    logarithm = jnp.log(jnp.exp(shifted).sum(axis, keepdims=True))
    return (shifted - logarithm).astype(input.dtype)


@_log_of_softmax.defjvp
def _log_of_softmax_jvp(
    axis: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # In terms of the output, which is then all that the backward pass keeps.
    output = _log_of_softmax(*primals, axis)
    wide = accumulation_dtype(output.dtype)
    probabilities, tangent = jnp.exp(output.astype(wide)), tangents[0].astype(wide)
    d_output = tangent - (probabilities * tangent).sum(axis, keepdims=True)
    return output, d_output.astype(output.dtype)


_log_softmax = jax.jit(_log_of_softmax, static_argnums=1, inline=True)


def softmin(
    input: Num[Array, "..."],
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: DTypeLike | None = None,
) -> Float[Array, "..."]:
    """Scale exponentials of the negated values along a dimension so that they sum to one.

    softmin(x)_i = exp(-x_i) / sum_j exp(-x_j)

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.
        dim: the dimension. None is deprecated, as in torch, and means dimension 0 for inputs of no,
            one or three dimensions, else dimension 1.
        dtype: what the input is converted to, once it is negated.

    Raises:
        TypeError: if the input (as converted) is not floating-point.
        ValueError: if the input has no such dimension.

    Source: torch.nn.functional.softmin.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.softmin(jnp.zeros((1, 4)), dim=1)
        Array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """
    input = check_array(input, "input", "softmin")
    if input.dtype == jnp.bool_:
        raise TypeError("softmin: `input` must be numbers, got bool, which has no negative")
    input, axis = _along(-input, dim, dtype, "softmin", _stacklevel)
    return _softmax(input, axis) if input.ndim else jnp.exp(input - input)


def gumbel_softmax(
    logits: Float[Array, "..."],
    tau: Scalar = 1,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
    *,
    rng: jax.Array | None = None,
) -> Float[Array, "..."]:
    """Draw from a categorical distribution, softly, so that the draw has a derivative.

    y = softmax((logits + g) / tau), with g drawn from Gumbel(0, 1). With `hard`, the largest of y
    becomes 1 and the others 0, and the derivative is still that of y (straight-through).

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        logits: the unnormalised logarithms of the probabilities.
        tau: the temperature, which may be traced.
        hard: whether the draw is one-hot.
        eps: deprecated, without effect.
        dim: the dimension that holds the categories.
        rng: the key, always needed.

    Raises:
        TypeError: if the logits are not floating-point.
        ValueError: if they have no such dimension, a hard draw has no categories, or there is no
            `rng`.

    Source: Jang et al., 2016; Maddison et al., 2016; torch.nn.functional.gumbel_softmax.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.gumbel_softmax(jnp.zeros(3), hard=True, rng=jax.random.key(0)).sum()
        Array(1., dtype=float32)
    """
    logits = check_array(logits, "logits", "gumbel_softmax")
    check_floating(logits, "logits", "gumbel_softmax")
    if eps != 1e-10:
        warnings.warn("gumbel_softmax: `eps` is deprecated and has no effect", stacklevel=2)
    axis = check_dim(dim, logits.ndim, "dim", "gumbel_softmax")
    if rng is None:
        raise ValueError("gumbel_softmax: `rng` is needed to draw: pass rng=jax.random.key(0)")
    if hard and logits.ndim and logits.shape[axis] == 0:
        raise ValueError(
            f"gumbel_softmax: a hard draw needs categories, got none in shape {logits.shape}"
        )
    tau = check_number(tau, "tau", "gumbel_softmax")
    output = _gumbel_softmax(logits.reshape(logits.shape or (1,)), tau, rng, axis, hard)
    return output.reshape(logits.shape)


@partial(jax.jit, static_argnums=(3, 4), inline=True)
def _gumbel_softmax(
    logits: jax.Array, tau: Any, rng: jax.Array, axis: int, hard: bool
) -> jax.Array:
    wide = accumulation_dtype(logits.dtype)
    noise = jax.random.gumbel(rng, logits.shape, wide)
    soft = _softmax((logits.astype(wide) + noise) / jnp.asarray(tau).astype(wide), axis)
    soft = soft.astype(logits.dtype)
    if not hard:
        return soft
    one_hot = jax.nn.one_hot(soft.argmax(axis), soft.shape[axis], axis=axis, dtype=soft.dtype)
    return straight_through(soft, one_hot)
