"""How modules keep, check and show options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def static(option: Any) -> Any:
    """Return a list as a tuple: a module's list would count as part of its state."""
    return tuple(option) if isinstance(option, Sequence) else option


def check_return_indices(return_indices: bool, layer: str) -> bool:
    """Return the option, or raise a TypeError where it is no bool."""
    if not isinstance(return_indices, bool):
        raise TypeError(f"{layer}: `return_indices` must be True or False, got {return_indices!r}")
    return return_indices


def changed(module: Any, defaults: Mapping[str, Any]) -> list[str]:
    """Return `name=value` for each option of the module that is not the default."""
    values = {name: getattr(module, name, default) for name, default in defaults.items()}
    return [f"{name}={value}" for name, value in values.items() if value != defaults[name]]
