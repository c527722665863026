"""A bound on what it may cost that sizes are free."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Seconds of reasoning about sizes that are spent in any case, and how many times the rest.
_SECONDS, _RATIO = 20.0, 2.0


class OverBudget(Exception):
    """The exporter's reasoning about sizes takes much longer than all else."""


@contextmanager
def within_budget() -> Iterator[None]:
    """End a capture whose conditions on sizes cost far more than the capture itself.

    Windows that are rolled and cut, as a Swin's, have sizes that are long expressions, about which
    every operator asks.

    Raises:
        OverBudget: in this context.
    """
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    asked: Any = ShapeEnv.evaluate_expr
    begun, reasoning, depth = time.perf_counter(), 0.0, 0

    def evaluated(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal reasoning, depth
        start = time.perf_counter()
        depth += 1
        try:
            return asked(self, *args, **options)
        finally:
            depth -= 1
            now = time.perf_counter()
            reasoning += (now - start) * (depth == 0)
            if reasoning > _SECONDS + _RATIO * (now - begun - reasoning):
                raise OverBudget(
                    "fewer sizes may differ than the model allows, since the conditions on all of "
                    "them take too long to find; name those that matter in `dynamic`"
                )

    ShapeEnv.evaluate_expr = evaluated  # type: ignore[method-assign]
    try:
        yield
    finally:
        ShapeEnv.evaluate_expr = asked  # type: ignore[method-assign]
