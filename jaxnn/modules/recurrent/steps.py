"""Recurrent cells: one step of a sequence."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ... import functional as F
from ... import init
from ..._checks import check_int
from .._module import Module, name_of, parameter_dtype, parameter_key
from .._options import changed
from .._state import value_of


class RNNCellBase(Module):
    """Base class of the recurrent cells: their parameters.

    Args:
        input_size: size of the input's last dimension.
        hidden_size: size of the hidden state.
        bias: whether there are biases.
        num_chunks: number of gates.
        dtype: the parameters' dtype, which the input must have too.
        rngs: where the parameters are drawn from.

    Attributes:
        weight_ih: the weights for the input, gate below gate, of shape
            (num_chunks hidden_size, input_size); drawn from U(-s, s) with
            s = 1 / sqrt(hidden_size), as all.
        weight_hh: those for the state, of shape (num_chunks hidden_size, hidden_size).
        bias_ih, bias_hh: the biases in the same order, of shape (num_chunks hidden_size,), or None.

    Example:
        >>> import jaxnn
        >>> issubclass(jaxnn.GRUCell, jaxnn.RNNCellBase)
        True
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_chunks: int,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        layer = name_of(self)
        self.input_size = check_int(input_size, "input_size", layer, minimum=0)
        self.hidden_size = check_int(hidden_size, "hidden_size", layer, minimum=0)
        self.bias = bool(bias)
        rows = num_chunks * self.hidden_size
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size else 0.0
        self.weight_ih = self._drawn((rows, self.input_size), bound, dtype, rngs)
        self.weight_hh = self._drawn((rows, self.hidden_size), bound, dtype, rngs)
        self.bias_ih = self._drawn((rows,), bound, dtype, rngs) if bias else nnx.data(None)
        self.bias_hh = self._drawn((rows,), bound, dtype, rngs) if bias else nnx.data(None)

    def _drawn(
        self, shape: tuple[int, ...], bound: float, dtype: DTypeLike, rngs: nnx.Rngs | None
    ) -> nnx.Param[Array]:
        key = parameter_key(self, rngs)
        return nnx.Param(init.uniform(key, shape, parameter_dtype(self, dtype), a=-bound, b=bound))

    def _weights(self) -> tuple[Array, Array, Array | None, Array | None]:
        return (
            self.weight_ih[...],
            self.weight_hh[...],
            value_of(self.bias_ih),
            value_of(self.bias_hh),
        )

    def __call__(self, input: Any, hx: Any = None) -> Any:
        raise NotImplementedError(
            f"{name_of(self)} cannot be called: use jaxnn.RNNCell, jaxnn.LSTMCell or jaxnn.GRUCell"
        )

    def extra_repr(self) -> str:
        options = changed(self, {"bias": True, "nonlinearity": "tanh"})
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *options])


class RNNCell(RNNCellBase):
    """Take one step of an Elman network.

    See `RNNCellBase` for options and parameters (of one gate), and `jaxnn.functional.rnn_tanh_cell`
    and `rnn_relu_cell` for the formula.

    Shapes: x (N, input_size), h (N, hidden_size), zeros if left out -> h' (N, hidden_size); or all
    without N.

    Args:
        nonlinearity: "tanh" or "relu".
        input_size, hidden_size, bias, dtype, rngs: as for `RNNCellBase`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> cell = jaxnn.RNNCell(10, 20, rngs=nnx.Rngs(0))
        >>> h = cell(jnp.ones((3, 10)))
        >>> cell(jnp.ones((3, 10)), h).shape
        (3, 20)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f'jaxnn.RNNCell: `nonlinearity` must be "tanh" or "relu", got {nonlinearity!r}'
            )
        super().__init__(input_size, hidden_size, bias, num_chunks=1, dtype=dtype, rngs=rngs)
        self.nonlinearity = nonlinearity

    def __call__(
        self,
        input: Float[Array, "*N input_size"],
        hx: Float[Array, "*N hidden_size"] | None = None,
    ) -> Float[Array, "*N hidden_size"]:
        step = F.rnn_tanh_cell if self.nonlinearity == "tanh" else F.rnn_relu_cell
        return step(input, hx, *self._weights())


class LSTMCell(RNNCellBase):
    """Take one step of a long short-term memory.

    See `RNNCellBase` for options and parameters (of four gates: i, f, g, o), and
    `jaxnn.functional.lstm_cell` for the formula.

    Shapes: x (N, input_size), the pair of h and c (N, hidden_size), zeros if left out -> the pair
    of h' and c' (N, hidden_size); or all without N.

    Args:
        input_size, hidden_size, bias, dtype, rngs: as for `RNNCellBase`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> cell = jaxnn.LSTMCell(10, 20, rngs=nnx.Rngs(0))
        >>> h, c = cell(jnp.ones((3, 10)))
        >>> h, c = cell(jnp.ones((3, 10)), (h, c))
        >>> h.shape, c.shape
        ((3, 20), (3, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, num_chunks=4, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        input: Float[Array, "*N input_size"],
        hx: tuple[Float[Array, "*N hidden_size"], Float[Array, "*N hidden_size"]] | None = None,
    ) -> tuple[Float[Array, "*N hidden_size"], Float[Array, "*N hidden_size"]]:
        return F.lstm_cell(input, hx, *self._weights())


class GRUCell(RNNCellBase):
    """Take one step of a gated recurrent unit.

    See `RNNCellBase` for options and parameters (of three gates: r, z, n), and
    `jaxnn.functional.gru_cell` for the formula.

    Shapes: x (N, input_size), h (N, hidden_size), zeros if left out -> h' (N, hidden_size); or all
    without N.

    Args:
        input_size, hidden_size, bias, dtype, rngs: as for `RNNCellBase`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> cell = jaxnn.GRUCell(10, 20, rngs=nnx.Rngs(0))
        >>> h = cell(jnp.ones((3, 10)))
        >>> cell(jnp.ones((3, 10)), h).shape
        (3, 20)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, num_chunks=3, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        input: Float[Array, "*N input_size"],
        hx: Float[Array, "*N hidden_size"] | None = None,
    ) -> Float[Array, "*N hidden_size"]:
        return F.gru_cell(input, hx, *self._weights())
