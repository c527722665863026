"""What an imported module does, as data: the steps of a forward pass, without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .guards import Guard


@dataclass(frozen=True)
class Value:
    """An input of the program or the result of an earlier step, by name."""

    name: str


@dataclass(frozen=True)
class State:
    """A parameter or buffer, by its path below the module that runs the program."""

    path: str


@dataclass(frozen=True)
class Literal:
    """A small array that the forward pass contains."""

    values: Any
    dtype: str


@dataclass(frozen=True)
class Opaque:
    """An object among the arguments or results of a part that its caller cannot give or read.

    What a module takes from it, or leaves in it, crosses the boundary beside the arguments and
    results, as `Body.captured` and `Body.extra`.

    Attributes:
        name: the name of its class.
    """

    name: str


@dataclass(frozen=True)
class Structure:
    """A dict, a named tuple or a dataclass among arguments or results.

    Attributes:
        kind: "dict", "namedtuple" or "record" (a dataclass, or a dict with attributes).
        name: the name of its class.
        fields: names and values, in order.
    """

    kind: str
    name: str
    fields: tuple[tuple[Any, Any], ...]


@dataclass(frozen=True)
class Operation:
    """`result = operator(**arguments)`."""

    result: str
    operator: str
    arguments: tuple[tuple[str, Any], ...]
    source: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class Call:
    """`results, extra = module(*args, **kwargs)`, with what crosses the boundary beside these."""

    results: Any
    module: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    variant: int = 0
    captured: tuple[Any, ...] = ()
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Assign:
    """`state[path] = value`."""

    path: str
    value: Any


@dataclass(frozen=True)
class Custom:
    """`results = function(*inputs)`, with a gradient of its own.

    Attributes:
        name: of the original Function or hook.
        results: what the forward pass gives.
        inputs: what it has gradients for.
        captured: what it uses beside them, without gradients.
        forward: its inputs and captured arrays are those above, its output is a tuple.
        backward: from the gradients of some results to those of the inputs, None for none; what it
            captures is saved.
        outputs: the places of the results whose gradients `backward` takes.
        saved: the places, among inputs, captured arrays and results, of what is saved.
    """

    name: str
    results: tuple[str, ...]
    inputs: tuple[Any, ...]
    captured: tuple[Any, ...]
    forward: Body
    backward: Body
    outputs: tuple[int, ...]
    saved: tuple[int, ...]
    source: str = field(default="", compare=False, repr=False)


Step = Operation | Call | Assign | Custom


@dataclass(frozen=True)
class Input:
    """An argument of the forward pass.

    Attributes:
        name: as torch names it.
        structure: what it is made of, with a Value for each array in it.
        keyword_only: whether it is given by name alone.
        variadic: "*" or "**" for what collects further arguments.
    """

    name: str
    structure: Any
    keyword_only: bool = False
    variadic: str = ""


@dataclass(frozen=True)
class Body:
    """A forward pass, compared by value.

    Attributes:
        inputs: the arguments, in order.
        captured: names of arrays that the caller passes beside them.
        steps: what is done, in order.
        output: the structure of the result.
        extra: names of values that the caller uses beside the result.
        shapes: of each array among the inputs its captured shape, None for a dimension that may
            differ.
        guards: the conditions on these dimensions.
    """

    inputs: tuple[Input, ...]
    captured: tuple[str, ...]
    steps: tuple[Step, ...]
    output: Any
    extra: tuple[str, ...]
    shapes: tuple[tuple[str, tuple[int | None, ...]], ...] = ()
    guards: tuple[Guard, ...] = ()


class Program:
    """A body that is compared and hashed by identity, which NNX does at every call."""

    __slots__ = ("body",)

    def __init__(self, body: Body) -> None:
        self.body = body

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        return self

    def __copy__(self) -> Program:
        return self


@dataclass(frozen=True, eq=False)
class Sizes:
    """The sizes that a part is called with by the model around it: a program is for no others.

    It is compared by identity, which NNX does at every call.

    Attributes:
        program: which program.
        shapes: as in `Body`.
        guards: as in `Body`.
    """

    program: Program | None = None
    shapes: tuple[tuple[str, tuple[int | None, ...]], ...] = ()
    guards: tuple[Guard, ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Sizes:
        return self

    def __copy__(self) -> Sizes:
        return self


def rebuild(structure: Any, leaf: Callable[[Any], Any]) -> Any:
    """Return the structure with `leaf` of every Value, State and Literal in it."""
    if isinstance(structure, (Value, State, Literal)):
        return leaf(structure)
    if isinstance(structure, tuple):
        return tuple(rebuild(item, leaf) for item in structure)
    if isinstance(structure, list):
        return [rebuild(item, leaf) for item in structure]
    if isinstance(structure, Structure):
        fields = tuple((name, rebuild(item, leaf)) for name, item in structure.fields)
        return Structure(structure.kind, structure.name, fields)
    return structure


def leaves(structure: Any) -> list[Any]:
    """Return every Value, State and Literal of a structure, in order."""
    found: list[Any] = []
    rebuild(structure, found.append)
    return found


def calls_in_turn(body: Body, steps: Sequence[Step], output: Any, parts: Sequence[str]) -> bool:
    """Whether a program does nothing but call each part with the result of the part before.

    Args:
        body: the program.
        steps: its steps, or what is left of them.
        output: its output, likewise.
        parts: the paths of the parts.
    """
    if body.captured or body.extra or len(body.inputs) != 1 or body.inputs[0].variadic:
        return False
    value, called = body.inputs[0].structure, []
    for step in steps:
        if not isinstance(step, Call) or step.args != (value,) or step.kwargs:
            return False
        if step.captured or step.extra or step.variant:
            return False
        called.append(step.module)
        value = step.results
    return isinstance(value, Value) and output == value and called == list(parts)
