"""Arithmetic, comparisons, functions of one element, and sizes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ..code import (
    AND,
    ATOM,
    COMPARE,
    OR,
    POWER,
    PRODUCT,
    SUM,
    XOR,
    Code,
    binary,
    call,
    constant,
    dtype,
    joined,
    method,
    prefix,
    subscript,
)
from ._register import (
    Operands,
    Spelling,
    is_array,
    is_number,
    of_floats,
    promotes_alike,
    same_dtype,
    signed,
    spells,
)

_SIGNS = {
    "add": ("+", SUM), "sub": ("-", SUM), "mul": ("*", PRODUCT), "div": ("/", PRODUCT),
    "eq": ("==", COMPARE), "ne": ("!=", COMPARE), "lt": ("<", COMPARE), "le": ("<=", COMPARE),
    "gt": (">", COMPARE), "ge": (">=", COMPARE), "bitwise_and": ("&", AND),
    "bitwise_or": ("|", OR), "bitwise_xor": ("^", XOR), "__and__": ("&", AND),
    "__or__": ("|", OR), "__xor__": ("^", XOR), "logical_and": ("&", AND),
    "logical_or": ("|", OR),
}  # fmt: skip
_SIGNS_OF_SIZES = {
    "add": ("+", SUM), "sub": ("-", SUM), "mul": ("*", PRODUCT), "floordiv": ("//", PRODUCT),
    "mod": ("%", PRODUCT), "truediv": ("/", PRODUCT), "pow": ("**", POWER),
}  # fmt: skip


for _name, (_sign, _level) in _SIGNS.items():
    spells(_name)(signed(_name, _sign, _level))


@spells("rsub")
def _reversed(operands: Operands, given: dict[str, Any]) -> Code | None:
    if len(given) != 2 or not promotes_alike(operands, *given.values()):
        return None
    return binary("-", SUM, operands.code(given["other"]), operands.code(given["self"]))


@spells("pow")
def _power(operands: Operands, given: dict[str, Any]) -> Code | None:
    kind, exponent = operands.kind(given["self"]), given["exponent"]
    if kind is None or not kind.is_float or not is_number(exponent):
        return None
    if exponent == 0.5:
        return call("jnp.sqrt", operands.code(given["self"]))
    if exponent != int(exponent) or abs(exponent) > 64:
        return None
    return binary("**", POWER, operands.code(given["self"]), constant(int(exponent)))


def _size_sign(name: str) -> Spelling:
    sign, level = _SIGNS_OF_SIZES[name]

    def spelling(operands: Operands, given: dict[str, Any]) -> Code | None:
        first, second = given.values()
        return binary(sign, level, operands.code(first), operands.code(second))

    return spelling


for _name in _SIGNS_OF_SIZES:
    spells(f"python.{_name}")(_size_sign(_name))


def _builtin(function: str) -> Spelling:
    return lambda operands, given: call(function, *map(operands.code, given.values()))


for _name, _function in (
    ("sym_max", "max"), ("sym_min", "min"), ("sym_int", "int"), ("sym_float", "float"),
):  # fmt: skip
    spells(f"python.{_name}")(_builtin(_function))


@spells("python.getitem")
def _item(operands: Operands, given: dict[str, Any]) -> Code | None:
    of, place = given.values()
    return subscript(operands.code(of), ((operands.code(place).text, False),))


@spells("sym_size")
def _size(operands: Operands, given: dict[str, Any]) -> Code | None:
    of = operands.code(given["self"])
    return joined(f"{of.at(ATOM)}.shape[{given.get('dim', 0)}]", [of])


_OF_FLOATS = {
    "cos": "jnp.cos", "cosh": "jnp.cosh", "exp": "jnp.exp", "expm1": "jnp.expm1", "log": "jnp.log",
    "log1p": "jnp.log1p", "log2": "jnp.log2", "sin": "jnp.sin", "sinh": "jnp.sinh",
    "sqrt": "jnp.sqrt", "tan": "jnp.tan", "tanh": "jnp.tanh", "sigmoid": "jax.nn.sigmoid",
    "rsqrt": "jax.lax.rsqrt", "erf": "jax.lax.erf", "floor": "jnp.floor", "ceil": "jnp.ceil",
    "reciprocal": "jnp.reciprocal", "square": "jnp.square", "sign": "jnp.sign",
    "isnan": "jnp.isnan", "isinf": "jnp.isinf", "isfinite": "jnp.isfinite",
    "detach": "jax.lax.stop_gradient", "relu": "F.relu", "silu": "F.silu", "mish": "F.mish",
    "relu6": "F.relu6", "selu": "F.selu", "hardswish": "F.hardswish",
    "hardsigmoid": "F.hardsigmoid", "log_sigmoid": "F.logsigmoid", "gelu": "F.gelu",
    "leaky_relu": "F.leaky_relu", "celu": "F.celu", "hardtanh": "F.hardtanh",
    "softplus": "F.softplus", "glu": "F.glu", "elu": "F.elu",
}  # fmt: skip


for _name, _function in _OF_FLOATS.items():
    spells(_name)(of_floats(_function))


@spells("neg")
def _negative(operands: Operands, given: dict[str, Any]) -> Code | None:
    return prefix("-", operands.code(given["self"]))


@spells("logical_not", "bitwise_not")
def _not(operands: Operands, given: dict[str, Any]) -> Code | None:
    kind = operands.kind(given["self"])
    return prefix("~", operands.code(given["self"])) if kind and kind.is_bool else None


@spells("_to_copy", "to", "type_as", "to_dtype")
def _as_type(operands: Operands, given: dict[str, Any]) -> Code | None:
    kind = operands.kind(given["self"])
    if kind is None or kind.dtype is None or jnp.issubdtype(kind.dtype, jnp.complexfloating):
        return None
    x = operands.code(given["self"])
    if "other" in given:
        other = operands.code(given["other"])
        return method(x, "astype", joined(f"{other.at(ATOM)}.dtype", [other]))
    return method(x, "astype", dtype(given["dtype"])) if "dtype" in given else None


@spells("where")
def _where(operands: Operands, given: dict[str, Any]) -> Code | None:
    condition = operands.kind(given["condition"])
    values = [given.get("self"), given.get("other")]
    if condition is None or not condition.is_bool or any(v is None for v in values):
        return None
    if not any(is_array(operands, v) for v in values) or not promotes_alike(operands, *values):
        return None
    return call("jnp.where", *(operands.code(value) for value in given.values()))


@spells("masked_fill")
def _masked_fill(operands: Operands, given: dict[str, Any]) -> Code | None:
    kind, mask, value = operands.kind(given["self"]), operands.kind(given["mask"]), given["value"]
    if kind is None or mask is None or not mask.is_bool or not kind.is_float:
        return None
    if not is_number(value) and not same_dtype(operands, [given["self"], value]):
        return None
    parts = (operands.code(given[name]) for name in ("mask", "value", "self"))
    return call("jnp.where", *parts)
