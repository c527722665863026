"""Whose code is at work: the lines of a model, told from torch's and the importer's own."""

from __future__ import annotations

import sys
from typing import Any


def line_of_the_model() -> str:
    """Return the innermost line at work that is neither torch's nor the importer's."""
    frame: Any = sys._getframe(1)
    # Beyond the capture stands what has called the importer.
    while frame is not None and not frame.f_code.co_filename.endswith(_CAPTURE):
        if is_the_models(frame.f_code.co_filename):
            return place_of(frame)
        frame = frame.f_back
    return "(a line that the exporter does not tell)"


def is_called_by_the_model() -> bool:
    """Whether a model's own code calls the function that asks this."""
    return is_the_models(sys._getframe(2).f_code.co_filename)


def place_of(frame: Any) -> str:
    """Return a frame's present line, as Python's tracebacks write it."""
    code = frame.f_code
    return f'File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}'


def is_the_models(file: str) -> bool:
    """Whether a file is neither torch's nor the importer's."""
    return not any(part in file for part in _NOT_THE_MODELS)


def is_torchs(frame: Any) -> bool:
    """Whether a frame runs torch's own code."""
    module = frame.f_globals.get("__name__", "")
    return bool(module == "torch" or module.startswith("torch."))


def is_asked() -> bool:
    """Whether a model's or a layer's code compares the size, or what is no kernel's own choice."""
    frame: Any = sys._getframe(2)
    near = frame
    while near is not None and not is_the_models(near.f_code.co_filename):
        if near.f_code.co_name in ("_check", "_check_with", "ask_whether_one"):
            return True
        near = near.f_back
    while frame is not None and not frame.f_code.co_filename.endswith("/torch/__init__.py"):
        frame = frame.f_back
    while frame is not None and frame.f_code.co_filename.endswith("/torch/__init__.py"):
        frame = frame.f_back
    file = "/torch/" if frame is None else frame.f_code.co_filename
    return is_the_models(file) or any(part in file for part in _LIBRARY)


# Code of torch's own that decides what a model computes, as its layers do.
_LIBRARY = ("/torch/nn/", "/torch/functional.py", "/torch/distributions/")
_CAPTURE = "/jaxnn/interop/importer/capture.py"
_NOT_THE_MODELS = (
    "/torch/",
    "/jaxnn/interop/",
    "/sympy/",
    "/opt_einsum/",
    "/contextlib.py",
    "<string>",
    "<eval_",
)
