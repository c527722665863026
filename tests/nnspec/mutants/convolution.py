"""Wrong convolutions."""

from functools import wraps

import jax.numpy as jnp

import jaxnn.functional as F

from . import becoming, mutant, reconfigured, with_parameter


def transposed(number):
    return [f"ConvTranspose{n}d.M{number:02d}" for n in (1, 2, 3)]


@mutant("Conv1d.M01", "Conv2d.M01", "Conv3d.M01")
@mutant(*transposed(1))
def kernel_flipped(layer):
    return with_parameter(layer, "weight", lambda w: jnp.flip(w, range(2, w.ndim)))


@mutant("Conv1d.M02", "Conv2d.M02", "Conv3d.M02")
def same_puts_the_extra_zero_first(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            if self.padding != "same" or self.padding_mode != "zeros":
                return output
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            return _padded(self, input, [(t - t // 2, t // 2) for t in totals], "constant")

    return Mutant


@mutant("Conv1d.M03", "Conv2d.M03", "Conv3d.M03")
@mutant(*transposed(3))
def groups_interleaved(layer):
    class Mutant(layer):
        def __call__(self, input):
            channel = input.ndim - len(self.kernel_size) - 1
            order = jnp.arange(self.in_channels).reshape(-1, self.groups).T.reshape(-1)
            return super().__call__(jnp.take(input, order, channel, mode="clip"))

    return Mutant


@mutant("Conv1d.M04", "Conv2d.M04", "Conv3d.M04")
@mutant(*transposed(4))
def dilation_ignored(layer):
    return reconfigured(layer, dilation=1)


@mutant("Conv1d.M05", "Conv2d.M05", "Conv3d.M05")
def reflect_repeats_the_edge(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            if self.padding_mode != "reflect" or isinstance(self.padding, str):
                return output
            return _padded(self, input, [(p, p) for p in self.padding], "symmetric")

    return Mutant


@mutant("Conv1d.M06", "Conv2d.M06", "Conv3d.M06")
def padding_mode_ignored(layer):
    return reconfigured(layer, padding_mode="zeros")


@mutant("Conv1d.M07", "Conv2d.M07", "Conv3d.M07")
@mutant(*transposed(6))
def bias_left_out(layer):
    return with_parameter(layer, "bias", jnp.zeros_like)


@mutant("Conv2d.M08", "Conv3d.M08")
def padding_swapped(layer):
    return reconfigured(layer, padding=lambda p: p[::-1] if isinstance(p, tuple) else p)


@mutant(*transposed(2))
def output_padding_first(layer):
    class Mutant(layer):
        def __call__(self, input, output_size=None):
            output = super().__call__(input, output_size)
            n = len(self.kernel_size)
            return jnp.roll(output, self.output_padding, range(output.ndim - n, output.ndim))

    return Mutant


@mutant(*transposed(5))
def output_size_ignored(layer):
    class Mutant(layer):
        def __call__(self, input, output_size=None):
            return super().__call__(input)

    return Mutant


@mutant(*transposed(7))
def fan_in_from_in_channels(layer):
    class Mutant(layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.weight[...] *= (self.out_channels / self.in_channels) ** 0.5

    return Mutant


@mutant("conv_tbc.M01")
def taps_flipped(function):
    @wraps(function)
    def wrong(input, weight, bias, pad=0):
        return function(input, weight[::-1], bias, pad)

    return wrong


@mutant("conv_tbc.M02")
def pad_at_the_start(function):
    @wraps(function)
    def wrong(input, weight, bias, pad=0):
        return function(F.pad(input, (0, 0, 0, 0, 2 * pad, 0)), weight, bias)

    return wrong


@mutant("conv_tbc.M03")
def batch_first(function):
    @wraps(function)
    def wrong(input, weight, bias, pad=0):
        return F.conv1d(input.swapaxes(1, 2), weight.T, bias, padding=pad).swapaxes(1, 2)

    return wrong


def _padded(self, input, widths, mode):
    """Return the convolution of the input that is padded like this."""
    n = len(self.kernel_size)
    padded = jnp.pad(input, [(0, 0)] * (input.ndim - n) + widths, mode=mode)
    convolve = getattr(F, f"conv{n}d")
    bias = None if self.bias is None else self.bias[...]
    return convolve(padded, self.weight[...], bias, self.stride, 0, self.dilation, self.groups)


def _features_of_the_first_dimension(layer):
    class Mutant(layer):
        def channels_of_input(self, input):
            super().channels_of_input(input)
            return input.shape[0] * self.groups

    return Mutant


def _never_a_bias(layer):
    return reconfigured(layer, bias=False)


def _stride_forgotten(layer):
    return becoming(lambda become: reconfigured(become, stride=1))(layer)


for name in ("Conv", "ConvTranspose"):
    for n in (1, 2, 3):
        mutant(f"Lazy{name}{n}d.M01")(_features_of_the_first_dimension)
        mutant(f"Lazy{name}{n}d.M02")(_never_a_bias)
        mutant(f"Lazy{name}{n}d.M03")(_stride_forgotten)
