"""From a case in a layer file to concrete tensors: values, shapes, expectations.

``nnspec export`` writes what this module produces, so that a consumer in another language needs
neither the expression evaluator nor the generators.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from . import expression
from .accuracy import Accuracy
from .backend import Step
from .document import LayerSpec
from .generators import automatic_seed, generate, literal, number
from .scopes import (
    call_functions,
    call_scope,
    output_shape,
    state_shape,
    state_shapes,
    with_first_dimensions,
)
from .strict_yaml import SpecError
from .tensors import FLOATS, cast, is_float


@dataclass(frozen=True)
class ResolvedStep:
    """One call with its tensors, and what is expected of it."""

    step: Step
    expect: Mapping[str, Any]
    literals: Mapping[str, np.ndarray]
    """Expected tensors that stand in the file: ``output.NAME``, ``gradient.NAME``..."""
    shapes: Mapping[str, tuple[int, ...] | None]
    """The shape of each output by the file's shape expressions; None where there is none."""
    dtypes: Mapping[str, str]
    """The dtype of each output; ``index`` is int32 or int64."""
    names: Mapping[str, Any]
    """What expressions see at this call."""
    draws: bool = False
    """Whether the call draws, so that only shapes and properties can be compared."""
    accuracy: Mapping[str, Accuracy] = field(default_factory=dict)
    """How near is near enough, for each tensor that the call gives: ``output.NAME``..."""


@dataclass(frozen=True)
class InitialState:
    """A parameter or buffer as a new layer has it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    init: float | Mapping[str, Any]
    """Its value, or the distribution that it is drawn from, whose bounds are numbers."""
    lazy: bool
    """Whether it is there only after the first call, in evaluation."""


@dataclass(frozen=True)
class ResolvedCase:
    """A case in one dtype, ready to run."""

    spec: LayerSpec
    case: Mapping[str, Any]
    dtype: str
    params: Mapping[str, Any]
    state: Mapping[str, np.ndarray]
    steps: Sequence[ResolvedStep]
    names: Mapping[str, Any]

    @property
    def id(self) -> str:
        """``<case id>@<dtype>``, as ``nnspec repro`` takes it."""
        return f"{self.case['id']}@{self.dtype}"

    @property
    def seed(self) -> int:
        """The seed handed to layers that draw."""
        return automatic_seed(self.case["id"]) % 2**31

    def state_specs(self) -> list[Mapping[str, Any]]:
        """The state that exists under these parameters."""
        return self.spec.state(self.names)

    @cached_property
    def initial(self) -> list[InitialState]:
        """The state of a new layer, in its order; lazy state where a first call is accepted.

        Empty where the construction is refused.
        """
        if _is_refused(self.spec, self.case):
            return []
        called = bool(self.steps) and "error" not in self.steps[0].expect
        return [
            _initial(self.spec, item, self.names, self.dtype)
            for item in self.state_specs()
            if called or "lazy" not in item
        ]

    def dtype_of(self, item: ResolvedStep, name: str) -> str:
        """The dtype that a tensor of a step is wanted in; ``index`` is int32 or int64."""
        group, _, plain = name.partition(".")
        if group == "output":
            return item.dtypes[plain]
        if group == "gradient" and plain in item.step.inputs:
            return item.step.inputs[plain].dtype.name
        return _state_dtype(self.spec.state_entry(plain), self.dtype)

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for dtypes whose tensors hold the same values, which then share one oracle."""
        tensors: list[np.ndarray] = [*self.state.values()]
        for item in self.steps:
            tensors += [*item.step.inputs.values(), *(item.step.cotangents or {}).values()]
        return tuple(
            (a.shape, a.astype(np.float64).tobytes() if is_float(a) else a.tobytes())
            for a in tensors
        )


def resolve_tensor(block: Any, name: str, dtype: str) -> np.ndarray:
    """A literal, ``{value: ...}`` or generator block as an array of ``dtype``.

    A dtype that the block names wins. ``name`` is ``case/step/tensor``, which seeds generators.
    """
    if not isinstance(block, Mapping):
        return cast(literal(block), dtype)
    dtype = block.get("dtype", dtype)
    if "value" in block and "gen" not in block:
        array = literal(block["value"])
        return cast(array.reshape(block.get("shape", array.shape)), dtype)
    options = {k: v for k, v in block.items() if k not in ("dtype", "seed", "special")}
    array = generate(seed=block.get("seed", automatic_seed(name)), **options)
    for position, value in block.get("special", {}).items():
        if not position.isdigit() or int(position) >= array.size:
            raise ValueError(f"special: {position!r} is no position among {array.size} elements")
        array.reshape(-1)[int(position)] = number(value)
    return cast(array, dtype)


def resolve(spec: LayerSpec, case: Mapping[str, Any], dtype: str) -> ResolvedCase:
    """Every tensor of a case in one dtype.

    Raises:
      SpecError: a block of the case cannot be resolved; the message names the case.
    """
    try:
        return _resolve(spec, case, dtype)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise SpecError(f"{spec.path}: case {case['id']}: {error}") from error


def _is_refused(spec: LayerSpec, case: Mapping[str, Any]) -> bool:
    """Whether a case shows that a construction is refused."""
    return any(spec.claims[claim].get("phase") == "construct" for claim in case["covers"])


def _resolve(spec: LayerSpec, case: Mapping[str, Any], dtype: str) -> ResolvedCase:
    params = {name: spec.full_params({name: v})[name] for name, v in case["params"].items()}
    refused = _is_refused(spec, case)
    names = spec.full_params(params) if refused else spec.scope(params)
    if spec.lazy and not refused and not case.get("initial"):
        first = _inputs(spec, spec.steps(case)[0], "", dtype)
        names = with_first_dimensions(spec, names, {n: a.shape for n, a in first.items()})
    state = {
        name: resolve_tensor(
            block, f"{case['id']}/state/{name}", _state_dtype(spec.state_entry(name), dtype)
        )
        for name, block in case.get("state", {}).items()
    }
    if not refused and not case.get("initial"):
        for item in spec.state(names):
            shape = state_shape(spec, item, names)
            drawn = isinstance(item["init"], Mapping) and None not in shape
            if drawn and item["name"] not in state:
                # What is drawn at construction differs between implementations: a case that
                # does not give it starts from a lattice.
                state[item["name"]] = resolve_tensor(
                    {"gen": "lattice", "shape": shape},
                    f"{case['id']}/state/{item['name']}", _state_dtype(item, dtype),
                )  # fmt: skip
    if not refused:
        _check_state(state, state_shapes(spec, names))
    resolve_one = _resolve_refused_step if refused else _resolve_step
    steps = [
        resolve_one(spec, case, raw, index, dtype, names)
        for index, raw in enumerate(spec.steps(case))
    ]
    return ResolvedCase(spec, case, dtype, params, state, steps, names)


def _initial(
    spec: LayerSpec, item: Mapping[str, Any], names: Mapping[str, Any], dtype: str
) -> InitialState:
    def number(text: Any) -> Any:
        return expression.evaluate(str(text), names, call_functions(spec, {}))

    init = item["init"]
    resolved = (
        {key: value if key == "dist" else number(value) for key, value in init.items()}
        if isinstance(init, Mapping) else number(init)
    )  # fmt: skip
    return InitialState(
        item["name"], state_shape(spec, item, names), _state_dtype(item, dtype), resolved,
        "lazy" in item,
    )  # fmt: skip


def _check_state(state: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, array in state.items():
        if name not in shapes:
            raise ValueError(f"state {name} does not exist under these parameters")
        _check_shape(f"state {name}", array.shape, shapes[name])


def _check_shape(name: str, given: Sequence[int], declared: Sequence[int] | None) -> None:
    if declared is not None and list(given) != list(declared):
        raise ValueError(f"{name} has shape {list(given)}, but is declared as {list(declared)}")


def _check_expected(item: ResolvedStep, states: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError where what a step expects is never given, or has another shape."""
    step, expect = item.step, item.expect
    known: dict[str, Sequence[int] | None] = {f"output.{n}": s for n, s in item.shapes.items()}
    known |= {f"state.{n}": s for n, s in states.items()}
    if step.cotangents is not None:
        known |= {
            f"gradient.{n}": step.inputs[n].shape if n in step.inputs else states[n]
            for n in step.wrt
        }
    given = {name: array.shape for name, array in item.literals.items()}
    given |= {f"output.{n}": tuple(s) for n, s in expect.get("shapes", {}).items()}
    for name, shape in given.items():
        if name not in known:
            raise ValueError(f"{name} is expected, but the call does not give it")
        _check_shape(name, shape, known[name])
    for name, array in (step.cotangents or {}).items():
        _check_shape(f"cotangent.{name}", array.shape, item.shapes[name])
    rows = expect.get("unchanged_rows", {})
    for name in {*expect.get("unchanged", ()), *rows} - {"all"}:
        if name not in states:
            raise ValueError(f"state {name} must stay unchanged, but does not exist here")
    for name, numbers in rows.items():
        if not all(-states[name][0] <= row < states[name][0] for row in numbers):
            raise ValueError(f"rows {list(numbers)} of state {name}, which has {states[name][0]}")


def _state_dtype(state: Mapping[str, Any] | None, dtype: str) -> str:
    declared = (state or {}).get("dtype", "T")
    return dtype if declared == "T" else declared


def _inputs(
    spec: LayerSpec, raw: Mapping[str, Any], where: str, dtype: str
) -> dict[str, np.ndarray]:
    inputs = {}
    for item in spec.data["inputs"]:
        if item["name"] in raw.get("inputs", {}):
            declared = item["dtype"].split("|")[0]
            block = raw["inputs"][item["name"]]
            if isinstance(block, Mapping) and block.get("dtype") == "T":
                block = {**block, "dtype": dtype}
            inputs[item["name"]] = resolve_tensor(
                block,
                f"{where}/{item['name']}",
                dtype if declared == "T" else declared,
            )
    return inputs


def _resolve_refused_step(
    spec: LayerSpec,
    case: Mapping[str, Any],
    raw: Mapping[str, Any],
    index: int,
    dtype: str,
    names: Mapping[str, Any],
) -> ResolvedStep:
    """A call under parameters that are refused: there are no shapes to speak of."""
    inputs = _inputs(spec, raw, f"{case['id']}/{index}", dtype)
    outputs = [spec.data["outputs"][0]["name"]]
    step = Step(raw.get("mode", "train"), inputs, outputs, raw.get("arguments", {}))
    return ResolvedStep(step, raw.get("expect", {}), {}, {}, {}, names)


def _resolve_step(
    spec: LayerSpec,
    case: Mapping[str, Any],
    raw: Mapping[str, Any],
    index: int,
    dtype: str,
    names: Mapping[str, Any],
) -> ResolvedStep:
    where = f"{case['id']}/{index}"
    inputs = _inputs(spec, raw, where, dtype)
    mode = raw.get("mode", "train")
    scope = call_scope(spec, names, inputs, mode, dtype, raw.get("arguments", {}))
    functions = call_functions(spec, inputs)
    outputs = list(spec.active(spec.data["outputs"], scope))
    shapes, dtypes = {}, {}
    for output in outputs:
        shapes[output["name"]] = output_shape(output, scope, inputs, functions)
        dtypes[output["name"]] = _output_dtype(output["dtype"], inputs, dtype)
    expect = raw.get("expect", {})
    active = [s["name"] for s in spec.state(names) if s["kind"] == "parameter"]
    wrt = [
        name for name in _differentiated(spec, active)
        if (name in inputs and is_float(inputs[name])) or name in active
    ]  # fmt: skip
    cotangents = None
    differentiable = [o for o in shapes if dtypes[o] in FLOATS]
    sound = all(shape is not None for shape in shapes.values())
    if raw.get("gradients", True) and wrt and differentiable and sound:
        given = raw.get("cotangents", {})
        cotangents = {
            o: resolve_tensor(
                given.get(o, {"gen": "lattice", "shape": list(shapes[o] or ())}),
                f"{where}/cotangent.{o}", dtypes[o],
            )
            for o in differentiable
        }  # fmt: skip
    step = Step(
        mode=mode, inputs=inputs, outputs=list(shapes), arguments=raw.get("arguments", {}),
        cotangents=cotangents, wrt=wrt, seed=automatic_seed(where) % 2**31,
    )  # fmt: skip
    draws = "random" in spec.data and expression.evaluate(spec.data["random"], scope, functions)
    if "properties" in expect:
        properties = [_property(block, scope) for block in expect["properties"]]
        expect = {**expect, "properties": properties}
    given = [f"output.{name}" for name in shapes]
    given += [f"gradient.{name}" for name in wrt if cotangents is not None]
    given += [f"state.{item['name']}" for item in spec.state(names)]
    classes = {} if "error" in expect else {
        name: _accuracy(spec, case, name, dtype, scope, functions) for name in given
    }  # fmt: skip
    resolved = ResolvedStep(
        step, expect, _literals(spec, expect, dtypes, dtype), shapes, dtypes, scope, bool(draws),
        classes,
    )  # fmt: skip
    _check_expected(resolved, state_shapes(spec, names))
    return resolved


def _property(block: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """What is checked of a call that draws, with numbers for expressions."""
    words = ("check", "of", "input", "output")
    return {
        key: expression.evaluate(value, names)
        if isinstance(value, str) and key not in words
        else value
        for key, value in block.items()
    }


def _accuracy(
    spec: LayerSpec,
    case: Mapping[str, Any],
    name: str,
    dtype: str,
    names: Mapping[str, Any],
    functions: Mapping[str, Any],
) -> Accuracy:
    """The class of a tensor: a waiver's, else the case's, else the one that the layer declares."""
    for waiver in spec.data.get("waivers", ()):
        fits = waiver["case"] == case["id"] and waiver["tensor"] == name
        if fits and dtype in waiver.get("dtypes", [dtype]):
            why = f"{name}: {waiver['accuracy']} ({waiver['date']}: {waiver['reason']})"
            chosen = choose(waiver["accuracy"], names, functions)
            return replace(chosen, waiver=why)
    declared = case.get("accuracy", {}).get(name) or _declared_accuracy(spec, name)
    return choose(declared, names, functions)


def _declared_accuracy(spec: LayerSpec, name: str) -> Any:
    group, _, plain = name.partition(".")
    if group == "gradient":
        declared = spec.data.get("gradients", {}).get("accuracy", "calibrated")
        return declared.get(plain, "calibrated") if isinstance(declared, Mapping) else declared
    outputs = {output["name"]: output for output in spec.data["outputs"]}
    entry = outputs.get(plain) if group == "output" else spec.state_entry(plain)
    return (entry or {}).get("accuracy", "calibrated")


def choose(
    declared: Any, names: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]
) -> Accuracy:
    """The class that holds for a call, with the value of its argument.

    >>> choose([{"when": "n > 1", "class": "dot(2*n)"}, {"class": "exact"}], {"n": 3}, {})
    Accuracy(kind='dot', argument=6.0, waiver='')
    """
    if isinstance(declared, list):
        fitting = (
            item["class"] for item in declared
            if "when" not in item or expression.evaluate(item["when"], names, functions)
        )  # fmt: skip
        declared = next(fitting, "calibrated")
    match = re.fullmatch(r"(\w+)(?:\((.+)\))?", declared)
    assert match is not None
    argument = expression.evaluate(match[2], names, functions) if match[2] else 0
    return Accuracy(match[1], float(argument or 0))


def _differentiated(spec: LayerSpec, parameters: Sequence[str]) -> Iterator[str]:
    """What gradients are asked for, where ``parameters`` stands for all of these."""
    for name in spec.data.get("gradients", {}).get("wrt", ()):
        yield from parameters if name == "parameters" else [name]


def _literals(
    spec: LayerSpec,
    expect: Mapping[str, Any],
    dtypes: Mapping[str, str],
    dtype: str,
) -> dict[str, np.ndarray]:
    states = {n: _state_dtype(spec.state_entry(n), dtype) for n in expect.get("state", ())}
    found = {}
    for group, kinds in (("outputs", dtypes), ("gradients", {}), ("state", states)):
        for name, block in expect.get(group, {}).items():
            kind = kinds.get(name, dtype)
            kind = "int64" if kind == "index" else kind
            # Wanted numbers stay as they are written: a cast to bfloat16 would change 3.3333333.
            kind = "float64" if kind in FLOATS else kind
            found[f"{group.removesuffix('s')}.{name}"] = resolve_tensor(block, name, kind)
    return found


def _output_dtype(declared: str, inputs: Mapping[str, np.ndarray], dtype: str) -> str:
    if declared.startswith("same_as("):
        name = declared.removeprefix("same_as(").rstrip(")")
        return inputs[name].dtype.name if name in inputs else dtype
    return dtype if declared == "T" else declared


def with_dtype(step: Step, dtype: str) -> Step:
    """The same call with every float tensor in another dtype (the oracle's float64)."""
    return changed(step, lambda _, array: cast(array, dtype))


def changed(step: Step, change: Callable[[str, np.ndarray], np.ndarray]) -> Step:
    """The same call with ``change("input" or "cotangent", array)`` for every float tensor."""

    def convert(kind: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {n: change(kind, a) if is_float(a) else a for n, a in tensors.items()}

    cotangents = None if step.cotangents is None else convert("cotangent", step.cotangents)
    return replace(step, inputs=convert("input", step.inputs), cotangents=cotangents)
