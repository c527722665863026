"""A bound on what it may cost that sizes are free."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .patching import replaced

# Seconds of a processor for reasoning about sizes that are spent in any case, and how many times
# all else.
_SECONDS, _RATIO = 8.0, 1.0
_INTERVAL = 0.05
_REASONING = ("/sympy/", "/_sympy/", "/symbolic_shapes.py")


class OverBudget(Exception):
    """The exporter's reasoning about sizes takes much longer than all else."""


@contextmanager
def within_budget(limited: bool) -> Iterator[None]:
    """End a capture whose conditions on sizes cost far more than the capture itself.

    Windows that are rolled and cut, as a Swin's, have sizes that are long expressions, about which
    every operator asks. How long that takes is seen by looking, now and then, at what is at work.

    Args:
        limited: whether to end it at all.

    Raises:
        OverBudget: in this context.
    """
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    if not limited:
        yield
        return
    evaluate: Any = ShapeEnv.evaluate_expr
    ended, over = threading.Event(), threading.Event()
    watched = threading.get_ident()

    def watch() -> None:
        reasoning = others = 0.0
        looked = time.process_time()
        while not ended.wait(_INTERVAL):
            before, looked = looked, time.process_time()
            if _is_reasoning(watched):
                reasoning += looked - before
            else:
                others += looked - before
            if reasoning > _SECONDS + _RATIO * others:
                over.set()

    def evaluated(self: Any, *args: Any, **options: Any) -> Any:
        if over.is_set():
            raise OverBudget(
                "fewer sizes may differ than the model allows, since the conditions on all of them "
                "take too long to find; name those that matter in `dynamic`"
            )
        return evaluate(self, *args, **options)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with replaced(ShapeEnv, "evaluate_expr", evaluated):
            yield
    finally:
        ended.set()
        watcher.join()


def _is_reasoning(thread: int) -> bool:
    """Whether a thread is at work on sizes; its frames, and so its tensors, are not kept."""
    frame: Any = sys._current_frames().get(thread)
    while frame is not None:
        if any(part in frame.f_code.co_filename for part in _REASONING):
            return True
        frame = frame.f_back
    return False
