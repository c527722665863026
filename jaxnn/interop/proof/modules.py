"""What each module of a model gives, in PyTorch and in JAX, call by call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from ...modules._module import takes_rngs
from ..importer.imported import Imported
from ..importer.observers import Observer, observed_by
from .calls import Call
from .differences import Difference, difference, leaves_of
from .drawing import fixed_in_torch, fixed_key
from .outcomes import as_array

if TYPE_CHECKING:
    import torch


def outputs_of_torch(model: torch.nn.Module, call: Call) -> list[tuple[str, list[np.ndarray]]]:
    """Return the outputs of each module's calls, in the order in which these end.

    The model may be changed; it runs in the mode that it is in, with every draw fixed.
    """
    import torch

    found: list[tuple[str, list[np.ndarray]]] = []
    for name, module in model.named_modules():

        def note(_: Any, __: Any, output: Any, name: str = name) -> None:
            found.append((name, [as_array(leaf) for leaf in leaves_of(output)]))

        module.register_forward_hook(note)
    args, kwargs = call.in_torch([tensor.detach().clone() for tensor in call.tensors])
    with torch.no_grad(), fixed_in_torch():
        model(*args, **kwargs)
    return found


def outputs_of_flax(net: nnx.Module, call: Call) -> dict[tuple[str, int], list[np.ndarray]]:
    """Return the outputs of each module's calls, by its path and the number of the call."""
    paths = {id(node): ".".join(map(str, path)) for path, node in nnx.iter_modules(net)}
    calls: Counter[str] = Counter()
    found = {}

    def note(module: Any, output: Any) -> None:
        name = paths.get(id(module))
        leaves = leaves_of(output)
        if name is None or any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return
        found[name, calls[name]] = [np.asarray(leaf) for leaf in leaves]
        calls[name] += 1

    args, kwargs = call.in_jax(call.arrays())
    options = {"rngs": fixed_key()} if takes_rngs(net) else {}
    kinds = {type(node) for _, node in nnx.iter_modules(net)}
    called = {kind for kind in kinds if not issubclass(kind, Imported) and _owner(kind)}
    with observed_by(_Noting(note)), _noted(called, note):
        net(*args, **kwargs, **options)  # type: ignore[operator]
    return found


class _Noting(Observer):
    """Lets `note` see what imported modules return, which run their parts without calling them."""

    def __init__(self, note: Callable[[Any, Any], None]) -> None:
        self.note = note

    def returns(self, module: nnx.Module, result: Any) -> None:
        self.note(module, result)


@contextmanager
def _noted(kinds: set[type], note: Callable[[Any, Any], None]) -> Iterator[None]:
    """Let `note` see what every call of a module of these classes returns."""
    # Several classes may have the method of one that they derive from.
    originals = {_owner(kind): _owner(kind).__call__ for kind in kinds}

    def wrapped(owner: Any, original: Any) -> Any:
        @wraps(original)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            output = original(self, *args, **kwargs)
            if type(self) in kinds and _owner(type(self)) is owner:
                note(self, output)
            return output

        return call

    try:
        for owner, original in originals.items():
            owner.__call__ = wrapped(owner, original)
        yield
    finally:
        for owner, original in originals.items():
            owner.__call__ = original


def _owner(kind: Any) -> Any:
    """Return the class whose `__call__` a module runs; None where it has none."""
    return next((owner for owner in kind.__mro__ if "__call__" in vars(owner)), None)


def output_differences(
    wanted: list[tuple[str, list[np.ndarray]]], got: dict[tuple[str, int], list[np.ndarray]]
) -> tuple[list[tuple[str, int, Difference]], list[str]]:
    """Compare the outputs of each call that both made, in the original's order.

    Returns:
        For each call the module's path, the number of the call, and the difference of the output
        that is farthest off; and the paths of modules that the original alone calls.
    """
    rows, unmatched, calls = [], [], Counter[str]()
    for name, outputs in wanted:
        call = calls[name]
        calls[name] += 1
        if (name, call) in got:
            rows.append((name, call, _farthest(outputs, got[name, call])))
        elif name not in unmatched:
            unmatched.append(name)
    return rows, unmatched


def _farthest(wanted: list[np.ndarray], got: list[np.ndarray]) -> Difference:
    shape = wanted[0].shape if wanted else ()
    if [leaf.shape for leaf in wanted] != [leaf.shape for leaf in got]:
        return Difference("output", "output", shape, float("nan"), float("nan"), False)
    pairs = zip(wanted, got, strict=True)
    found = [difference(f"output {i}", "output", *pair) for i, pair in enumerate(pairs)]
    nothing = Difference("output", "output", shape, 0.0, 0.0, True)
    return max(found, key=lambda d: (not d.agrees, d.relative), default=nothing)
