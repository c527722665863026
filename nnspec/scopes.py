"""What the expressions of a file see, at construction and at a call, and the shapes they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import expression
from .document import LayerSpec, match_dims


def call_scope(
    spec: LayerSpec,
    names: Mapping[str, Any],
    inputs: Mapping[str, np.ndarray],
    mode: str,
    dtype: str,
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    """What expressions see at a call: parameters, derived values, dimensions, mode, options."""
    scope = {**names, **spec.full_arguments(arguments), "train": mode == "train", "T": dtype}
    for item in spec.data["inputs"]:
        scope[item["name"]] = item["name"] if item["name"] in inputs else None
    for item in spec.data["inputs"]:
        if item["name"] in inputs:
            dims = match_dims(item["shape"], inputs[item["name"]].shape, names)
            scope.update({d: n for d, n in dims.items() if n is not None or d not in scope})
    for item in spec.data["inputs"]:
        scope.update({d: None for d in match_dims(item["shape"], (), names) if d not in scope})
    return scope


def with_first_dimensions(
    spec: LayerSpec, names: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """The names, with those dimensions of the first call that lazy state takes its shape from."""
    if not spec.lazy:
        return dict(names)
    lazy = [s for s in spec.state_entries if "lazy" in s]
    used = {name for s in lazy for size in s["shape"] for name in expression.names_in(str(size))}
    dims: dict[str, Any] = {}
    for item in spec.data["inputs"]:
        if item["name"] in shapes:
            dims |= match_dims(item["shape"], tuple(shapes[item["name"]]), names)
    return {**names, **{d: n for d, n in dims.items() if d in used}}


def call_functions(spec: LayerSpec, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The layer's own functions, and those that look at an input."""

    def of(read: Any) -> Any:
        return lambda name: None if name not in inputs else read(inputs[name])

    return {
        "rank": of(np.ndim),
        "shape": of(lambda a: list(a.shape)),
        "dtype": of(lambda a: a.dtype.name),
        "largest": of(lambda a: a.max().item() if a.size else None),
        "smallest": of(lambda a: a.min().item() if a.size else None),
        **spec.functions,
    }


def output_shape(
    output: Mapping[str, Any],
    scope: Mapping[str, Any],
    inputs: Mapping[str, np.ndarray],
    functions: Mapping[str, Any],
) -> tuple[int, ...] | None:
    """The shape that the file gives for an output, or None where the inputs do not fit."""
    pattern = output["shape"]
    if isinstance(pattern, str):
        name = pattern.removeprefix("same_as(").rstrip(")")
        if name in inputs:
            return inputs[name].shape
        sizes = expression.evaluate(pattern, scope, functions)
        return None if sizes is None or None in sizes or min(sizes, default=0) < 0 else tuple(sizes)
    shape: list[int] = []
    for item in map(str, pattern):
        if item == "*":
            shape += scope.get("*") or []
            continue
        value = expression.evaluate(item.rstrip("?"), scope, functions)
        if value is None and item.endswith("?"):
            continue
        if value is None or value < 0:
            return None
        shape.append(value)
    return tuple(shape)


def state_shapes(spec: LayerSpec, names: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter and buffer that exists under these parameters of the layer."""
    return {item["name"]: state_shape(spec, item, names) for item in spec.state(names)}


def state_shape(
    spec: LayerSpec, item: Mapping[str, Any], names: Mapping[str, Any]
) -> tuple[int, ...]:
    """The shape of one parameter or buffer: an expression, or a list of them."""
    shape = item["shape"]
    text = shape if isinstance(shape, str) else f"[{', '.join(map(str, shape))}]"
    return tuple(expression.evaluate(text, names, spec.functions))
