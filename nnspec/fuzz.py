"""Random configurations of a layer, derived from its file alone, one backend against another.

A drawn configuration is a case block like those in the file, so the judge runs it as it runs
them: what the file's error conditions refuse must be refused by both sides, everything else must
agree. A new configuration costs a compilation, so each one is tried on many values, which run
through the same compiled program. A finding prints as YAML, ready to be pasted into the file.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress

from . import expression
from .backend import Backend
from .document import LayerSpec, match_dims
from .judge import Verdict, judge
from .oracle import LiveOracle
from .parameters import has_type
from .resolve import resolve_tensor
from .scopes import call_functions, call_scope, state_shape, with_first_dimensions

SHRINKING_SECONDS = 60  # spent on making a finding smaller
DEFAULT_VALUES = ({"gen": "lattice"}, {"gen": "lattice", "bits": 2}, {"gen": "permutation"})


@dataclass
class FuzzResult:
    """What a fuzz run of one layer tried and found."""

    layer: str
    backend: str
    against: str
    configurations: int = 0
    refused: int = 0
    examples: int = 0
    seconds: float = 0.0
    exhausted: bool = False
    by_claim: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line: configurations and examples are counted apart."""
        end = ", all there are" if self.exhausted else ""
        return (
            f"{self.layer}: {self.configurations} distinct configurations{end} "
            f"({self.refused} refused by both), {self.examples} examples, "
            f"{len(self.findings)} differences, {self.seconds:.0f} s"
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-compatible."""
        return {**vars(self), "by_claim": dict(self.by_claim), "seconds": round(self.seconds, 1)}


def parameter_values(param: Mapping[str, Any], with_default: bool = True) -> st.SearchStrategy[Any]:
    """Values of one parameter: its samples mostly, and others of its types, bad ones too."""
    samples = [expression._CONSTANTS["inf"] if v == "inf" else v for v in param.get("sample", [])]
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
        if param["name"] in params and not _evaluate(active, spec.full_params(params)):
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
    names = {**names, **(_scope(spec, names) or {})}
    given: dict[str, Any] = {}
    for item in spec.data["arguments"]:
        if item.get("required") or draw(st.booleans()):
            value = draw(parameter_values(item))
            if isinstance(value, str) and value not in item.get("choices", ()):
                value = _evaluate(value, {**names, **given}, spec)
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
    names = {**spec.full_params(params), **(_scope(spec, params) or {})}
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
            size = _evaluate(name, {**names, **sizes}, spec)
        if isinstance(size, str):
            shape += _evaluate(size, {}) or []
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


def _scope(spec: LayerSpec, params: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        return spec.scope(params)
    except expression.ExpressionError:
        return None


def _evaluate(text: str, names: Mapping[str, Any], spec: LayerSpec | None = None) -> Any:
    try:
        return expression.evaluate(text, names, spec.functions if spec else None)
    except expression.ExpressionError:
        return None


def fill(spec: LayerSpec, configuration: Mapping[str, Any], example: int) -> dict[str, Any]:
    """A runnable case: the configuration with generator blocks for every tensor, seeded."""
    values = spec.data.get("fuzz", {}).get("values", DEFAULT_VALUES)
    chosen = values[example % len(values)]
    names = spec.full_params(configuration["params"])
    names |= _scope(spec, configuration["params"]) or {}
    inputs_by_name = {i["name"]: i for i in spec.data["inputs"]}
    steps = []
    for index, step in enumerate(configuration["steps"]):
        inputs = {}
        sizes = _dimensions(spec, step, names)
        for position, (name, block) in enumerate(step["inputs"].items()):
            where = {"shape": block["shape"], "seed": 1000 * example + 10 * index + position}
            if block["dtype"] == "T":
                inputs[name] = {**chosen, **where}
                if "special" in chosen:
                    count = 1
                    for size in block["shape"]:
                        count *= size
                    inputs[name]["special"] = {
                        k: v for k, v in chosen["special"].items() if int(k) < count
                    }
                    if not inputs[name]["special"]:
                        del inputs[name]["special"]
            else:
                bound = 100
                if "bound" in inputs_by_name[name]:
                    bound = _evaluate(inputs_by_name[name]["bound"], sizes, spec) or 1
                    bound = max(bound, 1) + (2 if block["bad_id"] else 0)
                low = (
                    -1 if block["bad_id"] and example % 2 and "bound" in inputs_by_name[name] else 0
                )
                inputs[name] = {
                    "gen": "integers",
                    "bound": bound,
                    "low": low,
                    "dtype": block["dtype"],
                    **where,
                }
                if inputs_by_name[name].get("rising"):
                    drawn = resolve_tensor({**inputs[name], "low": 0}, name, block["dtype"])
                    drawn = np.sort(drawn, axis=None)
                    drawn[:1] = 0
                    values = drawn.reshape(block["shape"]).tolist()
                    inputs[name] = {
                        "value": values, "shape": block["shape"], "dtype": block["dtype"]
                    }  # fmt: skip
        filled = {**step, "inputs": inputs}
        if "properties" in spec.data.get("fuzz", {}):
            filled["properties"] = spec.data["fuzz"]["properties"]
        steps.append(filled)
    case: dict[str, Any] = {
        "id": f"{spec.name}/fuzz-{example}", "covers": [spec.data["behaviours"][0]["id"]],
        "params": dict(configuration["params"]), "dtypes": [configuration["dtype"]],
        "state": _state(spec, configuration, example), "steps": steps,
    }  # fmt: skip
    return _with_expected_error(spec, case, configuration["dtype"])


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
    names = _scope(spec, configuration["params"])
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
    names = _scope(spec, params) or spec.full_params(params)
    first = case["steps"][0]["inputs"]
    names = with_first_dimensions(spec, names, {n: block["shape"] for n, block in first.items()})
    seen = [_seen(spec, step, names, dtype) for step in case["steps"]]
    if not _is_wanted(spec, *seen[0]):
        raise _Outside
    refused_early = [
        e for e in spec.data.get("errors", ())
        if e["phase"] == "construct" and _evaluate(e["when"], names, spec)
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
            raise _Outside
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
            if not isinstance(v, str) and not _evaluate(param["domain"], {**params, "v": v}, spec):
                raise _Outside
    return []


class _Outside(Exception):
    """The configuration lies outside the declared domain without an error claim for it."""


class _Difference(AssertionError):
    """The two backends, or the file and the reference, disagree."""


def fuzz(
    spec: LayerSpec,
    backend: Backend,
    against: Backend,
    *,
    configurations: int,
    examples: int,
    seed: int = 0,
    dtypes: Sequence[str] = (),
    console: Console | None = None,
) -> FuzzResult:
    """Try ``configurations`` distinct configurations with ``examples`` values each."""
    result = FuzzResult(spec.name, backend.describe()["name"], against.describe()["name"])
    session = _Session(spec, backend, LiveOracle(against), examples, configurations, result)
    started = time.perf_counter()
    with Progress(console=console or Console(stderr=True)) as progress:
        bar = progress.add_task(spec.name, total=configurations)
        session.advance = lambda: progress.update(bar, completed=result.configurations)
        round_number, before = 0, -1
        while result.configurations < configurations and before < result.configurations:
            before = result.configurations
            _explore(session, list(dtypes) or spec.dtypes(), seed + round_number)
            round_number += 1
            if result.findings:
                break
    result.exhausted = not result.findings and result.configurations < configurations
    result.seconds = time.perf_counter() - started
    return result


@dataclass
class _Session:
    spec: LayerSpec
    backend: Backend
    oracle: LiveOracle
    examples: int
    limit: int
    result: FuzzResult
    seen: dict[str, str | None] = field(default_factory=dict)
    advance: Any = None
    deadline: float = float("inf")

    def try_configuration(self, configuration: Mapping[str, Any]) -> str | None:
        """What is wrong with a configuration, or None; each is run once."""
        key = json.dumps(configuration, sort_keys=True)
        if key not in self.seen:
            if self.result.configurations >= self.limit or time.monotonic() > self.deadline:
                return None
            try:
                self.seen[key] = self._run(configuration)
            except _Outside:
                self.seen[key] = None
                return None
            self.result.configurations += 1
            self.advance()
            if self.seen[key] is not None:
                self.deadline = min(self.deadline, time.monotonic() + SHRINKING_SECONDS)
        return self.seen[key]

    def _run(self, configuration: Mapping[str, Any]) -> str | None:
        refused = example = 0
        for example in range(self.examples):
            case = fill(self.spec, configuration, example)
            verdict = judge(
                self.backend, self.oracle, self.spec, case, configuration["dtype"],
                initial_state=example == 0,
            )  # fmt: skip
            self.result.examples += 1
            if verdict.verdict != "pass":
                return _finding(case, verdict)
            errors = [s["expect"]["error"] for s in case["steps"] if "error" in s.get("expect", {})]
            if errors:
                refused += 1
                self.result.by_claim[errors[0]] += 1
                if not any("bound" in item for item in self.spec.data["inputs"]):
                    break  # refused for its parameters or shapes: other values change nothing
        self.result.refused += refused == example + 1
        return None


def _finding(case: Mapping[str, Any], verdict: Verdict) -> str:
    block = {k: v for k, v in case.items() if v or k == "params"}
    text = yaml.safe_dump([block], sort_keys=False, default_flow_style=None, width=100)
    return f"{verdict.verdict}: {verdict.message}\n{text}"


def _explore(session: _Session, dtypes: Sequence[str], number: int) -> None:
    @seed(number)
    @settings(
        max_examples=session.limit * 2, deadline=None, database=None, print_blob=False,
        suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    @given(configurations(session.spec, dtypes))
    def explore(configuration: dict[str, Any]) -> None:
        message = session.try_configuration(configuration)
        if message is not None:
            raise _Difference(message)

    try:
        explore()
    except _Difference as difference:
        session.result.findings.append(str(difference))
