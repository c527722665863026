"""Wrong normalisations."""

import math

import jax.numpy as jnp
from jax import lax

import jaxnn.functional as F
from jaxnn.functional._vector_norm import vector_norm

from . import becoming, mutant, reconfigured


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


for n in (1, 2, 3):
    mutant(f"LazyBatchNorm{n}d.M01")(becoming(running_var_is_biased))
    mutant(f"LazyBatchNorm{n}d.M02")(becoming(evaluation_by_the_batch))
    mutant(f"LazyBatchNorm{n}d.M03")(becoming(statistics_are_constants))
    mutant(f"LazyBatchNorm{n}d.M04")(becoming(momentum_weighs_the_old))
mutant("SyncBatchNorm.M01")(running_var_is_biased)
mutant("SyncBatchNorm.M02")(evaluation_by_the_batch)
mutant("SyncBatchNorm.M03")(statistics_are_constants)


def _standardised(x, axes, moments=None, deviation=lambda var, eps: jnp.sqrt(var + eps), eps=0.0):
    """Return x normalised over the axes, by its mean and biased variance or by other moments."""
    mean, var = (
        moments(x, axes) if moments else (x.mean(axes, keepdims=True), x.var(axes, keepdims=True))
    )
    return (x - mean) / deviation(var, eps)


def _unbiased(x, axes):
    return x.mean(axes, keepdims=True), x.var(axes, keepdims=True, ddof=1)


def _cancelling(x, axes):
    mean = x.mean(axes, keepdims=True)
    return mean, (x * x).mean(axes, keepdims=True) - mean * mean


def _constant(x, axes):
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return lax.stop_gradient(mean), lax.stop_gradient(var)


def _outside(var, eps):
    return jnp.sqrt(var) + eps


def _scaled(self, y, shape):
    weight, bias = (None if v is None else v[...].reshape(shape) for v in (self.weight, self.bias))
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _instances_by(layer, own=None, axes=None, moments=None):
    """Return the instance normalisation by other statistics than each sample's own."""

    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            running = self.use_running_average and self.track_running_stats
            if (running and own is None) or not output.size:
                return output
            batch = input if input.ndim == max(self._ranks) else input[None]
            over = axes or tuple(range(2, batch.ndim))
            y = _standardised(
                batch.astype(jnp.promote_types(input.dtype, jnp.float32)),
                over,
                moments,
                eps=self.eps,
            )
            shape = (1, -1, *[1] * (batch.ndim - 2))
            return _scaled(self, y, shape).reshape(output.shape).astype(output.dtype)

    return Mutant


def instances_over_the_batch(layer):
    return _instances_by(layer, axes=(0, *range(2, max(layer._ranks))))


def instances_by_the_unbiased_variance(layer):
    return _instances_by(layer, moments=_unbiased)


def instances_weigh_the_old(layer):
    return reconfigured(layer, momentum=lambda momentum: None if momentum is None else 1 - momentum)


def instances_in_evaluation_by_their_own(layer):
    return _instances_by(layer, own=True)


def instances_update_by_the_biased_variance(layer):
    class Mutant(layer):
        def __call__(self, input):
            old = None if self.running_var is None else self.running_var[...]
            output = super().__call__(input)
            if old is not None and not self.use_running_average:
                batch = input if input.ndim == max(self._ranks) else input[None]
                size = math.prod(batch.shape[2:])
                kept = old * (1 - (self.momentum or 0))
                self.running_var[...] = kept + (self.running_var[...] - kept) * ((size - 1) / size)
            return output

    return Mutant


def instances_with_a_variance_that_cancels(layer):
    return _instances_by(layer, moments=_cancelling)


_INSTANCE_MUTANTS = [
    instances_over_the_batch,
    instances_by_the_unbiased_variance,
    instances_weigh_the_old,
    instances_in_evaluation_by_their_own,
    instances_update_by_the_biased_variance,
    instances_with_a_variance_that_cancels,
]
_LAZY_INSTANCE_MUTANTS = [
    instances_over_the_batch,
    instances_weigh_the_old,
    instances_in_evaluation_by_their_own,
    instances_update_by_the_biased_variance,
]
for n in (1, 2, 3):
    for number, make in enumerate(_INSTANCE_MUTANTS, 1):
        mutant(f"InstanceNorm{n}d.M{number:02d}")(make)
    for number, make in enumerate(_LAZY_INSTANCE_MUTANTS, 1):
        mutant(f"LazyInstanceNorm{n}d.M{number:02d}")(becoming(make))


def _groups_by(
    layer, arrange=lambda x, groups: x.reshape(len(x), groups, -1), restore=None, **options
):
    """Return the group normalisation over other groups, or by other statistics."""

    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            if not output.size:
                return output
            x = input.astype(jnp.promote_types(input.dtype, jnp.float32))
            y = _standardised(arrange(x, self.num_groups), (2,), eps=self.eps, **options)
            y = restore(y, input) if restore else y.reshape(input.shape)
            return _scaled(self, y, (1, -1, *[1] * (x.ndim - 2))).astype(output.dtype)

    return Mutant


@mutant("GroupNorm.M01")
def channels_dealt_out(layer):
    def arrange(x, groups):
        return (
            x.reshape(len(x), x.shape[1] // groups, groups, -1)
            .swapaxes(1, 2)
            .reshape(len(x), groups, -1)
        )

    def restore(y, input):
        groups = y.shape[1]
        y = y.reshape(len(y), groups, input.shape[1] // groups, -1)
        return y.swapaxes(1, 2).reshape(input.shape)

    return _groups_by(layer, arrange, restore)


@mutant("GroupNorm.M02")
def a_single_group(layer):
    return _groups_by(layer, lambda x, groups: x.reshape(len(x), 1, -1))


@mutant("GroupNorm.M03")
def group_statistics_are_constants(layer):
    return _groups_by(layer, moments=_constant)


@mutant("GroupNorm.M04")
def group_eps_outside_the_root(layer):
    return _groups_by(layer, deviation=_outside)


@mutant("GroupNorm.M05")
def group_variance_that_cancels(layer):
    return _groups_by(layer, moments=_cancelling)


def _layers_by(layer, last_alone=False, **options):
    """Return the layer normalisation by other statistics, or over the last dimension alone."""

    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            if not output.size:
                return output
            count = 1 if last_alone else len(self.normalized_shape)
            axes = tuple(range(input.ndim - count, input.ndim))
            x = input.astype(jnp.promote_types(input.dtype, jnp.float32))
            y = _standardised(x, axes, eps=self.eps, **options)
            return _scaled(self, y, self.normalized_shape).astype(output.dtype)

    return Mutant


@mutant("LayerNorm.M01")
def layer_by_the_unbiased_variance(layer):
    return _layers_by(layer, moments=_unbiased)


@mutant("LayerNorm.M02")
def layer_eps_outside_the_root(layer):
    return _layers_by(layer, deviation=_outside)


@mutant("LayerNorm.M03")
def layer_statistics_are_constants(layer):
    return _layers_by(layer, moments=_constant)


@mutant("LayerNorm.M04")
def the_last_dimension_alone(layer):
    return _layers_by(layer, last_alone=True)


@mutant("LayerNorm.M05")
def layer_variance_that_cancels(layer):
    return _layers_by(layer, moments=_cancelling)


def _root_mean_square_by(layer, size, last_alone=False):
    """Return the layer that divides by another size than the root mean square."""

    class Mutant(layer):
        def __call__(self, x):
            output = super().__call__(x)
            if not output.size:
                return output
            count = 1 if last_alone else len(self.normalized_shape)
            axes = tuple(range(x.ndim - count, x.ndim))
            wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            eps = jnp.finfo(wide.dtype).eps if self.eps is None else self.eps
            y = wide / size(wide, axes, eps)
            return (y if self.weight is None else y * self.weight[...]).astype(output.dtype)

    return Mutant


def _root_mean_square(x, axes, eps):
    return jnp.sqrt((x * x).mean(axes, keepdims=True) + eps)


@mutant("RMSNorm.M01")
def mean_subtracted(layer):
    class Mutant(layer):
        def __call__(self, x):
            axes = tuple(range(x.ndim - len(self.normalized_shape), x.ndim))
            return super().__call__(x - x.mean(axes, keepdims=True))

    return Mutant


@mutant("RMSNorm.M02")
def root_eps_outside(layer):
    return _root_mean_square_by(layer, lambda x, axes, eps: _root_mean_square(x, axes, 0) + eps)


@mutant("RMSNorm.M03")
def mean_absolute_value(layer):
    return _root_mean_square_by(
        layer, lambda x, axes, eps: jnp.abs(x).mean(axes, keepdims=True) + eps
    )


@mutant("RMSNorm.M04")
def root_is_a_constant(layer):
    return _root_mean_square_by(
        layer, lambda x, axes, eps: lax.stop_gradient(_root_mean_square(x, axes, eps))
    )


@mutant("RMSNorm.M05")
def root_over_the_last_dimension(layer):
    return _root_mean_square_by(layer, _root_mean_square, last_alone=True)


@mutant("RMSNorm.M06")
def eps_of_layer_normalisation(layer):
    return reconfigured(layer, eps=lambda eps: 1e-5 if eps is None else eps)


@mutant("LocalResponseNorm.M01")
def alpha_not_divided(layer):
    return _responses_by(layer, lambda self, x: self.size * _window_means(self, x))


@mutant("LocalResponseNorm.M02")
def larger_half_after(layer):
    return _responses_by(layer, lambda self, x: _window_means(self, x[:, ::-1])[:, ::-1])


@mutant("LocalResponseNorm.M03")
def divided_by_the_channels_there(layer):
    return _responses_by(
        layer, lambda self, x: _window_means(self, x) / _window_means(self, jnp.ones_like(x))
    )


@mutant("LocalResponseNorm.M04")
def divisor_is_a_constant(layer):
    return _responses_by(layer, lambda self, x: lax.stop_gradient(_window_means(self, x)))


def _window_means(self, x):
    """Return the means of squares that local response normalisation takes."""
    before, after = self.size // 2, (self.size - 1) // 2
    padded = jnp.pad(x * x, [(0, 0), (before, after)] + [(0, 0)] * (x.ndim - 2))
    return sum(padded[:, i : i + x.shape[1]] for i in range(self.size)) / self.size


def _responses_by(layer, means):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            x = input.astype(jnp.promote_types(input.dtype, jnp.float32))
            y = x / (self.k + self.alpha * means(self, x)) ** self.beta
            return y.astype(output.dtype)

    return Mutant


@mutant("CrossMapLRN2d.M01")
def plain_window(layer):
    class Mutant(layer):
        def __call__(self, input):
            super().__call__(input)
            return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    return Mutant


@mutant("CrossMapLRN2d.M02")
def gradient_of_the_formula(layer):
    class Mutant(layer):
        def __call__(self, input):
            reach, channels = (self.size - 1) // 2, jnp.arange(input.shape[1])
            taken = abs(channels[:, None] - channels) <= reach
            taken = taken.at[:, 0].set(True).astype(input.dtype)
            sums = jnp.einsum("cj,njhw->nchw", taken, input * input)
            super().__call__(input)
            return input * (self.k + self.alpha / self.size * sums) ** -self.beta

    return Mutant


@mutant("CrossMapLRN2d.M03")
def divided_by_the_window(layer):
    class Mutant(layer):
        def __call__(self, input):
            there = min(self.size, input.shape[1])
            whole, self.alpha = self.alpha, self.alpha * self.size / there
            output = super().__call__(input)
            self.alpha = whole
            return output

    return Mutant


@mutant("normalize.M01")
def eps_added_to_the_norm(normalize):
    def wrong(input, p=2.0, dim=1, eps=1e-12):
        axes = tuple(range(input.ndim)) if dim is None else dim
        return input / (vector_norm(input, p, axes) + jnp.asarray(eps, input.dtype))

    return wrong


@mutant("normalize.M02")
def norm_is_a_constant(normalize):
    def wrong(input, p=2.0, dim=1, eps=1e-12):
        axes = tuple(range(input.ndim)) if dim is None else dim
        return input / jnp.maximum(lax.stop_gradient(vector_norm(input, p, axes)), eps)

    return wrong


@mutant("normalize.M03")
def always_the_euclidean_norm(normalize):
    def wrong(input, p=2.0, dim=1, eps=1e-12):
        return normalize(input, 2.0, dim, eps)

    return wrong


@mutant("normalize.M04")
def along_the_last_dimension(normalize):
    def wrong(input, p=2.0, dim=-1, eps=1e-12):
        return normalize(input, p, dim, eps)

    return wrong
