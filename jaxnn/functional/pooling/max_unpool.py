"""Max unpooling, the partial inverse of max pooling: an N-d core, and thin functions over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._checks import check_array, check_floating, check_int, is_readable, ntuple
from ..._config import check_indices
from ..._types import IntOrInts
from ._windows import check_rank


def max_unpool1d(
    input: Float[Array, "*N C L"],
    indices: Int[Array, "*N C L"],
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    output_size: Sequence[int] | None = None,
) -> Float[Array, "*N C L_out"]:
    """Put each value at its index along the last axis, and zero elsewhere; see `max_unpool2d`.

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out).

    Raises:
        TypeError, ValueError, IndexError: as `max_unpool2d`.

    Source: Zeiler et al., 2011; torch.nn.functional.max_unpool1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.max_unpool1d(jnp.array([[3.0, 5.0]]), jnp.array([[0, 3]]), 2)
        Array([[3., 0., 0., 5.]], dtype=float32)
    """
    return _max_unpool_nd(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Float[Array, "*N C H W"],
    indices: Int[Array, "*N C H W"],
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    output_size: Sequence[int] | None = None,
) -> Float[Array, "*N C H_out W_out"]:
    """Put each value at its index in the plane, and zero elsewhere.

    Formula:
        out[n, c].flat[indices[n, c, y, x]] = input[n, c, y, x]

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N, with H_out =
    (H - 1) * stride - 2 * padding + kernel_size, or what `output_size` says.

    Args:
        input: floating-point.
        indices: int32 or int64 positions h * W_out + w in the output, as max pooling gives them.
            Which value stays where an index comes twice is not defined.
        kernel_size: positions in a window of the pooling; this and the next two, one number or one
            for each axis.
        stride: step of the pooling, None for `kernel_size`.
        padding: padding of the pooling.
        output_size: (H_out, W_out), or the output's whole shape with a batch; each less than one
            stride from the size above.

    Returns:
        The unpooled array, of the input's dtype. Where ids cannot be checked, as under `jax.jit`,
        what lies outside is dropped.

    Raises:
        TypeError: if a dtype or an option is not of its type.
        ValueError: if an option is out of range, or the shapes do not fit.
        IndexError: if an index lies outside the output.

    Source: Zeiler et al., 2011; torch.nn.functional.max_unpool2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.max_unpool2d(jnp.array([[[7.0]]]), jnp.array([[[2]]]), 2)
        Array([[[0., 0.],
                [7., 0.]]], dtype=float32)
    """
    return _max_unpool_nd(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Float[Array, "*N C D H W"],
    indices: Int[Array, "*N C D H W"],
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    output_size: Sequence[int] | None = None,
) -> Float[Array, "*N C D_out H_out W_out"]:
    """Put each value at its index in the volume, and zero elsewhere; see `max_unpool2d`.

    Positions are (d * H_out + h) * W_out + w.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N.

    Raises:
        TypeError, ValueError, IndexError: as `max_unpool2d`.

    Source: Zeiler et al., 2011; torch.nn.functional.max_unpool3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.max_unpool3d(jnp.array([[[[7.0]]]]), jnp.array([[[[5]]]]), 2)
        Array([[[[0., 0.],
                 [0., 0.]],
        <BLANKLINE>
                [[0., 7.],
                 [0., 0.]]]], dtype=float32)
    """
    return _max_unpool_nd(3, input, indices, kernel_size, stride, padding, output_size)


def unpool_options(
    n: int,
    layer: str,
    kernel_size: IntOrInts,
    stride: IntOrInts | None,
    padding: IntOrInts,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Check the options of max unpooling over `n` axes, and return them along each axis.

    Raises:
        TypeError: if an option is not of its type.
        ValueError: if a size is too small, or a sequence has not `n` elements.
    """
    stride = kernel_size if stride is None else stride
    given = {"kernel_size": (kernel_size, 1), "stride": (stride, 1), "padding": (padding, 0)}
    for name, (value, _) in given.items():
        if isinstance(value, Sequence) and len(value) != n:
            raise ValueError(f"{layer}: `{name}` must be an int or {n} ints, got {value!r}")
    kernels, strides, paddings = (
        ntuple(value, n, name, layer, minimum) for name, (value, minimum) in given.items()
    )
    return kernels, strides, paddings


def _max_unpool_nd(
    n: int,
    input: Array,
    indices: Array,
    kernel_size: IntOrInts,
    stride: IntOrInts | None,
    padding: IntOrInts,
    output_size: Sequence[int] | None,
) -> Array:
    layer = f"max_unpool{n}d"
    kernels, strides, paddings = unpool_options(n, layer, kernel_size, stride, padding)
    input = check_array(input, "input", layer)
    check_rank(input, n, layer)
    check_floating(input, "input", layer)
    if any(size == 0 for size in input.shape[1:]):
        raise ValueError(
            f"{layer}: `input` may be empty only in the first dimension, got shape {input.shape}"
        )
    options = zip(input.shape[-n:], kernels, strides, paddings, strict=True)
    sizes = tuple((size - 1) * s + k - 2 * p for size, k, s, p in options)
    if output_size is not None:
        sizes = _chosen_sizes(layer, output_size, sizes, strides)
    if any(size < 0 for size in sizes):
        raise ValueError(f"{layer}: the output would have the negative size {sizes}")
    return _unpool(input, _checked_indices(layer, indices, input.shape, math.prod(sizes)), sizes)


def _chosen_sizes(
    layer: str, output_size: Sequence[int], default: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[int, ...]:
    """Return `output_size` along each axis, if it lies less than one stride from the default."""
    n = len(default)
    if not isinstance(output_size, Sequence) or isinstance(output_size, str):
        raise TypeError(f"{layer}: `output_size` must be {n} ints or None, got {output_size!r}")
    if len(output_size) not in (n, n + 2):
        raise ValueError(
            f"{layer}: `output_size` must have {n} or {n + 2} elements, got {output_size!r}"
        )
    sizes = tuple(check_int(size, "output_size", layer) for size in output_size[-n:])
    for size, middle, stride in zip(sizes, default, strides, strict=True):
        if not middle - stride < size < middle + stride:
            raise ValueError(
                f"{layer}: `output_size` must lie between {middle - stride} and {middle + stride}, "
                f"both excluded, got {size} in {tuple(output_size)}"
            )
    return sizes


def _checked_indices(layer: str, given: Array, shape: tuple[int, ...], size: int) -> Array:
    """Return the indices as an array, after what can be checked of them is.

    Raises:
        TypeError: if they are no int32 or int64.
        ValueError: if they have not the input's shape.
        IndexError: if one can be read and lies outside the output.
    """
    indices = check_array(given, "indices", layer)
    if indices.dtype not in (jnp.int32, jnp.int64):
        raise TypeError(
            f"{layer}: `indices` must be int64 or int32, got {indices.dtype}; convert them with "
            "indices.astype(int)"
        )
    if indices.shape != shape:
        raise ValueError(
            f"{layer}: `indices` must have the input's shape {shape}, got {indices.shape}"
        )
    # A NumPy array is checked as it came: without 64 bits the conversion wraps large ids around.
    concrete = given if isinstance(given, np.ndarray) else indices
    if check_indices.enabled and is_readable(concrete) and concrete.size and size:
        values = np.asarray(concrete)
        for index in (values.min(), values.max()):
            if not 0 <= index < size:
                raise IndexError(
                    f"{layer}: `indices` has {index}, but the output has {size} positions in each "
                    "channel; see `output_size`"
                )
    return indices


@partial(jax.jit, static_argnums=2, inline=True)
def _unpool(
    x: Float[Array, "..."], indices: Int[Array, "..."], sizes: tuple[int, ...]
) -> Float[Array, "..."]:
    n = len(sizes)
    if 0 in sizes:
        return jnp.zeros((*x.shape[:-n], *sizes), x.dtype)
    lead, count = math.prod(x.shape[:-n]), math.prod(x.shape[-n:])
    rows = jnp.arange(lead, dtype=indices.dtype)[:, None]
    out = jnp.zeros((lead, math.prod(sizes)), x.dtype)
    # Indices of max pooling without overlap are unique. Said so, the derivative is a gather: each
    # input has its output's cotangent, as in torch.
    out = out.at[rows, indices.reshape(lead, count)].set(
        x.reshape(lead, count), mode="drop", unique_indices=True, wrap_negative_indices=False
    )
    return out.reshape(*x.shape[:-n], *sizes)
