"""Arguments and arrays as JSON, and back."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import ml_dtypes  # noqa: F401 (NumPy knows bfloat16 from it)
import numpy as np

from ..checkpoint import as_numpy
from ..importer.record import Record

# Up to this size an array is kept whole, beyond it that many of its elements.
WHOLE = 4096


def arguments_as_json(value: Any) -> Any:
    """Return arguments as JSON.

    >>> arguments_as_json((None, [1, "a"]))
    {'tuple': [None, [1, 'a']]}
    """
    if hasattr(value, "shape"):
        return array_as_json(as_numpy(value.detach() if hasattr(value, "detach") else value))
    if isinstance(value, Mapping):
        return {"dict": [[name, arguments_as_json(item)] for name, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [arguments_as_json(item) for item in value]}
    if isinstance(value, list):
        return [arguments_as_json(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return {"record": [[name, arguments_as_json(item)] for name, item in vars(value).items()]}


def array_as_json(array: np.ndarray) -> dict[str, Any]:
    """Return all of an array as JSON."""
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": data}


def sampled_as_json(array: np.ndarray) -> dict[str, Any]:
    """Return an array as JSON, or evenly spread elements of it where it is large."""
    if array.size <= WHOLE:
        return array_as_json(array)
    # An odd step, so that no axis of a power of two is met at one place alone.
    positions = np.arange(WHOLE) * ((array.size // WHOLE - 1) | 1)
    sample = array_as_json(array.reshape(-1)[positions])
    return {**sample, "shape": list(array.shape), "positions": positions.tolist()}


def arguments_from_json(value: Any) -> Any:
    """Return the arguments that `arguments_as_json` wrote, with arrays of JAX."""
    if isinstance(value, list):
        return [arguments_from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "data" in value:
        return jnp.asarray(array_from_json(value))
    if "tuple" in value:
        return tuple(arguments_from_json(item) for item in value["tuple"])
    fields = value["dict"] if "dict" in value else value["record"]
    pairs = {name: arguments_from_json(item) for name, item in fields}
    return pairs if "dict" in value else Record(pairs)


def array_from_json(kept: Mapping[str, Any]) -> np.ndarray:
    """Return an array, or the kept elements of one, flat.

    Raises:
        KeyError: if it is damaged.
        ValueError: if it is damaged.
    """
    flat = np.frombuffer(base64.b64decode(kept["data"], validate=True), np.dtype(kept["dtype"]))
    if "positions" not in kept:
        return flat.reshape(kept["shape"])
    if flat.size != len(kept["positions"]):
        raise ValueError("an array and its positions have different lengths")
    return flat
