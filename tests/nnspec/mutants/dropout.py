"""Wrong dropouts."""

import jax
import jax.numpy as jnp
from jax import lax

import jaxnn.functional as F
from jaxnn.functional._gradients import straight_through

from . import mutant, reconfigured


@mutant("Dropout.M01", "Dropout1d.M01", "Dropout2d.M01", "Dropout3d.M01")
def survivors_are_not_scaled(layer):
    class Mutant(layer):
        def __call__(self, input):
            return super().__call__(input) * (1 if self.deterministic else 1 - self.p)

    return Mutant


@mutant(
    "Dropout.M02",
    "Dropout1d.M02",
    "Dropout2d.M02",
    "Dropout3d.M02",
    "AlphaDropout.M02",
    "FeatureAlphaDropout.M02",
)
def p_is_the_probability_to_keep(layer):
    return reconfigured(layer, p=lambda p: 1 - p)


@mutant(
    "Dropout.M03",
    "Dropout1d.M03",
    "Dropout2d.M03",
    "Dropout3d.M03",
    "AlphaDropout.M03",
    "FeatureAlphaDropout.M03",
)
def active_in_evaluation(layer):
    class Mutant(layer):
        def __call__(self, input):
            return type(self)._function(input, self.p, True, rng=self._draw_key(None))

    return Mutant


@mutant(
    "Dropout.M04",
    "Dropout1d.M04",
    "Dropout2d.M04",
    "Dropout3d.M04",
    "AlphaDropout.M04",
    "FeatureAlphaDropout.M04",
)
def the_same_mask_at_every_call(layer):
    class Mutant(layer):
        def __call__(self, input):
            return super().__call__(input, rngs=jax.random.key(0))

    return Mutant


@mutant("Dropout.M05", "Dropout1d.M05", "Dropout2d.M05", "Dropout3d.M05")
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


@mutant("AlphaDropout.M06")
def whole_rows_dropped_together(layer):
    class Mutant(layer):
        def __call__(self, input):
            if self.deterministic or input.ndim < 2:
                return super().__call__(input)
            return F.feature_alpha_dropout(input[None], self.p, True, rng=self._draw_key(None))[0]

    return Mutant


@mutant("Dropout1d.M06", "Dropout2d.M06", "Dropout3d.M06")
def single_elements(layer):
    class Mutant(layer):
        def __call__(self, input):
            if self.deterministic:
                return super().__call__(input)
            return F.dropout(input, self.p, rng=self._draw_key(None))

    return Mutant


@mutant("FeatureAlphaDropout.M06")
def single_elements_dropped(layer):
    class Mutant(layer):
        def __call__(self, input):
            if self.deterministic:
                return super().__call__(input)
            return F.alpha_dropout(input, self.p, True, rng=self._draw_key(None))

    return Mutant


@mutant("Dropout1d.M07", "Dropout2d.M07", "Dropout3d.M07")
def the_same_channels_in_each_sample(layer):
    class Mutant(layer):
        def __call__(self, input):
            return input * super().__call__(jnp.ones_like(input[:1]))

    return Mutant


@mutant("AlphaDropout.M01", "FeatureAlphaDropout.M01")
def plain_dropout(layer):
    class Mutant(layer):
        def __call__(self, input):
            if self.deterministic:
                return super().__call__(input)
            return F.dropout(input, self.p, rng=self._draw_key(None))

    return Mutant


@mutant("AlphaDropout.M05", "FeatureAlphaDropout.M05")
def mean_and_variance_change(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            if self.deterministic or self.p in (0, 1):
                return output
            end = -1.7580993408473766
            scale = ((1 - self.p) * (1 + self.p * end**2)) ** -0.5
            return output / scale + self.p * end

    return Mutant
