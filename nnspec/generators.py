"""Reproducible tensors: the same numbers in any language from a seed and a few words.

All generators are functions of SplitMix64's ``h(i) = finalise(seed + (i+1) * 0x9E3779B97F4A7C15)``
for the flat, row-major element number ``i``; ``spec/README.md`` writes each one out.

>>> f"{splitmix64(0, 1)[0]:016x}"
'e220a8397b1dcdaf'
>>> lattice((2, 3), seed=0).tolist()
[[1.53125, -0.28125, -1.90625], [1.875, -1.578125, -0.703125]]
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

LARGEST = 2**24
"""Elements that a generated tensor may have."""

_TAGGED = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "-0.0": -0.0}


def splitmix64(seed: int, count: int) -> np.ndarray:
    """The first ``count`` outputs of SplitMix64 for ``seed``, as uint64."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = np.uint64(seed % 2**64) + steps
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def automatic_seed(name: str) -> int:
    """The seed of a tensor that names none: SHA-256 of ``case/step/tensor``, first 8 bytes."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _lattice_integers(shape: Sequence[int], seed: int, bits: int) -> np.ndarray:
    h = splitmix64(seed, math.prod(shape)).reshape(shape)
    return (h >> np.uint64(64 - bits)).astype(np.int64) - 2 ** (bits - 1)


def lattice(
    shape: Sequence[int], *, seed: int, bits: int = 8, scale: float = 2.0**-6, offset: float = 0.0
) -> np.ndarray:
    """``(top bits of h(i) - 2^(bits-1)) * scale + offset``: exact in every float format."""
    return _lattice_integers(shape, seed, bits) * float(scale) + offset


def lattice_positive(
    shape: Sequence[int], *, seed: int, bits: int = 7, scale: float = 2.0**-6, offset: float = 0.0
) -> np.ndarray:
    """``(1 + top bits of h(i)) * scale + offset``: as :func:`lattice`, above the offset."""
    positive = _lattice_integers(shape, seed, bits) + 2 ** (bits - 1) + 1
    return positive * float(scale) + offset


def permutation(
    shape: Sequence[int], *, seed: int, scale: float = 1.0, offset: float | str = "centre"
) -> np.ndarray:
    """The ranks of ``(h(i), i)``: all values distinct, centred on zero by default."""
    count = math.prod(shape)
    ranks = np.empty(count, np.float64)
    ranks[np.argsort(splitmix64(seed, count), kind="stable")] = np.arange(count)
    start = -float(count // 2) if offset == "centre" else float(offset)
    return ((ranks + start) * float(scale)).reshape(shape)


def wide(shape: Sequence[int], *, seed: int, exponents: int = 8) -> np.ndarray:
    """``sign * (1 + m/2^7) * 2^e``, with ``e`` in ``[-exponents, exponents)``."""
    h = splitmix64(seed, math.prod(shape)).reshape(shape)
    sign = 1.0 - 2.0 * (h >> np.uint64(63)).astype(np.float64)
    mantissa = 1.0 + ((h >> np.uint64(56)) & np.uint64(127)).astype(np.float64) / 128
    exponent = ((h >> np.uint64(20)) % np.uint64(2 * exponents)).astype(np.int64) - exponents
    return sign * np.ldexp(mantissa, exponent)


def integers(shape: Sequence[int], *, seed: int, bound: int, low: int = 0) -> np.ndarray:
    """``low + h(i) mod (bound - low)``, as int64."""
    if bound <= low:
        raise ValueError(f"integers: bound {bound} must exceed low {low}")
    h = splitmix64(seed, math.prod(shape)).reshape(shape)
    return (h % np.uint64(bound - low)).astype(np.int64) + low


def constant(shape: Sequence[int], *, seed: int, value: float | str) -> np.ndarray:
    """Every element the same; the seed is not used."""
    return np.full(shape, number(value), np.float64)


GENERATORS: dict[str, Callable[..., np.ndarray]] = {
    "constant": constant,
    "integers": integers,
    "lattice": lattice,
    "lattice_positive": lattice_positive,
    "permutation": permutation,
    "wide": wide,
}


def number(value: Any) -> Any:
    """A literal number; ``nan``, ``inf``, ``-inf`` and ``-0.0`` come as strings."""
    if isinstance(value, str):
        if value not in _TAGGED:
            raise ValueError(f"{value!r} is no number; tagged numbers are {sorted(_TAGGED)}")
        return _TAGGED[value]
    return value


def scale_number(value: float | str) -> float:
    """A generator's scale or offset: a number, or a power of two written as ``"2^-6"``."""
    if isinstance(value, str):
        base, _, exponent = value.partition("^")
        sign = -1.0 if base.startswith("-") else 1.0
        if base.lstrip("-") != "2" or not exponent.lstrip("-").isdigit():
            raise ValueError(f'{value!r} is no scale; write a number or a power of two as "2^-6"')
        return sign * 2.0 ** int(exponent)
    return float(value)


def literal(value: Any) -> np.ndarray:
    """A nested list of numbers and tagged strings as an array (float64, int64 or bool)."""
    if isinstance(value, list):
        rows = [literal(item) for item in value]
        if len({row.shape for row in rows}) > 1:
            raise ValueError(f"ragged literal: rows of shapes {sorted({r.shape for r in rows})}")
        return np.stack(rows) if rows else np.zeros(0)
    return np.asarray(number(value))


def generate(gen: str, seed: int, shape: Sequence[int] | None = None, **options: Any) -> np.ndarray:
    """The tensor of one generator block of a layer file.

    Raises:
      ValueError: the generator has no such option or lacks one, or the tensor would be very large.
    """
    if shape is None:
        raise ValueError(f"gen {gen} needs a shape")
    if math.prod(shape) > LARGEST:
        raise ValueError(f"gen {gen}: shape {list(shape)} has more than {LARGEST} elements")
    parameters = inspect.signature(GENERATORS[gen]).parameters
    known = {name: p for name, p in parameters.items() if name not in ("shape", "seed")}
    for name in options:
        if name not in known:
            raise ValueError(f"gen {gen} has no option {name!r}; it has {sorted(known)}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in options:
            raise ValueError(f"gen {gen} needs {name!r}")
    if "scale" in options:
        options["scale"] = scale_number(options["scale"])
    if "offset" in options and options["offset"] != "centre":
        options["offset"] = scale_number(options["offset"])
    return GENERATORS[gen](tuple(shape), seed=seed, **options)
