"""The four kinds of cells, with the derivative of the LSTM's that keeps least."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._xla import out_of_line
from .._tanh import accurate_tanh
from ..activation import relu, sigmoid
from ..linear import linear
from .definition import State, Weights, elman, gru, lstm_memory, lstm_output


class Cell(NamedTuple):
    """What tells one kind of cell from another.

    Attributes:
        step: from the input's share of the gates, the state and the weights to the next state,
            whose first part is the output.
        gates: how many gates there are, each of hidden_size rows of the weights.
        states: how many arrays make up the state.
        additive: whether the state's share of the gates is only added to the input's.
    """

    step: Callable[[Array, State, Weights], State]
    gates: int
    states: int
    additive: bool


def _lstm_step(gates: Array, state: State, weights: Weights) -> State:
    h, c = state
    h, c = _lstm_update(gates + linear(h, weights.hh, weights.b_hh), c)
    return (h if weights.hr is None else linear(h, weights.hr)), c


@jax.custom_jvp
def _lstm_update(gates: Float[Array, "N 4*H"], c: Float[Array, "N H"]) -> tuple[Array, Array]:
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = out_of_line(lstm_memory)(i, f, g, c)
    return out_of_line(lstm_output)(o, c), c


@_lstm_update.defjvp
def _lstm_update_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    # Each tangent has one factor, so that a step leaves six arrays for the backward pass, not ten.
    bounds = (sigmoid, sigmoid, accurate_tanh, sigmoid)
    (i, d_i), (f, d_f), (g, d_g), (o, d_o) = (
        _with_slope(bound, gate)
        for bound, gate in zip(bounds, jnp.split(primals[0], 4, axis=-1), strict=True)
    )
    t_i, t_f, t_g, t_o = jnp.split(tangents[0], 4, axis=-1)
    c = f * primals[1] + i * g
    bounded, slope = _with_slope(accurate_tanh, c)
    t_c = f * tangents[1] + (primals[1] * d_f) * t_f + (g * d_i) * t_i + (i * d_g) * t_g
    return (o * bounded, c), ((bounded * d_o) * t_o + (o * slope) * t_c, t_c)


def _with_slope(function: Callable[[Array], Array], x: Array) -> tuple[Array, Array]:
    """Return the function's value and derivative at each element."""
    return jax.jvp(function, (x,), (jnp.ones_like(x),))


RNN_TANH = Cell(partial(elman, accurate_tanh), gates=1, states=1, additive=True)
RNN_RELU = Cell(partial(elman, relu), gates=1, states=1, additive=True)
LSTM = Cell(_lstm_step, gates=4, states=2, additive=True)
GRU = Cell(gru, gates=3, states=1, additive=False)
