"""Recurrent layers beyond their files: packed sequences, traced lengths, transformations."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch.nn.utils import rnn as torch_rnn

import jaxnn
from jaxnn.utils import rnn

LAYERS = ["RNN", "LSTM", "GRU"]


def both(layer: str, **options: Any) -> tuple[torch.nn.Module, Any]:
    """The layer in torch and here, with the same parameters."""
    theirs = getattr(torch.nn, layer)(3, 4, **options)
    ours = getattr(jaxnn, layer)(3, 4, **options, rngs=nnx.Rngs(0))
    jaxnn.load_state_dict(ours, theirs.state_dict())
    return theirs, ours


def states(layer: str, ours: Any, batch: int) -> Any:
    count = ours.num_layers * (2 if ours.bidirectional else 1)
    values = np.random.default_rng(1).normal(size=(2, count, batch, 4)).astype(np.float32)
    return (values[0], values[1]) if layer == "LSTM" else values[0]


def batch(steps: int = 5, size: int = 3) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(steps, size, 3))
    return values.astype(np.float32)


def to_torch(tree: Any) -> Any:
    return jax.tree.map(lambda array: torch.from_numpy(np.array(array)), tree)


def assert_close(ours: Any, theirs: Any) -> None:
    theirs = jax.tree.map(lambda tensor: tensor.detach().numpy(), theirs)
    for mine, wanted in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(mine, wanted, atol=2e-6)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("lengths", "enforce_sorted"), [([5, 2, 1], True), ([1, 5, 3], False)])
def test_packed_sequence_and_lengths_are_what_torch_computes(
    layer: str, lengths: list[int], enforce_sorted: bool
) -> None:
    theirs, ours = both(layer, num_layers=2, bidirectional=True)
    x, hx = batch(), states(layer, ours, 3)
    options = {"enforce_sorted": enforce_sorted}
    wanted, last = theirs(
        torch_rnn.pack_padded_sequence(to_torch(x), torch.tensor(lengths), **options), to_torch(hx)
    )
    packed = rnn.pack_padded_sequence(jnp.asarray(x), lengths, **options)
    output, state = jax.jit(ours)(packed, hx)
    assert_close((output.data, state), (wanted.data, last))
    padded, read = rnn.pad_packed_sequence(output, total_length=6, padding_value=-1.0)
    assert_close((padded, read), torch_rnn.pad_packed_sequence(wanted, False, -1.0, 6))

    x = np.where(np.arange(5)[:, None, None] < np.array(lengths)[:, None], x, np.nan)
    output, state = jax.jit(lambda x, n: ours(x, hx, lengths=n))(x, jnp.asarray(lengths))
    assert_close((output, state), (torch_rnn.pad_packed_sequence(wanted)[0], last))


@pytest.mark.parametrize("layer", LAYERS)
def test_gradients_with_lengths_are_those_of_the_sequences_alone(layer: str) -> None:
    _, ours = both(layer, bidirectional=True)
    graphdef, state = nnx.split(ours)
    x = batch(4, 2)
    x[2:, 1] = np.nan

    def loss(state: Any, x: Any, lengths: Any) -> Any:
        return (nnx.merge(graphdef, state)(x, lengths=lengths)[0] ** 2).sum()

    together, dx = jax.grad(loss, (0, 1))(state, x, jnp.array([4, 2]))
    alone = [jax.grad(loss)(state, x[:n, i : i + 1], None) for i, n in enumerate([4, 2])]
    summed = jax.tree.map(lambda a, b: a + b, *alone)
    for mine, wanted in zip(jax.tree.leaves(together), jax.tree.leaves(summed), strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-5)
    assert not dx[2:, 1].any()
    assert np.isfinite(dx).all()


def test_a_length_of_zero_keeps_the_state() -> None:
    _, ours = both("GRU")
    hx = states("GRU", ours, 2)
    output, last = ours(batch(3, 2), hx, lengths=jnp.array([0, 3]))
    assert not output[:, 0].any()
    np.testing.assert_array_equal(last[:, 0], hx[:, 0])


@pytest.mark.parametrize("layer", LAYERS)
def test_both_modes_of_differentiation_agree(layer: str) -> None:
    _, ours = both(layer)
    x = jnp.asarray(batch(3, 2))

    def f(x: Any) -> Any:
        return (ours(x)[0] ** 2).sum()

    forward = jax.jacfwd(jax.grad(f))(x)
    np.testing.assert_allclose(forward, jax.jacrev(jax.grad(f))(x), atol=1e-5)


def test_the_program_does_not_grow_with_the_sequence() -> None:
    _, ours = both("LSTM", num_layers=2, bidirectional=True)
    sizes = [len(jax.jit(ours).lower(jnp.asarray(batch(n, 2))).as_text()) for n in (4, 64)]
    assert sizes[1] < 1.05 * sizes[0]


def test_dropout_draws_from_the_layer_or_from_the_call() -> None:
    layer = jaxnn.GRU(3, 4, num_layers=2, dropout=0.5, rngs=nnx.Rngs(0))
    x = jnp.asarray(batch())
    key = jax.random.key(3)
    assert (layer(x, rngs=key)[0] == layer(x, rngs=key)[0]).all()
    assert (layer(x)[0] != layer(x)[0]).any()
    assert (layer.eval()(x)[0] == layer(x)[0]).all()
    with pytest.warns(UserWarning, match="only one"):
        jaxnn.GRU(3, 4, dropout=0.5, rngs=nnx.Rngs(0))


def test_lengths_that_do_not_fit_are_refused() -> None:
    _, ours = both("RNN")
    x = batch()
    with pytest.raises(ValueError, match="between 0 and the number of steps"):
        ours(x, lengths=[6, 1, 1])
    with pytest.raises(ValueError, match="shape"):
        ours(x, lengths=[1, 1])
    with pytest.raises(TypeError, match="integers"):
        ours(x, lengths=jnp.ones(3))
    with pytest.raises(ValueError, match="leave `lengths` out"):
        ours(rnn.pack_padded_sequence(x, [5, 5, 5]), lengths=[5, 5, 5])


def test_packing_under_jit_names_the_other_way() -> None:
    with pytest.raises(TypeError, match="lengths="):
        jax.jit(lambda n: rnn.pack_padded_sequence(jnp.ones((3, 2)), n).data)(jnp.array([3, 1]))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [([1, 3, 2], "enforce_sorted=False"), ([5, 0, 0], "between 1"), ([6, 1, 1], "between 1")],
)
def test_packing_refuses_lengths(lengths: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rnn.pack_padded_sequence(jnp.asarray(batch()), lengths)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_padding_is_that_of_torch(side: str, batch_first: bool) -> None:
    sequences = [np.arange(n * 2, dtype=np.float32).reshape(n, 2) for n in (2, 4, 0)]
    options = (batch_first, -1.5, side)
    wanted = torch_rnn.pad_sequence(to_torch(sequences), *options)
    assert_close(rnn.pad_sequence(sequences, *options), wanted)


def test_sequences_come_back() -> None:
    sequences = [jnp.arange(3.0), jnp.arange(5.0), jnp.arange(1.0)]
    packed = rnn.pack_sequence(sequences, enforce_sorted=False)
    theirs = torch_rnn.pack_sequence(to_torch(sequences), enforce_sorted=False)
    for mine, wanted in zip(packed, theirs, strict=True):
        np.testing.assert_array_equal(mine, wanted)
    unpacked = rnn.unpack_sequence(packed)
    assert [row.tolist() for row in unpacked] == [row.tolist() for row in sequences]
    assert jax.tree.map(lambda leaf: leaf, packed).batch_sizes.tolist() == [3, 2, 2, 1, 1]


def test_the_bases_are_not_called() -> None:
    base = jaxnn.RNNBase("LSTM", 3, 4, rngs=nnx.Rngs(0))
    assert list(jaxnn.state_dict(base)) == list(torch.nn.RNNBase("LSTM", 3, 4).state_dict())
    with pytest.raises(NotImplementedError, match=r"jaxnn\.LSTM"):
        base(jnp.asarray(batch()))
    with pytest.raises(ValueError, match="proj_size"):
        jaxnn.RNNBase("GRU", 3, 4, proj_size=2, rngs=nnx.Rngs(0))
    base.flatten_parameters()


def test_symbolic_batch_and_every_platform() -> None:
    _, ours = both("LSTM", num_layers=2, bidirectional=True, batch_first=True)
    (n,) = jax.export.symbolic_shape("n")
    x = jax.ShapeDtypeStruct((n, 5, 3), jnp.float32)
    lengths = jax.ShapeDtypeStruct((n,), jnp.int32)
    platforms = ["cpu", "cuda", "rocm", "tpu"]
    call = jax.jit(lambda x, lengths: ours(x, lengths=lengths))
    exported = jax.export.export(call, platforms=platforms)(x, lengths)
    values = jnp.asarray(batch(4, 5))
    output, _ = exported.call(values, jnp.array([5, 1, 2, 3]))
    np.testing.assert_allclose(output, ours(values, lengths=[5, 1, 2, 3])[0], atol=1e-6)
