"""The types of options, and how a module keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

IntOrInts = int | Sequence[int]
FloatOrFloats = float | Sequence[float]


def static(option: Any) -> Any:
    """Return a list as a tuple: a module's list would count as part of its state."""
    return tuple(option) if isinstance(option, Sequence) else option
