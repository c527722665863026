"""One step of a cell: the public functions."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Float

from ..linear import linear
from .cells import GRU, LSTM, RNN_RELU, RNN_TANH, Cell
from .checks import arrays_of, check_state, check_weights, pair
from .definition import State, Weights


def rnn_tanh_cell(
    input: Float[Array, "*N input_size"],
    hx: Float[Array, "*N H"] | None,
    w_ih: Float[Array, "H input_size"],
    w_hh: Float[Array, "H H"],
    b_ih: Float[Array, " H"] | None = None,
    b_hh: Float[Array, " H"] | None = None,
) -> Float[Array, "*N H"]:
    """One step of an Elman cell with tanh.

    h' = tanh(W_ih x + b_ih + W_hh h + b_hh)

    Shapes: input (N, input_size), hx (N, H) -> (N, H); or all without N. Dtypes: floating point,
    one for all.

    Args:
        input: x.
        hx: h, zeros if None.
        w_ih: W_ih, of shape (H, input_size).
        w_hh: W_hh, of shape (H, H).
        b_ih: b_ih, of shape (H,).
        b_hh: b_hh, of shape (H,).

    Raises:
        ValueError: if the shapes do not fit.
        TypeError: if the dtypes differ, or are not floating point.

    Source: Elman, 1990; torch.nn.RNNCell.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> w = jnp.ones((1, 1))
        >>> jaxnn.functional.rnn_tanh_cell(jnp.ones((1, 1)), jnp.array([[-1.0]]), w, w)
        Array([[0.]], dtype=float32)
    """
    state = None if hx is None else (hx,)
    return _cell("rnn_tanh_cell", RNN_TANH, input, state, (w_ih, w_hh, b_ih, b_hh))[0]


def rnn_relu_cell(
    input: Float[Array, "*N input_size"],
    hx: Float[Array, "*N H"] | None,
    w_ih: Float[Array, "H input_size"],
    w_hh: Float[Array, "H H"],
    b_ih: Float[Array, " H"] | None = None,
    b_hh: Float[Array, " H"] | None = None,
) -> Float[Array, "*N H"]:
    """One step of an Elman cell with relu.

    h' = relu(W_ih x + b_ih + W_hh h + b_hh)

    Arguments, shapes, dtypes and errors: as for `rnn_tanh_cell`.

    Source: torch.nn.RNNCell.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> w = jnp.ones((1, 1))
        >>> jaxnn.functional.rnn_relu_cell(jnp.ones((1, 1)), jnp.array([[2.0]]), w, w)
        Array([[3.]], dtype=float32)
    """
    state = None if hx is None else (hx,)
    return _cell("rnn_relu_cell", RNN_RELU, input, state, (w_ih, w_hh, b_ih, b_hh))[0]


def gru_cell(
    input: Float[Array, "*N input_size"],
    hx: Float[Array, "*N H"] | None,
    w_ih: Float[Array, "3*H input_size"],
    w_hh: Float[Array, "3*H H"],
    b_ih: Float[Array, " 3*H"] | None = None,
    b_hh: Float[Array, " 3*H"] | None = None,
) -> Float[Array, "*N H"]:
    """One step of a gated recurrent unit.

    r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
    z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
    n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
    h' = (1 - z) * n + z * h

    Shapes: input (N, input_size), hx (N, H) -> (N, H); or all without N. Dtypes: floating point,
    one for all.

    Args:
        input: x.
        hx: h, zeros if None.
        w_ih: W_ir, W_iz and W_in, one below the other, of shape (3 H, input_size).
        w_hh: W_hr, W_hz and W_hn, of shape (3 H, H).
        b_ih: b_ir, b_iz and b_in, of shape (3 H,).
        b_hh: b_hr, b_hz and b_hn, of shape (3 H,).

    Raises:
        ValueError: if the shapes do not fit.
        TypeError: if the dtypes differ, or are not floating point.

    Source: Cho et al., 2014; torch.nn.GRUCell.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> w = jnp.zeros((3, 1))
        >>> jaxnn.functional.gru_cell(jnp.ones((1, 1)), jnp.array([[2.0]]), w, w)
        Array([[1.]], dtype=float32)
    """
    state = None if hx is None else (hx,)
    return _cell("gru_cell", GRU, input, state, (w_ih, w_hh, b_ih, b_hh))[0]


def lstm_cell(
    input: Float[Array, "*N input_size"],
    hx: tuple[Float[Array, "*N H"], Float[Array, "*N H"]] | None,
    w_ih: Float[Array, "4*H input_size"],
    w_hh: Float[Array, "4*H H"],
    b_ih: Float[Array, " 4*H"] | None = None,
    b_hh: Float[Array, " 4*H"] | None = None,
) -> tuple[Float[Array, "*N H"], Float[Array, "*N H"]]:
    """One step of a long short-term memory.

    i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)
    f = sigmoid(W_if x + b_if + W_hf h + b_hf)
    g = tanh(W_ig x + b_ig + W_hg h + b_hg)
    o = sigmoid(W_io x + b_io + W_ho h + b_ho)
    c' = f * c + i * g
    h' = o * tanh(c')

    Shapes: input (N, input_size), h and c (N, H) -> h' and c' (N, H); or all without N.

    Dtypes: floating point, one for all.

    Args:
        input: x.
        hx: h and c, zeros if None.
        w_ih: W_ii, W_if, W_ig and W_io, one below the other, of shape (4 H, input_size).
        w_hh: W_hi, W_hf, W_hg and W_ho, of shape (4 H, H).
        b_ih: b_ii, b_if, b_ig and b_io, of shape (4 H,).
        b_hh: b_hi, b_hf, b_hg and b_ho, of shape (4 H,).

    Raises:
        ValueError: if the shapes do not fit, or `hx` is not a pair.
        TypeError: if the dtypes differ, or are not floating point.

    Source: Hochreiter and Schmidhuber, 1997; torch.nn.LSTMCell.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> w, h, c = jnp.zeros((4, 1)), jnp.zeros((1, 1)), jnp.array([[2.0]])
        >>> _, c = jaxnn.functional.lstm_cell(jnp.ones((1, 1)), (h, c), w, w)
        >>> c
        Array([[1.]], dtype=float32)
    """
    state = pair(hx, "lstm_cell")
    h, c = _cell("lstm_cell", LSTM, input, state, (w_ih, w_hh, b_ih, b_hh))
    return h, c


def _cell(name: str, cell: Cell, input: Any, state: Any, given: tuple[Any, ...]) -> State:
    """Check the arguments of a cell, and take its step."""
    input, (weights,) = arrays_of(name, input, given)
    if input.ndim not in (1, 2):
        raise ValueError(
            f"{name}: `input` must have shape (N, input_size) or (input_size,), got {input.shape}"
        )
    hidden_size = check_weights(name, cell, weights, input.shape[-1])
    shapes = ((*input.shape[:-1], hidden_size),) * cell.states
    state = check_state(name, state, shapes, input)
    return _step(input, state, weights, cell)


@partial(jax.jit, static_argnums=3, inline=True)
def _step(input: Array, state: State, weights: Weights, cell: Cell) -> State:
    return cell.step(linear(input, weights.ih, weights.b_ih), state, weights)
