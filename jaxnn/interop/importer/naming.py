"""The names of a torch model's parts: what is shared has several."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def joined(path: str, name: str) -> str:
    """Return the path of what has a name in the module at `path`.

    >>> joined("", "conv"), joined("layers.0", "conv")
    ('conv', 'layers.0.conv')
    """
    return f"{path}.{name}" if path else name


def is_below(path: str, name: str) -> bool:
    """Whether `name` is the module at `path`, or of something in it.

    >>> is_below("", "a"), is_below("a", "a.b"), is_below("a", "ab")
    (True, True, False)
    """
    return not path or name == path or name.startswith(f"{path}.")


def relative(path: str, name: str) -> str:
    """Return the path from the module at `path` to what has the name `name` in the model.

    >>> relative("layers.0", "layers.0.conv.weight")
    'conv.weight'
    """
    return name.removeprefix(f"{path}.") if path else name


def all_names(model: torch.nn.Module) -> dict[str, list[str]]:
    """Return all names of each module, parameter and buffer, by each of them."""
    by_identity: dict[int, list[str]] = {}
    for name, part in [*model.named_modules(remove_duplicate=False), *_tensors(model)]:
        by_identity.setdefault(id(part), []).append(name)
    return {name: names for names in by_identity.values() for name in names}


def second_names(model: torch.nn.Module) -> dict[str, str]:
    """Return the second names of modules, parameters and buffers, each with the first.

    What stands in a module that has a second name is not named apart.
    """
    tied: dict[str, str] = {}
    modules: dict[int, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if not name.startswith(tuple(f"{alias}." for alias in tied)):
            first = modules.setdefault(id(module), name)
            if first != name:
                tied[name] = first
    aliases = tuple(f"{alias}." for alias in tied)
    tensors: dict[int, str] = {}
    for name, tensor in _tensors(model):
        if not name.startswith(aliases):
            first = tensors.setdefault(id(tensor), name)
            if first != name:
                tied[name] = first
    return tied


def sharing_memory(model: torch.nn.Module) -> list[tuple[str, str]]:
    """Return the pairs of a parameter and another tensor whose numbers lie in the same memory.

    Parts of one allocation that do not meet, as an RNN's weights have it, share nothing.
    """
    import torch

    ranges = []
    parameters = set()
    for name, tensor in {id(t): (name, t) for name, t in reversed(_tensors(model))}.values():
        is_plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and not tensor.is_meta
        if is_plain and tensor.layout == torch.strided and tensor.is_contiguous() and tensor.nbytes:
            ranges.append((tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes, name))
            if isinstance(tensor, torch.nn.Parameter):
                parameters.add(name)
    found: list[tuple[str, str]] = []
    reach, holder = 0, ""
    for start, end, name in sorted(ranges):
        if start < reach and {holder, name} & parameters:
            found.append((holder, name))
        if end > reach:
            reach, holder = end, name
    return found


def _tensors(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return the parameters and buffers under all of their names."""
    return [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
