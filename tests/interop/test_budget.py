"""The bound on reasoning about sizes looks on, and changes nothing."""

from __future__ import annotations

import time
import weakref
from typing import Any

import pytest

pytest.importorskip("torch")

from jaxnn.interop.importer.budget import within_budget

_REASONING = """
def reason(thing, seconds):
    sleep(seconds)
"""


class Thing:
    pass


def test_what_a_capture_holds_goes_when_the_capture_lets_it_go() -> None:
    # torch.export finds what leaks from it by what is still alive.
    found: dict[str, Any] = {"sleep": time.sleep}
    exec(compile(_REASONING, "/sympy/of_this_test.py", "exec"), found)
    with within_budget(limited=True):
        for _ in range(4):
            thing = Thing()
            is_there = weakref.ref(thing)
            found["reason"](thing, 0.12)
            del thing
            assert is_there() is None
