"""Dtypes by name, and safetensors files that know bfloat16 without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

FLOATS = ("bfloat16", "float16", "float32", "float64")

DTYPES: dict[str, np.dtype] = {
    name: np.dtype(getattr(ml_dtypes, name, None) or getattr(np, name))
    for name in (*FLOATS, "int8", "int16", "int32", "int64", "uint8")
} | {"bool": np.dtype(np.bool_)}

_CODES = {
    "BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64", "I8": "int8",
    "I16": "int16", "I32": "int32", "I64": "int64", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip

# Unit roundoff u = 2^-p and the smallest subnormal of each float format.
UNIT_ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}
# What a device makes of the operands of float32 products, and of their rounding with it.
PROFILES = {"float32": 2.0**-24, "bfloat16x3": 2.0**-16, "tf32": 2.0**-11, "bfloat16": 2.0**-8}
SMALLEST = {"bfloat16": 2.0**-133, "float16": 2.0**-24, "float32": 2.0**-149, "float64": 5e-324}


def is_float(array: np.ndarray) -> bool:
    """Whether the array has a float dtype, bfloat16 included."""
    return array.dtype.name in FLOATS


def cast(array: np.ndarray, dtype: str) -> np.ndarray:
    """To a named dtype, rounding to nearest even; too large values become infinite silently."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(array).astype(DTYPES[dtype])


def read_tensors(path: Path | str) -> dict[str, np.ndarray]:
    """Every tensor of a safetensors file.

    Raises:
      ValueError: the file is truncated, its header lies, or a dtype is unknown.
    """
    try:
        tensors = safetensors.deserialize(Path(path).read_bytes())
        return {
            name: np.frombuffer(bytes(item["data"]), DTYPES[_CODES[item["dtype"]]])
            .reshape(item["shape"])
            .copy()
            for name, item in tensors
        }
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a sound safetensors file: {error}") from None


def write_tensors(
    path: Path | str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file through a temporary name, so that no half file stays."""
    path = Path(path)
    blocks = {name: np.array(array, order="C") for name, array in tensors.items()}
    part = path.with_name(path.name + ".part")
    # Of an empty dict of metadata beside no tensors safetensors makes an unsound header.
    part.write_bytes(safetensors.numpy.save(blocks, dict(metadata) if metadata else None))
    part.replace(path)
