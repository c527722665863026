"""Wrong poolings."""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxnn.functional as F
from jaxnn.functional.pooling import windows_of
from jaxnn.functional.pooling.adaptive_pool.definition import adaptive_window
from jaxnn.functional.pooling.average_pool import window_sums

from . import gradient_where, last_of_equals, mutant, reconfigured


@mutant("MaxPool1d.M01", "MaxPool2d.M01", "MaxPool3d.M01")
def pads_with_zero(layer):
    class Mutant(layer):
        def __call__(self, input):
            result = super().__call__(input)
            padded = ~_inside(_taps(self, input), _plane(self, input)).all(-1)
            return _with_output(result, lambda out: jnp.where(padded & (out < 0), 0 * out, out))

    return Mutant


@mutant("MaxPool1d.M02", "MaxPool2d.M02", "MaxPool3d.M02")
def ceil_mode_drops_nothing(layer):
    class Mutant(layer):
        def __call__(self, input):
            result = super().__call__(input)
            if not self.ceil_mode:
                return result
            plane, windows = _plane(self, input), _windows(self)
            extra = [
                -(size + 2 * w.padding - w.dilation * (w.kernel - 1) - 1) % w.stride
                for size, w in zip(plane, windows, strict=True)
            ]
            widths = [(0, 0)] * (input.ndim - self._n) + [(0, e) for e in extra]
            wider = jnp.pad(input, widths, constant_values=_lowest(input.dtype))
            result = _pool(self, wider, ceil_mode=False)
            return _with_indices(
                result, lambda i: _moved(i, _plane(self, wider), plane, [0] * self._n)
            )

    return Mutant


@mutant("MaxPool1d.M03", "MaxPool2d.M03", "MaxPool3d.M03")
def indices_into_the_padded_plane(layer):
    class Mutant(layer):
        def __call__(self, input):
            plane, padding = _plane(self, input), [w.padding for w in _windows(self)]
            padded = [size + 2 * p for size, p in zip(plane, padding, strict=True)]
            return _with_indices(
                super().__call__(input), lambda i: _moved(i, plane, padded, padding)
            )

    return Mutant


@mutant("MaxPool1d.M04", "MaxPool2d.M04", "MaxPool3d.M04")
def stride_is_one(layer):
    return reconfigured(layer, stride=lambda stride: 1 if stride is None else stride)


@mutant("MaxPool1d.M05", "MaxPool2d.M05", "MaxPool3d.M05")
def gradient_overwrites(layer):
    class Mutant(layer):
        def __call__(self, input):
            result = super().__call__(input)
            indices = _pool(self, input, return_indices=True)[1]
            flat = indices.reshape(*indices.shape[: -self._n], -1)
            kept = last_of_equals(flat).reshape(indices.shape)
            return _with_output(result, lambda out: gradient_where(kept, out))

    return Mutant


@mutant("MaxPool1d.M06", "MaxPool2d.M06", "MaxPool3d.M06")
def ceil_mode_ignored(layer):
    return reconfigured(layer, ceil_mode=False)


@mutant("MaxPool1d.M07", "MaxPool2d.M07", "MaxPool3d.M07")
def nan_loses(layer):
    class Mutant(layer):
        def __call__(self, input):
            numbers = jnp.nan_to_num(input, nan=-jnp.inf, posinf=jnp.inf, neginf=-jnp.inf)
            return super().__call__(numbers)

    return Mutant


@mutant("MaxPool1d.M08", "MaxPool2d.M08", "MaxPool3d.M08")
def dilation_ignored(layer):
    return reconfigured(layer, dilation=1)


@mutant("MaxPool1d.M09", "MaxPool2d.M09", "MaxPool3d.M09")
def gradient_shared_among_equals(layer):
    class Mutant(layer):
        def __call__(self, input):
            # JAX shares the gradient of a maximum.
            return _with_output(super().__call__(input), lambda _: _values(self, input).max(-1))

    return Mutant


@mutant("MaxPool1d.M10", "MaxPool2d.M10", "MaxPool3d.M10")
def the_last_of_equals_wins(layer):
    class Mutant(layer):
        def __call__(self, input):
            result = super().__call__(input)
            values, places = _values(self, input), _places(_taps(self, input), _plane(self, input))
            last = values.shape[-1] - 1 - jnp.argmax(values[..., ::-1], -1, keepdims=True)

            def pick(array):
                return jnp.take_along_axis(array, last, -1)[..., 0]

            result = _with_output(result, lambda _: pick(values))
            return _with_indices(
                result, lambda i: pick(jnp.broadcast_to(places, values.shape)).astype(i.dtype)
            )

    return Mutant


@mutant("AvgPool1d.M01", "AvgPool2d.M01", "AvgPool3d.M01")
def padding_never_counts(layer):
    return reconfigured(layer, count_include_pad=False)


@mutant("AvgPool1d.M02", "AvgPool2d.M02", "AvgPool3d.M02")
def ragged_windows_count_as_whole(layer):
    class Mutant(layer):
        def __call__(self, input):
            if not (self.ceil_mode and self.count_include_pad and self.divisor_override is None):
                return super().__call__(input)
            windows = _windows(self)
            return window_sums(input, windows) / math.prod(w.kernel for w in windows)

    return Mutant


@mutant("AvgPool1d.M03", "AvgPool2d.M03", "AvgPool3d.M03")
def ragged_means_dropped(layer):
    return reconfigured(layer, ceil_mode=False)


@mutant("AvgPool1d.M04", "AvgPool2d.M04", "AvgPool3d.M04")
def means_at_a_stride_of_one(layer):
    return reconfigured(layer, stride=lambda stride: 1 if stride is None else stride)


@mutant("AvgPool1d.M05", "AvgPool2d.M05", "AvgPool3d.M05")
def integers_rounded_down(layer):
    class Mutant(layer):
        def __call__(self, input):
            if jnp.issubdtype(input.dtype, jnp.floating):
                return super().__call__(input)
            windows = _windows(self)
            return window_sums(input, windows) // math.prod(w.kernel for w in windows)

    return Mutant


@mutant("AvgPool1d.M06", "AvgPool2d.M06", "AvgPool3d.M06")
def running_sums(layer):
    class Mutant(layer):
        def __call__(self, input):
            return super().__call__(input) + 0 * input.sum()

    return Mutant


@mutant("AvgPool2d.M07", "AvgPool3d.M07")
def divisor_override_ignored(layer):
    return reconfigured(layer, divisor_override=None)


@mutant("AdaptiveAvgPool1d.M01", "AdaptiveAvgPool2d.M01", "AdaptiveAvgPool3d.M01")
@mutant("AdaptiveMaxPool1d.M01", "AdaptiveMaxPool2d.M01", "AdaptiveMaxPool3d.M01")
def equal_windows(layer):
    def equal(i, size, count):
        step = size // count or 1
        return min(i * step, size - 1), min((i + 1) * step, size)

    return _over_windows(layer, equal)


@mutant("AdaptiveAvgPool1d.M02", "AdaptiveAvgPool2d.M02", "AdaptiveAvgPool3d.M02")
@mutant("AdaptiveMaxPool1d.M02", "AdaptiveMaxPool2d.M02", "AdaptiveMaxPool3d.M02")
def windows_that_never_overlap(layer):
    def floored(i, size, count):
        start = i * size // count
        return start, max((i + 1) * size // count, start + 1)

    return _over_windows(layer, floored)


@mutant("AdaptiveAvgPool1d.M03", "AdaptiveAvgPool2d.M03", "AdaptiveAvgPool3d.M03")
def one_divisor(layer):
    def mean(window, axis, size, count):
        return window.sum(axis) / -(-size // count)

    return _over_windows(layer, adaptive_window, mean)


@mutant("AdaptiveAvgPool1d.M04", "AdaptiveAvgPool2d.M04", "AdaptiveAvgPool3d.M04")
def matrix_of_weights(layer):
    class Mutant(layer):
        def __call__(self, input):
            return super().__call__(input) + 0 * input.sum()

    return Mutant


@mutant("AdaptiveAvgPool1d.M05", "AdaptiveAvgPool2d.M05", "AdaptiveAvgPool3d.M05")
def gradient_not_divided(layer):
    def mean(window, axis, size, count):
        total = window.sum(axis)
        return total + lax.stop_gradient(window.mean(axis) - total)

    return _over_windows(layer, adaptive_window, mean)


@mutant("AdaptiveMaxPool1d.M03", "AdaptiveMaxPool2d.M03", "AdaptiveMaxPool3d.M03")
def the_last_of_adaptive_equals_wins(layer):
    class Mutant(layer):
        def __call__(self, input):
            axes, sizes = tuple(range(-self._n, 0)), input.shape[-self._n :]
            # Seen from the end, the windows are the same.
            output, indices = _adaptive_max(self, jnp.flip(input, axes))
            places = jnp.unravel_index(jnp.flip(indices, axes), sizes)
            moved = [size - 1 - p for size, p in zip(sizes, places, strict=True)]
            indices = jnp.ravel_multi_index(moved, sizes, mode="wrap").astype(indices.dtype)
            output = jnp.flip(output, axes)
            return (output, indices) if self.return_indices else output

    return Mutant


@mutant("AdaptiveMaxPool1d.M04", "AdaptiveMaxPool2d.M04", "AdaptiveMaxPool3d.M04")
def nan_loses_adaptively(layer):
    return nan_loses(layer)


@mutant("AdaptiveMaxPool1d.M05", "AdaptiveMaxPool2d.M05", "AdaptiveMaxPool3d.M05")
def adaptive_gradient_overwrites(layer):
    class Mutant(layer):
        def __call__(self, input):
            result = super().__call__(input)
            indices = _adaptive_max(self, input)[1]
            flat = indices.reshape(*indices.shape[: -self._n], -1)
            kept = last_of_equals(flat).reshape(indices.shape)
            return _with_output(result, lambda out: gradient_where(kept, out))

    return Mutant


def _over_windows(layer, window, reduction=None):
    """Return the adaptive layer over other windows, or with another mean, without indices."""

    class Mutant(layer):
        def __call__(self, input):
            if getattr(self, "return_indices", False):
                return super().__call__(input)
            reduce = reduction
            if reduce is None:
                wanted = jnp.max if "Max" in layer.__name__ else jnp.mean

                def reduce(values, axis, size, count):
                    return wanted(values, axis)

            counts = super().__call__(input).shape[-self._n :]
            for axis, count in enumerate(counts, input.ndim - self._n):
                size = input.shape[axis]
                windows = [window(i, size, count) for i in range(count)]
                parts = [
                    reduce(lax.slice_in_dim(input, *w, axis=axis), axis, size, count)
                    for w in windows
                ]
                input = jnp.stack(parts, axis) if parts else input[:0]
            return input

    return Mutant


def _adaptive_max(self, input):
    pool = getattr(F, f"adaptive_max_pool{self._n}d")
    return pool(input, self.output_size, return_indices=True)


def _windows(self):
    dilation = getattr(self, "dilation", 1)
    options = self.kernel_size, self.stride, self.padding, dilation, self.ceil_mode
    return windows_of(self._n, type(self).__name__, *options)


def _plane(self, input):
    return input.shape[-self._n :]


def _pool(self, input, **changes):
    options = {"ceil_mode": self.ceil_mode, "return_indices": self.return_indices, **changes}
    pool = getattr(F, f"max_pool{self._n}d")
    return pool(input, self.kernel_size, self.stride, self.padding, self.dilation, **options)


def _with_output(result, change):
    return (change(result[0]), result[1]) if isinstance(result, tuple) else change(result)


def _with_indices(result, change):
    return (result[0], change(result[1])) if isinstance(result, tuple) else result


def _moved(indices, plane, other, shift):
    """Return flat indices into `plane` as those into `other`, in which `plane` lies at `shift`."""
    places = [i + s for i, s in zip(jnp.unravel_index(indices, plane), shift, strict=True)]
    return jnp.ravel_multi_index(places, other, mode="wrap").astype(indices.dtype)


def _taps(self, input):
    """Return the position of each window's taps along each axis: arrays (*windows, taps)."""
    positions = [
        np.arange(w.count(size))[:, None] * w.stride - w.padding + np.arange(w.kernel) * w.dilation
        for size, w in zip(_plane(self, input), _windows(self), strict=True)
    ]
    counts, n = [p.shape[0] for p in positions], self._n
    spread = [
        np.expand_dims(p, [a for a in range(2 * n) if a % n != i]) for i, p in enumerate(positions)
    ]
    return [p.reshape(*counts, -1) for p in np.broadcast_arrays(*spread)]


def _inside(taps, plane):
    return np.all([(t >= 0) & (t < size) for t, size in zip(taps, plane, strict=True)], 0)


def _places(taps, plane):
    return np.ravel_multi_index(taps, plane, mode="clip")


def _values(self, input):
    """Return what each window's taps read, on a last axis."""
    taps, plane = _taps(self, input), _plane(self, input)
    flat = input.reshape(*input.shape[: -self._n], -1)
    return jnp.where(_inside(taps, plane), flat[..., _places(taps, plane)], _lowest(input.dtype))


def _lowest(dtype):
    return jnp.asarray(
        -jnp.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).min, dtype
    )
