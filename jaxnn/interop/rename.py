"""From the names of a source to those of the model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Rename = Mapping[str, str] | Callable[[str], str | None] | Sequence[tuple[str, str]]


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
