"""Models that are imported once are called at sizes never seen, as the example shows."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
if importlib.util.find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed", allow_module_level=True)

ROOT = Path(__file__).parents[2]
# The compiled operators of torchvision need not fit this build of torch.
SCRIPT = """
import runpy, sys
from benchmarks.zoo_models import declare_torchvision
declare_torchvision()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_three_models_at_sizes_that_their_imports_have_not_seen() -> None:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(ROOT / "examples/sizes/sizes.py"), "--small"],
        capture_output=True, text=True, check=False, env=environment, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("proved") == 3
    # What comes again is not compiled again.
    assert done.stdout.count("compiled") == 3 + 3 + 4
