"""Weights of torch for models written with Flax's Linen layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from flax import nnx
from flax.core import FrozenDict, freeze, meta, unfreeze

from ..modules._state import Frozen
from .flax_layers import (
    RULES,
    Slot,
    attention,
    batch_normalization,
    convolution,
    embedding,
    linear,
    linen_gru,
    lstm,
    normalization,
    parametric_relu,
    simple_cell,
    transposed_convolution,
    variable_at,
)
from .layout import shape_of
from .placement import Shardings
from .rename import Rename
from .state_dict import LoadReport, load_state_dict

# The collections that hold weights, and what their variables are in NNX.
_COLLECTIONS: dict[str, type[nnx.Variable[Any]]] = {
    "params": nnx.Param,
    "frozen": Frozen,
    "batch_stats": nnx.BatchStat,
}


def load_linen(
    variables: Mapping[str, Any],
    source: Mapping[str, Any] | str | PathLike[str],
    strict: bool = True,
    rename: Rename | None = None,
    *,
    transposed_convolutions: Sequence[str] = (),
    entry: str | None = None,
    sharding: Shardings | None = None,
    progress: bool | None = None,
) -> tuple[Any, LoadReport]:
    """Return Linen variables filled with the weights of a torch model.

    The names are the paths of the modules ("Conv_0.weight", "encoder.Dense_1.bias"), with torch's
    names for the arrays. A layer is known by the names and ranks of its arrays: a kernel of rank 2
    is nn.Dense, of rank 3 to 5 nn.Conv; "scale", "mean" and "var" are a normalisation; "embedding"
    is nn.Embed; "query", "key", "value" and "out" are an attention; "ii", "if", "hi" ... and "ir",
    "hr" ... are the cells of an LSTM and a GRU. Layers of `jaxnn.linen` have torch's names already.

    Args:
        variables: what `init` returned, or `jax.eval_shape` of it: a mapping with the collection
            "params", maybe "batch_stats", and any others, which are returned as they came.
        source: as for `jaxnn.load_state_dict`.
        strict: as for `jaxnn.load_state_dict`.
        rename: as for `jaxnn.load_state_dict`.
        transposed_convolutions: the paths of nn.ConvTranspose layers (without transpose_kernel),
            which look like nn.Conv; needed where their names do not begin with "ConvTranspose".
        entry: as for `jaxnn.load_state_dict`.
        sharding: as for `jaxnn.load_state_dict`; its names are the paths of the arrays
            ("Conv_0.kernel").
        progress: as for `jaxnn.load_state_dict`.

    Returns:
        The new variables, with boxes of metadata as they were, and a LoadReport.

    Raises:
        ValueError: as `jaxnn.load_state_dict` does, or if there is no collection "params", or no
            convolution at one of `transposed_convolutions`.
        TypeError: as `jaxnn.load_state_dict` does.

    Source: torch.nn.Module.load_state_dict; flax.linen.

    Example:
        >>> import flax.linen as nn
        >>> import jax, jax.numpy as jnp, numpy as np
        >>> import jaxnn
        >>> net = nn.Sequential([nn.Dense(2), nn.relu])
        >>> variables = net.init(jax.random.key(0), jnp.ones((1, 3)))
        >>> source = {"0.weight": np.ones((2, 3)), "0.bias": np.zeros(2)}
        >>> variables, report = jaxnn.interop.load_linen(
        ...     variables, source, rename={"0": "layers_0"}
        ... )
        >>> net.apply(variables, jnp.ones((1, 3)))
        Array([[3., 3.]], dtype=float32)
    """
    if not isinstance(variables.get("params"), Mapping):
        raise ValueError(
            f"`variables` must have a collection 'params', as init returns; got {sorted(variables)}"
        )
    given = unfreeze(FrozenDict(variables))
    plain = meta.unbox(given)
    collections = {name: plain[name] for name in _COLLECTIONS if name in plain}
    root = LinenModule("")
    for collection, tree in collections.items():
        _add(root, tree, _COLLECTIONS[collection])
    for path in transposed_convolutions:
        _transposed_convolution_at(root, path)._is_transposed_convolution = True
    report = load_state_dict(
        root, source, strict, rename, entry=entry, sharding=sharding, progress=progress
    )
    filled = {name: _values(root, tree) for name, tree in collections.items()}
    new = meta.replace_boxed(given, plain | filled)
    return (freeze(new) if isinstance(variables, FrozenDict) else new), report


class LinenModule(nnx.Module):
    """One module of a Linen model: its arrays of all collections, and the modules in it.

    It has no methods, since a module's children may have any name.
    """

    def __init__(self, name: str) -> None:
        self._is_transposed_convolution = name.startswith("ConvTranspose")


def _add(layer: LinenModule, tree: Mapping[str, Any], kind: type[nnx.Variable[Any]]) -> None:
    for name, value in tree.items():
        if not isinstance(value, Mapping):
            setattr(layer, name, kind(value))
            continue
        if name not in vars(layer):
            setattr(layer, name, LinenModule(name))
        _add(vars(layer)[name], value, kind)


def _transposed_convolution_at(root: LinenModule, path: str) -> LinenModule:
    layer: Any = root
    for name in path.split("."):
        layer = getattr(layer, name, None)
    if not isinstance(layer, LinenModule) or variable_at(layer, "kernel") is None:
        raise ValueError(f"`transposed_convolutions` names {path!r}, where there is no kernel")
    return layer


def _values(layer: LinenModule, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of a layer in the structure of a tree."""
    members = vars(layer)
    return {
        name: _values(members[name], value)
        if isinstance(value, Mapping)
        else members[name].get_value()
        for name, value in tree.items()
    }


# The kinds of layers that are known by the modules in them.
_COMPOUND = {
    frozenset({"query", "key", "value", "out"}): attention,
    frozenset({"ii", "if", "ig", "io", "hi", "hf", "hg", "ho"}): lstm("if"),
    frozenset({"ir", "iz", "in", "hr", "hz", "hn"}): linen_gru,
    frozenset({"i", "h"}): simple_cell,
}


def _linen_rule(layer: LinenModule) -> Sequence[Slot]:
    for names, rule in _COMPOUND.items():
        kernels = [variable_at(layer, f"{name}.kernel") for name in names]
        rank = 3 if rule is attention else 2
        if all(kernel is not None and len(shape_of(kernel)) == rank for kernel in kernels):
            return rule(layer)
    kernel = variable_at(layer, "kernel")
    if kernel is not None:
        if layer._is_transposed_convolution:
            return transposed_convolution(layer)
        return linear(layer) if len(shape_of(kernel)) == 2 else convolution(layer)
    if "mean" in vars(layer):
        return batch_normalization(layer)
    if "scale" in vars(layer):
        return normalization(layer)
    if "embedding" in vars(layer):
        return embedding(layer)
    return parametric_relu(layer)


RULES[LinenModule] = _linen_rule
