"""Many cases on many workers: planning, running, and collecting verdicts."""

from __future__ import annotations

import fnmatch
import multiprocessing
import multiprocessing.util
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .backend import Backend, BackendError
from .document import LayerSpec
from .judge import Verdict, judge
from .registry import load_backend, load_oracle
from .specification import load_specification
from .strict_yaml import SpecError

CHUNK = 4  # small, so that the first results come soon
DEATHS = 3  # a backend that dies this often in a row is not started again


@dataclass(frozen=True)
class Settings:
    """What a worker needs to know; picklable."""

    backend: str
    against: str
    folder: Path
    device: str | None = None
    timeout: float = 120.0
    profile: str = "float32"


@dataclass(frozen=True)
class Task:
    """Some cases of one layer in one dtype, so that one compiled program serves them."""

    layer: str
    cases: tuple[str, ...]
    dtype: str


@dataclass(frozen=True)
class Selection:
    """Which cases to run."""

    layers: Sequence[str] = ()
    families: Sequence[str] = ()
    cases: Sequence[str] = ()
    dtypes: Sequence[str] = ("float32",)
    level: str = "quirk"

    def select(self, specs: dict[str, LayerSpec]) -> list[tuple[LayerSpec, Any, str]]:
        """The chosen cases, each with its dtype.

        Raises:
          SpecError: a filter matches nothing.
        """
        for label, patterns, names in (
            ("layer", self.layers, list(specs)),
            ("family", self.families, [s.family for s in specs.values()]),
        ):
            for pattern in patterns:
                if not fnmatch.filter(names, pattern):
                    raise SpecError(f"--{label} {pattern!r} matches nothing; see: nnspec list")
        chosen = [(spec, *found) for spec in specs.values() for found in self.of(spec)]
        if not chosen:
            filters = [f"--layer {name!r}" for name in self.layers]
            filters += [f"--family {name!r}" for name in self.families]
            filters += [f"--case {name!r}" for name in self.cases]
            filters += [f"--dtype {name}" for name in self.dtypes]
            filters += ["--level must"] if self.level == "must" else []
            raise SpecError(f"no case matches {' '.join(filters)}; see: nnspec list")
        return chosen

    def of(self, spec: LayerSpec) -> Iterator[tuple[Any, str]]:
        """The chosen cases of one file, each with its dtype; there may be none."""
        if not (_matches(spec.name, self.layers) and _matches(spec.family, self.families)):
            return
        for case in spec.data["cases"]:
            if not _matches(case["id"], self.cases):
                continue
            if self.level == "must" and spec.level(case) != "must":
                continue
            for dtype in spec.dtypes(case):
                if not self.dtypes or dtype in self.dtypes:
                    yield case, dtype


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def plan(chosen: Sequence[tuple[LayerSpec, Any, str]]) -> list[Task]:
    """Chunks of at most CHUNK cases of one layer and dtype, in file order."""
    groups: dict[tuple[str, str], list[str]] = {}
    for spec, case, dtype in chosen:
        groups.setdefault((spec.name, dtype), []).append(case["id"])
    return [
        Task(layer, tuple(cases[i : i + CHUNK]), dtype)
        for (layer, dtype), cases in groups.items()
        for i in range(0, len(cases), CHUNK)
    ]


class Worker:
    """Backend, oracle and specification of one process."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.specs = load_specification(settings.folder)
        self.oracle = load_oracle(settings.against, settings.folder)
        self.backend = self._start()
        self.deaths = 0

    def _start(self) -> Backend:
        settings = self.settings
        return load_backend(settings.backend, device=settings.device, timeout=settings.timeout)

    def close(self) -> None:
        """Close backend and oracle."""
        self.backend.close()
        if self.oracle:
            self.oracle.close()

    def run(self, task: Task) -> list[Verdict]:
        """The verdicts of a task; a backend that dies is started again, but not for ever."""
        return [self.judge(task, case) for case in task.cases]

    def describe(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the backend and the reference say of themselves."""
        judged = {**self.backend.describe(), "profile": self.settings.profile}
        return judged, self.oracle.describe() if self.oracle else {}

    def judge(self, task: Task, case: str) -> Verdict:
        """The verdict of one case."""
        spec = self.specs[task.layer]
        if self.deaths >= DEATHS:
            return not_run(
                spec, case, task.dtype, f"not run: the backend died {DEATHS} times in a row"
            )
        verdict = judge(
            self.backend, self.oracle, spec, spec.cases[case], task.dtype,
            profile=self.settings.profile,
        )  # fmt: skip
        if not verdict.details.get("backend_died"):
            self.deaths = 0
            return verdict
        self.deaths += 1
        if self.deaths < DEATHS:
            try:
                self.backend.close()
                self.backend = self._start()
            except BackendError:
                self.deaths = DEATHS
        return verdict


def not_run(spec: LayerSpec, case: str, dtype: str, why: str) -> Verdict:
    """The verdict of a case that did not run, which fails the run."""
    claims = tuple(spec.cases[case]["covers"])
    return Verdict(case, dtype, spec.name, spec.family, "error", why, claims)


_worker: Worker | None = None
_failure: Exception | None = None


def _initialise(settings: Settings) -> None:
    global _worker, _failure  # noqa: PLW0603 (one worker a process)
    try:
        _worker = Worker(settings)
    except Exception as error:
        # Raised by every task instead: from here it would only be seen as a broken pool.
        _failure = error
        return
    multiprocessing.util.Finalize(None, _worker.close, exitpriority=1)


def _run_task(task: Task) -> list[Verdict]:
    return _ready().run(task)


def _describe() -> tuple[dict[str, Any], dict[str, Any]]:
    return _ready().describe()


def _ready() -> Worker:
    if _worker is None:
        assert _failure is not None
        raise _failure
    return _worker


class Session:
    """Workers that run tasks; use as a context. With one job, the worker is this process.

    The backends are loaded in the workers alone: what they say of themselves comes from there.
    """

    def __init__(self, settings: Settings, tasks: Sequence[Task], jobs: int = 1):
        self.tasks = tasks
        self.worker = Worker(settings) if jobs <= 1 else None
        self.pool = None
        if self.worker is None:
            context = multiprocessing.get_context("spawn")
            self.pool = ProcessPoolExecutor(jobs, context, _initialise, (settings,))
            self.description = self.pool.submit(_describe)
            self.futures = {self.pool.submit(_run_task, task): task for task in tasks}

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.worker:
            self.worker.close()
        if self.pool:
            self.pool.shutdown(cancel_futures=True)

    def describe(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The backend's and the reference's description.

        Raises:
          BackendError, GoldenError: what keeps the workers from starting.
        """
        if self.worker:
            return self.worker.describe()
        try:
            return self.description.result()
        except BrokenProcessPool as error:
            raise BackendError(f"the workers died at their start: {error}") from None

    def verdicts(self, specs: Mapping[str, LayerSpec]) -> Iterator[Verdict]:
        """Verdicts as they come; every case of every task gets one, whatever befalls a worker."""
        if self.worker:
            for task in self.tasks:
                for case in task.cases:
                    yield self.worker.judge(task, case)
            return
        for future in as_completed(self.futures):
            task = self.futures[future]
            try:
                yield from future.result()
            except Exception as error:
                why = f"the worker failed: {type(error).__name__}: {error}"
                for case in task.cases:
                    yield not_run(specs[task.layer], case, task.dtype, why)
