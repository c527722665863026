"""What a convolution is: one operation of XLA, and how its window moves."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .._taps import read_taps


class Geometry(NamedTuple):
    """How the window moves: hashable, and so static under jit."""

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]  # negative crops
    dilation: tuple[int, ...]
    groups: int
    input_dilation: tuple[int, ...]  # the step between the input's elements, with zeros between


CHANNELS_FIRST, CHANNELS_LAST = ("NC{}", "OI{}", "NC{}"), ("N{}C", "{}IO", "N{}C")
"""The orders of the dimensions of input, weight and output; in braces, the spatial ones."""


def native(
    input: jax.Array,
    weight: jax.Array,
    geometry: Geometry,
    order: tuple[str, str, str] = CHANNELS_FIRST,
) -> jax.Array:
    """Convolve (N, in_channels, ...) with (out_channels, in_channels / groups, ...).

    y[n, o, p] = sum over c, k of w[o, c, k] x[n, c, stride * p + dilation * k - padding], where x
    is zero outside its bounds and c runs over the channels of o's group.
    """
    spatial = "DHW"[3 - len(geometry.stride) :]
    lhs, rhs, out = order
    return lax.conv_general_dilated(
        input,
        weight,
        window_strides=geometry.stride,
        padding=geometry.padding,
        lhs_dilation=geometry.input_dilation,
        rhs_dilation=geometry.dilation,
        dimension_numbers=(lhs.format(spatial), rhs.format(spatial), out.format(spatial)),
        feature_group_count=geometry.groups,
    )


def kernels_of_transpose(weight: jax.Array, groups: int) -> jax.Array:
    """Return the kernels of a transposed convolution, which are stored as those of the other one.

    That is, flipped, and of shape (in_channels, out_channels / groups, ...).
    """
    inputs, outputs, *kernel_size = weight.shape
    grouped = weight.reshape(groups, inputs // groups, outputs, *kernel_size).swapaxes(1, 2)
    kernels = grouped.reshape(groups * outputs, inputs // groups, *kernel_size)
    return jnp.flip(kernels, range(2, kernels.ndim))


def output_sizes(
    sizes: tuple[int, ...], kernel_size: tuple[int, ...], geometry: Geometry
) -> tuple[int, ...]:
    """Return the output's spatial sizes for those of the input."""
    return tuple(
        ((size - 1) * spread + sum(pads) - step * (kernel - 1)) // stride + 1
        for size, spread, pads, kernel, step, stride in zip(
            sizes,
            geometry.input_dilation,
            geometry.padding,
            kernel_size,
            geometry.dilation,
            geometry.stride,
            strict=True,
        )
    )


def window_taps(
    input: jax.Array, kernel_size: tuple[int, ...], geometry: Geometry
) -> list[jax.Array]:
    """Return, for each tap of the kernel, what it meets at the window's positions."""
    widths = [(before, after, 0) for before, after in ((0, 0), (0, 0), *geometry.padding)]
    padded = lax.pad(input, jnp.zeros((), input.dtype), widths)
    sizes = output_sizes(input.shape[2:], kernel_size, geometry)
    return read_taps(padded, kernel_size, geometry.stride, geometry.dilation, sizes)
