"""The judge can fail: each wrong layer that a file names is caught by the cases that claim it."""

from __future__ import annotations

from typing import Any

import pytest
from mutants import MUTANTS, build

from jaxnn.backend import JaxnnBackend
from nnspec import LayerSpec, load_specification
from nnspec.golden import GoldenOracle
from nnspec.judge import Verdict, judge
from nnspec.specification import specification_folder

FOLDER = specification_folder()
SPECS = load_specification(FOLDER)
LISTED = [m["id"] for spec in SPECS.values() for m in spec.data.get("mutants", ())]

# Inside the judge a warning would be an error, and so no verdict on the mutant.
pytestmark = [pytest.mark.filterwarnings("ignore:softmax"), pytest.mark.standard_promotion]


@pytest.fixture(scope="module")
def oracle() -> GoldenOracle:
    return GoldenOracle(FOLDER)


def test_every_listed_mutant_is_registered_and_no_other():
    assert sorted(MUTANTS) == sorted(LISTED)


@pytest.mark.parametrize("mutant", LISTED)
def test_mutant_is_caught(mutant: str, oracle: GoldenOracle):
    spec = SPECS[mutant.partition(".")[0]]
    backend = JaxnnBackend(overrides={spec.name: build(mutant)})
    claiming = [case for case in spec.data["cases"] if mutant in case.get("catches", ())]
    for case in claiming:
        verdict = _judged(backend, oracle, spec, case)
        assert verdict.verdict == "fail", f"{case['id']}: {verdict.verdict}: {verdict.message}"

    # Whoever gets everything wrong is no mutant.
    others = [case for case in spec.data["cases"] if case not in claiming and _runs(case)]
    verdicts = []
    for case in others:
        verdicts.append(_judged(backend, oracle, spec, case))
        if verdicts[-1].verdict == "pass":
            return
    assert not others, "passes no other case: " + "; ".join(
        f"{v.case}: {v.message}" for v in verdicts
    )


def _judged(
    backend: JaxnnBackend, oracle: GoldenOracle, spec: LayerSpec, case: dict[str, Any]
) -> Verdict:
    return judge(backend, oracle, spec, case, spec.dtypes(case)[0])


def _runs(case: dict[str, Any]) -> bool:
    """Whether a case calls the layer, and the call is no refused one."""
    refused = any(claim.partition(".")[2].startswith("E") for claim in case["covers"])
    return not refused and not case.get("initial")
