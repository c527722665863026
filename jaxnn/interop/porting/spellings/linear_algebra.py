"""Products."""

from __future__ import annotations

from typing import Any

from ..code import PRODUCT, SUM, Code, binary, call, constant
from ._register import Operands, same_dtype, signed, spells

for _name in ("matmul", "mm", "bmm"):
    spells(_name)(signed(_name, "@", PRODUCT))


@spells("addmm", "baddbmm")
def _add_product(operands: Operands, given: dict[str, Any]) -> Code | None:
    if len(given) != 3 or not same_dtype(operands, list(given.values())):
        return None
    bias, first, second = (operands.code(value) for value in given.values())
    return binary("+", SUM, bias, binary("@", PRODUCT, first, second))


@spells("einsum")
def _einsum(operands: Operands, given: dict[str, Any]) -> Code | None:
    if not same_dtype(operands, given["tensors"]):
        return None
    tensors = [operands.code(tensor) for tensor in given["tensors"]]
    return call("jnp.einsum", constant(given["equation"].replace(" ", "")), *tensors)
