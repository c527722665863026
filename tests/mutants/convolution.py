"""Wrong convolutions."""

import jax.numpy as jnp

import jaxnn.functional as F

from . import mutant, reconfigured, with_parameter


@mutant("Conv2d.M01")
def kernel_flipped(layer):
    return with_parameter(layer, "weight", lambda w: jnp.flip(w, range(2, w.ndim)))


@mutant("Conv2d.M02")
def same_puts_the_extra_zero_first(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            if self.padding != "same" or self.padding_mode != "zeros":
                return output
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            return _padded(self, input, [(t - t // 2, t // 2) for t in totals], "constant")

    return Mutant


@mutant("Conv2d.M03")
def groups_interleaved(layer):
    class Mutant(layer):
        def __call__(self, input):
            channel = input.ndim - len(self.kernel_size) - 1
            order = jnp.arange(self.in_channels).reshape(-1, self.groups).T.reshape(-1)
            return super().__call__(jnp.take(input, order, channel, mode="clip"))

    return Mutant


@mutant("Conv2d.M04")
def dilation_ignored(layer):
    return reconfigured(layer, dilation=1)


@mutant("Conv2d.M05")
def reflect_repeats_the_edge(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            if self.padding_mode != "reflect" or isinstance(self.padding, str):
                return output
            return _padded(self, input, [(p, p) for p in self.padding], "symmetric")

    return Mutant


@mutant("Conv2d.M06")
def padding_mode_ignored(layer):
    return reconfigured(layer, padding_mode="zeros")


@mutant("Conv2d.M07")
def bias_left_out(layer):
    return with_parameter(layer, "bias", jnp.zeros_like)


@mutant("Conv2d.M08")
def padding_swapped(layer):
    return reconfigured(layer, padding=lambda p: p[::-1] if isinstance(p, tuple) else p)


def _padded(self, input, widths, mode):
    """Return the convolution of the input that is padded like this."""
    n = len(self.kernel_size)
    padded = jnp.pad(input, [(0, 0)] * (input.ndim - n) + widths, mode=mode)
    convolve = getattr(F, f"conv{n}d")
    bias = None if self.bias is None else self.bias[...]
    return convolve(padded, self.weight[...], bias, self.stride, 0, self.dilation, self.groups)
