"""Wrong activations."""

import jax.numpy as jnp
from jax import lax

from jaxnn.functional._gradients import straight_through

from . import mutant, reconfigured, with_parameter


@mutant("ReLU.M01")
def gradient_at_zero_is_the_cotangent(layer):
    class Mutant(layer):
        def __call__(self, input):
            super().__call__(input)
            return jnp.where(input < 0, jnp.zeros_like(input), input)

    return Mutant


@mutant("ReLU.M02")
def nan_becomes_zero(layer):
    class Mutant(layer):
        def __call__(self, input):
            return super().__call__(jnp.where(input > 0, input, jnp.zeros_like(input)))

    return Mutant


@mutant("ReLU.M03")
def gradient_at_zero_is_half(layer):
    class Mutant(layer):
        def __call__(self, input):
            super().__call__(input)
            return jnp.maximum(input, jnp.zeros_like(input))

    return Mutant


@mutant("PReLU.M01")
def slope_at_zero_is_one(layer):
    class Mutant(layer):
        def __call__(self, input):
            return jnp.where(input >= 0, input, super().__call__(input))

    return Mutant


@mutant("PReLU.M02")
def slopes_along_the_last_dimension(layer):
    class Mutant(layer):
        def __call__(self, input):
            if input.ndim < 2:
                return super().__call__(input)
            return super().__call__(input.swapaxes(1, -1)).swapaxes(1, -1)

    return Mutant


@mutant("PReLU.M03")
def slopes_are_not_trained(layer):
    return with_parameter(layer, "weight", lax.stop_gradient)


@mutant("Softmax.M01")
def always_the_last_dimension(layer):
    return reconfigured(layer, dim=-1)


@mutant("Softmax.M02")
def overflows(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            if self.dim is None or input.ndim == 0:
                return output
            exponentials = jnp.exp(input)
            return exponentials / exponentials.sum(self.dim, keepdims=True)

    return Mutant


@mutant("Softmax.M03")
def gradient_without_the_sum(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = lax.stop_gradient(super().__call__(input))
            return straight_through(output * input, output)

    return Mutant


@mutant("Softmax.M04")
def no_dim_means_the_last(layer):
    return reconfigured(layer, dim=lambda dim: -1 if dim is None else dim)
