"""Contexts for the exporter: what it would lose is kept, what it would fix stays open."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

from .lines import is_torchs
from .messages import is_message
from .patching import replaced


@contextmanager
def gradient_marks() -> Iterator[None]:
    """Let what switches gradients off or on leave marks in the graph: the exporter forgets it."""
    import torch

    patched = []

    def patch(owner: Any, name: str) -> None:
        original = getattr(owner, name)
        patched.append((owner, name, original))

        def replaced(self: Any, *args: Any) -> Any:
            is_the_models = _from_the_model() and torch.compiler.is_exporting()
            result = original(self, *args)
            if is_the_models:
                torch.ops.jaxnn_import.mark(f"grad {int(torch.is_grad_enabled())}", [], [])
            return result

        setattr(owner, name, replaced)

    try:
        for owner in (torch.no_grad, torch.enable_grad, torch.inference_mode):
            patch(owner, "__enter__")
            patch(owner, "__exit__")
        patch(torch.set_grad_enabled, "__init__")
        patch(torch.set_grad_enabled, "__exit__")
        yield
    finally:
        for owner, name, original in patched:
            setattr(owner, name, original)


def oblivious(yes: bool) -> Any:
    """Let the exporter ask about sizes of 0 and 1 as about others, instead of excluding them."""
    from torch.fx.experimental import _config

    return _config.patch(backed_size_oblivious=yes)  # type: ignore[attr-defined]


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the exporter's graphs and logs from the terminal: what is wrong is raised."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("torch")]
    loggers = [logging.getLogger(name) for name in names]
    disabled = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, was in zip(loggers, disabled, strict=True):
            logger.disabled = was


@contextmanager
def einsum_in_order() -> Iterator[None]:
    """Multiply the operands of an einsum from left to right: a search for the best fixes sizes."""
    import torch

    with replaced(torch.backends.opt_einsum, "enabled", False):
        yield


@contextmanager
def sizes_as_numbers() -> Iterator[None]:
    """Let a size that a model writes into a text be the number that it is.

    To the exporter it is a symbol, whose text is no number's. The number holds for this size alone,
    which becomes a condition, unless the text is a message, on which nothing depends. A size that
    is looked up stays one that no dictionary takes: what a cache kept under a symbol would outlive
    the capture, and such a model is captured with its sizes fixed.
    """
    import torch

    text = torch.SymInt.__repr__

    def as_text(self: Any) -> str:
        if not _from_the_model():
            return text(self)
        return repr(self.node.hint if is_message(sys._getframe(1)) else int(self))

    with replaced(torch.SymInt, "__repr__", as_text):
        yield


@contextmanager
def squeezes_ask() -> Iterator[None]:
    """Let a squeeze ask whether a size is one, as a line of the model would.

    The rank of its result depends on that, which the exporter takes to be of no account.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    dispatch: Any = FakeTensorMode.dispatch

    def dispatched(self: Any, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "").startswith("squeeze"):
            ask_whether_one(*args, **(kwargs or {}))
        return dispatch(self, function, types, args, kwargs)

    with replaced(FakeTensorMode, "dispatch", dispatched):
        yield


def ask_whether_one(self: Any, dim: Any = None) -> None:
    """Ask of the sizes of a tensor whether they are one, so that the answer is a condition."""
    dims = range(self.ndim) if dim is None else dim if isinstance(dim, (tuple, list)) else [dim]
    for size in [self.shape[d] for d in dims] if self.ndim else ():
        bool(size == 1)


@contextmanager
def masks_as_they_are() -> Iterator[None]:
    """Keep torch's transformers from looking whether a mask is causal: it is applied as given."""
    from torch.nn.modules import transformer

    def as_told(mask: Any, is_causal: Any = None, size: Any = None) -> bool:
        return bool(is_causal)

    with replaced(transformer, "_detect_is_causal_mask", as_told):
        yield


def _from_the_model() -> bool:
    """Whether what is called comes from a model's or a layer's code, not from torch's machinery."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.endswith("utils/_contextlib.py"):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return False
    name = frame.f_globals.get("__name__", "")
    is_machinery = is_torchs(frame) or name.startswith("jaxnn.interop.")
    return not is_machinery or name.startswith("torch.nn.")
