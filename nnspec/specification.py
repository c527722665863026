"""Finding, reading and validating the files of the specification.

A layer file is strict YAML. It is validated against ``spec/schema.json`` and then against itself
(ids, coverage, names, shapes).
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path

import jsonschema

from . import checks
from .document import LayerSpec
from .strict_yaml import SpecError, read_yaml

SCHEMA_VERSION = "nnspec/1"
WITHOUT_FILE = "without_file.yaml"


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
