"""What the arguments of the recurrent functions must be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from ..._checks import check_array, check_floating, check_same_dtype, is_readable
from .cells import Cell
from .definition import State, Weights


def pair(hx: Any, name: str) -> tuple[Any, Any] | None:
    """Return the state of an LSTM, h and c."""
    if hx is None:
        return None
    if not isinstance(hx, Sequence) or len(hx) != 2:
        raise ValueError(f"{name}: `hx` must be the pair (h, c), got {type(hx).__name__}")
    return hx[0], hx[1]


def grouped(
    name: str, params: Sequence[Any], has_biases: bool, count: int
) -> list[tuple[Any, ...]]:
    """Split `params` into the arguments of `Weights`, for each layer and direction."""
    params = list(params)
    plain = 4 if has_biases else 2
    size = len(params) // count
    if len(params) != size * count or size not in (
        (plain, plain + 1) if name == "lstm" else (plain,)
    ):
        raise ValueError(
            f"{name}: `params` must have {plain} arrays for each of {count} layers and directions"
            f"{f', or {plain + 1} with projections' if name == 'lstm' else ''}, with has_biases="
            f"{has_biases}; got {len(params)}"
        )
    groups = [params[i * size : (i + 1) * size] for i in range(count)]
    missing = [] if has_biases else [None, None]
    return [(*g[:2], *(g[2:4] if has_biases else missing), *g[plain:]) for g in groups]


def arrays_of(name: str, input: Any, *groups: Sequence[Any]) -> tuple[Array, list[Weights]]:
    """Return input and weights as arrays of one floating-point dtype."""
    input = check_array(input, "input", name)
    check_floating(input, "input", name)
    weights = []
    for group in groups:
        given = zip(Weights._fields, group, strict=False)
        arrays: dict[str, Any] = {
            field: None if v is None else check_array(v, field, name) for field, v in given
        }
        check_same_dtype({"input": input, **arrays}, name)
        weights.append(Weights(**arrays))
    return input, weights


def check_sequence(name: str, input: Array, batch_first: bool) -> None:
    """Refuse what has no steps, or another rank than a sequence or a batch of them."""
    if input.ndim not in (2, 3):
        raise ValueError(
            f"{name}: `input` must have shape (L, N, input_size), or (N, L, input_size) with "
            f"batch_first, or (L, input_size), got {input.shape}"
        )
    steps = input.shape[1 if batch_first and input.ndim == 3 else 0]
    if isinstance(steps, int) and steps == 0:
        raise ValueError(f"{name}: `input` must have at least one step, got shape {input.shape}")


def check_weights(name: str, cell: Cell, weights: Weights, input_size: int) -> int:
    """Return hidden_size, refusing weights whose shapes do not fit it, each other or the input."""
    rows = weights.hh.shape[0] if weights.hh.ndim else 0
    hidden_size = rows // cell.gates
    state_size = hidden_size if weights.hr is None else weights.hr.shape[0]
    shapes = {
        "ih": (rows, input_size),
        "hh": (rows, state_size),
        "b_ih": (rows,),
        "b_hh": (rows,),
        "hr": (state_size, hidden_size),
    }
    for (field, shape), array in zip(shapes.items(), weights, strict=True):
        if array is not None and (array.shape != shape or rows % cell.gates):
            raise ValueError(
                f"{name}: for an input of size {input_size} and {cell.gates} gates of "
                f"{hidden_size} rows, `{field}` must have shape {shape}, got {array.shape}"
            )
    return hidden_size


def check_stack(
    name: str, cell: Cell, weights: list[Weights], input_size: int, directions: int
) -> int:
    """Return hidden_size, refusing layers that do not fit one on the other."""
    hidden_size = check_weights(name, cell, weights[0], input_size)
    for index, one in enumerate(weights):
        size = input_size if index < directions else directions * weights[0].hh.shape[1]
        if check_weights(name, cell, one, size) != hidden_size:
            raise ValueError(f"{name}: all layers must have the same hidden size, {hidden_size}")
    return hidden_size


def check_state(name: str, state: Any, shapes: tuple[tuple[int, ...], ...], input: Array) -> State:
    """Return the state as arrays: zeros for None."""
    if state is None:
        return tuple(jnp.zeros(shape, input.dtype) for shape in shapes)
    parts = tuple(check_array(part, "hx", name) for part in state)
    for part, shape in zip(parts, shapes, strict=True):
        check_same_dtype({"input": input, "hx": part}, name)
        if part.shape != shape:
            raise ValueError(
                f"{name}: for an input of shape {input.shape}, `hx` must have shape "
                f"{' and '.join(map(str, shapes))}, got {part.shape}"
            )
    return parts


def valid_steps(
    name: str, lengths: Any, steps: int, batch: int, batched: bool
) -> Bool[Array, "L N 1"] | None:
    """Return which steps lie within their sequences, or None where all do."""
    if lengths is None:
        return None
    given = check_array(
        np.asarray(lengths) if isinstance(lengths, Sequence) else lengths, "lengths", name
    )
    if not jnp.issubdtype(given.dtype, jnp.integer):
        raise TypeError(f"{name}: `lengths` must be integers, got {given.dtype}")
    if not batched or given.shape != (batch,):
        raise ValueError(
            f"{name}: `lengths` must have shape ({batch},), a number for each sequence of a batch, "
            f"got {given.shape}{'' if batched else ' for an input without a batch'}"
        )
    if is_readable(given) and isinstance(steps, int) and given.size:
        least, most = np.asarray(given).min(), np.asarray(given).max()
        if least < 0 or most > steps:
            raise ValueError(
                f"{name}: `lengths` must lie between 0 and the number of steps, {steps}, got "
                f"{least if least < 0 else most}"
            )
    return (jnp.arange(steps, dtype=given.dtype)[:, None] < given[None])[..., None]
