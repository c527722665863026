"""Recurrent networks: one step of a cell, and layers of cells along sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._checks import check_array, check_floating, check_int, check_same_dtype, is_readable
from .._xla import out_of_line
from .activation import relu, sigmoid, tanh
from .dropout import check_probability, dropout
from .linear import linear

State = tuple[Float[Array, "N H"], ...]


class Weights(NamedTuple):
    """The parameters of one cell: of the input, of the state, and of an LSTM's projection."""

    ih: Float[Array, "gates input_size"]
    hh: Float[Array, "gates hidden_size"]
    b_ih: Float[Array, " gates"] | None = None
    b_hh: Float[Array, " gates"] | None = None
    hr: Float[Array, "proj_size hidden_size"] | None = None


class Cell(NamedTuple):
    """What tells one kind of cell from another.

    Attributes:
        step: from the input's share of the gates, the state and the weights to the next state,
            whose first part is the output.
        gates: how many gates there are, each of hidden_size rows of the weights.
        states: how many arrays make up the state.
        additive: whether the state's share of the gates is but added to the input's.
    """

    step: Callable[[Array, State, Weights], State]
    gates: int
    states: int
    additive: bool


@jax.custom_jvp
def _accurate_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    # XLA's tanh is three or four units in the last place off, which adds up along a sequence; this
    # is about one. Near 0 it is the approximation of Moshier's Cephes library.
    square = x * x
    far = jnp.sign(x) * (1 - 2 / (jnp.exp(2 * jnp.abs(x)) + 1))
    return jnp.where(jnp.abs(x) < 0.625, x + x * square * _tail(square), far)


def _tail(square: Array) -> Array:
    """(tanh(x) - x) / x^3, for x^2 below 0.4."""
    if square.dtype == jnp.float32:
        coefficients = (
            -5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1,
            -3.33332819422e-1,
        )  # fmt: skip
        return _polynomial(square, coefficients)
    above = (-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3)
    below = (
        1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3
    )  # fmt: skip
    return _polynomial(square, above) / _polynomial(square, below)


def _polynomial(x: Array, coefficients: Sequence[float]) -> Array:
    total = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


@_accurate_tanh.defjvp
def _accurate_tanh_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,) = primals
    y = _accurate_tanh(x)
    # One less its square is exact where the tanh is small, and cancels where it is near 1.
    z = jnp.exp(-2 * jnp.abs(x))
    slope = jnp.where(jnp.abs(x) < 0.625, 1 - y * y, 4 * z / ((1 + z) * (1 + z)))
    return y, tangents[0] * slope


def _tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return _accurate_tanh(x) if x.dtype in (jnp.float32, jnp.float64) else tanh(x)


def _elman_step(activation: Callable[[Array], Array]) -> Callable[[Array, State, Weights], State]:
    def step(gates: Array, state: State, weights: Weights) -> State:
        return (activation(gates + linear(state[0], weights.hh, weights.b_hh)),)

    return step


def _lstm_step(gates: Array, state: State, weights: Weights) -> State:
    h, c = state
    h, c = _lstm_update(gates + linear(h, weights.hh, weights.b_hh), c)
    return (h if weights.hr is None else linear(h, weights.hr)), c


@jax.custom_jvp
def _lstm_update(gates: Float[Array, "N 4*H"], c: Float[Array, "N H"]) -> tuple[Array, Array]:
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = out_of_line(lambda i, f, g, c: sigmoid(f) * c + sigmoid(i) * _tanh(g))(i, f, g, c)
    return out_of_line(lambda o, c: sigmoid(o) * _tanh(c))(o, c), c


@_lstm_update.defjvp
def _lstm_update_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    # Each tangent has one factor, so that a step leaves six arrays for the backward pass, not ten.
    (i, d_i), (f, d_f), (g, d_g), (o, d_o) = (
        _with_slope(function, gate)
        for function, gate in zip(
            (sigmoid, sigmoid, _tanh, sigmoid), jnp.split(primals[0], 4, axis=-1), strict=True
        )
    )
    t_i, t_f, t_g, t_o = jnp.split(tangents[0], 4, axis=-1)
    c = f * primals[1] + i * g
    bounded, slope = _with_slope(_tanh, c)
    t_c = f * tangents[1] + (primals[1] * d_f) * t_f + (g * d_i) * t_i + (i * d_g) * t_g
    return (o * bounded, c), ((bounded * d_o) * t_o + (o * slope) * t_c, t_c)


def _with_slope(function: Callable[[Array], Array], x: Array) -> tuple[Array, Array]:
    """Return the function's value and derivative at each element."""
    return jax.jvp(function, (x,), (jnp.ones_like(x),))


def _gru_step(gates: Array, state: State, weights: Weights) -> State:
    (h,) = state
    x_r, x_z, x_n = jnp.split(gates, 3, axis=-1)
    h_r, h_z, h_n = jnp.split(linear(h, weights.hh, weights.b_hh), 3, axis=-1)
    n = _tanh(x_n + sigmoid(x_r + h_r) * h_n)
    return (n + sigmoid(x_z + h_z) * (h - n),)


RNN_TANH = Cell(_elman_step(_tanh), gates=1, states=1, additive=True)
RNN_RELU = Cell(_elman_step(relu), gates=1, states=1, additive=True)
LSTM = Cell(_lstm_step, gates=4, states=2, additive=True)
GRU = Cell(_gru_step, gates=3, states=1, additive=False)


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
        ValueError: if the shapes do not fit, or `hx` is no pair.
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
    state = _pair(hx, "lstm_cell")
    h, c = _cell("lstm_cell", LSTM, input, state, (w_ih, w_hh, b_ih, b_hh))
    return h, c


def rnn_tanh(
    input: Float[Array, "L *N input_size"],
    hx: Float[Array, "states *N H"] | None,
    params: Sequence[Float[Array, "..."]],
    has_biases: bool = True,
    num_layers: int = 1,
    dropout: float = 0.0,
    train: bool = False,
    bidirectional: bool = False,
    batch_first: bool = False,
    *,
    lengths: Int[Array, " N"] | None = None,
    rng: jax.Array | None = None,
) -> tuple[Float[Array, "L *N out"], Float[Array, "states *N H"]]:
    """Layers of Elman cells with tanh along sequences.

    h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)

    x of a layer is the output of the one before; with `bidirectional`, each layer also runs from
    the end to the beginning, with weights of its own, and its output is h of both directions, one
    behind the other. D below is 2 then, else 1.

    Shapes: input (L, N, input_size), or (N, L, input_size) with `batch_first`, or
    (L, input_size); hx (D num_layers, N, H), or (D num_layers, H) -> output (L, N, D H), or
    (N, L, D H), or (L, D H), and the last states, shaped as hx. Dtypes: floating point, one for
    all.

    Args:
        input: the sequences.
        hx: the states before the first step, layer by layer, the forward direction first; zeros
            if None.
        params: for each layer and direction, in the order of `hx`: W_ih of shape (H, input_size)
            (in later layers (H, D H)), W_hh of shape (H, H) and, with `has_biases`, b_ih and b_hh
            of shape (H,).
        has_biases: whether `params` has biases.
        num_layers: number of layers.
        dropout: probability with which each element of each layer's output but the last one's is
            zeroed, where `train` holds.
        train: whether there is dropout.
        bidirectional: whether each layer runs in both directions.
        batch_first: whether N comes before L in input and output.
        lengths: the number of steps of each sequence, an integer array, which may be traced; all
            L if None. Beyond its end a sequence is not read and its output is zero, its last state
            is that at its own end, and the reverse direction starts there: what torch computes of
            a packed sequence.
        rng: the key, needed where there is dropout.

    Raises:
        ValueError: if the shapes or the number of `params` do not fit, an option is out of range,
            a sequence has no steps, or `rng` is needed and absent.
        TypeError: if the dtypes differ, or are not floating point.

    Source: Elman, 1990; torch.nn.RNN.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> params = [jnp.ones((2, 1)), jnp.zeros((2, 2))]
        >>> output, h = jaxnn.functional.rnn_tanh(jnp.ones((5, 3, 1)), None, params, False)
        >>> output.shape, h.shape
        ((5, 3, 2), (1, 3, 2))
    """
    state = None if hx is None else (hx,)
    options = (has_biases, num_layers, dropout, train, bidirectional, batch_first)
    output, h = _layers("rnn_tanh", RNN_TANH, input, state, params, *options, lengths, rng)
    return output, h


def rnn_relu(
    input: Float[Array, "L *N input_size"],
    hx: Float[Array, "states *N H"] | None,
    params: Sequence[Float[Array, "..."]],
    has_biases: bool = True,
    num_layers: int = 1,
    dropout: float = 0.0,
    train: bool = False,
    bidirectional: bool = False,
    batch_first: bool = False,
    *,
    lengths: Int[Array, " N"] | None = None,
    rng: jax.Array | None = None,
) -> tuple[Float[Array, "L *N out"], Float[Array, "states *N H"]]:
    """Layers of Elman cells with relu along sequences.

    h_t = relu(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)

    Arguments, shapes, dtypes and errors: as for `rnn_tanh`.

    Source: torch.nn.RNN.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> one = jnp.ones((1, 1))
        >>> jaxnn.functional.rnn_relu(jnp.ones((3, 1)), None, [one, one], False)[0]
        Array([[1.],
               [2.],
               [3.]], dtype=float32)
    """
    state = None if hx is None else (hx,)
    options = (has_biases, num_layers, dropout, train, bidirectional, batch_first)
    output, h = _layers("rnn_relu", RNN_RELU, input, state, params, *options, lengths, rng)
    return output, h


def gru(
    input: Float[Array, "L *N input_size"],
    hx: Float[Array, "states *N H"] | None,
    params: Sequence[Float[Array, "..."]],
    has_biases: bool = True,
    num_layers: int = 1,
    dropout: float = 0.0,
    train: bool = False,
    bidirectional: bool = False,
    batch_first: bool = False,
    *,
    lengths: Int[Array, " N"] | None = None,
    rng: jax.Array | None = None,
) -> tuple[Float[Array, "L *N out"], Float[Array, "states *N H"]]:
    """Layers of gated recurrent units along sequences.

    Formula: that of `gru_cell`, with h of the step before.

    Arguments, shapes, dtypes and errors: as for `rnn_tanh`, but weights and biases have 3 H rows,
    in the order of `gru_cell`.

    Source: Cho et al., 2014; torch.nn.GRU.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> params = [jnp.ones((6, 1)), jnp.zeros((6, 2))]
        >>> output, h = jaxnn.functional.gru(jnp.ones((5, 3, 1)), None, params, False)
        >>> output.shape, h.shape
        ((5, 3, 2), (1, 3, 2))
    """
    state = None if hx is None else (hx,)
    options = (has_biases, num_layers, dropout, train, bidirectional, batch_first)
    output, h = _layers("gru", GRU, input, state, params, *options, lengths, rng)
    return output, h


def lstm(
    input: Float[Array, "L *N input_size"],
    hx: tuple[Float[Array, "states *N R"], Float[Array, "states *N H"]] | None,
    params: Sequence[Float[Array, "..."]],
    has_biases: bool = True,
    num_layers: int = 1,
    dropout: float = 0.0,
    train: bool = False,
    bidirectional: bool = False,
    batch_first: bool = False,
    *,
    lengths: Int[Array, " N"] | None = None,
    rng: jax.Array | None = None,
) -> tuple[Float[Array, "L *N out"], Float[Array, "states *N R"], Float[Array, "states *N H"]]:
    """Layers of long short-term memories along sequences.

    Formula: that of `lstm_cell`, with h and c of the step before; with projections,
    h' = W_hr (o * tanh(c')).

    Arguments, shapes, dtypes and errors: as for `rnn_tanh`, but

    - weights and biases have 4 H rows, in the order of `lstm_cell`;
    - `hx` is the pair of h, of shape (D num_layers, N, R), and c, of shape (D num_layers, N, H),
      and both are returned behind the output;
    - with projections `params` has, behind the others of each layer and direction, W_hr of shape
      (R, H), W_hh has R columns, and the output is (L, N, D R); else R is H.

    Source: Hochreiter and Schmidhuber, 1997; Sak et al., 2014 (projections); torch.nn.LSTM.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> params = [jnp.ones((8, 1)), jnp.zeros((8, 2))]
        >>> output, h, c = jaxnn.functional.lstm(jnp.ones((5, 3, 1)), None, params, False)
        >>> output.shape, h.shape, c.shape
        ((5, 3, 2), (1, 3, 2), (1, 3, 2))
    """
    state = _pair(hx, "lstm")
    options = (has_biases, num_layers, dropout, train, bidirectional, batch_first)
    output, h, c = _layers("lstm", LSTM, input, state, params, *options, lengths, rng)
    return output, h, c


# --- one step -------------------------------------------------------------------------------


def _cell(name: str, cell: Cell, input: Any, state: Any, given: tuple[Any, ...]) -> State:
    """Check the arguments of a cell, and take its step."""
    input, (weights,) = _arrays(name, input, given)
    if input.ndim not in (1, 2):
        raise ValueError(
            f"{name}: `input` must have shape (N, input_size) or (input_size,), got {input.shape}"
        )
    hidden_size = _check_weights(name, cell, weights, input.shape[-1])
    shapes = ((*input.shape[:-1], hidden_size),) * cell.states
    state = _check_state(name, state, shapes, input)
    return _step(input, state, weights, cell)


@partial(jax.jit, static_argnums=3, inline=True)
def _step(input: Array, state: State, weights: Weights, cell: Cell) -> State:
    return cell.step(linear(input, weights.ih, weights.b_ih), state, weights)


# --- layers along sequences -----------------------------------------------------------------


def _layers(
    name: str,
    cell: Cell,
    input: Any,
    state: Any,
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    p: Any,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    lengths: Any,
    rng: jax.Array | None,
) -> tuple[Array, ...]:
    """Check the arguments, and run the layers one after the other, on a batch with steps first."""
    num_layers = check_int(num_layers, "num_layers", name, minimum=1)
    check_probability(p, name)
    directions = 2 if bidirectional else 1
    groups = _grouped(name, params, bool(has_biases), num_layers * directions)
    input, weights = _arrays(name, input, *groups)
    _check_sequence(name, input, bool(batch_first))
    hidden_size = _check_stack(name, cell, weights, input.shape[-1], directions)
    batched = input.ndim == 3
    x = input if batched else input[:, None]
    x = x.swapaxes(0, 1) if batched and batch_first else x
    lead = (len(weights), *((x.shape[1],) if batched else ()))
    sizes = (weights[0].hh.shape[1], hidden_size)[: cell.states]
    state = _check_state(name, state, tuple((*lead, size) for size in sizes), input)
    valid = _valid_steps(name, lengths, x.shape[0], x.shape[1], batched)
    if not batched:
        state = tuple(part[:, None] for part in state)
    if valid is not None:
        # What lies beyond a sequence's end is not read, so that a NaN there stays out of gradients.
        x = jnp.where(valid, x, jnp.zeros_like(x))
    last = []
    for layer in range(num_layers):
        part = slice(layer * directions, (layer + 1) * directions)
        x, final = _layer(x, tuple(s[part] for s in state), weights[part], valid, cell)
        last.append(final)
        if train and layer < num_layers - 1:
            x = dropout(x, p, rng=None if rng is None else jax.random.fold_in(rng, layer))
    state = tuple(jnp.concatenate(parts) for parts in zip(*last, strict=True))
    if not batched:
        return x[:, 0], *(part[:, 0] for part in state)
    return (x.swapaxes(0, 1) if batch_first else x), *state


@partial(jax.jit, static_argnums=4, inline=True)
def _layer(
    x: Float[Array, "L N input_size"],
    state: State,
    weights: list[Weights],
    valid: Bool[Array, "L N 1"] | None,
    cell: Cell,
) -> tuple[Float[Array, "L N out"], State]:
    """Run one layer in each direction: a row of each array of `state`, and a cell, for each."""
    outputs, last = [], []
    for direction, cell_weights in enumerate(weights):
        before = tuple(part[direction] for part in state)
        output, after = _along(x, before, cell_weights, valid, cell, reverse=direction == 1)
        outputs.append(output)
        last.append(after)
    return jnp.concatenate(outputs, -1), tuple(map(jnp.stack, zip(*last, strict=True)))


def _along(
    x: Float[Array, "L N input_size"],
    state: State,
    weights: Weights,
    valid: Bool[Array, "L N 1"] | None,
    cell: Cell,
    reverse: bool,
) -> tuple[Float[Array, "L N out"], State]:
    """Run a cell along the sequences. The input's share of all gates is one matrix product."""
    gates = linear(x, weights.ih, weights.b_ih)
    scan = _scan_additive if cell.additive else _scan
    state, output, _ = scan(cell, reverse, gates, valid, state, weights)
    return output, state


def _scan(
    cell: Cell,
    reverse: bool,
    gates: Float[Array, "L N gates"],
    valid: Bool[Array, "L N 1"] | None,
    state: State,
    weights: Weights,
) -> tuple[State, Float[Array, "L N out"], Float[Array, "L N out"]]:
    """Return the last state, the output of each step, and what each step began with as output."""

    def step(before: State, now: tuple[Array, Array | None]) -> tuple[State, tuple[Array, Array]]:
        gates, inside = now
        after = cell.step(gates, before, weights)
        if inside is None:
            return after, (after[0], before[0])
        # Beyond its end a sequence stands still; in reverse that is before its first step.
        after = tuple(jnp.where(inside, new, old) for new, old in zip(after, before, strict=True))
        return after, (jnp.where(inside, after[0], jnp.zeros_like(after[0])), before[0])

    state, (output, began) = lax.scan(step, state, (gates, valid), reverse=reverse)
    return state, output, began


_scan_additive = jax.custom_jvp(_scan, nondiff_argnums=(0, 1))


@_scan_additive.defjvp
def _scan_additive_jvp(
    cell: Cell, reverse: bool, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    """The weights of the state act through the gates, all steps in one product.

    Their gradient is then one product behind the scan, where the scan itself would add a product
    to it in each step (1.2 times the time of forward and backward of an LSTM on CPU).
    """
    gates, valid, state, weights = primals
    d_gates, _, d_state, d_weights = tangents

    def scanned(gates: Array, state: State, hr: Array | None) -> tuple[State, Array, Array]:
        return _scan(cell, reverse, gates, valid, state, weights._replace(hr=hr))

    after, derivative = jax.linearize(scanned, gates, state, weights.hr)
    d_gates = d_gates + linear(after[2], d_weights.hh, d_weights.b_hh)
    return after, derivative(d_gates, d_state, d_weights.hr)


# --- checks ---------------------------------------------------------------------------------


def _pair(hx: Any, name: str) -> tuple[Any, Any] | None:
    if hx is None:
        return None
    if not isinstance(hx, Sequence) or len(hx) != 2:
        raise ValueError(f"{name}: `hx` must be the pair (h, c), got {type(hx).__name__}")
    return hx[0], hx[1]


def _grouped(
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


def _arrays(name: str, input: Any, *groups: Sequence[Any]) -> tuple[Array, list[Weights]]:
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


def _check_sequence(name: str, input: Array, batch_first: bool) -> None:
    if input.ndim not in (2, 3):
        raise ValueError(
            f"{name}: `input` must have shape (L, N, input_size), or (N, L, input_size) with "
            f"batch_first, or (L, input_size), got {input.shape}"
        )
    steps = input.shape[1 if batch_first and input.ndim == 3 else 0]
    if isinstance(steps, int) and steps == 0:
        raise ValueError(f"{name}: `input` must have at least one step, got shape {input.shape}")


def _check_weights(name: str, cell: Cell, weights: Weights, input_size: int) -> int:
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


def _check_stack(
    name: str, cell: Cell, weights: list[Weights], input_size: int, directions: int
) -> int:
    """Return hidden_size, refusing layers that do not fit one on the other."""
    hidden_size = _check_weights(name, cell, weights[0], input_size)
    for index, one in enumerate(weights):
        size = input_size if index < directions else directions * weights[0].hh.shape[1]
        if _check_weights(name, cell, one, size) != hidden_size:
            raise ValueError(f"{name}: all layers must have the same hidden size, {hidden_size}")
    return hidden_size


def _check_state(name: str, state: Any, shapes: tuple[tuple[int, ...], ...], input: Array) -> State:
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


def _valid_steps(
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
