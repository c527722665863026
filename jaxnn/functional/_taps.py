"""The taps of a window: what each of its elements reads, as the window slides over an array."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax
from jax import lax


def read_taps(
    x: jax.Array,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    counts: Sequence[int],
) -> list[jax.Array]:
    """Return, for each tap in row-major order, what it reads of `x` in each window.

    Tap j of window o reads position o * stride + j * dilation, along each of the last axes; the
    padding is part of `x`, and `counts` says how many windows there are. Slices, not the general
    gather, whose transpose is a scatter: XLA fuses them.

    Example:
        >>> import jax.numpy as jnp
        >>> read_taps(jnp.arange(5), (2,), (2,), (1,), (2,))
        [Array([0, 2], dtype=int32), Array([1, 3], dtype=int32)]
    """
    before = x.ndim - len(kernel)
    steps = [1] * before + list(strides)
    taps = []
    for place in itertools.product(*(range(size) for size in kernel)):
        start = [j * dilation for j, dilation in zip(place, dilations, strict=True)]
        end = [
            first + (count - 1) * stride + 1
            for first, count, stride in zip(start, counts, strides, strict=True)
        ]
        taps.append(lax.slice(x, [0] * before + start, [*x.shape[:before], *end], steps))
    return taps
