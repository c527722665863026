"""Backends and oracles by their names.

A backend is a Python object found by the entry point group ``nnspec.backends``, or any program
started with ``process:COMMAND`` that speaks JSON lines (:mod:`nnspec.process`).
"""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from .backend import Backend, BackendError
from .golden import GoldenOracle
from .oracle import LiveOracle, Oracle
from .process import ProcessBackend


def load_backend(name: str, *, device: str | None = None, timeout: float = 120.0) -> Backend:
    """The backend called ``name``, or the program in ``process:COMMAND``.

    Raises:
      BackendError: no such backend is installed, or its program does not start.
    """
    if name.startswith("process:"):
        return ProcessBackend(name.removeprefix("process:"), timeout=timeout)
    found = {point.name: point for point in entry_points(group="nnspec.backends")}
    if name not in found:
        raise BackendError(
            f"no backend {name!r}; installed: {', '.join(sorted(found)) or 'none'}. "
            "Any program is one too: process:COMMAND"
        )
    try:
        make = found[name].load()
        return make(device=device) if device else make()
    except ImportError as error:
        raise BackendError(f"backend {name!r} needs a package that is missing: {error}") from None
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise BackendError(f"backend {name!r} does not start: {why}") from error


def load_oracle(name: str, folder: Path) -> Oracle | None:
    """``golden``, ``none`` (literals and properties alone), or a live reference backend.

    Raises:
      BackendError: no such backend is installed, or its program does not start.
      GoldenError: no goldens are recorded in ``folder``.
    """
    if name == "golden":
        return GoldenOracle(folder)
    return None if name == "none" else LiveOracle(load_backend(name))
