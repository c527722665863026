"""The convolution on a CPU: its values, and its derivatives through the input and the weight.

XLA is fast there at plain convolutions, but slow at grouped ones, at kernels of one tap, and at the
weight's gradient. So the values, the derivative through the input and the derivative through the
weight, which are one function, linear in each argument, are each written in the way that is fast,
the derivatives also when they are transposed to gradients.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..._thresholds import thresholds
from ..._xla import is_sharded, out_of_line
from .definition import Geometry, native, output_sizes, window_taps
from .phases import Formulation


def values(input: jax.Array, weight: jax.Array, geometry: Geometry) -> jax.Array:
    """The convolution itself."""
    if geometry.groups > 1 and math.prod(weight.shape[1:]) <= thresholds().convolution_taps:
        return out_of_line(partial(_by_taps, geometry=geometry))(input, weight)
    return _by_group(_threaded, input, weight, geometry)


def through_input(input: jax.Array, weight: jax.Array, geometry: Geometry) -> jax.Array:
    """Its derivative through the input, which is transposed to the input's gradient."""
    return _derivative(_threaded_in_transpose, input, weight, geometry)


def through_weight(input: jax.Array, weight: jax.Array, geometry: Geometry) -> jax.Array:
    """Its derivative through the weight, which is transposed to the weight's gradient."""
    if _is_depthwise(weight, geometry) and _is_large(input):
        return _by_taps_of_sample(input, weight, geometry)
    return _derivative(_unfolded, input, weight, geometry)


def _derivative(
    formulation: Formulation, input: jax.Array, weight: jax.Array, geometry: Geometry
) -> jax.Array:
    if _is_depthwise(weight, geometry):
        return _by_taps(input, weight, geometry)
    return _by_group(formulation, input, weight, geometry)


def _is_depthwise(weight: jax.Array, geometry: Geometry) -> bool:
    """Whether each channel is alone in its group, and the taps are few."""
    are_few = math.prod(weight.shape[2:]) <= thresholds().convolution_taps
    return geometry.groups > 1 and weight.shape[1] == 1 and are_few


def _is_large(input: jax.Array) -> bool:
    """Whether the samples are so large that they are taken one after the other."""
    size = math.prod(input.shape[1:])
    is_large = isinstance(size, int) and size >= thresholds().convolution_large_sample
    return is_large and not is_sharded(input)


def _by_group(
    formulation: Formulation, input: jax.Array, weight: jax.Array, geometry: Geometry
) -> jax.Array:
    """A convolution for each group, where they are few."""
    groups = geometry.groups
    if groups == 1:
        return _dense(formulation, input, weight, geometry)
    if groups > thresholds().convolution_groups:
        return _unfolded(input, weight, geometry)
    pairs = zip(jnp.split(input, groups, axis=1), jnp.split(weight, groups, axis=0), strict=True)
    single = geometry._replace(groups=1)
    return jnp.concatenate([_dense(formulation, x, w, single) for x, w in pairs], axis=1)


def _dense(
    formulation: Formulation, input: jax.Array, weight: jax.Array, geometry: Geometry
) -> jax.Array:
    """A convolution without groups: a matrix product where that is faster."""
    is_pointwise = math.prod(weight.shape[2:]) == 1
    is_padded = any(pads != (0, 0) for pads in geometry.padding)
    if is_pointwise and not is_padded and not is_sharded(input):
        return _pointwise(input, weight, geometry.stride)
    if _has_few_positions(input, weight, geometry):
        return _unfolded_together(input, weight, geometry)
    return formulation(input, weight, geometry)


def _threaded(input: jax.Array, weight: jax.Array, geometry: Geometry) -> jax.Array:
    """The native convolution, so that all threads take part."""
    width = output_sizes(input.shape[2:], weight.shape[2:], geometry)[-1]
    is_narrow = _has_one_thread(input, width, weight.shape[1], weight.shape[0])
    return (_side_by_side if is_narrow else native)(input, weight, geometry)


def _threaded_in_transpose(input: jax.Array, weight: jax.Array, geometry: Geometry) -> jax.Array:
    """The native convolution, so that in its transpose all threads take part."""
    is_narrow = _has_one_thread(input, input.shape[-1], weight.shape[0], weight.shape[1])
    has_stride = any(stride != 1 for stride in geometry.stride)
    return (_side_by_side if is_narrow and not has_stride else native)(input, weight, geometry)


def _has_one_thread(input: jax.Array, width: Any, from_channels: int, to_channels: int) -> bool:
    """Whether XLA's convolution has one thread, but would have more for wider samples.

    It divides rows by their width and by the channels that it makes, of which there must be enough.
    """
    if input.ndim != 4 or input.dtype != jnp.float32 or is_sharded(input):
        return False
    sizes = thresholds()
    are_known = isinstance(width, int) and isinstance(input.shape[0], int)
    if not are_known or input.shape[0] * width < sizes.convolution_wide:
        return False
    are_few = min(from_channels, to_channels) < sizes.convolution_many_channels
    is_narrow = are_few and to_channels * width <= sizes.convolution_narrow
    return from_channels >= sizes.convolution_some_channels and is_narrow


def _side_by_side(input: jax.Array, weight: jax.Array, geometry: Geometry) -> jax.Array:
    """The native convolution of one wide sample, in which those of the batch stand side by side.

    Twice as fast with two threads, for 64 channels of 56 x 56.
    """
    batch, stride, (before, after) = input.shape[0], geometry.stride[-1], geometry.padding[-1]
    width = output_sizes(input.shape[2:], weight.shape[2:], geometry)[-1]
    size = before + input.shape[-1] + after
    steps = -(-size // stride)
    widths = [(0, 0, 0)] * (input.ndim - 1) + [(before, steps * stride - size + after, 0)]
    apart = lax.pad(input, jnp.zeros((), input.dtype), widths)
    joined = jnp.moveaxis(apart, 0, -2)
    joined = joined.reshape(1, *joined.shape[:-2], batch * steps * stride)
    extent = geometry.dilation[-1] * (weight.shape[-1] - 1) + 1
    padding = (*geometry.padding[:-1], (0, extent - stride))
    output = native(joined, weight, geometry._replace(padding=padding))[0]
    split = output.reshape(*output.shape[:-1], batch, steps)[..., :width]
    return jnp.moveaxis(split, -2, 0)


def _has_few_positions(input: jax.Array, weight: jax.Array, geometry: Geometry) -> bool:
    """Whether the weight is what there is most of: the last blocks of a network, small batches."""
    kernel_size = weight.shape[2:]
    positions = input.shape[0] * math.prod(output_sizes(input.shape[2:], kernel_size, geometry))
    is_dynamic = not isinstance(positions, int) or is_sharded(input)
    if is_dynamic or math.prod(kernel_size) > thresholds().convolution_taps:
        return False
    is_small = positions * math.prod(weight.shape[1:]) <= thresholds().convolution_columns
    return is_small and positions <= thresholds().convolution_few_positions * weight.shape[0]


def _pointwise(input: jax.Array, weight: jax.Array, stride: tuple[int, ...]) -> jax.Array:
    """A kernel of one tap: a matrix product."""
    input = input[:, :, *(slice(None, None, step) for step in stride)]
    matrix = weight.reshape(weight.shape[:2])
    batch, channels, *sizes = input.shape
    flat = input.reshape(batch, channels, math.prod(sizes))
    positions = flat.shape[2]
    if isinstance(positions, int) and positions >= 2 * matrix.shape[0]:
        # One for each sample, of a copy of the matrix that is small beside it: in a loop, half as
        # fast, since each step copies its sample and its output.
        output = lax.batch_matmul(jnp.broadcast_to(matrix, (batch, *matrix.shape)), flat)
    else:
        together = flat.swapaxes(0, 1).reshape(channels, batch * positions)
        output = (matrix @ together).reshape(matrix.shape[0], batch, positions).swapaxes(0, 1)
    return output.reshape(batch, matrix.shape[0], *sizes)


def _by_taps(input: jax.Array, weight: jax.Array, geometry: Geometry) -> jax.Array:
    """Few channels a group: a sum of shifted channels, each times one element of the kernel."""
    batch, groups = input.shape[0], geometry.groups
    taps = [
        tap.reshape(batch, groups, weight.shape[1], *tap.shape[2:])
        for tap in window_taps(input, weight.shape[2:], geometry)
    ]
    factors = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], len(taps))
    sizes = taps[0].shape[3:]
    shape = (batch, groups, factors.shape[1], *sizes)
    spread = (0, 1, *range(3, len(shape)))
    total = jnp.zeros(shape, input.dtype)
    for k, tap in enumerate(taps):
        for channel in range(weight.shape[1]):
            shifted = lax.broadcast_in_dim(tap[:, :, channel], shape, spread)
            total += shifted * lax.broadcast_in_dim(factors[:, :, channel, k], shape, (1, 2))
    return total.reshape(batch, weight.shape[0], *sizes)


def _by_taps_of_sample(input: jax.Array, weight: jax.Array, geometry: Geometry) -> jax.Array:
    """As by taps, sample by sample.

    The gradient through the weight writes each shifted input before it sums: 1.5 to 3 times as fast
    where those of one sample stay in the cache.
    """

    # The shifted inputs are made again for the gradient, since they are many.
    @partial(jax.checkpoint, prevent_cse=False)
    def convolve_sample(sample: jax.Array) -> jax.Array:
        return _by_taps(sample[None], weight, geometry)[0]

    return lax.map(convolve_sample, input)


def _unfolded(input: jax.Array, weight: jax.Array, geometry: Geometry) -> jax.Array:
    """Matrix products for each sample and group, whose transposes, the gradients, are such too."""
    groups, output_size = geometry.groups, output_sizes(input.shape[2:], weight.shape[2:], geometry)
    elements = math.prod(output_size) * math.prod(weight.shape[1:]) * groups
    is_small = isinstance(elements, int) and elements <= thresholds().convolution_columns
    has_many_taps = math.prod(weight.shape[2:]) > thresholds().convolution_taps
    if is_sharded(input) or has_many_taps or not is_small:
        return native(input, weight, geometry)
    shared = 1 if _shares_rows(weight, geometry) else 0
    # By dimension: outputs of a group, their taps, inputs of a group, their taps.
    split = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    split = jnp.moveaxis(split, 2, 2 + shared)
    rows, columns = split.shape[1 : 2 + shared], split.shape[2 + shared :]
    matrices = split.reshape(groups, math.prod(rows), math.prod(columns))

    # The unfolded samples are made again for the gradient, since they are large.
    @jax.checkpoint
    def convolve_sample(sample: jax.Array) -> jax.Array:
        taps = window_taps(sample[None], (1,) * shared + columns[1:], geometry)
        sizes = taps[0].shape[2:]
        unfolded = jnp.stack([tap[0] for tap in taps], axis=1)
        unfolded = unfolded.reshape(groups, matrices.shape[2], math.prod(sizes))
        output = matrices[0] @ unfolded[0] if groups == 1 else lax.batch_matmul(matrices, unfolded)
        if shared:
            output = _sum_of_shifted(
                output.reshape(weight.shape[0], rows[1], *sizes), geometry.dilation[0]
            )
        return output.reshape(weight.shape[0], *output_size)

    return lax.map(convolve_sample, input)


def _shares_rows(weight: jax.Array, geometry: Geometry) -> bool:
    """Whether to shift the output along the first dimension, and the input along the others alone.

    Of both together there are then fewer copies than of the input for each tap: for a kernel of
    3 x 3 and as many outputs as inputs, 6 in place of 9.
    """
    outputs, inputs, first, *others = weight.shape
    outputs //= geometry.groups
    apart = math.prod(others)
    return geometry.stride[0] == 1 and first * outputs + apart * inputs < first * apart * inputs


def _sum_of_shifted(rows: jax.Array, step: int) -> jax.Array:
    """Sum over dimension 1, of which each element begins `step` later along dimension 2."""
    count, before = rows.shape[1], (rows.shape[1] - 1) * step
    parts, zero = lax.split(rows, (1,) * count, 1), jnp.zeros((), rows.dtype)
    unchanged = [(0, 0, 0)] * (rows.ndim - 3)
    # Padded and then cut, so that the transpose is a padding and then cuts, which cost less.
    shifted = [
        lax.pad(part[:, 0], zero, [(0, 0, 0), (before - i * step, i * step, 0), *unchanged])
        for i, part in enumerate(parts)
    ]
    return sum(shifted[1:], start=shifted[0])[:, before : rows.shape[2]]


def _unfolded_together(input: jax.Array, weight: jax.Array, geometry: Geometry) -> jax.Array:
    """One matrix product, of the weight as it lies with the windows of all samples.

    XLA's convolution transposes the weight at each call: here up to 25 times as slow.
    """
    taps = window_taps(input.swapaxes(0, 1), weight.shape[2:], geometry)
    sizes = taps[0].shape[1:]
    matrix = weight.reshape(weight.shape[0], math.prod(weight.shape[1:]))
    columns = jnp.stack(taps, axis=1).reshape(matrix.shape[1], math.prod(sizes))
    return (matrix @ columns).reshape(weight.shape[0], *sizes).swapaxes(0, 1)
