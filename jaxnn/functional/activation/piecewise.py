"""Activations made of straight lines.

The branches of a formula say where its derivative jumps, and which side the jump itself belongs to:
as in torch.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Real

from ..._checks import check_array, check_floating, check_same_dtype
from ..._dtypes import accumulation_dtype
from ..._types import Scalar
from .._gradients import straight_through
from ._elementwise import check_number, elementwise, floating, is_known, real


def relu(input: Real[Array, "..."], inplace: bool = False) -> Real[Array, "..."]:
    """Replace negative values by zero.

    relu(x) = max(0, x), with relu(-0.0) = -0.0; its derivative is 1 above zero, 0 elsewhere, and 1
    at NaN.

    Shapes: any, kept. Dtypes: any real numbers but bool.

    Args:
        input: the array.
        inplace: accepted, without effect.

    Raises:
        TypeError: if the input is bool or complex.

    Source: torch.nn.functional.relu.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.relu(jnp.array([-1.0, 2.0]))
        Array([0., 2.], dtype=float32)
    """
    return _relu(real(input, "relu"))


@jax.custom_jvp
def _rectify(input: jax.Array) -> jax.Array:
    return jnp.where(input < 0, jnp.zeros_like(input), input)


@_rectify.defjvp
def _rectify_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    output = _rectify(*primals)
    return output, jnp.where(output <= 0, jnp.zeros_like(output), tangents[0])


_relu = jax.jit(_rectify, inline=True)


def relu6(input: Real[Array, "..."], inplace: bool = False) -> Real[Array, "..."]:
    """Clip to the range from 0 to 6.

    relu6(x) = min(max(0, x), 6); its derivative is 1 between 0 and 6, and 0 at both.

    Shapes: any, kept. Dtypes: any real numbers but bool.

    Args:
        input: the array.
        inplace: accepted, without effect.

    Raises:
        TypeError: if the input is bool or complex.

    Source: torch.nn.functional.relu6.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.relu6(jnp.array([-1.0, 2.0, 8.0]))
        Array([0., 2., 6.], dtype=float32)
    """
    return _hardtanh(real(input, "relu6"), 0, 6)


def hardtanh(
    input: Real[Array, "..."], min_val: Scalar = -1.0, max_val: Scalar = 1.0, inplace: bool = False
) -> Real[Array, "..."]:
    """Clip to a range.

    hardtanh(x) = min(max(x, min_val), max_val); its derivative is 1 inside, and 0 at both ends.

    Shapes: any, kept. Dtypes: any real numbers but bool, for whole ones with whole ends.

    Args:
        input: the array.
        min_val: the lower end, which may be traced.
        max_val: the upper end, which may be traced.
        inplace: accepted, without effect.

    Raises:
        TypeError: if the input is bool or complex, or unsigned while min_val is negative.
        ValueError: if min_val exceeds max_val.

    Source: torch.nn.functional.hardtanh.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.hardtanh(jnp.array([-3.0, 0.5, 2.0]))
        Array([-1. ,  0.5,  1. ], dtype=float32)
    """
    input = real(input, "hardtanh")
    min_val = check_number(min_val, "min_val", "hardtanh")
    max_val = check_number(max_val, "max_val", "hardtanh")
    if is_known(min_val, max_val) and min_val > max_val:
        raise ValueError(
            f"hardtanh: `min_val` must not exceed `max_val`, got {min_val} and {max_val}"
        )
    unsigned = jnp.issubdtype(input.dtype, jnp.unsignedinteger)
    if unsigned and is_known(min_val, max_val) and min_val <= -1:
        raise TypeError(
            f"hardtanh: `min_val` {min_val} does not fit an input of {input.dtype}; convert it "
            "with input.astype(jnp.int32)"
        )
    return _hardtanh(input, min_val, max_val)


@elementwise
def _hardtanh(x: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    return jnp.where(x <= low, low, jnp.where(x >= high, high, x))


def threshold(
    input: Real[Array, "..."], threshold: Scalar, value: Scalar, inplace: bool = False
) -> Real[Array, "..."]:
    """Replace the values that do not exceed a threshold.

    threshold(x) = x where x > threshold, else value; NaN stays.

    Shapes: any, kept. Dtypes: any real numbers but bool, for whole ones with whole options.

    Args:
        input: the array.
        threshold: the threshold, which may be traced.
        value: what takes the place, which may be traced.
        inplace: accepted, without effect.

    Raises:
        TypeError: if the input is bool or complex.
        ValueError: if the input is of whole numbers whose dtype cannot hold an option.

    Source: torch.nn.functional.threshold.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.threshold(jnp.array([0.5, 1.0, 2.0]), 1.0, -9.0)
        Array([-9., -9.,  2.], dtype=float32)
    """
    input = real(input, "threshold")
    threshold = _representable(threshold, "threshold", input.dtype)
    value = _representable(value, "value", input.dtype)
    return _threshold(input, threshold, value)


def _representable(value: Any, name: str, dtype: np.dtype[Any]) -> Any:
    value = check_number(value, name, "threshold")
    if jnp.issubdtype(dtype, jnp.integer) and is_known(value):
        limits = jnp.iinfo(dtype)
        if not limits.min <= value <= limits.max:
            raise ValueError(f"threshold: `{name}` {value} does not fit an input of {dtype}")
    return value


@elementwise
def _threshold(x: jax.Array, threshold: jax.Array, value: jax.Array) -> jax.Array:
    return jnp.where(x <= threshold, value, x)


def hardsigmoid(input: Float[Array, "..."], inplace: bool = False) -> Float[Array, "..."]:
    """Approximate the sigmoid by three straight lines.

    hardsigmoid(x) = min(max(x + 3, 0), 6) / 6; its derivative is 1/6 between -3 and 3, else 0.

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.
        inplace: accepted, without effect.

    Raises:
        TypeError: if the input is not floating-point.

    Source: torch.nn.functional.hardsigmoid.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.hardsigmoid(jnp.array([-4.0, 0.0, 1.5]))
        Array([0.  , 0.5 , 0.75], dtype=float32)
    """
    return _hardsigmoid(floating(input, "hardsigmoid"))


# The slope in torch, in float64 too.
_SIXTH = float(np.float32(1 / 6))


@elementwise
def _hardsigmoid(x: jax.Array) -> jax.Array:
    # Unlike in hardtanh, no gradient passes at NaN.
    sloped = jnp.where((x > -3) & (x < 3), x * _SIXTH, jnp.zeros_like(x))
    return straight_through(sloped, (jnp.clip(x, -3, 3) + 3) / 6)


def hardswish(input: Float[Array, "..."], inplace: bool = False) -> Float[Array, "..."]:
    """Scale each value by its hard sigmoid.

    hardswish(x) = x * min(max(x + 3, 0), 6) / 6; its derivative is 0 at -3, and 1 at 3.

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.
        inplace: accepted, without effect.

    Raises:
        TypeError: if the input is not floating-point.

    Source: Howard et al., 2019; torch.nn.functional.hardswish.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.hardswish(jnp.array([-4.0, 1.5, 3.0]))
        Array([-0.   ,  1.125,  3.   ], dtype=float32)
    """
    return _hardswish(floating(input, "hardswish"))


@elementwise
def _hardswish(x: jax.Array) -> jax.Array:
    # The inner selection keeps an infinity out of the branch whose gradient it would make NaN.
    inner = jnp.where((x > -3) & (x < 3), x, jnp.zeros_like(x))
    above = jnp.where(x < 3, inner * (inner + 3) / 6, x)
    return jnp.where(x <= -3, lax.stop_gradient(x * 0), above)


def leaky_relu(
    input: Float[Array, "..."], negative_slope: Scalar = 0.01, inplace: bool = False
) -> Float[Array, "..."]:
    """Scale the values that are not positive by a small slope.

    leaky_relu(x) = x where x > 0, else negative_slope * x; at 0 its derivative is negative_slope.

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.
        negative_slope: the slope, which may be traced.
        inplace: accepted, without effect.

    Raises:
        TypeError: if the input is not floating-point.

    Source: Maas et al., 2013; torch.nn.functional.leaky_relu.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.leaky_relu(jnp.array([-2.0, 2.0]), 0.25)
        Array([-0.5,  2. ], dtype=float32)
    """
    input = floating(input, "leaky_relu")
    return _leaky_relu(input, check_number(negative_slope, "negative_slope", "leaky_relu"))


def _sloped(x: jax.Array, slope: jax.Array) -> jax.Array:
    positive = x > 0
    # Without the inner selection the slope's gradient would be 0 * inf = NaN at an infinite input.
    negative = jnp.where(positive, jnp.zeros_like(x), x)
    return jnp.where(positive, x, slope * negative)


_leaky_relu = elementwise(_sloped)


def prelu(
    input: Float[Array, "N C *spatial"], weight: Float[Array, "#C"]
) -> Float[Array, "N C *spatial"]:
    """Scale negative values by a learnt slope, one for all channels or one for each.

    prelu(x) = x where x > 0, else weight * x

    Shapes: input of any shape, whose second dimension is that of the channels; an input of one
    dimension has a single channel. weight (C), (1) or ().

    Raises:
        TypeError: if the dtypes differ, or are not floating-point.
        ValueError: if the weight has neither one element nor one for each channel.

    Source: torch.nn.functional.prelu.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.prelu(jnp.array([[-1.0, -1.0]]), jnp.array([0.5, 0.25]))
        Array([[-0.5 , -0.25]], dtype=float32)
    """
    input = check_array(input, "input", "prelu")
    weight = check_array(weight, "weight", "prelu")
    check_same_dtype({"input": input, "weight": weight}, "prelu")
    check_floating(input, "input", "prelu")
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.ndim > 1 or weight.size not in (1, channels):
        raise ValueError(
            f"prelu: `weight` must hold one slope, or one for each of the {channels} channels of "
            f"an input of shape {input.shape}, got shape {weight.shape}"
        )
    return _prelu(input, weight)


@partial(jax.jit, inline=True)
def _prelu(input: jax.Array, weight: jax.Array) -> jax.Array:
    aligned = (1, -1, *[1] * (input.ndim - 2)) if weight.size != 1 else (1,) * input.ndim
    # In half precision the slope's gradient sums products: they are made and added in float32.
    wide = accumulation_dtype(input.dtype)
    x, slope = input.astype(wide), weight.astype(wide)
    return _sloped(x, jnp.broadcast_to(slope.reshape(aligned), x.shape)).astype(input.dtype)


def rrelu(
    input: Float[Array, "..."],
    lower: Scalar = 1.0 / 8,
    upper: Scalar = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
    *,
    rng: jax.Array | None = None,
) -> Float[Array, "..."]:
    """Scale the values that are not positive by a slope, in training a random one for each.

    rrelu(x) = x where x > 0, else a * x, with a drawn from U(lower, upper) in training, and
    a = (lower + upper) / 2 else. The derivative uses the slope that was drawn.

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.
        lower: the least slope, which may be traced.
        upper: the largest slope, which may be traced.
        training: whether to draw.
        inplace: accepted, without effect.
        rng: the key, needed in training.

    Raises:
        TypeError: if the input is not floating-point.
        ValueError: if lower exceeds upper, one of them is not finite, or `rng` is absent.

    Source: Xu et al., 2015; torch.nn.functional.rrelu.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.rrelu(jnp.array([-2.0, 2.0]), 0.25, 0.75)
        Array([-1.,  2.], dtype=float32)
    """
    input = floating(input, "rrelu")
    lower = check_number(lower, "lower", "rrelu")
    upper = check_number(upper, "upper", "rrelu")
    check_slopes(lower, upper, "rrelu")
    if not training:
        return _leaky_relu(input, (lower + upper) / 2)
    if rng is None:
        raise ValueError("rrelu: `rng` is needed to draw: pass rng=jax.random.key(0)")
    return _rrelu(input, lower, upper, rng)


def check_slopes(lower: Any, upper: Any, layer: str) -> None:
    """Refuse a known range of slopes that is no range."""
    if is_known(lower, upper) and not -math.inf < lower <= upper < math.inf:
        raise ValueError(
            f"{layer}: `lower` must not exceed `upper`, and both must be finite, got {lower} and "
            f"{upper}"
        )


@partial(jax.jit, inline=True)
def _rrelu(input: jax.Array, lower: Any, upper: Any, rng: jax.Array) -> jax.Array:
    wide = accumulation_dtype(input.dtype)
    low, high = jnp.asarray(lower).astype(wide), jnp.asarray(upper).astype(wide)
    slope = low + (high - low) * jax.random.uniform(rng, input.shape, wide)
    return _sloped(input.astype(wide), slope).astype(input.dtype)


def hardshrink(input: Float[Array, "..."], lambd: Scalar = 0.5) -> Float[Array, "..."]:
    """Set values near zero to zero.

    hardshrink(x) = 0 where -lambd <= x <= lambd, else x; so is its derivative, 0 or 1.

    Shapes: any, kept.

    Args:
        input: the array.
        lambd: how near; may be traced. A negative one changes nothing.

    Raises:
        TypeError: if the input is not floating-point.

    Source: torch.nn.functional.hardshrink.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.hardshrink(jnp.array([-2.0, 0.5, 1.0]))
        Array([-2.,  0.,  1.], dtype=float32)
    """
    input = floating(input, "hardshrink")
    return _hardshrink(input, check_number(lambd, "lambd", "hardshrink"))


@partial(jax.jit, inline=True)
def _hardshrink(input: jax.Array, lambd: Any) -> jax.Array:
    # Compared in the input's own dtype, as in torch.
    bound = jnp.asarray(lambd).astype(input.dtype)
    return jnp.where((input >= -bound) & (input <= bound), jnp.zeros_like(input), input)


def softshrink(input: Float[Array, "..."], lambd: Scalar = 0.5) -> Float[Array, "..."]:
    """Move each value towards zero, and no further.

    softshrink(x) = x - lambd where x > lambd, x + lambd where x < -lambd, else 0; its derivative is
    1, 1, and 0 from -lambd to lambd.

    Shapes: any, kept. Half precision is computed in float32.

    Args:
        input: the array.
        lambd: how far; may be traced.

    Raises:
        TypeError: if the input is not floating-point.
        ValueError: if lambd is negative, or beyond what the dtype holds.

    Source: torch.nn.functional.softshrink.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.softshrink(jnp.array([-2.0, 0.5, 1.0]))
        Array([-1.5,  0. ,  0.5], dtype=float32)
    """
    input = floating(input, "softshrink")
    lambd = check_number(lambd, "lambd", "softshrink")
    if is_known(lambd) and not 0 <= lambd <= float(jnp.finfo(input.dtype).max):
        raise ValueError(
            f"softshrink: `lambd` must not be negative, and be in the range of {input.dtype}, got "
            f"{lambd}"
        )
    return _softshrink(input, lambd)


@elementwise
def _softshrink(x: jax.Array, lambd: jax.Array) -> jax.Array:
    inside = (x >= -lambd) & (x <= lambd)
    return jnp.where(inside, lax.stop_gradient(x * 0), x - jnp.sign(x) * lambd)
