"""From arrays in files and memory to arrays on devices, one after the other."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AbstractMesh, NamedSharding, Sharding

from .checkpoint import as_numpy, shape_and_dtype

Shardings = Sharding | Callable[[str], Sharding | None]

# Below this many bytes, loading is over before a progress bar can be read.
_LARGE = 256 * 2**20

# Of what XLA's CPU backend accepts as its own memory.
_ALIGNMENT = 64


def check_value(value: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Refuse what a variable cannot hold, reading the values only where its integers are narrower.

    Raises:
        ValueError: if `value` is not an array, or has another shape, complex values for real ones,
            or integers out of range.
    """
    found, given = shape_and_dtype(value)
    if found != shape and not (shape == () and found == (1,)):
        raise ValueError(f"has shape {shape} in the model, {found} in the source")
    if given.kind == "c" and not jnp.issubdtype(dtype, jnp.complexfloating):
        raise ValueError(f"is {dtype} in the model, but complex in the source")
    are_integers = jnp.issubdtype(dtype, jnp.integer) and given.kind in "iu"
    if are_integers and not np.can_cast(given, dtype):
        array = as_numpy(value)
        if not np.array_equal(array.astype(dtype), array):
            raise ValueError(f"has values that {dtype} cannot hold")


def sharding_of(
    name: str, variable: nnx.Variable[Any], shardings: Shardings | None
) -> Sharding | None:
    """Return where a variable's new array goes: as told, or where the present one is.

    Raises:
        ValueError: if the sharding does not divide the array's shape, or has no devices.
    """
    chosen = shardings(name) if callable(shardings) else shardings
    present = variable.get_value()
    if chosen is None:
        # What JAX placed by default may move; what was placed on purpose may not.
        is_placed = not isinstance(present, jax.Array) or present.committed
        return _on_devices(getattr(present, "sharding", None)) if is_placed else None
    if not isinstance(chosen, Sharding):
        raise TypeError(
            "`sharding` must be a jax.sharding.Sharding, or a function from names to one, got "
            f"{type(chosen).__name__} for {name}"
        )
    chosen.shard_shape(tuple(present.shape))
    return _on_devices(chosen)


def _on_devices(sharding: Sharding | None) -> Sharding | None:
    """Return a sharding over the devices of the mesh that is set, where it has only their axes."""
    if not isinstance(sharding, NamedSharding) or not isinstance(sharding.mesh, AbstractMesh):
        return sharding
    mesh = jax.sharding.get_mesh()
    if not mesh.empty:
        return NamedSharding(mesh, sharding.spec)
    if sharding.mesh.size > 1:
        raise ValueError(
            f"is placed over the abstract mesh {dict(sharding.mesh.shape)}, which has no devices; "
            "load it under jax.set_mesh(mesh), or pass `sharding` over a mesh of devices"
        )
    return None


def place(array: np.ndarray, dtype: Any, sharding: Sharding | None) -> tuple[jax.Array, bool]:
    """Return a copy of an array on its devices, and whether it is finite.

    Only the parts that this process holds are read.
    """
    is_finite = True

    def part(index: Any) -> np.ndarray:
        nonlocal is_finite
        copy = _private_copy(array[index], dtype)
        is_finite = is_finite and _is_finite(copy)
        return copy

    if sharding is None:
        placed = jax.device_put(part(...))
    else:
        placed = jax.make_array_from_callback(array.shape, sharding, part)
    # Waited for, so that no more than one copy is on its way.
    return placed.block_until_ready(), is_finite


def _private_copy(array: np.ndarray, dtype: Any) -> np.ndarray:
    """Return a contiguous copy, aligned so that JAX takes it over on a CPU, not a copy of it."""
    size = array.size * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy: np.ndarray = memory[start : start + size].view(dtype).reshape(array.shape)
    # An overflow to infinity is reported, not warned of; so is a NaN.
    with np.errstate(over="ignore", invalid="ignore"):
        for columns in _blocks(array):
            np.copyto(copy[columns], array[columns], casting="unsafe")
    return copy


def _blocks(array: np.ndarray) -> Iterator[Any]:
    """Yield the indices of what to copy at once."""
    if array.flags.c_contiguous:
        yield ...
        return
    # A few columns at a time, so that what a transposed array's rows share stays in the cache.
    for start in range(0, array.shape[-1], 64):
        yield ..., slice(start, start + 64)


def _is_finite(array: np.ndarray) -> bool:
    if not jnp.issubdtype(array.dtype, jnp.inexact) or not array.size:
        return True
    if array.dtype.kind == "c":
        return _is_finite(array.view(array.real.dtype))
    if array.dtype.itemsize == 2:
        # As integers, the bits of one sign are in the order of the magnitudes, and far faster.
        infinity = int(np.array(np.inf, array.dtype).view(np.int16))
        positive, negative = array.view(np.int16).max(), array.view(np.uint16).max()
        return bool(positive < infinity and negative < infinity + 2**15)
    # The extremes are NaN where any element is, and need no memory of the array's size.
    with np.errstate(invalid="ignore"):
        return bool(np.isfinite(array.min()) and np.isfinite(array.max()))


@contextmanager
def progress_bar(total: int, is_shown: bool | None) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` bytes are loaded, on stderr; yield what is told of each array's.

    Args:
        total: the number of bytes to come.
        is_shown: None shows the bar where stderr is a terminal and the weights are large.
    """
    if not (sys.stderr.isatty() and total >= _LARGE if is_shown is None else is_shown):
        yield lambda size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn())
    with Progress("loading", *columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("loading", total=total)
        yield lambda size: progress.advance(task, size)


def size_of(value: Any) -> int:
    """Return how many bytes an array has, without reading it."""
    shape, dtype = shape_and_dtype(value)
    return math.prod(shape) * dtype.itemsize
