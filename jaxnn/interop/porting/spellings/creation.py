"""Arrays that are made."""

from __future__ import annotations

from typing import Any

from ..code import Code, call, dtype, sequence
from ._register import Operands, Spelling, of_floats, spells


@spells("arange")
def _arange(operands: Operands, given: dict[str, Any]) -> Code | None:
    bounds = [given[name] for name in ("start", "end", "step") if name in given]
    if any(isinstance(bound, float) for bound in bounds) or "end" not in given:
        return None
    if any(not isinstance(b, int) and operands.kind(b) is None for b in bounds):
        return None
    if bounds[0] == 0 and len(bounds) == 2 and "start" in given:
        bounds = bounds[1:]
    named = {"dtype": dtype(given["dtype"])} if given.get("dtype", "int64") != "int64" else {}
    return call("jnp.arange", *(operands.code(bound) for bound in bounds), **named)


def _full(name: str) -> Spelling:
    def spelling(operands: Operands, given: dict[str, Any]) -> Code | None:
        shape = sequence([operands.code(size) for size in given["size"]])
        kind = dtype(given.get("dtype", "float32"))
        return call(f"jnp.{name}", shape, kind)

    return spelling


for _name in ("zeros", "ones"):
    spells(_name)(_full(_name))


for _name in ("zeros_like", "ones_like"):
    spells(_name)(of_floats(f"jnp.{_name}"))
