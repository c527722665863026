"""The outputs: what each looks at is taken, weighed and added, one dimension after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...._dtypes import accumulation_dtype
from ...._xla import by_platform, is_sharded, out_of_line
from ..._gradients import with_derivative_of, with_transpose_of
from .definition import Taps, antialiased_taps, taps_of, turned, whole_taps

# Up to so many times, a repetition's gradient is a sum that is written out.
_MOST_TERMS = 8
_Place = Callable[[jax.Array], tuple[Any, ...]]


@partial(jax.jit, static_argnums=(1, 2, 3, 4, 5), inline=True)
def weighed(
    input: jax.Array,
    sizes: tuple[int, ...],
    scales: tuple[float | None, ...],
    kernel: str,
    align_corners: bool,
    antialias: bool,
) -> jax.Array:
    """Weigh each output's taps, in float32 at least; the derivative is torch's, too."""
    x = input.astype(accumulation_dtype(input.dtype))
    find_taps = antialiased_taps if antialias else taps_of
    taps = [
        find_taps(old, new, scale, kernel, align_corners, x.dtype.name)
        for old, new, scale in zip(x.shape[2:], sizes, scales, strict=True)
    ]
    users = [turned(of, old) for of, old in zip(taps, x.shape[2:], strict=True)]
    kept = [new == old for old, new in zip(x.shape[2:], sizes, strict=True)]
    value, gradient = partial(_gather, taps=taps), partial(_gather, taps=users)
    if antialias and any(kept):
        # Torch leaves out a dimension that keeps its size, but not in the gradient.
        shorter = [None if keep else of for of, keep in zip(taps, kept, strict=True)]
        linear = partial(with_transpose_of, value, gradient)
        x = with_derivative_of(partial(_gather, taps=shorter), linear, x)
    elif kernel == "cubic" and all(kept):
        # Torch's gradient is the cotangent itself where no size changes.
        x = with_derivative_of(value, lambda tangent: tangent, x)
    else:
        x = with_transpose_of(value, gradient, x)
    return x.astype(input.dtype)


@partial(jax.jit, static_argnums=(1, 2, 3, 4, 5), inline=True)
def weighed_bytes(
    input: jax.Array,
    sizes: tuple[int, ...],
    scales: tuple[float | None, ...],
    kernel: str,
    align_corners: bool,
    antialias: bool,
) -> jax.Array:
    """Weigh by whole numbers, as torch and Pillow do, and round after each dimension."""
    find_taps = antialiased_taps if antialias else taps_of
    x = input
    for axis in (3, 2):
        old, new, scale = x.shape[axis], sizes[axis - 2], scales[axis - 2]
        if new == old:
            continue
        taps = find_taps(old, new, scale, kernel, align_corners, "float64")
        whole, bits = whole_taps(taps, old)
        total = _gather_along(x.astype(jnp.int32), axis, whole)
        rounded = lax.shift_right_arithmetic(total + (1 << (bits - 1)), jnp.int32(bits))
        x = jnp.clip(rounded, 0, 255).astype(jnp.uint8)
    return x


@partial(jax.jit, static_argnums=1, inline=True)
def take(input: jax.Array, indices: tuple[tuple[int, ...], ...]) -> jax.Array:
    """Take one element for each output, by their places in each spatial dimension."""
    for axis, index in enumerate(indices, 2):
        input = _taken(input, index, axis)
    return input


def _taken(input: jax.Array, index: tuple[int, ...], axis: int) -> jax.Array:
    old, new = input.shape[axis], len(index)
    if new % old == 0 and index == tuple(i * old // new for i in range(new)):
        # A broadcast, whose gradient is a sum; that of a gather would be a scatter.
        times = new // old
        repeat = partial(_repeated, times=times, axis=axis)
        if times > _MOST_TERMS or input.dtype not in (jnp.float32, jnp.float64):
            return repeat(input)
        return with_derivative_of(repeat, partial(_spread, times=times, axis=axis), input)
    if old % new == 0 and index == tuple(i * old // new for i in range(new)):
        return lax.slice_in_dim(input, 0, old, old // new, axis)
    return jnp.take(input, np.array(index), axis, mode="clip")


def _repeated(input: jax.Array, times: int, axis: int) -> jax.Array:
    """Repeat each element, as a broadcast."""
    shape = input.shape
    wider = jnp.broadcast_to(
        jnp.expand_dims(input, axis + 1), (*shape[: axis + 1], times, *shape[axis + 1 :])
    )
    return wider.reshape(*shape[:axis], shape[axis] * times, *shape[axis + 1 :])


def _spread(input: jax.Array, times: int, axis: int) -> jax.Array:
    """Repeat each element, as a sum whose transpose is one of strided slices.

    That of a broadcast is a sum over a short dimension, which takes XLA on a CPU 15 times as long.
    """
    zero = jnp.zeros((), input.dtype)

    def at(place: int) -> jax.Array:
        widths = [(0, 0, 0)] * input.ndim
        widths[axis] = (place, times - 1 - place, times - 1)
        return lax.pad(input, zero, widths)

    return sum(map(at, range(1, times)), start=at(0))


# Each output gathers what it weighs, and nothing else: a product with the matrix of the weights
# would multiply all the others by zero, which a NaN or an infinity survives. The transpose gathers
# too, for each element from the outputs that weigh it: a scatter is slow on a CPU.


def _gather(x: jax.Array, taps: Sequence[Taps | None]) -> jax.Array:
    steps = [
        partial(_gather_along, axis=axis, taps=of)
        for axis, of in enumerate(taps, 2)
        if of is not None
    ]
    for i, step in enumerate(steps, 1):
        x = (out_of_line(step) if i < len(steps) else step)(x)
    return x


def _gather_along(x: jax.Array, axis: int, taps: Taps) -> jax.Array:
    before, size, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    outputs = len(taps.element)

    def default(x: jax.Array) -> jax.Array:
        return _gathered(x, taps, axis, lambda index: (*(slice(None),) * axis, index))

    def cpu(x: jax.Array) -> jax.Array:
        rows = x.reshape(math.prod(before) * size, *after)
        output = _gathered(rows, taps, 1, _rows(math.prod(before), size))
        return output.reshape(*before, outputs, *after)

    # On a CPU, XLA puts the dimension that it gathers along first, and copies what it gets.
    if is_sharded(x):
        return default(x)
    output: jax.Array = by_platform(cpu, default)(x)
    return output


def _rows(count: int, size: int) -> _Place:
    """Return where an index lies in each of `count` rows that follow one another."""

    def place(index: jax.Array) -> tuple[jax.Array]:
        start = lax.broadcasted_iota(index.dtype, (count, index.shape[0]), 0) * size
        return (start + index[None],)

    return place


def _gathered(x: jax.Array, taps: Taps, axis: int, place: _Place) -> jax.Array:
    def tap(index: np.ndarray, weight: np.ndarray, is_there: np.ndarray) -> jax.Array:
        values = x.at[place(jnp.asarray(index))].get(mode="promise_in_bounds")
        return _weighted(values, weight, is_there, axis)

    return reduce(jnp.add, map(tap, *(part.T for part in taps)))


def _weighted(x: jax.Array, weight: np.ndarray, is_there: np.ndarray, axis: int) -> jax.Array:
    """Multiply along an axis, where something is there; elsewhere it is zero."""
    if not is_there.all():
        others = tuple(i for i in range(x.ndim) if i != axis)
        mask = jnp.asarray(np.expand_dims(is_there, others))
        x = jnp.where(mask, x, jnp.zeros((), x.dtype))
    return x * lax.broadcast_in_dim(jnp.asarray(weight), x.shape, (axis,))
