"""Images: taken apart into blocks, and put together again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Shaped

from ..._checks import check_array, ntuple
from ..._types import IntOrInts
from ..._xla import by_platform
from ..convolution.definition import Geometry, output_sizes, window_taps


def unfold(
    input: Shaped[Array, "*N C H W"],
    kernel_size: IntOrInts,
    dilation: IntOrInts = 1,
    padding: IntOrInts = 0,
    stride: IntOrInts = 1,
) -> Shaped[Array, "*N C*kH*kW L"]:
    """Take out the blocks under a sliding window, as columns.

    y[n, (c, k), l] = x[n, c, stride * p + dilation * k - padding], where x is zero outside its
    bounds, k runs over the kernel's taps and l over the window's positions p, row by row.

    Shapes: (N, C, H, W) or (C, H, W) -> (N, C kH kW, L), or without N; L is the product of
    floor((H + 2 padding - dilation (kH - 1) - 1) / stride) + 1 and the same for W.

    Dtypes: any but integers, which stay.

    Args:
        input: the images.
        kernel_size: the window's size, one number or (height, width).
        dilation: the step between the window's taps, likewise.
        padding: the zeros on both sides, likewise.
        stride: the step of the window, likewise.

    Raises:
        TypeError: if the dtype is an integer's, or an option is not an int.
        ValueError: if an option is out of bounds, the shape does not fit, or the window exceeds the
            padded input.

    Source: torch.nn.functional.unfold.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
        >>> jaxnn.functional.unfold(x, (2, 2))
        Array([[1., 2.],
               [2., 3.],
               [4., 5.],
               [5., 6.]], dtype=float32)
    """
    input = _checked_input(input, "unfold")
    kernel, geometry = window(kernel_size, dilation, padding, stride, "unfold")
    if input.ndim not in (3, 4) or 0 in input.shape[-3:]:
        raise ValueError(
            "unfold: `input` must have 4 dimensions (N, C, H, W), or 3 without N, of which only N "
            f"may be 0, got shape {input.shape}"
        )
    _check_blocks(input.shape[-2:], kernel, geometry, "unfold")
    if input.ndim == 3:
        return _unfold(input[None], kernel, geometry)[0]
    return _unfold(input, kernel, geometry)


def fold(
    input: Shaped[Array, "*N C*kH*kW L"],
    output_size: IntOrInts,
    kernel_size: IntOrInts,
    dilation: IntOrInts = 1,
    padding: IntOrInts = 0,
    stride: IntOrInts = 1,
) -> Shaped[Array, "*N C H W"]:
    """Put blocks back where `unfold` takes them from, adding where they overlap.

    y[n, c, q] = the sum of x[n, (c, k), l] over all taps k and positions p, of number l, for which
    stride * p + dilation * k - padding = q.

    Shapes: (N, C kH kW, L) or (C kH kW, L) -> (N, C, *output_size), or without N; L is the number
    of the window's positions on the output, as in `unfold`.

    Dtypes: any but integers, which stay; of bools the sum is "or".

    Args:
        input: the blocks, as columns.
        output_size: the size of the images, one number or (height, width).
        kernel_size: the window's size, likewise.
        dilation: the step between the window's taps, likewise.
        padding: how much of the blocks lies beyond the images, on both sides, likewise.
        stride: the step of the window, likewise.

    Raises:
        TypeError: if the dtype is an integer's, or an option is not an int.
        ValueError: if an option is out of bounds, or the shape does not fit.

    Source: torch.nn.functional.fold.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> blocks = jnp.array([[1.0, 2.0], [10.0, 20.0]])
        >>> jaxnn.functional.fold(blocks, (1, 3), (1, 2))
        Array([[[ 1., 12., 20.]]], dtype=float32)
    """
    input = _checked_input(input, "fold")
    sizes = pair(output_size, "output_size", "fold", minimum=1)
    kernel, geometry = window(kernel_size, dilation, padding, stride, "fold")
    if input.ndim not in (2, 3) or 0 in input.shape[-2:]:
        raise ValueError(
            "fold: `input` must have 3 dimensions (N, C * kH * kW, L), or 2 without N, of which "
            f"only N may be 0, got shape {input.shape}"
        )
    _check_blocks(sizes, kernel, geometry, "fold")
    count = math.prod(output_sizes(sizes, kernel, geometry))
    if input.shape[-2] % math.prod(kernel) or input.shape[-1] != count:
        raise ValueError(
            f"fold: `input` must have a multiple of {math.prod(kernel)} rows and {count} columns "
            f"for these options, got shape {input.shape}"
        )
    if input.ndim == 2:
        return _fold(input[None], sizes, kernel, geometry)[0]
    return _fold(input, sizes, kernel, geometry)


def pair(value: Any, name: str, layer: str, minimum: int) -> tuple[int, int]:
    """Return `value`, an int or a sequence of two ints, as a tuple of two ints."""
    if isinstance(value, Sequence) and len(value) == 1:
        raise ValueError(f"{layer}: `{name}` must be an int or 2 ints, got {value!r}")
    first, second = ntuple(value, 2, name, layer, minimum)
    return first, second


def window(
    kernel_size: IntOrInts, dilation: IntOrInts, padding: IntOrInts, stride: IntOrInts, layer: str
) -> tuple[tuple[int, int], Geometry]:
    """Return the checked size of the window and how it moves."""
    kernel = pair(kernel_size, "kernel_size", layer, minimum=1)
    height, width = pair(padding, "padding", layer, minimum=0)
    geometry = Geometry(
        stride=pair(stride, "stride", layer, minimum=1),
        padding=((height, height), (width, width)),
        dilation=pair(dilation, "dilation", layer, minimum=1),
        groups=1,
        input_dilation=(1, 1),
    )
    return kernel, geometry


def _checked_input(input: Any, name: str) -> jax.Array:
    array = check_array(input, "input", name)
    if jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name}: `input` must not be of integers, got {array.dtype}; use astype")
    return array


def _check_blocks(
    sizes: tuple[int, ...], kernel: tuple[int, int], geometry: Geometry, name: str
) -> None:
    counts = output_sizes(sizes, kernel, geometry)
    # A symbolic size cannot be compared.
    if any(isinstance(count, int) and count < 1 for count in counts):
        raise ValueError(
            f"{name}: the window {kernel}, with the dilation {geometry.dilation}, must fit into "
            f"the padded image, of size {tuple(sizes)} and padding {geometry.padding}"
        )


# Slices and their transposes, not the general gather and scatter: XLA fuses them.
@partial(jax.jit, static_argnames=("kernel", "geometry"), inline=True)
def _unfold(input: jax.Array, kernel: tuple[int, int], geometry: Geometry) -> jax.Array:
    taps = window_taps(input, kernel, geometry)
    batch, channels, *counts = taps[0].shape

    shape = batch, channels * len(taps), math.prod(counts)

    def at_once(*taps: jax.Array) -> jax.Array:
        return jnp.stack(taps, axis=2).reshape(shape)

    def tpu(*taps: jax.Array) -> jax.Array:
        # To flatten all of them at once would cost as much again.
        return at_once(*(tap.reshape(batch, channels, shape[-1]) for tap in taps))

    unfolded: jax.Array = by_platform(cpu=at_once, default=at_once, tpu=tpu)(*taps)
    return unfolded


@partial(jax.jit, static_argnames=("sizes", "kernel", "geometry"), inline=True)
def _fold(
    input: jax.Array, sizes: tuple[int, int], kernel: tuple[int, int], geometry: Geometry
) -> jax.Array:
    batch, channels = input.shape[0], input.shape[1] // math.prod(kernel)
    counts = output_sizes(sizes, kernel, geometry)
    taps = input.reshape(batch, channels, math.prod(kernel), *counts)
    output = jnp.zeros((batch, channels, *sizes), input.dtype)
    for number, position in enumerate(itertools.product(*(range(size) for size in kernel))):
        widths = [(0, 0, 0), (0, 0, 0)]
        for i, place in enumerate(position):
            start = place * geometry.dilation[i] - geometry.padding[i][0]
            span = (counts[i] - 1) * geometry.stride[i] + 1
            widths.append((start, sizes[i] - start - span, geometry.stride[i] - 1))
        output += lax.pad(taps[:, :, number], jnp.zeros((), input.dtype), widths)
    return output
