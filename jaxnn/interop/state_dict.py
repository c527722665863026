"""State dicts: a module's parameters and buffers by name, out and in."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..modules._lazy import LazyModule
from ..modules._module import Frozen, Module, NonPersistent, ordered_attributes
from .checkpoint import as_numpy, is_array, read_weights

Rename = Mapping[str, str] | Callable[[str], str | None] | Sequence[tuple[str, str]]

# What a run leaves behind, and no weights.
_TRANSIENT = (nnx.RngState, nnx.Intermediate, nnx.Cache, NonPersistent)


@dataclass(frozen=True)
class LoadReport:
    """What `load_state_dict` found.

    Attributes:
        missing_keys: the model's keys that the source lacks.
        unexpected_keys: the source's keys (renamed) that the model lacks.
        renamed: the source's keys that were renamed, with their new names.
        transposed: the keys whose arrays were transposed, for layers with another layout.
        non_finite: the keys whose values, as loaded, contain NaN or infinity.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> net = jaxnn.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> jaxnn.load_state_dict(net, jaxnn.state_dict(net)).missing_keys
        []
    """

    missing_keys: list[str] = field(default_factory=list)
    unexpected_keys: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    transposed: list[str] = field(default_factory=list)
    non_finite: list[str] = field(default_factory=list)


def state_dict(module: nnx.Module) -> dict[str, np.ndarray]:
    """Return a copy of a module's parameters and buffers, under the names that torch gives them.

    In torch's order: a module's own parameters, its own buffers, then its children, each in the
    order of registration. A variable that is shared appears under each of its names. Random number
    state, `jaxnn.NonPersistent` buffers, caches and intermediates are no part of it.

    Args:
        module: any nnx.Module; the names are the paths of its attributes.

    Returns:
        NumPy arrays of torch's dtypes: bfloat16 is that of ml_dtypes, and an integer buffer is
        int64 also where JAX, without its 64-bit mode, holds it as int32.

    Raises:
        TypeError: if `module` is no nnx.Module, or one of its variables holds no array.

    Source: torch.nn.Module.state_dict.

    Example:
        >>> import jaxnn
        >>> net = jaxnn.Sequential(jaxnn.BatchNorm2d(3, affine=False))
        >>> list(jaxnn.state_dict(net))
        ['0.running_mean', '0.running_var', '0.num_batches_tracked']
    """
    return {key: _export(key, variable) for key, variable in named_variables(module)}


def load_state_dict(
    module: nnx.Module,
    source: Mapping[str, Any] | str | PathLike[str],
    strict: bool = True,
    rename: Rename | None = None,
) -> LoadReport:
    """Load parameters and buffers into a module, all or nothing.

    Everything is checked before the first write; on any error the module is as it was. The module
    keeps its dtypes and the placement of its arrays; values are cast as torch's `copy_` does.

    Args:
        module: any nnx.Module, also an abstract one (nnx.eval_shape).
        source: a mapping from names to arrays (NumPy, JAX, torch); or the path of a .safetensors
            file, of the index of a sharded one, of a directory with either, or of a .pt, .pth or
            .bin file, which torch reads with weights_only=True. Where the weights are an entry
            "state_dict" of a larger checkpoint, they are found there.
        strict: whether all names must match.
        rename: how the source's names become the model's: a mapping from names, or from prefixes
            that end at a dot, to their replacements; a function, which may return None to leave a
            name out; or a list of pairs (pattern, replacement) for re.sub.

    Returns:
        What was found, as a LoadReport.

    Raises:
        ValueError: if a shape differs; if names are missing or unexpected and `strict` is set; if
            two names become one; if a value cannot be held; if a file is damaged.
        TypeError: if the source is neither a mapping nor a path, or a value is no array.
        FileNotFoundError: if there is no such file.

    Source: torch.nn.Module.load_state_dict.

    Example:
        >>> import numpy as np
        >>> from flax import nnx
        >>> import jaxnn
        >>> net = jaxnn.Linear(2, 1, bias=False, rngs=nnx.Rngs(0))
        >>> report = jaxnn.load_state_dict(
        ...     net, {"fc.weight": np.array([[1, 2]])}, rename={"fc.": ""}
        ... )
        >>> net.weight[...], report.renamed
        (Array([[1., 2.]], dtype=float32), {'fc.weight': 'weight'})
    """
    weights, renamed = _rename(read_weights(source), rename)
    built = _build_lazy_modules(module, weights)
    variables = dict(named_variables(module))
    for prefix, (_, becoming) in built.items():
        variables |= {prefix + name: item for name, item in named_variables(becoming)}
    versions = getattr(source, "_metadata", None)

    missing = _missing(variables, weights, versions)
    unexpected = [key for key in weights if key not in variables]
    problems = _name_problems(missing, unexpected) if strict else []

    arrays: dict[str, np.ndarray] = {}
    for key, variable in variables.items():
        if key in weights:
            try:
                arrays[key] = _convert(weights[key], _array_of(key, variable))
            except ValueError as error:
                problems.append(f"{key}: {error}")
    if problems:
        raise ValueError(
            f"cannot load the weights into {type(module).__name__}, which is unchanged:\n  "
            + "\n  ".join(problems)
        )

    non_finite = [key for key, array in arrays.items() if not _is_finite(array)]
    values = {key: _place(array, variables[key]) for key, array in arrays.items()}
    for lazy, becoming in built.values():
        lazy.become(becoming)
    for key, value in values.items():
        variables[key].set_value(value)
    return LoadReport(missing, unexpected, renamed, [], non_finite)


def named_variables(module: nnx.Module) -> Iterator[tuple[str, nnx.Variable[Any]]]:
    """Yield the variables that a state dict holds, under their names and in its order."""
    if not isinstance(module, nnx.Module):
        raise TypeError(f"`module` must be an nnx.Module, got {type(module).__name__}")
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


def _first_name(key: str, tied: Sequence[tuple[str, str]]) -> str:
    for alias, first in tied:
        if key == alias or key.startswith(f"{alias}."):
            return first + key[len(alias) :]
    return key


def _walk(
    node: Any, prefix: str, above: tuple[int, ...]
) -> Iterator[tuple[str, nnx.Variable[Any]]]:
    if id(node) in above:
        return
    members = _members(node)
    variables = [
        (name, member)
        for name, member in members
        if isinstance(member, nnx.Variable) and not isinstance(member, _TRANSIENT)
    ]
    for name, variable in sorted(variables, key=lambda pair: not _is_parameter(pair[1])):
        yield prefix + name, variable
    for name, member in members:
        if isinstance(member, (nnx.Pytree, list, tuple, dict)):
            yield from _walk(member, f"{prefix}{name}.", (*above, id(node)))


def _build_lazy_modules(
    module: nnx.Module, weights: Mapping[str, Any]
) -> dict[str, tuple[LazyModule, Module]]:
    """Return each lazy module whose weights are given, with what it will become, by prefix."""
    built = {}
    for path, node in nnx.iter_modules(module):
        if isinstance(node, LazyModule):
            prefix = "".join(f"{name}." for name in path)
            shapes = {
                key.removeprefix(prefix): tuple(value.shape)
                for key, value in weights.items()
                if key.startswith(prefix) and is_array(value)
            }
            channels = node.channels_of_state(shapes)
            if channels is not None:
                built[prefix] = (node, node.build(channels))
    return built


def _members(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, nnx.Pytree):
        return ordered_attributes(node)
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    return [(str(name), member) for name, member in pairs]


def _is_parameter(variable: nnx.Variable[Any]) -> bool:
    return isinstance(variable, (nnx.Param, Frozen))


def _export(key: str, variable: nnx.Variable[Any]) -> np.ndarray:
    value = _array_of(key, variable)
    if isinstance(value, jax.ShapeDtypeStruct):
        raise TypeError(f"the variable {key} is abstract: it has a shape, but no values yet")
    array = np.array(value)
    is_default_int = array.dtype == np.int32 and not jax.config.read("jax_enable_x64")
    if isinstance(variable, nnx.BatchStat) and is_default_int:
        return array.astype(np.int64)
    return array


def _array_of(key: str, variable: nnx.Variable[Any]) -> Any:
    value = variable.get_value()
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(f"the variable {key} holds no array but a {type(value).__name__}")
    return value


def _rename(
    weights: Mapping[str, Any], rename: Rename | None
) -> tuple[Mapping[str, Any], dict[str, str]]:
    if rename is None:
        return weights, {}
    function = _rename_function(rename)
    names = {key: function(key) for key in weights}
    kept = {key: name for key, name in names.items() if name is not None}
    clashes = [name for name, count in Counter(kept.values()).items() if count > 1]
    if clashes:
        sources = {name: [key for key in kept if kept[key] == name] for name in clashes}
        raise ValueError(f"`rename` gives several keys one name: {sources}")
    renamed = {key: name for key, name in kept.items() if key != name}
    return {name: weights[key] for key, name in kept.items()}, renamed


def _rename_function(rename: Rename) -> Callable[[str], str | None]:
    if callable(rename):
        return rename
    if isinstance(rename, Mapping):
        return lambda key: _replace_prefix(key, rename)
    pairs = [(re.compile(pattern), replacement) for pattern, replacement in rename]

    def substitute(key: str) -> str:
        for pattern, replacement in pairs:
            key = pattern.sub(replacement, key)
        return key

    return substitute


def _replace_prefix(key: str, replacements: Mapping[str, str]) -> str:
    if key in replacements:
        return replacements[key]
    # The longest prefix wins, so that an exception to a rule can be told.
    for prefix in sorted(replacements, key=len, reverse=True):
        dotted = prefix if prefix.endswith(".") or not prefix else f"{prefix}."
        if key.startswith(dotted):
            new = replacements[prefix]
            return (new if not new or new.endswith(".") else f"{new}.") + key[len(dotted) :]
    return key


def _missing(
    variables: Mapping[str, nnx.Variable[Any]],
    weights: Mapping[str, Any],
    versions: Mapping[str, Any] | None,
) -> list[str]:
    # A file of safetensors holds a shared array under one of its names only.
    loaded = {id(variable) for key, variable in variables.items() if key in weights}
    return [
        key
        for key, variable in variables.items()
        if id(variable) not in loaded and not _is_optional(key, versions)
    ]


def _is_optional(key: str, versions: Mapping[str, Any] | None) -> bool:
    """Whether torch does without the key: weights older than version 2 of BatchNorm lack a count.

    The versions are an attribute of the OrderedDict that torch returns, and are lost in most files.
    """
    owner, _, name = key.rpartition(".")
    if name != "num_batches_tracked":
        return False
    version = (versions or {}).get(owner, {}).get("version")
    return version is None or version < 2


def _name_problems(missing: list[str], unexpected: list[str]) -> list[str]:
    problems = []
    if missing:
        problems.append(f"missing in the source: {', '.join(missing)}")
    if unexpected:
        problems.append(f"unexpected in the source: {', '.join(unexpected)}")
    if problems:
        problems.append("(rename= changes the source's names; strict=False loads what matches)")
    return problems


def _convert(value: Any, wanted: Any) -> np.ndarray:
    """Return a private copy of `value` with the shape and dtype of the array `wanted`."""
    if not is_array(value):
        raise ValueError(f"must be an array, got {type(value).__name__}")
    array = as_numpy(value)
    if wanted.shape == () and array.shape == (1,):
        array = array[0]
    if array.shape != wanted.shape:
        raise ValueError(f"has shape {wanted.shape} in the model, {array.shape} in the source")
    if array.dtype.kind == "c" and not jnp.issubdtype(wanted.dtype, jnp.complexfloating):
        raise ValueError(f"is {wanted.dtype} in the model, but complex in the source")
    # An overflow to infinity is reported, not warned of; so is a NaN.
    with np.errstate(over="ignore", invalid="ignore"):
        converted = np.array(array, dtype=wanted.dtype)
    is_integer = jnp.issubdtype(wanted.dtype, jnp.integer) and array.dtype.kind in "iu"
    if is_integer and not np.array_equal(converted, array):
        raise ValueError(f"has values that {wanted.dtype} cannot hold")
    return converted


def _is_finite(array: np.ndarray) -> bool:
    return not jnp.issubdtype(array.dtype, jnp.inexact) or bool(np.isfinite(array).all())


def _place(array: np.ndarray, variable: nnx.Variable[Any]) -> jax.Array:
    """Put an array where the variable's present value is."""
    present = variable.get_value()
    is_committed = isinstance(present, jax.Array) and present.committed
    return jax.device_put(array, present.sharding) if is_committed else jnp.asarray(array)
