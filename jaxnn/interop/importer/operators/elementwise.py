"""Operators that work element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .... import functional as F
from ...._dtypes import accumulation_dtype
from ....functional._division import divide
from ....functional._gradients import magnitude
from ..derivatives import atan2, copysign, digamma, entropy, hypot, lgamma, power
from ._register import (
    aligned,
    as_array,
    default_float,
    dtype_of,
    is_float,
    operator,
    result_dtype,
    rounded_once,
    same_rank,
)

# --- one argument -------------------------------------------------------------------------------

_OF_FLOATS: dict[str, Callable[..., Any]] = {
    "acos": jnp.arccos, "acosh": jnp.arccosh, "asin": jnp.arcsin, "asinh": jnp.arcsinh,
    "atan": jnp.arctan, "atanh": jnp.arctanh, "cos": jnp.cos, "cosh": jnp.cosh,
    "deg2rad": jnp.deg2rad, "digamma": digamma, "erf": lax.erf,
    "erfc": lax.erfc, "erfinv": lax.erf_inv, "exp": jnp.exp, "exp2": jnp.exp2,
    "expm1": jnp.expm1, "lgamma": lgamma, "log": jnp.log, "log10": jnp.log10,
    "log1p": jnp.log1p, "log2": jnp.log2, "rad2deg": jnp.rad2deg, "reciprocal": jnp.reciprocal,
    "rsqrt": lax.rsqrt, "sigmoid": jax.nn.sigmoid, "sin": jnp.sin, "sinc": jnp.sinc,
    "sinh": jnp.sinh, "sqrt": jnp.sqrt, "tan": jnp.tan, "tanh": jnp.tanh,
    "special_expit": jax.nn.sigmoid, "special_erf": lax.erf,
}  # fmt: skip
_OF_ANY: dict[str, Callable[..., Any]] = {
    "bitwise_not": jnp.bitwise_not, "ceil": jnp.ceil, "conj": jnp.conj,
    "floor": jnp.floor, "isfinite": jnp.isfinite, "isinf": jnp.isinf, "isnan": jnp.isnan,
    "logical_not": jnp.logical_not, "neg": jnp.negative, "positive": jnp.positive,
    "sign": jnp.sign, "sgn": jnp.sign, "signbit": jnp.signbit, "square": jnp.square,
    "trunc": jnp.trunc, "fix": jnp.trunc, "negative": jnp.negative,
    "isposinf": jnp.isposinf, "isneginf": jnp.isneginf, "_conj": jnp.conj,
    "resolve_conj": jnp.asarray,
    "real": jnp.real, "imag": jnp.imag, "conj_physical": jnp.conj,
}  # fmt: skip
# Of integers these are what they were, where NumPy gives floats.
_ROUNDING = ("ceil", "floor", "trunc", "fix")


def _of_floats(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self: function(self if is_float(self) else self.astype(default_float()))


def _of_any(function: Callable[..., Any]) -> Callable[..., Any]:
    # By name, where NumPy's functions call it x.
    def of_any(self: jax.Array) -> jax.Array:
        return function(self)  # type: ignore[no-any-return]

    return of_any


def _unless_integer(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self: function(self) if is_float(self) else self


for _name, _function in _OF_FLOATS.items():
    operator(_name)(_of_floats(_function))
for _name, _function in _OF_ANY.items():
    wrapped = (
        _unless_integer(_function) if _name in _ROUNDING else lambda self, f=_function: f(self)
    )
    operator(_name)(wrapped)


@operator("abs", "absolute")
def _abs(self: jax.Array) -> jax.Array:
    return magnitude(self) if jnp.issubdtype(self.dtype, jnp.floating) else jnp.abs(self)


@operator("angle")
def _angle(self: jax.Array) -> jax.Array:
    if jnp.issubdtype(self.dtype, jnp.complexfloating):
        return atan2(jnp.imag(self), jnp.real(self))
    x = lax.stop_gradient(self if is_float(self) else self.astype(default_float()))
    return jnp.where(jnp.isnan(x), x, jnp.where(x < 0, jnp.asarray(math.pi, x.dtype), 0))


@operator("i0", "special_i0")
def _i0(self: jax.Array) -> jax.Array:
    x = self if is_float(self) else self.astype(default_float())
    return jnp.exp(magnitude(x)) * lax.bessel_i0e(x)


@operator("special_entr")
def _entropy(self: jax.Array) -> jax.Array:
    return entropy(self if is_float(self) else self.astype(default_float()))


@operator("round")
def _round(self: jax.Array, decimals: int = 0) -> jax.Array:
    return jnp.round(self, decimals) if is_float(self) else self


@operator("frac")
def _frac(self: jax.Array) -> jax.Array:
    return self - jnp.trunc(self)


@operator("logit")
def _logit(self: jax.Array, eps: float | None = None) -> jax.Array:
    x = self if eps is None else jnp.clip(self, eps, 1 - eps)
    return jnp.log(x) - jnp.log1p(-x)


@operator("nan_to_num")
def _nan_to_num(
    self: jax.Array, nan: float | None = None, posinf: Any = None, neginf: Any = None
) -> jax.Array:
    return jnp.nan_to_num(self, nan=nan or 0.0, posinf=posinf, neginf=neginf)


# --- two arguments ------------------------------------------------------------------------------

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "maximum": jnp.maximum,
    "minimum": jnp.minimum, "bitwise_and": jnp.bitwise_and, "bitwise_or": jnp.bitwise_or,
    "bitwise_xor": jnp.bitwise_xor, "__and__": jnp.bitwise_and, "__or__": jnp.bitwise_or,
    "__xor__": jnp.bitwise_xor, "fmod": jnp.fmod, "remainder": jnp.remainder, "fmax": jnp.fmax,
    "fmin": jnp.fmin,
    "gcd": jnp.gcd, "lcm": jnp.lcm, "heaviside": jnp.heaviside,
    "logaddexp": jnp.logaddexp, "logaddexp2": jnp.logaddexp2, "nextafter": jnp.nextafter,
    "__lshift__": jnp.left_shift, "__rshift__": jnp.right_shift,
    "bitwise_left_shift": jnp.left_shift,
    "bitwise_right_shift": jnp.right_shift,
}  # fmt: skip
_DIVIDING: dict[str, Callable[..., Any]] = {
    "atan2": atan2, "arctan2": atan2, "hypot": hypot, "copysign": copysign,
    "xlogy": jax.scipy.special.xlogy, "special_xlogy": jax.scipy.special.xlogy,
}  # fmt: skip
_COMPARING: dict[str, Callable[..., Any]] = {
    "eq": jnp.equal, "ne": jnp.not_equal, "lt": jnp.less, "le": jnp.less_equal,
    "gt": jnp.greater, "ge": jnp.greater_equal, "not_equal": jnp.not_equal,
    "logical_and": jnp.logical_and, "logical_or": jnp.logical_or, "logical_xor": jnp.logical_xor,
    "less": jnp.less, "greater": jnp.greater, "less_equal": jnp.less_equal,
    "greater_equal": jnp.greater_equal,
}  # fmt: skip


def _of_two(function: Callable[..., Any], floats: bool = False) -> Callable[..., Any]:
    return lambda self, other: function(*aligned(self, other, floats=floats))


for _name, _function in {**_ARITHMETIC, **_COMPARING}.items():
    operator(_name)(_of_two(_function))
for _name, _function in _DIVIDING.items():
    operator(_name)(_of_two(_function, floats=True))


@operator("mul", "multiply")
def _mul(self: Any, other: Any) -> jax.Array:
    return rounded_once(jnp.multiply, self, other)


@operator("add")
def _add(self: Any, other: Any, alpha: float = 1) -> jax.Array:
    x, y = aligned(self, other)
    if x.dtype == bool:
        return x | y
    return x + y if alpha == 1 else _in_float32(lambda x, y, a: x + a * y, x, y, alpha)


@operator("sub", "subtract")
def _sub(self: Any, other: Any, alpha: float = 1) -> jax.Array:
    x, y = aligned(self, other)
    return x - y if alpha == 1 else _in_float32(lambda x, y, a: x - a * y, x, y, alpha)


@operator("rsub")
def _rsub(self: Any, other: Any, alpha: float = 1) -> jax.Array:
    return _sub(other, self, alpha)  # type: ignore[no-any-return]


@operator("div", "divide", "true_divide")
def _div(self: Any, other: Any, rounding_mode: str | None = None) -> jax.Array:
    if rounding_mode is None:
        return rounded_once(divide, self, other, floats=True)
    return rounded_once(_floor_divide if rounding_mode == "floor" else _truncated, self, other)


@operator("floor_divide")
def _floor_division(self: Any, other: Any) -> jax.Array:
    return rounded_once(_floor_divide, self, other)


def _floor_divide(x: jax.Array, y: jax.Array) -> jax.Array:
    return _in_float32(jnp.floor_divide, x, y)


def _truncated(x: jax.Array, y: jax.Array) -> jax.Array:
    if not is_float(x):
        return lax.div(*jnp.broadcast_arrays(x, y))
    return _in_float32(lambda x, y: jnp.trunc(divide(x, y)), x, y)


def _in_float32(function: Callable[..., jax.Array], *values: Any) -> jax.Array:
    """Return `function` of values of one half precision, as numbers are made, rounded at the end.

    A quotient that is rounded before its whole part is taken may be the next whole number.
    """
    dtype = values[0].dtype
    wide = accumulation_dtype(dtype)
    return function(*(jnp.asarray(value, dtype).astype(wide) for value in values)).astype(dtype)


@operator("pow")
def _pow(self: Any, exponent: Any) -> jax.Array:
    dtype = result_dtype(self, exponent)
    if isinstance(exponent, (int, float)) and not isinstance(exponent, bool):
        x = self.astype(dtype)
        if exponent == int(exponent) and abs(exponent) <= 64:
            return lax.integer_pow(x, int(exponent))
        return jnp.sqrt(x) if exponent == 0.5 else jnp.power(x, jnp.asarray(exponent, dtype))
    x, y = aligned(self, exponent, dtype=dtype)
    return power(x, y) if jnp.issubdtype(dtype, jnp.floating) else jnp.power(x, y)


@operator("clamp", "clip")
def _clamp(self: jax.Array, min: Any = None, max: Any = None) -> jax.Array:
    dtype = result_dtype(self, min, max)
    result = self.astype(dtype)
    if min is not None:
        x, low = aligned(result, min, dtype=dtype)
        result = jnp.where(x < low, low, x)
    if max is not None:
        x, high = aligned(result, max, dtype=dtype)
        result = jnp.where(x > high, high, x)
    return result


@operator("clamp_min")
def _clamp_min(self: jax.Array, min: Any) -> jax.Array:
    return _clamp(self, min)  # type: ignore[no-any-return]


@operator("clamp_max")
def _clamp_max(self: jax.Array, max: Any) -> jax.Array:
    return _clamp(self, None, max)  # type: ignore[no-any-return]


@operator("where")
def _where(condition: jax.Array, self: Any = None, other: Any = None) -> Any:
    if self is None:
        raise NotImplementedError("where(condition) has a size that depends on its values")
    x, y = aligned(self, other)
    chosen, x, y = same_rank(condition.astype(bool), x, y)
    return jnp.where(chosen, x, y)


@operator("masked_fill")
def _masked_fill(self: jax.Array, mask: jax.Array, value: Any) -> jax.Array:
    chosen, x, y = same_rank(mask.astype(bool), self, jnp.asarray(value, self.dtype))
    return jnp.where(chosen, y, x)


@operator("addcmul")
def _addcmul(self: jax.Array, tensor1: Any, tensor2: Any, value: float = 1) -> jax.Array:
    return rounded_once(lambda x, y, z, v: x + v * y * z, self, tensor1, tensor2, value)


@operator("addcdiv")
def _addcdiv(self: jax.Array, tensor1: Any, tensor2: Any, value: float = 1) -> jax.Array:
    def formula(x: jax.Array, y: jax.Array, z: jax.Array, v: jax.Array) -> jax.Array:
        return x + divide(v * y, z)

    return rounded_once(formula, self, tensor1, tensor2, value, floats=True)


@operator("lerp")
def _lerp(self: jax.Array, end: jax.Array, weight: Any) -> jax.Array:
    def formula(x: jax.Array, y: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.where(jnp.abs(w) < 0.5, x + w * (y - x), y - (y - x) * (1 - w))

    return rounded_once(formula, self, end, weight)


@operator("isclose")
def _isclose(
    self: jax.Array, other: jax.Array, rtol: float = 1e-5, atol: float = 1e-8,
    equal_nan: bool = False,
) -> jax.Array:  # fmt: skip
    x, y = aligned(self, other)
    return jnp.isclose(x, y, rtol, atol, equal_nan)


# --- dtypes and copies --------------------------------------------------------------------------


@operator("_to_copy", "to", "type_as", "to_dtype")
def _to(self: jax.Array, dtype: Any = None, other: Any = None, **_: Any) -> jax.Array:
    if other is not None:
        return convert(self, other.dtype)
    return self if dtype is None else convert(self, dtype_of(dtype))


def convert(x: jax.Array, dtype: Any) -> jax.Array:
    """Return `x` in another dtype; what is not 0 is True."""
    return x != 0 if dtype == np.bool_ and x.dtype != np.bool_ else x.astype(dtype)


@operator("float")
def _float(self: jax.Array) -> jax.Array:
    return self.astype(default_float())


@operator(
    "alias", "clone", "contiguous", "lift_fresh_copy", "lift_fresh", "view_as_real_copy", "lift",
    "detach_copy_", "alias_copy", "_lazy_clone", "resolve_neg", "native_dropout_identity",
)  # fmt: skip
def _same(self: jax.Array) -> jax.Array:
    return self


@operator("detach", "detach_", "detach_copy")
def _detach(self: jax.Array) -> jax.Array:
    return lax.stop_gradient(self)


@operator("copy")
def _copy(self: jax.Array, src: Any) -> jax.Array:
    return jnp.broadcast_to(convert(as_array(src), self.dtype), self.shape)


@operator("view_as_complex")
def _view_as_complex(self: jax.Array) -> jax.Array:
    return lax.complex(self[..., 0], self[..., 1])


@operator("view_as_real")
def _view_as_real(self: jax.Array) -> jax.Array:
    return jnp.stack([jnp.real(self), jnp.imag(self)], -1)


@operator("complex")
def _complex(real: jax.Array, imag: jax.Array) -> jax.Array:
    return lax.complex(*jnp.broadcast_arrays(*same_rank(real, imag)))


@operator("polar")
def _polar(abs: jax.Array, angle: jax.Array) -> jax.Array:
    return lax.complex(*jnp.broadcast_arrays(abs * jnp.cos(angle), abs * jnp.sin(angle)))


# --- activations --------------------------------------------------------------------------------

_ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "hardsigmoid": F.hardsigmoid, "hardswish": F.hardswish, "log_sigmoid": F.logsigmoid,
    "mish": F.mish, "relu": F.relu, "relu6": F.relu6, "selu": F.selu, "silu": F.silu,
    "softsign": F.softsign, "tanhshrink": F.tanhshrink,
}  # fmt: skip
for _name, _function in _ACTIVATIONS.items():
    operator(_name)(lambda self, f=_function: f(self))


@operator("gelu")
def _gelu(self: jax.Array, approximate: str = "none") -> jax.Array:
    return F.gelu(self, approximate)


@operator("leaky_relu")
def _leaky_relu(self: jax.Array, negative_slope: float = 0.01) -> jax.Array:
    return F.leaky_relu(self, negative_slope)


@operator("elu")
def _elu(
    self: jax.Array, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0
) -> jax.Array:
    return scale * F.elu(self * input_scale, alpha)


@operator("celu")
def _celu(self: jax.Array, alpha: float = 1.0) -> jax.Array:
    return F.celu(self, alpha)


@operator("hardtanh")
def _hardtanh(self: jax.Array, min_val: float = -1.0, max_val: float = 1.0) -> jax.Array:
    return F.hardtanh(self, min_val, max_val)


@operator("softplus")
def _softplus(self: jax.Array, beta: float = 1.0, threshold: float = 20.0) -> jax.Array:
    return F.softplus(self, beta, threshold)


@operator("threshold")
def _threshold(self: jax.Array, threshold: float, value: float) -> jax.Array:
    return F.threshold(self, threshold, value)


@operator("softshrink")
def _softshrink(self: jax.Array, lambd: float = 0.5) -> jax.Array:
    return F.softshrink(self, lambd)


@operator("hardshrink")
def _hardshrink(self: jax.Array, lambd: float = 0.5) -> jax.Array:
    return F.hardshrink(self, lambd)


@operator("prelu", "_prelu_kernel")
def _prelu(self: jax.Array, weight: jax.Array) -> jax.Array:
    return F.prelu(self, weight.reshape(-1))


@operator("glu")
def _glu(self: jax.Array, dim: int = -1) -> jax.Array:
    return F.glu(self, dim)


# --- sizes, which are numbers -------------------------------------------------------------------

_OF_SIZES: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b, "mod": lambda a, b: a % b, "truediv": lambda a, b: a / b,
    "pow": lambda a, b: a**b, "neg": lambda a: -a, "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b, "getitem": lambda a, b: a[b],
    "sym_max": max, "sym_min": min, "sym_int": int, "sym_float": float, "sym_not": lambda a: not a,
    "sym_ite": lambda a, b, c: b if a else c, "round": round, "trunc": math.trunc,
    "and_": lambda a, b: a & b, "or_": lambda a, b: a | b, "int_oo": int, "sqrt": math.sqrt,
    "sym_sqrt": math.sqrt, "_sym_sqrt": math.sqrt, "ceil": math.ceil, "floor": math.floor,
    "sym_sum": sum, "abs": abs, "index": int,
}  # fmt: skip
for _name, _function in _OF_SIZES.items():
    operator(f"python.{_name}")(lambda *given, f=_function, **named: f(*given, *named.values()))


@operator("sym_size")
def _sym_size(self: jax.Array, dim: int) -> Any:
    return self.shape[dim]


@operator("sym_numel")
def _sym_numel(self: jax.Array) -> Any:
    return math.prod(self.shape)


@operator("scalar_tensor")
def _scalar_tensor(s: Any, dtype: str | None = None, **_: Any) -> jax.Array:
    return jnp.asarray(s, dtype_of(dtype) or default_float())
