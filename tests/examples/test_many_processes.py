"""Several processes train what one does, and lose nothing when one of them dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("orbax.checkpoint")

SCRIPT = Path(__file__).parents[2] / "examples" / "many_processes.py"
STEPS, EVERY = 6, 2


def run(
    folder: Path, processes: int, *arguments: str, steps: int = STEPS
) -> subprocess.CompletedProcess[str]:
    """Run the example, one device a process."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    command = [
        sys.executable, str(SCRIPT), "--processes", str(processes), "--out", str(folder),
        "--steps", str(steps), "--every", str(EVERY), *arguments,
    ]  # fmt: skip
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=300
    )


def losses(folder: Path, steps: int = STEPS) -> list[float]:
    """Return the losses that are in the checkpoint of a step."""
    found: list[float] = json.loads(
        (folder / "checkpoints" / str(steps) / "losses" / "metadata").read_text()
    )
    return found


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of one process."""
    folder = tmp_path_factory.mktemp("single")
    done = run(folder, 1)
    assert done.returncode == 0, done.stderr[-3000:]
    return losses(folder)


def test_two_processes_one_dies_and_nothing_is_lost(single: list[float], tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    done = run(whole, 2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 processes, 48 of 96 rows in each" in done.stdout
    assert losses(whole) == pytest.approx(single, rel=1e-5)

    died = run(parts, 2, "--die-at", "5")
    assert died.returncode == 1
    assert "process 1 was ended by SIGKILL: the run is stopped" in died.stderr
    assert "Give the same command again" in died.stderr
    assert sorted(path.name for path in (parts / "checkpoints").glob("[0-9]*")) == ["2", "4"]
    again = run(parts, 2)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "resumed at step 4" in again.stdout
    assert losses(parts) == losses(whole)


@pytest.mark.full
def test_four_processes_go_on_where_two_stopped(single: list[float], tmp_path: Path) -> None:
    for processes, steps in ((2, 4), (4, STEPS)):
        done = run(tmp_path, processes, steps=steps)
        assert done.returncode == 0, done.stderr[-3000:]
    assert "resumed at step 4" in done.stdout
    assert "4 processes, 24 of 96 rows in each" in done.stdout
    assert losses(tmp_path) == pytest.approx(single, rel=1e-5)
