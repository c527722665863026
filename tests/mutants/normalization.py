"""Wrong batch normalisations."""

import math

import jax.numpy as jnp
from jax import lax

from . import mutant, reconfigured


@mutant("BatchNorm1d.M01", "BatchNorm2d.M01", "BatchNorm3d.M01")
def running_var_is_biased(layer):
    def update(running, mean, var, count, momentum):
        return _mixed(running, (mean, var), momentum)

    return _updated_by(layer, update)


@mutant("BatchNorm1d.M02", "BatchNorm2d.M02", "BatchNorm3d.M02")
def momentum_weighs_the_old(layer):
    def update(running, mean, var, count, momentum):
        return _mixed(running, (mean, var * count / (count - 1)), 1 - momentum)

    return _updated_by(layer, update)


@mutant("BatchNorm1d.M03", "BatchNorm2d.M03", "BatchNorm3d.M03")
def eps_outside_the_root(layer):
    return _normalised_by(layer, deviation=lambda var, eps: jnp.sqrt(var) + eps)


@mutant("BatchNorm1d.M04", "BatchNorm2d.M04", "BatchNorm3d.M04")
def evaluation_by_the_batch(layer):
    return _normalised_by(layer, by_batch=lambda self: True)


@mutant("BatchNorm1d.M05", "BatchNorm2d.M05", "BatchNorm3d.M05")
def normalised_by_the_unbiased_variance(layer):
    def moments(x):
        mean, var, count = _moments(x)
        return mean, var * count / (count - 1)

    return _normalised_by(layer, moments)


@mutant("BatchNorm1d.M06", "BatchNorm2d.M06", "BatchNorm3d.M06")
def statistics_are_constants(layer):
    return _normalised_by(layer, lambda x: _moments(lax.stop_gradient(x))[:2])


@mutant("BatchNorm1d.M07", "BatchNorm2d.M07", "BatchNorm3d.M07")
def no_momentum_is_a_tenth(layer):
    return reconfigured(layer, momentum=lambda momentum: 0.1 if momentum is None else momentum)


@mutant("BatchNorm1d.M08", "BatchNorm2d.M08", "BatchNorm3d.M08")
def evaluation_updates(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            if self.use_running_average and self.track_running_stats:
                running = self.running_mean[...], self.running_var[...]
                mean, var, _ = _moments(input)
                mixed = _mixed(running, (mean, var), self.momentum or 0.1)
                self.running_mean[...], self.running_var[...] = mixed
            return output

    return Mutant


@mutant("BatchNorm1d.M09", "BatchNorm2d.M09", "BatchNorm3d.M09")
def variance_that_cancels(layer):
    def moments(x):
        mean, mean_square = _moments(x)[0], _moments(x * x)[0]
        return mean, mean_square - mean * mean

    return _normalised_by(layer, moments)


def _moments(x):
    """Return each channel's mean and biased variance, and the number of its values."""
    axes = (0, *range(2, x.ndim))
    return x.mean(axes), x.var(axes), math.prod(x.shape) // x.shape[1]


def _mixed(running, batch, momentum):
    return tuple(
        ((1 - momentum) * old + momentum * new).astype(old.dtype)
        for old, new in zip(running, batch, strict=True)
    )


def _updated_by(layer, update):
    """Return the layer that in training writes another mean and variance."""

    class Mutant(layer):
        def __call__(self, input):
            if self.use_running_average or not self.track_running_stats:
                return super().__call__(input)
            running = self.running_mean[...], self.running_var[...]
            output = super().__call__(input)
            momentum = self.momentum
            if momentum is None:
                momentum = 1 / self.num_batches_tracked[...].astype(running[0].dtype)
            if input.size:
                mixed = update(running, *_moments(input.astype(running[0].dtype)), momentum)
                self.running_mean[...], self.running_var[...] = mixed
            return output

    return Mutant


def _normalised_by(
    layer,
    moments=lambda x: _moments(x)[:2],
    deviation=lambda var, eps: jnp.sqrt(var + eps),
    by_batch=lambda self: not (self.use_running_average and self.track_running_stats),
):
    """Return the layer that normalises by other moments of a batch, or by another deviation."""

    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            x = input.astype(jnp.promote_types(input.dtype, jnp.float32))
            if by_batch(self):
                mean, var = moments(x)
            else:
                mean, var = self.running_mean[...], self.running_var[...]
            weight, bias = (None if v is None else v[...] for v in (self.weight, self.bias))
            shape = (1, -1, *[1] * (x.ndim - 2))
            y = (x - mean.reshape(shape)) / deviation(var, self.eps).reshape(shape)
            y = y if weight is None else y * weight.reshape(shape)
            y = y if bias is None else y + bias.reshape(shape)
            return y.astype(output.dtype)

    return Mutant
