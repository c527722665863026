"""Where the wanted numbers come from: a live reference in float64, or recorded goldens."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from . import accuracy
from .accuracy import Reference
from .backend import Backend, Instance, Refused, Step
from .resolve import ResolvedCase, magnitudes, with_dtype
from .tensors import cast, is_float


@dataclass(frozen=True)
class StepReference:
    """The reference's tensors of one step: ``output.NAME``, ``gradient.NAME``, ``state.NAME``."""

    tensors: dict[str, Reference] = field(default_factory=dict)
    refused: str | None = None


class Oracle(Protocol):
    """A source of references."""

    def references(self, case: ResolvedCase) -> list[StepReference]:
        """One reference a step; a case whose construction is refused has a single refused one."""
        ...


def prepared(backend: Backend, case: ResolvedCase, dtype: str) -> Instance:
    """The case's layer in ``dtype``, with the state that the case starts from."""
    instance = backend.create(
        case.spec.kind, case.spec.name, case.params, dtype=dtype, seed=case.seed
    )
    if case.state:
        instance.load({n: cast(a, dtype) if is_float(a) else a for n, a in case.state.items()})
    return instance


def tensors_of(result: Any) -> dict[str, np.ndarray]:
    """Every tensor of a StepResult under ``output.``, ``gradient.`` and ``state.`` names."""
    return {
        **{f"output.{n}": a for n, a in result.outputs.items()},
        **{f"gradient.{n}": a for n, a in result.gradients.items()},
        **{f"state.{n}": a for n, a in result.state.items()},
    }


def needs(case: ResolvedCase, kind: str) -> bool:
    """Whether any accuracy class of the case's file or the case itself is ``kind``."""
    data = case.spec.data
    declared = [o["accuracy"] for o in data["outputs"]]
    declared += [data.get("gradients", {}).get("accuracy", "calibrated")]
    declared += [s.get("accuracy", "calibrated") for s in case.state_specs()]
    declared += list(case.case.get("accuracy", {}).values())
    return kind in str(declared)


class LiveOracle:
    """Runs the reference backend in float64, and in the judged dtype for its own error."""

    def __init__(self, backend: Backend):
        self.backend = backend
        self.variants = tuple(backend.describe().get("variants", ("default",)))

    def references(self, case: ResolvedCase) -> list[StepReference]:
        """One reference a step, as :class:`Oracle` says."""
        exact = self._run(case, "float64", "default")
        if exact and isinstance(exact[-1], Refused):
            refused = StepReference(refused=str(exact[-1]))
            return [*self._combine(case, exact[:-1]), refused]
        return self._combine(case, exact)

    def _combine(self, case: ResolvedCase, exact: list[Any]) -> list[StepReference]:
        attempts: list[list[Any]] = []
        if needs(case, "calibrated") and not case.spec.data.get("random"):
            attempts = [self._run(case, case.dtype, variant) for variant in self.variants]
        sizes = self._run(case, "float64", "default", absolute=True) if needs(case, "dot") else []
        references = []
        for index, oracle in enumerate(exact):
            tensors = {}
            for name, value in oracle.items():
                error = max(
                    (accuracy.largest_error(run[index][name], value) for run in attempts
                     if index < len(run) and not isinstance(run[index], Refused)),
                    default=0.0,
                )  # fmt: skip
                bound = sizes[index].get(name) if index < len(sizes) else None
                tensors[name] = Reference(value, error, bound)
            references.append(StepReference(tensors))
        return references

    def _run(
        self, case: ResolvedCase, dtype: str, variant: str, absolute: bool = False
    ) -> list[dict[str, np.ndarray] | Refused]:
        """The tensors of every step; the last item is the refusal, if one ended the sequence."""
        results: list[dict[str, np.ndarray] | Refused] = []
        try:
            instance = prepared(self.backend, case, dtype)
            if absolute:
                state = instance.state()
                instance.load({n: np.abs(a) for n, a in state.items() if is_float(a)})
            for item in case.steps:
                step: Step = item.step
                if dtype != case.dtype:
                    step = with_dtype(step, dtype)
                if absolute:
                    step = magnitudes(step)
                results.append(tensors_of(instance.run(replace(step, variant=variant))))
        except Refused as refusal:
            results.append(refusal)
        return results

