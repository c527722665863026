"""State dicts: a module's parameters and buffers by name, out and in."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import jax
import numpy as np
from flax import nnx

from ..modules._lazy import LazyModule
from ..modules._module import Module
from ..modules._state import (
    abstract_variables,
    check_module,
    in_state_dict,
    named_variables,
    nodes_of,
    own_variables,
    shortened,
    title,
)
from .checkpoint import (
    EXTRA_STATE,
    VersionedDict,
    as_numpy,
    is_array,
    is_uninitialized,
    read_weights,
    settled,
    shape_and_dtype,
)
from .flax_layers import entries_of
from .layout import Entry
from .old_forms import from_old_forms
from .placement import Shardings, check_value, place, progress_bar, sharding_of, size_of
from .rename import Rename, evident_rename, followed, rename_keys


@dataclass(frozen=True)
class LoadReport:
    """What `load_state_dict` found. Printed, it is a summary.

    Attributes:
        missing_keys: the model's keys that the source lacks.
        unexpected_keys: the source's keys (renamed) that the model lacks.
        renamed: the source's keys that were renamed, with their new names.
        transposed: the keys whose arrays have another layout in the model: transposed, flipped,
            split or joined.
        non_finite: the keys whose values, as loaded, contain NaN or infinity.
        filled: the keys that were loaded.
        abstract: the variables of the model that have a shape and no values still: what is missing
            of an abstract model, and tables that no state dict holds. It cannot be called so.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> net = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> print(jaxnn.load_state_dict(net, jaxnn.state_dict(net)))
        filled 2: weight, bias
        transposed 1: weight
    """

    missing_keys: list[str] = field(default_factory=list)
    unexpected_keys: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    transposed: list[str] = field(default_factory=list)
    non_finite: list[str] = field(default_factory=list)
    filled: list[str] = field(default_factory=list)
    abstract: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        groups = {
            "filled": self.filled,
            "missing": self.missing_keys,
            "unexpected": self.unexpected_keys,
            "renamed": [f"{old} -> {new}" for old, new in self.renamed.items()],
            "transposed": self.transposed,
            "not finite": self.non_finite,
            "without values": self.abstract,
        }
        lines = [
            f"{name} {len(keys)}: {shortened(keys) or 'nothing'}"
            for name, keys in groups.items()
            if keys or name == "filled"
        ]
        return "\n".join(lines)


def state_dict(module: nnx.Module) -> dict[str, np.ndarray]:
    """Return a copy of a module's parameters and buffers, under the names that torch gives them.

    In torch's order: a module's own parameters, its own buffers, then its children, each in the
    order of registration. A variable that is shared appears under each of its names. Random number
    state, `jaxnn.NonPersistent` buffers, caches, intermediates and the weights of adapters
    (`jaxnn.interop.add_lora`) are not part of it.

    The layers of Flax itself (nnx.Linear, nnx.Conv ...) have the names and the layout of torch's
    layers here: their kernels are weights, transposed. What Flax does not hold is zero: the number
    of batches of nnx.BatchNorm, and the second bias of a recurrent cell.

    Args:
        module: any nnx.Module; the names are the paths of its attributes.

    Returns:
        NumPy arrays of torch's dtypes: bfloat16 is that of ml_dtypes, and an integer buffer is
        int64 even where JAX, without its 64-bit mode, holds it as int32.

    Raises:
        TypeError: if `module` is not an nnx.Module, or one of its variables does not hold an array;
            if it is abstract: the first names are told.

    Source: torch.nn.Module.state_dict.

    Example:
        >>> import jaxnn
        >>> net = jaxnn.Sequential(jaxnn.BatchNorm2d(3, affine=False))
        >>> list(jaxnn.state_dict(net))
        ['0.running_mean', '0.running_var', '0.num_batches_tracked']
    """
    if abstract := abstract_variables(module)[0]:
        raise TypeError(
            f"{title(module)} is abstract: {len(abstract)} of its entries "
            f"({shortened(abstract)}) have shapes in place of values; jaxnn.load_state_dict fills "
            "them from a checkpoint; jaxnn.sharding.plan(module, [], mesh) tells names and shapes"
        )
    arrays = {
        key: np.array(array, order="C")
        for entry in named_entries(module)
        for key, array in entry.to_torch(
            [_export(name, variable) for name, variable in entry.variables.items()]
        ).items()
    }
    for key, node in _extra_state_keys(module).items():
        arrays[key] = node.get_extra_state()
    # Some models refuse, or translate, a state dict whose version they do not find.
    versions = {
        ".".join(map(str, path)): {"version": version}
        for path, node in nnx.iter_modules(module)
        if (version := getattr(node, "state_version", 1)) != 1
    }
    return VersionedDict(arrays, versions) if versions else arrays


def load_state_dict(
    module: nnx.Module,
    source: Mapping[str, Any] | str | PathLike[str],
    strict: bool = True,
    rename: Rename | None = None,
    *,
    entry: str | None = None,
    sharding: Shardings | None = None,
    progress: bool | None = None,
) -> LoadReport:
    """Load parameters and buffers into a module, all or nothing.

    Names, shapes, dtypes and the integrity of files are checked before the first write; on any
    error the module is as it was. Then the arrays are read from their files and replaced one after
    the other, so that memory never holds more than the model and one further array. If reading
    fails on the way, a note on the error says what had been replaced by then.

    The module keeps its dtypes, and the placement of its arrays unless `sharding` is given; values
    are cast as torch's `copy_` does. Flax's own layers (nnx.Linear, nnx.Conv,
    nnx.MultiHeadAttention ...) are filled under torch's names and from torch's layout. A layer
    that contains others is also filled under theirs ("query.weight"), if the source has no more of
    it than that.

    Args:
        module: any nnx.Module; it may be abstract (nnx.eval_shape).
        source: a mapping from names to arrays (NumPy, JAX, torch); or the path of a .safetensors
            file, of the index of a sharded one, of a directory with either, or of a .pt, .pth or
            .bin file, which torch reads with weights_only=True. Where the weights are an entry of
            a larger checkpoint, such as "state_dict" or "model", they are found there.
        strict: whether all names must match.
        rename: how the source's names become the model's: a mapping from names, or from prefixes
            that end at a dot, to their replacements; a function, which may return None to leave a
            name out, as may the mapping's replacements; or a list of pairs (pattern, replacement)
            for re.sub.
        entry: the entry of a larger checkpoint that holds the weights, by its path ("params_ema",
            "ema.model"), where it is not the usual one.
        sharding: where the arrays go: a jax.sharding.Sharding, or a function to one from the name
            of a variable in the tree ("0.kernel"), such as a `jaxnn.sharding.Plan`; where it
            returns None, the array stays where it is.
        progress: whether a bar on stderr shows how much is loaded; by default, where stderr is a
            terminal and the weights are large.

    Returns:
        What was found, as a LoadReport.

    Raises:
        ValueError: if a shape differs; if names are missing or unexpected and `strict` is set; if
            two names become one; if a value or a layer cannot hold what is given; if a sharding
            does not divide a shape; if a file is damaged.
        TypeError: if the source is neither a mapping nor a path, or `sharding` gives no Sharding.
        FileNotFoundError: if there is no such file.
        OSError: if a file cannot be read, or has been cut short since it was opened.

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
    found, renamed = rename_keys(read_weights(source, entry), rename)
    versions = getattr(source, "_metadata", None)
    weights, built = _without_lazy_state(module, dict(found))
    entries = list(named_entries(module, given=weights.keys()))
    for prefix, (_, becoming) in built.items():
        entries += named_entries(becoming, prefix)
    weights, again = from_old_forms(module, weights, _keys(entries), versions)
    renamed = followed(renamed, again)
    extra = _extra_state_keys(module)

    missing = _missing(entries, weights, versions) + [key for key in extra if key not in weights]
    known = {*_keys(entries), *extra}
    unexpected = [key for key in weights if key not in known]
    names = weights if rename is None else ()
    problems = _name_problems(missing, unexpected, names) if strict else []
    given = [item for item in entries if all(key in weights for key in item.keys)]
    shardings = {}
    for item in given:
        try:
            weights.update({key: settled(weights[key]) for key in item.keys})
            weights.update(_held_counts(item, weights))
            _check_entry(item, weights)
            for name, variable in item.variables.items():
                shardings[name] = sharding_of(name, variable, sharding)
        except ValueError as error:
            problems.append(f"{', '.join(item.keys)}: {error}")
    if problems:
        raise ValueError(
            f"cannot load the weights into {type(module).__name__}, which is unchanged:\n  "
            + "\n  ".join(problems)
        )

    for lazy, becoming in built.values():
        lazy.become(becoming)
    non_finite = _fill(given, weights, shardings, progress)
    for key, node in extra.items():
        if key in weights:
            node.set_extra_state(weights[key])
    filled = [item for item in given if item.variables]
    transposed = [item for item in filled if not item.is_plain]
    abstract = [name for names in abstract_variables(module) for name in names]
    return LoadReport(
        missing, unexpected, renamed, _keys(transposed), non_finite, _keys(filled), abstract
    )


def _keys(entries: Sequence[Entry]) -> list[str]:
    return [key for entry in entries for key in entry.keys]


def _check_entry(entry: Entry, weights: Mapping[str, Any]) -> None:
    for name, variable in entry.variables.items():
        _array_of(name, variable)
    if not entry.variables:
        return
    # The narrowest of the dtypes; they differ only where a user has changed one.
    dtype = next(iter(entry.variables.values())).get_value().dtype
    for key, shape in zip(entry.keys, entry.shapes(), strict=True):
        check_value(weights[key], shape, dtype)
    if len(entry.keys) > 1:
        # Arrays that are joined are biases, which are small.
        entry.join.join([as_numpy(weights[key]) for key in entry.keys])


def _fill(
    entries: Sequence[Entry],
    weights: Mapping[str, Any],
    shardings: Mapping[str, jax.sharding.Sharding | None],
    progress: bool | None,
) -> list[str]:
    """Replace the arrays one after the other, and return the keys that are not finite."""
    non_finite: list[str] = []
    replaced: list[str] = []
    total = sum(size_of(weights[key]) for key in _keys(entries))
    try:
        with progress_bar(total, progress) as advance:
            for entry in entries:
                given = [weights[key] for key in entry.keys]
                if not _fill_entry(entry, given, shardings, replaced):
                    non_finite += entry.keys
                advance(sum(size_of(value) for value in given))
    except BaseException as error:
        names = ", ".join(replaced)
        error.add_note(
            f"loading stopped after these arrays had been replaced: {names}; the others are as "
            "they were"
            if replaced
            else "loading stopped before any array was replaced: the model is unchanged"
        )
        raise
    return non_finite


def _fill_entry(
    entry: Entry,
    given: Sequence[Any],
    shardings: Mapping[str, jax.sharding.Sharding | None],
    replaced: list[str],
) -> bool:
    """Replace an entry's arrays, noting the names in `replaced`; return whether all are finite."""
    arrays = [
        as_numpy(value).reshape(shape) for value, shape in zip(given, entry.shapes(), strict=True)
    ]
    all_finite = True
    for name, array in entry.from_torch(arrays):
        variable = entry.variables[name]
        value, is_finite = place(array, variable.get_value().dtype, shardings[name])
        variable.set_value(value)
        replaced.append(name)
        all_finite = all_finite and is_finite
    return all_finite


def named_entries(
    module: nnx.Module, prefix: str = "", given: Collection[str] = ()
) -> Iterator[Entry]:
    """Yield the entries of a state dict, in its order.

    Args:
        module: any nnx.Module.
        prefix: what stands before all names, with its dot.
        given: the names of a source, which may have the layers inside one of Flax's layers
            ("attention.query.weight") instead of torch's whole ("attention.in_proj_weight").
    """
    check_module(module)
    if getattr(module, "_tied", ()):
        for name, variable in named_variables(module):
            if in_state_dict(variable):
                yield Entry((name,), {name: variable})
        return
    claimed: set[str] = set()
    for above, node in nodes_of(module, prefix, ()):
        entries = list(entries_of(node, above))
        # A layer inside another, as a gate's, may be spoken for by the outer one's rule.
        for entry in () if _is_in_parts(entries, given) else entries:
            if not entry.variables or not claimed.issuperset(entry.variables):
                claimed.update(entry.variables)
                yield entry
        for name, variable in own_variables(node):
            path = above + name
            if path not in claimed and in_state_dict(variable):
                yield Entry((path,), {path: variable})


def _is_in_parts(entries: Sequence[Entry], given: Collection[str]) -> bool:
    """Whether a source names the layers inside a layer, and nothing of the whole."""
    inner = {f"{name.rpartition('.')[0]}.weight" for entry in entries for name in entry.variables}
    return not any(key in given for key in _keys(entries)) and any(key in given for key in inner)


def _without_lazy_state(
    module: nnx.Module, weights: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, tuple[LazyModule, Module]]]:
    """Return the weights without those that both sides lack, and the lazy modules that get theirs.

    The latter by prefix, with what they will become.
    """
    built = {}
    for path, node in nnx.iter_modules(module):
        if isinstance(node, LazyModule):
            prefix = "".join(f"{name}." for name in path)
            weights = {
                key: value
                for key, value in weights.items()
                if key.rpartition(".")[0] != prefix[:-1] or not is_uninitialized(value)
            }
            shapes = {
                key.removeprefix(prefix): tuple(value.shape)
                for key, value in weights.items()
                if key.startswith(prefix) and is_array(value)
            }
            channels = node.channels_of_state(shapes)
            if channels is not None:
                built[prefix] = (node, node.build(channels))
    return weights, built


def _extra_state_keys(module: nnx.Module) -> dict[str, Any]:
    """Return the modules that keep a state beside their arrays, by its name, as torch's do."""
    return {
        ".".join([*map(str, path), EXTRA_STATE]): node
        for path, node in nnx.iter_modules(module)
        if hasattr(node, "get_extra_state") and hasattr(node, "set_extra_state")
    }


def _held_counts(entry: Entry, weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return those counts of batches that are too large for the model, cut to what it can hold."""
    if not entry.keys[0].endswith("num_batches_tracked") or not entry.variables:
        return {}
    (key,), (variable,) = entry.keys, entry.variables.values()
    largest = np.iinfo(variable.get_value().dtype).max
    shape, dtype = shape_and_dtype(weights[key])
    if dtype.kind not in "iu" or not (as_numpy(weights[key]) > largest).any():
        return {}
    warnings.warn(
        f"{key} is {as_numpy(weights[key])}, of which the model can hold {largest}; it is read "
        "only where `momentum` is None. jax.config.update('jax_enable_x64', True) holds it all",
        stacklevel=3,
    )
    return {key: np.full(shape, largest)}


def _export(key: str, variable: nnx.Variable[Any]) -> np.ndarray:
    array = np.asarray(_array_of(key, variable))
    is_default_int = array.dtype == np.int32 and not jax.config.read("jax_enable_x64")
    if isinstance(variable, nnx.BatchStat) and is_default_int:
        return array.astype(np.int64)
    return array


def _array_of(key: str, variable: nnx.Variable[Any]) -> Any:
    value = variable.get_value()
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(f"the variable {key} must hold an array, got {type(value).__name__}")
    return value


def _missing(
    entries: Sequence[Entry], weights: Mapping[str, Any], versions: Mapping[str, Any] | None
) -> list[str]:
    # A file of safetensors holds a shared array under one of its names only.
    loaded = {
        id(variable)
        for entry in entries
        if all(key in weights for key in entry.keys)
        for variable in entry.variables.values()
    }
    return [
        key
        for entry in entries
        if not all(id(variable) in loaded for variable in entry.variables.values())
        for key in entry.keys
        if key not in weights and not _is_optional(key, versions)
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


def _name_problems(missing: list[str], unexpected: list[str], names: Collection[str]) -> list[str]:
    problems = []
    if missing:
        problems.append(f"missing in the source: {', '.join(missing)}")
    if unexpected:
        problems.append(f"unexpected in the source: {', '.join(unexpected)}")
    if problems:
        evident = evident_rename(names, missing) if missing else None
        problems.append(
            "(rename= changes the source's names; strict=False loads what matches)"
            if evident is None
            else f"(the names fit with rename={evident})"
        )
    if any(key.rpartition(".")[2] == EXTRA_STATE for key in unexpected):
        problems.append(
            f"({EXTRA_STATE} is what a module of the source keeps beside its arrays; a module with "
            "get_extra_state and set_extra_state takes it, strict=False leaves it out)"
        )
    return problems
