"""The state of a module: its kinds of variables, and the walk that gives each its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
from flax import nnx


class Frozen(nnx.Variable[Any]):
    """A parameter that is not trained: in the state dict, but no `nnx.Param`, so without gradient.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> table = jaxnn.Frozen(jnp.zeros((2, 3)))
        >>> isinstance(table, nnx.Param)
        False
    """


class NonPersistent(nnx.BatchStat[Any]):
    """A buffer that is part of the module's state, but not of its state dict.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> positions = jaxnn.NonPersistent(jnp.arange(3))
        >>> isinstance(positions, nnx.BatchStat)
        True
    """


class AdapterParam(nnx.LoRAParam[Any]):
    """A weight of an adapter: trained, but no part of the state dict of the model that it adapts.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> isinstance(AdapterParam(jnp.zeros((2, 3))), nnx.LoRAParam)
        True
    """


nnx.register_variable_name("frozen", Frozen)
nnx.register_variable_name("non_persistent", NonPersistent)
nnx.register_variable_name("adapter", AdapterParam)

# What a run leaves behind, and no weights.
_TRANSIENT = (nnx.RngState, nnx.Intermediate, nnx.Cache, NonPersistent)


def named_variables(module: nnx.Module) -> Iterator[tuple[str, nnx.Variable[Any]]]:
    """Yield the variables that a state dict holds, and those of adapters, under their names."""
    check_module(module)
    tied = getattr(module, "_tied", ())
    if not tied:
        yield from _walk(module, "", ())
        return
    # What is stored once, and has several names in torch, appears under each.
    stored = dict(_walk(module, "", ()))
    for key in getattr(module, "_state_keys", ()):
        first = _first_name(key, tied)
        if first in stored:
            yield key, stored[first]
    for name, variable in stored.items():
        if not in_state_dict(variable):
            yield name, variable


def in_state_dict(variable: nnx.Variable[Any]) -> bool:
    """Whether a weight is the model's own, and not an adapter's."""
    return not isinstance(variable, AdapterParam)


def abstract_variables(module: nnx.Module) -> tuple[list[str], list[str]]:
    """Return the names of what has a shape and no values: of a state dict's entries, of the others.

    >>> from flax import nnx
    >>> import jaxnn
    >>> abstract_variables(nnx.eval_shape(lambda: jaxnn.Linear(2, 2, rngs=nnx.Rngs(0))))
    (['weight', 'bias'], [])
    """
    entries = {name: v for name, v in named_variables(module) if in_state_dict(v)}
    known = {id(variable) for variable in entries.values()}
    others = {
        f"{prefix}{name}": member
        for prefix, node in nodes_of(module, "", ())
        for name, member in _members(node)
        if isinstance(member, nnx.Variable) and id(member) not in known
    }
    of_entries, of_others = (
        [name for name, variable in found.items() if _is_abstract(variable)]
        for found in (entries, others)
    )
    return of_entries, of_others


def refuse_abstract(module: nnx.Module) -> None:
    """Refuse to go on with a module that holds shapes in place of values.

    Raises:
        ValueError: naming the first of them, and how they come to their values.
    """
    entries, others = abstract_variables(module)
    if not entries and not others:
        return
    lines = [f"{title(module)} is abstract: it holds shapes in place of values, so it cannot run"]
    if entries:
        lines.append(
            f"{len(entries)} ({shortened(entries)}): fill them with "
            "jaxnn.load_state_dict(module, checkpoint); or, to trace without values, pass the "
            "state as an argument (graphdef, state = nnx.split(module))"
        )
    if others:
        lines.append(
            f"{len(others)} ({shortened(others)}): in no state dict, so that no checkpoint fills "
            "them: set each with variable.set_value(array), or make the original under "
            "jaxnn.interop.abstract_parameters(), where such tables are computed"
        )
    raise ValueError("\n  ".join(lines))


def title(module: nnx.Module) -> str:
    """Return the name of a module's class, of an imported one the original's."""
    return str(getattr(module, "_source", type(module).__name__))


def shortened(names: Sequence[str], limit: int = 8) -> str:
    """Return the first of some names, with dots where there are more."""
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def _is_abstract(variable: nnx.Variable[Any]) -> bool:
    return isinstance(variable.get_raw_value(), jax.ShapeDtypeStruct)


def check_module(module: Any) -> None:
    """Refuse what is no module."""
    if not isinstance(module, nnx.Module):
        raise TypeError(f"`module` must be an nnx.Module, got {type(module).__name__}")


def nodes_of(node: Any, prefix: str, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    """Yield a node and all below it, each after the one that it is in, with their prefixes."""
    if id(node) in above:
        return
    yield prefix, node
    transparent = getattr(node, "_transparent", None)
    for name, member in _members(node):
        if isinstance(member, (nnx.Pytree, list, tuple, dict)):
            inside = prefix if name == transparent else f"{prefix}{name}."
            yield from nodes_of(member, inside, (*above, id(node)))


def own_variables(node: Any) -> list[tuple[str, nnx.Variable[Any]]]:
    """Return the variables that are attributes of a node and have weights, parameters first."""
    variables = [
        (name, member)
        for name, member in _members(node)
        if isinstance(member, nnx.Variable) and not isinstance(member, _TRANSIENT)
    ]
    return sorted(variables, key=lambda pair: not _is_parameter(pair[1]))


def named_children(module: nnx.Module) -> list[tuple[str, Any]]:
    """Return the modules that are attributes of `module`, by name, in the order of registration.

    The order of `vars(module)` is lost when NNX splits and merges a module (it sorts the names);
    the record of which attributes are data keeps it.
    """
    return [
        (name, child) for name, child in ordered_attributes(module) if isinstance(child, nnx.Module)
    ]


def ordered_attributes(module: nnx.Pytree) -> list[tuple[str, Any]]:
    """Return the attributes of `module` in the order in which they were first assigned."""
    attributes = vars(module)
    ordered = [name for name in getattr(module, "_pytree__nodes", ()) if name in attributes]
    ordered += [name for name in attributes if name not in set(ordered)]
    return [(name, attributes[name]) for name in ordered if not name.startswith("_pytree__")]


def value_of(variable: nnx.Variable[jax.Array] | None) -> jax.Array | None:
    """Return the variable's array, or None where there is no variable."""
    return None if variable is None else variable[...]


def _walk(
    node: Any, prefix: str, above: tuple[int, ...]
) -> Iterator[tuple[str, nnx.Variable[Any]]]:
    for prefix_of_child, child in nodes_of(node, prefix, above):
        for name, variable in own_variables(child):
            yield prefix_of_child + name, variable


def _first_name(key: str, tied: Sequence[tuple[str, str]]) -> str:
    for alias, first in tied:
        if key == alias or key.startswith(f"{alias}."):
            return first + key[len(alias) :]
    return key


def _members(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, nnx.Pytree):
        return ordered_attributes(node)
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    return [(str(name), member) for name, member in pairs]


def _is_parameter(variable: nnx.Variable[Any]) -> bool:
    return isinstance(variable, (nnx.Param, Frozen))
