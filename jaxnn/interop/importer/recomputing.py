"""Parts of an imported model whose values are not kept for the gradient, but computed again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from ...modules._module import RandomSource
from .observers import is_observed

Policy = Callable[..., Any]


@dataclass(frozen=True)
class Recomputing:
    """How a module is computed again.

    Attributes:
        policy: which values are kept none the less, as `jax.checkpoint` has it; None for none.
    """

    policy: Policy | None = None


def set_recomputing(module: nnx.Module, how: Recomputing) -> None:
    """Let a part be computed again whenever an imported program, or its own, runs it."""
    module._recomputing = how  # type: ignore[attr-defined]


def run_or_recompute(
    run: Callable[[Any, RandomSource | None, Any], Any],
    module: nnx.Module,
    rngs: RandomSource | None,
    given: Any,
) -> Any:
    """Return `run(module, rngs, given)`; of a part to be recomputed, the gradient keeps `given`.

    What an observer is told of is computed once: no other program may hold its values.

    Args:
        run: a function that calls the module.
        module: the module; what the call changes in it is changed.
        rngs: where the call draws random numbers from.
        given: the arguments: arrays, containers of them, and constants.
    """
    how: Recomputing | None = getattr(module, "_recomputing", None)
    if how is None or is_observed():
        return run(module, rngs, given)
    leaves, structure = jax.tree.flatten(given)
    results: list[Any] = []

    def call(module: Any, rngs: Any, arrays: list[Any]) -> list[Any]:
        found, shape = jax.tree.flatten(
            run(module, rngs, jax.tree.unflatten(structure, _filled(leaves, arrays)))
        )
        results[:] = [shape, [None if _is_array(leaf) else leaf for leaf in found]]
        return [leaf for leaf in found if _is_array(leaf)]

    again = nnx.remat(call, policy=how.policy)
    arrays = again(module, rngs, [leaf for leaf in leaves if _is_array(leaf)])
    shape, constants = results
    left = iter(arrays)
    return jax.tree.unflatten(shape, [next(left) if c is None else c for c in constants])


def _filled(leaves: list[Any], arrays: list[Any]) -> list[Any]:
    left = iter(arrays)
    return [next(left) if _is_array(leaf) else leaf for leaf in leaves]


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array)
