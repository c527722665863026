"""Where the wanted numbers come from: a live reference in float64, or recorded goldens."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from . import accuracy
from .accuracy import Reference
from .backend import Backend, Instance, Refused
from .generators import lattice
from .resolve import ResolvedCase, changed, with_dtype
from .strict_yaml import SpecError
from .tensors import UNIT_ROUNDOFF, cast, is_float


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

    def describe(self) -> dict[str, Any]:
        """Name and versions of the reference."""
        ...

    def close(self) -> None:
        """Release what the oracle holds."""
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


NEIGHBOURS = range(1, 9)  # seeds
DISTANCE = 16  # in roundings of the judged dtype
ROUNDINGS = 4  # of each element, on its way through a chain such as centre, scale, multiply, add


class LiveOracle:
    """Runs the reference backend in float64, and in the judged dtype for its own error.

    The reference's error in a tensor is the largest over its honest variants (kernels, memory
    layouts) and over a few neighbouring inputs, up to 16 roundings away, each against the float64
    run on the same values: one run that happens to round well is no measure. Nor is it taken for
    less than what four roundings of inputs, state and cotangents make, by the neighbours' float64
    runs: the reference may sum in float64 where the dtype's own arithmetic is as good an answer.
    For float64 itself the error is that of float32, scaled by the ratio of the unit roundoffs, and
    no less than what four roundings make in the reference's float64: no oracle is exact there.
    """

    def __init__(self, backend: Backend):
        self.backend = backend
        self.variants = tuple(backend.describe().get("variants", ("default",)))

    def describe(self) -> dict[str, Any]:
        """What the reference says of itself."""
        return self.backend.describe()

    def close(self) -> None:
        """Close the backend."""
        self.backend.close()

    def references(self, case: ResolvedCase) -> list[StepReference]:
        """One reference a step, as :class:`Oracle` says."""
        exact = self._run(case, "float64")
        if any("error" in item.expect for item in case.steps):
            # Whether a dtype is refused shows only in that dtype; the steps before are exact.
            judged = self._run(case, case.dtype)
            before = [result for result in exact if not isinstance(result, Refused)]
            refusals = [result for result in judged if isinstance(result, Refused)]
            exact = [*before[: len(judged) - len(refusals)], *refusals]
        if exact and isinstance(exact[-1], Refused):
            refused = StepReference(refused=str(exact[-1]))
            return [*self._combine(case, exact[:-1]), refused]
        return self._combine(case, exact)

    def _combine(self, case: ResolvedCase, exact: list[Any]) -> list[StepReference]:
        errors = functools.cache(lambda: self._errors(case, exact))
        sizes: list[Any] = []
        if needs(case, "dot") or needs(case, "sum"):
            sizes = self._run(
                case, "float64", change=_absolute(cotangents_alone=needs(case, "sum"))
            )
        references = []
        for index, oracle in enumerate(exact):
            tensors = {}
            for name, value in oracle.items():
                bound = None
                if index < len(sizes):
                    if isinstance(sizes[index], Refused):
                        raise SpecError(
                            f"{case.id}: the reference refuses the case's absolute values, which "
                            f"dot and sum are judged by: {sizes[index]}"
                        )
                    bound = sizes[index].get(name)
                measure = partial(_error_of, errors, index, name)
                tensors[name] = Reference(value, measure, bound)
            references.append(StepReference(tensors))
        return references

    def _errors(self, case: ResolvedCase, exact: list[Any]) -> list[dict[str, float]]:
        """The reference's own largest error in each tensor of each step."""
        worst: list[dict[str, float]] = [{} for _ in exact]
        if not needs(case, "calibrated") or any(item.draws for item in case.steps):
            return worst
        measured = "float32" if case.dtype == "float64" else case.dtype
        scale = UNIT_ROUNDOFF[case.dtype] / UNIT_ROUNDOFF[measured]
        runs = [(self._run(case, measured, variant=v), exact, scale) for v in self.variants]
        for seed in NEIGHBOURS:
            change = _neighbour(seed, measured)
            shifted = self._run(case, "float64", change=change)
            runs.append((self._run(case, measured, change=change), shifted, scale))
            runs.append((shifted, exact, scale * ROUNDINGS / DISTANCE))
            if case.dtype == "float64":
                near = _neighbour(seed, "float64", ROUNDINGS)
                runs.append((self._run(case, "float64", change=near), exact, 1.0))
        for approximate, oracle, weight in runs:
            for found, got, wanted in zip(worst, approximate, oracle, strict=False):
                if isinstance(got, Refused) or isinstance(wanted, Refused):
                    break
                for name, value in wanted.items():
                    error = weight * accuracy.largest_error(got[name], value)
                    found[name] = max(found.get(name, 0.0), error)
        return worst

    def _run(
        self,
        case: ResolvedCase,
        dtype: str,
        *,
        variant: str = "default",
        change: Callable[[str, np.ndarray], np.ndarray] | None = None,
    ) -> list[dict[str, np.ndarray] | Refused]:
        """The tensors of every step; the last item is the refusal, if one ended the sequence.

        ``change`` maps every float tensor that goes in, given its kind (input, state, cotangent).
        """
        results: list[dict[str, np.ndarray] | Refused] = []
        try:
            instance = prepared(self.backend, case, dtype)
            if change:
                state = {n: a for n, a in instance.state().items() if is_float(a)}
                instance.load({n: change("state", a) for n, a in state.items()})
            for item in case.steps:
                step = with_dtype(item.step, dtype) if dtype != case.dtype else item.step
                if change:
                    step = changed(step, change)
                results.append(tensors_of(instance.run(replace(step, variant=variant))))
        except Refused as refusal:
            results.append(refusal)
        return results


def _error_of(errors: Callable[[], list[dict[str, float]]], index: int, name: str) -> float:
    return errors()[index].get(name, 0.0)


def _neighbour(
    seed: int, dtype: str, distance: int = DISTANCE
) -> Callable[[str, np.ndarray], np.ndarray]:
    """Values up to ``distance`` roundings of ``dtype`` away, exact in it and so in float64 too."""

    def change(_: str, array: np.ndarray) -> np.ndarray:
        unit = UNIT_ROUNDOFF[dtype] * distance / 128
        factor = 1.0 + lattice(array.shape, seed=seed, scale=unit)
        return cast(cast(array.astype(np.float64) * factor, dtype), array.dtype.name)

    return change


def _absolute(cotangents_alone: bool) -> Callable[[str, np.ndarray], np.ndarray]:
    def change(kind: str, array: np.ndarray) -> np.ndarray:
        return array if cotangents_alone and kind != "cotangent" else np.abs(array)

    return change
