"""Activation layers."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Inexact, Num, Real

from .. import functional as F
from .._checks import check_int
from ..functional.activation._elementwise import check_number
from ..functional.activation.piecewise import check_slopes
from ..functional.activation.smooth import check_approximation
from ._module import Module, RandomModule, RandomSource, parameter_dtype


class _Plain(Module):
    """An activation without options."""

    def __init__(self, *, rngs: nnx.Rngs | None = None) -> None:
        pass


class _Inplace(Module):
    """An activation whose only option has no effect."""

    def __init__(self, inplace: bool = False, *, rngs: nnx.Rngs | None = None) -> None:
        self.inplace = inplace

    def extra_repr(self) -> str:
        """Return `inplace`, where it is set."""
        return "inplace=True" if self.inplace else ""


class ReLU(_Inplace):
    """Replace what is negative by zero.

    relu(x) = max(0, x)

    Shapes: any, kept.

    Args:
        inplace: accepted, without effect.

    Raises:
        TypeError: at the call, if the input is bool or complex.

    Source: torch.nn.ReLU.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ReLU()(jnp.array([-1.0, 2.0]))
        Array([0., 2.], dtype=float32)
    """

    def __call__(self, input: Real[Array, "..."]) -> Real[Array, "..."]:
        """Return max(0, x)."""
        return F.relu(input)


class ReLU6(_Inplace):
    """Clip to the range from 0 to 6.

    relu6(x) = min(max(0, x), 6)

    Shapes: any, kept.

    Args:
        inplace: accepted, without effect.

    Raises:
        TypeError: at the call, if the input is bool or complex.

    Source: torch.nn.ReLU6.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ReLU6()(jnp.array([-1.0, 2.0, 8.0]))
        Array([0., 2., 6.], dtype=float32)
    """

    def __call__(self, input: Real[Array, "..."]) -> Real[Array, "..."]:
        """Return min(max(0, x), 6)."""
        return F.relu6(input)


class Hardtanh(Module):
    """Clip to a range.

    hardtanh(x) = min(max(x, min_val), max_val); its derivative is 1 inside, and 0 at both ends.

    Shapes: any, kept.

    Args:
        min_val: the lower end.
        max_val: the upper end.
        inplace: accepted, without effect.
        min_value: the deprecated name of `min_val`.
        max_value: the deprecated name of `max_val`.

    Raises:
        ValueError: if max_val does not exceed min_val.
        TypeError: at the call, if the input is bool or complex, or unsigned while min_val is
            negative.

    Source: torch.nn.Hardtanh.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Hardtanh(-2.0, 2.0)(jnp.array([-3.0, 0.5, 2.0]))
        Array([-2. ,  0.5,  2. ], dtype=float32)
    """

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        for name, value in {"min_val": min_value, "max_val": max_value}.items():
            if value is not None:
                warnings.warn(
                    f"jaxnn.Hardtanh: `{name}ue` is deprecated: pass {name}={value}",
                    FutureWarning,
                    stacklevel=2,
                )
        min_val = min_val if min_value is None else min_value
        max_val = max_val if max_value is None else max_value
        self.min_val = check_number(min_val, "min_val", "jaxnn.Hardtanh")
        self.max_val = check_number(max_val, "max_val", "jaxnn.Hardtanh")
        if not self.max_val > self.min_val:
            raise ValueError(
                f"jaxnn.Hardtanh: `max_val` must exceed `min_val`, got {max_val} and {min_val}"
            )
        self.inplace = inplace

    def __call__(self, input: Real[Array, "..."]) -> Real[Array, "..."]:
        """Return min(max(x, min_val), max_val)."""
        return F.hardtanh(input, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        """Return the options."""
        return f"min_val={self.min_val}, max_val={self.max_val}" + _suffix(self.inplace)


class Threshold(Module):
    """Replace what does not exceed a threshold.

    threshold(x) = x where x > threshold, else value

    Shapes: any, kept.

    Args:
        threshold: the threshold.
        value: what takes the place.
        inplace: accepted, without effect.

    Raises:
        TypeError: at the call, if the input is bool or complex.
        ValueError: at the call, if the input is of whole numbers that cannot hold an option.

    Source: torch.nn.Threshold.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Threshold(1.0, -9.0)(jnp.array([0.5, 1.0, 2.0]))
        Array([-9., -9.,  2.], dtype=float32)
    """

    def __init__(
        self, threshold: float, value: float, inplace: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> None:
        self.threshold = check_number(threshold, "threshold", "jaxnn.Threshold")
        self.value = check_number(value, "value", "jaxnn.Threshold")
        self.inplace = inplace

    def __call__(self, input: Real[Array, "..."]) -> Real[Array, "..."]:
        """Return x where x > threshold, else value."""
        return F.threshold(input, self.threshold, self.value)

    def extra_repr(self) -> str:
        """Return the options."""
        return f"threshold={self.threshold}, value={self.value}" + _suffix(self.inplace)


class Hardsigmoid(_Inplace):
    """Approximate the sigmoid by three straight lines.

    hardsigmoid(x) = min(max(x + 3, 0), 6) / 6

    Shapes: any, kept.

    Args:
        inplace: accepted, without effect.

    Raises:
        TypeError: at the call, if the input is of no floating-point dtype.

    Source: torch.nn.Hardsigmoid.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Hardsigmoid()(jnp.array([-4.0, 0.0, 1.5]))
        Array([0.  , 0.5 , 0.75], dtype=float32)
    """

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return min(max(x + 3, 0), 6) / 6."""
        return F.hardsigmoid(input)


class Hardswish(_Inplace):
    """Scale each value by its hard sigmoid.

    hardswish(x) = x * min(max(x + 3, 0), 6) / 6

    Shapes: any, kept.

    Args:
        inplace: accepted, without effect.

    Raises:
        TypeError: at the call, if the input is of no floating-point dtype.

    Source: Howard et al., 2019; torch.nn.Hardswish.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Hardswish()(jnp.array([-4.0, 1.5, 3.0]))
        Array([-0.   ,  1.125,  3.   ], dtype=float32)
    """

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return x * min(max(x + 3, 0), 6) / 6."""
        return F.hardswish(input)


class LeakyReLU(Module):
    """Scale what is not positive by a small slope.

    leaky_relu(x) = x where x > 0, else negative_slope * x

    Shapes: any, kept.

    Args:
        negative_slope: the slope.
        inplace: accepted, without effect.

    Raises:
        TypeError: at the call, if the input is of no floating-point dtype.

    Source: Maas et al., 2013; torch.nn.LeakyReLU.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.LeakyReLU(0.25)(jnp.array([-2.0, 2.0]))
        Array([-0.5,  2. ], dtype=float32)
    """

    def __init__(
        self, negative_slope: float = 0.01, inplace: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> None:
        self.negative_slope = check_number(negative_slope, "negative_slope", "jaxnn.LeakyReLU")
        self.inplace = inplace

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return x where x > 0, else negative_slope * x."""
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        """Return the options."""
        return f"negative_slope={self.negative_slope}" + _suffix(self.inplace)


class PReLU(Module):
    """Scale what is negative by a learnt slope.

    prelu(x) = x where x > 0, else weight * x

    Shapes: any, kept; the second dimension is that of the channels.

    Args:
        num_parameters: the number of slopes: 1, or the number of channels.
        init: their first value.
        dtype: their dtype, which the input must have too.

    Attributes:
        weight: the slopes, of shape (num_parameters).

    Raises:
        ValueError: at the call, if there are neither one slope nor one a channel.
        TypeError: at the call, if the input's dtype is not the slopes'.

    Source: He et al., 2015; torch.nn.PReLU.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.PReLU()(jnp.array([-1.0, 2.0]))
        Array([-0.25,  2.  ], dtype=float32)
    """

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.num_parameters = check_int(num_parameters, "num_parameters", "jaxnn.PReLU", minimum=0)
        self.init = init
        self.weight = nnx.Param(
            jnp.full((self.num_parameters,), init, parameter_dtype(self, dtype))
        )

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return x where x > 0, else weight * x."""
        return F.prelu(input, self.weight[...])

    def extra_repr(self) -> str:
        """Return the number of slopes."""
        return f"num_parameters={self.num_parameters}"


class RReLU(RandomModule):
    """Scale what is not positive by a slope: in training a random one for each element.

    rrelu(x) = x where x > 0, else a * x, with a drawn from U(lower, upper) in training, and
    a = (lower + upper) / 2 in evaluation mode.

    Shapes: any, kept.

    Args:
        lower: the least slope.
        upper: the largest slope.
        inplace: accepted, without effect.
        rngs: where the layer's own stream is forked from. Without it, a call in training mode
            needs `rngs`.

    Raises:
        ValueError: if lower exceeds upper, or one is not finite; at a call in training mode without
            any `rngs`.
        TypeError: at the call, if the input is of no floating-point dtype.

    Source: Xu et al., 2015; torch.nn.RReLU.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.RReLU(0.25, 0.75).eval()(jnp.array([-2.0, 2.0]))
        Array([-1.,  2.], dtype=float32)
    """

    def __init__(
        self,
        lower: float = 1.0 / 8,
        upper: float = 1.0 / 3,
        inplace: bool = False,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.lower = check_number(lower, "lower", "jaxnn.RReLU")
        self.upper = check_number(upper, "upper", "jaxnn.RReLU")
        check_slopes(self.lower, self.upper, "jaxnn.RReLU")
        self.inplace = inplace
        self._init_random(rngs)

    def __call__(
        self, input: Float[Array, "..."], *, rngs: RandomSource | None = None
    ) -> Float[Array, "..."]:
        """Return x where x > 0, else a * x; `rngs` takes the place of the layer's stream."""
        training = not self.deterministic
        key = self._draw_key(rngs) if training else None
        return F.rrelu(input, self.lower, self.upper, training, rng=key)

    def extra_repr(self) -> str:
        """Return the options."""
        return f"lower={self.lower}, upper={self.upper}" + _suffix(self.inplace)


class Hardshrink(Module):
    """Set what is near zero to zero.

    hardshrink(x) = 0 where -lambd <= x <= lambd, else x

    Shapes: any, kept.

    Args:
        lambd: how near. A negative one changes nothing.

    Raises:
        TypeError: at the call, if the input is of no floating-point dtype.

    Source: torch.nn.Hardshrink.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Hardshrink()(jnp.array([-2.0, 0.5, 1.0]))
        Array([-2.,  0.,  1.], dtype=float32)
    """

    def __init__(self, lambd: float = 0.5, *, rngs: nnx.Rngs | None = None) -> None:
        self.lambd = check_number(lambd, "lambd", "jaxnn.Hardshrink")

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return 0 where -lambd <= x <= lambd, else x."""
        return F.hardshrink(input, self.lambd)

    def extra_repr(self) -> str:
        """Return the options."""
        return str(self.lambd)


class Softshrink(Module):
    """Move towards zero, and stop there.

    softshrink(x) = x - lambd where x > lambd, x + lambd where x < -lambd, else 0

    Shapes: any, kept.

    Args:
        lambd: how far.

    Raises:
        TypeError: at the call, if the input is of no floating-point dtype.
        ValueError: if lambd is negative.

    Source: torch.nn.Softshrink.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Softshrink()(jnp.array([-2.0, 0.5, 1.0]))
        Array([-1.5,  0. ,  0.5], dtype=float32)
    """

    def __init__(self, lambd: float = 0.5, *, rngs: nnx.Rngs | None = None) -> None:
        self.lambd = check_number(lambd, "lambd", "jaxnn.Softshrink")
        if not self.lambd >= 0:
            raise ValueError(f"jaxnn.Softshrink: `lambd` must not be negative, got {lambd}")

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return x moved towards zero by lambd."""
        return F.softshrink(input, self.lambd)

    def extra_repr(self) -> str:
        """Return the options."""
        return str(self.lambd)


class ELU(Module):
    """Bend what is negative to an exponential that ends at -alpha.

    elu(x) = x where x > 0, else alpha * (exp(x) - 1)

    Shapes: any, kept.

    Args:
        alpha: the scale of the exponential.
        inplace: accepted, without effect.

    Raises:
        TypeError: at the call, if the input is of no floating-point dtype.

    Source: Clevert et al., 2016; torch.nn.ELU.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ELU(0.5)(jnp.array([-100.0, 0.0, 2.0]))
        Array([-0.5,  0. ,  2. ], dtype=float32)
    """

    def __init__(
        self, alpha: float = 1.0, inplace: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> None:
        self.alpha = check_number(alpha, "alpha", "jaxnn.ELU")
        self.inplace = inplace

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return x where x > 0, else alpha * (exp(x) - 1)."""
        return F.elu(input, self.alpha)

    def extra_repr(self) -> str:
        """Return the options."""
        return f"alpha={self.alpha}" + _suffix(self.inplace)


class CELU(Module):
    """Bend what is negative to an exponential, with a continuous derivative.

    celu(x) = max(0, x) + min(0, alpha * (exp(x / alpha) - 1))

    Shapes: any, kept.

    Args:
        alpha: where the exponential ends, negated.
        inplace: accepted, without effect.

    Raises:
        TypeError: at the call, if the input is of no floating-point dtype.
        ValueError: if alpha is 0.

    Source: Barron, 2017; torch.nn.CELU.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.CELU(0.5)(jnp.array([-100.0, 0.0, 2.0]))
        Array([-0.5,  0. ,  2. ], dtype=float32)
    """

    def __init__(
        self, alpha: float = 1.0, inplace: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> None:
        self.alpha = check_number(alpha, "alpha", "jaxnn.CELU")
        if self.alpha == 0:
            raise ValueError("jaxnn.CELU: `alpha` must not be 0, by which the input is divided")
        self.inplace = inplace

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return max(0, x) + min(0, alpha * (exp(x / alpha) - 1))."""
        return F.celu(input, self.alpha)

    def extra_repr(self) -> str:
        """Return the options."""
        return f"alpha={self.alpha}" + _suffix(self.inplace)


class SELU(_Inplace):
    """Bend and scale, so that activations keep zero mean and unit variance.

    selu(x) = scale * x where x > 0, else scale * alpha * (exp(x) - 1), with alpha = 1.6732632...
    and scale = 1.0507009...

    Shapes: any, kept.

    Args:
        inplace: accepted, without effect.

    Raises:
        TypeError: at the call, if the input is of no floating-point dtype.

    Source: Klambauer et al., 2017; torch.nn.SELU.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.SELU()(jnp.array([-100.0, 0.0, 1.0]))
        Array([-1.7580993,  0.       ,  1.050701 ], dtype=float32)
    """

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return scale * x where x > 0, else scale * alpha * (exp(x) - 1)."""
        return F.selu(input)


class GELU(Module):
    """Scale each value by the standard normal distribution function at it.

    gelu(x) = x * (1 + erf(x / sqrt(2))) / 2, or approximately
    x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2

    Shapes: any, kept.

    Args:
        approximate: "none", or "tanh" for the approximation.

    Raises:
        TypeError: at the call, if the input is of no floating-point dtype.
        ValueError: if `approximate` is neither.

    Source: Hendrycks and Gimpel, 2016; torch.nn.GELU.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.GELU()(jnp.array([-20.0, 0.0, 20.0]))
        Array([-0.,  0., 20.], dtype=float32)
    """

    def __init__(self, approximate: str = "none", *, rngs: nnx.Rngs | None = None) -> None:
        check_approximation(approximate, "jaxnn.GELU")
        self.approximate = approximate

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return x scaled by the normal distribution function at x."""
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        """Return the options."""
        return f"approximate={self.approximate!r}"


class Sigmoid(_Plain):
    """Map to the range from 0 to 1 by the logistic function.

    sigmoid(x) = 1 / (1 + exp(-x))

    Shapes: any, kept.

    Raises:
        TypeError: at the call, if the input is no array.

    Source: torch.nn.Sigmoid.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Sigmoid()(jnp.array([-200.0, 0.0, 200.0]))
        Array([0. , 0.5, 1. ], dtype=float32)
    """

    def __call__(self, input: Num[Array, "..."]) -> Inexact[Array, "..."]:
        """Return 1 / (1 + exp(-x))."""
        return F.sigmoid(input)


class LogSigmoid(_Plain):
    """Take the logarithm of the sigmoid, without overflow.

    logsigmoid(x) = -log(1 + exp(-x))

    Shapes: any, kept.

    Raises:
        TypeError: at the call, if the input is of no floating-point dtype.

    Source: torch.nn.LogSigmoid.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.LogSigmoid()(jnp.array([-200.0, 200.0]))
        Array([-200.,    0.], dtype=float32)
    """

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return -log(1 + exp(-x))."""
        return F.logsigmoid(input)


class Softplus(Module):
    """Smooth the positive part.

    softplus(x) = log(1 + exp(beta * x)) / beta, and x where beta * x > threshold

    Shapes: any, kept.

    Args:
        beta: how sharp the bend is.
        threshold: where the identity begins.

    Raises:
        TypeError: at the call, if the input is of no floating-point dtype.

    Source: torch.nn.Softplus.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Softplus()(jnp.array([-200.0, 200.0]))
        Array([  0., 200.], dtype=float32)
    """

    def __init__(
        self, beta: float = 1.0, threshold: float = 20.0, *, rngs: nnx.Rngs | None = None
    ) -> None:
        self.beta = check_number(beta, "beta", "jaxnn.Softplus")
        self.threshold = check_number(threshold, "threshold", "jaxnn.Softplus")

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return log(1 + exp(beta * x)) / beta, and x where beta * x > threshold."""
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        """Return the options."""
        return f"beta={self.beta}, threshold={self.threshold}"


class Mish(_Inplace):
    """Scale each value by the tanh of its softplus.

    mish(x) = x * tanh(log(1 + exp(x)))

    Shapes: any, kept.

    Args:
        inplace: accepted, without effect.

    Raises:
        TypeError: at the call, if the input is of no floating-point dtype.

    Source: Misra, 2019; torch.nn.Mish.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Mish()(jnp.array([-200.0, 0.0, 200.0]))
        Array([ -0.,   0., 200.], dtype=float32)
    """

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return x * tanh(log(1 + exp(x)))."""
        return F.mish(input)


class SiLU(_Inplace):
    """Scale each value by its sigmoid.

    silu(x) = x / (1 + exp(-x))

    Shapes: any, kept.

    Args:
        inplace: accepted, without effect.

    Raises:
        TypeError: at the call, if the input is of no floating-point or complex dtype.

    Source: Elfwing et al., 2017; torch.nn.SiLU.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.SiLU()(jnp.array([-200.0, 0.0, 200.0]))
        Array([ -0.,   0., 200.], dtype=float32)
    """

    def __call__(self, input: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """Return x / (1 + exp(-x))."""
        return F.silu(input)


class Softsign(_Plain):
    """Divide by one more than the absolute value.

    softsign(x) = x / (1 + |x|)

    Shapes: any, kept.

    Raises:
        TypeError: at the call, if the input is bool.

    Source: torch.nn.Softsign.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Softsign()(jnp.array([-1.0, 0.0, 3.0]))
        Array([-0.5 ,  0.  ,  0.75], dtype=float32)
    """

    def __call__(self, input: Num[Array, "..."]) -> Inexact[Array, "..."]:
        """Return x / (1 + |x|)."""
        return F.softsign(input)


class Tanh(_Plain):
    """Take the hyperbolic tangent.

    tanh(x) = (exp(x) - exp(-x)) / (exp(x) + exp(-x))

    Shapes: any, kept.

    Raises:
        TypeError: at the call, if the input is no array.

    Source: torch.nn.Tanh.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Tanh()(jnp.array([-200.0, 0.0, 200.0]))
        Array([-1.,  0.,  1.], dtype=float32)
    """

    def __call__(self, input: Num[Array, "..."]) -> Inexact[Array, "..."]:
        """Return the hyperbolic tangent."""
        return F.tanh(input)


class Tanhshrink(_Plain):
    """Subtract the hyperbolic tangent.

    tanhshrink(x) = x - tanh(x)

    Shapes: any, kept.

    Raises:
        TypeError: at the call, if the input is bool.

    Source: torch.nn.Tanhshrink.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Tanhshrink()(jnp.array([-100.0, 0.0, 100.0]))
        Array([-99.,   0.,  99.], dtype=float32)
    """

    def __call__(self, input: Num[Array, "..."]) -> Inexact[Array, "..."]:
        """Return x - tanh(x)."""
        return F.tanhshrink(input)


class GLU(Module):
    """Scale the first half of a dimension by the sigmoid of its second half.

    glu(a, b) = a * sigmoid(b), with the input split into a and b along the dimension

    Shapes: input (..., 2 * N, ...), output (..., N, ...).

    Args:
        dim: the dimension that is halved.

    Raises:
        TypeError: at the call, if the input is of no floating-point dtype.
        ValueError: at the call, if the input has no such dimension, or its size is odd.

    Source: Dauphin et al., 2016; torch.nn.GLU.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.GLU()(jnp.array([4.0, 2.0, 0.0, 100.0]))
        Array([2., 2.], dtype=float32)
    """

    def __init__(self, dim: int = -1, *, rngs: nnx.Rngs | None = None) -> None:
        self.dim = check_int(dim, "dim", "jaxnn.GLU")

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return a * sigmoid(b)."""
        return F.glu(input, self.dim)

    def extra_repr(self) -> str:
        """Return the options."""
        return f"dim={self.dim}"


class _AlongDimension(Module):
    """A kind of softmax along one dimension."""

    def __init__(self, dim: int | None = None, *, rngs: nnx.Rngs | None = None) -> None:
        self.dim = dim

    def extra_repr(self) -> str:
        """Return the dimension."""
        return f"dim={self.dim}"


class Softmax(_AlongDimension):
    """Scale exponentials along a dimension so that they sum to one.

    softmax(x)_i = exp(x_i) / sum_j exp(x_j)

    Shapes: any, kept.

    Args:
        dim: the dimension. None is deprecated, as in torch: see jaxnn.functional.softmax.

    Raises:
        ValueError: at the call, if the input has no such dimension.
        TypeError: at the call, if the input is of no floating-point dtype.

    Source: torch.nn.Softmax.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Softmax(dim=1)(jnp.zeros((1, 4)))
        Array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the softmax along `dim`."""
        return F.softmax(input, self.dim, _stacklevel=5)


class LogSoftmax(_AlongDimension):
    """Take the logarithm of the softmax, without underflow.

    log_softmax(x)_i = x_i - log(sum_j exp(x_j))

    Shapes: any, kept.

    Args:
        dim: the dimension. None is deprecated, as in torch: see jaxnn.functional.log_softmax.

    Raises:
        ValueError: at the call, if the input has no such dimension.
        TypeError: at the call, if the input is of no floating-point dtype.

    Source: torch.nn.LogSoftmax.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.LogSoftmax(dim=0)(jnp.array([0.0, 1000.0]))
        Array([-1000.,     0.], dtype=float32)
    """

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the logarithm of the softmax along `dim`."""
        return F.log_softmax(input, self.dim, _stacklevel=5)


class Softmin(_AlongDimension):
    """Scale exponentials of the negated values along a dimension so that they sum to one.

    softmin(x)_i = exp(-x_i) / sum_j exp(-x_j)

    Shapes: any, kept.

    Args:
        dim: the dimension. None is deprecated, as in torch: see jaxnn.functional.softmin.

    Raises:
        ValueError: at the call, if the input has no such dimension.
        TypeError: at the call, if the input is of no floating-point dtype.

    Source: torch.nn.Softmin.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Softmin(dim=1)(jnp.zeros((1, 4)))
        Array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the softmin along `dim`."""
        return F.softmin(input, self.dim, _stacklevel=5)


class Softmax2d(_Plain):
    """Scale exponentials over the channels, at each place of an image, so that they sum to one.

    softmax(x)_c = exp(x_c) / sum_d exp(x_d)

    Shapes: (N, C, H, W) or (C, H, W), kept.

    Raises:
        ValueError: at the call, if the input has neither three nor four dimensions.
        TypeError: at the call, if the input is of no floating-point dtype.

    Source: torch.nn.Softmax2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Softmax2d()(jnp.zeros((1, 4, 1, 1))).reshape(-1)
        Array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """

    def __call__(self, input: Float[Array, "*N C H W"]) -> Float[Array, "*N C H W"]:
        """Return the softmax over the channels."""
        if input.ndim not in (3, 4):
            raise ValueError(
                "jaxnn.Softmax2d: `input` must have the dimensions (N, C, H, W) or (C, H, W), got "
                f"shape {input.shape}"
            )
        return F.softmax(input, -3)


def _suffix(inplace: bool) -> str:
    return ", inplace=True" if inplace else ""
