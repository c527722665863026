"""Wrong poolings."""

import jax.numpy as jnp
import numpy as np

import jaxnn.functional as F
from jaxnn.functional.pooling import windows_of

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


def _windows(self):
    options = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
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
