"""A captured graph without writes: each step gives a new value, as a program's steps do.

torch's own functionalisation traces the whole graph once more, which takes longer than the capture.
A graph that writes nothing needs none. What is written whole, and is not seen through a view, gets
a new name here; all else is left to torch.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# What writes statistics though its schema does not say so.
_WRITES_UNSAID = {
    "aten::batch_norm", "aten::instance_norm", "aten::native_batch_norm",
    "aten::_batch_norm_impl_index", "aten::cudnn_batch_norm", "aten::miopen_batch_norm",
    "aten::rrelu", "aten::_batch_norm_with_update",
}  # fmt: skip
# Composite operators whose results are no argument and no part of one.
_ALWAYS_NEW = {
    "aten::linear", "aten::matmul", "aten::conv1d", "aten::conv2d", "aten::conv3d",
    "aten::layer_norm", "aten::group_norm", "aten::rms_norm", "aten::softmax", "aten::log_softmax",
    "aten::scaled_dot_product_attention", "aten::cross_entropy_loss",
}  # fmt: skip
# What is the tensor that it is given, in the layout or the dtype that it has.
_SAME_DTYPE = {"aten::to", "aten::type_as", "aten::contiguous"}
_DROPOUTS = {
    "aten::dropout", "aten::feature_dropout", "aten::alpha_dropout", "aten::feature_alpha_dropout",
}  # fmt: skip


def functional(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Return a captured graph as one that writes nothing.

    Args:
        program: the graph, which may be changed.
    """
    graph = program.graph_module.graph
    graph.eliminate_dead_code()
    if _Writes(program).are_named():
        for node in list(graph.nodes):
            _left_out(node)
        return program
    return program.run_decompositions({})


def is_plain(node: torch.fx.Node) -> bool:
    """Whether a node writes nothing, and is an operator of torch or a number."""
    import torch

    if node.op != "call_function":
        return node.op in ("placeholder", "output")
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return not isinstance(node.target, torch._ops.OpOverloadPacket | torch._ops.OperatorBase)
    return not schema.is_mutable and schema.name not in _WRITES_UNSAID


# --- writes that are a new value ----------------------------------------------------------------


class _Writes:
    """The writes of a graph.

    Attributes:
        state: the names of its parameters, buffers and constants.
        memory: of each node, what stands for the memory that it may lie in.
    """

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self.graph = program.graph_module.graph
        given = set(program.graph_signature.user_inputs)
        placeholders = self.graph.find_nodes(op="placeholder")
        self.state = {node.name for node in placeholders} - given
        self.memory = _memory_of_each(self.graph.nodes)

    def are_named(self) -> bool:
        """Give what is written a new name from there on; return whether that is all there is."""
        return all(is_plain(node) or self._is_named(node) for node in list(self.graph.nodes))

    def _is_named(self, node: torch.fx.Node) -> bool:
        written = _written_whole(node)
        if written is None or written.name in self.state:
            return False
        memory = self.memory[written]
        others = [n for n, m in self.memory.items() if m == memory and n not in (written, node)]
        if any(user > node for other in others if other < node for user in other.users):
            return False
        new = _new_value(node)
        if new is None:
            return False
        new.meta = {**new.meta, "val": node.meta["val"]}
        self.memory[new] = memory
        del self.memory[node]
        for user in list(written.users):
            if user > node:
                user.replace_input_with(written, new)
        node.replace_all_uses_with(new)
        self.graph.erase_node(node)
        return True


def _written_whole(node: torch.fx.Node) -> torch.fx.Node | None:
    """Return the tensor that an operator writes, if it writes that one and returns it."""
    import torch

    schema = getattr(node.target, "_schema", None)
    if schema is None or schema.name in _WRITES_UNSAID or not node.args:
        return None
    writes = [a.alias_info is not None and a.alias_info.is_write for a in schema.arguments]
    first = node.args[0]
    is_one = writes[0] and not any(writes[1:]) and len(schema.returns) == 1
    is_tensor = isinstance(first, torch.fx.Node) and isinstance(first.meta.get("val"), torch.Tensor)
    return first if is_one and is_tensor else None  # type: ignore[return-value]


def _memory_of_each(nodes: Iterable[torch.fx.Node]) -> dict[torch.fx.Node, Any]:
    """Return of each node what stands for the memory that it may lie in, or a part of it."""
    import torch

    joined: dict[Any, Any] = {}

    def root(memory: Any) -> Any:
        while memory in joined:
            memory = joined[memory]
        return memory

    found: dict[torch.fx.Node, Any] = {}
    for node in nodes:
        value = node.meta.get("val")
        # The graph keeps its values, so that no other memory has the same number.
        found[node] = value.untyped_storage()._cdata if isinstance(value, torch.Tensor) else node
        for source in node.all_input_nodes if _may_return_argument(node) else ():
            one, other = root(found[node]), root(found[source])
            if one != other:
                joined[one] = other
    return {node: root(memory) for node, memory in found.items()}


def _may_return_argument(node: torch.fx.Node) -> bool:
    """Whether an operator may give what it is given, or a part of it, and not say so.

    One that is made of others may, as a dropout that drops nothing.
    """
    if node.target is operator.getitem:
        return True
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.name not in _ALWAYS_NEW and is_composite(node.target)


def is_composite(target: Any) -> bool:
    """Whether torch makes an operator of others, where it is not kept whole."""
    import torch

    key = "CompositeImplicitAutograd"
    return torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), key)


def _new_value(node: torch.fx.Node) -> torch.fx.Node | None:
    """Return a node that computes what `node` writes; None where no operator does just that."""
    import torch

    target: Any = node.target
    was, args = node.meta["val"], node.args
    function = _without_write(target)
    if target is torch.ops.aten.copy_.default:
        source: Any = args[1]
        value = source.meta.get("val") if isinstance(source, torch.fx.Node) else None
        if isinstance(value, torch.Tensor) and _looks_like(value, was):
            if len(source.users) == 1 and source.op != "placeholder":
                return source
            function, args = torch.ops.aten.clone.default, (source,)
    if function is None:
        return None
    try:
        with was.fake_mode:
            given = torch.fx.map_arg((args, node.kwargs), lambda item: item.meta["val"])
            value = function(*given[0], **given[1])
    except Exception:
        return None
    if not _looks_like(value, was):
        return None  # what is written is cast to the dtype that the tensor has
    with node.graph.inserting_before(node):
        new = node.graph.call_function(function, args, node.kwargs)
    new.meta = dict(node.meta)
    return new


def _without_write(target: Any) -> Any:
    """Return the operator of the same arguments that returns what another writes."""
    import torch

    namespace, _, name = target._schema.name.partition("::")
    packet = getattr(getattr(torch.ops, namespace), name.removesuffix("_"), None)
    found = getattr(packet, target._overloadname, None) if name.endswith("_") else None
    if found is None:
        return None
    mine, others = found._schema.arguments, target._schema.arguments
    same = [str(a.type) for a in mine] == [str(a.type) for a in others]
    return found if same and [a.name for a in mine[1:]] == [a.name for a in others[1:]] else None


def _looks_like(value: Any, other: Any) -> bool:
    return bool(value.dtype == other.dtype and tuple(value.shape) == tuple(other.shape))


# --- steps that do nothing ----------------------------------------------------------------------


def _left_out(node: torch.fx.Node) -> None:
    """Take a node out of the graph that gives the tensor it is given."""
    import torch

    schema = getattr(node.target, "_schema", None)
    if schema is None or not node.args or not isinstance(node.args[0], torch.fx.Node):
        return
    given, value = node.args[0].meta.get("val"), node.meta.get("val")
    if not isinstance(given, torch.Tensor) or not isinstance(value, torch.Tensor):
        return
    if schema.name in _DROPOUTS:
        _, p, train = node.args
        is_same = not train or p == 0
    else:
        is_same = schema.name in _SAME_DTYPE and given.dtype == value.dtype
    if is_same:
        node.replace_all_uses_with(node.args[0])
        node.graph.erase_node(node)


# --- switches of gradients and of autocast ------------------------------------------------------


@contextmanager
def switches_as_marks() -> Iterator[None]:
    """Keep the exporter from putting what stands between two switches into a graph of its own.

    Marks say where gradients are switched off. An autocast that is off casts nothing.
    """
    import torch
    from torch._export.passes import (
        replace_autocast_with_hop_pass as autocast,
    )
    from torch._export.passes import (
        replace_set_grad_with_hop_pass as gradients,
    )

    def erased(is_switch: Callable[[Any], bool], otherwise: Any) -> Any:
        def apply(module: Any, signature: Any) -> Any:
            switches = [node for node in module.graph.nodes if is_switch(node)]
            if any(_is_on(node) for node in switches):
                return otherwise(module, signature)
            for node in reversed(switches):
                module.graph.erase_node(node)
            return module, signature

        return apply

    def of_gradients(node: Any) -> bool:
        return node.target is torch._C._set_grad_enabled

    def of_autocast(node: Any) -> bool:
        return node.target in (torch.amp.autocast_mode._enter_autocast,
                               torch.amp.autocast_mode._exit_autocast)  # fmt: skip

    was = gradients.replace_set_grad_with_hop_pass, autocast.replace_autocast_with_hop_pass
    gradients.replace_set_grad_with_hop_pass = erased(of_gradients, was[0])
    autocast.replace_autocast_with_hop_pass = erased(of_autocast, was[1])
    try:
        yield
    finally:
        gradients.replace_set_grad_with_hop_pass, autocast.replace_autocast_with_hop_pass = was


def _is_on(node: Any) -> bool:
    """Whether a node switches autocast on, or may do so within one that is."""
    import torch

    if node.target is not torch.amp.autocast_mode._enter_autocast:
        return False
    device, _, enabled = (*node.args, True)[:3] if len(node.args) < 3 else node.args[:3]
    return bool(enabled) or torch.is_autocast_enabled(device)
