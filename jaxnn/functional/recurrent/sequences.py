"""Layers of cells along sequences: the public functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._checks import check_int
from ..dropout import check_probability, dropout
from .cells import GRU, LSTM, RNN_RELU, RNN_TANH, Cell
from .checks import arrays_of, check_sequence, check_stack, check_state, grouped, pair, valid_steps
from .scan import run_layer


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
    state = pair(hx, "lstm")
    options = (has_biases, num_layers, dropout, train, bidirectional, batch_first)
    output, h, c = _layers("lstm", LSTM, input, state, params, *options, lengths, rng)
    return output, h, c


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
    groups = grouped(name, params, bool(has_biases), num_layers * directions)
    input, weights = arrays_of(name, input, *groups)
    check_sequence(name, input, bool(batch_first))
    hidden_size = check_stack(name, cell, weights, input.shape[-1], directions)
    batched = input.ndim == 3
    x = input if batched else input[:, None]
    x = x.swapaxes(0, 1) if batched and batch_first else x
    lead = (len(weights), *((x.shape[1],) if batched else ()))
    sizes = (weights[0].hh.shape[1], hidden_size)[: cell.states]
    state = check_state(name, state, tuple((*lead, size) for size in sizes), input)
    valid = valid_steps(name, lengths, x.shape[0], x.shape[1], batched)
    if not batched:
        state = tuple(part[:, None] for part in state)
    if valid is not None:
        # What lies beyond a sequence's end is not read, so that a NaN there stays out of gradients.
        x = jnp.where(valid, x, jnp.zeros_like(x))
    last = []
    for layer in range(num_layers):
        part = slice(layer * directions, (layer + 1) * directions)
        x, final = run_layer(x, tuple(s[part] for s in state), weights[part], valid, cell)
        last.append(final)
        if train and layer < num_layers - 1:
            x = dropout(x, p, rng=None if rng is None else jax.random.fold_in(rng, layer))
    state = tuple(jnp.concatenate(parts) for parts in zip(*last, strict=True))
    if not batched:
        return x[:, 0], *(part[:, 0] for part in state)
    return (x.swapaxes(0, 1) if batch_first else x), *state
