"""Settings of every test: strict promotion, a compilation cache, and the day's sample."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator

import jax
import pytest

from jaxnn.backend import forget_programs, use_compilation_cache

use_compilation_cache()


@pytest.fixture(autouse=True)
def strict_promotion(request: pytest.FixtureRequest) -> Iterator[None]:
    """jaxnn promotes no dtype and no rank by itself; optax and the mutants do."""
    if request.node.get_closest_marker("standard_promotion"):
        yield
        return
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def pytest_runtest_teardown(item: pytest.Item) -> None:
    # Seldom, since to count is not for nothing.
    if hash(item.nodeid) % 25 == 0:
        forget_programs()


def pytest_configure(config: pytest.Config) -> None:
    # Set here, before pytest-xdist starts its workers, so that all of them collect the same tests.
    os.environ.setdefault("JAXNN_TEST_SEED", str(datetime.date.today().toordinal()))


def pytest_report_header() -> str:
    return f"sample of the day: JAXNN_TEST_SEED={os.environ['JAXNN_TEST_SEED']}"
