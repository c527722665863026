"""Wrong linear layers."""

import jax.numpy as jnp
from jax import lax

from . import mutant, reconfigured, with_parameter


@mutant("Identity.M01")
def gradient_stopped(layer):
    class Mutant(layer):
        def __call__(self, input):
            return lax.stop_gradient(super().__call__(input))

    return Mutant


@mutant("Linear.M01")
def weight_stored_transposed(layer):
    return with_parameter(layer, "weight", lambda w: w.reshape(w.shape[::-1]).T)


@mutant("Linear.M02")
def bias_left_out(layer):
    return with_parameter(layer, "bias", jnp.zeros_like)


@mutant("Linear.M03")
def first_dimension_transformed(layer):
    class Mutant(layer):
        def __call__(self, input):
            return super().__call__(input.swapaxes(0, -1)).swapaxes(0, -1)

    return Mutant


@mutant("LazyLinear.M01")
def features_of_the_first_dimension(layer):
    class Mutant(layer):
        def channels_of_input(self, input):
            return input.shape[0]

    return Mutant


@mutant("LazyLinear.M02")
def drawn_by_the_fan_out(layer):
    class Mutant(layer):
        def build(self, channels):
            built = super().build(channels)
            ratio = (channels / built.out_features) ** 0.5
            for variable in (built.weight, built.bias):
                if variable is not None:
                    variable[...] *= ratio
            return built

    return Mutant


@mutant("LazyLinear.M03")
def always_without_bias(layer):
    return reconfigured(layer, bias=False)


@mutant("Bilinear.M01")
def inputs_exchanged(layer):
    class Mutant(layer):
        def __call__(self, input1, input2):
            if input1.shape == input2.shape:
                input1, input2 = input2, input1
            return super().__call__(input1, input2)

    return Mutant


@mutant("Bilinear.M02")
def bilinear_without_bias(layer):
    class Mutant(layer):
        def __call__(self, input1, input2):
            bias = 0 if self.bias is None else self.bias[...]
            return super().__call__(input1, input2) - bias

    return Mutant


@mutant("Bilinear.M03")
def drawn_by_both_fan_ins(layer):
    class Mutant(layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.weight[...] /= self.in2_features**0.5

    return Mutant
