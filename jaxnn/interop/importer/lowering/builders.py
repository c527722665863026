"""The programs of the calls of modules, written from their nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..capture import Captured
from ..conditions import fixed_size
from ..gradients import Refused
from ..guards import Guard, renamed
from ..marks import RecordedCall
from ..naming import is_below, joined, relative
from ..operators import DRAWING
from ..program import (
    Assign,
    Body,
    Call,
    Custom,
    Input,
    Operation,
    Sizes,
    State,
    Step,
    Value,
    leaves,
    rebuild,
)
from .frames import Frame, Frames, Region
from .nodes import (
    arguments_by_name,
    base_name,
    full_name,
    is_float,
    is_result_of_call,
    is_size,
    line_of,
    operator_name,
    values_of_mark,
)
from .placeholders import Placeholders

if TYPE_CHECKING:
    import torch

_IGNORED_ARGUMENTS = {
    "layout", "device", "pin_memory", "non_blocking", "memory_format", "generator", "copy",
}  # fmt: skip


@dataclass
class Lowering:
    """A graph whose calls become programs: what is known of it, and what has been found so far.

    Attributes:
        captured: the graph.
        paths: all names of each module, parameter and buffer, by each of them.
        known: the operators that can run.
        placeholders: what its inputs stand for.
        frames: its calls.
        guards: the conditions that it was captured under.
        bodies: the programs of each module, in the order of its calls.
        constants: arrays that are too large for the programs, by path.
        unsupported: operators that are not known, with the line that first calls each.
        sizes: those of the first call of each program, by path and number.
    """

    captured: Captured
    paths: Mapping[str, list[str]]
    known: set[str]
    placeholders: Placeholders
    frames: Frames
    guards: Sequence[Guard]
    bodies: dict[str, list[Body]] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    unsupported: dict[str, str] = field(default_factory=dict)
    sizes: dict[tuple[str, int], Sizes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        nodes = self.captured.program.graph_module.graph.nodes
        self.order = {node: at for at, node in enumerate(nodes)}


def body_of(
    frame: Frame, lowering: Lowering
) -> tuple[int, list[torch.fx.Node], list[torch.fx.Node]]:
    """Add the program of a call; return its number, what it captures and gives beside."""
    builder = ProgramBuilder(lowering, frame)
    steps: list[Step] = []
    for item in frame.items:
        if isinstance(item, Frame):
            steps += builder.call(item)
        elif isinstance(item, Region):
            steps += builder.function(item)
        else:
            steps += builder.step(item)
    steps += [
        Assign(relative(frame.path, path), builder.value(node)) for path, node in frame.assigned
    ]
    record, extra = frame.record, _extra(frame, lowering.frames)
    output = rebuild(record.results, lambda v: builder.value(frame.outputs[v.name]))
    body = Body(
        inputs=tuple(builder.inputs(record.arguments)),
        captured=tuple(builder.names[node] for node in builder.captured),
        steps=tuple(steps),
        output=output,
        extra=tuple(builder.names[node] for node in extra),
        shapes=tuple(builder.shapes()) if frame.parent is None else (),
        guards=builder.guards() if frame.parent is None else (),
    )
    bodies = lowering.bodies.setdefault(frame.path, [])
    if body not in bodies:
        bodies.append(body)
    number = bodies.index(body)
    sizes = Sizes(None, tuple(builder.shapes()), builder.guards())
    lowering.sizes.setdefault((frame.path, number), sizes)
    return number, builder.captured, extra


def _extra(frame: Frame, frames: Frames) -> list[torch.fx.Node]:
    """Return the nodes of a call that are used after it, but are not among its results."""
    inside, given = list(frame.inside()), set(frame.outputs.values())
    used = frames.used_beyond(inside, frame.parent)
    return [node for node in used if node not in given and not is_size(node)]


class ProgramBuilder:
    """Writes the program of one call: names its values, and finds what it captures."""

    def __init__(self, lowering: Lowering, frame: Frame) -> None:
        self.lowering, self.frame = lowering, frame
        self.names: dict[torch.fx.Node, str] = {}
        self.captured: list[torch.fx.Node] = []
        self.counts: Counter[str] = Counter()
        self.pending: list[Step] = []
        self.input_names: dict[str, str] = {}
        self._name_inputs()

    def _name_inputs(self) -> None:
        for name, (structure, _) in self.frame.record.arguments.items():
            for value in leaves(structure):
                self.input_names[value.name] = self._fresh(name)
                node = self.frame.inputs[value.name]
                if not isinstance(node, int):
                    self.names.setdefault(node, self.input_names[value.name])

    def inputs(self, arguments: Mapping[str, Any]) -> Iterator[Input]:
        """Yield the arguments of the program, given those of the call."""
        for name, (structure, kind) in arguments.items():
            written = rebuild(structure, lambda v: Value(self.input_names[v.name]))
            variadic = kind if kind in ("*", "**") else ""
            yield Input(name, written, kind == "keyword", variadic)

    def shapes(self) -> Iterator[tuple[str, tuple[int | None, ...]]]:
        """Yield the arrays among the inputs with their shapes, None for what may differ."""
        for index, node in self.frame.inputs.items():
            if index not in self.input_names or isinstance(node, int) or is_size(node):
                continue
            value = node.meta["val"]
            shape = tuple(map(fixed_size, value.shape))
            yield self.input_names[index], shape

    def guards(self) -> tuple[Guard, ...]:
        """Return the conditions on the sizes that this call is given."""
        if self.frame.parent is None:
            return renamed(self.lowering.guards, lambda i, d: f"{self.input_names[i]}.shape[{d}]")
        root = self.lowering.frames.root.inputs
        known: dict[str, str] = {}
        for index, node in self.frame.inputs.items():
            if index in self.input_names and not isinstance(node, int) and not is_size(node):
                for dim, size in enumerate(node.meta["val"].shape):
                    known.setdefault(str(size), f"{self.input_names[index]}.shape[{dim}]")
        return renamed(
            self.lowering.guards, lambda i, d: known.get(str(root[i].meta["val"].shape[int(d)]))
        )

    def _fresh(self, base: str) -> str:
        self.counts[base] += 1
        count = self.counts[base]
        name = base if count == 1 else f"{base}_{count - 1}"
        return name if count == 1 or name not in self.counts else self._fresh(base)

    # --- values ---------------------------------------------------------------------------------

    def value(self, item: Any) -> Any:
        """Return an argument of a node as it stands in the program."""
        import torch

        if isinstance(item, torch.fx.Node):
            return self._node(item)
        if isinstance(item, (list, tuple)):
            values = [self.value(part) for part in item]
            return values if isinstance(item, list) else tuple(values)
        if isinstance(item, torch.dtype):
            return str(item).removeprefix("torch.")
        if isinstance(item, (torch.device, torch.layout, torch.memory_format)):
            return None
        return item

    def _node(self, node: torch.fx.Node) -> Any:
        if node in self.names:
            return Value(self.names[node])
        literals = self.lowering.placeholders.literals
        if node in literals:
            return literals[node]
        stored = self._stored(node)
        if stored is not None:
            return stored
        if is_size(node):
            return self._size(node)
        return self._capture(node)

    def _stored(self, node: torch.fx.Node) -> State | None:
        """Return where the module keeps a value, or a part of it; None where it does not."""
        placeholders = self.lowering.placeholders
        if node in placeholders.arrays:
            name, array = placeholders.arrays[node]
            self.lowering.constants[joined(self.frame.path, name)] = array
            return State(name)
        if node in placeholders.state:
            first = placeholders.state[node]
            for path in self.lowering.paths.get(first, [first]):
                if is_below(self.frame.path, path):
                    return State(relative(self.frame.path, path))
        return None

    def _capture(self, node: torch.fx.Node) -> Value:
        """Let the module around pass a value beside the arguments."""
        self.names[node] = self._fresh("given")
        self.captured.append(node)
        return Value(self.names[node])

    def _size(self, node: torch.fx.Node) -> Any:
        """Return a size that is computed outside: read from a shape in here where one has it."""
        wanted = node.meta["val"]
        number = fixed_size(wanted)
        if number is not None:
            return number
        for candidate, name in list(self.names.items()):
            value = candidate.meta.get("val")
            for dim, size in enumerate(getattr(value, "shape", ())):
                if not isinstance(size, int) and size.node.expr == wanted.node.expr:
                    self.names[node] = self._fresh("size")
                    arguments = (("self", Value(name)), ("dim", dim))
                    self.pending.append(Operation(self.names[node], "sym_size", arguments))
                    return Value(self.names[node])
        if node.op == "call_function" and operator_name(node) != "sym_size":
            steps = self.step(node)  # takes what is pending
            self.pending += steps
            return Value(self.names[node])
        self.names[node] = self._fresh("size")
        self.captured.append(node)
        return Value(self.names[node])

    # --- steps ----------------------------------------------------------------------------------

    def step(self, node: torch.fx.Node) -> list[Step]:
        """Return the steps of one node, and those that fetch the sizes it needs."""
        if operator_name(node) == "call":
            return self._layer_call(node)
        if is_result_of_call(node):
            return []
        if node in self.names or (is_size(node) and not node.users):
            return []
        name = operator_name(node)
        arguments = tuple(
            (key, self.value(value))
            for key, value in arguments_by_name(node).items()
            if key not in _IGNORED_ARGUMENTS
        )
        if name not in self.lowering.known:
            self.lowering.unsupported.setdefault(full_name(node), line_of(node))
        self.names[node] = self._fresh(base_name(node))
        operation = Operation(self.names[node], name, arguments, line_of(node))
        steps = [*self._take_pending(), operation]
        if node.meta.get("jaxnn_no_grad") and is_float(node):
            steps.append(self._stopped(node))
        return steps

    def _stopped(self, node: torch.fx.Node) -> Step:
        before = self.names[node]
        self.names[node] = self._fresh(base_name(node))
        return Operation(self.names[node], "detach", (("self", Value(before)),))

    def _take_pending(self) -> list[Step]:
        taken, self.pending = self.pending, []
        return taken

    def _layer_call(self, node: torch.fx.Node) -> list[Step]:
        record = self.lowering.captured.records[int(str(node.args[0]))]
        marked = values_of_mark(node)

        def given(value: Value) -> Any:
            return self.value(marked[value.name])

        args = rebuild(record.args, given)
        kwargs = tuple((name, rebuild(item, given)) for name, item in record.kwargs.items())
        parts = {int(str(user.args[1])): user for user in node.users}
        stopped: list[Step] = []

        def received(value: Value) -> Any:
            part = parts.get(int(value.name))
            name = self._fresh(self._result_of(record))
            if part is not None:
                self.names[part] = name
                if node.meta.get("jaxnn_no_grad"):
                    stopped.append(self._stopped(part))
            return Value(name)

        results = rebuild(record.results, received)
        path = self._path(record.module)
        return [*self._take_pending(), Call(results, path, args, kwargs), *stopped]

    def _result_of(self, record: RecordedCall) -> str:
        is_layer = record.module in self.lowering.captured.modes
        return record.module.rpartition(".")[2] or "result" if is_layer else _name_of_result(record)

    def call(self, inner: Frame) -> list[Step]:
        """Return the steps that call a module which has a program of its own."""
        record = inner.record
        variant, captured, extra = body_of(inner, self.lowering)

        def given(value: Value) -> Any:
            return self.value(inner.inputs[value.name])

        args = rebuild(record.args, given)
        kwargs = tuple((name, rebuild(item, given)) for name, item in record.kwargs.items())
        beside = tuple(self.value(node) for node in captured)

        def received(value: Value) -> Any:
            node = inner.outputs[value.name]
            name = self._fresh(_name_of_result(record))
            if not isinstance(node, int):
                self.names.setdefault(node, name)
            return Value(name)

        results = rebuild(record.results, received)
        names = []
        for node in extra:
            self.names[node] = self._fresh(base_name(node))
            names.append(self.names[node])
        call = Call(
            results, self._path(record.module), args, kwargs, variant, beside,
            tuple(names),
        )  # fmt: skip
        return [*self._take_pending(), call]

    def function(self, region: Region) -> list[Step]:
        """Return the step that calls a Function, or passes a tensor on that has a hook."""
        named = list(zip(region.record.names, region.inputs, strict=True))
        forward = FunctionBuilder(self.lowering, self.frame, named)
        steps = [step for node in region.forward for step in forward.step(node)]
        used = self.lowering.frames.used_beyond(region.forward, self.frame)
        results = list(region.outputs)
        results += [node for node in used if node not in results and not is_size(node)]
        output = tuple(forward.value(node) for node in results)
        gradients_of = [("gradient", node) for node in region.stand_ins]
        backward = FunctionBuilder(self.lowering, self.frame, gradients_of, forward.names)
        undone = [step for node in region.backward for step in backward.step(node)]
        record = region.record
        for step in (*steps, *undone):
            if isinstance(step, Operation) and step.operator in DRAWING:
                raise Refused(
                    f"the Function {record.name}, called at {record.line}, draws random numbers "
                    f"({step.operator}); draw them outside of it, and give them to it"
                )
        gradients = tuple(
            None if place is None else backward.value(region.gradients[place])
            for place in record.gradients
        )
        for node in backward.captured:
            if node not in results and node not in region.inputs:
                forward.value(node)  # of the surroundings
                if node not in forward.captured:
                    forward.captured.append(node)
        candidates = [*region.inputs, *forward.captured, *results]
        given = tuple(self.value(node) for node in region.inputs)
        captured = tuple(self.value(node) for node in forward.captured)
        self._are_known(region, forward.captured)
        names = []
        for node in results:
            self.names[node] = self._fresh(base_name(node))
            names.append(self.names[node])
        custom = Custom(
            record.name, tuple(names), given, captured,
            forward.body(tuple(steps), output), backward.body(tuple(undone), gradients),
            record.outputs, tuple(candidates.index(node) for node in backward.captured),
            record.line,
        )  # fmt: skip
        return [*self._take_pending(), custom]

    def _are_known(self, region: Region, nodes: list[torch.fx.Node]) -> None:
        """Check that a hook uses nothing that is computed after its tensor."""
        order = self.lowering.order
        latest = max((order[node] for node in region.inputs), default=0)
        is_hook = region.inputs == region.outputs
        for node in nodes:
            if is_hook and node in self.lowering.frames.where and order[node] > latest:
                raise Refused(
                    f"the hook {region.record.name}, registered at {region.record.line}, uses what "
                    f"is computed after the tensor it is on, at {line_of(node)}; compute it before"
                )

    def _path(self, module: str) -> str:
        """Return a path from here to a module, which may have one of its other names below."""
        names = self.lowering.paths.get(module, [module])
        below = [name for name in names if is_below(self.frame.path, name)]
        return relative(self.frame.path, below[0] if below else module)


class FunctionBuilder(ProgramBuilder):
    """Writes one pass of a Function, to which everything is given: it has no state."""

    def __init__(
        self,
        lowering: Lowering,
        around: Frame,
        inputs: list[tuple[str, torch.fx.Node]],
        known: Mapping[torch.fx.Node, str] | None = None,
    ) -> None:
        self.known = known or {}
        arguments = {
            name if name not in dict(inputs[:i]) else f"{name}_{i}": (Value(str(i)), "positional")
            for i, (name, _) in enumerate(inputs)
        }
        record = RecordedCall(around.path, (), {}, arguments)
        nodes = {str(i): node for i, (_, node) in enumerate(inputs)}
        super().__init__(lowering, Frame(record, around.path, nodes))

    def _capture(self, node: torch.fx.Node) -> Value:
        self.names[node] = self._fresh(self.known.get(node, base_name(node)))
        self.captured.append(node)
        return Value(self.names[node])

    def _stored(self, node: torch.fx.Node) -> State | None:
        return None

    def body(self, steps: tuple[Step, ...], output: tuple[Any, ...]) -> Body:
        """Return the program of this pass."""
        inputs = tuple(self.inputs(self.frame.record.arguments))
        captured = tuple(self.names[node] for node in self.captured)
        return Body(inputs, captured, steps, output, ())


def _name_of_result(record: RecordedCall) -> str:
    last = record.module.rpartition(".")[2]
    return last if last.isidentifier() else f"layer_{last}"
