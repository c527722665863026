"""What the steps of a program read and give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..importer.program import Assign, Call, Custom, Operation, State, Value, leaves, rebuild

# What returns its operand as it is.
COPIES = {
    "alias", "clone", "contiguous", "lift_fresh_copy", "lift_fresh", "lift", "alias_copy",
    "_lazy_clone", "resolve_neg", "detach_",
}  # fmt: skip
CONVERSIONS = {"_to_copy", "to", "to_dtype", "type_as"}

# The attributes of steps that hold what they read.
_READS = ("arguments", "args", "kwargs", "value", "inputs", "captured")


def values_in(step: Any) -> list[str]:
    """Return the values that a step, or a structure, reads, as often as it does."""
    if isinstance(step, Operation):
        structure: Any = tuple(value for _, value in step.arguments)
    elif isinstance(step, Call):
        structure = (step.args, tuple(value for _, value in step.kwargs), step.captured)
    elif isinstance(step, Custom):
        structure = (step.inputs, step.captured)
    else:
        structure = step.value if isinstance(step, Assign) else step
    return [leaf.name for leaf in leaves(structure) if isinstance(leaf, Value)]


def states_in(step: Any) -> list[str]:
    """Return the paths of the state that a step reads."""
    parts = [getattr(step, name, ()) for name in _READS]
    return [leaf.path for leaf in leaves(tuple(parts)) if isinstance(leaf, State)]


def results_of(step: Any) -> list[str]:
    """Return the values that a step gives."""
    if isinstance(step, Operation):
        return [step.result]
    if isinstance(step, Custom):
        return list(step.results)
    return [*(leaf.name for leaf in leaves(step.results)), *step.extra]


def substituted(step: Any, same: Mapping[str, Any]) -> Any:
    """Return a step with other values in place of those that are equal to them."""

    def leaf(value: Any) -> Any:
        while isinstance(value, Value) and value.name in same:
            value = same[value.name]
        return value

    if isinstance(step, Operation):
        arguments = tuple((name, rebuild(value, leaf)) for name, value in step.arguments)
        return replace(step, arguments=arguments)
    if isinstance(step, Call):
        kwargs = tuple((name, rebuild(value, leaf)) for name, value in step.kwargs)
        args, captured = rebuild(step.args, leaf), rebuild(step.captured, leaf)
        return replace(step, args=args, kwargs=kwargs, captured=captured)
    if isinstance(step, Custom):
        inputs, captured = rebuild(step.inputs, leaf), rebuild(step.captured, leaf)
        return replace(step, inputs=inputs, captured=captured)
    return replace(step, value=rebuild(step.value, leaf))
