"""jaxnn and torchref against the specification, through nnspec.

All float32 cases run; of the other dtypes a sample that changes every day (JAXNN_TEST_SEED), and
with ``-m full`` everything.
"""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nnspec.golden import GoldenOracle
from nnspec.judge import judge
from nnspec.oracle import LiveOracle
from nnspec.registry import load_backend
from nnspec.specification import load_specification, specification_folder

SPECS = load_specification()
EVERY = [
    (spec.name, case["id"], dtype)
    for spec in SPECS.values()
    for case in spec.data["cases"]
    for dtype in spec.dtypes(case)
]
FLOAT32 = [item for item in EVERY if item[2] == "float32"]
OTHERS = [item for item in EVERY if item[2] != "float32"]
SAMPLE = random.Random(int(os.environ["JAXNN_TEST_SEED"])).sample(OTHERS, 120)


def ids(items: list[tuple[str, str, str]]) -> list[str]:
    return [f"{case}@{dtype}" for _, case, dtype in items]


@functools.cache
def backend(name: str) -> Any:
    return load_backend(name)


@functools.cache
def oracle(name: str) -> Any:
    if name == "golden":
        return GoldenOracle(specification_folder())
    return LiveOracle(backend(name))


def check(item: tuple[str, str, str], implementation: str, against: str) -> None:
    layer, case, dtype = item
    spec = SPECS[layer]
    verdict = judge(backend(implementation), oracle(against), spec, spec.cases[case], dtype)
    assert verdict.verdict == "pass", verdict.message


@pytest.mark.parametrize("item", FLOAT32, ids=ids(FLOAT32))
def test_float32(item: tuple[str, str, str]) -> None:
    check(item, "jaxnn", "torchref")


@pytest.mark.parametrize("item", SAMPLE, ids=ids(SAMPLE))
def test_sample_of_other_dtypes(item: tuple[str, str, str]) -> None:
    check(item, "jaxnn", "torchref")


@pytest.mark.full
@pytest.mark.parametrize("item", EVERY, ids=ids(EVERY))
def test_every_dtype(item: tuple[str, str, str]) -> None:
    check(item, "jaxnn", "torchref")


@pytest.mark.parametrize("layer", SPECS)
def test_reference_against_its_goldens(layer: str) -> None:
    for item in EVERY:
        if item[0] == layer:
            check(item, "torchref", "golden")


# What a processor has no instructions for, torch computes by other kernels.
WEAKEST_PROCESSOR = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
ON_THE_WEAKEST_PROCESSOR = """
import sys
from pathlib import Path
import torch
from nnspec.registry import load_backend
from nnspec.specification import load_layer, specification_folder
from nnspec.golden import GoldenOracle
from nnspec.judge import judge

assert torch.backends.cpu.get_cpu_capability() == "DEFAULT"
reference, goldens = load_backend("torchref"), GoldenOracle(specification_folder())
count = 0
for path in sys.argv[1:]:
    spec = load_layer(Path(path))
    for case in spec.data["cases"]:
        for dtype in {"float16", "bfloat16"} & set(spec.dtypes(case)):
            verdict = judge(reference, goldens, spec, case, dtype)
            assert verdict.verdict == "pass", f"{case['id']}@{dtype}: {verdict.message}"
            count += 1
print(count)
"""
SENSITIVE = [
    *("ConvTranspose1d", "ConvTranspose2d", "LazyConvTranspose3d", "Conv1d", "Conv2d", "conv_tbc"),
    *("Linear", "Bilinear", "BatchNorm2d", "LayerNorm", "LSTM", "MultiheadAttention"),
    *("Softmax", "AvgPool2d", "EmbeddingBag", "CrossEntropyLoss", "PairwiseDistance"),
]


@pytest.mark.parametrize(
    "layers", [SENSITIVE, pytest.param(list(SPECS), marks=pytest.mark.full)], ids=["some", "all"]
)
def test_reference_on_the_weakest_processor(layers: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_THE_WEAKEST_PROCESSOR, *(str(SPECS[n].path) for n in layers)],
        env={**os.environ, **WEAKEST_PROCESSOR},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) > 20 * len(layers)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from nnspec.cli import main
code = main(sys.argv[1:])
assert "torchref" not in sys.modules
sys.exit(code)
"""


def test_goldens_need_no_torch(tmp_path: Path) -> None:
    layers = ["--layer=MaxPool2d", "--layer=BatchNorm2d", "--layer=Embedding"]
    command = ["run", "--against", "golden", "--jobs", "1", "--out", str(tmp_path), *layers]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"]["pass"] == len(report["verdicts"]) > 50


def test_a_backend_in_another_language(tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    script = Path(__file__).parents[2] / "examples" / "process" / "maxpool2d.mjs"
    command = [
        *("run", "--backend", f"process:node {script}", "--layer", "MaxPool2d"),
        *("--against", "golden", "--jobs", "1", "--out", str(tmp_path)),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "nnspec.cli", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"]["pass"] == len(report["verdicts"]) > 25


def test_an_export_needs_nothing_else(tmp_path: Path) -> None:
    """The example in JavaScript judges itself by what `nnspec export` wrote, and finds a fault."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    script = Path(__file__).parents[2] / "examples" / "process" / "maxpool2d.mjs"
    choice = ["--layer", "MaxPool2d", "--dtype", "float32", "--out", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "nnspec.cli", "export", *choice], check=True)
    written = tmp_path / "MaxPool2d.json"
    count = len(json.loads(written.read_text())["resolved"])

    def judged() -> subprocess.CompletedProcess[str]:
        command = ["node", str(script), str(written)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = judged()
    assert (done.returncode, f"{count} of {count} cases pass" in done.stdout) == (0, True)
    document = json.loads(written.read_text())
    sound = next(case for case in document["resolved"] if "error" not in case["steps"][0]["expect"])
    sound["params"]["kernel_size"] = 1
    written.write_text(json.dumps(document))
    assert (judged().returncode, f"FAIL {sound['id']}: output." in judged().stdout) == (1, True)
