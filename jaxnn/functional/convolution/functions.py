"""Convolutions, over one core for any number of spatial dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num

from ..._checks import check_array, check_int, check_same_dtype, ntuple
from ..._types import IntOrInts
from .convolve import convolve, convolve_transposed
from .definition import Geometry, output_sizes


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
        stride: the step of the window, one number, or one for each dimension.
        padding: the zeros on both sides, likewise; or "valid" for none, or "same" for as many as
            keep the size, with the odd one at the end.
        dilation: the step between the kernel's taps.
        groups: into how many groups the channels are divided.

    Raises:
        TypeError: if the dtypes differ, or are bool, or an option is not an int.
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


def conv_transpose1d(
    input: Num[Array, "*N C L"],
    weight: Num[Array, "C out/groups kL"],
    bias: Num[Array, "out"] | None = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> Num[Array, "*N out L_out"]:
    """Apply the transpose of a convolution along one dimension; see `conv_transpose2d`.

    Shapes: input (N, C, L) or (C, L), weight (C, out / groups, kL), bias (out).

    Raises:
        TypeError, ValueError: as `conv_transpose2d`.

    Source: torch.nn.functional.conv_transpose1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x, w = jnp.array([[1.0, 2.0]]), jnp.array([[[1.0, 10.0, 100.0]]])
        >>> jaxnn.functional.conv_transpose1d(x, w, stride=2)
        Array([[  1.,  10., 102.,  20., 200.]], dtype=float32)
    """
    return _conv_transpose(
        1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d(
    input: Num[Array, "*N C H W"],
    weight: Num[Array, "C out/groups kH kW"],
    bias: Num[Array, "out"] | None = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> Num[Array, "*N out H_out W_out"]:
    """Apply the transpose of a convolution along two dimensions: the gradient of `conv2d`.

    y[n, o, q] = b[o] + the sum of w[c, o, k] x[n, c, p] over all c, k and p for which
    stride * p + dilation * k - padding = q, where c runs over the channels of o's group.

    Shapes: input (N, C, H, W) or (C, H, W), weight (C, out / groups, kH, kW), bias (out); the
    output's size is (H - 1) stride - 2 padding + dilation (kH - 1) + output_padding + 1.

    Dtypes: any number but bool, the same for all. Half precision is accumulated in float32.

    Args:
        input: the images.
        weight: the kernels.
        bias: what is added to each output channel.
        stride: the step between the places of the input's elements, one number, or one for each
            dimension.
        padding: how much is cut off on both sides of the output, likewise.
        output_padding: how much longer the output is at its end, likewise.
        groups: into how many groups the channels are divided.
        dilation: the step between the kernel's taps, likewise.

    Raises:
        TypeError: if the dtypes differ, or are bool, or an option is not an int.
        ValueError: if an option is out of bounds, a shape does not fit, `output_padding` is
            neither smaller than the stride nor than the dilation, or nothing is left.

    Source: torch.nn.functional.conv_transpose2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x, w = jnp.array([[[1.0, 2.0]]]), jnp.array([[[[1.0, 10.0]]]])
        >>> jaxnn.functional.conv_transpose2d(x, w)
        Array([[[ 1., 12., 20.]]], dtype=float32)
    """
    return _conv_transpose(
        2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose3d(
    input: Num[Array, "*N C D H W"],
    weight: Num[Array, "C out/groups kD kH kW"],
    bias: Num[Array, "out"] | None = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> Num[Array, "*N out D_out H_out W_out"]:
    """Apply the transpose of a convolution along three dimensions; see `conv_transpose2d`.

    Shapes: input (N, C, D, H, W) or (C, D, H, W), weight (C, out / groups, kD, kH, kW), bias (out).

    Raises:
        TypeError, ValueError: as `conv_transpose2d`.

    Source: torch.nn.functional.conv_transpose3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x, w = jnp.ones((1, 1, 1, 1)), jnp.ones((1, 1, 1, 1, 2))
        >>> jaxnn.functional.conv_transpose3d(x, w)
        Array([[[[1., 1.]]]], dtype=float32)
    """
    return _conv_transpose(
        3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_tbc(
    input: Num[Array, "T N C"],
    weight: Num[Array, "kT C out"],
    bias: Num[Array, "out"],
    pad: int = 0,
) -> Num[Array, "T_out N out"]:
    """Convolve along time, where time comes first and the channels last.

    y[t, n, o] = b[o] + sum over c, k of w[k, c, o] x[t + k - pad, n, c], where x is zero outside.

    Shapes: input (T, N, C), weight (kT, C, out), bias (out) -> (T + 2 pad - kT + 1, N, out).

    Dtypes: any number but bool, the same for all. Half precision is accumulated in float32.

    Args:
        input: the sequences.
        weight: the kernels.
        bias: what is added to each output channel.
        pad: the steps of zeros before and after; a negative number crops.

    Raises:
        TypeError: if the dtypes differ, or are bool, or `pad` is not an int.
        ValueError: if a shape does not fit, or the kernel exceeds the input by more than a step.

    Source: torch.nn.functional.conv_tbc.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x, w = jnp.array([[[1.0]], [[2.0]], [[3.0]]]), jnp.array([[[1.0]], [[10.0]]])
        >>> jaxnn.functional.conv_tbc(x, w, jnp.zeros(1)).ravel()
        Array([21., 32.], dtype=float32)
    """
    name = "conv_tbc"
    input, weight, bias_or_none = _checked_arrays(name, input, weight, bias)
    pad = check_int(pad, "pad", name)
    if input.ndim != 3 or weight.ndim != 3:
        raise ValueError(
            f"{name}: `input` must have 3 dimensions (T, N, C) and `weight` too (kT, C, out), got "
            f"shapes {input.shape} and {weight.shape}"
        )
    if input.shape[2] != weight.shape[1] or bias.shape != weight.shape[2:]:
        raise ValueError(
            f"{name}: `weight` must have the input's {input.shape[2]} channels, and `bias` the "
            f"weight's {weight.shape[2]}, got shapes {weight.shape} and {bias.shape}"
        )
    if 0 in weight.shape:
        raise ValueError(f"{name}: `weight` must not be empty, got shape {weight.shape}")
    size = input.shape[0] + 2 * pad - weight.shape[0] + 1
    # A symbolic size cannot be compared.
    if isinstance(size, int) and size < 0:
        raise ValueError(f"{name}: the output's size must not be negative, but is {size}")
    geometry = Geometry((1,), ((pad, pad),), (1,), 1, (1,))
    output = convolve(input.transpose(1, 2, 0), weight.transpose(2, 1, 0), bias_or_none, geometry)
    return output.transpose(2, 0, 1)


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
    input, weight, bias = _checked_arrays(name, input, weight, bias)
    if weight.ndim != n + 2:
        raise ValueError(
            f"{name}: `weight` must have {n + 2} dimensions (out_channels, in_channels / groups, "
            f"and {n} of the kernel), got shape {weight.shape}"
        )
    strides = ntuple(stride, n, "stride", name, minimum=1)
    dilations = ntuple(dilation, n, "dilation", name, minimum=1)
    pads = _pads(padding, weight.shape[2:], strides, dilations, name)
    groups = check_int(groups, "groups", name, minimum=1)
    geometry = Geometry(strides, pads, dilations, groups, (1,) * n)
    _check_shapes(name, n, input.shape, weight.shape, bias, geometry)
    if input.ndim == n + 1:
        return convolve(input[None], weight, bias, geometry)[0]
    return convolve(input, weight, bias, geometry)


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
    geometry: Geometry,
) -> None:
    _check_rank(name, n, input)
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


def _conv_transpose(
    n: int,
    input: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    stride: IntOrInts,
    padding: IntOrInts,
    output_padding: IntOrInts,
    groups: int,
    dilation: IntOrInts,
) -> jax.Array:
    name = f"conv_transpose{n}d"
    input, weight, bias = _checked_arrays(name, input, weight, bias)
    if weight.ndim != n + 2:
        raise ValueError(
            f"{name}: `weight` must have {n + 2} dimensions (in_channels, out_channels / groups, "
            f"and {n} of the kernel), got shape {weight.shape}"
        )
    strides = ntuple(stride, n, "stride", name, minimum=1)
    dilations = ntuple(dilation, n, "dilation", name, minimum=1)
    longer = ntuple(output_padding, n, "output_padding", name, minimum=0)
    if any(o >= max(s, d) for o, s, d in zip(longer, strides, dilations, strict=True)):
        raise ValueError(
            f"{name}: `output_padding` must be smaller than the stride {strides} or the dilation "
            f"{dilations}, got {longer}"
        )
    # Zeros between and around the input's elements: all that the kernel meets.
    rims = [d * (k - 1) for d, k in zip(dilations, weight.shape[2:], strict=True)]
    cuts = ntuple(padding, n, "padding", name, minimum=0)
    pads = tuple((r - c, r - c + o) for r, c, o in zip(rims, cuts, longer, strict=True))
    groups = check_int(groups, "groups", name, minimum=1)
    geometry = Geometry((1,) * n, pads, dilations, groups, strides)
    _check_transposed_shapes(name, n, input, weight, bias, geometry)
    if input.ndim == n + 1:
        return convolve_transposed(input[None], weight, bias, geometry)[0]
    return convolve_transposed(input, weight, bias, geometry)


def _check_transposed_shapes(
    name: str,
    n: int,
    input: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    geometry: Geometry,
) -> None:
    _check_rank(name, n, input.shape)
    channels = input.shape[-n - 1]
    if weight.shape[0] != channels or channels % geometry.groups:
        raise ValueError(
            f"{name}: `input` must have the {weight.shape[0]} channels of the weight, a multiple "
            f"of groups={geometry.groups}, got {channels} in shape {input.shape}"
        )
    outputs = weight.shape[1] * geometry.groups
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"{name}: `bias` must have shape ({outputs},), got {bias.shape}")
    if 0 in weight.shape:
        raise ValueError(f"{name}: `weight` must not be empty, got shape {weight.shape}")
    sizes = output_sizes(input.shape[-n:], weight.shape[2:], geometry)
    for before, after in zip(input.shape[-n:], sizes, strict=True):
        # A symbolic size cannot be compared.
        if isinstance(before, int) and (before == 0 or after < 1):
            raise ValueError(
                f"{name}: the input must not be empty, nor may `padding` cut off all of the "
                f"output, got shape {input.shape} and an output of sizes {sizes}"
            )


def _checked_arrays(
    name: str, input: jax.Array, weight: jax.Array, bias: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    input = check_array(input, "input", name)
    weight = check_array(weight, "weight", name)
    bias = None if bias is None else check_array(bias, "bias", name)
    check_same_dtype({"input": input, "weight": weight, "bias": bias}, name)
    if input.dtype == jnp.bool_:
        raise TypeError(f"{name}: `input` must be numbers, got bool; convert it with astype")
    return input, weight, bias


def _check_rank(name: str, n: int, shape: tuple[int, ...]) -> None:
    if len(shape) not in (n + 1, n + 2):
        raise ValueError(
            f"{name}: `input` must have {n + 2} dimensions (N, C and {n} spatial), or {n + 1} "
            f"without N, got shape {shape}"
        )
