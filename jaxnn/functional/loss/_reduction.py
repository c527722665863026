"""What the losses share: their operands, the three reductions, and the dtype of the arithmetic."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Num

from ..._checks import check_array
from ..._dtypes import accumulation_dtype, promoted_dtype

# A loss: of the shape of its elements, or of none where it is reduced.
Reduced = Float[Array, "..."]


def check_reduction(reduction: Any, layer: str, *legacy: Any, also: tuple[str, ...] = ()) -> None:
    """Refuse what is no reduction, and the options that torch has replaced by it.

    Args:
        reduction: what the caller passed.
        layer: who asks.
        legacy: `size_average` and `reduce`, which must be None.
        also: reductions beyond "none", "mean" and "sum".
    """
    if any(option is not None for option in legacy):
        raise ValueError(
            f"{layer}: `size_average` and `reduce` are not supported: pass reduction='mean' for "
            "size_average=True, 'sum' for size_average=False, 'none' for reduce=False"
        )
    allowed = ("none", "mean", "sum", *also)
    if reduction not in allowed:
        raise ValueError(f"{layer}: `reduction` must be one of {allowed}, got {reduction!r}")


def numbers(layer: str, **arrays: Any) -> list[jax.Array]:
    """Return the arrays, of which one at least must be floating-point, and none bool or complex."""
    checked = [check_array(array, name, layer) for name, array in arrays.items()]
    for name, array in zip(arrays, checked, strict=True):
        if array.dtype == jnp.bool_ or jnp.issubdtype(array.dtype, jnp.complexfloating):
            raise TypeError(
                f"{layer}: `{name}` must be real numbers, got {array.dtype}; convert it with astype"
            )
    if not jnp.issubdtype(promoted_dtype(*checked), jnp.floating):
        raise TypeError(
            f"{layer}: {' or '.join(f'`{name}`' for name in arrays)} must be of a floating-point "
            f"dtype, got {', '.join(str(array.dtype) for array in checked)}"
        )
    return checked


def check_same_shape(layer: str, **arrays: jax.Array) -> None:
    """Refuse arrays of different shapes."""
    if len({array.shape for array in arrays.values()}) > 1:
        listed = ", ".join(f"`{name}` has {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{layer}: the shapes must be equal, but {listed}; reshape")


def check_same_rank(layer: str, **arrays: jax.Array) -> None:
    """Refuse arrays with different numbers of dimensions."""
    if len({array.ndim for array in arrays.values()}) > 1:
        listed = ", ".join(f"`{name}` has {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{layer}: the numbers of dimensions must be equal, but {listed}")


def broadcast(layer: str, **arrays: jax.Array) -> list[jax.Array]:
    """Return the arrays broadcast to one shape."""
    shapes = [array.shape for array in arrays.values()]
    try:
        shape = jnp.broadcast_shapes(*shapes)
    except ValueError:
        listed = ", ".join(f"`{name}` has {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{layer}: the shapes do not broadcast: {listed}") from None
    return [jnp.broadcast_to(array, shape) for array in arrays.values()]


def broadcast_pair(layer: str, input: jax.Array, target: jax.Array) -> list[jax.Array]:
    """Return input and target broadcast to one shape, with a warning where their shapes differ."""
    pair = broadcast(layer, input=input, target=target)
    if input.shape != target.shape:
        warnings.warn(
            f"{layer}: `target` of shape {target.shape} and `input` of shape {input.shape} are "
            "broadcast, which is seldom meant: make their shapes equal",
            stacklevel=3,
        )
    return pair


def reduced(loss: Num[Array, "..."], reduction: str) -> Num[Array, "..."]:
    """Return the loss itself, its mean or its sum; the mean of nothing is NaN."""
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()


def elementwise_loss(formula: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Compile a formula that is computed in at least 32 bits, reduced and rounded once.

    Args:
        formula: of arrays, then options (numbers, which may be traced), then static flags.

    Returns:
        A function of the reduction, the arrays, and the options and flags, each a tuple.
    """

    @partial(jax.jit, static_argnames=("reduction", "flags"), inline=True)
    def rounded_once(
        reduction: str,
        arrays: tuple[jax.Array, ...],
        options: tuple[Any, ...] = (),
        flags: tuple[Any, ...] = (),
    ) -> jax.Array:
        dtype = promoted_dtype(*arrays)
        wide = accumulation_dtype(dtype)
        wide_options = (jnp.asarray(option).astype(wide) for option in options)
        loss = formula(*(array.astype(wide) for array in arrays), *wide_options, *flags)
        return reduced(loss, reduction).astype(dtype)

    return rounded_once


def positive_part(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """max(x, 0), with derivative 1 at 0."""
    return jnp.where(x >= 0, x, lax.stop_gradient(jnp.maximum(x, jnp.zeros_like(x))))
