"""Convolutions, over one core for any number of spatial dimensions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Num

from .._checks import accumulation_dtype, check_array, check_int, check_same_dtype, ntuple

IntOrInts = int | Sequence[int]

# Where a kernel has more taps, or elements in a group, they are not written out one by one.
_MAX_TAPS = 64
# Where there are more groups, they are not written out one by one.
_MAX_GROUPS = 8
# Up to this many elements (64 MB in float32), a sample is unfolded for a matrix product.
_MAX_COLUMNS = 2**24


class _Geometry(NamedTuple):
    """How the window moves: hashable, and so static under jit."""

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int


def conv1d(
    input: Num[Array, "*N C L"],
    weight: Num[Array, "out C/groups kL"],
    bias: Num[Array, "out"] | None = None,
    stride: IntOrInts = 1,
    padding: IntOrInts | str = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Num[Array, "*N out L_out"]:
    """Convolve along one dimension; see `conv2d`.

    Shapes: input (N, C, L) or (C, L), weight (out, C / groups, kL), bias (out).

    Raises:
        TypeError, ValueError: as `conv2d`.

    Source: torch.nn.functional.conv1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.array([[[1.0, 2.0, 3.0]]])
        >>> jaxnn.functional.conv1d(x, jnp.array([[[1.0, -1.0]]]))
        Array([[[-1., -1.]]], dtype=float32)
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Num[Array, "*N C H W"],
    weight: Num[Array, "out C/groups kH kW"],
    bias: Num[Array, "out"] | None = None,
    stride: IntOrInts = 1,
    padding: IntOrInts | str = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Num[Array, "*N out H_out W_out"]:
    """Convolve (that is, correlate) along two dimensions.

    y[n, o, p] = b[o] + sum over c, k of w[o, c, k] x[n, c, stride * p + dilation * k - padding],
    where x is zero outside its bounds and c runs over the channels of o's group.

    Shapes: input (N, C, H, W) or (C, H, W), weight (out, C / groups, kH, kW), bias (out); the
    output's size is floor((H + padding before and after - dilation (kH - 1) - 1) / stride) + 1.

    Dtypes: any number but bool, the same for all. Half precision is accumulated in float32.

    Args:
        input: the images.
        weight: the kernels.
        bias: what is added to each output channel.
        stride: the step of the window, one number or one a dimension.
        padding: the zeros on both sides, likewise; or "valid" for none, or "same" for as many as
            keep the size, of which the odd one stands at the end.
        dilation: the step between the kernel's taps.
        groups: into how many groups the channels are divided.

    Raises:
        TypeError: if the dtypes differ, or are bool, or an option is no int.
        ValueError: if an option is out of bounds, a shape does not fit, or the kernel exceeds the
            padded input.

    Source: torch.nn.functional.conv2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x, w = jnp.ones((1, 1, 3, 3)), jnp.ones((1, 1, 2, 2))
        >>> jaxnn.functional.conv2d(x, w, padding="same")
        Array([[[[4., 4., 2.],
                 [4., 4., 2.],
                 [2., 2., 1.]]]], dtype=float32)
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Num[Array, "*N C D H W"],
    weight: Num[Array, "out C/groups kD kH kW"],
    bias: Num[Array, "out"] | None = None,
    stride: IntOrInts = 1,
    padding: IntOrInts | str = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Num[Array, "*N out D_out H_out W_out"]:
    """Convolve along three dimensions; see `conv2d`.

    Shapes: input (N, C, D, H, W) or (C, D, H, W), weight (out, C / groups, kD, kH, kW), bias (out).

    Raises:
        TypeError, ValueError: as `conv2d`.

    Source: torch.nn.functional.conv3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x, w = jnp.ones((1, 1, 2, 2, 2)), jnp.ones((1, 1, 2, 2, 2))
        >>> jaxnn.functional.conv3d(x, w)
        Array([[[[[8.]]]]], dtype=float32)
    """
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


def same_padding(kernel_size: Sequence[int], dilation: Sequence[int]) -> list[tuple[int, int]]:
    """Return the zeros before and after each dimension that keep its size, at a stride of one."""
    totals = [step * (size - 1) for size, step in zip(kernel_size, dilation, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def _conv(
    n: int,
    input: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    stride: IntOrInts,
    padding: IntOrInts | str,
    dilation: IntOrInts,
    groups: int,
) -> jax.Array:
    name = f"conv{n}d"
    input = check_array(input, "input", name)
    weight = check_array(weight, "weight", name)
    bias = None if bias is None else check_array(bias, "bias", name)
    check_same_dtype({"input": input, "weight": weight, "bias": bias}, name)
    if input.dtype == jnp.bool_:
        raise TypeError(f"{name}: `input` must be numbers, got bool; convert it with astype")
    if weight.ndim != n + 2:
        raise ValueError(
            f"{name}: `weight` must have {n + 2} dimensions (out_channels, in_channels / groups, "
            f"and {n} of the kernel), got shape {weight.shape}"
        )
    strides = ntuple(stride, n, "stride", name, minimum=1)
    dilations = ntuple(dilation, n, "dilation", name, minimum=1)
    pads = _pads(padding, weight.shape[2:], strides, dilations, name)
    geometry = _Geometry(strides, pads, dilations, check_int(groups, "groups", name, minimum=1))
    _check_shapes(name, n, input.shape, weight.shape, bias, geometry)
    if input.ndim == n + 1:
        return _convolve(input[None], weight, bias, geometry)[0]
    return _convolve(input, weight, bias, geometry)


def _pads(
    padding: IntOrInts | str,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    name: str,
) -> tuple[tuple[int, int], ...]:
    if padding == "valid":
        return ((0, 0),) * len(kernel_size)
    if padding == "same":
        if any(step != 1 for step in stride):
            raise ValueError(f'{name}: `padding` "same" needs a stride of 1, got {stride}')
        return tuple(same_padding(kernel_size, dilation))
    if isinstance(padding, str):
        raise ValueError(f'{name}: `padding` must be ints, "same" or "valid", got {padding!r}')
    return tuple((p, p) for p in ntuple(padding, len(kernel_size), "padding", name, minimum=0))


def _check_shapes(
    name: str,
    n: int,
    input: tuple[int, ...],
    weight: tuple[int, ...],
    bias: jax.Array | None,
    geometry: _Geometry,
) -> None:
    if len(input) not in (n + 1, n + 2):
        raise ValueError(
            f"{name}: `input` must have {n + 2} dimensions (N, C and {n} spatial), or {n + 1} "
            f"without N, got shape {input}"
        )
    groups = geometry.groups
    if weight[0] % groups:
        raise ValueError(
            f"{name}: `groups` must divide the weight's out_channels={weight[0]}, got {groups}"
        )
    if input[-n - 1] != weight[1] * groups:
        raise ValueError(
            f"{name}: `input` must have {weight[1] * groups} channels for a weight of shape "
            f"{weight} and groups={groups}, got {input[-n - 1]} in shape {input}"
        )
    if bias is not None and bias.shape != weight[:1]:
        raise ValueError(f"{name}: `bias` must have shape ({weight[0]},), got {bias.shape}")
    kernel = [d * (k - 1) + 1 for d, k in zip(geometry.dilation, weight[2:], strict=True)]
    padded = [s + sum(p) for s, p in zip(input[-n:], geometry.padding, strict=True)]
    for size, covered, original in zip(padded, kernel, input[-n:], strict=True):
        # A symbolic size cannot be compared.
        if isinstance(size, int) and (size < covered or original == 0):
            raise ValueError(
                f"{name}: the kernel, which covers {tuple(kernel)}, must fit into the padded "
                f"input, whose size is {tuple(padded)}"
            )
    if 0 in weight[2:]:
        raise ValueError(f"{name}: `weight` must have a kernel, got shape {weight}")


# `inline`, because XLA recognises fewer convolutions in a function that is called.
@partial(jax.jit, static_argnames="geometry", inline=True)
def _convolve(
    input: jax.Array, weight: jax.Array, bias: jax.Array | None, geometry: _Geometry
) -> jax.Array:
    is_float = jnp.issubdtype(input.dtype, jnp.floating)
    convolution = _bilinear if is_float else _native
    output = convolution(input, weight, geometry)
    if bias is not None:
        wide_bias = bias.astype(output.dtype)
        output = output + lax.broadcast_in_dim(wide_bias, output.shape, (1,))
    return output.astype(input.dtype)


def _native(input: jax.Array, weight: jax.Array, geometry: _Geometry) -> jax.Array:
    spatial = "DHW"[3 - len(geometry.stride) :]
    return lax.conv_general_dilated(
        input,
        weight,
        window_strides=geometry.stride,
        padding=geometry.padding,
        rhs_dilation=geometry.dilation,
        dimension_numbers=(f"NC{spatial}", f"OI{spatial}", f"NC{spatial}"),
        feature_group_count=geometry.groups,
    )


# On a CPU, XLA is fast at plain convolutions, but slow at grouped ones, at kernels of one tap, and
# at the weight's gradient. So the values, the derivative through the input and the derivative
# through the weight, which are one function, linear in each argument, are each written in the way
# that is fast, the derivatives also when they are transposed to gradients.

_Formulation = Callable[[jax.Array, jax.Array, _Geometry], jax.Array]


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _bilinear(input: jax.Array, weight: jax.Array, geometry: _Geometry) -> jax.Array:
    """The convolution, in the accumulation dtype."""
    return _by_platform(_values_on_cpu, geometry, input, weight)


@_bilinear.defjvp
def _bilinear_jvp(
    geometry: _Geometry,
    primals: tuple[jax.Array, jax.Array],
    tangents: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array]:
    input, weight = primals
    d_input, d_weight = tangents
    # Checkpointed, since what they derive from `input` is as large as it is, and so that the
    # choice of the platform is part of the backward pass and no input to it.
    through_input, through_weight = (
        jax.checkpoint(partial(_by_platform, on_cpu, geometry), prevent_cse=False)
        for on_cpu in (_through_input_on_cpu, _through_weight_on_cpu)
    )
    d_output = through_input(d_input, weight) + through_weight(input, d_weight)
    return _bilinear(input, weight, geometry), d_output


def _by_platform(
    on_cpu: _Formulation, geometry: _Geometry, input: jax.Array, weight: jax.Array
) -> jax.Array:
    wide = accumulation_dtype(input.dtype)

    def cpu(input: jax.Array, weight: jax.Array) -> jax.Array:
        return on_cpu(input.astype(wide), weight.astype(wide), geometry)

    def default(input: jax.Array, weight: jax.Array) -> jax.Array:
        return _native(input, weight, geometry).astype(wide)

    return lax.platform_dependent(input, weight, cpu=cpu, default=default)


def _values_on_cpu(input: jax.Array, weight: jax.Array, geometry: _Geometry) -> jax.Array:
    if geometry.groups > 1 and math.prod(weight.shape[1:]) <= _MAX_TAPS:
        return _by_taps(input, weight, geometry)
    return _by_group(_native, input, weight, geometry)


def _through_input_on_cpu(input: jax.Array, weight: jax.Array, geometry: _Geometry) -> jax.Array:
    return _derivative_on_cpu(_native, input, weight, geometry)


def _through_weight_on_cpu(input: jax.Array, weight: jax.Array, geometry: _Geometry) -> jax.Array:
    return _derivative_on_cpu(_unfolded, input, weight, geometry)


def _derivative_on_cpu(
    formulation: _Formulation, input: jax.Array, weight: jax.Array, geometry: _Geometry
) -> jax.Array:
    is_depthwise = geometry.groups > 1 and weight.shape[1] == 1
    if is_depthwise and math.prod(weight.shape[2:]) <= _MAX_TAPS:
        return _by_taps(input, weight, geometry)
    return _by_group(formulation, input, weight, geometry)


def _by_group(
    formulation: _Formulation, input: jax.Array, weight: jax.Array, geometry: _Geometry
) -> jax.Array:
    """A convolution for each group, where they are few."""
    groups = geometry.groups
    if groups == 1:
        return _dense(formulation, input, weight, geometry)
    if groups > _MAX_GROUPS:
        return _unfolded(input, weight, geometry)
    pairs = zip(jnp.split(input, groups, axis=1), jnp.split(weight, groups, axis=0), strict=True)
    single = geometry._replace(groups=1)
    return jnp.concatenate([_dense(formulation, x, w, single) for x, w in pairs], axis=1)


def _dense(
    formulation: _Formulation, input: jax.Array, weight: jax.Array, geometry: _Geometry
) -> jax.Array:
    """A convolution without groups: a matrix product where the kernel has one tap."""
    is_pointwise = math.prod(weight.shape[2:]) == 1
    if is_pointwise and not any(sum(pads) for pads in geometry.padding) and not _is_sharded(input):
        return _pointwise(input, weight, geometry.stride)
    return formulation(input, weight, geometry)


def _is_sharded(array: jax.Array) -> bool:
    """Whether types tell that a dimension is spread over devices, so that it cannot be scanned."""
    return any(axis is not None for axis in jax.typeof(array).sharding.spec)


def _pointwise(input: jax.Array, weight: jax.Array, stride: tuple[int, ...]) -> jax.Array:
    """A kernel of one tap: a matrix product for each sample."""
    input = input[:, :, *(slice(None, None, step) for step in stride)]
    matrix = weight.reshape(weight.shape[:2])
    size = math.prod(input.shape[2:])
    flat = input.reshape(*input.shape[:2], size)
    if isinstance(size, int) and size >= 32:
        output = lax.map(lambda sample: matrix @ sample, flat)
    else:
        # A product of the whole batch, whose transposition costs little at this size.
        output = lax.dot_general(flat, matrix, (((1,), (1,)), ((), ()))).swapaxes(1, 2)
    return output.reshape(input.shape[0], matrix.shape[0], *input.shape[2:])


def _by_taps(input: jax.Array, weight: jax.Array, geometry: _Geometry) -> jax.Array:
    """Few channels a group: a sum of shifted channels, each times one element of the kernel."""
    batch, groups = input.shape[0], geometry.groups
    taps = [
        tap.reshape(batch, groups, weight.shape[1], *tap.shape[2:])
        for tap in _taps(input, weight.shape[2:], geometry)
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


def _unfolded(input: jax.Array, weight: jax.Array, geometry: _Geometry) -> jax.Array:
    """Matrix products for each sample and group, whose transposes, the gradients, are such too."""
    groups, sizes = geometry.groups, _output_sizes(input, weight.shape[2:], geometry)
    columns = math.prod(sizes) * math.prod(weight.shape[1:]) * groups
    is_small = isinstance(columns, int) and columns <= _MAX_COLUMNS
    if _is_sharded(input) or math.prod(weight.shape[2:]) > _MAX_TAPS or not is_small:
        return _native(input, weight, geometry)
    matrices = weight.reshape(groups, weight.shape[0] // groups, math.prod(weight.shape[1:]))

    # The unfolded samples are made again for the gradient, since they are large.
    @jax.checkpoint
    def convolve_sample(sample: jax.Array) -> jax.Array:
        taps = _taps(sample[None], weight.shape[2:], geometry)
        unfolded = jnp.stack([tap[0] for tap in taps], axis=1)
        unfolded = unfolded.reshape(groups, matrices.shape[2], math.prod(sizes))
        output = matrices[0] @ unfolded[0] if groups == 1 else lax.batch_matmul(matrices, unfolded)
        return output.reshape(weight.shape[0], *sizes)

    return lax.map(convolve_sample, input)


def _output_sizes(
    input: jax.Array, kernel_size: tuple[int, ...], geometry: _Geometry
) -> tuple[int, ...]:
    return tuple(
        (size + sum(pads) - step * (kernel - 1) - 1) // stride + 1
        for size, pads, kernel, step, stride in zip(
            input.shape[2:],
            geometry.padding,
            kernel_size,
            geometry.dilation,
            geometry.stride,
            strict=True,
        )
    )


def _taps(input: jax.Array, kernel_size: tuple[int, ...], geometry: _Geometry) -> list[jax.Array]:
    """Return, for each tap of the kernel, what it meets at the window's positions."""
    padded = jnp.pad(input, ((0, 0), (0, 0), *geometry.padding))
    sizes = _output_sizes(input, kernel_size, geometry)
    taps = []
    for position in itertools.product(*(range(size) for size in kernel_size)):
        starts = [i * step for i, step in zip(position, geometry.dilation, strict=True)]
        windows = (
            slice(start, start + (size - 1) * stride + 1, stride)
            for start, size, stride in zip(starts, sizes, geometry.stride, strict=True)
        )
        taps.append(padded[:, :, *windows])
    return taps
