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
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from . import expression
from .expression import Function

SCHEMA_VERSION = "nnspec/1"
MODES = ("train", "eval")


class SpecError(ValueError):
    """A layer file is malformed; the message names the file and the place in it."""


class _StrictLoader(yaml.SafeLoader):
    """YAML without its traps: duplicate keys, ``1e-5`` as a string, ``no`` as false."""


_STRICT_FLOAT = re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$")
_STRICT_BOOL = re.compile(r"^(yes|no|on|off)$", re.IGNORECASE)


def _construct_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        mark = key_node.start_mark
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise SpecError(f"line {mark.line + 1}: key {key_node.value!r} is not a string")
        if key in mapping:
            raise SpecError(f"line {mark.line + 1}: duplicate key {key!r}")
        mapping[str(key)] = loader.construct_object(value_node, deep=True)
    return mapping


def _construct_scalar(loader: _StrictLoader, node: yaml.ScalarNode) -> Any:
    value = loader.construct_scalar(node)
    if node.style is None:
        line = node.start_mark.line + 1
        if _STRICT_FLOAT.match(value):
            raise SpecError(f"line {line}: YAML reads {value} as a string; write 1.0e-5 for 1e-5")
        if _STRICT_BOOL.match(value):
            raise SpecError(f"line {line}: {value!r} is ambiguous; write true, false or quote it")
    return value


def _construct_boolean(loader: _StrictLoader, node: yaml.ScalarNode) -> bool:
    if node.value not in ("true", "false"):
        line = node.start_mark.line + 1
        raise SpecError(f"line {line}: {node.value!r} is ambiguous; write true, false or quote it")
    return bool(node.value == "true")


def _construct_float(loader: _StrictLoader, node: yaml.ScalarNode) -> float:
    value = float(loader.construct_yaml_float(node))
    if not math.isfinite(value):
        line = node.start_mark.line + 1
        raise SpecError(f"line {line}: {node.value} is not JSON; write inf, -inf or nan")
    return value


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
_StrictLoader.add_constructor("tag:yaml.org,2002:str", _construct_scalar)
_StrictLoader.add_constructor("tag:yaml.org,2002:bool", _construct_boolean)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def read_yaml(text: str, where: str = "<text>") -> Any:
    """Strict YAML as JSON-compatible data.

    Raises:
      SpecError: with ``where`` and the line, for a syntax error, a duplicate key, ``1e-5`` or ``no``.
    """
    try:
        return yaml.load(text, _StrictLoader)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{where}: not YAML: {' '.join(str(error).split())}") from None


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
    problems = list(check(spec))
    if problems:
        raise SpecError("\n".join(f"{path}: {problem}" for problem in problems))
    return spec


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


def check(spec: LayerSpec) -> Iterator[str]:
    """What the schema cannot say: one line for each contradiction in the file."""
    yield from _check_place(spec)
    yield from _check_ids(spec)
    yield from _check_expressions(spec)
    if not list(_check_ids(spec)):
        yield from _check_cases(spec)
        yield from _check_coverage(spec)


def _check_place(spec: LayerSpec) -> Iterator[str]:
    if spec.path.stem != spec.name:
        yield f"the file of {spec.name} is named {spec.path.name}"
    if spec.path.parent.parent.name in ("layers", "functions"):
        if spec.path.parent.name != spec.family:
            yield f"family {spec.family} in folder {spec.path.parent.name}"
        if spec.path.parent.parent.name != f"{spec.kind}s":
            yield f"kind {spec.kind} in folder {spec.path.parent.parent.name}"


def _check_ids(spec: LayerSpec) -> Iterator[str]:
    mutants = [m["id"] for m in spec.data.get("mutants", ())]
    claims = [c["id"] for c in (*spec.data["behaviours"], *spec.data.get("errors", ()))]
    cases = [case["id"] for case in spec.data["cases"]]
    for ids, letter in ((mutants, "M"), ([b["id"] for b in spec.data["behaviours"]], "B")):
        yield from (f"id {i} should be {spec.name}.{letter}NN" for i in ids
                    if not i.startswith(f"{spec.name}.{letter}"))
    for ids in (mutants, claims, cases):
        yield from (f"id {i} is used twice" for i in sorted({i for i in ids if ids.count(i) > 1}))
    for case in spec.data["cases"]:
        if not case["id"].startswith(f"{spec.name}/"):
            yield f"case {case['id']} should be {spec.name}/..."
        yield from (f"case {case['id']} covers unknown claim {c}" for c in case["covers"]
                    if c not in claims)
        yield from (f"case {case['id']} catches unknown mutant {m}" for m in case.get("catches", ())
                    if m not in mutants)
        for step in (case, *case.get("steps", ())):
            error = step.get("expect", {}).get("error")
            if error and error not in claims:
                yield f"case {case['id']} expects unknown error {error}"
            if error and error not in case["covers"]:
                yield f"case {case['id']} expects {error} but does not cover it"


def _check_expressions(spec: LayerSpec) -> Iterator[str]:
    tensors = {i["name"] for i in spec.data["inputs"]}
    known = {p["name"] for p in spec.data["params"]} | set(spec.functions)
    known |= {item["name"] for item in spec.data.get("let", ())}
    for item in spec.data["inputs"]:
        known |= {p.rstrip("?") for p in map(str, item["shape"]) if p.rstrip("?").isidentifier()}
    places = [(f"let {i['name']}", i["is"], set()) for i in spec.data.get("let", ())]
    places += [(f"function {f['name']}", f["is"], set(f["args"])) for f in spec.data.get("functions", ())]
    places += [(p["name"], p["domain"], {"v"}) for p in spec.data["params"] if "domain" in p]
    places += [(p["name"], p["active_when"], set()) for p in spec.data["params"] if "active_when" in p]
    about_inputs = {*tensors, "rank", "shape", "dtype", "largest", "smallest", "train", "T"}
    places += [(e["id"], e["when"], about_inputs) for e in spec.data.get("errors", ())]
    for item in (*spec.data["outputs"], *spec.data.get("state", ())):
        shape = item["shape"] if isinstance(item["shape"], list) else []
        places += [(item["name"], str(s), about_inputs) for s in shape if s != "*"]
        places += [(item["name"], item["when"], about_inputs)] if "when" in item else []
    for place, text, extra in places:
        try:
            unknown = expression.names_in(text.rstrip("?")) - known - extra
        except expression.ExpressionError as error:
            yield f"{place}: {error}"
            continue
        if unknown:
            yield f"{place}: unknown name {sorted(unknown)[0]!r} in {text!r}"


def _check_cases(spec: LayerSpec) -> Iterator[str]:
    params = {p["name"]: p for p in spec.data["params"]}
    inputs = {i["name"]: i for i in spec.data["inputs"]}
    required = {name for name, p in params.items() if p.get("required")}
    for case in spec.data["cases"]:
        where = f"case {case['id']}"
        yield from (f"{where}: unknown parameter {n!r}" for n in case["params"] if n not in params)
        missing = required - set(case["params"])
        refusal = any(c.split(".")[1].startswith("E") for c in case["covers"])
        if missing and not refusal:
            yield f"{where}: parameter {sorted(missing)[0]!r} is required"
        if "steps" in case and "inputs" in case:
            yield f"{where}: has both steps and inputs"
        for step in spec.steps(case):
            given = step.get("inputs", {})
            yield from (f"{where}: unknown input {n!r}" for n in given if n not in inputs)
            absent = [n for n, i in inputs.items() if n not in given and not i.get("optional")]
            if absent:
                yield f"{where}: input {absent[0]!r} is missing"
        unknown = set(case.get("state", ())) - {s["name"] for s in spec.data.get("state", ())}
        if unknown:
            yield f"{where}: unknown state {sorted(unknown)[0]!r}"
        if not spec.dtypes(case):
            yield f"{where}: none of its dtypes {case['dtypes']} is declared by the layer"


def _check_coverage(spec: LayerSpec) -> Iterator[str]:
    covered: dict[str, list[Mapping[str, Any]]] = {claim: [] for claim in spec.claims}
    caught = {m["id"]: False for m in spec.data.get("mutants", ())}
    for case in spec.data["cases"]:
        for claim in case["covers"]:
            covered[claim].append(case)
        caught.update(dict.fromkeys(case.get("catches", ()), True))
    for claim, cases in covered.items():
        level = spec.claims[claim].get("level", "must")
        if level == "unspecified":
            if cases:
                yield f"{claim} is unspecified, so case {cases[0]['id']} must not cover it"
            continue
        if not cases:
            yield f"claim {claim} has no case"
        elif level == "must" and all(spec.level(case) == "quirk" for case in cases):
            yield f"claim {claim} is a must, but each of its cases covers a quirk too"
        elif not any(has_literal(spec, case) for case in cases):
            yield f"claim {claim} has no case whose values stand literally in the file"
    yield from (f"mutant {m} is caught by no case" for m, seen in caught.items() if not seen)


def has_literal(spec: LayerSpec, case: Mapping[str, Any]) -> bool:
    """Whether what a case expects stands in the file: values, shapes, a refusal, a property."""
    if case.get("initial"):
        return True
    keys = ("outputs", "gradients", "state", "shapes", "properties", "error", "unchanged")
    return any(key in step.get("expect", {}) for step in spec.steps(case) for key in keys)
