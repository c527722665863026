"""Backends in any language: a program that speaks JSON lines, with tensors in safetensors files.

The judge writes one request a line to the program's standard input and reads one answer a line
from its standard output; standard error is left alone. ``spec/README.md`` documents the four
requests (``describe``, ``create``, ``run``, ``stop``). :func:`serve` is the other side: it makes
any Python backend such a program (``nnspec serve NAME``).
"""

from __future__ import annotations

import contextlib
import json
import queue
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from .backend import (
    Backend,
    BackendDied,
    BackendError,
    Instance,
    Refused,
    Step,
    StepResult,
    Unsupported,
)
from .tensors import read_tensors, write_tensors


def plain(value: Any) -> Any:
    """JSON has no infinity: ``inf``, ``-inf`` and ``nan`` travel as strings."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def unplain(value: Any) -> Any:
    """The inverse of :func:`plain`."""
    if isinstance(value, dict):
        return {key: unplain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unplain(item) for item in value]
    return float(value) if value in ("inf", "-inf", "nan") else value


class ProcessBackend:
    """A backend in another process. It is stopped when it hangs longer than ``timeout`` seconds."""

    def __init__(self, command: str, *, timeout: float = 120.0):
        self.command, self.timeout = command, timeout
        self.tells_order = False  # of the state, which a file of safetensors loses
        try:
            self.process = subprocess.Popen(
                shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        except (OSError, ValueError, IndexError) as error:
            raise BackendError(f"backend process {command!r} does not start: {error}") from None
        self.folder = tempfile.TemporaryDirectory(prefix="nnspec-")
        self.answers: queue.Queue[str | None] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        try:
            self.description = self.ask({"op": "describe"}).get("backend", {})
            if not isinstance(self.description, dict):
                raise BackendError(f"'backend' is {self.description!r}, not an object")
        except (Refused, Unsupported, BackendError) as error:
            self.close()
            raise BackendError(f"backend process {command!r} does not describe: {error}") from None

    def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError):
            for line in self.process.stdout:
                self.answers.put(line)
        self.answers.put(None)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
          Refused, Unsupported: as the program answers.
          BackendError: the program died, hung, or wrote something that is no answer.
        """
        what = f"backend process {self.command!r}, request {request['op']!r}"
        try:
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(plain(request)) + "\n")
            self.process.stdin.flush()
            line = self.answers.get(timeout=self.timeout)
        except queue.Empty:
            self.process.kill()
            raise BackendDied(f"{what}: no answer within {self.timeout:g} s; stopped") from None
        except (OSError, ValueError):
            line = None
        if line is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=5)
            raise BackendDied(f"{what}: it died with exit code {self.process.returncode}")
        try:
            answer = json.loads(line)
        except json.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict) or "ok" not in answer:
            self.process.kill()
            raise BackendDied(f"{what}: the answer is no JSON object with 'ok': {line[:120]!r}")
        if answer["ok"]:
            return answer
        error = answer.get("error")
        if not isinstance(error, dict):
            error = {"message": error}
        message = str(error.get("message", "no message"))
        if error.get("kind") == "refused":
            raise Refused(message, error.get("category"))
        if error.get("kind") == "unsupported":
            raise Unsupported(message)
        raise BackendError(f"{what}: {message}")

    def describe(self) -> dict[str, Any]:
        """What the program says of itself."""
        return {"name": self.command, **self.description}

    def create(
        self, kind: str, name: str, params: Mapping[str, Any], *, dtype: str, seed: int = 0
    ) -> Instance:
        """Ask the program to construct."""
        if dtype not in self.description.get("dtypes", [dtype]):
            raise Unsupported(f"dtype {dtype}")
        path = Path(self.folder.name) / "state.safetensors"
        path.unlink(missing_ok=True)
        answer = self.ask(
            {"op": "create", "kind": kind, "name": name, "params": dict(params), "dtype": dtype,
             "seed": seed, "state": str(path)}
        )  # fmt: skip
        state, names = self.read(path), answer.get("names")
        self.tells_order = names is not None
        if names is not None:
            if not isinstance(names, list) or sorted(names) != sorted(state):
                raise BackendError(f"'names' is {names!r}, the state has {sorted(state)}")
            state = {name: state[name] for name in names}
        return _ProcessInstance(self, answer.get("instance"), state)

    def read(self, path: Path) -> dict[str, np.ndarray]:
        """Read what the program wrote.

        Raises:
          BackendError: it wrote nothing, or no safetensors file.
        """
        try:
            return read_tensors(path)
        except (OSError, ValueError) as error:
            raise BackendError(f"backend process {self.command!r}: {error}") from None

    def close(self) -> None:
        """Stop the program."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.write('{"op": "stop"}\n')
        with contextlib.suppress(OSError):  # it is gone, and what was to be written with it
            self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join(timeout=5)
        if not self.reader.is_alive():  # a child of the program may hold its output open
            self.process.stdout.close()
        self.folder.cleanup()


class _ProcessInstance:
    def __init__(self, backend: ProcessBackend, instance: Any, state: dict[str, np.ndarray]):
        self.backend, self.instance, self._state = backend, instance, state

    def state(self) -> dict[str, np.ndarray]:
        return dict(self._state)

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        self._state.update(state)

    def run(self, step: Step) -> StepResult:
        folder = Path(self.backend.folder.name)
        paths = {n: str(folder / f"{n}.safetensors") for n in ("request", "result")}
        tensors = {f"input.{n}": a for n, a in step.inputs.items()}
        tensors |= {f"state.{n}": a for n, a in self._state.items()}
        tensors |= {f"cotangent.{n}": a for n, a in (step.cotangents or {}).items()}
        write_tensors(paths["request"], tensors)
        Path(paths["result"]).unlink(missing_ok=True)
        self.backend.ask(
            {"op": "run", "instance": self.instance, "mode": step.mode, "tensors": paths["request"],
             "arguments": dict(step.arguments), "outputs": list(step.outputs),
             "gradients": list(step.wrt) if step.cotangents is not None else [],
             "seed": step.seed, "result": paths["result"]}
        )  # fmt: skip
        tensors = self.backend.read(Path(paths["result"]))
        groups: dict[str, dict[str, np.ndarray]] = {"output": {}, "gradient": {}, "state": {}}
        for name, array in tensors.items():
            kind, _, rest = name.partition(".")
            groups.get(kind, {})[rest] = array
        self._state.update(groups["state"])
        return StepResult(groups["output"], groups["gradient"], dict(self._state))


def serve(backend: Backend, requests: IO[str] = sys.stdin, answers: IO[str] = sys.stdout) -> None:
    """Answer JSON-line requests with a Python backend until ``stop`` or the end of input."""
    instances: list[Instance] = []
    for line in requests:
        try:
            request = unplain(json.loads(line))
            if request["op"] == "stop":
                return
            answer = {"ok": True, **_answer(backend, instances, request)}
        except Refused as error:
            answer = _failure("refused", error, error.category)
        except Unsupported as error:
            answer = _failure("unsupported", error)
        except Exception as error:
            answer = _failure("internal", error)
        answers.write(json.dumps(plain(answer)) + "\n")
        answers.flush()


def _failure(kind: str, error: Exception, category: str | None = None) -> dict[str, Any]:
    message = f"{type(error).__name__}: {error}" if kind == "internal" else str(error)
    return {"ok": False, "error": {"kind": kind, "category": category, "message": message}}


def _answer(backend: Backend, instances: list[Instance], request: dict[str, Any]) -> dict[str, Any]:
    if request["op"] == "describe":
        return {"backend": backend.describe()}
    if request["op"] == "create":
        instance = backend.create(
            request["kind"], request["name"], request["params"],
            dtype=request["dtype"], seed=request["seed"],
        )  # fmt: skip
        instances.append(instance)
        state = instance.state()
        write_tensors(request["state"], state)
        return {"instance": len(instances) - 1, "names": list(state)}
    if request["op"] != "run":
        raise ValueError(f"unknown request {request['op']!r}")
    groups: dict[str, dict[str, np.ndarray]] = {"input": {}, "state": {}, "cotangent": {}}
    for name, array in read_tensors(request["tensors"]).items():
        kind, _, rest = name.partition(".")
        groups[kind][rest] = array
    instance = instances[request["instance"]]
    instance.load(groups["state"])
    result = instance.run(
        Step(
            mode=request["mode"],
            inputs=groups["input"],
            outputs=request["outputs"],
            arguments=request["arguments"],
            seed=request["seed"],
            wrt=request["gradients"],
            cotangents=groups["cotangent"] if request["gradients"] else None,
        )
    )
    tensors = {f"output.{n}": a for n, a in result.outputs.items()}
    tensors |= {f"gradient.{n}": a for n, a in result.gradients.items()}
    tensors |= {f"state.{n}": a for n, a in result.state.items()}
    write_tensors(request["result"], tensors)
    return {}
