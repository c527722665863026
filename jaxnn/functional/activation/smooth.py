"""Activations made of exponentials, elementwise, and the gated unit."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Inexact, Num

from ..._checks import check_array, check_dim, check_floating
from ..._dtypes import accumulation_dtype
from ..._types import Scalar
from .._logarithm import log_one_plus_exp
from .._tanh import steep_tanh
from ._elementwise import check_number, elementwise, floating, inexact, is_known


def elu(
    input: Float[Array, "..."], alpha: Scalar = 1.0, inplace: bool = False
) -> Float[Array, "..."]:
    """Replace negative values by an exponential that tends to -alpha.

    elu(x) = x where x > 0, else alpha * (exp(x) - 1); at 0 its derivative is alpha.

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.
        alpha: the scale of the exponential, which may be traced.
        inplace: accepted, without effect.

    Raises:
        TypeError: if the input is not floating-point.

    Source: Clevert et al., 2016; torch.nn.functional.elu.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.elu(jnp.array([-100.0, 0.0, 2.0]), 0.5)
        Array([-0.5,  0. ,  2. ], dtype=float32)
    """
    input = floating(input, "elu")
    return _elu(input, check_number(alpha, "alpha", "elu"), 1, 1)


@jax.custom_jvp
def _expm1(x: jax.Array) -> jax.Array:
    return jnp.expm1(x)


# JAX's own rule adds 1 to the result, and so loses what is small.
_expm1.defjvps(lambda d_x, _, x: d_x * jnp.exp(x))


@elementwise
def _elu(x: jax.Array, alpha: jax.Array, scale: jax.Array, input_scale: jax.Array) -> jax.Array:
    negative = x <= 0
    # The inner selection keeps an infinite exponential out of the gradient, as 0 * inf = NaN.
    inner = jnp.where(negative, x, jnp.zeros_like(x)) * input_scale
    return jnp.where(negative, scale * alpha * _expm1(inner), scale * x)


def celu(
    input: Float[Array, "..."], alpha: Scalar = 1.0, inplace: bool = False
) -> Float[Array, "..."]:
    """Replace negative values by an exponential, with a continuous derivative.

    celu(x) = max(0, x) + min(0, alpha * (exp(x / alpha) - 1))

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.
        alpha: what the exponential tends to, negated; may be traced.
        inplace: accepted, without effect.

    Raises:
        TypeError: if the input is not floating-point.
        ValueError: if alpha is 0.

    Source: Barron, 2017; torch.nn.functional.celu.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.celu(jnp.array([-100.0, 0.0, 2.0]), 0.5)
        Array([-0.5,  0. ,  2. ], dtype=float32)
    """
    input = floating(input, "celu")
    alpha = check_number(alpha, "alpha", "celu")
    if is_known(alpha) and alpha == 0:
        raise ValueError("celu: `alpha` must not be 0, by which the input is divided")
    return _elu(input, alpha, 1, 1 / alpha)


def selu(input: Float[Array, "..."], inplace: bool = False) -> Float[Array, "..."]:
    """The scaled `elu` with which activations keep zero mean and unit variance.

    selu(x) = scale * x where x > 0, else scale * alpha * (exp(x) - 1), with alpha = 1.6732632...
    and scale = 1.0507009...; at 0 its derivative is scale * alpha.

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.
        inplace: accepted, without effect.

    Raises:
        TypeError: if the input is not floating-point.

    Source: Klambauer et al., 2017; torch.nn.functional.selu.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.selu(jnp.array([-100.0, 0.0, 1.0]))
        Array([-1.7580993,  0.       ,  1.050701 ], dtype=float32)
    """
    return _elu(floating(input, "selu"), _SELU_ALPHA, _SELU_SCALE, 1)


_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def gelu(input: Float[Array, "..."], approximate: str = "none") -> Float[Array, "..."]:
    """Scale each value by the standard normal distribution function at it.

    gelu(x) = x * (1 + erf(x / sqrt(2))) / 2, or approximately
    x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.
        approximate: "none", or "tanh" for the approximation.

    Raises:
        TypeError: if the input is not floating-point.
        ValueError: if `approximate` is neither.

    Source: Hendrycks and Gimpel, 2016; torch.nn.functional.gelu.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.gelu(jnp.array([-20.0, 0.0, 20.0]))
        Array([-0.,  0., 20.], dtype=float32)
    """
    input = floating(input, "gelu")
    check_approximation(approximate, "gelu")
    return _gelu(input) if approximate == "none" else _gelu_by_tanh(input)


def check_approximation(approximate: Any, layer: str) -> None:
    """Refuse what is no approximation of `gelu`."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f'{layer}: `approximate` must be "none" or "tanh", got {approximate!r}')


@elementwise
def _gelu(x: jax.Array) -> jax.Array:
    # As torch; the complement would not cancel far below 0, but takes 2.3 times as long on a CPU.
    return 0.5 * x * (1 + lax.erf(math.sqrt(0.5) * x))


@elementwise
def _gelu_by_tanh(x: jax.Array) -> jax.Array:
    # Beyond 100 the tanh is 1, but the cube might overflow and make the gradient 0 * inf = NaN.
    z = jnp.clip(x, -100, 100)
    return 0.5 * x * (1 + steep_tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z * z * z)))


def sigmoid(input: Num[Array, "..."]) -> Inexact[Array, "..."]:
    """Map to the range from 0 to 1 by the logistic function.

    sigmoid(x) = 1 / (1 + exp(-x))

    Shapes: any, kept. Dtypes: any; whole numbers and bools give float32. Half precision is
    computed in float32.

    Args:
        input: the array.

    Raises:
        TypeError: if the input is not an array.

    Source: torch.nn.functional.sigmoid.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.sigmoid(jnp.array([-200.0, 0.0, 200.0]))
        Array([0. , 0.5, 1. ], dtype=float32)
    """
    return _sigmoid(inexact(input, "sigmoid"))


_sigmoid = elementwise(lax.logistic)


def logsigmoid(input: Float[Array, "..."]) -> Float[Array, "..."]:
    """Take the logarithm of the sigmoid, without overflow.

    logsigmoid(x) = -log(1 + exp(-x))

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.

    Raises:
        TypeError: if the input is not floating-point.

    Source: torch.nn.functional.logsigmoid.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.logsigmoid(jnp.array([-200.0, 200.0]))
        Array([-200.,    0.], dtype=float32)
    """
    return _logsigmoid(floating(input, "logsigmoid"))


@elementwise
def _logsigmoid(x: jax.Array) -> jax.Array:
    return 0 - log_one_plus_exp(-x)


def softplus(
    input: Float[Array, "..."], beta: Scalar = 1.0, threshold: Scalar = 20.0
) -> Float[Array, "..."]:
    """Smooth the positive part.

    softplus(x) = log(1 + exp(beta * x)) / beta, and x where beta * x > threshold

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.
        beta: how sharp the bend is; may be traced.
        threshold: where the identity begins; may be traced.

    Raises:
        TypeError: if the input is not floating-point.

    Source: torch.nn.functional.softplus.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.softplus(jnp.array([-200.0, 200.0]))
        Array([  0., 200.], dtype=float32)
    """
    input = floating(input, "softplus")
    beta = check_number(beta, "beta", "softplus")
    return _softplus(input, beta, check_number(threshold, "threshold", "softplus"))


@elementwise
def _softplus(x: jax.Array, beta: jax.Array, threshold: jax.Array) -> jax.Array:
    linear = x * beta > threshold
    # The inner selection keeps an infinity out of the gradient of beta.
    inner = jnp.where(linear, jnp.zeros_like(x), x)
    return jnp.where(linear, x, log_one_plus_exp(inner * beta) / beta)


def mish(input: Float[Array, "..."], inplace: bool = False) -> Float[Array, "..."]:
    """Scale each value by the tanh of its softplus.

    mish(x) = x * tanh(log(1 + exp(x)))

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.
        inplace: accepted, without effect.

    Raises:
        TypeError: if the input is not floating-point.

    Source: Misra, 2019; torch.nn.functional.mish.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.mish(jnp.array([-200.0, 0.0, 200.0]))
        Array([ -0.,   0., 200.], dtype=float32)
    """
    return _mish(floating(input, "mish"))


def _mish_ratio(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return a, b and b - a, where tanh(log(1 + exp(x))) = a / b, and none of them overflows."""
    negative = x < 0
    z = jnp.exp(-jnp.where(negative, -x, x))
    a = jnp.where(negative, z * z, jnp.ones_like(z)) + 2 * z
    rest = jnp.where(negative, jnp.ones_like(z), z * z) * 2
    return a, a + rest, rest


@jax.custom_jvp
def _mish_gate(x: jax.Array) -> jax.Array:
    a, b, _ = _mish_ratio(x)
    return a / b


@_mish_gate.defjvp
def _mish_gate_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # One less the square of the gate would cancel where the gate is near 1.
    a, b, rest = _mish_ratio(*primals)
    return a / b, tangents[0] * (rest * (a + b) / (b * b) * lax.logistic(*primals))


@elementwise
def _mish(x: jax.Array) -> jax.Array:
    return x * _mish_gate(x)


def silu(input: Inexact[Array, "..."], inplace: bool = False) -> Inexact[Array, "..."]:
    """Scale each value by its sigmoid.

    silu(x) = x / (1 + exp(-x))

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.
        inplace: accepted, without effect.

    Raises:
        TypeError: if the input is neither floating-point nor complex.

    Source: Elfwing et al., 2017; torch.nn.functional.silu.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.silu(jnp.array([-200.0, 0.0, 200.0]))
        Array([ -0.,   0., 200.], dtype=float32)
    """
    input = check_array(input, "input", "silu")
    check_floating(input, "input", "silu", complex_too=True)
    return _silu(input)


@elementwise
def _silu(x: jax.Array) -> jax.Array:
    return x * lax.logistic(x)


def softsign(input: Num[Array, "..."]) -> Inexact[Array, "..."]:
    """Divide by one more than the absolute value.

    softsign(x) = x / (1 + |x|); an infinity gives NaN, as in torch.

    Shapes: any, kept. Dtypes: any but bool; whole numbers give float32. Half precision is computed
    in float32.

    Args:
        input: the array.

    Raises:
        TypeError: if the input is bool.

    Source: torch.nn.functional.softsign.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.softsign(jnp.array([-1.0, 0.0, 3.0]))
        Array([-0.5 ,  0.  ,  0.75], dtype=float32)
    """
    return _softsign(inexact(input, "softsign", bool_too=False))


@elementwise
def _softsign(x: jax.Array) -> jax.Array:
    # The product has the derivative 0 at 0, as in torch.
    size = jnp.abs(x).astype(x.dtype) if jnp.iscomplexobj(x) else x * jnp.sign(x)
    return x / (1 + size)


def tanh(input: Num[Array, "..."]) -> Inexact[Array, "..."]:
    """Take the hyperbolic tangent.

    tanh(x) = (exp(x) - exp(-x)) / (exp(x) + exp(-x))

    Shapes: any, kept. Dtypes: any; whole numbers and bools give float32. Half precision is
    computed in float32.

    Args:
        input: the array.

    Raises:
        TypeError: if the input is not an array.

    Source: torch.nn.functional.tanh.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.tanh(jnp.array([-200.0, 0.0, 200.0]))
        Array([-1.,  0.,  1.], dtype=float32)
    """
    return _tanh(inexact(input, "tanh"))


@elementwise
def _tanh(x: jax.Array) -> jax.Array:
    return jnp.tanh(x) if jnp.iscomplexobj(x) else steep_tanh(x)


def tanhshrink(input: Num[Array, "..."]) -> Inexact[Array, "..."]:
    """Subtract the hyperbolic tangent.

    tanhshrink(x) = x - tanh(x)

    Shapes: any, kept. Dtypes: any but bool; whole numbers give float32. Half precision is computed
    in float32.

    Args:
        input: the array.

    Raises:
        TypeError: if the input is bool.

    Source: torch.nn.functional.tanhshrink.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.tanhshrink(jnp.array([-100.0, 0.0, 100.0]))
        Array([-99.,   0.,  99.], dtype=float32)
    """
    return _tanhshrink(inexact(input, "tanhshrink", bool_too=False))


def _tanhshrink_near_zero(x: jax.Array) -> jax.Array:
    # Lambert's continued fraction, of which 1 is subtracted before it is made.
    square = x * x
    fraction = jnp.full_like(x, 19)
    for odd in range(17, 1, -2):
        fraction = odd + square / fraction
    return x * square / (fraction + square)


@elementwise
def _tanhshrink(x: jax.Array) -> jax.Array:
    if jnp.iscomplexobj(x):
        return x - jnp.tanh(x)
    near = jnp.abs(x) < 1
    z = jnp.exp(-2 * jnp.abs(x))
    far = x - jnp.sign(x) * (1 - z) / (1 + z)
    return jnp.where(near, _tanhshrink_near_zero(jnp.where(near, x, jnp.zeros_like(x))), far)


def glu(input: Float[Array, "..."], dim: int = -1) -> Float[Array, "..."]:
    """Scale the first half of a dimension by the sigmoid of its second half.

    glu(a, b) = a * sigmoid(b), with the input split into a and b along the dimension

    Shapes: input (..., 2 * N, ...), output (..., N, ...). Half precision is computed in float32.

    Args:
        input: the array.
        dim: the dimension that is halved.

    Raises:
        TypeError: if the input is not floating-point.
        ValueError: if the input has no such dimension, or its size is odd.

    Source: Dauphin et al., 2016; torch.nn.functional.glu.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.glu(jnp.array([4.0, 2.0, 0.0, 100.0]))
        Array([2., 2.], dtype=float32)
    """
    input = floating(input, "glu")
    if input.ndim == 0:
        raise ValueError("glu: `input` must have dimensions, got none to be halved")
    axis = check_dim(dim, input.ndim, "dim", "glu")
    if input.shape[axis] % 2:
        raise ValueError(
            f"glu: dimension {axis} must be even, to be halved; got shape {input.shape}"
        )
    return _glu(input, axis)


@partial(jax.jit, static_argnums=1, inline=True)
def _glu(input: jax.Array, axis: int) -> jax.Array:
    wide = input.astype(accumulation_dtype(input.dtype))
    linear, gate = jnp.split(wide, 2, axis)
    return (linear * lax.logistic(gate)).astype(input.dtype)
