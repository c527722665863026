"""The nodes of an exported graph, sorted into the calls of modules that its marks delimit."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..capture import Captured
from ..gradients import CustomGradient, Refused
from ..marks import RecordedCall
from ..naming import is_below
from .nodes import line_of, operator_name, tensors_of_mark, values_of_mark

if TYPE_CHECKING:
    import torch

# What says where, how or that something is stored, and nothing of its values.
_WITHOUT_EFFECT = {
    "_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range",
    "sym_constrain_range_for_size", "_set_grad_enabled",
}  # fmt: skip


@dataclass
class Frame:
    """One call of a module: the nodes and calls in it, in order.

    Attributes:
        record: what was called, with what.
        path: the module's name.
        inputs: the nodes of the tensors and sizes among the arguments, as the record numbers them.
        items: nodes, calls and regions.
        outputs: as `inputs`, of the results.
        parent: the call that this one is in.
        mark: the node where it begins.
        assigned: the buffers that are changed in it, with their new values.
    """

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
    """A Function's forward and backward pass, or a hook's backward pass, in a call's nodes.

    Attributes:
        record: which Function or hook.
        inputs: what it is given.
        forward: the nodes of the forward pass.
        outputs: what that gives.
        stand_ins: what stands for the gradients that the backward pass is given.
        backward: the nodes of the backward pass.
        gradients: what that gives.
    """

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
class Frames:
    """The calls of a graph.

    Attributes:
        root: the call of the model.
        where: the innermost call of each node that is a part of a program.
    """

    root: Frame
    where: dict[torch.fx.Node, Frame]

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


def frames_of(captured: Captured, state: Container[torch.fx.Node]) -> Frames:
    """Return the calls of a captured graph.

    Args:
        captured: the graph.
        state: the placeholders that stand for parameters and buffers.

    Raises:
        Refused: if a Function calls a module, a hook stands where no program can have it, or a
            layer's own buffer is changed from outside.
    """
    return _Sorting(captured, state).run()


class _Sorting:
    def __init__(self, captured: Captured, state: Container[torch.fx.Node]) -> None:
        self.captured, self.state = captured, state
        self.root = self.frame = Frame(captured.records[0], "", {})
        self.where: dict[torch.fx.Node, Frame] = {}
        self.assigned: list[tuple[str, torch.fx.Node]] = []
        # The Functions that the present node is in, and which of their passes that is.
        self.regions: list[Region] = []
        self.into: list[torch.fx.Node] | None = None

    def run(self) -> Frames:
        without_gradient = False
        for node in self.captured.program.graph_module.graph.nodes:
            if node.op == "output":
                self._place_assignments(node)
                return Frames(self.root, self.where)
            if node.op != "call_function":
                continue
            name = operator_name(node)
            if name == "mark":
                text = str(node.args[0])
                if text.startswith("grad "):
                    without_gradient = text == "grad 0"
                elif text.startswith("assign "):
                    path = text.removeprefix("assign ")
                    self.assigned.append((path, tensors_of_mark(node)[0]))
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
            self.frame.outputs = values_of_mark(node)
            self.frame = self.frame.parent or self.root
        elif self.frame is self.root and not record.module:
            self.root.inputs = values_of_mark(node)
        else:
            given = values_of_mark(node)
            inner = Frame(record, record.module, given, parent=self.frame, mark=node)
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
        tensors = tensors_of_mark(node)
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

    def _place_assignments(self, output: torch.fx.Node) -> None:
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
                    f"{line_of(node)}; give the layer the value by its own options, or reset it "
                    "outside of forward"
                )
            frame = self.where.get(node, self.root)
            while frame.parent is not None and not is_below(frame.path, path):
                frame = frame.parent
            frame.assigned.append((path, node))
