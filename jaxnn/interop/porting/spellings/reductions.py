"""Reductions, and what is normalised by one."""

from __future__ import annotations

from typing import Any

from ..code import Code, method
from ._register import Operands, Spelling, of_floats, spells


def _reduction(name: str, needs: str) -> Spelling:
    def spelling(operands: Operands, given: dict[str, Any]) -> Code | None:
        kind = operands.kind(given["self"])
        if kind is None or "dtype" in given or not getattr(kind, f"is_{needs}"):
            return None
        options = {}
        dim = given.get("dim")
        if isinstance(dim, (list, tuple)) and len(dim) == 1:
            dim = dim[0]
        if dim is not None and dim not in ([], ()):
            options["axis"] = operands.code(tuple(dim) if isinstance(dim, list) else dim)
        if given.get("keepdim"):
            options["keepdims"] = Code("True")
        return method(operands.code(given["self"]), name, **options)

    return spelling


for _name, _method, _needs in (
    ("mean", "mean", "float"), ("sum", "sum", "float"), ("cumsum", "cumsum", "float"),
    ("any", "any", "bool"), ("all", "all", "bool"),
):  # fmt: skip
    spells(_name)(_reduction(_method, _needs))


for _name, _function in (
    ("softmax", "F.softmax"), ("_softmax", "F.softmax"), ("special_softmax", "F.softmax"),
    ("log_softmax", "F.log_softmax"), ("_log_softmax", "F.log_softmax"),
):  # fmt: skip
    spells(_name)(of_floats(_function))
