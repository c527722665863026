"""Runs one case on one backend and says what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from . import accuracy
from .accuracy import Reference
from .backend import Backend, BackendDied, Instance, Refused, StepResult, Unsupported
from .document import LayerSpec
from .oracle import Oracle, StepReference, prepared, tensors_of
from .properties import check_distribution, check_property
from .resolve import InitialState, ResolvedCase, ResolvedStep, resolve
from .tensors import cast, is_float

VERDICTS = ("pass", "fail", "error", "unsupported", "skip")


@dataclass(frozen=True)
class Verdict:
    """What came of one case in one dtype on one backend."""

    case: str
    dtype: str
    layer: str
    family: str
    verdict: str
    message: str = ""
    claims: tuple[str, ...] = ()
    waivers: tuple[str, ...] = ()
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """``<case id>@<dtype>``, as ``nnspec repro`` takes it."""
        return f"{self.case}@{self.dtype}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-compatible."""
        return {"id": self.id, **asdict(self)}


class Wrong(Exception):
    """The backend's answer differs from what the specification says."""

    def __init__(self, message: str, **details: Any):
        super().__init__(message)
        self.details = details


class SpecificationWrong(Exception):
    """A literal in the file differs from what the reference does."""


def judge(
    backend: Backend,
    oracle: Oracle | None,
    spec: LayerSpec,
    case: Mapping[str, Any],
    dtype: str,
    *,
    initial_state: bool = True,
    profile: str = "float32",
) -> Verdict:
    """Run one case and return its verdict; nothing is raised for what the backend does wrong.

    `initial_state` says whether the state after construction, which the values of a case do not
    change, is judged too; `profile`, how precise the products of float32 are on the device.
    """
    started = time.perf_counter()
    waived: list[str] = []
    details: dict[str, Any] = {}
    try:
        resolved = resolve(spec, case, dtype)
        references = oracle.references(resolved) if oracle else None
        _Run(backend, resolved, references, waived, profile).check(initial_state)
        verdict, message = "pass", ""
    except Wrong as wrong:
        verdict, message, details = "fail", str(wrong), wrong.details
    except Unsupported as unsupported:
        verdict, message = "unsupported", str(unsupported)
    except SpecificationWrong as wrong:
        verdict, message = "error", f"the specification disagrees with the reference: {wrong}"
    except Exception as error:
        verdict, message = "error", f"{type(error).__name__}: {error}"
        if isinstance(error, BackendDied):
            details["backend_died"] = True
    return Verdict(
        case["id"], dtype, spec.name, spec.family, verdict, message, tuple(case["covers"]),
        tuple(waived), time.perf_counter() - started, details,
    )  # fmt: skip


class _Run:
    """One case on one backend, step by step; raises Wrong at the first difference."""

    def __init__(
        self,
        backend: Backend,
        case: ResolvedCase,
        references: list[StepReference] | None,
        waived: list[str],
        profile: str,
    ):
        self.backend, self.case, self.references, self.waived = backend, case, references, waived
        self.profile = profile
        self.spec = case.spec

    def check(self, initial_state: bool) -> None:
        expected = [item.expect.get("error") for item in self.case.steps]
        early = [e for e in expected if e and self.spec.claims[e]["phase"] == "construct"]
        if early:
            error = early[0]
            self._check_refusal(error, self._construct_and_call)
            self._check_reference_refuses(0, error)
            return
        try:
            instance = prepared(self.backend, self.case, self.case.dtype)
        except Refused as refusal:
            raise Wrong(f"construction refused: {refusal}") from None
        if initial_state:
            fresh = instance
            if self.case.state or self.spec.lazy:
                fresh = prepared(self.backend, replace(self.case, state={}), self.case.dtype)
            self._check_initial_state(fresh)
        previous = None
        before = instance.state()
        for index, item in enumerate(self.case.steps):
            error = item.expect.get("error")
            if error:
                self._check_refusal(error, lambda item=item: instance.run(item.step))
                self._check_reference_refuses(index, error)
                continue
            try:
                result = instance.run(item.step)
            except Refused as refusal:
                raise Wrong(f"step {index}: call refused: {refusal}") from None
            if self.spec.lazy:
                before = {**result.state, **before}  # what appears has no state before
            self._check_step(index, item, result, before, previous)
            before, previous = result.state, result

    def _construct_and_call(self) -> None:
        # Bad parameters may be refused at construction or at the first call.
        instance = prepared(self.backend, self.case, self.case.dtype)
        for item in self.case.steps:
            instance.run(item.step)

    def _check_refusal(self, claim: str, call: Any) -> None:
        category = self.spec.claims[claim]["category"]
        try:
            call()
        except Refused as refusal:
            given = refusal.category
            if given is not None and given != category:
                raise Wrong(f"refused as {given}, wanted {category}: {refusal}") from None
            return
        text = self.spec.claims[claim]["text"]
        raise Wrong(f"accepted what {claim} says must be refused ({text})")

    def _check_reference_refuses(self, index: int, claim: str) -> None:
        if self.references is None:
            return
        if index >= len(self.references) or self.references[index].refused is None:
            raise SpecificationWrong(f"{claim}: the reference accepts this")

    def _check_initial_state(self, fresh: Instance) -> None:
        initial = self.case.initial
        self._check_drawn_state(fresh.state(), [item for item in initial if not item.lazy])
        if self.spec.lazy and self.case.steps and not self.case.steps[0].expect.get("error"):
            # In evaluation, so that no statistic moves.
            first = replace(self.case.steps[0].step, mode="eval", cotangents=None, wrt=())
            try:
                result = fresh.run(first)
            except Refused as refusal:
                raise Wrong(f"the first call is refused: {refusal}") from None
            self._check_drawn_state(result.state, initial)

    def _check_drawn_state(
        self, state: Mapping[str, np.ndarray], wanted: Sequence[InitialState]
    ) -> None:
        names, told = [item.name for item in wanted], list(state)
        if not getattr(self.backend, "tells_order", True):
            told, names = sorted(told), sorted(names)
        if told != names:
            raise Wrong(f"state is {list(state)}, wanted {names}")
        for item in wanted:
            values = state[item.name]
            if values.shape != item.shape:
                raise Wrong(
                    f"state {item.name} has shape {list(values.shape)}, wanted {list(item.shape)}"
                )
            if values.dtype.name != item.dtype:
                raise Wrong(f"state {item.name} is {values.dtype.name}, wanted {item.dtype}")
            if isinstance(item.init, Mapping):
                problem = check_distribution(item.init, values)
            else:
                same = (values == cast(np.asarray(item.init), item.dtype)).all()
                problem = None if same else f"is not {item.init}"
            if problem:
                raise Wrong(f"initial {item.name}: {problem}")

    def _check_step(
        self,
        index: int,
        item: ResolvedStep,
        result: StepResult,
        before: Mapping[str, np.ndarray],
        previous: StepResult | None,
    ) -> None:
        got = tensors_of(result)
        missing = [n for n in item.step.outputs if f"output.{n}" not in got]
        if missing or len(result.outputs) != len(item.step.outputs):
            raise Wrong(f"step {index}: outputs {list(result.outputs)}, wanted {item.step.outputs}")
        for name, shape in {**item.shapes, **item.expect.get("shapes", {})}.items():
            if list(got[f"output.{name}"].shape) != list(shape or ()):
                found = list(got[f"output.{name}"].shape)
                raise Wrong(f"step {index}: {name} has shape {found}, wanted {list(shape or ())}")
        self._check_unchanged(index, item, result.state, before)
        for block in item.expect.get("properties", ()):
            problem = check_property(block, item.step, result, previous)
            if problem:
                raise Wrong(f"step {index}: {block['check']}: {problem}")
        if item.step.cotangents is not None:
            absent = [n for n in item.step.wrt if f"gradient.{n}" not in got]
            if absent:
                raise Wrong(f"step {index}: no gradient of {absent[0]}")
        reference = self._reference(index, item.draws)
        for name, value in got.items():
            wanted = reference.get(name)
            stated = item.literals.get(name)
            if stated is not None:
                wanted = self._stated(name, stated, wanted)
            if wanted is not None:
                self._compare(index, item, name, value, wanted)

    def _reference(self, index: int, draws: bool) -> Mapping[str, Reference]:
        if self.references is None or draws:
            return {}
        if index >= len(self.references):
            raise SpecificationWrong(f"the reference has no step {index}")
        if self.references[index].refused is not None:
            raise SpecificationWrong(f"the reference refuses: {self.references[index].refused}")
        return self.references[index].tensors

    def _stated(self, name: str, stated: np.ndarray, live: Reference | None) -> Reference:
        """A literal from the file, checked against the reference where there is one."""
        if live is None:
            return Reference(stated, 0.0, np.abs(stated))
        if not says_the_same(stated, live.oracle, self.case.dtype):
            raise SpecificationWrong(
                f"{name}: the file says {stated.tolist()}, the reference {live.oracle.tolist()}"
            )
        return live

    def _compare(
        self,
        index: int,
        item: ResolvedStep,
        name: str,
        value: np.ndarray,
        wanted: Reference,
    ) -> None:
        dtype = self.case.dtype_of(item, name)
        chosen = item.accuracy[name]
        if chosen.waiver:
            self.waived.append(chosen.waiver)
        inner = self.spec.data["dtypes"].get("accumulate", {}).get(dtype)
        difference = accuracy.compare(
            name, value, wanted, dtype, chosen.kind, chosen.argument, inner, self.profile
        )
        if difference:
            raise Wrong(f"step {index}: {difference} [{chosen}]", step=index, tensor=name)

    def _check_unchanged(
        self,
        index: int,
        item: ResolvedStep,
        after: Mapping[str, np.ndarray],
        before: Mapping[str, np.ndarray],
    ) -> None:
        if set(after) != set(before):
            raise Wrong(f"step {index}: state is {list(after)}, wanted {list(before)}")
        for name in _unchanged(item.expect.get("unchanged", ()), before):
            if after[name].tobytes() != before[name].tobytes():
                raise Wrong(f"step {index}: state {name} changed; it must stay bit for bit")
        for name, rows in item.expect.get("unchanged_rows", {}).items():
            for row in rows:
                if after[name][row].tobytes() != before[name][row].tobytes():
                    raise Wrong(
                        f"step {index}: row {row} of {name} changed; it must stay bit for bit"
                    )


def says_the_same(stated: np.ndarray, oracle: np.ndarray, dtype: str) -> bool:
    """Whether a literal is the oracle's value to the 6 digits that a file is written with.

    Where the inputs were rounded to ``dtype``, so may be the oracle's value: then the literal
    rounded likewise is accepted too (a maximum of rounded inputs).
    """
    if stated.shape != oracle.shape:
        return False
    if not is_float(stated):
        return bool(np.array_equal(stated, oracle))
    scale = np.max(np.abs(oracle), where=np.isfinite(oracle), initial=1e-30)
    near = [
        np.isclose(value, oracle, rtol=1e-6, atol=1e-7 * scale, equal_nan=True)
        for value in (stated, cast(stated, dtype).astype(np.float64))
    ]
    return bool((near[0] | near[1]).all())


def _unchanged(names: Any, state: Mapping[str, np.ndarray]) -> Iterator[str]:
    yield from state if list(names) == ["all"] else names
