"""What a TPU's compiler makes of some layers: their cost is exact, and so are the bars."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = (
    "MaxPool2d 3/2/1", "AvgPool2d 3/2/1", "AdaptiveAvgPool2d 7", "SiLU", "RMSNorm 512", "softmax",
    "Conv2d 1x1", "Conv2d groups=4", "Linear", "GELU", "Embedding 30000 x 512",
)  # fmt: skip


def _compile_for(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "compile-for", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_layers_cost_a_tpu_no_more_than_their_peers(tmp_path, tpu_compiler):
    named = [option for name in LAYERS for option in ("--layer", f"^{name} ")]
    options = ("--size", "middle", "--dtype", "float32", "--out", str(tmp_path))
    run = _compile_for(tpu_compiler, "tpu:v5e", *named, *options)
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "compiled-tpu.json").read_text())
    from benchmarks.compile_for import over

    rows = found["rows"]
    assert {row["name"] for row in rows} == set(LAYERS)
    assert [(row["name"], row["phase"], row["sides"]) for row in rows if over(row)] == []
    page = (tmp_path / "RESULTS-tpu.md").read_text()
    assert all(f"| {name} |" in page for name in LAYERS)


def test_a_long_compilation_ends_and_what_is_there_stays(tmp_path, tpu_compiler):
    def rows(*options: str) -> list[tuple[str, list[str], list[str]]]:
        named = ("--layer", "^Tanh ", "--size", "middle", "--dtype", "float32")
        run = _compile_for(tpu_compiler, "tpu:v5e", *named, *options, "--out", str(tmp_path))
        assert run.returncode == 0, run.stderr
        found = json.loads((tmp_path / "compiled-tpu.json").read_text())["rows"]
        return [(row["phase"], [*row["sides"]], [*row["stopped"]]) for row in found]

    sides = ["jaxnn", "plain"]
    ended = [("forward", [], sides), ("backward", [], sides)]
    assert rows("--limit", "0.001") == ended
    page = tmp_path / "RESULTS-tpu.md"
    assert "jaxnn not compiled in 0.001 s ✗" in page.read_text()
    assert rows() == ended
    assert rows("--anew") == [("forward", sides, []), ("backward", sides, [])]
    assert "not compiled" not in page.read_text()


def test_a_missing_compiler_is_named(tmp_path):
    if importlib.util.find_spec("jax_cuda12_plugin") is not None:
        pytest.skip("the compiler of GPUs is installed")
    run = _compile_for({**os.environ}, "gpu:h200", "--layer", "GELU", "--out", str(tmp_path))
    assert run.returncode == 2
    assert "gpu-aot" in run.stderr
    assert not list(tmp_path.iterdir())
