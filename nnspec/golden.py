"""Goldens: the reference's numbers on disk, so that a machine without the reference can judge.

``spec/goldens/<family>/<Layer>.safetensors`` holds the float64 oracle of every case (outputs,
gradients and state after each step), ``<Layer>.json`` beside it says which tensor serves which
dtype and how far the reference itself was off in that dtype. ``spec/goldens.lock`` pins the
reference's version, each file's digest and the digest of the layer file it was recorded from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .accuracy import Reference
from .document import LayerSpec
from .oracle import LiveOracle, StepReference
from .resolve import ResolvedCase, resolve
from .tensors import is_float, read_tensors, write_tensors

FORMAT = 1
_REMEDY = "restore it, or run: nnspec record"
_PINNED = {"revision", "spec", "tensors", "manifest"}


class GoldenError(ValueError):
    """A golden is missing, damaged or stale; the message names the file and the remedy."""


def digest(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in the order of the names."""
    h = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name]
        h.update(f"{name}\0{array.dtype.name}\0{list(array.shape)}\0".encode())
        h.update(np.ascontiguousarray(array).tobytes())
    return h.hexdigest()


def spec_digest(spec: LayerSpec) -> str:
    """What of a layer file goldens depend on: everything but the prose."""
    data = {
        k: v for k, v in spec.data.items() if k not in ("summary", "source", "mutants", "waivers")
    }
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


@dataclass
class Recording:
    """The goldens of one layer file."""

    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    cases: dict[str, dict[str, Any]] = field(default_factory=dict)


def record_layer(spec: LayerSpec, oracle: LiveOracle) -> Recording:
    """Run the reference over every case and dtype of a layer file."""
    recording = Recording()
    for case in spec.data["cases"]:
        stored: list[ResolvedCase] = []
        for dtype in spec.dtypes(case):
            resolved = resolve(spec, case, dtype)
            twin = next((other for other in stored if other.key == resolved.key), None)
            references = oracle.references(resolved)
            recording.cases[resolved.id] = _describe(resolved, references, (twin or resolved).id)
            if twin is None:
                stored.append(resolved)
                recording.tensors.update(_tensors(resolved, references))
    return recording


def _describe(case: ResolvedCase, references: list[StepReference], oracle: str) -> dict[str, Any]:
    steps = []
    for index, reference in enumerate(references):
        names = [] if _draws(case, index) else list(reference.tensors)
        errors = {n: reference.tensors[n].error for n in names if reference.tensors[n].error}
        steps.append({"tensors": names, "errors": errors, "refused": reference.refused is not None})
    return {"oracle": oracle, "steps": steps}


def _tensors(case: ResolvedCase, references: list[StepReference]) -> dict[str, np.ndarray]:
    tensors = {}
    for index, reference in enumerate(references):
        if not _draws(case, index):
            for name, item in reference.tensors.items():
                tensors[f"{case.id}/{index}/{name}"] = item.oracle
                if item.magnitude is not None and is_float(item.oracle):
                    tensors[f"{case.id}/{index}/magnitude.{name}"] = item.magnitude
    return tensors


def _draws(case: ResolvedCase, index: int) -> bool:
    return index < len(case.steps) and case.steps[index].draws


def paths(folder: Path, spec: LayerSpec) -> tuple[Path, Path]:
    """The safetensors file and the manifest of a layer's goldens."""
    base = folder / "goldens" / spec.family / spec.name
    return base.with_suffix(".safetensors"), base.with_suffix(".json")


def read_lock(folder: Path) -> dict[str, Any]:
    """``goldens.lock``, or an empty one."""
    path = folder / "goldens.lock"
    if not path.is_file():
        return {"format": FORMAT, "reference": {}, "layers": {}}
    try:
        lock = json.loads(path.read_text())
        sound = lock["format"] == FORMAT and isinstance(lock["reference"], dict)
        sound = sound and all(pinned.keys() >= _PINNED for pinned in lock["layers"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise GoldenError(
            f"{path}: no sound lock file of format {FORMAT}; restore it, or delete it and run: "
            "nnspec record"
        )
    return lock


def write(
    folder: Path, recordings: Mapping[str, tuple[LayerSpec, Recording]], reference: dict[str, Any]
) -> None:
    """Write the goldens of these layers and pin them in the lock.

    Raises:
      GoldenError: the lock is damaged, or pins other layers to another reference.
    """
    lock = read_lock(folder)
    if lock["reference"] != reference and not lock["layers"].keys() <= recordings.keys():
        raise GoldenError(
            f"{folder / 'goldens.lock'}: pins {lock['reference']}, but this reference is "
            f"{reference}; record all layers: nnspec record"
        )
    lock["reference"] = reference
    for name, (spec, recording) in recordings.items():
        tensors_path, manifest_path = paths(folder, spec)
        tensors_path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(tensors_path, recording.tensors)
        manifest = json.dumps({"format": FORMAT, "cases": recording.cases}, indent=1) + "\n"
        manifest_path.write_text(manifest)
        lock["layers"][name] = {
            "revision": spec.data["revision"],
            "spec": spec_digest(spec),
            "tensors": digest(recording.tensors),
            "manifest": hashlib.sha256(manifest.encode()).hexdigest(),
        }
    lock["layers"] = dict(sorted(lock["layers"].items()))
    path = folder / "goldens.lock"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(lock, indent=1) + "\n")
    part.replace(path)


def read(
    folder: Path, spec: LayerSpec, lock: Mapping[str, Any], *, stale: bool = False
) -> Recording:
    """The goldens of one layer, checked against the lock.

    With ``stale`` those of another revision of the layer file are accepted.

    Raises:
      GoldenError: missing, truncated, damaged, or recorded from another layer file.
    """
    tensors_path, manifest_path = paths(folder, spec)
    pinned = lock["layers"].get(spec.name)
    if pinned is None or not tensors_path.is_file() or not manifest_path.is_file():
        raise GoldenError(f"{tensors_path}: no goldens of {spec.name}; run: nnspec record")
    if not stale and pinned["spec"] != spec_digest(spec):
        raise GoldenError(
            f"{tensors_path}: recorded from another revision of {spec.path}; "
            f"run: nnspec record --layer {spec.name}"
        )
    try:
        tensors = read_tensors(tensors_path)
    except (ValueError, OSError) as error:
        raise GoldenError(f"{error}; {_REMEDY}") from None
    manifest = manifest_path.read_bytes()
    found = {"tensors": digest(tensors), "manifest": hashlib.sha256(manifest).hexdigest()}
    for part, path in (("tensors", tensors_path), ("manifest", manifest_path)):
        if found[part] != pinned[part]:
            raise GoldenError(f"{path}: changed since goldens.lock was written; {_REMEDY}")
    return Recording(tensors, json.loads(manifest)["cases"])


class GoldenOracle:
    """References read from disk."""

    def __init__(self, folder: Path):
        self.folder, self.lock = folder, read_lock(folder)
        self.recordings: dict[str, Recording] = {}

    def describe(self) -> dict[str, Any]:
        """The reference that the goldens were recorded from."""
        return dict(self.lock["reference"])

    def close(self) -> None:
        """Nothing is held."""

    def references(self, case: ResolvedCase) -> list[StepReference]:
        """One reference a step, as :class:`nnspec.oracle.Oracle` says."""
        name = case.spec.name
        if name not in self.recordings:
            self.recordings[name] = read(self.folder, case.spec, self.lock)
        recording = self.recordings[name]
        entry = recording.cases.get(case.id)
        if entry is None:
            raise GoldenError(f"no golden of {case.id}; run: nnspec record --layer {name}")
        references = []
        for index, step in enumerate(entry["steps"]):
            prefix = f"{entry['oracle']}/{index}/"
            tensors = {
                n: Reference(
                    recording.tensors[prefix + n],
                    step["errors"].get(n, 0.0),
                    recording.tensors.get(f"{prefix}magnitude.{n}"),
                )
                for n in step["tensors"]
            }
            references.append(StepReference(tensors, "recorded" if step["refused"] else None))
        return references


def differences(old: Recording, new: Recording) -> Iterable[str]:
    """A line for each tensor that a new recording changes, with the largest difference."""
    for name in sorted(old.tensors.keys() | new.tensors.keys()):
        if name not in new.tensors:
            yield f"- {name}"
        elif name not in old.tensors:
            yield f"+ {name}"
        else:
            a, b = old.tensors[name], new.tensors[name]
            if a.shape != b.shape or a.dtype != b.dtype:
                yield f"~ {name}: {a.dtype}{list(a.shape)} -> {b.dtype}{list(b.shape)}"
            elif a.tobytes() != b.tobytes():
                scale = max(float(np.max(np.abs(a), where=np.isfinite(a), initial=0.0)), 1e-300)
                with np.errstate(invalid="ignore"):
                    gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
                gap = np.max(gap, where=np.isfinite(gap), initial=0.0)
                yield f"~ {name}: largest difference {gap:.3g} ({gap / scale:.1g} of its scale)"
