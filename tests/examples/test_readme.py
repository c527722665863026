"""The README's Python blocks run, in order, in one namespace; its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nnspec.arguments import parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.standard_promotion
def test_python_blocks_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)


def test_commands_are_of_the_command_line() -> None:
    commands = set(re.findall(r"\bnnspec ([a-z]+)\b", README))
    known = next(a.choices for a in parser()._actions if a.choices and "run" in a.choices)
    assert {"run", "show", "fuzz"} <= commands <= set(known or ())


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link
