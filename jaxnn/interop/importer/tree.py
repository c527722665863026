"""What a torch model is made of: the one tree that the import and the port are made from.

All that is decided by looking at the original is decided here: which modules are layers that jaxnn
has, which containers do nothing of their own, what kind of variable each parameter and buffer is,
what is stored under another name, and which forward passes a module has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from ...modules import Frozen, NonPersistent
from ..checkpoint import as_numpy_or_shape
from .forwards import Forwards
from .free_sizes import CallOfTorch
from .layers import Layer, layer_of
from .lowering.lower import Lowered
from .naming import joined
from .operators import DRAWING, dtype_of
from .program import Call, Operation, Program, Sizes, Step, calls_in_turn
from .structures import call_in_jax
from .training_modes import OwnModes, own_modes

if TYPE_CHECKING:
    import torch

Programs = tuple[Program, ...]


def each_once(training: Programs | str, evaluation: Programs | str) -> Programs:
    """Return the programs of both modes, each once; a mode without any says why in words."""
    modes = (mode for mode in (training, evaluation) if not isinstance(mode, str))
    return tuple(dict.fromkeys(program for mode in modes for program in mode))


@dataclass(frozen=True)
class Variable:
    """A parameter or buffer of a module itself.

    Attributes:
        name: the attribute.
        kind: the class of the variable; None where there is none, or it is stored elsewhere.
        array: its value, likewise; of a tensor on torch's meta device, its shape and dtype.
        is_tied: whether it is stored elsewhere.
    """

    name: str
    kind: type[nnx.Variable[Any]] | None = None
    array: np.ndarray | jax.ShapeDtypeStruct | None = None
    is_tied: bool = False


@dataclass
class Node:
    """A module of the model.

    Attributes:
        path: its first name.
        module: the original; None for a child that is None.
        kind: "layer"; "sequential", "list", "dict", "parameters" or "named parameters" for torch's
            containers; "class" for what has a forward pass of its own; "none" for no module, and
            for a second name of one.
        layer: which, where it is one.
        children: by name.
        state: its own parameters and buffers.
        training: its programs in training mode, or why there are none.
        evaluation: those in evaluation mode.
        sizes: those that the model around it calls each program with.
        own_modes: the parts that do not follow its mode.
        same: of a second name of a module, the node of its first, unless that is in a layer.
    """

    path: str
    module: torch.nn.Module | None
    kind: str = "class"
    layer: Layer | None = None
    children: dict[str, Node] = field(default_factory=dict)
    state: tuple[Variable, ...] = ()
    training: Programs | str = ()
    evaluation: Programs | str = ()
    sizes: tuple[Sizes, ...] = ()
    own_modes: OwnModes = ()
    same: Node | None = None

    @property
    def programs(self) -> Programs:
        """The programs of both modes, each once."""
        return each_once(self.training, self.evaluation)

    @property
    def draws_itself(self) -> bool:
        """Whether one of its programs draws random numbers, other than by a part that it calls."""
        return any(
            isinstance(step, Operation) and step.operator in DRAWING
            for program in self.programs
            for step in program.body.steps
        )


@dataclass(frozen=True)
class ModelTree:
    """A model, and what of it has several names.

    Attributes:
        root: the model itself.
        tied: the second names of modules, parameters and buffers, each with the first.
    """

    root: Node
    tied: Mapping[str, str]

    def kinds(self) -> Iterator[tuple[str, str]]:
        """Yield the path and the kind of each module."""

        def below(node: Node) -> Iterator[tuple[str, str]]:
            yield node.path, node.kind
            for child in node.children.values():
                yield from below(child)

        return below(self.root)


@dataclass
class ModelPrograms:
    """The programs of a model's modules.

    Attributes:
        programs: by the mode (whether it is training), and by the path of the module, or why there
            are none; empty for a model that is a layer.
        constants: arrays that are too large for the programs, by path.
        sizes: those that the programs of each module are called with, by path.
        own_modes: the parts of the model that do not follow its mode.
        may_grow: whether programs of other calls may come later.
    """

    programs: dict[bool, dict[str, Programs] | str] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, tuple[Sizes, ...]] = field(default_factory=dict)
    own_modes: OwnModes = ()
    may_grow: bool = False

    def copy(self) -> ModelPrograms:
        """Return the same programs, to which others may come."""
        programs = {
            mode: of_mode if isinstance(of_mode, str) else dict(of_mode)
            for mode, of_mode in self.programs.items()
        }
        return replace(
            self, programs=programs, constants=dict(self.constants), sizes=dict(self.sizes)
        )

    def each(self) -> Iterator[Program]:
        """Yield the programs of all modules in both modes."""
        for programs in self.programs.values():
            if not isinstance(programs, str):
                for of_module in programs.values():
                    yield from of_module

    def fit(self, name: str, training: bool, call: CallOfTorch) -> bool:
        """Whether the model has a program for a call, in a mode.

        Args:
            name: that of the model's class.
            training: the mode.
            call: its arguments, tensors among them.
        """
        known = self.of("", training)
        if isinstance(known, str) or not known:
            return False
        args, kwargs = call_in_jax(*call, _shape_of)
        try:
            Forwards(name, known, known).fitting(training, args, kwargs)
        except (TypeError, ValueError):
            return False
        return True

    def add(
        self,
        training: bool,
        lowered: Lowered,
        paths: Mapping[str, list[str]],
        known: dict[str, Program],
    ) -> None:
        """Add the programs of a captured call to those of other calls.

        Args:
            training: its mode.
            lowered: the programs.
            paths: all names of each module, by each of them.
            known: the programs that there are, by their text: equal ones are one object.
        """
        kept = self.programs.get(training)
        kept = {} if kept is None or isinstance(kept, str) else kept
        self.programs[training] = kept
        self.constants |= lowered.constants
        numbers: dict[tuple[str, int], int] = {}

        def renumbered(path: str, step: Step) -> Step:
            if not isinstance(step, Call):
                return step
            full = joined(path, step.module)
            called = next((name for name in paths.get(full, [full]) if name in lowered.bodies), "")
            return replace(step, variant=number_of(called, step.variant)) if called else step

        def number_of(path: str, number: int) -> int:
            """Return the number that a program has among all of its module's."""
            if (path, number) not in numbers:
                body = lowered.bodies[path][number]
                steps = tuple(renumbered(path, step) for step in body.steps)
                body = replace(body, steps=steps)
                program = known.setdefault(repr(body), Program(body))
                programs = kept.setdefault(path, ())
                if program not in programs:
                    kept[path] = programs = (*programs, program)
                numbers[path, number] = programs.index(program)
                sizes = replace(lowered.sizes[path, number], program=program)
                self._add_sizes(path, sizes)
            return numbers[path, number]

        for path, bodies in lowered.bodies.items():
            for number in range(len(bodies)):
                number_of(path, number)

    def _add_sizes(self, path: str, sizes: Sizes) -> None:
        """Let a program be for these sizes too."""
        kept = self.sizes.get(path, ())
        same = (sizes.program, sizes.shapes, sizes.guards)
        if all((item.program, item.shapes, item.guards) != same for item in kept):
            self.sizes[path] = (*kept, sizes)

    def of(self, path: str, training: bool) -> Programs | str:
        """Return the programs of a module in a mode, or why there are none."""
        programs = self.programs.get(training, {})
        return programs if isinstance(programs, str) else programs.get(path, ())


def _shape_of(tensor: torch.Tensor) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(tensor.shape), dtype_of(str(tensor.dtype)[6:]))


def tree_of(
    model: torch.nn.Module, programmed: ModelPrograms, tied: Mapping[str, str]
) -> ModelTree:
    """Return the tree of a model.

    Args:
        model: the original.
        programmed: the programs of its modules.
        tied: its second names.
    """
    root = _Growing(programmed, tied).node("", model)
    return ModelTree(root, tied)


class _Growing:
    """A tree on its way.

    Args:
        programmed: the programs of the model's modules.
        tied: its second names.
    """

    def __init__(self, programmed: ModelPrograms, tied: Mapping[str, str]) -> None:
        self.programmed, self.tied = programmed, tied
        self.stored: dict[str, Node] = {}

    def node(self, path: str, module: torch.nn.Module | None) -> Node:
        """Return the node of a module."""
        if module is None:
            return Node(path, None, "none")
        if path in self.tied:
            # What is stored in a layer has no node of its own.
            return Node(path, module, "none", same=self.stored.get(self.tied[path]))
        node = Node(path, module, layer=layer_of(module))
        self.stored[path] = node
        if node.layer is not None:
            node.kind = "layer"
            return node
        node.training, node.evaluation = (self.programmed.of(path, mode) for mode in (True, False))
        if path:
            node.sizes = self.programmed.sizes.get(path, ())
            node.own_modes = own_modes(module)
        else:  # whose program has its sizes
            node.own_modes = self.programmed.own_modes
        node.children = {
            name: self.node(joined(path, name), child) for name, child in module._modules.items()
        }
        node.state = tuple(self._state(path, module))
        node.kind = self._kind(node, module)
        return node

    def _kind(self, node: Node, module: torch.nn.Module) -> str:
        """Return "class", but for torch's own containers where they do nothing of their own."""
        import torch

        if type(module) is torch.nn.Sequential:
            # The root puts what is tied in its place, at each call. What else a later call may
            # need of the parts, which of their programs say, a container can't.
            is_plain = not node.state and not (self.tied and not node.path)
            is_plain &= not (self.programmed.may_grow and node.programs)
            return "sequential" if is_plain and _is_chain(node) else "class"
        return {
            torch.nn.ModuleList: "list", torch.nn.ModuleDict: "dict",
            torch.nn.ParameterList: "parameters", torch.nn.ParameterDict: "named parameters",
        }.get(type(module), "class")  # fmt: skip

    def _state(self, path: str, module: torch.nn.Module) -> Iterator[Variable]:
        persistent = set(module.state_dict(keep_vars=True))
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is None:
                yield Variable(name)
            elif joined(path, name) in self.tied:
                yield Variable(name, is_tied=True)
            else:
                kind: type[Any] = nnx.BatchStat if name in persistent else NonPersistent
                if name in module._parameters:
                    kind = nnx.Param if tensor.requires_grad else Frozen
                yield Variable(name, kind, as_numpy_or_shape(tensor.detach()))
        for full, array in self.programmed.constants.items():
            owner, _, name = full.rpartition(".")
            if owner == path:
                yield Variable(name, NonPersistent, np.asarray(array))


def _is_chain(node: Node) -> bool:
    """Whether all programs of a Sequential call its modules in turn, and do nothing else."""
    parts = parts_called(node)
    bodies = [program.body for program in node.programs]
    return all(calls_in_turn(body, body.steps, body.output, parts) for body in bodies)


def parts_called(node: Node) -> list[str]:
    """Return the parts that a program of a Sequential calls: an Identity leaves nothing of it."""
    identities = [name for name, child in node.children.items() if _is_identity(child)]
    return [name for name in node.children if name not in identities]


def _is_identity(node: Node) -> bool:
    import torch

    return type(node.module) is torch.nn.Identity
