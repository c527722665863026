"""From an exported graph with its marks to one program for each call of a module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..alike import completed
from ..capture import Captured
from ..naming import joined
from ..program import Body, Sizes
from .builders import Lowering, body_of
from .frames import frames_of
from .placeholders import LITERAL_SIZE, placeholders_of


class UnsupportedOperators(NotImplementedError):
    """The model uses operators of torch that have no JAX counterpart here.

    Attributes:
        operators: each operator, with the line of the model that first calls it.
    """

    def __init__(self, operators: Mapping[str, str]) -> None:
        self.operators = dict(operators)
        listed = "\n".join(f"  {name}: {line}" for name, line in self.operators.items())
        super().__init__(f"jaxnn.from_torch: no counterpart in JAX for\n{listed}")


@dataclass
class Lowered:
    """What a captured model does.

    Attributes:
        bodies: the programs of each module that has one, in the order of its calls.
        constants: arrays that are too large for the programs, by path.
        sizes: those of the first call of each program, by path and number.
    """

    bodies: dict[str, list[Body]]
    constants: dict[str, Any]
    sizes: dict[tuple[str, int], Sizes] = field(default_factory=dict)


def lower(
    captured: Captured,
    paths: Mapping[str, list[str]],
    known: Iterable[str],
    largest: int = LITERAL_SIZE,
) -> Lowered:
    """Return the programs of a captured model.

    Args:
        captured: the graph.
        paths: all names of each module, parameter and buffer, by each of them.
        known: the operators that can run.
        largest: how many elements an array may have to be a part of a program.

    Raises:
        UnsupportedOperators: if it uses others; all of them are listed.
        Refused: if something in it cannot be a part of a program.
        Unlike: if blocks that stand for others are not like them.
    """
    placeholders = placeholders_of(captured, paths, largest)
    frames = frames_of(captured, placeholders.state)
    guards = captured.guards()
    lowering = Lowering(captured, paths, set(known), placeholders, frames, guards)
    body_of(frames.root, lowering)
    if lowering.unsupported:
        raise UnsupportedOperators(lowering.unsupported)
    _complete(lowering)
    return Lowered(lowering.bodies, lowering.constants, lowering.sizes)


def _complete(lowering: Lowering) -> None:
    """Give blocks that were not looked into what those have that they are like."""
    for target, source in completed(lowering.captured.alike, lowering.bodies).items():
        for (path, number), sizes in list(lowering.sizes.items()):
            if path == source:
                lowering.sizes[target, number] = sizes
        for name, array in list(lowering.constants.items()):
            owner, _, last = name.rpartition(".")
            if owner == source:
                lowering.constants[joined(target, last)] = array
