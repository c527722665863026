"""The digits example, as a user runs it: it trains, resumes, and returns to PyTorch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

for package in ("sklearn", "matplotlib", "orbax.checkpoint", "torch"):
    pytest.importorskip(package)

SCRIPT = Path(__file__).parents[2] / "examples" / "digits" / "train.py"


def run(folder: Path) -> str:
    """Run the example for eight steps in a process of its own, and return what it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    command = [sys.executable, str(SCRIPT), "--out", str(folder), "--steps", "8", "--every", "4"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]  # else PyTorch scores otherwise
    return done.stdout


def history(folder: Path) -> dict[str, list[float]]:
    """Return the losses and scores that are in the last checkpoint."""
    kept = folder / "checkpoints" / "8" / "history" / "metadata"
    found: dict[str, list[float]] = json.loads(kept.read_text())
    return found


def test_digits_train_resume_and_return_to_torch(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    said = run(whole)
    assert "8 devices" in said
    assert "peak memory of a step on each device" in said
    assert (whole / "training.png").stat().st_size > 10_000
    losses = history(whole)["losses"]
    assert len(losses) == 8
    assert losses[-1] < 0.6 * losses[0]

    shutil.copytree(whole / "checkpoints" / "4", parts / "checkpoints" / "4")
    assert "resumed at step 4" in run(parts)
    # So the weights, the statistics and the optimizer's state were those of the fourth step.
    assert history(parts) == history(whole)
