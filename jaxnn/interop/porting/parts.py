"""The parts of a port: the modules of a model's tree, with what their source needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flax import nnx

from ..importer import tree
from ..importer.layers import Layer, parameters_of
from ..importer.program import Call
from ..importer.training_modes import OwnModes
from ..importer.tree import Node, Programs, each_once


@dataclass(frozen=True)
class Variable:
    """A parameter or buffer of a part itself.

    Attributes:
        name: the attribute.
        kind: the class of the variable, as the port writes it; "tied" where it is stored elsewhere.
        shape: its shape.
        dtype: the name of its dtype.
    """

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""


@dataclass
class Part:
    """A module of the model, as the port writes it.

    Attributes:
        node: what the model's tree knows of it.
        kind: as in the tree; "sequential" also for what turns out to call its parts in turn.
        name: the name of the layer, or of the original class.
        base: for a class, the container that it derives from, if any.
        options: of a layer, by name.
        takes_rngs: whether it is constructed with `rngs`.
        draws: whether its call may draw random numbers.
        mutable: whether it holds buffers.
        children: by name.
        state: its own parameters and buffers.
        training: its programs in training mode, or why there are none.
        evaluation: those in evaluation mode.
        definition: the class that it is an instance of, once that is known.
        arguments: what it is constructed with, once that is known.
        same: of a second name of a module, the part that is its first.
        variants: the numbers that its programs have in the import.
    """

    node: Node
    kind: str
    name: str = ""
    base: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    takes_rngs: bool = False
    draws: bool = False
    mutable: bool = False
    children: dict[str, Part] = field(default_factory=dict)
    state: tuple[Variable, ...] = ()
    training: Programs | str = ()
    evaluation: Programs | str = ()
    definition: Any = None
    arguments: dict[str, Any] = field(default_factory=dict)
    same: Part | None = None
    variants: tuple[int, ...] = (0,)

    def number(self, variant: int) -> int:
        """Return the place of a program among those that are written, by its number."""
        part = self.same or self
        return part.variants.index(variant) if variant in part.variants else 0

    @property
    def path(self) -> str:
        """Where it is in the model."""
        return self.node.path

    @property
    def original(self) -> type:
        """The original class."""
        return type(self.node.module)

    @property
    def frozen(self) -> tuple[str, ...]:
        """Of a layer, the parameters that are not trained."""
        return () if self.node.layer is None else self.node.layer.frozen

    @property
    def own_modes(self) -> OwnModes:
        """Of a class with a `train` of its own, the parts that do not follow its mode."""
        return self.node.own_modes

    @property
    def programs(self) -> Programs:
        """The programs of both modes, each once."""
        return each_once(self.training, self.evaluation)

    @property
    def is_of_layers(self) -> bool:
        """Whether there is no forward pass of the model's own code in its parts."""
        return all(
            child.is_of_layers and (child.kind != "class" or not child.programs)
            for child in self.children.values()
        )

    def at(self, path: str) -> Part:
        """Return the part at the dotted path below this one, where the module is stored."""
        part = self
        for name in filter(None, path.split(".")):
            if part.kind == "layer":  # whose parts the port does not write
                return Part(Node(path, None), "layer")
            part = part.children[name]
            part = part.same or part
        return part

    def become_sequential(self) -> None:
        """Be a Sequential, or of a class derived from it where the original is."""
        import torch

        is_exact = self.original is torch.nn.Sequential
        self.training = self.evaluation = ()
        self.kind, self.base = ("sequential", "") if is_exact else (self.kind, "Sequential")


@dataclass(frozen=True)
class Written:
    """Which programs a port has.

    Attributes:
        root: those of the model as a whole, by mode, or why there are none.
        variants: the numbers of those of its parts, by the part's path.
    """

    root: Mapping[str, Programs | str]
    variants: Mapping[str, tuple[int, ...]]

    def of(self, node: Node, mode: str) -> Programs | str:
        """Return the programs of a module in a mode, or why there are none."""
        if not node.path:
            return self.root[mode]
        programs: Programs | str = getattr(node, mode)
        if isinstance(programs, str) or not programs:
            return programs
        numbers = self.variants.get(node.path, ())
        return tuple(programs[min(number, len(programs) - 1)] for number in numbers)


def part_of(node: Node, written: Written, before: dict[str, Part] | None = None) -> Part:
    """Return the part that a node of the tree becomes, with all below it.

    Args:
        node: the node.
        written: the programs that the port has.
        before: takes the parts by their paths, and has those before it.
    """
    before = {} if before is None else before
    if node.kind == "none":
        same = None if node.same is None else before[node.same.path]
        return Part(
            node, "none", same=same, draws=same is not None and same.draws,
            mutable=same is not None and same.mutable,
        )  # fmt: skip
    part = _composed(node, written, before) if node.layer is None else _layer(node, node.layer)
    before[node.path] = part
    return part


def _composed(node: Node, written: Written, before: dict[str, Part]) -> Part:
    """Return the part of a module that is not a layer."""
    part = Part(node, node.kind, _class_name(node))
    part.training, part.evaluation = (written.of(node, mode) for mode in ("training", "evaluation"))
    part.variants = written.variants.get(node.path, (0,))
    part.children = {name: part_of(child, written, before) for name, child in node.children.items()}
    part.state = tuple(map(_variable, (v for v in node.state if v.is_tied or v.kind is not None)))
    children = part.children.values()
    part.takes_rngs = node.draws_itself or any(child.takes_rngs for child in children)
    part.draws = node.draws_itself or _calls_what_draws(part)
    part.mutable = any(v.kind.endswith(("BatchStat", "NonPersistent")) for v in part.state) or any(
        child.mutable for child in children
    )
    _find_base(part)
    return part


def is_sequential(part: Part) -> bool:
    """Whether the original is a torch.nn.Sequential, or of a class derived from it."""
    import torch

    return issubclass(part.original, torch.nn.Sequential)


def _find_base(part: Part) -> None:
    """Let a part be a container, or derive from one, where nothing of its own is in the way."""
    import torch

    if part.kind == "sequential" and not part.path and part.programs and not part.is_of_layers:
        part.kind = "class"  # whose forward pass says which sizes it is for
    if part.kind == "sequential" or (
        part.kind == "class" and is_sequential(part) and not part.state and not part.programs
    ):
        part.become_sequential()
    elif part.kind == "class" and issubclass(
        part.original, (torch.nn.Sequential, torch.nn.ModuleList)
    ):
        is_plain = not part.state and part.training == part.evaluation
        is_plain = is_plain and not part.node.draws_itself
        if is_plain and list(part.children) == [str(i) for i in range(len(part.children))]:
            part.base = "Sequential" if is_sequential(part) else "ModuleList"


def _class_name(node: Node) -> str:
    """Return the name of the original class; of torch's own containers, that of the attribute."""
    kind = type(node.module)
    attributes = [name for name in node.path.split(".") if name and not name.isdigit()]
    if kind.__module__.startswith("torch.nn.modules.container") and attributes:
        return "".join(word.capitalize() for word in attributes[-1].split("_")) or kind.__name__
    return kind.__name__


def _calls_what_draws(part: Part) -> bool:
    if not part.programs:
        return any(child.draws for child in part.children.values())
    return any(
        isinstance(step, Call) and part.at(step.module).draws
        for program in part.programs
        for step in program.body.steps
    )


def _variable(variable: tree.Variable) -> Variable:
    if variable.kind is None or variable.array is None:
        return Variable(variable.name, "tied")
    library = "nnx" if variable.kind.__module__.startswith("flax.") else "jaxnn"
    kind, array = f"{library}.{variable.kind.__name__}", variable.array
    return Variable(variable.name, kind, tuple(array.shape), str(array.dtype))


# --- layers -------------------------------------------------------------------------------------


def _layer(node: Node, layer: Layer) -> Part:
    options = {name: value for name, value in layer.options.items() if name != "inplace"}
    if layer.dtype not in (None, "float32"):
        options["dtype"] = layer.dtype
    made = nnx.eval_shape(lambda: layer.make(nnx.Rngs(0)))
    drawing = [inner for _, inner in nnx.iter_modules(made) if hasattr(inner, "rngs")]
    draws = any(getattr(inner, "p", getattr(inner, "dropout", 1)) != 0 for inner in drawing)
    return Part(
        node, "layer", layer.name, options=shortened(layer.name, options), draws=draws,
        takes_rngs=bool(drawing) or _draws_parameters(layer), mutable=layer.has_buffers,
    )  # fmt: skip


def _draws_parameters(layer: Layer) -> bool:
    """Whether the layer cannot be constructed without `rngs`."""
    try:
        nnx.eval_shape(lambda: layer.make(None))
    except ValueError:
        return True
    return False


def defaults_of(layer: str) -> dict[str, Any]:
    """Return the options of a layer in order with their defaults, `Ellipsis` for none."""
    return {
        name: ... if parameter.default is parameter.empty else parameter.default
        for name, parameter in parameters_of(layer).items()
        if name != "rngs"
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
