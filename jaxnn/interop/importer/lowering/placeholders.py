"""What the inputs of an exported graph stand for: state, or arrays that forward contains."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...checkpoint import as_numpy
from ..capture import Captured
from ..gradients import Refused
from ..program import Literal

if TYPE_CHECKING:
    import torch

# Arrays up to this size that a forward pass contains stand in its program.
LITERAL_SIZE = 64


@dataclass
class Placeholders:
    """What each placeholder that is not an argument stands for.

    Attributes:
        state: of a parameter or buffer, its name.
        literals: of a small array that forward contains, the array.
        arrays: of a large one, the name and the array.
    """

    state: dict[torch.fx.Node, str] = field(default_factory=dict)
    literals: dict[torch.fx.Node, Literal] = field(default_factory=dict)
    arrays: dict[torch.fx.Node, tuple[str, Any]] = field(default_factory=dict)

    def add_array(self, node: torch.fx.Node, value: Any, largest: int) -> None:
        """Note an array that forward contains, up to a size as a part of the program."""
        if value.is_meta:
            raise Refused(
                f"forward contains a tensor of shape {tuple(value.shape)} that is no parameter and "
                "no buffer, on torch's meta device, where it has no values: register it as a "
                "buffer (register_buffer), or make it elsewhere"
            )
        array = as_numpy(value.detach())
        if array.size <= largest:
            plain = array.astype(float) if array.dtype.kind == "V" else array
            dtype = str(value.dtype).removeprefix("torch.")
            self.literals[node] = Literal(_tuples(plain.tolist()), dtype)
            return
        digest = hashlib.sha256(array.tobytes() + str(array.shape).encode()).hexdigest()
        self.arrays[node] = (f"constant_{digest[:8]}", array)


def placeholders_of(
    captured: Captured, names: Container[str], largest: int = LITERAL_SIZE
) -> Placeholders:
    """Return what the placeholders of a captured graph stand for.

    Args:
        captured: the graph.
        names: those of the model's modules, parameters and buffers.
        largest: how many elements an array may have to be a part of the program.
    """
    from torch.export.graph_signature import InputKind

    found = Placeholders()
    program = captured.program
    nodes = [node for node in program.graph_module.graph.nodes if node.op == "placeholder"]
    for node, spec in zip(nodes, program.graph_signature.input_specs, strict=True):
        name = str(spec.target).removeprefix("model.")
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            if name in names or "." in name:
                found.state[node] = name
            else:
                found.add_array(node, program.state_dict.get(str(spec.target)), largest)
        elif spec.kind is InputKind.CONSTANT_TENSOR:
            if name in names:  # a buffer that is not persistent
                found.state[node] = name
            else:
                found.add_array(node, program.constants[str(spec.target)], largest)
    return found


def _tuples(values: Any) -> Any:
    return tuple(_tuples(item) for item in values) if isinstance(values, list) else values
