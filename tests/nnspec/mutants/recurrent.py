"""Wrong recurrent layers and cells."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxnn
import jaxnn.functional as F

from . import mutant, reconfigured


def with_weights(layer, change):
    """Return the layer or cell, called as if its parameters were `change(name, array)`."""

    class Mutant(layer):
        def __call__(self, input, hx=None):
            kept = {n: v[...] for n, v in vars(self).items() if isinstance(v, nnx.Param)}
            for name, value in kept.items():
                getattr(self, name)[...] = change(name, value)
            output = super().__call__(input, hx)
            for name, value in kept.items():
                getattr(self, name)[...] = value
            return output

    return Mutant


@mutant("RNNCell.M01", "LSTMCell.M04")
def one_bias(layer):
    return with_weights(layer, lambda name, v: jnp.zeros_like(v) if name == "bias_hh" else v)


@mutant("RNNCell.M02", "RNN.M07")
def always_tanh(layer):
    return reconfigured(layer, nonlinearity="tanh")


@mutant("RNNCell.M03")
def transposed_weight(layer):
    return with_weights(layer, lambda name, v: v.T if name == "weight_hh" else v)


@mutant("RNNCell.M04")
def state_ignored(layer):
    class Mutant(layer):
        def __call__(self, input, hx=None):
            return super().__call__(input, hx if hx is None else 0 * hx)

    return Mutant


@mutant("GRUCell.M01")
def update_before_reset(layer):
    def change(_, v):
        r, z, n = jnp.split(v, 3)
        return jnp.concatenate([z, r, n])

    return with_weights(layer, change)


@mutant("GRUCell.M02", "GRU.M07")
def update_interchanged(layer):
    # 1 - sigmoid(a) is sigmoid(-a).
    def change(_, v):
        r, z, n = jnp.split(v, 3)
        return jnp.concatenate([r, -z, n])

    return with_weights(layer, change)


def gru_step(form):
    """Return a mutation of GRUCell whose candidate is `form(x_n, r, h, weight, bias)`."""

    def make(layer):
        class Mutant(layer):
            def __call__(self, input, hx=None):
                h = jnp.zeros((*input.shape[:-1], self.hidden_size)) if hx is None else hx
                w_ih, w_hh, b_ih, b_hh = self._weights()
                x = jnp.split(F.linear(input, w_ih, b_ih), 3, -1)
                u = jnp.split(F.linear(h, w_hh, b_hh), 3, -1)
                r, z = F.sigmoid(x[0] + u[0]), F.sigmoid(x[1] + u[1])
                weight = jnp.split(w_hh, 3)[2]
                bias = jnp.zeros_like(weight[0]) if b_hh is None else jnp.split(b_hh, 3)[2]
                n = jnp.tanh(form(x[2], r, h, weight, jnp.broadcast_to(bias, u[2].shape)))
                return (1 - z) * n + z * h

        return Mutant

    return make


@mutant("GRUCell.M03")
def reset_before_the_product(layer):
    return gru_step(lambda x, r, h, w, b: x + F.linear(r * h, w) + b)(layer)


@mutant("GRUCell.M04")
def bias_outside_of_reset(layer):
    return gru_step(lambda x, r, h, w, b: x + r * F.linear(h, w) + b)(layer)


@mutant("LSTMCell.M01", "LSTM.M07")
def candidate_before_forget(layer):
    def change(name, v):
        if name.startswith("weight_hr"):
            return v
        i, f, g, o = jnp.split(v, 4)
        return jnp.concatenate([i, g, f, o])

    return with_weights(layer, change)


@mutant("LSTMCell.M02")
def cell_state_without_tanh(layer):
    class Mutant(layer):
        def __call__(self, input, hx=None):
            h, c = super().__call__(input, hx)
            squashed = jnp.tanh(c)
            return jnp.where(squashed == 0, h, h * c / squashed), c

    return Mutant


@mutant("LSTMCell.M03")
def forget_bias(layer):
    def change(name, v):
        rows = slice(v.shape[0] // 4, v.shape[0] // 2)
        return v.at[rows].add(1) if name == "bias_ih" else v

    return with_weights(layer, change)


# --- layers ---------------------------------------------------------------------------------


def layers(change):
    """Return a mutation of a layer that computes `change(self, input, hx, run)`.

    `run` is the right call, of (input, hx), and returns (output, states), a list of arrays.
    """

    def make(layer):
        class Mutant(layer):
            def __call__(self, input, hx=None):
                def run(input, hx):
                    output, states = layer.__call__(self, input, hx)
                    return output, list(states) if isinstance(states, tuple) else [states]

                output, states = change(self, input, hx, run)
                return output, tuple(states) if self.mode == "LSTM" else states[0]

        return Mutant

    return make


@mutant("RNN.M01", "GRU.M01", "LSTM.M01")
def reverse_output_not_turned(layer):
    def change(self, input, hx, run):
        output, states = run(input, hx)
        if not self.bidirectional:
            return output, states
        time = 1 if self.batch_first and input.ndim == 3 else 0
        forward, reverse = jnp.split(output, 2, -1)
        return jnp.concatenate([forward, jnp.flip(reverse, time)], -1), states

    return layers(change)(layer)


def _one_by_one(self, input, hx, between):
    """Run the layers one by one; `between(x, states)` gives the next one's input and state."""
    options = ("bias", "batch_first", "bidirectional", "nonlinearity", "proj_size")
    names = inspect.signature(getattr(jaxnn, type(self).__mro__[1].__name__)).parameters
    options = {name: getattr(self, name) for name in options if name in names}
    right = getattr(jaxnn, type(self).__mro__[1].__name__)
    groups = self.all_weights
    size = len(groups) // self.num_layers
    x, state, last = input, hx, []
    for k in range(self.num_layers):
        one = right(x.shape[-1], self.hidden_size, **options, rngs=nnx.Rngs(0))
        for mine, theirs in zip(one.all_weights, groups[k * size : (k + 1) * size], strict=True):
            for parameter, value in zip(mine, theirs, strict=True):
                parameter[...] = value[...]
        state = jax.tree.map(lambda part: part[:size], state)
        x, after = one(x, state)
        last.append(jax.tree.leaves(after))
        x, state = between(x, after) if k < self.num_layers - 1 else (x, None)
    return x, [jnp.concatenate(parts) for parts in zip(*last, strict=True)]


@mutant("RNN.M02", "GRU.M02", "LSTM.M02")
def state_handed_on(layer):
    def change(self, input, hx, run):
        draws = self.dropout and not self.deterministic
        if self.num_layers == 1 or draws:
            return run(input, hx)
        return _one_by_one(self, input, hx, lambda x, states: (x, states))

    return layers(change)(layer)


@mutant("RNN.M03", "GRU.M03", "LSTM.M03")
def batch_first_ignored(layer):
    def change(self, input, hx, run):
        if not self.batch_first or input.ndim != 3:
            return run(input, hx)
        output, states = run(input.swapaxes(0, 1), None)
        return output.swapaxes(0, 1), states

    return layers(change)(layer)


@mutant("RNN.M04", "GRU.M04", "LSTM.M04")
def last_output_dropped_too(layer):
    def change(self, input, hx, run):
        output, states = run(input, hx)
        if self.deterministic or not 0 < self.dropout < 1:
            return output, states
        return F.dropout(output, self.dropout, rng=self._draw_key(None)), states

    return layers(change)(layer)


@mutant("RNN.M05", "GRU.M05", "LSTM.M05")
def dropout_in_evaluation(layer):
    def change(self, input, hx, run):
        before, self.deterministic = self.deterministic, False
        result = run(input, hx)
        self.deterministic = before
        return result

    return layers(change)(layer)


@mutant("RNN.M06", "GRU.M06", "LSTM.M06")
def one_mask_for_all_steps(layer):
    def change(self, input, hx, run):
        if self.deterministic or not 0 < self.dropout < 1 or self.num_layers == 1:
            return run(input, hx)

        def between(x, states):
            mask = F.dropout(jnp.ones_like(x[:1]), self.dropout, rng=self._draw_key(None))
            return x * mask, None

        return _one_by_one(self, input, hx, between)

    return layers(change)(layer)


@mutant("RNN.M08", "GRU.M08", "LSTM.M08")
def states_by_direction(layer):
    def change(self, input, hx, run):
        output, states = run(input, hx)
        if not self.bidirectional:
            return output, states
        order = np.arange(2 * self.num_layers).reshape(-1, 2).T.reshape(-1)
        return output, [part[order] for part in states]

    return layers(change)(layer)
