"""The NNX modules of a model's tree, with its weights."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ...modules import Frozen, ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from ...modules._module import fork_stream
from ..state_dict import load_state_dict
from .imported import Imported
from .layers import Layer
from .training_modes import set_part
from .tree import ModelTree, Node, Variable
from .tying import descend, tie


def make(tree: ModelTree, rngs: nnx.Rngs | None, root: type[Imported] = Imported) -> nnx.Module:
    """Return the model as a tree of NNX modules, in the modes that the original's parts are in.

    Args:
        tree: what it is made of.
        rngs: where what draws forks its streams from.
        root: the class of the whole, where that has a forward pass of its own.
    """
    model: Any = tree.root.module
    is_class = tree.root.kind == "class"
    result = _imported(tree.root, rngs, root) if is_class else _module(tree.root, rngs)
    if tree.tied:
        tie(result, tree.tied, model.state_dict)
    weights = {
        name: tensor for name, tensor in model.state_dict().items()
        if hasattr(tensor, "shape") and not tensor.is_meta
    }  # fmt: skip
    load_state_dict(result, weights, strict=False)
    _set_modes(result, model)
    return result


def _module(node: Node, rngs: nnx.Rngs | None) -> Any:
    """Return what a node becomes; None for no module, and for one that is stored elsewhere."""
    if node.kind == "none":
        return None
    if node.layer is not None:
        return _layer(node.layer, rngs)
    if node.kind == "class":
        return _imported(node, rngs)
    if node.kind.endswith("parameters"):
        made: Any = ParameterList() if node.kind == "parameters" else ParameterDict()
        for variable in node.state:
            made.add_module(variable.name, _variable(variable))
        return made
    children = {name: _module(child, rngs) for name, child in node.children.items()}
    if node.kind == "list":
        return ModuleList(list(children.values()))
    return {"sequential": Sequential, "dict": ModuleDict}[node.kind](OrderedDict(children))


def _imported(node: Node, rngs: nnx.Rngs | None, kind: type[Imported] = Imported) -> Imported:
    source: Any = node.module
    made = kind(
        type(source).__name__, node.training, node.evaluation,
        rngs=rngs if node.draws_itself else None, own_modes=node.own_modes, sizes=node.sizes,
        state_version=source._version,
    )  # fmt: skip
    for variable in node.state:
        setattr(made, variable.name, nnx.data(_variable(variable)))
    for name, child in node.children.items():
        setattr(made, name, nnx.data(_module(child, rngs)))
    return made


def _variable(variable: Variable) -> nnx.Variable[Any] | None:
    if variable.kind is None or variable.array is None:
        return None
    array = variable.array
    return variable.kind(array if isinstance(array, jax.ShapeDtypeStruct) else jnp.asarray(array))


def _layer(layer: Layer, rngs: nnx.Rngs | None) -> nnx.Module:
    # Abstract, since every array is loaded: drawing them would take longer than all the rest.
    made = nnx.eval_shape(lambda: layer.make(nnx.Rngs(0)))
    node: Any
    for _, node in nnx.iter_modules(made):
        if isinstance(vars(node).get("rngs"), nnx.Pytree):
            node.rngs = nnx.data(fork_stream(type(node).__name__, rngs, "dropout"))
    for path in layer.frozen:
        owner, _, name = path.rpartition(".")
        node = descend(made, owner)
        setattr(node, name, Frozen(getattr(node, name).get_value()))
    return made


def _set_modes(result: Any, model: Any) -> None:
    for path, module in model.named_modules():
        try:
            node = descend(result, path)
        except (AttributeError, ValueError):
            continue  # a part of a layer, which jaxnn's has not
        set_part(node, not module.training)
