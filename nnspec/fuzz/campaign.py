"""Many configurations, each run on many values; what differs is made smaller and written down."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from rich.console import Console
from rich.progress import Progress

from ..backend import Backend
from ..document import LayerSpec
from ..judge import Verdict, judge
from ..oracle import LiveOracle
from .cases import Outside, fill
from .strategies import configurations

SHRINKING_SECONDS = 60  # spent on making a finding smaller


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
            except Outside:
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
