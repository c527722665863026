"""What a torch model is made of, as the port needs it: layers, containers and classes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from flax import nnx

from ... import modules
from ..checkpoint import as_numpy
from ..importer.from_torch import Importation, own_modes
from ..importer.leaves import OPTIONS, layer_name, make_layer, options_by_name
from ..importer.operators import DRAWING, dtype_of
from ..importer.program import Call, Operation, Program

if TYPE_CHECKING:
    import torch

Programs = tuple[Program, ...]


@dataclass(frozen=True)
class Variable:
    """A parameter or buffer of a module itself.

    Attributes:
        name: the attribute.
        kind: the class of the variable, as the port writes it; "tied" where it is stored elsewhere.
        shape: its shape.
        dtype: the name of its dtype.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str


@dataclass
class Node:
    """A module of the model.

    Attributes:
        path: where it is.
        kind: "layer", "sequential", "list", "dict", "parameters", "named parameters", "class" or
            "none".
        name: the name of the layer, or of the original class.
        origin: the module that the original class is from.
        base: for a class, the container that it derives from, if any.
        options: of a layer, by name.
        frozen: of a layer, the parameters that are not trained.
        takes_rngs: whether it is constructed with `rngs`.
        draws: whether its call may draw random numbers.
        mutable: whether it holds buffers.
        children: by name.
        state: its own parameters and buffers.
        training: its programs in training mode, or why there are none.
        evaluation: those in evaluation mode.
        definition: the class that it is an instance of, once that is known.
        arguments: what it is constructed with, once that is known.
        own_modes: of a class with a `train` of its own, the parts that do not follow the mode.
        same: of a second name of a module, the node of its first.
    """

    path: str
    kind: str
    name: str = ""
    origin: str = ""
    base: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    takes_rngs: bool = False
    draws: bool = False
    mutable: bool = False
    children: dict[str, Node] = field(default_factory=dict)
    state: tuple[Variable, ...] = ()
    training: Programs | str = ()
    evaluation: Programs | str = ()
    definition: Any = None
    arguments: dict[str, Any] = field(default_factory=dict)
    own_modes: tuple[tuple[str, bool, bool], ...] = ()
    same: Node | None = None

    @property
    def programs(self) -> Programs:
        """The programs of both modes, each once."""
        both = (self.training, self.evaluation)
        found = [program for mode in both if not isinstance(mode, str) for program in mode]
        return tuple(dict.fromkeys(found))

    def at(self, path: str) -> Node:
        """Return the node at the dotted path below this one, where the module is stored."""
        node = self
        for name in filter(None, path.split(".")):
            node = node.children[name]
            node = node.same or node
        return node


def tree_of(importer: Importation) -> Node:
    """Return the tree of an imported model."""
    return _node(importer, "", importer.model, {})


def _node(
    importer: Importation, path: str, module: torch.nn.Module | None, stored: dict[str, Node]
) -> Node:
    """Return the node of a module; `stored` holds those before it, by path."""
    import torch

    if module is None:
        return Node(path, "none")
    if path and path in importer.tied:
        same = stored[importer.tied[path]]
        return Node(path, "none", draws=same.draws, mutable=same.mutable, same=same)
    name = layer_name(module)
    if name is not None:
        stored[path] = _layer(path, name, module)
        return stored[path]
    node = Node(path, "class", _class_name(path, module), type(module).__module__)
    node.training = importer._variants(True, path) if importer.programs else ()
    node.evaluation = importer._variants(False, path) if importer.programs else ()
    node.children = {
        child_name: _node(importer, f"{path}.{child_name}" if path else child_name, child, stored)
        for child_name, child in module._modules.items()
    }
    node.state = tuple(_variables(importer, path, module))
    node.own_modes = own_modes(module)
    exact = {
        torch.nn.ModuleList: "list", torch.nn.ModuleDict: "dict",
        torch.nn.ParameterList: "parameters", torch.nn.ParameterDict: "named parameters",
    }.get(type(module))  # fmt: skip
    if exact is not None:
        node.kind = exact
    elif isinstance(module, torch.nn.Sequential) and not node.state and not node.programs:
        make_chain(node, module)
    elif isinstance(module, (torch.nn.Sequential, torch.nn.ModuleList)):
        is_plain = not node.state and node.training == node.evaluation and not _draws_itself(node)
        if is_plain and list(node.children) == [str(i) for i in range(len(node.children))]:
            kinds = {True: "Sequential", False: "ModuleList"}
            node.base = kinds[isinstance(module, torch.nn.Sequential)]
    children = node.children.values()
    node.takes_rngs = _draws_itself(node) or any(child.takes_rngs for child in children)
    node.draws = _draws(node)
    node.mutable = any(v.kind.endswith(("BatchStat", "NonPersistent")) for v in node.state) or any(
        child.mutable for child in children
    )
    stored[path] = node
    return node


def is_torch_sequential(module: torch.nn.Module) -> bool:
    """Whether a module is a torch.nn.Sequential, or of a class derived from it."""
    import torch

    return isinstance(module, torch.nn.Sequential)


def make_chain(node: Node, module: torch.nn.Module) -> None:
    """Make a node a Sequential, or a class derived from it where the original has one."""
    import torch

    if type(module) is torch.nn.Sequential:
        node.kind = "sequential"
    else:
        node.base = "Sequential"


def _class_name(path: str, module: torch.nn.Module) -> str:
    """Return the name of the original class; of torch's own containers, that of the attribute."""
    name = type(module).__name__
    attributes = [part for part in path.split(".") if part and not part.isdigit()]
    if type(module).__module__.startswith("torch.nn.modules.container") and attributes:
        return "".join(word.capitalize() for word in attributes[-1].split("_")) or name
    return name


def _draws_itself(node: Node) -> bool:
    return any(
        isinstance(step, Operation) and step.operator in DRAWING
        for program in node.programs
        for step in program.body.steps
    )


def _draws(node: Node) -> bool:
    """Whether a call of a module that is no layer may draw."""
    if _draws_itself(node):
        return True
    if not node.programs:
        return any(child.draws for child in node.children.values())
    return any(
        isinstance(step, Call) and node.at(step.module).draws
        for program in node.programs
        for step in program.body.steps
    )


# --- layers -------------------------------------------------------------------------------------


def _layer(path: str, name: str, module: torch.nn.Module) -> Node:
    tensors = [*module.parameters(), *module.buffers()]
    floats = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    dtype = str(floats[0]).removeprefix("torch.") if floats else "float32"
    # The same reading of the options as in the import.
    options = dict(OPTIONS.get(name, options_by_name)(module))
    options.pop("inplace", None)
    if dtype != "float32":
        options["dtype"] = dtype
    frozen = tuple(key for key, p in module.named_parameters() if not p.requires_grad)
    layer = nnx.eval_shape(lambda: make_layer(name, module, dtype_of(dtype), nnx.Rngs(0)))
    drawing = [node for _, node in nnx.iter_modules(layer) if hasattr(node, "rngs")]
    draws = any(getattr(node, "p", getattr(node, "dropout", 1)) != 0 for node in drawing)
    return Node(
        path, "layer", name, options=shortened(name, options), frozen=frozen, draws=draws,
        takes_rngs=bool(drawing) or _draws_parameters(name, module),
        mutable=bool(list(module.buffers())),
    )  # fmt: skip


def _draws_parameters(name: str, module: torch.nn.Module) -> bool:
    """Whether the layer cannot be constructed without `rngs`."""
    options = dict(OPTIONS.get(name, options_by_name)(module))
    try:
        nnx.eval_shape(lambda: getattr(modules, name)(**options))
    except ValueError:
        return True
    return False


@cache
def defaults_of(layer: str) -> dict[str, Any]:
    """Return the options of a layer in order with their defaults, `Ellipsis` for none."""
    parameters = inspect.signature(getattr(modules, layer)).parameters.values()
    return {
        p.name: ... if p.default is inspect.Parameter.empty else p.default
        for p in parameters
        if p.name != "rngs"
    }


_SPATIAL = (
    "kernel_size", "stride", "padding", "dilation", "output_padding", "output_size",
    "normalized_shape",
)  # fmt: skip


def shortened(layer: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return a layer's options as one would write them: 3 for (3, 3), no stride as the kernel."""
    short = dict(options)
    for name in _SPATIAL:
        value = short.get(name)
        if isinstance(value, (tuple, list)) and value and set(value) == {value[0]}:
            if name != "normalized_shape" or len(value) == 1:
                short[name] = value[0]
        elif isinstance(value, list):
            short[name] = tuple(value)
    is_kernel = "kernel_size" in short and short.get("stride") == short["kernel_size"]
    if is_kernel and defaults_of(layer).get("stride", ...) is None:
        short["stride"] = None
    return short


# --- state --------------------------------------------------------------------------------------


def _variables(importer: Importation, path: str, module: torch.nn.Module) -> list[Variable]:
    persistent = set(module.state_dict(keep_vars=True))
    found = []
    for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
        full = f"{path}.{name}" if path else name
        if tensor is None or full in importer.tied:
            if tensor is not None:
                found.append(Variable(name, "tied", (), ""))
            continue
        kind = "nnx.BatchStat" if name in persistent else "jaxnn.NonPersistent"
        if name in module._parameters:
            kind = "nnx.Param" if tensor.requires_grad else "jaxnn.Frozen"
        array = as_numpy(tensor.detach())
        found.append(Variable(name, kind, tuple(array.shape), str(array.dtype)))
    for full, value in importer.constants.items():
        owner, _, name = full.rpartition(".")
        if owner == path:
            array = np.asarray(value)
            dtype = str(array.dtype)
            found.append(Variable(name, "jaxnn.NonPersistent", tuple(array.shape), dtype))
    return found
