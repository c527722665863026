"""Blocks of a model that look alike before it is run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .naming import joined

if TYPE_CHECKING:
    import torch

# Fewer are captured as they are.
_FEWEST = 4


@dataclass(frozen=True, eq=False)
class Group:
    """Blocks that look alike.

    Attributes:
        members: their paths, in order.
        differing: the attributes that are not the same in all: path in the block, and name.
    """

    members: tuple[str, ...]
    differing: frozenset[tuple[str, str]]


def groups_of(
    model: torch.nn.Module, is_layer: Callable[[torch.nn.Module], bool]
) -> Iterator[Group]:
    """Yield the blocks of a model that look alike, which have a common parent.

    Args:
        model: the model.
        is_layer: whether a module is a layer that is not looked into.
    """
    shared = _shared(model)

    def walk(path: str, module: torch.nn.Module) -> Iterator[Group]:
        kinds: dict[Any, list[str]] = {}
        for name, child in module.named_children():
            if not is_layer(child) and not (_ids(child) & shared):
                kinds.setdefault(_look(child, is_layer), []).append(name)
        alike = {n for names in kinds.values() if len(names) >= _FEWEST for n in names}
        for names in kinds.values():
            if len(names) >= _FEWEST and type(module._modules[names[0]]) not in _containers():
                blocks = [module._modules[name] for name in names]
                yield Group(tuple(joined(path, name) for name in names), _differing(blocks))
        for name, child in module.named_children():
            if name not in alike and not is_layer(child):
                yield from walk(joined(path, name), child)

    yield from walk("", model)


def _containers() -> set[type]:
    import torch

    nn = torch.nn
    return {nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict}


def _ids(module: torch.nn.Module) -> set[int]:
    return {id(part) for part in (*module.modules(), *module.parameters(), *module.buffers())}


def _shared(model: torch.nn.Module) -> set[int]:
    """Return the modules, parameters and buffers that have more than one name."""
    seen: set[int] = set()
    twice: set[int] = set()
    for _, part in (
        *model.named_modules(remove_duplicate=False),
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ):
        (twice if id(part) in seen else seen).add(id(part))
    return twice


def _look(module: torch.nn.Module, is_layer: Callable[[torch.nn.Module], bool]) -> Any:
    """Return what is equal for modules that look alike, but for their attributes."""
    hooks = any(
        getattr(module, name, None)
        for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    )
    if hooks or "forward" in vars(module):
        return id(module)
    tensors = [*module._parameters.items(), *module._buffers.items()]
    options: Any = None
    if is_layer(module):
        plain = attributes_of(module)
        options = repr({name: value for name, value in plain.items() if is_constant(value)})
        if not all(is_constant(value) or callable(value) for value in plain.values()):
            return id(module)
    return (
        type(module),
        module.training,
        options,
        tuple((n, None if t is None else _look_of(t)) for n, t in tensors),
        frozenset(module._non_persistent_buffers_set),
        tuple((n, c and _look(c, is_layer)) for n, c in module._modules.items()),
    )


def _look_of(tensor: torch.Tensor) -> Any:
    return type(tensor), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.requires_grad


def attributes_of(module: torch.nn.Module) -> dict[str, Any]:
    """Return the attributes of a module that its class or its user has given it."""
    import torch

    own = vars(torch.nn.Module())
    return {name: value for name, value in vars(module).items() if name not in own}


def _differing(blocks: Sequence[Any]) -> frozenset[tuple[str, str]]:
    """Return the attributes that are not the same in all blocks: path in the block, and name."""
    first, *others = [
        {(p, n): v for p, part in block.named_modules() for n, v in attributes_of(part).items()}
        for block in blocks
    ]
    missing = object()
    return frozenset(
        key
        for other in others
        for key in {*first, *other}
        if not _is_same(first.get(key, missing), other.get(key, missing))
    )


def is_constant(value: Any) -> bool:
    """Whether a value is a number, a text or the like, or is made of such."""
    import torch

    if isinstance(value, (tuple, list)):
        return all(map(is_constant, value))
    kinds = (bool, int, float, complex, str, bytes, torch.dtype, torch.device)
    return value is None or isinstance(value, kinds)


def _is_same(one: Any, other: Any) -> bool:
    """Whether two attributes are the same to who only reads them."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(_is_same, one.values(), other.values()))
    if isinstance(one, functools.partial):
        return all(
            _is_same(getattr(one, name), getattr(other, name))
            for name in ("func", "args", "keywords")
        )
    return is_constant(one) and bool(one == other)
