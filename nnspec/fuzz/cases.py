"""A drawn configuration as a case that the judge runs: values, state, and the expected refusal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import expression
from ..document import LayerSpec, match_dims
from ..resolve import resolve_tensor
from ..scopes import call_functions, call_scope, state_shape, with_first_dimensions
from .scope import evaluated, scope_of

DEFAULT_VALUES = ({"gen": "lattice"}, {"gen": "lattice", "bits": 2}, {"gen": "permutation"})


class Outside(Exception):
    """The configuration lies outside the declared domain without an error claim for it."""


def fill(spec: LayerSpec, configuration: Mapping[str, Any], example: int) -> dict[str, Any]:
    """A runnable case: the configuration with generator blocks for every tensor, seeded."""
    rules = spec.data.get("fuzz", {})
    values = rules.get("values", DEFAULT_VALUES)
    names = spec.full_params(configuration["params"])
    names |= scope_of(spec, configuration["params"]) or {}
    steps = []
    for index, step in enumerate(configuration["steps"]):
        filler = _Filler(spec, _dimensions(spec, step, names), values[example % len(values)])
        inputs = {
            name: filler.fill(name, block, 1000 * example + 10 * index + position, example % 2 == 1)
            for position, (name, block) in enumerate(step["inputs"].items())
        }
        steps.append({**step, "inputs": inputs})
        if "properties" in rules:
            steps[-1]["properties"] = rules["properties"]
    case: dict[str, Any] = {
        "id": f"{spec.name}/fuzz-{example}", "covers": [spec.data["behaviours"][0]["id"]],
        "params": dict(configuration["params"]), "dtypes": [configuration["dtype"]],
        "state": _state(spec, configuration, example), "steps": steps,
    }  # fmt: skip
    return _with_expected_error(spec, case, configuration["dtype"])


@dataclass(frozen=True)
class _Filler:
    """Gives the inputs of one call their values."""

    spec: LayerSpec
    sizes: Mapping[str, Any]
    values: Mapping[str, Any]

    def fill(
        self, name: str, block: Mapping[str, Any], seed: int, may_be_negative: bool
    ) -> dict[str, Any]:
        """The generator block of an input, or its values where they must rise."""
        where = {"shape": block["shape"], "seed": seed}
        if block["dtype"] == "T":
            return self._floats(where)
        item = next(item for item in self.spec.data["inputs"] if item["name"] == name)
        bound, low = 100, 0
        if "bound" in item:
            bound = max(evaluated(item["bound"], self.sizes, self.spec) or 1, 1)
            bound += 2 * block["bad_id"]
            low = -1 if block["bad_id"] and may_be_negative else 0
        integers = {
            "gen": "integers", "bound": bound, "low": low, "dtype": block["dtype"], **where
        }  # fmt: skip
        return _rising(integers, name) if item.get("rising") else integers

    def _floats(self, where: Mapping[str, Any]) -> dict[str, Any]:
        block = {**self.values, **where}
        count = math.prod(where["shape"])
        special = {k: v for k, v in self.values.get("special", {}).items() if int(k) < count}
        block.pop("special", None)
        return {**block, "special": special} if special else block


def _rising(integers: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values of a block in order, from 0 on."""
    drawn = np.sort(resolve_tensor({**integers, "low": 0}, name, integers["dtype"]), axis=None)
    drawn[:1] = 0
    values = drawn.reshape(integers["shape"]).tolist()
    return {"value": values, "shape": integers["shape"], "dtype": integers["dtype"]}


def _dimensions(
    spec: LayerSpec, step: Mapping[str, Any], names: Mapping[str, Any]
) -> dict[str, Any]:
    """The names with the call's dimensions and options, null where none is given."""
    defaults = {item["name"]: item.get("default") for item in spec.data.get("arguments", ())}
    names = {**names, **defaults, **step.get("arguments", {})}
    for item in spec.data["inputs"]:
        if item["name"] in step["inputs"]:
            shape = tuple(step["inputs"][item["name"]]["shape"])
            names |= match_dims(item["shape"], shape, names)
    return names


def _state(spec: LayerSpec, configuration: Mapping[str, Any], example: int) -> dict[str, Any]:
    names = scope_of(spec, configuration["params"])
    if names is None:
        return {}
    first = configuration["steps"][0]["inputs"]
    names = with_first_dimensions(spec, names, {n: block["shape"] for n, block in first.items()})
    blocks = {}
    for position, item in enumerate(spec.state(names)):
        if "lazy" in item and not isinstance(item["init"], Mapping):
            continue  # known once it appears; a load would take the first call's part
        if item["kind"] == "buffer" and isinstance(item["init"], str):
            continue  # the parameters say what it holds
        try:
            shape = list(state_shape(spec, item, names))
        except expression.ExpressionError:
            continue
        if item.get("dtype", "T") == "T" and all(isinstance(n, int) and n >= 0 for n in shape):
            chosen = spec.data.get("fuzz", {}).get("parameters", {"gen": "lattice"})
            if item["kind"] == "buffer":
                chosen = {"gen": "lattice_positive" if item["init"] == 1 else "lattice"}
            where = {"shape": shape, "seed": 7 + 1000 * example + position}
            blocks[item["name"]] = {**chosen, **where}
    return blocks


def _with_expected_error(spec: LayerSpec, case: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Say in the case which of the file's errors its parameters and inputs meet, if any."""
    params = case["params"]
    names = scope_of(spec, params) or spec.full_params(params)
    first = case["steps"][0]["inputs"]
    names = with_first_dimensions(spec, names, {n: block["shape"] for n, block in first.items()})
    seen = [_seen(spec, step, names, dtype) for step in case["steps"]]
    if not _is_wanted(spec, *seen[0]):
        raise Outside
    refused_early = [
        e for e in spec.data.get("errors", ())
        if e["phase"] == "construct" and evaluated(e["when"], names, spec)
    ] or _out_of_domain(spec, params)  # fmt: skip
    if refused_early:
        error = refused_early[0]
        case["covers"] = [error["id"]]
        case["state"] = {}
        case["steps"] = [{**_plain(case["steps"][0]), "expect": {"error": error["id"]}}]
        return case
    for position, step in enumerate(case["steps"]):
        scope, functions = seen[position]
        if not _is_wanted(spec, scope, functions):
            raise Outside
        met = [
            e for e in spec.data.get("errors", ())
            if e["phase"] != "construct" and expression.evaluate(e["when"], scope, functions)
        ]  # fmt: skip
        draws = "random" in spec.data and expression.evaluate(spec.data["random"], scope, functions)
        properties = step.pop("properties", None)
        if met:
            indices = [e for e in met if e["category"] == "index_out_of_range"]
            error = (indices or met)[0]
            case["covers"] = [error["id"]]
            step["expect"] = {"error": error["id"]}
            case["steps"] = case["steps"][: position + 1]
            break
        if draws and properties:
            step["expect"] = {"properties": properties}
    return case


def _seen(
    spec: LayerSpec, step: Mapping[str, Any], names: Mapping[str, Any], dtype: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The names and functions that expressions see at a call."""
    inputs = {
        name: resolve_tensor(block, name, block.get("dtype", dtype))
        for name, block in step["inputs"].items()
    }
    scope = call_scope(spec, names, inputs, step["mode"], dtype, step.get("arguments", {}))
    return scope, call_functions(spec, inputs)


def _is_wanted(spec: LayerSpec, scope: Mapping[str, Any], functions: Mapping[str, Any]) -> bool:
    """Whether the file's ``fuzz: where`` holds, or cannot be said under such parameters."""
    where = spec.data.get("fuzz", {}).get("where", "true")
    try:
        return bool(expression.evaluate(where, scope, functions))
    except expression.ExpressionError:
        return True


def _plain(step: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in step.items() if key != "properties"}


def _out_of_domain(spec: LayerSpec, params: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A value outside its domain that no error names is a gap in the file: not drawn further."""
    for param in spec.data["params"]:
        value = params.get(param["name"])
        if "domain" not in param or value is None:
            continue
        for v in value if isinstance(value, list) else [value]:
            if not isinstance(v, str) and not evaluated(param["domain"], {**params, "v": v}, spec):
                raise Outside
    return []
