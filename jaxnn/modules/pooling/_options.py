"""Checks that pooling layers share."""

from __future__ import annotations


def check_return_indices(return_indices: bool, layer: str) -> bool:
    """Return the option, or raise a TypeError where it is no bool."""
    if not isinstance(return_indices, bool):
        raise TypeError(f"{layer}: `return_indices` must be True or False, got {return_indices!r}")
    return return_indices
