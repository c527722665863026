"""From the names of a source to those of the model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

Rename = Mapping[str, str | None] | Callable[[str], str | None] | Sequence[tuple[str, str]]


def rename_keys(
    weights: Mapping[str, Any], rename: Rename | None
) -> tuple[Mapping[str, Any], dict[str, str]]:
    """Return the weights under their new names, and which names changed.

    Raises:
        ValueError: if two names become one.
    """
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


def followed(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    """Return one renaming after another, as one.

    >>> followed({"a": "b"}, {"b": "c", "d": "e"})
    {'a': 'c', 'd': 'e'}
    """
    done = {old: second.get(new, new) for old, new in first.items()}
    rest = {old: new for old, new in second.items() if old not in first.values()}
    return done | rest


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


def _replace_prefix(key: str, replacements: Mapping[str, str | None]) -> str | None:
    if key in replacements:
        return replacements[key]
    # The longest prefix wins, so that an exception to a rule can be told.
    for prefix in sorted(replacements, key=len, reverse=True):
        dotted = prefix if prefix.endswith(".") or not prefix else f"{prefix}."
        if key.startswith(dotted):
            new = replacements[prefix]
            if new is None:
                return None
            return (new if not new or new.endswith(".") else f"{new}.") + key[len(dotted) :]
    return key


# What wrappers of torch put before the names of what they wrap.
_WRAPPERS = r"(^|(?<=\.))(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."


def evident_rename(names: Collection[str], wanted: Collection[str]) -> Rename | None:
    """Return a renaming that gives the model all that it wants; None where none is evident.

    A prefix that all names have too much, or too little, or what torch's wrappers (DataParallel,
    torch.compile, an averaged model) add.

    Args:
        names: the source's names.
        wanted: the model's names that the source lacks.

    Example:
        >>> evident_rename(["module.weight", "module.bias", "n_averaged"], ["weight", "bias"])
        {'module.': '', 'n_averaged': None}
    """
    first = min(wanted, default="")
    prefixes = [name.removesuffix(first) for name in names if name.endswith(f".{first}")]
    candidates: list[Rename] = [{prefix: ""} for prefix in sorted(prefixes, key=len)]
    candidates += [{"": first.removesuffix(name)} for name in names if first.endswith(f".{name}")]
    candidates.append([(_WRAPPERS, "")])
    for candidate in candidates:
        function = _rename_function(candidate)
        if not {function(name) for name in names}.issuperset(wanted):
            continue
        if isinstance(candidate, dict) and "n_averaged" in names:
            return {**candidate, "n_averaged": None}
        return candidate
    return None
