"""Recurrent layers: cells along sequences."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from ... import functional as F
from ... import init
from ..._checks import check_int
from .._module import RandomModule, RandomSource, name_of, parameter_dtype, parameter_key
from .._options import changed
from .._packed import PackedSequence, lengths_in_order, pack_in_order, pad_in_order

_FUNCTIONS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "RNN_TANH": F.rnn_tanh,
    "RNN_RELU": F.rnn_relu,
    "LSTM": F.lstm,
    "GRU": F.gru,
}
_GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}


class RNNBase(RandomModule):
    """Base class of the recurrent layers: their parameters, and what they share of a call.

    x of a layer is the output of the one before; with `bidirectional`, each layer also runs from
    the end to the beginning, with weights of its own, and its output is h of both directions, one
    behind the other. D below is 2 then, else 1; R is `proj_size`, or else hidden_size.

    Shapes: input (L, N, input_size), or (N, L, input_size) with `batch_first`, or (L, input_size);
    h_0 (D num_layers, N, R), or (D num_layers, R) -> output (L, N, D R), or (N, L, D R), or
    (L, D R), and h_n, shaped as h_0: layer by layer, the forward direction first.

    A call takes input, h_0 (zeros if left out) and, keyword-only, `lengths`, an integer array that
    may be traced: beyond its end a sequence is not read and its output is zero. In place of the
    input there may be a `jaxnn.utils.rnn.PackedSequence`; then the output is one too.

    Args:
        mode: "LSTM", "GRU", "RNN_TANH" or "RNN_RELU".
        input_size: size of the input's last dimension.
        hidden_size: size of the hidden state.
        num_layers: number of layers, each on the output of the one before.
        bias: whether there are biases.
        batch_first: whether the batch is the first dimension of input and output, not the second.
        dropout: probability with which each element of each layer's output but the last one's is
            zeroed in training mode.
        bidirectional: whether each layer runs in both directions.
        proj_size: size that the hidden state of an LSTM is projected to, or 0.
        dtype: the parameters' dtype, which the input must have too.
        rngs: where the parameters are drawn from, and the stream for dropout.

    Attributes:
        weight_ih_l{k}: the weights of layer k for its input, gate below gate, of shape
            (gates hidden_size, input_size), in later layers (gates hidden_size, D R); drawn from
            U(-s, s) with s = 1 / sqrt(hidden_size), as all.
        weight_hh_l{k}: those for its state, of shape (gates hidden_size, R).
        bias_ih_l{k}, bias_hh_l{k}: the biases in the same order, of shape (gates hidden_size,).
        weight_hr_l{k}: the projection, of shape (R, hidden_size), where there is one.
        *_reverse: the same, of the reverse direction.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> issubclass(jaxnn.LSTM, jaxnn.RNNBase)
        True
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        layer = name_of(self)
        if mode not in _GATES:
            raise ValueError(f"{layer}: `mode` must be one of {sorted(_GATES)}, got {mode!r}")
        self.mode = mode
        self.input_size = check_int(input_size, "input_size", layer, minimum=1)
        self.hidden_size = check_int(hidden_size, "hidden_size", layer, minimum=1)
        self.num_layers = check_int(num_layers, "num_layers", layer, minimum=1)
        self.bias = _check_bool(bias, "bias", layer)
        self.batch_first = _check_bool(batch_first, "batch_first", layer)
        self.dropout = _check_dropout(dropout, self.num_layers, layer)
        self.bidirectional = bool(bidirectional)
        self.proj_size = check_int(proj_size, "proj_size", layer, minimum=0)
        if self.proj_size >= self.hidden_size or (self.proj_size and mode != "LSTM"):
            raise ValueError(
                f"{layer}: `proj_size` must be less than hidden_size={self.hidden_size}, and 0 but "
                f"in an LSTM, got {proj_size}"
            )
        bound = 1 / math.sqrt(self.hidden_size)
        for names in self._parameter_names():
            for name, shape in names.items():
                key = parameter_key(self, rngs)
                drawn = init.uniform(key, shape, parameter_dtype(self, dtype), a=-bound, b=bound)
                setattr(self, name, nnx.Param(drawn))
        # A stream is integer state, which jax.grad refuses: only what may draw has one.
        self._init_random(rngs if self.dropout > 0 and self.num_layers > 1 else None)

    def _parameter_names(self) -> list[dict[str, tuple[int, ...]]]:
        """Return the parameters' shapes by name, for each layer and direction."""
        rows = _GATES[self.mode] * self.hidden_size
        state_size = self.proj_size or self.hidden_size
        directions = ["", "_reverse"] if self.bidirectional else [""]
        groups = []
        for layer in range(self.num_layers):
            size = self.input_size if layer == 0 else state_size * len(directions)
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (rows, size),
                "weight_hh": (rows, state_size),
            }
            if self.bias:
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            if self.proj_size:
                shapes["weight_hr"] = (self.proj_size, self.hidden_size)
            for suffix in directions:
                groups.append({f"{n}_l{layer}{suffix}": shape for n, shape in shapes.items()})
        return groups

    @property
    def all_weights(self) -> list[list[nnx.Param[Array]]]:
        """The parameters, for each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._parameter_names()]

    def flatten_parameters(self) -> None:
        """Do nothing: XLA lays parameters out itself. It is there since torch code calls it."""

    def __call__(self, input: Any, hx: Any = None) -> Any:
        raise NotImplementedError(
            f"{name_of(self)} cannot be called: use jaxnn.RNN, jaxnn.LSTM or jaxnn.GRU"
        )

    def extra_repr(self) -> str:
        defaults = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0,
            "bidirectional": False,
        }
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *changed(self, defaults)])

    def _run(self, input: Any, hx: Any, lengths: Any, rngs: RandomSource | None) -> tuple[Any, ...]:
        """Return the output, and the last states one after the other."""
        if isinstance(input, PackedSequence):
            return self._run_packed(input, hx, lengths, rngs)
        return self._run_padded(input, hx, lengths, rngs, self.batch_first)

    def _run_packed(
        self, input: PackedSequence, hx: Any, lengths: Any, rngs: RandomSource | None
    ) -> tuple[Any, ...]:
        layer = name_of(self)
        if lengths is not None:
            raise ValueError(f"{layer}: a PackedSequence has its lengths: leave `lengths` out")
        if input.data.ndim != 2:
            raise ValueError(
                f"{layer}: the data of a PackedSequence must have shape (steps, input_size), got "
                f"{input.data.shape}"
            )
        if input.sorted_indices is not None and hx is not None:
            hx = jax.tree.map(lambda part: part[:, input.sorted_indices], hx)
        padded = pad_in_order(input, len(input.batch_sizes))
        known = lengths_in_order(input)
        output, *state = self._run_padded(padded, hx, known, rngs, batch_first=False)
        if input.unsorted_indices is not None:
            state = [part[:, input.unsorted_indices] for part in state]
        return pack_in_order(output, input), *state

    def _run_padded(
        self, input: Any, hx: Any, lengths: Any, rngs: RandomSource | None, batch_first: bool
    ) -> tuple[Any, ...]:
        train = not self.deterministic
        draws = train and self.num_layers > 1 and 0 < self.dropout < 1
        return _FUNCTIONS[self.mode](
            input,
            hx,
            [weight[...] for weights in self.all_weights for weight in weights],
            self.bias,
            self.num_layers,
            self.dropout,
            train,
            self.bidirectional,
            batch_first,
            lengths=lengths,
            rng=self._draw_key(rngs) if draws else None,
        )


class _OneState(RNNBase):
    """A recurrent layer whose state is h alone."""

    @overload
    def __call__(
        self,
        input: PackedSequence,
        hx: Float[Array, "states N H"] | None = None,
        *,
        rngs: RandomSource | None = None,
    ) -> tuple[PackedSequence, Float[Array, "states N H"]]: ...

    @overload
    def __call__(
        self,
        input: Float[Array, "L *N input_size"],
        hx: Float[Array, "states *N H"] | None = None,
        *,
        lengths: Int[Array, " N"] | Sequence[int] | None = None,
        rngs: RandomSource | None = None,
    ) -> tuple[Float[Array, "L *N out"], Float[Array, "states *N H"]]: ...

    def __call__(
        self,
        input: Any,
        hx: Any = None,
        *,
        lengths: Any = None,
        rngs: RandomSource | None = None,
    ) -> tuple[Any, Any]:
        """Return the outputs of the last layer, and the last states of all layers.

        Args:
            input: the sequences, or a PackedSequence.
            hx: the states before the first step; zeros if None.
            lengths: the number of steps of each sequence, if not all; it may be traced. The
                result is that of packing the sequences and padding the output.
            rngs: takes the place of the layer's stream, for dropout.
        """
        output, h = self._run(input, hx, lengths, rngs)
        return output, h


class RNN(_OneState):
    """Run layers of Elman cells along sequences.

    See `RNNBase` for layers, shapes, options and parameters (of one gate), and
    `jaxnn.functional.rnn_tanh` and `rnn_relu` for the formula.

    Args:
        nonlinearity: "tanh" or "relu".
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, rngs:
            as for `RNNBase`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.RNN(10, 20, 2, rngs=nnx.Rngs(0))
        >>> output, h_n = layer(jnp.ones((5, 3, 10)), jnp.zeros((2, 3, 20)))
        >>> output.shape, h_n.shape
        ((5, 3, 20), (2, 3, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f'jaxnn.RNN: `nonlinearity` must be "tanh" or "relu", got {nonlinearity!r}'
            )
        self.nonlinearity = nonlinearity
        super().__init__(
            f"RNN_{nonlinearity.upper()}",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype=dtype,
            rngs=rngs,
        )


class GRU(_OneState):
    """Run layers of gated recurrent units along sequences.

    See `RNNBase` for layers, shapes, options and parameters (of three gates: r, z, n), and
    `jaxnn.functional.gru` for the formula.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, rngs:
            as for `RNNBase`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.GRU(10, 20, batch_first=True, bidirectional=True, rngs=nnx.Rngs(0))
        >>> output, h_n = layer(jnp.ones((3, 5, 10)), lengths=jnp.array([5, 1, 4]))
        >>> output.shape, h_n.shape
        ((3, 5, 40), (2, 3, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype=dtype,
            rngs=rngs,
        )


class LSTM(RNNBase):
    """Run layers of long short-term memories along sequences.

    See `RNNBase` for layers, shapes, options and parameters (of four gates: i, f, g, o), and
    `jaxnn.functional.lstm` for the formula. In place of h_0 and h_n there are the pairs (h_0, c_0)
    and (h_n, c_n), c of shape (D num_layers, N, hidden_size), or without N.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
            dtype, rngs: as for `RNNBase`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.LSTM(10, 20, 2, rngs=nnx.Rngs(0))
        >>> output, (h_n, c_n) = layer(jnp.ones((5, 3, 10)))
        >>> output.shape, h_n.shape, c_n.shape
        ((5, 3, 20), (2, 3, 20), (2, 3, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            dtype=dtype,
            rngs=rngs,
        )

    @overload
    def __call__(
        self,
        input: PackedSequence,
        hx: tuple[Float[Array, "states N R"], Float[Array, "states N H"]] | None = None,
        *,
        rngs: RandomSource | None = None,
    ) -> tuple[PackedSequence, tuple[Float[Array, "states N R"], Float[Array, "states N H"]]]: ...

    @overload
    def __call__(
        self,
        input: Float[Array, "L *N input_size"],
        hx: tuple[Float[Array, "states *N R"], Float[Array, "states *N H"]] | None = None,
        *,
        lengths: Int[Array, " N"] | Sequence[int] | None = None,
        rngs: RandomSource | None = None,
    ) -> tuple[
        Float[Array, "L *N out"],
        tuple[Float[Array, "states *N R"], Float[Array, "states *N H"]],
    ]: ...

    def __call__(
        self,
        input: Any,
        hx: Any = None,
        *,
        lengths: Any = None,
        rngs: RandomSource | None = None,
    ) -> tuple[Any, Any]:
        """Return the output and the pair (h_n, c_n); the arguments are those of `RNN`."""
        output, h, c = self._run(input, hx, lengths, rngs)
        return output, (h, c)


def _check_bool(value: Any, name: str, layer: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{layer}: `{name}` must be True or False, got {value!r}")
    return bool(value)


def _check_dropout(value: Any, num_layers: int, layer: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{layer}: `dropout` must be a number, got {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{layer}: `dropout` must be a probability, from 0 to 1, got {value!r}")
    if value > 0 and num_layers == 1:
        warnings.warn(
            f"{layer}: dropout={value} acts between layers, and there is only one: raise "
            "num_layers, or leave dropout out",
            stacklevel=4,
        )
    return float(value)
