"""Shapes, and arrays put together and taken apart."""

from __future__ import annotations

import re
from typing import Any

from ..code import ATOM, Code, call, constant, joined, method, sequence
from ._register import Operands, same_dtype, spells


@spells("view", "reshape", "_unsafe_view")
def _reshape(operands: Operands, given: dict[str, Any]) -> Code | None:
    sizes = given.get("size", given.get("shape"))
    if "dtype" in given or not isinstance(sizes, (list, tuple)):
        return None
    parts = [operands.code(size) for size in sizes] or [Code("()")]
    return method(operands.code(given["self"]), "reshape", *parts)


@spells("flatten")
def _flatten(operands: Operands, given: dict[str, Any]) -> Code | None:
    ends = [given.get("start_dim", 0), given.get("end_dim", -1)]
    named = {"end_dim": constant(ends[1])} if ends[1] != -1 else {}
    starts = [constant(ends[0])] if named or ends[0] else []
    kind = operands.kind(given["self"])
    is_array = kind is not None and bool(kind.ndim)
    return call("F.flatten", operands.code(given["self"]), *starts, **named) if is_array else None


@spells("view_as", "reshape_as")
def _as_other(operands: Operands, given: dict[str, Any]) -> Code | None:
    x, other = operands.code(given["self"]), operands.code(given["other"])
    return method(x, "reshape", joined(f"{other.at(ATOM)}.shape", [other]))


@spells("expand_as")
def _expand_as(operands: Operands, given: dict[str, Any]) -> Code | None:
    x, other = operands.code(given["self"]), operands.code(given["other"])
    return call("jnp.broadcast_to", x, joined(f"{other.at(ATOM)}.shape", [other]))


@spells("permute")
def _permute(operands: Operands, given: dict[str, Any]) -> Code | None:
    kind = operands.kind(given["self"])
    if kind is None or not kind.ndim:
        return None
    dims = [constant(dim % kind.ndim) for dim in given["dims"]]
    return method(operands.code(given["self"]), "transpose", *dims)


@spells("transpose")
def _transpose(operands: Operands, given: dict[str, Any]) -> Code | None:
    dims = [given.get(name) for name in ("dim0", "dim1")]
    if None in dims:
        return None
    return method(operands.code(given["self"]), "swapaxes", *map(constant, dims))


@spells("t", "numpy_T")
def _t(operands: Operands, given: dict[str, Any]) -> Code | None:
    kind, of = operands.kind(given["self"]), operands.code(given["self"])
    return joined(f"{of.at(ATOM)}.T", [of]) if kind and kind.ndim == 2 else None


@spells("expand")
def _expand(operands: Operands, given: dict[str, Any]) -> Code | None:
    of, sizes = operands.code(given["self"]), list(given["size"])
    places = [at for at, size in enumerate(sizes) if type(size) is int and size == -1]
    kept = dict.fromkeys(places, Code(""))
    if places:
        kind, name = operands.kind(given["self"]), of.text.removesuffix("[...]")
        if kind is None or kind.ndim != len(sizes) or not re.fullmatch(r"[\w.]+", name):
            return None
        first = len(sizes) - len(places)
        if places == list(range(first, len(sizes))) and len(places) > 1:
            kept = {first: Code(f"*{name}.shape[{first}:]")}
            sizes = sizes[: first + 1]
        else:
            kept = {at: Code(f"{name}.shape[{at}]") for at in places}
    parts = [kept[at] if at in kept else operands.code(size) for at, size in enumerate(sizes)]
    return call("jnp.broadcast_to", of, sequence(parts))


@spells("cat", "concat")
def _concatenate(operands: Operands, given: dict[str, Any]) -> Code | None:
    return _of_list("jnp.concatenate", operands, given)


@spells("stack")
def _stack(operands: Operands, given: dict[str, Any]) -> Code | None:
    return _of_list("jnp.stack", operands, given)


def _of_list(function: str, operands: Operands, given: dict[str, Any]) -> Code | None:
    tensors = given["tensors"]
    kinds = [operands.kind(tensor) for tensor in tensors]
    if not same_dtype(operands, tensors) or len({k.ndim for k in kinds if k}) != 1:
        return None
    named = {"axis": constant(given["dim"])} if given.get("dim") else {}
    return call(function, sequence([operands.code(t) for t in tensors], "[]"), **named)


@spells("chunk", "split")
def _split(operands: Operands, given: dict[str, Any]) -> Code | None:
    kind, dim = operands.kind(given["self"]), given.get("dim", 0)
    size = given.get("split_size")
    if kind is None or kind.dtype is None or (size is not None and not isinstance(size, int)):
        return None
    lengths = {shape[dim] for shape in kind.shapes}
    counts = {given["chunks"]} if size is None else {n // size for n in lengths}
    if len(counts) != 1 or not all(isinstance(n, int) for n in counts):
        return None
    count = counts.pop()
    if any(n % count or (size is not None and n != count * size) for n in lengths):
        return None
    x = operands.code(given["self"])
    return call("jnp.split", x, constant(count), axis=constant(dim))


@spells("unbind")
def _unbind(operands: Operands, given: dict[str, Any]) -> Code | None:
    # An array is iterated along its first dimension.
    return operands.code(given["self"]) if not given.get("dim") else None


@spells("constant_pad_nd", "pad")
def _pad(operands: Operands, given: dict[str, Any]) -> Code | None:
    names = ("mode", "value")
    named = {n: operands.code(given[n]) for n in names if given.get(n) not in (None, 0, "constant")}
    return call("F.pad", operands.code(given["self"]), operands.code(tuple(given["pad"])), **named)
