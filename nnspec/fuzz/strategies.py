"""Configurations of a layer, drawn from its file: parameters, modes, shapes and dtypes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from ..document import LayerSpec
from ..parameters import has_type
from .scope import evaluated, scope_of


def parameter_values(param: Mapping[str, Any], with_default: bool = True) -> st.SearchStrategy[Any]:
    """Values of one parameter: its samples mostly, and others of its types, bad ones too."""
    samples = [math.inf if v == "inf" else v for v in param.get("sample", [])]
    if with_default and "default" in param:
        samples.append(param["default"])
    choices = [st.sampled_from(samples)] * 3 if samples else []
    whole = [v for v in samples if isinstance(v, int) and not isinstance(v, bool)]
    for kind in param["type"].split("|"):
        if kind == "bool" and not samples:
            choices.append(st.booleans())
        elif kind == "int":
            choices.append(st.integers(-1, max([3, *whole]) + 1))
        elif kind == "float" and samples:
            choices.append(st.sampled_from(_between(samples)))
        elif kind[-1].isdigit() or kind.endswith("?"):
            size = int(kind.rstrip("?")[-1])
            items = _between(samples) if kind.startswith("float") else whole or [1, 2]
            items = [*items, None] if kind.endswith("?") else items
            choices.append(st.lists(st.sampled_from(items), min_size=size, max_size=size))
    if "choices" in param:
        choices.append(st.sampled_from(param["choices"]))
    return st.one_of(choices)


def _between(samples: Sequence[Any]) -> list[float]:
    """65 values from the least sample to the largest."""
    finite = [float(v) for v in samples if isinstance(v, int | float) and abs(v) < float("inf")]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    return [low + (high - low) * i / 64 for i in range(65)]


@st.composite
def configurations(draw: st.DrawFn, spec: LayerSpec, dtypes: Sequence[str]) -> dict[str, Any]:
    """A case block without values: parameters, dtype, and for each step mode and input shapes."""
    params: dict[str, Any] = {}
    given = spec.data.get("fuzz", {}).get("given", ())
    for param in spec.data["params"]:
        always = param.get("required") or param["name"] in given
        if always or draw(st.integers(0, 2)):
            params[param["name"]] = draw(parameter_values(param, param["name"] not in given))
    for param in spec.data["params"]:
        active = param.get("active_when", "true")
        if param["name"] in params and not evaluated(active, spec.full_params(params)):
            del params[param["name"]]
    dtype = draw(st.sampled_from([*dtypes, *(d for d in dtypes if d == "float32")]))
    rules = spec.data.get("fuzz", {})
    stateful = bool(spec.data.get("state")) or "random" in spec.data
    modes = rules.get("modes", ["train", "eval"] if stateful else ["train"])
    buffers = any(s["kind"] == "buffer" for s in spec.state_entries)
    steps = []
    for _ in range(draw(st.integers(1, 2)) if buffers else 1):
        sizes: dict[str, Any] = {}
        # The parts of a tuple come together: hx.0 and hx.1.
        optional = [i["name"].partition(".")[0] for i in spec.data["inputs"] if i.get("optional")]
        absent = {head for head in dict.fromkeys(optional) if draw(st.booleans())}
        step = {
            "mode": draw(st.sampled_from(modes)),
            "inputs": {
                i["name"]: draw(_input(spec, i, params, sizes)) for i in spec.data["inputs"]
                if i["name"].partition(".")[0] not in absent
            },
        }  # fmt: skip
        if "arguments" in spec.data:
            step["arguments"] = draw(_arguments(spec, {**spec.full_params(params), **sizes}))
        steps.append(step)
    return {"params": params, "dtype": dtype, "steps": steps}


@st.composite
def _arguments(draw: st.DrawFn, spec: LayerSpec, names: dict[str, Any]) -> dict[str, Any]:
    """Options of a call; a sample that is an expression is evaluated for the call's sizes."""
    names = {**names, **(scope_of(spec, names) or {})}
    given: dict[str, Any] = {}
    for item in spec.data["arguments"]:
        if item.get("required") or draw(st.booleans()):
            value = draw(parameter_values(item))
            if isinstance(value, str) and value not in item.get("choices", ()):
                value = evaluated(value, {**names, **given}, spec)
            if has_type(value, item["type"]):
                given[item["name"]] = value
    return given


@st.composite
def _input(
    draw: st.DrawFn,
    spec: LayerSpec,
    item: Mapping[str, Any],
    params: Mapping[str, Any],
    sizes: dict[str, Any],
) -> dict[str, Any]:
    """Shape and dtype of one input: dimensions from the file's samples, at times a wrong one."""
    names = {**spec.full_params(params), **(scope_of(spec, params) or {})}
    shape: list[int] = []
    for entry in map(str, item["shape"]):
        name = entry.rstrip("?")
        if entry.endswith("?") and entry not in sizes:
            sizes[entry] = draw(st.booleans())  # there in all inputs, or in none
        if not sizes.get(entry, True):
            sizes[name] = None  # as in the conditions of errors, for the expressions of others
            continue
        if name.isidentifier() or name == "*":
            if name in names:
                size = names[name]
            else:
                if sizes.get(name) is None:
                    sizes[name] = draw(_size(spec, name))
                size = sizes[name]
        else:
            size = evaluated(name, {**names, **sizes}, spec)
        if isinstance(size, str):
            shape += evaluated(size, {}) or []
        elif isinstance(size, list):
            shape += [n if isinstance(n, int) and 0 <= n < 64 else 1 for n in size]
        else:
            shape.append(size if isinstance(size, int) and 0 <= size < 64 else 1)
    fault = draw(st.integers(0, 24))
    if fault == 0 and shape:
        shape[draw(st.integers(0, len(shape) - 1))] = draw(st.integers(0, 4))
    elif fault == 1:
        shape = shape[1:] if draw(st.booleans()) else [1, *shape]
    kinds = item["dtype"].split("|")
    kind = kinds[0] if draw(st.integers(0, 5)) else draw(st.sampled_from(kinds))
    return {"shape": shape, "dtype": kind, "bad_id": not draw(st.integers(0, 11))}


def _size(spec: LayerSpec, name: str) -> st.SearchStrategy[Any]:
    """A dimension from the file's samples, or another; for ``*`` a list of dimensions."""
    sample = spec.data.get("dims", {}).get(name, {}).get("sample", [2, 3, 1, 0, 5])
    if name == "*":
        return st.one_of(st.sampled_from(sample), st.lists(st.integers(0, 5), max_size=4).map(str))
    return st.one_of(st.sampled_from(sample), st.integers(min(sample), max(sample) + 2))
