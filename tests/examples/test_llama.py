"""A large model is planned without its weights, loaded over devices, and judged by PyTorch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

ROOT = Path(__file__).parents[2]
# The compiled operators of torchvision, which transformers imports where it is installed, need not
# fit this build of torch.
SCRIPT = """
import runpy, sys
from benchmarks.zoo_models import declare_torchvision
declare_torchvision()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*arguments: str) -> str:
    """Run the example in a process of its own, and return what it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    }
    script = str(ROOT / "examples" / "llama" / "large.py")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, script, *arguments],
        capture_output=True, text=True, check=False, env=environment, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]  # else PyTorch is twice as near to float32
    return done.stdout


def test_small(tmp_path: Path) -> None:
    said = run("--out", str(tmp_path), "--small")
    assert "over model=8, a device" in said
    assert "filled 21: model.embed_tokens.weight" in said
    assert "without values" not in said
    assert "bfloat16 logits" in said


@pytest.mark.full
def test_as_large_as_it_says(tmp_path: Path) -> None:
    said = run("--out", str(tmp_path))
    found = re.search(
        r"imported, 6\.74B parameters: ([\d.]+) s of processor time.* at most ([\d.]+) GiB", said
    )
    assert found is not None
    assert float(found[1]) < 60
    assert float(found[2]) < 6
    # 2.1 GiB of weights, and what PyTorch and JAX are without them: nothing is there twice.
    loaded = re.search(r"loaded, 2\.\d+ GiB over 8 devices: .* at most ([\d.]+) GiB", said)
    assert loaded is not None
    assert float(loaded[1]) < 3.5
