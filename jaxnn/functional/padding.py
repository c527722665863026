"""Padding: an array grown or cropped at the ends of its last dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Shaped

from .._checks import check_array, check_int

MODES = ("constant", "reflect", "replicate", "circular")

# What is added before and after each dimension, from the first to the last; negative crops.
_Widths = tuple[tuple[int, int], ...]


def pad(
    input: Shaped[Array, "*dims"],
    pad: Sequence[int],
    mode: str = "constant",
    value: float | Array | None = None,
) -> Shaped[Array, "*padded"]:
    """Pad the last dimensions of an array, or crop them where a padding is negative.

    y[i] = x[source(i - before)] in each dimension, where source(i) is i inside of the input and
    outside of it: nothing, but the value itself ("constant"); -i or 2 (L - 1) - i ("reflect"); the
    nearest of 0 and L - 1 ("replicate"); or i mod L ("circular", whose L is what cropping leaves).

    Shapes: any for "constant". The other modes pad one to three dimensions of an input that has one
    or two more in front of them, the channels and the batch.

    Dtypes: any for "constant" and "circular", any but bool for the other two.

    Args:
        input: what is padded.
        pad: pairs of numbers (before, after), the last dimension's first.
        mode: what is added, one of "constant", "reflect", "replicate" and "circular".
        value: what is added in "constant" mode, by default 0; other modes take none.

    Raises:
        TypeError: if `pad` holds something else than ints, or the dtype does not fit the mode.
        ValueError: if the number of paddings does not fit the input, if more is cropped than there
            is, if a "reflect" padding is not smaller than its dimension or a "circular" one larger,
            or if the dtype cannot hold `value`.

    Source: torch.nn.functional.pad.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.pad(jnp.array([1, 2, 3]), (2, -1), value=9)
        Array([9, 9, 1, 2], dtype=int32)
        >>> jaxnn.functional.pad(jnp.array([[1, 2, 3]]), (2, 1), "reflect")
        Array([[3, 2, 1, 2, 3, 2]], dtype=int32)
    """
    input = check_array(input, "input", "pad")
    if mode not in MODES:
        raise ValueError(f"pad: `mode` must be one of {MODES}, got {mode!r}")
    widths = _widths(pad, input.ndim)
    if mode == "constant":
        _check_crop(input.shape, widths)
        fill_with = _pad_differentiable if isinstance(value, jax.Array) else _pad_constant
        return fill_with(input, _fill(value, input.dtype), widths)
    if value is not None and not (isinstance(value, int | float) and value == 0):
        raise ValueError(f'pad: `value` is for the mode "constant" alone, got {value!r} in {mode}')
    _check_sizes(input, widths, len(pad) // 2, mode)
    return _pad_with_itself(input, widths, mode)


def _widths(pad: Sequence[int], ndim: int) -> _Widths:
    if isinstance(pad, str) or not isinstance(pad, Sequence):
        raise TypeError(f"pad: `pad` must be a sequence of ints, got {pad!r}")
    numbers = [check_int(number, "pad", "pad") for number in pad]
    if len(numbers) % 2 or len(numbers) > 2 * ndim:
        raise ValueError(
            f"pad: `pad` must hold two numbers a dimension, at most {2 * ndim} for an input with "
            f"{ndim} dimensions, got {len(numbers)}: {tuple(numbers)}"
        )
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    return ((0, 0),) * (ndim - len(pairs)) + tuple(reversed(pairs))


def _fill(value: float | Array | None, dtype: np.dtype[Any]) -> jax.Array:
    """Return `value` in the input's dtype, refusing a number that the dtype cannot hold."""
    if isinstance(value, jax.Array):
        if value.ndim:
            raise ValueError(f"pad: `value` must be a number, got shape {value.shape}")
        return value.astype(dtype)
    number = 0 if value is None else value
    if not isinstance(number, int | float | np.number):
        raise TypeError(f"pad: `value` must be a number, got {value!r}")
    is_float = jnp.issubdtype(dtype, jnp.floating)
    if is_float or jnp.issubdtype(dtype, jnp.integer):
        info = jnp.finfo(dtype) if is_float else jnp.iinfo(dtype)
        is_held = float(info.min) <= number <= float(info.max)
        if not is_held and not (is_float and not math.isfinite(number)):
            raise ValueError(f"pad: `value`={number} is out of the bounds of {dtype}")
    return jnp.asarray(np.asarray(number).astype(dtype))


def _check_crop(shape: tuple[int, ...], widths: _Widths) -> None:
    for size, (before, after) in zip(shape, widths, strict=True):
        # A symbolic size cannot be compared.
        if isinstance(size, int) and size + min(before, 0) + min(after, 0) < 0:
            raise ValueError(
                f"pad: `pad` must not crop more than there is, got {widths} for shape {shape}"
            )


def _check_sizes(input: jax.Array, widths: _Widths, n: int, mode: str) -> None:
    shape = input.shape
    if n not in (1, 2, 3) or input.ndim not in (n + 1, n + 2):
        raise ValueError(
            f"pad: mode {mode!r} pads one to three dimensions of an input with one or two more, "
            f"got {n} for shape {shape}"
        )
    if mode == "circular":
        _check_crop(shape, widths)
        limits = [size + min(b, 0) + min(a, 0) for size, (b, a) in zip(shape, widths, strict=True)]
    else:
        if input.dtype == jnp.bool_:
            raise TypeError(f"pad: mode {mode!r} needs numbers, got bool; convert it with astype")
        _check_filled(shape, widths, n)
        limits = [size - 1 for size in shape]
    for limit, pads in zip(limits, widths, strict=True):
        if mode != "replicate" and isinstance(limit, int) and max(pads) > max(limit, 0):
            raise ValueError(
                f"pad: a {mode} padding must be at most {limit} here, got {pads}; the input has "
                f"shape {shape}"
            )


def _check_filled(shape: tuple[int, ...], widths: _Widths, n: int) -> None:
    """Refuse an input without elements, batch aside, and an output without any."""
    sizes = [size + sum(pads) for size, pads in zip(shape, widths, strict=True)][-n:]
    is_known = all(isinstance(size, int) for size in sizes)
    if 0 in shape[-n - 1 :] or (is_known and (min(sizes) < 0 or max(sizes) == 0)):
        raise ValueError(
            f"pad: there must be something to pad with, and something left, got shape {shape} and "
            f"sizes {sizes} after padding"
        )


@partial(jax.jit, static_argnames="widths", inline=True)
def _pad_constant(input: jax.Array, fill: jax.Array, widths: _Widths) -> jax.Array:
    return lax.pad(input, fill, [(before, after, 0) for before, after in widths])


# lax.pad cannot be differentiated by its value alone.
@partial(jax.jit, static_argnames="widths", inline=True)
def _pad_differentiable(input: jax.Array, fill: jax.Array, widths: _Widths) -> jax.Array:
    padded = _pad_constant(input, jnp.zeros((), input.dtype), widths)
    inside = _pad_constant(jnp.ones(input.shape, bool), jnp.zeros((), bool), widths)
    return jnp.where(inside, padded, fill)


# Slices and concatenation rather than a gather, whose gradient would be a scatter.
@partial(jax.jit, static_argnames=("widths", "mode"), inline=True)
def _pad_with_itself(input: jax.Array, widths: _Widths, mode: str) -> jax.Array:
    crops = tuple((min(before, 0), min(after, 0)) for before, after in widths)
    zero = jnp.zeros((), input.dtype)
    # What is cropped does not come round again, but is mirrored and repeated.
    if mode == "circular":
        input = _pad_constant(input, zero, crops)
    for axis, (before, after) in enumerate(widths):
        if before > 0 or after > 0:
            input = _extend(input, axis, max(before, 0), max(after, 0), mode)
    return input if mode == "circular" else _pad_constant(input, zero, crops)


def _extend(input: jax.Array, axis: int, before: int, after: int, mode: str) -> jax.Array:
    """Add `before` and `after` elements of `input` itself to one dimension."""
    size = input.shape[axis]
    sources = {
        "reflect": ((1, before + 1), (size - 1 - after, size - 1)),
        "replicate": ((0, 1), (size - 1, size)),
        "circular": ((size - before, size), (0, after)),
    }[mode]
    first, last = (
        [_end(input, axis, source, width, mode)] if width else []
        for source, width in zip(sources, (before, after), strict=True)
    )
    return lax.concatenate([*first, input, *last], axis)


def _end(input: jax.Array, axis: int, source: tuple[int, int], width: int, mode: str) -> jax.Array:
    """Return the `width` elements that come from these ones of `input`."""
    part = lax.slice_in_dim(input, *source, axis=axis)
    if mode == "reflect":
        return lax.rev(part, (axis,))
    if mode == "replicate":
        return jnp.broadcast_to(part, (*part.shape[:axis], width, *part.shape[axis + 1 :]))
    return part
