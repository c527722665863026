"""Wrong linear layers."""

import jax.numpy as jnp
from jax import lax

from . import mutant, with_parameter


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
