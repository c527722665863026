"""What is equal for equal values: how a change of an attribute shows."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np


def print_of(value: Any, above: set[int]) -> Any:
    """Return what is equal for equal values."""
    import torch

    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if isinstance(value, torch.Tensor):
        if value.is_meta:
            return "meta", tuple(value.shape)
        return "tensor", str(value.dtype), tuple(value.shape), _digest(value)
    if isinstance(value, np.ndarray):
        return "array", hashlib.sha256(value.tobytes()).digest()
    if isinstance(value, (np.random.Generator, np.random.RandomState, random.Random)):
        return _random_state_of(value)
    if isinstance(value, torch.Generator):
        return _digest(value.get_state())
    if id(value) in above or isinstance(value, (torch.nn.Module, type)) or callable(value):
        return id(value)
    above = above | {id(value)}
    if isinstance(value, Mapping):
        return tuple((repr(name), print_of(item, above)) for name, item in value.items())
    if isinstance(value, (tuple, list, deque)):
        return tuple(print_of(item, above) for item in value)
    if isinstance(value, (set, frozenset)):
        return tuple(sorted(map(repr, value)))
    if hasattr(value, "__dict__"):
        return tuple((name, print_of(item, above)) for name, item in vars(value).items())
    return id(value)


def _digest(tensor: Any) -> bytes:
    import torch

    flat = tensor.detach().to_dense().contiguous().cpu().flatten()
    return hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).digest() if len(flat) else b""


def _random_state_of(source: Any) -> str:
    if isinstance(source, random.Random):
        return repr(source.getstate())
    state = source.bit_generator.state if isinstance(source, np.random.Generator) else None
    return repr(state if state is not None else source.get_state(legacy=False))
