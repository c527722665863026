"""What `train` and `eval` do to the parts of a model: not all follow it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...modules._module import MODE_FLAGS, Module
from .tying import descend

if TYPE_CHECKING:
    import torch

# The parts that do not follow the mode asked for: path, and whether it evaluates in training and
# in evaluation mode.
OwnModes = tuple[tuple[str, bool, bool], ...]


def set_mode(module: torch.nn.Module, training: bool) -> dict[str, bool]:
    """Call the module's own `train` or `eval`; return whether each part is in training mode."""
    if training:
        module.train()
    else:
        module.eval()
    return {path: part.training for path, part in module.named_modules()}


@contextmanager
def modes_put_back(module: torch.nn.Module) -> Iterator[None]:
    """Let every part be in the mode that it was in, at the end."""
    was = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, training in was:
            part.training = training


def own_modes(module: torch.nn.Module) -> OwnModes:
    """Return the parts that a module's own `train` gives another mode than the one asked for.

    Parts come before wholes.
    """
    import torch

    plain = torch.nn.Module
    kind, own = type(module), vars(module).keys() & {"train", "eval"}
    if kind.train is plain.train and kind.eval is plain.eval and not own:
        return ()
    with modes_put_back(module):
        given = {training: set_mode(module, training) for training in (True, False)}
    return tuple(
        (path, not given[True][path], not given[False][path])
        for path in reversed(given[True])
        if (given[True][path], given[False][path]) != (True, False)
    )


def with_switched(
    modes: OwnModes,
    set_to: Mapping[bool, Mapping[str, bool]],
    called_in: Mapping[bool, Mapping[str, bool]],
) -> OwnModes:
    """Return a model's own modes with those that its forward pass itself gives its layers.

    Args:
        modes: those that its `train` gives.
        set_to: by the mode of the model, whether each part is in training mode as `train` leaves
            it.
        called_in: likewise, as the layer is called.
    """
    evaluates = {path: given for path, *given in modes}
    for training, called in called_in.items():
        for path, mode in called.items():
            if mode != set_to[training].get(path, mode):
                evaluates[path] = [
                    not called_in.get(asked, {}).get(path, set_to[asked][path])
                    for asked in (True, False)
                ]
    return tuple((path, one, other) for path, (one, other) in evaluates.items())


class WithOwnModes(Module):
    """A module whose original has a `train` of its own, which some parts do not follow."""

    _own_modes: OwnModes

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        # Whoever sets the mode of a tree, `train()` or `nnx.view`, does it parts first.
        if name == "deterministic" and vars(self).get("_own_modes"):
            self._follow(value)

    def _follow(self, evaluation: bool) -> None:
        """Give each part the mode that the original's own `train` gives it."""
        for path, training, evaluating in self._own_modes:
            set_part(descend(self, path), evaluating if evaluation else training)


def set_part(node: Any, evaluation: bool) -> None:
    """Give a part a mode, but none of what is below it."""
    for flag in MODE_FLAGS:
        if isinstance(vars(node).get(flag), bool):
            vars(node)[flag] = evaluation
