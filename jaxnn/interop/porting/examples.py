"""The calls that a port is written and proved by: the examples, and calls of other sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flax import nnx

from ..importer.free_sizes import CallOfTorch
from ..proof.calls import Call, free_shapes, name_of, other_calls, refusal

# How many sizes beside those of the example are looked at.
FURTHER = 2
THE_EXAMPLE = "the example"


@dataclass(frozen=True)
class Example:
    """A call that a port is made for.

    Attributes:
        name: what it is called.
        call: the call.
        others: calls of other sizes that the import takes too, each with what it is called: for
            each set of sizes some calls, those whose values prove the most first.
    """

    name: str
    call: Call
    others: tuple[tuple[str, Sequence[Call]], ...]

    @property
    def prefix(self) -> str:
        """What its calls of other sizes are called after."""
        return "" if self.name == THE_EXAMPLE else f"{self.name}: "

    def in_jax(self) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Return the call, and one of each of the other sizes, with arrays of JAX."""
        calls = [self.call, *(calls[-1] for _, calls in self.others)]
        return [call.in_jax(call.arrays()) for call in calls]


def examples_of(net: nnx.Module, calls: Sequence[CallOfTorch]) -> list[Example]:
    """Return the examples of an import, with calls of other sizes that it takes.

    Args:
        net: the import.
        calls: calls of the original.
    """
    found = [Call.of(*call) for call in calls]
    made = list({_shown(call): call for call in reversed(found)}.values())[::-1]
    names = [THE_EXAMPLE, *(name_of(made[0], call, at) for at, call in enumerate(made[1:], 2))]
    return [Example(name, call, _others(net, call)) for name, call in zip(names, made, strict=True)]


def _shown(call: Call) -> str:
    """Return what tells a call from others of the model."""
    shapes = [tuple(tensor.shape) for tensor in call.tensors]
    return repr((call.structure, call.named, call.places, shapes))


def _others(net: nnx.Module, call: Call) -> tuple[tuple[str, Sequence[Call]], ...]:
    found: list[tuple[str, Sequence[Call]]] = []
    for name, calls in other_calls(call, free_shapes(net, call)):
        if "→" in name and not refusal(net, calls[0]):
            found.append((name, calls))
        if len(found) == FURTHER:
            break
    return tuple(found)
