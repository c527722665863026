"""A tiny layer for tests of nnspec: its layer file, and a backend for it that may have a fault.

`python half.py FAULT` is that backend as a process.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from nnspec.backend import Refused, Step, StepResult, Unsupported
from nnspec.process import serve
from nnspec.tensors import cast, is_float

LAYER = """\
schema: nnspec/1
kind: layer
name: Half
family: activation
revision: 1
summary: Half of the input, and a count of the calls.
source: ["https://example.org/half"]

params:
  - {name: scale, type: float, default: 0.5, domain: "v > 0", sample: [0.5, 2.0]}
let:
  - {name: twice, is: "2*scale"}
inputs:
  - {name: input, shape: ["N?", C], dtype: T}
outputs:
  - {name: output, shape: "same_as(input)", dtype: T, accuracy: exact}
state:
  - {name: calls, kind: buffer, shape: [], dtype: int64, init: 0, accuracy: exact}

behaviours:
  - {id: Half.B01, level: must, axis: forward, text: "output = scale * input."}
  - {id: Half.B02, level: quirk, axis: state, text: "Every call counts."}
errors:
  - {id: Half.E01, phase: construct, when: "scale <= 0", category: invalid_param, text: "scale > 0"}
dtypes: {must: [float32], may: [float64]}
gradients: {wrt: [input], accuracy: exact}
mutants:
  - {id: Half.M01, text: "doubles"}

cases:
  - id: Half/by-hand
    covers: [Half.B01]
    catches: [Half.M01]
    params: {}
    inputs: {input: [2, 4]}
    expect: {outputs: {output: [1, 2]}}
  - id: Half/two-calls
    covers: [Half.B02]
    params: {scale: 2.0}
    steps:
      - {inputs: {input: {gen: lattice, shape: [3, 2]}}}
      - {inputs: {input: [[1]]}, expect: {state: {calls: 2}}}
  - id: Half/negative
    covers: [Half.E01]
    params: {scale: -1.0}
    inputs: {input: [1]}
    expect: {error: Half.E01}
"""


def specification(folder: Path, text: str = LAYER) -> Path:
    """Write a specification that holds this layer file alone; return the file."""
    schema = Path(__file__).resolve().parents[2] / "spec" / "schema.json"
    path = folder / "layers" / "activation" / "Half.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(schema, folder)
    path.write_text(text)
    return path


def changed(old: str, new: str) -> str:
    """Return the layer file with one change."""
    assert LAYER.count(old) == 1, f"{old!r} stands {LAYER.count(old)} times in the file"
    return LAYER.replace(old, new)


def process(fault: str = "") -> str:
    """The name under which nnspec starts this file as a backend."""
    return "process:" + shlex.join([sys.executable, __file__, fault])


class HalfBackend:
    """The layer in NumPy."""

    def __init__(self, fault: str = ""):
        self.fault = fault
        self.closed = False

    def describe(self) -> dict[str, Any]:
        return {"name": "half", "versions": {"half": "1"}}

    def create(
        self, kind: str, name: str, params: dict[str, Any], *, dtype: str, seed: int = 0
    ) -> _Half:
        if name != "Half":
            raise Unsupported(f"no {kind} {name}")
        scale = params.get("scale", 0.5)
        if scale <= 0 and self.fault != "accepts":
            raise Refused("scale must be positive", "invalid_param")
        return _Half(scale, self.fault)

    def close(self) -> None:
        self.closed = True


class _Half:
    def __init__(self, scale: float, fault: str):
        self.scale, self.fault, self.calls = scale, fault, 0

    def state(self) -> dict[str, np.ndarray]:
        return {} if self.fault == "no-state" else {"calls": np.array(self.calls)}

    def load(self, state: dict[str, np.ndarray]) -> None:
        self.calls = int(state.get("calls", self.calls))

    def run(self, step: Step) -> StepResult:
        if self.fault == "dies":
            sys.exit(3)
        if self.fault == "hangs":
            time.sleep(60)
        if self.fault == "chats":
            print("all is well")
        if self.fault == "breaks":
            raise RuntimeError("out of order")
        self.calls += self.fault != "does-not-count"
        outputs = {"output": self._times(step.inputs["input"])}
        if self.fault == "wrong":
            outputs["output"] = outputs["output"] + 1
        if self.fault == "no-output":
            outputs = {}
        gradients = {}
        if step.cotangents is not None and self.fault != "no-gradient":
            gradients = {"input": self._times(step.cotangents["output"])}
        return StepResult(outputs, gradients, self.state())

    def _times(self, array: np.ndarray) -> np.ndarray:
        assert is_float(array)
        return cast(array * self.scale, array.dtype.name)


def main(fault: str) -> None:
    """Serve the backend on standard input and output, with a fault that only a process has."""
    if fault == "dies-at-start":
        sys.exit(3)
    if fault == "chats-at-start":
        print("welcome")
    backend = HalfBackend(fault)
    if fault == "describes-nonsense":
        backend.describe = lambda: "half"  # type: ignore[method-assign,assignment,return-value]
    if fault in ("writes-nothing", "writes-half"):
        from nnspec import process

        def write(path: str, *_: Any) -> None:
            if fault == "writes-half":
                Path(path).write_bytes(b"\x40\0\0\0\0\0\0\0{")

        process.write_tensors = write
    serve(backend)


if __name__ == "__main__":
    main(sys.argv[1])
