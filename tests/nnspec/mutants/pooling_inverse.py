"""Wrong unpoolings, and wrong power averages."""

import math

import jax.numpy as jnp

import jaxnn.functional as F
from jaxnn.functional.pooling import windows_of
from jaxnn.functional.pooling.average_pool import window_sums

from . import mutant, reconfigured


@mutant("MaxUnpool1d.M01", "MaxUnpool2d.M01", "MaxUnpool3d.M01")
def output_size_ignored(layer):
    class Mutant(layer):
        def __call__(self, input, indices, output_size=None):
            return super().__call__(input, indices)

    return Mutant


@mutant("MaxUnpool1d.M02", "MaxUnpool2d.M02", "MaxUnpool3d.M02")
def padding_ignored(layer):
    return reconfigured(layer, padding=0)


@mutant("MaxUnpool1d.M03", "MaxUnpool2d.M03", "MaxUnpool3d.M03")
def all_into_the_first_channel(layer):
    class Mutant(layer):
        def __call__(self, input, indices, output_size=None):
            output = super().__call__(input, indices, output_size)
            channel = output.ndim - self._n - 1
            first = jnp.arange(output.shape[channel]) == 0
            first = first.reshape(-1, *[1] * self._n)
            return jnp.where(first, output.sum(channel, keepdims=True), 0)

    return Mutant


@mutant("MaxUnpool1d.M04", "MaxUnpool2d.M04", "MaxUnpool3d.M04")
def unpools_at_a_stride_of_one(layer):
    return reconfigured(layer, stride=lambda stride: 1 if stride is None else stride)


@mutant("MaxUnpool1d.M05", "MaxUnpool2d.M05", "MaxUnpool3d.M05")
def infinite_elsewhere(layer):
    class Mutant(layer):
        def __call__(self, input, indices, output_size=None):
            written = super().__call__(jnp.ones_like(input), indices, output_size)
            output = super().__call__(input, indices, output_size)
            return jnp.where(written == 1, output, -jnp.inf)

    return Mutant


@mutant("LPPool1d.M01", "LPPool2d.M01", "LPPool3d.M01")
def absolute_values_raised(layer):
    class Mutant(layer):
        def __call__(self, input):
            return super().__call__(jnp.abs(input))

    return Mutant


@mutant("LPPool1d.M02", "LPPool2d.M02", "LPPool3d.M02")
def no_root(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            return output if math.isinf(self.norm_type) else output**self.norm_type

    return Mutant


@mutant("LPPool1d.M03", "LPPool2d.M03", "LPPool3d.M03")
def ragged_sums(layer):
    class Mutant(layer):
        def __call__(self, input):
            return _plain(self, input) if self.ceil_mode else super().__call__(input)

    return Mutant


@mutant("LPPool1d.M04", "LPPool2d.M04", "LPPool3d.M04")
def infinite_slope_at_zero(layer):
    class Mutant(layer):
        def __call__(self, input):
            return _plain(self, input) if self.norm_type == 2 else super().__call__(input)

    return Mutant


@mutant("LPPool1d.M05", "LPPool2d.M05", "LPPool3d.M05")
def maximum_of_values(layer):
    class Mutant(layer):
        def __call__(self, input):
            if self.norm_type != jnp.inf:
                return super().__call__(input)
            pool = getattr(F, f"max_pool{self._n}d")
            return pool(input, self.kernel_size, self.stride, ceil_mode=self.ceil_mode)

    return Mutant


@mutant("LPPool1d.M06", "LPPool2d.M06", "LPPool3d.M06")
def power_averages_at_a_stride_of_one(layer):
    return reconfigured(layer, stride=lambda stride: 1 if stride is None else stride)


def _plain(self, input):
    """Return the root of the sum of powers, with no care for ragged windows or zero sums."""
    options = self.kernel_size, self.stride, 0, 1, self.ceil_mode
    windows = windows_of(self._n, type(self).__name__, *options)
    return window_sums(input**self.norm_type, windows) ** (1 / self.norm_type)
