"""What the schema cannot say of a layer file: ids, coverage, names, types and domains."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import expression
from .document import LayerSpec
from .parameters import has_type
from .templates import pattern, substitute

LITERAL_SIZE = 32
"""Beyond this many elements a tensor is generated, not written out."""

_STEP = ("mode", "inputs", "arguments", "cotangents", "gradients", "expect")
_ABOUT_INPUTS = {"rank", "shape", "dtype", "largest", "smallest", "train", "T"}


def check(spec: LayerSpec) -> Iterator[str]:
    """One line for each contradiction in the file."""
    yield from _check_place(spec)
    problems = [*_check_expressions(spec), *_check_ids(spec)]
    yield from problems
    if not problems:
        yield from _check_params(spec)
        yield from _check_cases(spec)
        yield from _check_names(spec)
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
    ids = {
        letter: [item["id"] for item in spec.data.get(key, ())]
        for letter, key in (("B", "behaviours"), ("E", "errors"), ("M", "mutants"))
    }
    claims, cases = [*ids["B"], *ids["E"]], [case["id"] for case in spec.data["cases"]]
    for letter, found in ids.items():
        start = f"{spec.name}.{letter}"
        yield from (f"id {i} should be {start}NN" for i in found if not i.startswith(start))
    for found in (ids["M"], claims, cases):
        yield from (f"id {i} is used twice" for i in sorted(set(found)) if found.count(i) > 1)
    for case in spec.data["cases"]:
        where = f"case {case['id']}"
        if not case["id"].startswith(f"{spec.name}/"):
            yield f"{where} should be {spec.name}/..."
        yield from (f"{where} covers unknown claim {c}" for c in case["covers"] if c not in claims)
        caught = case.get("catches", ())
        yield from (f"{where} catches unknown mutant {m}" for m in caught if m not in ids["M"])
        for step in (case, *case.get("steps", ())):
            error = step.get("expect", {}).get("error")
            if error and error not in claims:
                yield f"{where} expects unknown error {error}"
            if error and error not in case["covers"]:
                yield f"{where} expects {error} but does not cover it"
    for waiver in spec.data.get("waivers", ()):
        if waiver["case"] not in cases:
            yield f"a waiver names unknown case {waiver['case']}"


# --- expressions ----------------------------------------------------------------------------


def _check_expressions(spec: LayerSpec) -> Iterator[str]:
    for place, text, known in _expressions(spec):
        try:
            unknown = expression.names_in(text) - known
        except expression.ExpressionError as error:
            yield f"{place}: {error}"
            continue
        if unknown:
            yield f"{place}: unknown name {sorted(unknown)[0]!r} in {text!r}"


def _expressions(spec: LayerSpec) -> Iterator[tuple[str, str, set[str]]]:
    """Every expression of the file, with its place and the names that it may use."""
    data = spec.data
    params = {p["name"] for p in data["params"]}
    derived = {item["name"] for item in data.get("let", ())}
    known = params | derived | set(spec.functions)
    for item in data["inputs"]:
        known |= {d.rstrip("?") for d in map(str, item["shape"]) if d.rstrip("?").isidentifier()}
    at_call = known | _ABOUT_INPUTS | {item["name"] for item in data["inputs"]}
    at_call |= {item["name"] for item in data.get("arguments", ())}

    # Each sees only those before it, so that no evaluation goes on for ever.
    for key, more in (("let", set()), ("functions", at_call)):
        later = {item["name"] for item in data.get(key, ())}
        for item in data.get(key, ()):
            names = (known | more) - later
            yield f"{key} {item['name']}", item["is"], names | set(item.get("args", ()))
            later.discard(item["name"])
    for param in data["params"]:
        if "domain" in param:
            yield f"domain of {param['name']}", param["domain"], known | {"v"}
        if "active_when" in param:
            yield f"active_when of {param['name']}", param["active_when"], known
    for error in data.get("errors", ()):
        yield error["id"], error["when"], at_call
    for key in ("random", "fuzz"):
        text = data.get(key, {}).get("where") if key == "fuzz" else data.get(key)
        if text:
            yield key, text, at_call
    for item in data["inputs"]:
        if "bound" in item:
            yield f"bound of {item['name']}", item["bound"], known
    for group in data.get("state", ()):
        for name, text in group.get("each", {}).items():
            yield f"each {name}", text, known
        if "each" in group and "when" in group:
            yield "when of a group of state", group["when"], known
    # What stands for a value reads as a number, which it may also be within quotes.
    places = {name: 0 for group in data.get("state", ()) for name in group.get("each", ())}
    for item in (*data["outputs"], *(substitute(entry, places) for entry in spec.state_entries)):
        shape = item["shape"] if isinstance(item["shape"], list) else []
        if isinstance(item["shape"], str) and not item["shape"].startswith("same_as("):
            shape = [item["shape"]]
        for size in map(str, shape):
            if size != "*":
                yield f"shape of {item['name']}", size.rstrip("?"), at_call
        if "when" in item:
            yield f"when of {item['name']}", item["when"], at_call
        init = item.get("init")
        for text in init.values() if isinstance(init, Mapping) else [init]:
            if isinstance(text, str) and text not in ("uniform", "normal"):
                yield f"init of {item['name']}", text, known
    for place, declared in _accuracies(spec):
        for choice in declared if isinstance(declared, list) else [{"class": declared}]:
            argument = re.search(r"\((.+)\)", choice["class"])
            yield from (
                (f"accuracy of {place}", text, at_call)
                for text in (choice.get("when"), argument and argument[1])
                if text
            )


def _accuracies(spec: LayerSpec) -> Iterator[tuple[str, Any]]:
    for item in (*spec.data["outputs"], *spec.state_entries):
        yield item["name"], item.get("accuracy", "calibrated")
    declared = spec.data.get("gradients", {}).get("accuracy", "calibrated")
    by_name = declared if isinstance(declared, Mapping) else {"gradients": declared}
    yield from by_name.items()
    for case in spec.data["cases"]:
        yield from ((f"{case['id']}: {n}", a) for n, a in case.get("accuracy", {}).items())
    for waiver in spec.data.get("waivers", ()):
        yield f"the waiver of {waiver['case']}", waiver["accuracy"]


# --- parameters -----------------------------------------------------------------------------


def _check_params(spec: LayerSpec) -> Iterator[str]:
    for param in spec.data["params"]:
        values = [*param.get("sample", ()), *([param["default"]] if "default" in param else [])]
        for value in values:
            if not has_type(value, param["type"]):
                yield f"parameter {param['name']}: {value!r} is not {param['type']}"
    for case in spec.data["cases"]:
        where = f"case {case['id']}"
        params = {p["name"]: p for p in spec.data["params"]}
        yield from (f"{where}: unknown parameter {n!r}" for n in case["params"] if n not in params)
        if _is_refusal(case):
            continue
        for name, param in params.items():
            if name in case["params"]:
                problem = _problem(spec, param, case["params"])
                if problem:
                    yield f"{where}: parameter {problem}"
            elif param.get("required"):
                yield f"{where}: parameter {name!r} is required"


def _problem(spec: LayerSpec, param: Mapping[str, Any], given: Mapping[str, Any]) -> str | None:
    value = given[param["name"]]
    if not has_type(value, param["type"]):
        return f"{param['name']}: {value!r} is not {param['type']}"
    if isinstance(value, str) and value not in param.get("choices", (value,)):
        return f"{param['name']}: {value!r} is not one of {param['choices']}"
    names = spec.full_params(given)
    for element in value if isinstance(value, list) else [value]:
        if "domain" in param and isinstance(element, int | float):
            scope = {**names, "v": element}
            try:
                inside = expression.evaluate(param["domain"], scope, spec.functions)
            except expression.ExpressionError as error:
                return f"{param['name']}: {error}"
            if not inside:
                return f"{param['name']}: {element!r} is outside its domain, {param['domain']}"
    return None


# --- cases ----------------------------------------------------------------------------------


def _is_refusal(case: Mapping[str, Any]) -> bool:
    return any(claim.partition(".")[2].startswith("E") for claim in case["covers"])


def _check_cases(spec: LayerSpec) -> Iterator[str]:
    inputs = {i["name"]: i for i in spec.data["inputs"]}
    for case in spec.data["cases"]:
        where = f"case {case['id']}"
        for one, others in (("steps", _STEP), ("initial", ("steps", "state", *_STEP))):
            yield from (f"{where}: has both {one} and {o}" for o in others if {one, o} <= {*case})
        for step in spec.steps(case):
            given = step.get("inputs", {})
            yield from (f"{where}: unknown input {n!r}" for n in given if n not in inputs)
            absent = [n for n, i in inputs.items() if n not in given and not i.get("optional")]
            if absent:
                yield f"{where}: input {absent[0]!r} is missing"
            yield from _check_arguments(spec, where, step.get("arguments", {}))
        if not spec.dtypes(case):
            yield f"{where}: none of its dtypes {case['dtypes']} is declared by the layer"
        for place, size in _literals(case):
            if size > LITERAL_SIZE:
                yield f"{where}: {place} has {size} elements; generate what has over {LITERAL_SIZE}"


def _check_arguments(spec: LayerSpec, where: str, given: Mapping[str, Any]) -> Iterator[str]:
    declared = {item["name"]: item for item in spec.data.get("arguments", ())}
    for name, value in given.items():
        if name not in declared:
            yield f"{where}: unknown argument {name!r}; the file declares {sorted(declared)}"
        elif not has_type(value, declared[name]["type"]):
            yield f"{where}: argument {name}: {value!r} is not {declared[name]['type']}"


def _literals(block: Any, place: str = "") -> Iterator[tuple[str, int]]:
    """The place and the number of elements of each tensor that is written out."""
    if isinstance(block, Mapping):
        for key, value in block.items():
            yield from _literals(value, f"{place}.{key}" if place else str(key))
    elif isinstance(block, list):
        if any(isinstance(item, Mapping) for item in block):
            for item in block:
                yield from _literals(item, place)
        else:
            yield place, _size(block)


def _size(value: Any) -> int:
    return sum(map(_size, value)) if isinstance(value, list) else 1


def _check_names(spec: LayerSpec) -> Iterator[str]:
    data = spec.data
    outputs = {o["name"] for o in data["outputs"]}
    states = {s["name"] for s in spec.state_entries}
    wrt = set(data.get("gradients", {}).get("wrt", ()))
    if "parameters" in wrt:
        wrt |= {s["name"] for s in spec.state_entries if s["kind"] == "parameter"}
        wrt.remove("parameters")
    tensors = {f"output.{n}" for n in outputs} | {f"state.{n}" for n in states}
    tensors |= {f"gradient.{n}" for n in wrt}
    known = {
        "outputs": outputs, "gradients": wrt, "state": states, "shapes": outputs,
        "unchanged": {*states, "all"}, "unchanged_rows": states,
    }  # fmt: skip

    def unknown(where: str, names: Iterable[str], among: set[str]) -> Iterator[str]:
        yield from (f"{where}: unknown name {n!r}; known are {sorted(among)}"
                    for n in names if not any(pattern(a).fullmatch(n) for a in among))  # fmt: skip

    written = {*data.get("gradients", {}).get("wrt", ())} - {"parameters"}
    yield from unknown("gradients.wrt", written, {i["name"] for i in data["inputs"]} | states)
    for waiver in data.get("waivers", ()):
        yield from unknown(f"the waiver of {waiver['case']}", [waiver["tensor"]], tensors)
    for case in data["cases"]:
        where = f"case {case['id']}"
        yield from unknown(f"{where}: state", case.get("state", ()), states)
        yield from unknown(f"{where}: accuracy", case.get("accuracy", ()), tensors)
        for step in spec.steps(case):
            yield from unknown(f"{where}: cotangents", step.get("cotangents", ()), outputs)
            for group, among in known.items():
                names = step.get("expect", {}).get(group, ())
                yield from unknown(f"{where}: expect.{group}", names, among)


# --- coverage -------------------------------------------------------------------------------


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
        elif "phase" in spec.claims[claim] and not any(_expects(spec, c, claim) for c in cases):
            yield f"claim {claim} is expected by none of its cases"
        elif level == "must" and all(spec.level(case) == "quirk" for case in cases):
            yield f"claim {claim} is a must, but each of its cases covers a quirk too"
        elif not any(_has_literal(spec, case) for case in cases):
            yield f"claim {claim} has no case whose values stand literally in the file"
    yield from (f"mutant {m} is caught by no case" for m, seen in caught.items() if not seen)


def _expects(spec: LayerSpec, case: Mapping[str, Any], error: str) -> bool:
    return any(step.get("expect", {}).get("error") == error for step in spec.steps(case))


def _has_literal(spec: LayerSpec, case: Mapping[str, Any]) -> bool:
    """Whether what a case expects stands in the file: values, shapes, a refusal, a property."""
    if case.get("initial"):
        return True
    keys = ("outputs", "gradients", "state", "shapes", "properties", "error", "unchanged")
    return any(key in step.get("expect", {}) for step in spec.steps(case) for key in keys)
