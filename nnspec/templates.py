"""Names and strings in which ``{name}`` stands for a value: what ``each`` writes out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_PLACE = re.compile(r"({\w+})")


def substitute(block: Any, values: Mapping[str, Any]) -> Any:
    """The block with ``{name}`` in its strings replaced by the value of that name.

    >>> substitute({"name": "weight_l{k}", "shape": ["{k} + 1"]}, {"k": 0})
    {'name': 'weight_l0', 'shape': ['0 + 1']}
    """
    if isinstance(block, Mapping):
        return {key: substitute(item, values) for key, item in block.items()}
    if isinstance(block, list):
        return [substitute(item, values) for item in block]
    if isinstance(block, str):
        return _PLACE.sub(lambda m: str(values.get(m[0][1:-1], m[0])), block)
    return block


@lru_cache(maxsize=1024)
def pattern(name: str) -> re.Pattern[str]:
    """What the names look like that a name with places in it stands for.

    >>> bool(pattern("weight_l{k}").fullmatch("weight_l12"))
    True
    """
    parts = _PLACE.split(name)
    return re.compile("".join(r"\w*" if _PLACE.match(p) else re.escape(p) for p in parts))
