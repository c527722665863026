"""What arguments and results are made of: described, and put together again."""

from __future__ import annotations

import copy
import inspect
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from .program import Opaque, Structure, Value, leaves, rebuild
from .record import realise


class NotDescribable(TypeError):
    """An argument or result that is neither made of tensors nor a constant."""


def describe(value: Any, tensors: list[Any], sizes: list[Any], inner: bool = False) -> Any:
    """Return the structure of `value`, moving its tensors and symbolic sizes to the lists.

    Args:
        value: an argument or a result.
        tensors: takes the tensors.
        sizes: takes the sizes that depend on those of the example.
        inner: whether it crosses the boundary of a module inside of the model. What has no
            structure that could be given by name is `Opaque` there: the graph knows which of its
            tensors are used.

    Raises:
        NotDescribable: if it holds anything but tensors, containers and constants.
    """
    import torch

    def of(item: Any) -> Any:
        return describe(item, tensors, sizes, inner)

    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return Value(str(len(tensors) - 1))
    if isinstance(value, torch.SymInt):
        sizes.append(value)
        return Value(f"s{len(sizes) - 1}")
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        return value
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, torch.device):
        return None
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        pairs = tuple((name, of(getattr(value, name))) for name in value._fields)
        return Structure("namedtuple", type(value).__name__, pairs)
    if isinstance(value, (tuple, torch.Size)):
        return tuple(of(item) for item in value)
    if isinstance(value, (list, deque)):
        return [of(item) for item in value]
    if isinstance(value, Mapping):
        kind = "dict" if type(value).__name__ in ("dict", "OrderedDict") else "record"
        pairs = tuple((key, of(item)) for key, item in value.items())
        return Structure(kind, type(value).__name__, pairs)
    if is_dataclass(value) and not isinstance(value, type):
        pairs = tuple((f.name, of(getattr(value, f.name))) for f in fields(value))
        return Structure("record", type(value).__name__, pairs)
    if inner:
        return _constants_of(value)
    if hasattr(value, "__dict__") and not callable(value):
        pairs = tuple((name, of(item)) for name, item in vars(value).items())
        return Structure("record", type(value).__name__, pairs)
    raise NotDescribable(f"{type(value).__name__} is neither a tensor nor made of tensors")


def _constants_of(value: Any) -> Structure | Opaque:
    """Return an object's structure if it holds constants alone, as a configuration does."""
    tensors: list[Any] = []
    try:
        structure = describe(value, tensors, tensors)
    except (NotDescribable, RecursionError):
        return Opaque(type(value).__name__)
    return Opaque(type(value).__name__) if tensors else structure


def described_call(
    args: Sequence[Any], kwargs: Mapping[str, Any], inner: bool = False
) -> tuple[Any, dict[str, Any], list[Any], list[Any]]:
    """Return the structures of a call's arguments, with their tensors and symbolic sizes."""
    tensors: list[Any] = []
    sizes: list[Any] = []
    structure = tuple(describe(item, tensors, sizes, inner) for item in args)
    named = {n: describe(v, tensors, sizes, inner) for n, v in kwargs.items()}
    return structure, named, tensors, sizes


def copied_call(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    tensor: Callable[[Any], Any] = lambda tensor: tensor,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call with copies of their tensors, and of what holds these.

    Args:
        args: the positional arguments.
        kwargs: the keyword arguments.
        tensor: what is made of each tensor before it is copied.

    Raises:
        NotDescribable: if one is neither made of tensors nor a constant.
    """
    structure, named, tensors, _ = described_call(args, kwargs)
    made = [tensor(item.detach()).clone() for item in tensors]
    return given_call(args, structure, kwargs, named, among(made, ()))


def call_in_jax(
    args: Sequence[Any], kwargs: Mapping[str, Any], array: Callable[[Any], Any]
) -> tuple[Any, dict[str, Any]]:
    """Return a call of the original as one of the import, with records in place of objects.

    Args:
        args: the positional arguments.
        kwargs: those by name.
        array: what is made of each tensor.
    """
    structure, named, tensors, _ = described_call(args, kwargs)

    def given(value: Value) -> Any:
        return array(tensors[int(value.name)].detach())

    options = {name: realise(rebuild(item, given)) for name, item in named.items()}
    return realise(rebuild(structure, given)), options


def told_apart(tensors: Sequence[Any]) -> list[Any]:
    """Return tensors of their own for the exporter, which marks those whose sizes may differ.

    A mark that stayed on the caller's would hold for the next capture too, whatever that asks for.
    What is given twice is copied: another call may give two different ones.
    """
    seen: set[int] = set()
    apart = []
    for tensor in tensors:
        own = tensor.clone() if id(tensor) in seen else tensor
        apart.append(own.detach().requires_grad_(tensor.requires_grad))
        seen.add(id(tensor))
    return apart


def named_arguments(
    forward: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call by name, where the signature names them."""
    try:
        return dict(inspect.signature(forward).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {f"arg{i}": item for i, item in enumerate(args)} | dict(kwargs)


def changes_lost(value: Any, was: Any, result: Any) -> Iterator[Any]:
    """Yield what a call has changed of an argument, and has not returned."""
    if describe(value, [], []) == was or _is_within(value, result):
        return
    if isinstance(value, tuple) and isinstance(was, tuple):
        for item, structure in zip(value, was, strict=True):
            yield from changes_lost(item, structure, result)
    else:
        yield value


def _is_within(value: Any, result: Any) -> bool:
    """Whether a container or object is the result, or stands in it."""
    import torch

    if value is result:
        return True
    if isinstance(result, (torch.Tensor, torch.nn.Module)) or callable(result):
        return False
    if isinstance(result, Mapping):
        return any(_is_within(value, item) for item in result.values())
    if isinstance(result, (tuple, list, deque)):
        return any(_is_within(value, item) for item in result)
    held = vars(result) if hasattr(result, "__dict__") else {}
    return any(_is_within(value, item) for item in held.values())


def among(tensors: Sequence[Any], sizes: Sequence[Any]) -> Callable[[Value], Any]:
    """Return a function that gives what a Value of a recorded call stands for."""

    def chosen(value: Value) -> Any:
        return sizes[int(value.name[1:])] if value.name[0] == "s" else tensors[int(value.name)]

    return chosen


def given_call(
    args: Sequence[Any],
    structure: Any,
    kwargs: Mapping[str, Any],
    named: Mapping[str, Any],
    leaf: Callable[[Value], Any],
) -> tuple[Any, dict[str, Any]]:
    """Return the arguments with their tensors and sizes replaced by what `leaf` gives."""
    options = {name: with_leaves(kwargs[name], item, leaf) for name, item in named.items()}
    return with_leaves(tuple(args), structure, leaf), options


def with_leaves(value: Any, structure: Any, tensor: Callable[[Value], Any]) -> Any:
    """Return a value of this structure with the tensors that `tensor` gives in place of its own."""
    import torch

    if isinstance(structure, Value):
        return tensor(structure)
    if isinstance(structure, Structure):
        made = {
            name: with_leaves(
                value[name] if isinstance(value, Mapping) else getattr(value, name), item, tensor
            )
            for name, item in structure.fields
        }
        if isinstance(value, tuple):
            return type(value)(**made)
        changed = copy.copy(value)
        if isinstance(value, Mapping):
            for name, item in made.items():
                changed[name] = item
        else:
            for name, item in made.items():
                object.__setattr__(changed, name, item)
        return changed
    if isinstance(value, (tuple, list, deque)) and not isinstance(value, torch.Size):
        items = [with_leaves(v, s, tensor) for v, s in zip(value, structure, strict=True)]
        return type(value)(items)
    return value


def arguments_of(
    forward: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the structures of a call's arguments by the names that `forward` gives them.

    Those that are not given have their defaults, where these are constants. A value is the pair of
    structure and kind of parameter.
    """
    try:
        signature = inspect.signature(forward)
        bound = signature.bind(*args, **kwargs)
    except (TypeError, ValueError):
        named = {f"arg{i}": (item, "positional") for i, item in enumerate(args)}
        return {**named, **{name: (item, "keyword") for name, item in kwargs.items()}}
    kinds: dict[Any, str] = {
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.VAR_KEYWORD: "**",
        inspect.Parameter.KEYWORD_ONLY: "keyword",
    }
    found = {}
    for name, parameter in signature.parameters.items():
        kind = kinds.get(parameter.kind, "positional")
        if name in bound.arguments:
            value = bound.arguments[name]
        elif kind in ("*", "**"):
            value = () if kind == "*" else {}
        else:
            value = parameter.default
            if not (value is None or isinstance(value, (bool, int, float, str))):
                continue
        if kind == "**":
            value = Structure("dict", "dict", tuple(value.items()))
        found[name] = (value, kind)
    return found


def same_structure(one: Any, other: Any) -> bool:
    """Whether two structures are the same but for the names of their values."""
    return bool(rebuild(one, lambda leaf: None) == rebuild(other, lambda leaf: None)) and len(
        leaves(one)
    ) == len(leaves(other))


def as_dicts(result: Any) -> Any:
    """Return dicts in place of the descriptions of dicts and named tuples."""
    if isinstance(result, Structure):
        return {name: as_dicts(item) for name, item in result.fields}
    return result
