"""Windows that slide over the last axes: what max, average and power-average pooling share.

A window has `kernel` taps along each axis; tap j of window o reads position
o * stride - padding + j * dilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.core
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Num

from ..._checks import ntuple
from ..._types import IntOrInts
from .._taps import read_taps


class Window(NamedTuple):
    """How the windows lie along one axis."""

    kernel: int
    stride: int
    padding: int
    dilation: int
    ceil_mode: bool

    def count(self, size: int) -> int:
        """Return how many windows an axis of `size` has; `size` may be symbolic.

        With `ceil_mode` a last window may reach past the right padding, but none starts in it.
        """
        spare = size + 2 * self.padding - self.dilation * (self.kernel - 1) - 1
        if not self.ceil_mode:
            return spare // self.stride + 1
        reaching = -(-spare // self.stride) + 1
        starting_inside = -(-(size + self.padding) // self.stride)
        return jax.core.min_dim(reaching, starting_inside)

    def span(self, size: int) -> int:
        """Return how many positions, padding included, the windows over `size` positions span."""
        return (self.count(size) - 1) * self.stride + self.dilation * (self.kernel - 1) + 1

    def reach(self, size: int) -> int:
        """Return how many positions past the last of `size` the windows reach; may be symbolic."""
        return jax.core.max_dim(self.span(size) - size - self.padding, 0)


_SINGLE = Window(1, 1, 0, 1, False)


def along_each_axis(windows: tuple[Window, ...]) -> list[tuple[Window, ...]]:
    """Return, for each axis that they do not leave as it is, the windows along it alone."""
    return [
        tuple(window if i == axis else _SINGLE for i in range(len(windows)))
        for axis, window in enumerate(windows)
        if window.kernel > 1 or window.stride > 1 or window.padding
    ]


def windows_first(
    x: Num[Array, "..."], windows: tuple[Window, ...]
) -> tuple[Num[Array, "..."], tuple[Window, ...]]:
    """Return `x` with the axes that the windows slide over first, and the windows of every axis.

    So a TPU, where the last two axes of an array are the tiles of its memory, moves whole tiles.
    """
    n, axes = len(windows), tuple(range(x.ndim))
    others = (_SINGLE,) * (x.ndim - n)
    return x.transpose(axes[-n:] + axes[:-n]), windows + others


def windows_last(x: Num[Array, "..."], n: int) -> Num[Array, "..."]:
    """Return `x`, of which the windows slide over the first `n` axes, with these last again."""
    axes = tuple(range(x.ndim))
    return x.transpose(axes[n:] + axes[:n])


def windows_of(
    n: int,
    layer: str,
    kernel_size: IntOrInts,
    stride: IntOrInts | None,
    padding: IntOrInts,
    dilation: IntOrInts,
    ceil_mode: bool,
) -> tuple[Window, ...]:
    """Check the options of a pooling layer over `n` axes, and return the windows of each axis.

    Raises:
        TypeError: if an option is not of its type.
        ValueError: if a size is too small, or the padding exceeds half the kernel.
    """
    if not isinstance(ceil_mode, bool):
        raise TypeError(f"{layer}: `ceil_mode` must be True or False, got {ceil_mode!r}")
    kernels = ntuple(kernel_size, n, "kernel_size", layer, minimum=1)
    # torch reads an empty sequence like None.
    no_stride = stride is None or (isinstance(stride, Sequence) and len(stride) == 0)
    strides = kernels if no_stride else ntuple(stride, n, "stride", layer, minimum=1)
    paddings = ntuple(padding, n, "padding", layer, minimum=0)
    dilations = ntuple(dilation, n, "dilation", layer, minimum=1)
    for kernel, pad in zip(kernels, paddings, strict=True):
        if pad > kernel // 2:
            raise ValueError(
                f"{layer}: `padding` must be at most half of `kernel_size`, got padding {pad} with "
                f"kernel_size {kernel}; pad the input with jnp.pad before the layer"
            )
    return tuple(
        Window(*options, ceil_mode)
        for options in zip(kernels, strides, paddings, dilations, strict=True)
    )


def check_rank(input: Array, n: int, layer: str) -> None:
    """Refuse what has neither n + 1 dimensions (channels first) nor n + 2 (with a batch)."""
    sizes = "L" if n == 1 else ", ".join("DHW"[-n:])
    if input.ndim not in (n + 1, n + 2):
        raise ValueError(
            f"{layer}: `input` must have shape (N, C, {sizes}) or (C, {sizes}), got shape "
            f"{input.shape}; add or join dimensions with reshape"
        )


def check_input(input: Array, windows: tuple[Window, ...], layer: str) -> None:
    """Refuse a shape that does not fit the windows.

    Raises:
        ValueError: if the rank is wrong, or another than the batch dimension is empty, or no
            window fits.
    """
    n = len(windows)
    check_rank(input, n, layer)
    if any(size == 0 for size in input.shape[-n - 1 :]):
        raise ValueError(
            f"{layer}: `input` may be empty only in the batch dimension, got shape {input.shape}"
        )
    for size, window in zip(input.shape[-n:], windows, strict=True):
        # A symbolic size cannot be compared; that it is large enough is the exporter's to say.
        if isinstance(size, int) and window.count(size) < 1:
            raise ValueError(
                f"{layer}: `input` of shape {input.shape} is too small for kernel_size "
                f"{window.kernel}, dilation {window.dilation} and padding {window.padding}: no "
                "window fits; pad the input, or take a smaller kernel_size"
            )


def window_counts(shape: tuple[int, ...], windows: tuple[Window, ...]) -> list[int]:
    """Return how many windows lie along each of the last axes of `shape`."""
    return [w.count(size) for w, size in zip(windows, shape[-len(windows) :], strict=True)]


def reduction_of(shape: tuple[int, ...], windows: tuple[Window, ...]) -> dict[str, Any]:
    """Return the options of `lax.reduce_window` for windows over the last axes of `shape`."""
    kernels, strides, _, dilations, _ = zip(*windows, strict=True)
    others = (1,) * (len(shape) - len(windows))
    padding = [
        (w.padding, w.reach(n)) for w, n in zip(windows, shape[-len(windows) :], strict=True)
    ]
    return {
        "window_dimensions": (*others, *kernels),
        "window_strides": (*others, *strides),
        "padding": ((0, 0),) * len(others) + tuple(padding),
        "window_dilation": (*others, *dilations),
    }


def pad_to_windows(
    x: Num[Array, "..."], windows: tuple[Window, ...], value: float | int
) -> Num[Array, "..."]:
    """Pad (or crop, at the end) the last axes to what the windows span."""
    config = [(0, 0, 0)] * (x.ndim - len(windows))
    for size, window in zip(x.shape[-len(windows) :], windows, strict=True):
        config.append((window.padding, window.span(size) - size - window.padding, 0))
    return lax.pad(x, jnp.asarray(value, x.dtype), config)


def taps_of(x: Num[Array, "..."], windows: tuple[Window, ...], counts: list[int]) -> list[Array]:
    """Return, for each tap in row-major order, what it reads of the padded `x` in each window."""
    kernels, strides, _, dilations, _ = zip(*windows, strict=True)
    return read_taps(x, kernels, strides, dilations, counts)
