"""Wrong dropouts."""

import jax
import jax.numpy as jnp
from jax import lax

import jaxnn.functional as F
from jaxnn.functional._gradients import straight_through

from . import mutant, reconfigured


@mutant("Dropout.M01")
def survivors_are_not_scaled(layer):
    class Mutant(layer):
        def __call__(self, input):
            return super().__call__(input) * (1 if self.deterministic else 1 - self.p)

    return Mutant


@mutant("Dropout.M02")
def p_is_the_probability_to_keep(layer):
    return reconfigured(layer, p=lambda p: 1 - p)


@mutant("Dropout.M03")
def active_in_evaluation(layer):
    class Mutant(layer):
        def __call__(self, input):
            return F.dropout(input, self.p, rng=self._draw_key(None))

    return Mutant


@mutant("Dropout.M04")
def the_same_mask_at_every_call(layer):
    class Mutant(layer):
        def __call__(self, input):
            return super().__call__(input, rngs=jax.random.key(0))

    return Mutant


@mutant("Dropout.M05")
def gradient_ignores_the_mask(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            if self.deterministic or self.p == 1:
                return output
            return straight_through(input / (1 - self.p), lax.stop_gradient(output))

    return Mutant


@mutant("Dropout.M06")
def whole_rows_together(layer):
    class Mutant(layer):
        def __call__(self, input):
            return input * super().__call__(jnp.ones_like(input[..., :1]))

    return Mutant
