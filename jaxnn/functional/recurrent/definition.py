"""What the cells compute in one step, once the input's share of their gates is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._tanh import accurate_tanh
from ..activation import sigmoid
from ..linear import linear

State = tuple[Float[Array, "N H"], ...]


class Weights(NamedTuple):
    """The parameters of one cell: of the input, of the state, and of an LSTM's projection."""

    ih: Float[Array, "gates input_size"]
    hh: Float[Array, "gates hidden_size"]
    b_ih: Float[Array, " gates"] | None = None
    b_hh: Float[Array, " gates"] | None = None
    hr: Float[Array, "proj_size hidden_size"] | None = None


def elman(
    activation: Callable[[Array], Array], gates: Array, state: State, weights: Weights
) -> State:
    """One step of an Elman cell: h' = activation(gates + W_hh h + b_hh)."""
    return (activation(gates + linear(state[0], weights.hh, weights.b_hh)),)


def gru(gates: Array, state: State, weights: Weights) -> State:
    """One step of a gated recurrent unit: h' = (1 - z) n + z h, with the gates r and z."""
    (h,) = state
    x_r, x_z, x_n = jnp.split(gates, 3, axis=-1)
    h_r, h_z, h_n = jnp.split(linear(h, weights.hh, weights.b_hh), 3, axis=-1)
    n = accurate_tanh(x_n + sigmoid(x_r + h_r) * h_n)
    return (n + sigmoid(x_z + h_z) * (h - n),)


def lstm_memory(i: Array, f: Array, g: Array, c: Array) -> Array:
    """The memory of an LSTM after a step: c' = sigmoid(f) c + sigmoid(i) tanh(g)."""
    return sigmoid(f) * c + sigmoid(i) * accurate_tanh(g)


def lstm_output(o: Array, c: Array) -> Array:
    """Its output: h' = sigmoid(o) tanh(c')."""
    return sigmoid(o) * accurate_tanh(c)
