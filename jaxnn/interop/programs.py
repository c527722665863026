"""`programs`: what an imported model can be called with, and what it does then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flax import nnx
from rich.table import Table

from .importer.guards import is_of_fixed
from .importer.imported import Imported, forwards_of
from .importer.program import Body, Call, Custom, Program, Structure, Value, rebuild
from .importer.tying import descend


@dataclass(frozen=True)
class Summary:
    """A program of an imported model.

    Attributes:
        modes: "evaluation" and "training", or one of them.
        arguments: what each argument is: an array's shape, in which what may differ has no number,
            or a constant.
        conditions: those on sizes, each with the line of the model that asks for it.
        operations: how many there are, with those of the parts that it calls.
        layers: how many calls of layers.
    """

    modes: tuple[str, ...]
    arguments: tuple[tuple[str, str], ...]
    conditions: tuple[tuple[str, str], ...]
    operations: int
    layers: int

    def lines(self) -> Iterator[str]:
        """Yield it as lines of text."""
        yield f"{' and '.join(self.modes)}: {self.operations} operations, {self.layers} layers"
        for name, written in self.arguments:
            yield f"  {name}: {written}"
        for condition, line in self.conditions:
            yield f"  where {condition}"
            if line:
                yield f"    {line}"


@dataclass(frozen=True)
class Programs:
    """The programs of an imported model, in the order in which a call tries them."""

    rows: tuple[Summary, ...]

    def table(self) -> Table:
        """Return them as a table of rich."""
        table = Table("", "mode", "arguments", "conditions", "operations", "layers")
        for number, row in enumerate(self.rows):
            arguments = "\n".join(f"{name}: {written}" for name, written in row.arguments)
            conditions = "\n".join(condition for condition, _ in row.conditions)
            counts = str(row.operations), str(row.layers)
            table.add_row(str(number), ", ".join(row.modes), arguments, conditions, *counts)
        return table

    def __str__(self) -> str:
        return "\n".join(line for row in self.rows for line in row.lines())

    def __len__(self) -> int:
        return len(self.rows)


def programs(net: nnx.Module) -> Programs:
    """Return what an imported model can be called with.

    Args:
        net: what `from_torch` returned, or a part of it that has a forward pass of its own.

    Returns:
        Its programs; print them to read them. In a shape, "any" is a size that may differ.

    Raises:
        TypeError: if `net` is a layer of jaxnn, which takes what its class says, or no import.

    Source: jaxnn.

    Example:
        >>> import jaxnn
        >>> import torch
        >>> class Halves(torch.nn.Module):
        ...     def forward(self, x):
        ...         assert x.shape[1] % 2 == 0
        ...         return x[:, ::2] + x[:, 1::2]
        >>> net = jaxnn.from_torch(Halves(), torch.ones(2, 6))
        >>> found = jaxnn.interop.programs(net)
        >>> found.rows[0].arguments, found.rows[0].conditions[0][0]
        ((('x', 'array (any, any)'),), '(x.shape[1] % 2) == 0')
    """
    if not isinstance(net, Imported):
        raise TypeError(
            f"jaxnn.interop.programs: {type(net).__name__} has no programs: it is not what "
            "jaxnn.from_torch makes of a class with Python code, but takes what its class says"
        )
    modes: dict[Program, list[str]] = {}
    for training, mode in ((False, "evaluation"), (True, "training")):
        found = forwards_of(net).of(training)
        for program in () if isinstance(found, str) else found:
            modes.setdefault(program, []).append(mode)
    rows = [_summary(net, program.body, tuple(names)) for program, names in modes.items()]
    return Programs(tuple(rows))


def _summary(net: Imported, body: Body, modes: tuple[str, ...]) -> Summary:
    shapes = dict(body.shapes)

    def written(leaf: Any) -> Any:
        shape = shapes.get(leaf.name, ()) if isinstance(leaf, Value) else ()
        return _Written(f"array ({', '.join('any' if n is None else str(n) for n in shape)})")

    arguments = tuple(
        (item.name, repr(_plain(rebuild(item.structure, written)))) for item in body.inputs
    )
    conditions = tuple((guard.text, guard.line) for guard in body.guards if not is_of_fixed(guard))
    operations, layers = _counts(net, body, "training" in modes)
    return Summary(modes, arguments, conditions, operations, layers)


def _counts(net: Any, body: Body, training: bool) -> tuple[int, int]:
    """Return how many operations a program has, and how many calls of layers."""
    operations = layers = 0
    for step in body.steps:
        if isinstance(step, Custom):
            operations += len(step.forward.steps)
        elif not isinstance(step, Call):
            operations += 1
        else:
            part = descend(net, step.module)
            if isinstance(part, Imported):
                inner = forwards_of(part).body(training, step.variant)
                below = _counts(part, inner, training)
                operations, layers = operations + below[0], layers + below[1]
            else:
                layers += 1
    return operations, layers


class _Written(str):
    """A text that is its own repr."""

    def __repr__(self) -> str:
        return str(self)


def _plain(structure: Any) -> Any:
    if isinstance(structure, Structure):
        return {name: _plain(item) for name, item in structure.fields}
    if isinstance(structure, (tuple, list)):
        return type(structure)(map(_plain, structure))
    return structure
