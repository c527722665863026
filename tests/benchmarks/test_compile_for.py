"""What a TPU's compiler makes of ten layers: their cost is exact, and so are the bars.

libtpu is found where it is installed, or in the folder that JAXNN_LIBTPU names. It stays out of
the environment of the other tests, where JAX would look for a TPU at every start.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = os.environ.get("JAXNN_LIBTPU")
needs_compiler = pytest.mark.skipif(
    not FOLDER and importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed (pip install -e '.[tpu-aot]')",
)
LAYERS = (
    "MaxPool2d 3/2/1", "AvgPool2d 3/2/1", "BatchNorm2d, training", "LayerNorm 512", "softmax",
    "Conv2d 1x1", "Conv2d depthwise 3x3", "Linear", "GELU", "Embedding 30000 x 512",
)  # fmt: skip


def _compile_for(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, (str(ROOT), FOLDER)))
    command = [sys.executable, "-m", "benchmarks", "compile-for", *arguments]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@needs_compiler
def test_ten_layers_cost_a_tpu_no_more_than_their_peers(tmp_path):
    named = [option for name in LAYERS for option in ("--layer", f"^{name} ")]
    run = _compile_for(
        "tpu:v5e", *named, "--size", "middle", "--dtype", "float32", "--out", str(tmp_path)
    )
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "compiled-tpu.json").read_text())
    from benchmarks.compile_for import over

    rows = found["rows"]
    assert {row["name"] for row in rows} == set(LAYERS)
    assert [(row["name"], row["phase"], row["sides"]) for row in rows if over(row)] == []
    page = (tmp_path / "RESULTS-tpu.md").read_text()
    assert all(f"| {name} |" in page for name in LAYERS)


def test_a_missing_compiler_is_named(tmp_path):
    if importlib.util.find_spec("jax_cuda12_plugin") is not None:
        pytest.skip("the compiler of GPUs is installed")
    run = _compile_for("gpu:h200", "--layer", "GELU", "--out", str(tmp_path))
    assert run.returncode == 2
    assert "gpu-aot" in run.stderr
    assert not list(tmp_path.iterdir())
