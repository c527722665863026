"""Settings of every test: strict promotion, a compilation cache, and the day's sample."""

from __future__ import annotations

import datetime
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture
def tpu_compiler() -> dict[str, str]:
    """The environment of a process in which a TPU's compiler is found; skips where there is none.

    It is installed, or lies in the folder that JAXNN_LIBTPU names, apart from the environment of
    the other tests, where JAX would look for a chip at every start.
    """
    folder = os.environ.get("JAXNN_LIBTPU")
    if not folder and importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed (pip install -e '.[tpu-aot]')")
    root = str(Path(__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, folder)))}


def pytest_runtest_teardown(item: pytest.Item) -> None:
    # Seldom, since to count is not for nothing.
    if hash(item.nodeid) % 25 == 0:
        forget_programs()


def pytest_configure(config: pytest.Config) -> None:
    # Set here, before pytest-xdist starts its workers, so that all of them collect the same tests.
    os.environ.setdefault("JAXNN_TEST_SEED", str(datetime.date.today().toordinal()))


def pytest_report_header() -> str:
    return f"sample of the day: JAXNN_TEST_SEED={os.environ['JAXNN_TEST_SEED']}"
