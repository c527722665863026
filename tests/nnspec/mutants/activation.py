"""Wrong activations."""

import jax
import jax.numpy as jnp
from jax import lax

import jaxnn.functional as F
from jaxnn.functional._gradients import straight_through

from . import gradient_where, mutant, reconfigured, with_parameter


def called(call):
    """Make a mutant of a call: of the layer, its input, and the right call."""

    def make(layer):
        class Mutant(layer):
            def __call__(self, input):
                return call(self, input, super().__call__)

        return Mutant

    return make


@mutant(
    "ReLU6.M03",
    "Hardtanh.M03",
    "Threshold.M03",
    "Hardsigmoid.M03",
    "Hardswish.M03",
    "LeakyReLU.M03",
    "Hardshrink.M03",
    "Softshrink.M03",
    "ELU.M03",
    "CELU.M03",
    "SELU.M03",
    "GELU.M04",
    "Sigmoid.M02",
    "Tanh.M02",
    "Tanhshrink.M02",
    "Softsign.M02",
    "LogSigmoid.M02",
    "Softplus.M04",
    "Mish.M02",
    "SiLU.M02",
)
@called
def gradient_is_the_cotangent(self, input, right):
    return straight_through(input, right(input))


@mutant("ReLU.M01")
def gradient_at_zero_is_the_cotangent(layer):
    class Mutant(layer):
        def __call__(self, input):
            super().__call__(input)
            return jnp.where(input < 0, jnp.zeros_like(input), input)

    return Mutant


@mutant("ReLU.M02")
@called
def nan_becomes_zero(self, input, right):
    return right(jnp.where(input > 0, input, jnp.zeros_like(input)))


@mutant("ReLU.M03")
@called
def gradient_at_zero_is_half(self, input, right):
    right(input)
    return jnp.maximum(input, jnp.zeros_like(input))


# --- straight lines


def kinks(self):
    """Where the derivative of a layer jumps."""
    return {
        "ReLU6": lambda: (0, 6),
        "Hardtanh": lambda: (self.min_val, self.max_val),
        "Hardsigmoid": lambda: (-3, 3),
        "Hardswish": lambda: (3,),
        "Softshrink": lambda: (-self.lambd, self.lambd),
        "LeakyReLU": lambda: (0,),
        "ELU": lambda: (0,),
        "SELU": lambda: (0,),
    }[type(self).__mro__[1].__name__]()


def with_slope_at_kinks(slope):
    """Make a mutant whose gradient at the kinks is the cotangent times a slope."""

    @called
    def call(self, input, right):
        output = right(input)
        for kink in kinks(self):
            output = jnp.where(input == kink, straight_through(slope * input, output), output)
        return output

    return call


mutant("ReLU6.M01", "Hardtanh.M01", "LeakyReLU.M01", "Softshrink.M02", "ELU.M01")(
    with_slope_at_kinks(1)
)
mutant("Hardsigmoid.M02")(with_slope_at_kinks(1 / 6))
mutant("Hardswish.M01")(with_slope_at_kinks(1.5))
mutant("SELU.M01")(with_slope_at_kinks(1.0507009873554805))


@mutant("ReLU6.M02")
@called
def without_the_upper_bound(self, input, right):
    return jnp.where(input > 6, input, right(input))


@mutant("Hardtanh.M02")
def bounds_are_the_default(layer):
    return reconfigured(layer, min_val=-1.0, max_val=1.0, min_value=None, max_value=None)


@mutant("Hardtanh.M04")
@called
def smooth_tanh(self, input, right):
    if jnp.issubdtype(input.dtype, jnp.integer):
        return right(input)
    return jnp.where((input > -1) & (input < 1), jnp.tanh(input), right(input))


@mutant("Threshold.M01")
@called
def input_at_the_threshold_passes(self, input, right):
    return jnp.where(input == self.threshold, input, right(input))


@mutant("Threshold.M02")
def zero_takes_the_place(layer):
    return reconfigured(layer, value=0.0)


@mutant("Hardsigmoid.M01")
@called
def slope_of_a_fifth(self, input, right):
    return jnp.clip(0.2 * input + 0.5, 0, 1)


@mutant("Hardswish.M02")
@called
def hard_gate_is_not_differentiated(self, input, right):
    return jnp.where(
        jnp.isfinite(input), input * lax.stop_gradient(F.hardsigmoid(input)), right(input)
    )


@mutant("Hardswish.M04")
@called
def minus_infinity_gives_zero(self, input, right):
    return jnp.where(input == -jnp.inf, jnp.zeros_like(input), right(input))


@mutant("LeakyReLU.M02")
def slope_is_the_default(layer):
    return reconfigured(layer, negative_slope=0.01)


@mutant("LeakyReLU.M04")
@called
def larger_of_the_two(self, input, right):
    return jnp.where(input == 0, right(input), jnp.maximum(input, self.negative_slope * input))


@mutant("Hardshrink.M01")
@called
def input_at_lambd_passes(self, input, right):
    return jnp.where(jnp.abs(input) == self.lambd, input, right(input))


@mutant("Hardshrink.M02")
@called
def hard_moves_too(self, input, right):
    output = right(input)
    return output - jnp.sign(output) * max(self.lambd, 0)


@mutant("Hardshrink.M04")
def absolute_value_of_lambd(layer):
    return reconfigured(layer, lambd=abs)


@mutant("Softshrink.M01")
@called
def soft_does_not_move(self, input, right):
    return F.hardshrink(input, self.lambd)


# --- exponentials


@mutant("ELU.M02", "CELU.M02")
def alpha_is_the_default(layer):
    return reconfigured(layer, alpha=lambda alpha: 1.0 if alpha else alpha)


@mutant("ELU.M04")
@called
def loses_what_is_near_zero(self, input, right):
    exponential = jnp.exp(jnp.minimum(input, 0))
    return jnp.where(input < 0, self.alpha * (exponential - 1), right(input))


@mutant("ELU.M05", "CELU.M04", "SELU.M04")
@called
def gradient_of_an_overflow(self, input, right):
    return right(input) + jnp.where(input > 0, jnp.zeros_like(input), 0 * jnp.exp(input))


@mutant("CELU.M01")
@called
def not_divided_by_alpha(self, input, right):
    return jnp.where(input > 0, right(input), self.alpha * jnp.expm1(jnp.minimum(input, 0)))


@mutant("SELU.M02")
@called
def without_the_scale(self, input, right):
    return right(input) / 1.0507009873554805


# --- gates


@mutant("GELU.M01")
def always_the_approximation(layer):
    return reconfigured(layer, approximate=lambda given: "tanh" if given == "none" else given)


@mutant("GELU.M02")
def never_the_approximation(layer):
    return reconfigured(layer, approximate=lambda given: "none" if given == "tanh" else given)


@mutant("GELU.M03", "SiLU.M01")
@called
def sigmoid_of_more_than_the_input(self, input, right):
    right(input)
    return input * jax.nn.sigmoid(1.702 * input)


@mutant("GELU.M05", "Mish.M04", "SiLU.M04")
@called
def gate_is_not_differentiated(self, input, right):
    gate = lax.stop_gradient(right(input) / jnp.where(input == 0, jnp.ones_like(input), input))
    return straight_through(input * gate, right(input))


@mutant("Mish.M01")
@called
def sigmoid_for_the_gate(self, input, right):
    right(input)
    return F.silu(input)


@mutant("Mish.M03", "SiLU.M03")
@called
def nan_where_the_exponential_overflows(self, input, right):
    return right(input) * jnp.where(jnp.exp(-jnp.abs(input)) > 0, 1.0, jnp.nan)


@mutant("GLU.M01")
@called
def halves_are_swapped(self, input, right):
    right(input)
    return right(jnp.roll(input, input.shape[self.dim] // 2, self.dim))


@mutant("GLU.M02")
@called
def every_other_element(self, input, right):
    right(input)
    size = input.shape[self.dim]
    order = jnp.concatenate([jnp.arange(0, size, 2), jnp.arange(1, size, 2)])
    return right(jnp.take(input, order, self.dim))


@mutant("GLU.M03")
@called
def always_halves_the_last(self, input, right):
    right(input)
    return F.glu(input, -1)


@mutant("GLU.M04")
@called
def tanh_for_the_gate(self, input, right):
    right(input)
    linear, gate = jnp.split(input, 2, self.dim)
    return linear * jnp.tanh(gate)


@mutant("GLU.M05")
@called
def half_is_not_differentiated(self, input, right):
    right(input)
    linear, gate = jnp.split(input, 2, self.dim)
    return linear * lax.stop_gradient(jax.nn.sigmoid(gate))


# --- sigmoids


@mutant("Sigmoid.M01")
@called
def hard_sigmoid(self, input, right):
    output = right(input)
    return F.hardsigmoid(input.astype(output.dtype))


@mutant("Sigmoid.M03")
@called
def sigmoid_overflows(self, input, right):
    output = right(input)
    large = -input.astype(output.dtype)
    return output * jnp.where(jnp.exp(large) / (1 + jnp.exp(large)) >= 0, 1.0, jnp.nan)


@mutant("Tanh.M01")
@called
def hard_tanh(self, input, right):
    return F.hardtanh(input.astype(right(input).dtype))


@mutant("Tanh.M03")
@called
def tanh_overflows(self, input, right):
    output = right(input)
    large, small = jnp.exp(input.astype(output.dtype)), jnp.exp(-input.astype(output.dtype))
    return (large - small) / (large + small)


@mutant("Tanhshrink.M01")
@called
def tanh_itself(self, input, right):
    return input.astype(right(input).dtype) - right(input)


@mutant("Tanhshrink.M03")
@called
def soft_shrinkage(self, input, right):
    return F.softshrink(input.astype(right(input).dtype), 1.0)


@mutant("Softsign.M01")
@called
def tanh_for_softsign(self, input, right):
    return jnp.where(jnp.isfinite(input), jnp.tanh(input.astype(right(input).dtype)), right(input))


@mutant("Softsign.M03")
@called
def infinities_give_one(self, input, right):
    return jnp.where(jnp.isinf(input), jnp.sign(input), right(input))


@mutant("LogSigmoid.M01")
@called
def logarithm_overflows(self, input, right):
    right(input)
    return -jnp.log1p(jnp.exp(-input))


@mutant("LogSigmoid.M03")
@called
def without_the_logarithm(self, input, right):
    return jnp.where(jnp.isfinite(input), jax.nn.sigmoid(input), right(input))


@mutant("LogSigmoid.M04")
@called
def small_exponential_is_lost(self, input, right):
    return jnp.where(input > 0, -jnp.log(1 + jnp.exp(-jnp.abs(input))), right(input))


@mutant("Softplus.M01")
def no_threshold(layer):
    return reconfigured(layer, threshold=jnp.inf)


@mutant("Softplus.M02")
@called
def not_divided_by_beta(self, input, right):
    return right(input) * self.beta


@mutant("Softplus.M03")
def beta_is_the_default(layer):
    return reconfigured(layer, beta=1.0)


@mutant("Softplus.M05")
@called
def identity_at_the_threshold(self, input, right):
    return jnp.where(self.beta * input == self.threshold, input, right(input))


# --- slopes


@mutant("PReLU.M01")
@called
def slope_at_zero_is_one(self, input, right):
    return jnp.where(input >= 0, input, right(input))


@mutant("PReLU.M02")
@called
def slopes_along_the_last_dimension(self, input, right):
    if input.ndim < 2:
        return right(input)
    return right(input.swapaxes(1, -1)).swapaxes(1, -1)


@mutant("PReLU.M03")
def slopes_are_not_trained(layer):
    return with_parameter(layer, "weight", lax.stop_gradient)


@mutant("RReLU.M01")
@called
def draws_in_evaluation(self, input, right):
    return F.rrelu(input, self.lower, self.upper, True, rng=self._draw_key(None))


@mutant("RReLU.M02")
@called
def mean_slope_in_training(self, input, right):
    return F.rrelu(input, self.lower, self.upper)


@mutant("RReLU.M03")
@called
def gradient_of_the_mean_slope(self, input, right):
    return straight_through(F.rrelu(input, self.lower, self.upper), right(input))


@mutant("RReLU.M04")
@called
def one_slope_for_all(self, input, right):
    if self.deterministic:
        return right(input)
    return F.leaky_relu(input, -right(-jnp.ones((), input.dtype)))


@mutant("RReLU.M05")
def same_slopes_at_every_call(layer):
    class Mutant(layer):
        def __call__(self, input):
            return super().__call__(input, rngs=jax.random.key(0))

    return Mutant


@mutant("RReLU.M06")
@called
def slope_divides(self, input, right):
    output = right(input)
    if not self.deterministic and self.lower < self.upper:
        return output
    return F.leaky_relu(input, 2 / (self.lower + self.upper))


# --- softmax


@mutant("Softmax.M01", "LogSoftmax.M01", "Softmin.M01")
def always_the_last_dimension(layer):
    return reconfigured(layer, dim=-1)


@mutant("Softmax.M04", "LogSoftmax.M04", "Softmin.M04")
def no_dim_means_the_last(layer):
    return reconfigured(layer, dim=lambda dim: -1 if dim is None else dim)


def naive_softmax(input, dim):
    exponentials = jnp.exp(input)
    return exponentials / exponentials.sum(dim, keepdims=True)


@mutant("Softmax.M02", "Softmin.M02")
@called
def overflows(self, input, right):
    output = right(input)
    if self.dim is None or input.ndim == 0:
        return output
    negated = type(self).__mro__[1].__name__ == "Softmin"
    return naive_softmax(-input if negated else input, self.dim)


@mutant("Softmax2d.M04")
@called
def image_overflows(self, input, right):
    right(input)
    return naive_softmax(input, -3)


@mutant("LogSoftmax.M02")
@called
def logarithm_of_zero(self, input, right):
    right(input)
    return jnp.log(F.softmax(input, self.dim)) if input.ndim else right(input)


@mutant("Softmax.M03", "Softmin.M03")
@called
def gradient_without_the_sum(self, input, right):
    output = lax.stop_gradient(right(input))
    negated = type(self).__mro__[1].__name__ == "Softmin"
    return straight_through(output * (-input if negated else input), output)


@mutant("LogSoftmax.M03")
@called
def logarithmic_gradient_without_the_sum(self, input, right):
    return straight_through(input, right(input))


@mutant("Softmin.M05")
@called
def not_negated(self, input, right):
    return right(-input)


@mutant("Softmax2d.M01")
@called
def over_the_whole_image(self, input, right):
    right(input)
    return jax.nn.softmax(input, (-3, -2, -1))


@mutant("Softmax2d.M02")
@called
def over_the_width(self, input, right):
    right(input)
    return jax.nn.softmax(input, -1)


@mutant("Softmax2d.M03")
@called
def over_dimension_one(self, input, right):
    right(input)
    return jax.nn.softmax(input, 1)


# --- a draw


@mutant("gumbel_softmax.M01")
def no_noise(function):
    return lambda logits, tau=1, hard=False, eps=1e-10, dim=-1, *, rng: F.softmax(logits / tau, dim)


@mutant("gumbel_softmax.M02")
def exponential_noise(function):
    def wrong(logits, tau=1, hard=False, eps=1e-10, dim=-1, *, rng):
        noise = jax.random.exponential(rng, logits.shape, logits.dtype)
        soft = F.softmax((logits + noise) / tau, dim)
        if not hard:
            return soft
        return straight_through(soft, jax.nn.one_hot(soft.argmax(dim), soft.shape[dim], axis=dim))

    return wrong


@mutant("gumbel_softmax.M03")
def tau_is_one(function):
    def wrong(logits, tau=1, hard=False, eps=1e-10, dim=-1, *, rng):
        return function(logits, 1, hard, eps, dim, rng=rng)

    return wrong


@mutant("gumbel_softmax.M04")
def never_hard(function):
    def wrong(logits, tau=1, hard=False, eps=1e-10, dim=-1, *, rng):
        return function(logits, tau, False, eps, dim, rng=rng)

    return wrong


@mutant("gumbel_softmax.M05")
def hard_draw_without_gradient(function):
    def wrong(logits, tau=1, hard=False, eps=1e-10, dim=-1, *, rng):
        output = function(logits, tau, hard, eps, dim, rng=rng)
        return gradient_where(jnp.asarray(not hard), output)

    return wrong
