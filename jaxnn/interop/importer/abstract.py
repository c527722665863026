"""Models on torch's meta device, whose tensors have shapes and no values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def is_abstract(model: torch.nn.Module) -> bool:
    """Whether a parameter or buffer of a model is on torch's meta device."""
    return any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


def as_meta(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor, or a parameter, as one on the meta device."""
    import torch

    moved = tensor.detach().to("meta")
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(moved, tensor.requires_grad)
    return moved


@contextmanager
def abstract_parameters() -> Iterator[None]:
    """Put the parameters of models that are made in this context on torch's meta device.

    Such a model takes no memory, whatever its size, and imports as an abstract net, whose weights
    `jaxnn.load_state_dict` reads. Buffers are computed as ever: under `torch.device("meta")` they
    have no values either, and a table that is in no state dict, such as the frequencies of a rotary
    embedding, never gets any.

    Source: torch.device("meta").

    Example:
        >>> import torch
        >>> import jaxnn
        >>> with jaxnn.interop.abstract_parameters():
        ...     norm = torch.nn.BatchNorm1d(4)
        >>> norm.weight.is_meta, norm.running_var
        (True, tensor([1., 1., 1., 1.]))
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook
    from torch.nn.parameter import is_lazy
    from torch.utils.weak import WeakIdKeyDictionary

    # What is registered under several names stays one parameter.
    moved: Any = WeakIdKeyDictionary()

    def move(module: torch.nn.Module, name: str, parameter: Any) -> Any:
        if parameter is None or parameter.is_meta or is_lazy(parameter):
            return None
        if parameter not in moved:
            moved[parameter] = as_meta(parameter)
        return moved[parameter]

    hook = register_module_parameter_registration_hook(move)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def abstract_as_a_whole(model: torch.nn.Module) -> Iterator[None]:
    """Put what has values on the meta device too where another part is there, for a time.

    The exporter refuses to compute with both: a table that has been computed stands beside weights
    that will be loaded later.
    """
    moved: dict[int, torch.Tensor] = {}
    kept: list[tuple[dict[str, Any], str, torch.Tensor]] = []
    try:
        for module in model.modules() if is_abstract(model) else ():
            registered: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
            for held in registered:
                for name, tensor in held.items():
                    if tensor is None or tensor.is_meta:
                        continue
                    kept.append((held, name, tensor))
                    if id(tensor) not in moved:  # what is shared stays shared
                        moved[id(tensor)] = as_meta(tensor)
                    held[name] = moved[id(tensor)]
        yield
    finally:
        for held, name, tensor in kept:
            held[name] = tensor
