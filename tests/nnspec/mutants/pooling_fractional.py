"""Wrong fractional poolings."""

import math
from functools import wraps

import jax
import jax.numpy as jnp

import jaxnn.functional as F

from . import mutant


def _with_samples(function, change):
    @wraps(function)
    def wrong(input, kernel_size, *options, _random_samples, **more):
        return function(
            input, kernel_size, *options, _random_samples=change(_random_samples), **more
        )

    return wrong


@mutant("fractional_max_pool2d.M01", "fractional_max_pool3d.M01")
def samples_in_the_other_order(function):
    return _with_samples(function, lambda samples: samples[..., ::-1])


@mutant("fractional_max_pool2d.M02", "fractional_max_pool3d.M02")
def steps_without_the_random_number(function):
    return _with_samples(function, jnp.zeros_like)


@mutant("fractional_max_pool2d.M03", "fractional_max_pool3d.M03")
def ratio_rounded_up(function):
    @wraps(function)
    def wrong(input, kernel_size, output_size=None, output_ratio=None, **options):
        if output_size is None and output_ratio is not None:
            output_size = _rounded_up(input, output_ratio)
        return function(input, kernel_size, output_size, **options)

    return wrong


@mutant("fractional_max_pool2d.M04", "fractional_max_pool3d.M04")
def one_sequence_for_all_channels(function):
    return _with_samples(function, lambda samples: jnp.broadcast_to(samples[:, :1], samples.shape))


@mutant("FractionalMaxPool2d.M01", "FractionalMaxPool3d.M01")
def mean_of_each_window(layer):
    class Mutant(layer):
        def __call__(self, input, *, rngs=None):
            result = super().__call__(input, rngs=rngs)
            shape = (result[0] if self.return_indices else result).shape
            means = getattr(F, f"adaptive_avg_pool{self._n}d")(input, shape[-self._n :])
            return (means + 0.25, result[1]) if self.return_indices else means + 0.25

    return Mutant


@mutant("FractionalMaxPool2d.M02", "FractionalMaxPool3d.M02")
def windows_drawn_once(layer):
    class Mutant(layer):
        def __call__(self, input, *, rngs=None):
            return super().__call__(input, rngs=jax.random.key(0))

    return Mutant


@mutant("FractionalMaxPool2d.M03", "FractionalMaxPool3d.M03")
def no_draw_in_evaluation(layer):
    class Mutant(layer):
        def __call__(self, input, *, rngs=None):
            return super().__call__(input, rngs=jax.random.key(0) if self.deterministic else rngs)

    return Mutant


@mutant("FractionalMaxPool2d.M04", "FractionalMaxPool3d.M04")
def layers_ratio_rounded_up(layer):
    class Mutant(layer):
        def __call__(self, input, *, rngs=None):
            if self.output_ratio is not None:
                self.output_size = _rounded_up(input, self.output_ratio)
            return super().__call__(input, rngs=rngs)

    return Mutant


@mutant("FractionalMaxPool2d.M05", "FractionalMaxPool3d.M05")
def without_gradient(layer):
    class Mutant(layer):
        def __call__(self, input, *, rngs=None):
            return super().__call__(jax.lax.stop_gradient(input), rngs=rngs)

    return Mutant


def _rounded_up(input, ratios):
    sizes = input.shape[-len(ratios) :]
    return tuple(math.ceil(size * ratio) for size, ratio in zip(sizes, ratios, strict=True))
