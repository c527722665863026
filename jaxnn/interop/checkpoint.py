"""Reading weights: files in safetensors and PyTorch's format, and arrays of any library."""

from __future__ import annotations

import json
import math
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open

# Where weights are kept inside a training checkpoint, by the habits of common training programs.
_NESTED = ("state_dict", "model_state_dict", "model", "params")
# Under this name torch saves what a module keeps beside its arrays.
EXTRA_STATE = "_extra_state"
_PLAIN_TENSORS = ("Tensor", "Parameter", "Buffer")
_TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
_SAFETENSORS_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F32": np.float32,
    "F64": np.float64,
    "C64": np.complex64,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
}


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, mapped into memory each time that it is read.

    Attributes:
        path: the file.
        offset: where in the file its bytes begin.
        shape: its shape.
        dtype: its dtype.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self) -> np.ndarray:
        """Return the array, as pages of the file.

        Raises:
            OSError: if the file is gone, or shorter than it was.
        """
        size = math.prod(self.shape) * self.dtype.itemsize
        # Pages beyond the end of a file would end the process.
        if self.path.stat().st_size < self.offset + size:
            raise OSError(f"{self.path} has been cut short since it was opened")
        if not size:
            return np.empty(self.shape, self.dtype)
        data = np.asarray(np.memmap(self.path, np.uint8, "r", self.offset, (size,)))
        return data.view(self.dtype).reshape(self.shape)


def read_weights(source: Any, entry: str | None = None) -> Mapping[str, Any]:
    """Return the weights of `source`, by name: a mapping, or the path of a file or directory.

    Args:
        source: the mapping or the path.
        entry: which entry of a larger checkpoint they are, as a path ("ema.model"); by default
            the one that common training programs would have them in, or the only one.

    The arrays stay in their files where the format allows it, as `StoredArray` or as PyTorch's
    mapped tensors. A safetensors file's names, dtypes, shapes and offsets must account for every
    byte.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if PyTorch's format is to be read and torch is not installed.
        TypeError: if the source is neither a mapping nor a path.
        ValueError: if a file is damaged, or holds no weights.
    """
    if isinstance(source, (str, PathLike)):
        return _weights_in(_read_path(Path(source)), str(source), entry)
    if isinstance(source, Mapping):
        return _weights_in(source, "the mapping", entry)
    remedy = "; pass its state_dict()" if hasattr(source, "state_dict") else ""
    raise TypeError(
        "`source` must be a mapping from names to arrays or the path of a file, got "
        f"{type(source).__name__}{remedy}"
    )


def is_array(value: Any) -> bool:
    """Whether `as_numpy` can convert `value`."""
    known = (np.ndarray, np.generic, jax.Array, nnx.Variable, StoredArray)
    return isinstance(value, known) or _is_tensor(value)


def shape_and_dtype(value: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and dtype of an array of any library, without reading its values.

    Raises:
        ValueError: if it is not an array, has a dtype that NumPy lacks, or holds no values.
    """
    if not is_array(value):
        raise ValueError(f"must be an array, got {type(value).__name__}")
    array = value.get_value() if isinstance(value, nnx.Variable) else value
    if not _is_tensor(array):
        if not isinstance(array, (np.ndarray, np.generic, jax.Array, StoredArray)):
            raise ValueError(f"a variable that holds a {type(array).__name__} holds no values")
        return tuple(array.shape), np.dtype(array.dtype)
    if is_uninitialized(array):
        raise ValueError(
            "is a parameter of a lazy layer, without values; call the source's model once before "
            "taking its state_dict()"
        )
    if array.is_meta:
        raise ValueError("a tensor on torch's meta device holds no values")
    if array.is_nested:
        raise ValueError("is a nested tensor, which has no shape; pass a plain one")
    return tuple(array.shape), _numpy_dtype(array)


def is_uninitialized(value: Any) -> bool:
    """Whether `value` is a parameter or buffer of one of torch's lazy layers before its call."""
    return _is_tensor(value) and type(value).__name__.startswith("Uninitialized")


def settled(value: Any) -> Any:
    """Return an array that can be read later, for one whose reading might fail.

    A tensor that is spread over devices (DTensor) is gathered, one of another subclass becomes a
    plain tensor. Everything else is returned as it is.

    Raises:
        ValueError: if the values of a tensor of a subclass cannot be read.
    """
    kind = type(value)
    if not _is_tensor(value) or is_uninitialized(value):
        return value
    if kind.__module__.split(".")[0] == "torch" and kind.__name__ in _PLAIN_TENSORS:
        return value
    import torch

    try:
        tensor = value.detach()
        if hasattr(tensor, "full_tensor"):
            return tensor.full_tensor()
        if kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__:
            return tensor.as_subclass(torch.Tensor)
        if kind.dequantize is not torch.Tensor.dequantize:
            return settled(tensor.dequantize())
    except Exception as error:
        raise ValueError(
            f"is a {kind.__name__}, whose values cannot be read: {error}; pass a plain tensor"
        ) from error
    raise ValueError(f"is a {kind.__name__}, whose values are not its own; pass a plain tensor")


def as_numpy(value: Any) -> np.ndarray:
    """Return an array of NumPy, JAX or PyTorch as one of NumPy, without a copy where possible."""
    if isinstance(value, nnx.Variable):
        value = value[...]
    if isinstance(value, StoredArray):
        return value.read()
    return _tensor_as_numpy(value) if _is_tensor(value) else np.asarray(value)


def as_numpy_or_shape(value: Any) -> np.ndarray | jax.ShapeDtypeStruct:
    """Return `as_numpy` of an array, but of a tensor on torch's meta device its shape and dtype.

    As JAX has them: without its 64-bit mode an int64 is an int32.
    """
    if not (_is_tensor(value) and value.is_meta):
        return as_numpy(value)
    dtype = jax.dtypes.canonicalize_dtype(_numpy_dtype(value))
    return jax.ShapeDtypeStruct(tuple(value.shape), dtype)


def to_torch(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of a state dict as torch tensors of the same dtypes, with their own memory.

    Args:
        state_dict: a mapping from names to arrays.

    Returns:
        The tensors, under the same names and in the same order.

    Raises:
        ImportError: if torch is not installed.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> net = jaxnn.Linear(2, 1, dtype="bfloat16", rngs=nnx.Rngs(0))
        >>> tensors = jaxnn.interop.to_torch(jaxnn.state_dict(net))
        >>> tensors["weight"].dtype
        torch.bfloat16
    """
    tensors = {
        name: value if name.rpartition(".")[2] == EXTRA_STATE else as_tensor(value)
        for name, value in state_dict.items()
    }
    versions = getattr(state_dict, "_metadata", None)
    return tensors if versions is None else VersionedDict(tensors, versions)


class VersionedDict(dict[str, Any]):
    """A state dict with the versions of its modules, under the attribute that torch gives them."""

    def __init__(self, arrays: Mapping[str, Any], versions: Mapping[str, Any]) -> None:
        super().__init__(arrays)
        self._metadata = dict(versions)


def as_tensor(value: Any) -> Any:
    """Return an array of NumPy or JAX as a torch tensor with memory of its own."""
    torch = _import_torch("to_torch")
    array = np.array(as_numpy(value), order="C")
    if array.dtype.kind == "V" or array.dtype.name in ml_dtypes.__dict__:
        # torch.from_numpy knows no ml_dtypes: the same bits, under torch's name for the dtype.
        carrier = torch.from_numpy(array.view(f"u{array.dtype.itemsize}"))
        return carrier.view(getattr(torch, array.dtype.name))
    return torch.from_numpy(array)


def _is_tensor(value: Any) -> bool:
    return any(
        base.__name__ == "Tensor" and base.__module__ == "torch" for base in type(value).__mro__
    )


def _numpy_dtype(tensor: Any) -> np.dtype[Any]:
    name = str(tensor.dtype).removeprefix("torch.")
    try:
        return np.dtype(getattr(ml_dtypes, name, name))
    except TypeError as error:
        raise ValueError(f"has torch's dtype {name}, unknown to NumPy; dequantize it") from error


def _tensor_as_numpy(tensor: Any) -> np.ndarray:
    import torch

    tensor = tensor.detach()
    if tensor.is_meta:
        raise ValueError("a tensor on torch's meta device holds no values")
    tensor = (tensor.to_dense() if tensor.layout != torch.strided else tensor).cpu()
    tensor = tensor.resolve_conj().resolve_neg()
    name = str(tensor.dtype).removeprefix("torch.")
    if not hasattr(ml_dtypes, name):
        return np.asarray(tensor.numpy())
    carrier = {1: torch.uint8, 2: torch.int16}[tensor.element_size()]
    bits: np.ndarray = tensor.contiguous().view(carrier).numpy()
    return bits.view(np.dtype(getattr(ml_dtypes, name)))


def _weights_in(found: Mapping[Any, Any], origin: str, entry: str | None) -> Mapping[str, Any]:
    """Return the mapping from names to arrays that a checkpoint is, or has as an entry."""
    if entry is not None:
        found, origin = _entry_at(found, origin, entry), f"{origin}[{entry!r}]"
    elif not _maps_to_arrays(found) or isinstance(found.get("state_dict"), Mapping):
        choices = _entries_with_arrays(found)
        usual = [name for name in choices if name.rpartition(".")[2] in _NESTED]
        chosen = min(usual, key=_rank, default=None)
        if chosen is None and len(choices) == 1:
            chosen = choices[0]
        if chosen is None and any(isinstance(value, Mapping) for value in found.values()):
            raise ValueError(
                f"{origin} maps no names to arrays; choose the entry that does with entry=, one "
                f"of {choices or list(found)}"
            )
        if chosen is not None:
            others = [name for name in choices if name != chosen]
            if others:
                warnings.warn(
                    f"{origin} has weights in several entries: {chosen!r} is taken, not "
                    f"{', '.join(map(repr, others))}; choose with entry=",
                    stacklevel=4,
                )
            found, origin = _entry_at(found, origin, chosen), f"{origin}[{chosen!r}]"
    for name in found:
        if not isinstance(name, str):
            raise TypeError(f"{origin}: names must be strings, got {name!r}")
    return found


def _maps_to_arrays(found: Mapping[Any, Any]) -> bool:
    return any(is_array(value) for value in found.values())


def _rank(path: str) -> tuple[int, int]:
    *above, name = path.split(".")
    return len(above), _NESTED.index(name)


def _entries_with_arrays(found: Mapping[Any, Any], depth: int = 3) -> list[str]:
    """Return the paths of the entries that map names to arrays alone."""
    paths: list[str] = []
    for name, value in found.items():
        if not isinstance(value, Mapping) or not isinstance(name, str):
            continue
        names_arrays = all(isinstance(key, str) for key in value) and _maps_to_arrays(value)
        if names_arrays and not isinstance(value.get("state_dict"), Mapping):
            paths.append(name)
        elif depth > 1:
            paths += [f"{name}.{path}" for path in _entries_with_arrays(value, depth - 1)]
    return paths


def _entry_at(found: Mapping[Any, Any], origin: str, path: str) -> Mapping[str, Any]:
    """Return the mapping at a path such as "ema.model"; a name may itself have dots."""
    names = path.split(".")
    for count in range(len(names), 0, -1):
        value = found.get(".".join(names[:count]))
        if isinstance(value, Mapping):
            rest = ".".join(names[count:])
            return _entry_at(value, f"{origin}[{path!r}]", rest) if rest else value
    entries = [name for name, value in found.items() if isinstance(value, Mapping)]
    raise ValueError(
        f"{origin} has no entry {path!r}; "
        + (f"its entries are {entries}" if entries else "it has arrays alone, and no entries")
    )


def _read_path(path: Path) -> Mapping[str, Any]:
    if path.is_dir():
        return _read_directory(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.name.endswith(".index.json"):
        return _read_index(path)
    if path.suffix in _TORCH_SUFFIXES:
        return _read_torch(path)
    raise ValueError(
        f"{path}: cannot tell the format from the suffix {path.suffix!r}; expected .safetensors, "
        f".index.json or one of {_TORCH_SUFFIXES}"
    )


def _read_directory(directory: Path) -> Mapping[str, Any]:
    patterns = ("*.safetensors.index.json", "*.safetensors", "*.bin.index.json")
    for pattern in (*patterns, *(f"*{suffix}" for suffix in _TORCH_SUFFIXES)):
        found = sorted(directory.glob(pattern))
        if len(found) == 1:
            return _read_path(found[0])
        if found:
            raise ValueError(
                f"{directory} holds several files of weights and no index: pass one of "
                f"{[path.name for path in found]}"
            )
    raise ValueError(f"{directory} holds no file of weights: {', '.join(patterns)} or PyTorch's")


def _read_index(path: Path) -> Mapping[str, Any]:
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        files = {name: str(file) for name, file in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no index: it has no valid 'weight_map'") from error
    shards: dict[str, Mapping[str, Any]] = {}
    for file in sorted(set(files.values())):
        if Path(file).name != file:
            raise ValueError(f"{path}: {file!r} does not lie beside the index")
        if not (path.parent / file).exists():
            raise FileNotFoundError(f"{path} names {file}, which is not there")
        shards[file] = _read_path(path.parent / file)
    absent = [name for name, file in files.items() if name not in shards[file]]
    if absent:
        raise ValueError(f"{path}: the shards lack what the index says they hold: {absent}")
    return {name: shards[file][name] for name, file in files.items()}


def _read_safetensors(path: Path) -> dict[str, StoredArray]:
    try:
        # Opening checks the header against the file's size, without reading the arrays.
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise ValueError(f"{path} is not a valid safetensors file: {error}") from error
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        pairs = json.loads(file.read(header_size), object_pairs_hook=lambda pairs: pairs)
    header = {name: dict(entry) for name, entry in pairs if name != "__metadata__"}
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError(f"{path} is not a valid safetensors file: its header says one name twice")
    arrays = {}
    for name, entry in header.items():
        if entry["dtype"] not in _SAFETENSORS_DTYPES:
            raise ValueError(f"{path}: {name!r} has the dtype {entry['dtype']}, unknown to NumPy")
        dtype = np.dtype(_SAFETENSORS_DTYPES[entry["dtype"]])
        begin, end = entry["data_offsets"]
        if end - begin != math.prod(entry["shape"]) * dtype.itemsize:
            raise ValueError(f"{path}: the offsets of {name!r} do not fit its shape")
        arrays[name] = StoredArray(path, 8 + header_size + begin, tuple(entry["shape"]), dtype)
    return arrays


def _read_torch(path: Path) -> Mapping[str, Any]:
    torch = _import_torch(f"reading {path}")
    try:
        # Only the format of torch 1.6 and later, a zip archive, can be mapped into memory.
        loaded = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except Exception as error:
        # torch's own message advises to run the file's code; what was wrong is in the first
        # sentence of the error before it.
        reason = str(error.__context__ or error).split(". ")[0].strip() or repr(error)
        raise ValueError(
            f"{path} cannot be read as weights alone (torch.load with weights_only=True): "
            f"{reason.rstrip('.')}; save its state_dict() again, or convert it to .safetensors"
        ) from error
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, no mapping of names to tensors")
    return loaded


def _import_torch(purpose: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"{purpose} needs torch: pip install 'jaxnn[torch]'") from error
    return torch
