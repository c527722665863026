"""What an implementation must offer to be judged; :mod:`nnspec.registry` finds it by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

Tensors = Mapping[str, np.ndarray]


class Refused(Exception):
    """The implementation refuses the configuration or the call, as the specification may demand.

    ``category`` is one of the specification's error categories where the implementation knows
    it, else None.
    """

    def __init__(self, message: str, category: str | None = None):
        super().__init__(message)
        self.category = category


class Unsupported(Exception):
    """The implementation does not have this layer, function or dtype."""


class BackendError(RuntimeError):
    """The backend itself broke: it died, hung or answered something that is no answer."""


class BackendDied(BackendError):
    """The backend is gone and must be started again."""


@dataclass(frozen=True)
class Step:
    """One call of a layer."""

    mode: str
    inputs: Tensors
    outputs: Sequence[str]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    cotangents: Tensors | None = None
    """Cotangents of float outputs, by name; None asks for no gradients."""
    wrt: Sequence[str] = ()
    """The inputs and parameters whose gradients are asked for."""
    seed: int = 0
    variant: str = "default"
    """An honest variant of the same computation, of those that the backend describes."""


@dataclass(frozen=True)
class StepResult:
    """What one call gave: outputs and gradients by name, and the whole state after it."""

    outputs: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    state: dict[str, np.ndarray]


class Instance(Protocol):
    """A constructed layer (or function) whose state lives on between calls."""

    def state(self) -> dict[str, np.ndarray]:
        """Parameters and buffers by name, in the reference's order."""
        ...

    def load(self, state: Tensors) -> None:
        """Overwrite the named parameters and buffers."""
        ...

    def run(self, step: Step) -> StepResult:
        """Call once. Raises Refused for a call that the implementation does not accept."""
        ...


class Backend(Protocol):
    """An implementation of the specification."""

    def describe(self) -> dict[str, Any]:
        """``name``, ``versions``, ``device``, ``dtypes`` and whatever a report should state."""
        ...

    def create(
        self, kind: str, name: str, params: Mapping[str, Any], *, dtype: str, seed: int = 0
    ) -> Instance:
        """Construct. Raises Refused for a bad configuration, Unsupported for an unknown layer."""
        ...

    def close(self) -> None:
        """Release what the backend holds."""
        ...


def made(
    value: Any,
    layer: Callable[[str, dict[str, Any]], Any],
    function: Callable[[str, dict[str, Any]], Any],
    tensor: Callable[[Any], Any] = np.asarray,
) -> Any:
    """A parameter as an implementation takes it: lists are tuples, the others made.

    ``{"layer": NAME, "params": {...}}`` is what ``layer`` makes of it, ``{"function": NAME}``
    what ``function`` makes of it, ``{"tensor": NUMBERS}`` what ``tensor`` makes of the numbers.
    """
    if isinstance(value, Mapping):
        if "tensor" in value:
            return tensor(value["tensor"])
        params = {n: made(v, layer, function, tensor) for n, v in value.get("params", {}).items()}
        make, key = (layer, "layer") if "layer" in value else (function, "function")
        return make(value[key], params)
    return tuple(value) if isinstance(value, list) else value


def flatten(result: Any) -> list[Any]:
    """The tensors of a call's result, depth first, as ``Step.outputs`` names them."""
    if isinstance(result, tuple | list):
        return [leaf for item in result for leaf in flatten(item)]
    return [] if result is None else [result]


def nest(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Call arguments from named tensors: ``hx.0`` and ``hx.1`` become the tuple ``hx``."""
    nested: dict[str, Any] = {}
    for name, value in inputs.items():
        head, _, tail = name.partition(".")
        if tail:
            nested.setdefault(head, []).append(value)
        else:
            nested[name] = value
    return {n: tuple(v) if isinstance(v, list) else v for n, v in nested.items()}
