"""Reading and validating layer files.

A layer file is strict YAML: no duplicate keys, no number that YAML reads as a string. It is
validated against ``spec/schema.json`` and then against itself (ids, coverage, names, shapes).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from . import checks, expression
from .expression import Function
from .templates import pattern, substitute

SCHEMA_VERSION = "nnspec/1"
MODES = ("train", "eval")


class SpecError(ValueError):
    """A layer file is malformed; the message names the file and the place in it."""


class _StrictLoader(yaml.SafeLoader):
    """YAML without its traps: duplicate keys, ``1e-5`` as a string, ``no`` as false."""


_STRICT_FLOAT = re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$")
_STRICT_INT = re.compile(r"^[-+]?(0|[1-9]\d{0,18})$")
_STRICT_BOOL = re.compile(r"^(yes|no|on|off)$", re.IGNORECASE)


def _construct_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        mark = key_node.start_mark
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise SpecError(f"line {mark.line + 1}: key {key_node.value!r} is not a string")
        if str(key) in mapping:
            raise SpecError(f"line {mark.line + 1}: duplicate key {key!r}")
        mapping[str(key)] = loader.construct_object(value_node, deep=True)
    return mapping


def _construct_scalar(loader: _StrictLoader, node: yaml.ScalarNode) -> Any:
    value = loader.construct_scalar(node)
    if node.style is None:
        line = node.start_mark.line + 1
        if _STRICT_FLOAT.match(value):
            raise SpecError(
                f"line {line}: YAML reads {value} as a string; write a point and a sign: 1.0e-5"
            )
        if _STRICT_BOOL.match(value):
            raise SpecError(f"line {line}: {value!r} is ambiguous; write true, false or quote it")
    return value


def _construct_boolean(loader: _StrictLoader, node: yaml.ScalarNode) -> bool:
    if node.value not in ("true", "false"):
        line = node.start_mark.line + 1
        raise SpecError(f"line {line}: {node.value!r} is ambiguous; write true, false or quote it")
    return bool(node.value == "true")


def _construct_integer(loader: _StrictLoader, node: yaml.ScalarNode) -> int:
    if not _STRICT_INT.match(node.value):
        line = node.start_mark.line + 1
        raise SpecError(f"line {line}: {node.value[:40]!r} is no plain decimal integer")
    return int(node.value)


def _construct_float(loader: _StrictLoader, node: yaml.ScalarNode) -> float:
    value = float(loader.construct_yaml_float(node))
    if not math.isfinite(value):
        line = node.start_mark.line + 1
        raise SpecError(f"line {line}: {node.value} is not JSON; write inf, -inf or nan")
    return value


def _refuse_tag(loader: _StrictLoader, node: yaml.Node) -> Any:
    line, kind = node.start_mark.line + 1, str(node.tag).rpartition(":")[2]
    raise SpecError(
        f"line {line}: {node.value!r} is a {kind} to YAML, which JSON has not; quote it"
    )


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
_StrictLoader.add_constructor("tag:yaml.org,2002:str", _construct_scalar)
_StrictLoader.add_constructor("tag:yaml.org,2002:bool", _construct_boolean)
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _construct_integer)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)
for _kind in ("binary", "merge", "omap", "pairs", "set", "timestamp"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _refuse_tag)


def read_yaml(text: str, where: str = "<text>") -> Any:
    """Strict YAML as JSON-compatible data.

    Raises:
      SpecError: a syntax error, a duplicate key, ``1e-5`` or ``no``; with ``where`` and the line.
    """
    try:
        return yaml.load(text, _StrictLoader)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise SpecError(f"{where}: nested too deeply") from None


def specification_folder() -> Path:
    """``$NNSPEC_SPEC``, else ``./spec``, else the specification of this installation."""
    here = Path(__file__).resolve().parent
    named = os.environ.get("NNSPEC_SPEC")
    candidates = [Path(named)] if named else [Path("spec"), here.parent / "spec", here / "_spec"]
    for folder in candidates:
        if (folder / "schema.json").is_file():
            return folder.resolve()
    raise SpecError(f"no specification found in {', '.join(map(str, candidates))}")


@lru_cache(maxsize=4)
def _validator(folder: Path) -> jsonschema.Draft202012Validator:
    schema = json.loads((folder / "schema.json").read_text())
    return jsonschema.Draft202012Validator(schema)


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
        return {**defaults, **{name: _unspell(value) for name, value in given.items()}}

    def full_arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given options of a call over the declared defaults."""
        defaults = {a["name"]: a.get("default") for a in self.data.get("arguments", ())}
        return {**defaults, **{name: _unspell(value) for name, value in given.items()}}

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


def _unspell(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf", "nan") else value


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


def load_layer(path: Path | str) -> LayerSpec:
    """Read and validate one layer file.

    Raises:
      SpecError: the file is not strict YAML, does not fit the schema, or contradicts itself.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: {error}") from None
    data = read_yaml(text, str(path))
    if not isinstance(data, dict):
        raise SpecError(f"{path}: a layer file is a mapping, not {type(data).__name__}")
    if data.get("schema") != SCHEMA_VERSION:
        raise SpecError(
            f"{path}: schema is {data.get('schema')!r}; this nnspec reads {SCHEMA_VERSION!r}"
        )
    folder = next((p for p in path.resolve().parents if (p / "schema.json").is_file()), None)
    errors = sorted(
        _validator(folder or specification_folder()).iter_errors(data), key=lambda e: str(e.path)
    )
    if errors:
        best = jsonschema.exceptions.best_match(errors) or errors[0]
        place = "/".join(map(str, best.absolute_path)) or "top level"
        raise SpecError(f"{path}: at {place}: {best.message[:300]}")
    spec = LayerSpec(path, data, text)
    problems = list(checks.check(spec))
    if problems:
        raise SpecError("\n".join(f"{path}: {problem}" for problem in problems))
    return spec


WITHOUT_FILE = "without_file.yaml"


def names_without_file(folder: Path) -> dict[str, dict[str, str]]:
    """What the reference has and this specification leaves out: the reasons, by kind and name.

    Raises:
      SpecError: ``without_file.yaml`` is no mapping of kinds to names with reasons.
    """
    path = folder / WITHOUT_FILE
    data = read_yaml(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else {}
    kinds = {"layer", "function"}
    sound = isinstance(data, dict) and data.keys() <= kinds
    if not sound or not all(
        isinstance(names, dict) and all(isinstance(r, str) for r in names.values())
        for names in data.values()
    ):
        raise SpecError(f"{path}: must map layer and function to names, and these to reasons")
    return {kind: data.get(kind, {}) for kind in kinds}


def load_specification(folder: Path | str | None = None) -> dict[str, LayerSpec]:
    """Every layer and function file, by name, sorted by family and name."""
    root = Path(folder) if folder else specification_folder()
    if root.is_file():
        spec = load_layer(root)
        return {spec.name: spec}
    paths = sorted([*root.glob("layers/*/*.yaml"), *root.glob("functions/*/*.yaml")])
    if not paths:
        raise SpecError(f"{root}: no layer files (layers/<family>/<Layer>.yaml)")
    specs: dict[str, LayerSpec] = {}
    for path in paths:
        spec = load_layer(path)
        if spec.name in specs:
            raise SpecError(f"{path}: {spec.name} is already at {specs[spec.name].path}")
        specs[spec.name] = spec
    return specs
