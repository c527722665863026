"""Resolved cases as JSON: a consumer in any language needs no evaluator, generator or reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from . import accuracy
from .document import LayerSpec
from .oracle import Oracle, StepReference
from .resolve import ResolvedCase, ResolvedStep, resolve
from .runner import Selection


def exported(spec: LayerSpec, selection: Selection, oracle: Oracle | None) -> dict[str, Any]:
    """One layer file and its chosen cases, every tensor spelled out.

    With an oracle each step holds what is wanted of every tensor that is compared: an element is
    right where it is the wanted value, rounded to the dtype, or is off by at most its bound.
    Without, what stands literally in the file.
    """
    cases = [resolve(spec, case, dtype) for case, dtype in selection.of(spec)]
    return {"layer": dict(spec.data), "resolved": [_case(case, oracle) for case in cases]}


def _case(case: ResolvedCase, oracle: Oracle | None) -> dict[str, Any]:
    references = oracle.references(case) if oracle else []
    return {
        "id": case.id,
        "covers": case.case["covers"],
        "params": dict(case.params),
        "seed": case.seed,
        "initial": [asdict(item) for item in case.initial],
        "state": _tensors(case.state),
        "steps": [
            _step(case, item, references[index] if index < len(references) else None)
            for index, item in enumerate(case.steps)
        ],
    }


def _step(
    case: ResolvedCase, item: ResolvedStep, reference: StepReference | None
) -> dict[str, Any]:
    step, expect = item.step, item.expect
    return {
        "mode": step.mode,
        "inputs": _tensors(step.inputs),
        "arguments": dict(step.arguments),
        "cotangents": _tensors(step.cotangents or {}),
        "gradients": list(step.wrt) if step.cotangents else [],
        "output_shapes": {name: shape and list(shape) for name, shape in item.shapes.items()},
        "output_dtypes": dict(item.dtypes),
        "draws": item.draws,
        "accuracy": {
            name: {"class": chosen.kind, "argument": chosen.argument}
            for name, chosen in item.accuracy.items()
        },
        "expected": _tensors(item.literals),
        "wanted": dict(_wanted(case, item, reference)) if reference and not item.draws else {},
        "expect": {k: v for k, v in expect.items() if k not in ("outputs", "gradients", "state")},
    }


def _wanted(
    case: ResolvedCase, item: ResolvedStep, reference: StepReference
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, tensor in reference.tensors.items():
        chosen, dtype = item.accuracy[name], case.dtype_of(item, name)
        if chosen.kind == "shape":
            continue
        inner = case.spec.data["dtypes"].get("accumulate", {}).get(dtype)
        bound = accuracy.bound(tensor, dtype, chosen.kind, chosen.argument, inner)
        yield name, {**_tensor(tensor.oracle), "dtype": dtype, "bound": bound.tolist()}


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: _tensor(array) for name, array in arrays.items()}


def _tensor(array: np.ndarray) -> dict[str, Any]:
    floats = array.dtype.kind in "fV"
    values = array.astype(float) if floats else array
    return {"dtype": array.dtype.name, "shape": list(array.shape), "values": values.tolist()}
