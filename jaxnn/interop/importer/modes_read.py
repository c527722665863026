"""Whether a forward pass depends on the mode that the model is in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .lines import is_torchs, place_of
from .marks import library_of_marks
from .patching import attributes_watched

if TYPE_CHECKING:
    import torch


@contextmanager
def noted_modes(lines: list[str]) -> Iterator[None]:
    """Note where code asks a module for its mode, or sets that, while in this context.

    A layer that only stands in the graph has its mode in the net, and is not noted.
    """
    library = library_of_marks()

    def note(module: Any, name: str) -> None:
        frame = sys._getframe(3)  # beyond what watches
        asking = frame.f_globals.get("__name__", "")
        is_layers = asking.startswith("torch.nn.")
        # Dictionaries of modules are read for reasons of their own.
        is_machinery = is_torchs(frame) and (name != "training" or not is_layers)
        is_machinery |= name != "training" and asking.partition(".")[0] in sys.stdlib_module_names
        if not (is_machinery or library.stands_in or "/jaxnn/interop/" in frame.f_code.co_filename):
            lines.append(place_of(frame))
            library.alike.reads(module, name)

    def read(module: Any, name: str) -> None:
        if name in ("training", "__dict__"):
            note(module, name)
        elif not library.stands_in:
            library.alike.reads(module, name)

    def written(module: Any, name: str) -> None:
        if name == "training":
            note(module, name)
        if not library.stands_in:
            library.alike.writes()

    with attributes_watched(read, written):
        yield


def train_alone_sets_modes(model: torch.nn.Module) -> bool:
    """Whether no part of a model does anything of its own when its mode is set."""
    import torch

    plain = torch.nn.Module
    return all(
        type(part).train is plain.train
        and type(part).eval is plain.eval
        and not vars(part).keys() & {"train", "eval"}
        for part in model.modules()
    )
