"""From an exported graph with its marks to one program for each call of a module."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .capture import Captured
from .gradients import CustomGradient, Refused
from .guards import Guard, guards_of, renamed
from .marks import RecordedCall
from .operators import DRAWING
from .program import (
    Assign,
    Body,
    Call,
    Custom,
    Input,
    Literal,
    Operation,
    Sizes,
    State,
    Step,
    Value,
    leaves,
    rebuild,
)

if TYPE_CHECKING:
    import torch

# Arrays up to this size that a forward pass contains stand in its program.
LITERAL_SIZE = 64

# What says where, how or that something is stored, and nothing of its values.
_WITHOUT_EFFECT = {
    "_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range",
    "sym_constrain_range_for_size", "_set_grad_enabled",
}  # fmt: skip
_IGNORED_ARGUMENTS = {
    "layout", "device", "pin_memory", "non_blocking", "memory_format", "generator", "copy",
}  # fmt: skip


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
class Frame:
    """One call of a module: the nodes and calls in it, in order."""

    record: RecordedCall
    path: str
    inputs: dict[str, Any]
    items: list[Any] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    parent: Frame | None = None
    mark: torch.fx.Node | None = None
    assigned: list[tuple[str, torch.fx.Node]] = field(default_factory=list)

    def inside(self) -> Iterator[torch.fx.Node]:
        """Yield the nodes in this frame and in those within it, whose marks use their arguments."""
        for item in self.items:
            if isinstance(item, (Frame, Region)):
                if isinstance(item, Frame) and item.mark is not None:
                    yield item.mark
                yield from item.inside()
            else:
                yield item


@dataclass
class Region:
    """A Function's forward and backward pass, or a hook's backward pass, in a call's nodes."""

    record: CustomGradient
    inputs: list[torch.fx.Node]
    forward: list[torch.fx.Node] = field(default_factory=list)
    outputs: list[torch.fx.Node] = field(default_factory=list)
    stand_ins: list[torch.fx.Node] = field(default_factory=list)
    backward: list[torch.fx.Node] = field(default_factory=list)
    gradients: list[torch.fx.Node] = field(default_factory=list)

    def inside(self) -> Iterator[torch.fx.Node]:
        """Yield the nodes of both."""
        yield from self.forward
        yield from self.backward


@dataclass
class Lowered:
    """What a captured model does.

    Attributes:
        bodies: the programs of each module that has one, in the order of its calls.
        constants: arrays that are too large for the programs, by path.
        sizes: those of the first call of each module.
    """

    bodies: dict[str, list[Body]]
    constants: dict[str, Any]
    sizes: dict[str, Sizes] = field(default_factory=dict)


def lower(captured: Captured, paths: Mapping[str, list[str]], known: Iterable[str]) -> Lowered:
    """Return the programs of a captured model.

    Args:
        captured: the graph.
        paths: all names of each module, parameter and buffer, by each of them.
        known: the operators that can run.
    """
    return _Lowering(captured, paths, set(known)).run()


class _Lowering:
    def __init__(self, captured: Captured, paths: Mapping[str, list[str]], known: set[str]) -> None:
        self.captured, self.paths, self.known = captured, paths, known
        self.graph = captured.program.graph_module.graph
        self.state: dict[torch.fx.Node, str] = {}
        self.literals: dict[torch.fx.Node, Literal] = {}
        self.arrays: dict[torch.fx.Node, tuple[str, Any]] = {}
        self.constants: dict[str, Any] = {}
        self.bodies: dict[str, list[Body]] = {}
        self.where: dict[torch.fx.Node, Frame] = {}
        self.assigned: list[tuple[str, torch.fx.Node]] = []
        self.unsupported: dict[str, str] = {}
        self.sizes: dict[str, Sizes] = {}
        self.guards = guards_of(captured.program, captured.origins)
        self.order = {node: at for at, node in enumerate(self.graph.nodes)}

    def run(self) -> Lowered:
        self._note_state()
        root, output = self._frames()
        self._place_assignments(root, output)
        self._body(root)
        if self.unsupported:
            raise UnsupportedOperators(self.unsupported)
        return Lowered(self.bodies, self.constants, self.sizes)

    # --- frames ---------------------------------------------------------------------------------

    def _frames(self) -> tuple[Frame, torch.fx.Node]:
        """Sort the nodes into calls, by the marks."""
        self.root = self.frame = Frame(self.captured.records[0], "", {})
        # The Functions that the present node is in, and which of their passes that is.
        self.regions: list[Region] = []
        self.into: list[torch.fx.Node] | None = None
        without_gradient = False
        for node in self.graph.nodes:
            if node.op == "output":
                return self.root, node
            if node.op != "call_function":
                continue
            name = operator_name(node)
            if name == "mark":
                text = str(node.args[0])
                if text.startswith("grad "):
                    without_gradient = text == "grad 0"
                elif text.startswith("assign "):
                    self.assigned.append((text.removeprefix("assign "), _tensors_of(node)[0]))
                elif text.split(maxsplit=1)[0] in ("enter", "exit"):
                    self._at_call(node, *text.split())
                else:
                    self._at_function(node, *text.split())
                continue
            if name in _WITHOUT_EFFECT or name == "stand_in":
                continue
            node.meta["jaxnn_no_grad"] = without_gradient
            if self.into is None:
                self.frame.items.append(node)
            elif name == "call":
                raise self._calls_a_module(str(node.args[0]))
            else:
                self.into.append(node)
            if self._is_kept():
                self.where[node] = self.frame
        raise AssertionError("a graph has an output")

    def _is_kept(self) -> bool:
        """Whether the nodes that are read now are a part of any program.

        The gradients of a Function within another are not, nor is a hook that was removed.
        """
        if not self.regions:
            return True
        outer = self.regions[0]
        return not outer.record.is_removed and any(
            self.into is part for part in (outer.forward, outer.backward)
        )

    def _at_call(self, node: torch.fx.Node, kind: str, key: str) -> None:
        """Begin or end the call of a module."""
        record = self.captured.records[int(key)]
        if self.regions:
            raise self._calls_a_module(key)
        if kind == "exit":
            self.frame.outputs = _marked(node)
            self.frame = self.frame.parent or self.root
        elif self.frame is self.root and not record.module:
            self.root.inputs = _marked(node)
        else:
            inner = Frame(record, record.module, _marked(node), [], {}, self.frame, node)
            self.where[node] = self.frame
            self.frame.items.append(inner)
            self.frame = inner

    def _calls_a_module(self, key: str) -> Refused:
        function, module = self.regions[0].record, self.captured.records[int(key)].module
        return Refused(
            f"the Function {function.name}, called at {function.line}, calls the module {module}, "
            "whose parameters then have no gradient by JAX's rules; call the module outside of the "
            "Function and give it the result"
        )

    def _at_function(self, node: torch.fx.Node, kind: str, key: str) -> None:
        """Begin or end a Function's forward or backward pass, or begin a hook's."""
        tensors = _tensors_of(node)
        if kind in ("begin", "hook"):
            record = self.captured.gradients[int(key)]
            region = Region(record, tensors)
            if kind == "hook":
                region.outputs = tensors
            # What is called within another Function has no gradient but that one's.
            if not self.regions and kind == "begin":
                self.frame.items.append(region)
            elif not self.regions and not record.is_removed:
                self._place_hook(region)
            self.regions.append(region)
            self.into = self.regions[0].forward if len(self.regions) == 1 else self.into
            return
        region = self.regions[-1]
        is_inner = len(self.regions) > 1
        if kind == "end":
            region.outputs = tensors
        elif kind == "back":
            region.stand_ins = tensors
            self.into = region.backward
        else:
            region.gradients = tensors
            self.regions.pop()
            around = self.regions[-1] if is_inner else None
            if around is None:
                self.into = None
            else:
                self.into = around.backward if around.stand_ins else around.forward

    def _place_hook(self, region: Region) -> None:
        """Let a hook stand where its tensor is made: it sees the gradient of every use."""
        tensor, record = region.inputs[0], region.record
        frame = self.where.get(tensor)
        if frame is not None and tensor in frame.items:
            frame.items.insert(frame.items.index(tensor) + 1, region)
        elif frame is None and tensor.op == "placeholder" and tensor not in self.state:
            self.root.items.insert(0, region)
        else:
            raise Refused(
                f"the hook {record.name}, registered at {record.line}, is on a parameter, or on a "
                "result of a Function; register it on a tensor that forward computes from that"
            )

    def _note_state(self) -> None:
        """Note which placeholders stand for state, and which for constants."""
        from torch.export.graph_signature import InputKind

        nodes = [node for node in self.graph.nodes if node.op == "placeholder"]
        program = self.captured.program
        for node, spec in zip(nodes, program.graph_signature.input_specs, strict=True):
            if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
                name = str(spec.target).removeprefix("model.")
                if name in self.paths or "." in name:
                    self.state[node] = name
                else:
                    self._constant(node, program.state_dict.get(str(spec.target)))
            elif spec.kind is InputKind.CONSTANT_TENSOR:
                target = str(spec.target)
                named = target.removeprefix("model.")
                if named in self.paths:  # a buffer that is not persistent
                    self.state[node] = named
                else:
                    self._constant(node, program.constants[target])

    def _constant(self, node: torch.fx.Node, value: Any) -> None:
        from ..checkpoint import as_numpy

        array = as_numpy(value.detach())
        if array.size <= LITERAL_SIZE:
            plain = array.astype(float) if array.dtype.kind == "V" else array
            dtype = str(value.dtype).removeprefix("torch.")
            self.literals[node] = Literal(_tuples(plain.tolist()), dtype)
            return
        digest = hashlib.sha256(array.tobytes() + str(array.shape).encode()).hexdigest()
        self.arrays[node] = (f"constant_{digest[:8]}", array)

    def _place_assignments(self, root: Frame, output: torch.fx.Node) -> None:
        """Give each changed buffer to the innermost call that computes and reaches it."""
        from torch.export.graph_signature import OutputKind

        specs = self.captured.program.graph_signature.output_specs
        changed = [
            (str(spec.target).removeprefix("model."), node)
            for node, spec in zip(output.args[0], specs, strict=True)  # type: ignore[arg-type]
            if spec.kind is OutputKind.BUFFER_MUTATION
        ]
        for path, node in [*changed, *self.assigned]:
            layer = path.rpartition(".")[0]
            if layer in self.captured.modes:
                raise Refused(
                    f"forward changes the buffer {path} of a layer that updates it itself, at "
                    f"{_line(node)}; give the layer the value by its own options, or reset it "
                    "outside of forward"
                )
            frame = self.where.get(node, root)
            while frame.parent is not None and not _below(frame.path, path):
                frame = frame.parent
            frame.assigned.append((path, node))

    # --- bodies ---------------------------------------------------------------------------------

    def _body(self, frame: Frame) -> tuple[int, list[torch.fx.Node], list[torch.fx.Node]]:
        """Add the program of a call; return its number, what it captures and gives beside."""
        writer = _Writer(self, frame)
        steps: list[Step] = []
        for item in frame.items:
            if isinstance(item, Frame):
                steps += writer.call(item)
            elif isinstance(item, Region):
                steps += writer.function(item)
            else:
                steps += writer.step(item)
        steps += [
            Assign(_relative(frame.path, path), writer.value(node)) for path, node in frame.assigned
        ]
        record, extra = frame.record, self._extra(frame)
        output = rebuild(record.results, lambda v: writer.value(frame.outputs[v.name]))
        body = Body(
            inputs=tuple(writer.inputs(record.arguments)),
            captured=tuple(writer.names[node] for node in writer.captured),
            steps=tuple(steps),
            output=output,
            extra=tuple(writer.names[node] for node in extra),
            shapes=tuple(writer.shapes()) if frame.parent is None else (),
            guards=writer.guards() if frame.parent is None else (),
        )
        self.sizes.setdefault(frame.path, Sizes(tuple(writer.shapes()), writer.guards()))
        bodies = self.bodies.setdefault(frame.path, [])
        if body not in bodies:
            bodies.append(body)
        return bodies.index(body), writer.captured, extra

    def _extra(self, frame: Frame) -> list[torch.fx.Node]:
        """Return the nodes of a call that are used after it, but are no result of it."""
        inside, given = list(frame.inside()), set(frame.outputs.values())
        used = self.used_beyond(inside, frame.parent)
        return [node for node in used if node not in given and not _is_size(node)]

    def used_beyond(self, inside: list[torch.fx.Node], frame: Frame | None) -> list[torch.fx.Node]:
        """Return which of the nodes others use, or the results of `frame` and those around it."""
        within, wanted = set(inside), set()
        while frame is not None:
            wanted |= {*frame.outputs.values(), *(node for _, node in frame.assigned)}
            frame = frame.parent

        def is_used(node: torch.fx.Node) -> bool:
            users = (user for user in node.users if user not in within)
            return node in wanted or any(user in self.where for user in users)

        return [node for node in inside if is_used(node)]


class _Writer:
    """Writes the program of one call: names its values, and finds what it captures."""

    def __init__(self, lowering: _Lowering, frame: Frame) -> None:
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
        for name, (structure, kind) in arguments.items():
            written = rebuild(structure, lambda v: Value(self.input_names[v.name]))
            variadic = kind if kind in ("*", "**") else ""
            yield Input(name, written, kind == "keyword", variadic)

    def shapes(self) -> Iterator[tuple[str, tuple[int | None, ...]]]:
        for index, node in self.frame.inputs.items():
            if index not in self.input_names or isinstance(node, int) or _is_size(node):
                continue
            value = node.meta["val"]
            shape = tuple(n if isinstance(n, int) else None for n in value.shape)
            yield self.input_names[index], shape

    def guards(self) -> tuple[Guard, ...]:
        """Return the conditions on the sizes that this call is given."""
        if self.frame.parent is None:
            return renamed(self.lowering.guards, lambda i, d: f"{self.input_names[i]}.shape[{d}]")
        root = self.lowering.root.inputs
        known: dict[str, str] = {}
        for index, node in self.frame.inputs.items():
            if index in self.input_names and not isinstance(node, int) and not _is_size(node):
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
        lowering = self.lowering
        if node in self.names:
            return Value(self.names[node])
        if node in lowering.literals:
            return lowering.literals[node]
        stored = self._stored(node)
        if stored is not None:
            return stored
        if _is_size(node):
            return self._size(node)
        return self._capture(node)

    def _stored(self, node: torch.fx.Node) -> State | None:
        """Return where the module keeps a value, or a part of it; None where it does not."""
        lowering = self.lowering
        if node in lowering.arrays:
            name, array = lowering.arrays[node]
            lowering.constants[f"{self.frame.path}.{name}" if self.frame.path else name] = array
            return State(name)
        if node in lowering.state:
            first = lowering.state[node]
            for path in lowering.paths.get(first, [first]):
                if _below(self.frame.path, path):
                    return State(_relative(self.frame.path, path))
        return None

    def _capture(self, node: torch.fx.Node) -> Value:
        """Let the module around pass a value beside the arguments."""
        self.names[node] = self._fresh("given")
        self.captured.append(node)
        return Value(self.names[node])

    def _size(self, node: torch.fx.Node) -> Any:
        """Return a size that is computed outside: read from a shape in here where one has it."""
        wanted = node.meta["val"]
        if isinstance(wanted, int):
            return wanted
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
            return self._leaf_call(node)
        if _is_result_of_call(node):
            return []
        if node in self.names or (_is_size(node) and not node.users):
            return []
        name = operator_name(node)
        arguments = tuple(
            (key, self.value(value))
            for key, value in _arguments(node).items()
            if key not in _IGNORED_ARGUMENTS
        )
        if name not in self.lowering.known:
            self.lowering.unsupported.setdefault(_full_name(node), _line(node))
        self.names[node] = self._fresh(_base(node))
        operation = Operation(self.names[node], name, arguments, _line(node))
        steps = [*self._take_pending(), operation]
        if node.meta.get("jaxnn_no_grad") and _is_float(node):
            steps.append(self._stopped(node))
        return steps

    def _stopped(self, node: torch.fx.Node) -> Step:
        before = self.names[node]
        self.names[node] = self._fresh(_base(node))
        return Operation(self.names[node], "detach", (("self", Value(before)),))

    def _take_pending(self) -> list[Step]:
        taken, self.pending = self.pending, []
        return taken

    def _leaf_call(self, node: torch.fx.Node) -> list[Step]:
        record = self.lowering.captured.records[int(str(node.args[0]))]
        marked = _marked(node)

        def given(value: Value) -> Any:
            return self.value(marked[value.name])

        args = rebuild(record.args, given)
        kwargs = tuple((name, rebuild(item, given)) for name, item in record.kwargs.items())
        parts = {int(str(user.args[1])): user for user in node.users}
        stopped: list[Step] = []

        def received(value: Value) -> Any:
            part = parts.get(int(value.name))
            name = self._fresh(record.module.rpartition(".")[2] or "result")
            if part is not None:
                self.names[part] = name
                if node.meta.get("jaxnn_no_grad"):
                    stopped.append(self._stopped(part))
            return Value(name)

        results = rebuild(record.results, received)
        path = self._path(record.module)
        return [*self._take_pending(), Call(results, path, args, kwargs), *stopped]

    def call(self, inner: Frame) -> list[Step]:
        """Return the steps that call a module which has a program of its own."""
        record = inner.record
        variant, captured, extra = self.lowering._body(inner)

        def given(value: Value) -> Any:
            return self.value(inner.inputs[value.name])

        args = rebuild(record.args, given)
        kwargs = tuple((name, rebuild(item, given)) for name, item in record.kwargs.items())
        beside = tuple(self.value(node) for node in captured)

        def received(value: Value) -> Any:
            node = inner.outputs[value.name]
            name = self._fresh(_base_of_call(record))
            if not isinstance(node, int):
                self.names.setdefault(node, name)
            return Value(name)

        results = rebuild(record.results, received)
        names = []
        for node in extra:
            self.names[node] = self._fresh(_base(node))
            names.append(self.names[node])
        call = Call(
            results, self._path(record.module), args, kwargs, variant, beside,
            tuple(names),
        )  # fmt: skip
        return [*self._take_pending(), call]

    def function(self, region: Region) -> list[Step]:
        """Return the step that calls a Function, or passes a tensor on that has a hook."""
        named = list(zip(region.record.names, region.inputs, strict=True))
        forward = _FunctionWriter(self.lowering, self.frame, named)
        steps = [step for node in region.forward for step in forward.step(node)]
        used = self.lowering.used_beyond(region.forward, self.frame)
        results = list(region.outputs)
        results += [node for node in used if node not in results and not _is_size(node)]
        output = tuple(forward.value(node) for node in results)
        gradients_of = [("gradient", node) for node in region.stand_ins]
        backward = _FunctionWriter(self.lowering, self.frame, gradients_of, forward.names)
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
            self.names[node] = self._fresh(_base(node))
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
            if is_hook and node in self.lowering.where and order[node] > latest:
                raise Refused(
                    f"the hook {region.record.name}, registered at {region.record.line}, uses what "
                    f"is computed after the tensor it is on, at {_line(node)}; compute it before"
                )

    def _path(self, module: str) -> str:
        """Return a path from here to a module, which may have one of its other names below."""
        names = self.lowering.paths.get(module, [module])
        below = [name for name in names if _below(self.frame.path, name)]
        return _relative(self.frame.path, below[0] if below else module)


class _FunctionWriter(_Writer):
    """Writes one pass of a Function, to which everything is given: it has no state."""

    def __init__(
        self,
        lowering: _Lowering,
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
        self.names[node] = self._fresh(self.known.get(node, _base(node)))
        self.captured.append(node)
        return Value(self.names[node])

    def _stored(self, node: torch.fx.Node) -> State | None:
        return None

    def body(self, steps: tuple[Step, ...], output: tuple[Any, ...]) -> Body:
        """Return the program of this pass."""
        inputs = tuple(self.inputs(self.frame.record.arguments))
        captured = tuple(self.names[node] for node in self.captured)
        return Body(inputs, captured, steps, output, ())


def _tensors_of(node: torch.fx.Node) -> list[torch.fx.Node]:
    """Return the tensors that a mark names."""
    return list(node.args[1])  # type: ignore[arg-type]


def _marked(node: torch.fx.Node) -> dict[str, Any]:
    """Return what a mark or a call names: tensors by number, sizes by "s" and theirs."""
    _, tensors, sizes = node.args
    marked: dict[str, Any] = {str(i): tensor for i, tensor in enumerate(tensors)}  # type: ignore[arg-type]
    return marked | {f"s{i}": size for i, size in enumerate(sizes)}  # type: ignore[arg-type]


def _below(path: str, name: str) -> bool:
    return not path or name == path or name.startswith(f"{path}.")


def _relative(path: str, name: str) -> str:
    return name.removeprefix(f"{path}.") if path else name


def operator_name(node: torch.fx.Node) -> str:
    """Return the operator's name without its overload."""
    target: Any = node.target
    schema = getattr(target, "_schema", None)
    if schema is not None:
        return str(schema.name).partition("::")[2]
    return f"python.{target.__name__}"


def _full_name(node: torch.fx.Node) -> str:
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return str(getattr(node.target, "__name__", node.target))
    return f"{schema.name}.{schema.overload_name}" if schema.overload_name else str(schema.name)


def _base(node: torch.fx.Node) -> str:
    return (
        operator_name(node).removeprefix("python.").strip("_")
        if node.op == "call_function"
        else "value"
    )


def _base_of_call(record: RecordedCall) -> str:
    last = record.module.rpartition(".")[2]
    return last if last.isidentifier() else f"layer_{last}"


def _is_size(node: torch.fx.Node) -> bool:
    import torch

    value = node.meta.get("val")
    return isinstance(value, (torch.SymInt, torch.SymBool, torch.SymFloat)) or (
        isinstance(value, (int, float)) and node.op == "call_function"
    )


def _is_float(node: torch.fx.Node) -> bool:
    value = node.meta.get("val")
    return bool(getattr(value, "is_floating_point", lambda: False)())


def _is_result_of_call(node: torch.fx.Node) -> bool:
    import operator

    import torch

    if node.target is not operator.getitem:
        return False
    source = node.args[0]
    return isinstance(source, torch.fx.Node) and operator_name(source) == "call"


def _arguments(node: torch.fx.Node) -> dict[str, Any]:
    """Return a node's arguments under the names of the operator's schema."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {f"x{i}": value for i, value in enumerate(node.args)} | dict(node.kwargs)
    names = [argument.name for argument in schema.arguments]
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def _line(node: torch.fx.Node) -> str:
    """Return the last line of the model's own code that led to a node."""
    trace = node.meta.get("stack_trace") or ""
    lines = [line.strip() for line in trace.splitlines() if line.strip().startswith("File")]
    lines = [line for line in lines if "/jaxnn/interop/" not in line]
    return lines[-1] if lines else "(a line that the exporter does not tell)"


def _tuples(values: Any) -> Any:
    return tuple(_tuples(item) for item in values) if isinstance(values, list) else values
