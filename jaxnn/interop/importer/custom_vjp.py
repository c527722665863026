"""Functions with a gradient of their own, as torch.autograd.Function has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .observers import observer
from .operators import OPERATORS, dtype_of
from .program import Body, Custom, Operation, Value, rebuild

Pass = Callable[[Sequence[Any], Sequence[Any]], tuple[Any, ...]]


def with_gradient(
    forward: Pass, backward: Pass, saved: Sequence[int], outputs: Sequence[int]
) -> Pass:
    """Return `forward` with a gradient of its own.

    Args:
        forward: a function of inputs and of arrays or sizes beside them, which have no gradient.
        backward: a function of the gradients of some results, by torch's convention, and of what
            is saved, that returns those of the inputs, None for none.
        saved: the places, among inputs, what is beside them and results, of what is saved.
        outputs: the places of the results whose gradients `backward` takes.
    """

    def called(inputs: Sequence[Any], beside: Sequence[Any]) -> tuple[Any, ...]:
        is_array = [hasattr(value, "shape") for value in beside]
        arrays = tuple(value for value, array in zip(beside, is_array, strict=True) if array)
        # Sizes are static: they are not arguments of what is differentiated.
        sizes = {
            len(inputs) + at: value
            for at, (value, array) in enumerate(zip(beside, is_array, strict=True))
            if not array
        }

        def everything(arrays: Sequence[Any]) -> tuple[Any, ...]:
            left = iter(arrays)
            return tuple(
                next(left) if array else value
                for value, array in zip(beside, is_array, strict=True)
            )

        def run(inputs: Any, arrays: Any) -> Any:
            return forward(inputs, everything(arrays))

        def saving(inputs: Any, arrays: Any) -> Any:
            results = run(inputs, arrays)
            known = (*inputs, *everything(arrays), *results)
            return results, [known[at] for at in saved if at not in sizes]

        def differentiated(kept: Any, cotangents: Any) -> Any:
            left = iter(kept)
            given = [sizes[at] if at in sizes else next(left) for at in saved]
            found = backward([_as_in_torch(cotangents[at]) for at in outputs], given)
            return tuple(None if g is None else _as_in_torch(g) for g in found), None

        function = jax.custom_vjp(run)
        function.defvjp(saving, differentiated)
        results: tuple[Any, ...] = function(tuple(inputs), arrays)
        return results

    return called


def run_custom(step: Custom, inputs: Sequence[Any], captured: Sequence[Any]) -> tuple[Any, ...]:
    """Return the results of a Function, whose gradient is that of its own backward pass."""
    function = with_gradient(
        partial(run_pass, step.forward), partial(run_pass, step.backward), step.saved, step.outputs
    )
    results = function(inputs, captured)
    observer().customised(step, (*inputs, *captured, *results))
    return results


def _as_in_torch(gradient: jax.Array) -> jax.Array:
    """Return a gradient of JAX by torch's convention, or the other way round."""
    return gradient.conj() if jnp.iscomplexobj(gradient) else gradient


def run_pass(body: Body, inputs: Sequence[Any], captured: Sequence[Any]) -> tuple[Any, ...]:
    """Run one pass of a Function."""
    names = [item.structure.name for item in body.inputs]
    values = dict(zip((*names, *body.captured), (*inputs, *captured), strict=True))
    observer().begins(body, values)

    def read(leaf: Any) -> Any:
        if isinstance(leaf, Value):
            return values[leaf.name]
        return jnp.asarray(np.array(leaf.values, dtype_of(leaf.dtype)))

    for step in body.steps:
        assert isinstance(step, Operation)
        arguments = {name: rebuild(value, read) for name, value in step.arguments}
        values[step.result] = OPERATORS[step.operator](**arguments)
    result: tuple[Any, ...] = rebuild(body.output, read)
    return result
