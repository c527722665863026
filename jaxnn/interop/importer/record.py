"""What a call returns, put together: dicts, named tuples and records."""

from __future__ import annotations

from collections import namedtuple
from functools import cache
from typing import Any

import jax

from .program import Structure


class Record(dict[str, Any]):
    """A dict whose entries are attributes too, and which counts as a sequence of its values.

    It stands for the dataclass-like results of torch models, whose entries are read in all three
    ways.

    Example:
        >>> from jaxnn.interop import Record
        >>> result = Record(logits=1, loss=2)
        >>> result.logits, result["loss"], result[0]
        (1, 2, 1)
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the result has {list(self)}, and no {name!r}") from None

    def __getitem__(self, key: Any) -> Any:
        return (
            list(self.values())[key] if isinstance(key, (int, slice)) else super().__getitem__(key)
        )

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the values that are not None."""
        return tuple(value for value in self.values() if value is not None)


def _flatten_record(record: Record) -> tuple[Any, Any]:
    return [(jax.tree_util.DictKey(name), value) for name, value in record.items()], tuple(record)


jax.tree_util.register_pytree_with_keys(
    Record, _flatten_record, lambda names, values: Record(zip(names, values, strict=True))
)


def realise(structure: Any) -> Any:
    """Return the structure with dicts, named tuples and records in place of their descriptions."""
    if isinstance(structure, Structure):
        fields = {name: realise(item) for name, item in structure.fields}
        if structure.kind == "dict":
            return fields
        if structure.kind == "record":
            return Record(fields)
        return _named_tuple(structure.name, tuple(fields))(**fields)
    if type(structure) is tuple:
        return tuple(realise(item) for item in structure)
    if isinstance(structure, list):
        return [realise(item) for item in structure]
    return structure


@cache
def _named_tuple(name: str, fields: tuple[str, ...]) -> Any:
    return namedtuple(name, fields)
