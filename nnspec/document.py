"""One layer file: what it says, and what follows from it for given parameters and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from . import expression
from .expression import Function
from .parameters import unspelled
from .templates import pattern, substitute


@dataclass(frozen=True)
class LayerSpec:
    """One layer file: ``data`` as written, and what follows from it."""

    path: Path
    data: Mapping[str, Any]
    text: str = field(repr=False)

    @property
    def name(self) -> str:
        """The layer's (or function's) name, which is torch's."""
        return self.data["name"]

    @property
    def kind(self) -> str:
        """``layer`` or ``function``."""
        return self.data["kind"]

    @property
    def family(self) -> str:
        """The family, which is the name of the folder and of the code's file."""
        return self.data["family"]

    @cached_property
    def cases(self) -> dict[str, Mapping[str, Any]]:
        """The cases by id, in file order."""
        return {case["id"]: case for case in self.data["cases"]}

    @cached_property
    def claims(self) -> dict[str, Mapping[str, Any]]:
        """Behaviours and errors by id."""
        return {c["id"]: c for c in (*self.data["behaviours"], *self.data.get("errors", ()))}

    @cached_property
    def functions(self) -> dict[str, Function]:
        """The functions that shapes and conditions of this file may call."""
        return {
            f["name"]: Function(f["name"], tuple(f["args"]), f["is"])
            for f in self.data.get("functions", ())
        }

    def level(self, case: Mapping[str, Any]) -> str:
        """``quirk`` for a case that covers any quirk, else ``must``."""
        levels = {self.claims[claim].get("level", "must") for claim in case["covers"]}
        return "quirk" if "quirk" in levels else "must"

    def dtypes(self, case: Mapping[str, Any] | None = None) -> list[str]:
        """The dtypes that the layer (or one case of it) is judged in."""
        declared = [*self.data["dtypes"]["must"], *self.data["dtypes"].get("may", ())]
        chosen = (case or {}).get("dtypes", declared)
        return [dtype for dtype in declared if dtype in chosen]

    def full_params(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given parameters over the declared defaults."""
        defaults = {p["name"]: p.get("default") for p in self.data["params"]}
        return {**defaults, **{name: unspelled(value) for name, value in given.items()}}

    def full_arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given options of a call over the declared defaults."""
        defaults = {a["name"]: a.get("default") for a in self.data.get("arguments", ())}
        return {**defaults, **{name: unspelled(value) for name, value in given.items()}}

    @property
    def lazy(self) -> bool:
        """Whether some state takes its shape from the first call."""
        return any("lazy" in item for item in self.state_entries)

    @cached_property
    def state_entries(self) -> list[Mapping[str, Any]]:
        """The state as written; in the entries of an ``each`` group, ``{name}`` still stands."""
        items = self.data.get("state", ())
        return [entry for item in items for entry in item.get("state", [item])]

    def state(self, names: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The state that exists under these parameters, ``each`` groups written out."""
        written: list[Mapping[str, Any]] = []
        for item in self.active(self.data.get("state", ()), names):
            written += self._repeated(item, names) if "each" in item else [item]
        return list(self.active(written, names))

    def _repeated(self, group: Mapping[str, Any], names: Mapping[str, Any]) -> Iterator[Any]:
        values = [expression.evaluate(e, names, self.functions) for e in group["each"].values()]
        for combination in product(*values):
            chosen = dict(zip(group["each"], combination, strict=True))
            yield from (substitute(entry, chosen) for entry in group["state"])

    def state_entry(self, name: str) -> Mapping[str, Any] | None:
        """The entry of ``state_entries`` that describes ``name``."""
        return next((e for e in self.state_entries if pattern(e["name"]).fullmatch(name)), None)

    def scope(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The names that expressions see: parameters with defaults, then the ``let`` values."""
        names = self.full_params(given)
        for item in self.data.get("let", ()):
            names[item["name"]] = expression.evaluate(item["is"], names, self.functions)
        return names

    def active(self, items: Iterable[Mapping[str, Any]], names: Mapping[str, Any]) -> Iterator[Any]:
        """Those of ``items`` (outputs, state) whose ``when`` holds."""
        for item in items:
            if "when" not in item or expression.evaluate(item["when"], names, self.functions):
                yield item

    def steps(self, case: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The steps of a case, ``repeat`` written out; a case without steps is one step."""
        if case.get("initial"):
            return []
        keys = ("mode", "inputs", "arguments", "cotangents", "gradients", "expect")
        steps = case.get("steps") or [{key: case[key] for key in keys if key in case}]
        return [step for step in steps for _ in range(step.get("repeat", 1))]


def match_dims(
    pattern: list[Any], shape: tuple[int, ...], names: Mapping[str, Any]
) -> dict[str, Any]:
    """The dimensions that ``shape`` gives to the names of ``pattern``; null where it does not fit.

    ``N?`` may be absent, ``*`` takes any number of dimensions; names of parameters are not bound.

    >>> match_dims(["N?", "C", "L"], (3, 5), {})
    {'N': None, 'C': 3, 'L': 5}
    >>> match_dims(["*", "features"], (2, 3, 4), {"features": 4})
    {'*': [2, 3]}
    """
    items = list(map(str, pattern))
    dims: dict[str, Any] = {i.rstrip("?"): None for i in items if i.rstrip("?") not in names}
    if "*" in items:
        count = len(shape) - (len(items) - 1)
        star = items.index("*")
        if count < 0:
            return {name: None for name in dims if name == "*" or name.isidentifier()}
        dims["*"] = list(shape[star : star + count])
        items[star : star + 1] = [""] * count
    spare = len(shape) - sum(not item.endswith("?") for item in items)
    used = []
    for item in items:
        if not item.endswith("?"):
            used.append(item)
        elif spare > 0:
            used.append(item[:-1])
            spare -= 1
    if len(used) == len(shape):
        dims |= {item: size for item, size in zip(used, shape, strict=True) if item in dims}
    return {name: size for name, size in dims.items() if name == "*" or name.isidentifier()}
