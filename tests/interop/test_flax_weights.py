"""Torch's weights in Flax's own layers, NNX and Linen: the same outputs, and back again."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnn

torch = pytest.importorskip("torch")

RNGS = nnx.Rngs(0)


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1)


def channels_first(y: np.ndarray) -> np.ndarray:
    return np.moveaxis(y, -1, 1)


def same(x: np.ndarray) -> np.ndarray:
    return x


@dataclass
class Pair:
    """One layer in Flax and in torch, and how each is called on the same arrays of torch's layout.

    Attributes:
        flax: makes Flax's layer.
        torch: makes torch's.
        shapes: of the random inputs; or a function that makes them.
        to_flax: from an input of torch's layout to Flax's.
        to_torch: from Flax's output to torch's layout.
        transposed: whether the report says that arrays lie otherwise.
    """

    flax: Callable[[], nnx.Module]
    torch: Callable[[], Any]
    shapes: tuple[tuple[int, ...], ...]
    to_flax: Callable[[np.ndarray], np.ndarray] = same
    to_torch: Callable[[np.ndarray], np.ndarray] = same
    transposed: bool = True


def spatial(flax: Any, torch: Any, shape: tuple[int, ...], transposed: bool = True) -> Pair:
    return Pair(flax, torch, (shape,), channels_last, channels_first, transposed)


def padded(kernel: int, padding: int, dilation: int = 1) -> tuple[int, int]:
    """The padding of Flax's transposed convolution that is torch's `padding`."""
    return (dilation * (kernel - 1) - padding,) * 2


def conv_transpose(stride: int, padding: int, dilation: int, transpose_kernel: bool) -> Pair:
    return spatial(
        lambda: nnx.ConvTranspose(
            *(3, 5, (4, 3), stride),
            padding=[padded(4, padding, dilation), padded(3, padding, dilation)],
            kernel_dilation=dilation,
            transpose_kernel=transpose_kernel,
            rngs=RNGS,
        ),
        lambda: torch.nn.ConvTranspose2d(3, 5, (4, 3), stride, padding, dilation=dilation),
        (2, 3, 6, 7),
    )


PAIRS = {
    "Linear": Pair(
        lambda: nnx.Linear(3, 4, rngs=RNGS), lambda: torch.nn.Linear(3, 4), ((2, 5, 3),)
    ),
    "Linear without bias": Pair(
        lambda: nnx.Linear(3, 4, use_bias=False, rngs=RNGS),
        lambda: torch.nn.Linear(3, 4, bias=False),
        ((2, 3),),
    ),
    "LinearGeneral": Pair(
        lambda: nnx.LinearGeneral((2, 3), (4, 5), axis=(-2, -1), rngs=RNGS),
        lambda: torch.nn.Linear(6, 20),
        ((7, 6),),
        lambda x: x.reshape(-1, 2, 3),
        lambda y: y.reshape(-1, 20),
    ),
    "Conv 1d": spatial(
        lambda: nnx.Conv(4, 6, (3,), padding="VALID", rngs=RNGS),
        lambda: torch.nn.Conv1d(4, 6, 3),
        (2, 4, 9),
    ),
    "Conv 2d": spatial(
        lambda: nnx.Conv(
            *(4, 6, (3, 2), 2),
            padding=[(1, 1), (2, 2)],
            feature_group_count=2,
            kernel_dilation=(1, 2),
            rngs=RNGS,
        ),
        lambda: torch.nn.Conv2d(4, 6, (3, 2), 2, (1, 2), (1, 2), groups=2),
        (2, 4, 9, 8),
    ),
    "Conv 3d": spatial(
        lambda: nnx.Conv(2, 3, (3, 2, 1), padding="VALID", use_bias=False, rngs=RNGS),
        lambda: torch.nn.Conv3d(2, 3, (3, 2, 1), bias=False),
        (2, 2, 4, 5, 3),
    ),
    "ConvTranspose": conv_transpose(1, 0, 1, False),
    "ConvTranspose strided": conv_transpose(2, 1, 1, False),
    "ConvTranspose dilated": conv_transpose(2, 0, 2, False),
    "ConvTranspose swapped": conv_transpose(2, 1, 1, True),
    "ConvTranspose 1d VALID": spatial(
        lambda: nnx.ConvTranspose(3, 2, (4,), 3, padding="VALID", rngs=RNGS),
        lambda: torch.nn.ConvTranspose1d(3, 2, 4, 3),
        (2, 3, 5),
    ),
    "ConvTranspose 3d": spatial(
        lambda: nnx.ConvTranspose(3, 2, (2, 3, 2), padding="VALID", use_bias=False, rngs=RNGS),
        lambda: torch.nn.ConvTranspose3d(3, 2, (2, 3, 2), bias=False),
        (2, 3, 2, 3, 4),
    ),
    "BatchNorm": spatial(
        lambda: nnx.BatchNorm(3, use_running_average=True, epsilon=1e-5, rngs=RNGS),
        lambda: torch.nn.BatchNorm2d(3),
        (4, 3, 5, 2),
        transposed=False,
    ),
    "BatchNorm not affine": spatial(
        lambda: nnx.BatchNorm(
            3, use_running_average=True, use_bias=False, use_scale=False, rngs=RNGS
        ),
        lambda: torch.nn.BatchNorm1d(3, affine=False),
        (4, 3, 5),
        transposed=False,
    ),
    "LayerNorm": Pair(
        lambda: nnx.LayerNorm(6, epsilon=1e-5, rngs=RNGS),
        lambda: torch.nn.LayerNorm(6),
        ((2, 5, 6),),
        transposed=False,
    ),
    "RMSNorm": Pair(
        lambda: nnx.RMSNorm(6, epsilon=1e-5, rngs=RNGS),
        lambda: torch.nn.RMSNorm(6, eps=1e-5),
        ((2, 5, 6),),
        transposed=False,
    ),
    "GroupNorm": spatial(
        lambda: nnx.GroupNorm(6, 3, epsilon=1e-5, rngs=RNGS),
        lambda: torch.nn.GroupNorm(3, 6),
        (2, 6, 5, 4),
        transposed=False,
    ),
    "InstanceNorm": spatial(
        lambda: nnx.InstanceNorm(3, epsilon=1e-5, rngs=RNGS),
        lambda: torch.nn.InstanceNorm2d(3, affine=True),
        (2, 3, 5, 4),
        transposed=False,
    ),
    "Embed": Pair(
        lambda: nnx.Embed(7, 4, rngs=RNGS),
        lambda: torch.nn.Embedding(7, 4),
        ((3, 5),),
        transposed=False,
    ),
    "PReLU": Pair(nnx.PReLU, torch.nn.PReLU, ((3, 5),)),
    "MultiHeadAttention": Pair(
        lambda: nnx.MultiHeadAttention(2, 8, decode=False, rngs=RNGS),
        lambda: torch.nn.MultiheadAttention(8, 2, batch_first=True),
        ((3, 4, 8), (3, 5, 8), (3, 5, 8)),
    ),
    "MultiHeadAttention without bias": Pair(
        lambda: nnx.MultiHeadAttention(4, 8, use_bias=False, decode=False, rngs=RNGS),
        lambda: torch.nn.MultiheadAttention(8, 4, bias=False, batch_first=True),
        ((3, 4, 8), (3, 5, 8), (3, 5, 8)),
    ),
    "MultiHeadAttention of other features": Pair(
        lambda: nnx.MultiHeadAttention(2, 8, in_kv_features=6, decode=False, rngs=RNGS),
        lambda: torch.nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True),
        ((3, 4, 8), (3, 5, 6), (3, 5, 6)),
    ),
    "LSTMCell": Pair(
        lambda: nnx.LSTMCell(3, 4, rngs=RNGS),
        lambda: torch.nn.LSTMCell(3, 4),
        ((2, 3), (2, 4), (2, 4)),
    ),
    "OptimizedLSTMCell": Pair(
        lambda: nnx.OptimizedLSTMCell(3, 4, rngs=RNGS),
        lambda: torch.nn.LSTMCell(3, 4),
        ((2, 3), (2, 4), (2, 4)),
    ),
    "GRUCell": Pair(
        lambda: nnx.GRUCell(3, 4, rngs=RNGS), lambda: torch.nn.GRUCell(3, 4), ((2, 3), (2, 4))
    ),
    "SimpleCell": Pair(
        lambda: nnx.SimpleCell(3, 4, rngs=RNGS), lambda: torch.nn.RNNCell(3, 4), ((2, 3), (2, 4))
    ),
}


def randomize(module: Any) -> Any:
    """Give a torch module values that differ everywhere; what Flax's GRU lacks stays zero."""
    generator = torch.Generator().manual_seed(0)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.1)
        if isinstance(module, torch.nn.GRUCell) and name == "bias_hh":
            value[-module.hidden_size :] = 0
    return module.eval()


def inputs_of(pair: Pair, name: str) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    if name == "Embed":
        return [random.integers(0, 7, shape) for shape in pair.shapes]
    return [random.standard_normal(shape).astype(np.float32) for shape in pair.shapes]


def call_torch(layer: Any, inputs: list[np.ndarray]) -> np.ndarray:
    arrays = [torch.from_numpy(x) for x in inputs]
    with torch.no_grad():
        if isinstance(layer, torch.nn.LSTMCell):
            return layer(arrays[0], tuple(arrays[1:]))[1].numpy()
        result = layer(*arrays)
    return (result[0] if isinstance(result, tuple) else result).numpy()


def call_flax(layer: Any, inputs: list[np.ndarray]) -> np.ndarray:
    arrays = [jnp.asarray(x) for x in inputs]
    if isinstance(layer, (nnx.LSTMCell, nnx.OptimizedLSTMCell)):
        h, c = arrays[1:]
        return np.asarray(layer((c, h), arrays[0])[0][0])
    if isinstance(layer, (nnx.GRUCell, nnx.SimpleCell)):
        return np.asarray(layer(arrays[1], arrays[0])[0])
    return np.asarray(layer(*arrays))


@pytest.mark.standard_promotion
@pytest.mark.parametrize("name", PAIRS)
def test_a_layer_of_flax_is_the_layer_of_torch(name: str) -> None:
    pair = PAIRS[name]
    layer, twin = pair.flax(), randomize(pair.torch())
    weights = twin.state_dict()
    report = jaxnn.load_state_dict(layer, weights)
    assert bool(report.transposed) == pair.transposed
    assert report.filled == [key for key in weights if key != "num_batches_tracked"]
    inputs = inputs_of(pair, name)
    expected = call_torch(twin, inputs)
    actual = pair.to_torch(call_flax(layer, [pair.to_flax(x) for x in inputs]))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)

    state = jaxnn.state_dict(layer)
    assert list(state) == list(weights)
    assert all(array.flags.c_contiguous and array.flags.owndata for array in state.values())
    other = pair.torch().eval()
    other.load_state_dict(jaxnn.interop.to_torch(state))
    np.testing.assert_allclose(call_torch(other, inputs), expected, rtol=1e-5, atol=1e-5)
    jaxnn.load_state_dict(layer, state)
    for key, array in jaxnn.state_dict(layer).items():
        np.testing.assert_array_equal(array, state[key], err_msg=key)


def test_every_rule_is_tested() -> None:
    from jaxnn.interop.flax_layers import RULES

    tested = {type(pair.flax()) for pair in PAIRS.values()}
    assert {kind for kind in RULES if kind.__module__.startswith("flax.")} == tested


def test_a_hidden_bias_that_flax_lacks_is_refused() -> None:
    layer = nnx.GRUCell(3, 4, rngs=nnx.Rngs(0))
    before = jaxnn.state_dict(layer)
    weights = {key: value + 1 for key, value in before.items()}
    with pytest.raises(ValueError, match="b_hn"):
        jaxnn.load_state_dict(layer, weights)
    for key, array in jaxnn.state_dict(layer).items():
        np.testing.assert_array_equal(array, before[key])


def test_the_names_are_torchs_and_subclasses_keep_what_they_add() -> None:
    class Adapted(nnx.Linear):
        def __init__(self, rngs: nnx.Rngs) -> None:
            super().__init__(3, 4, rngs=rngs)
            self.extra = nnx.Param(jnp.ones(2))
            self.inner = nnx.Linear(4, 4, use_bias=False, rngs=rngs)

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.layers = nnx.List([nnx.Conv(1, 3, (3, 3), rngs=rngs), nnx.BatchNorm(3, rngs=rngs)])
            self.attention = nnx.MultiHeadAttention(2, 4, normalize_qk=True, rngs=rngs)
            self.head = Adapted(rngs)
            self.mixed = jaxnn.Linear(4, 2, rngs=rngs)
            self.einsum = nnx.Einsum("ab,bc->ac", (4, 2), rngs=rngs)

    net = Net(nnx.Rngs(0))
    state = jaxnn.state_dict(net)
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert list(state) == [
        *("layers.0.weight", "layers.0.bias"),
        *(f"layers.1.{name}" for name in norm),
        *("attention.in_proj_weight", "attention.in_proj_bias"),
        *("attention.out_proj.weight", "attention.out_proj.bias"),
        *("attention.query_ln.weight", "attention.key_ln.weight"),
        *("head.weight", "head.bias", "head.extra", "head.inner.weight"),
        *("mixed.weight", "mixed.bias", "einsum.kernel"),
    ]
    assert state["layers.1.num_batches_tracked"].dtype == np.int64
    report = jaxnn.load_state_dict(net, state)
    assert "head.weight" in report.transposed
    assert "head.bias" not in report.transposed
    assert set(state) - set(report.filled) == {"layers.1.num_batches_tracked"}


def test_the_count_of_batches_may_be_there_or_not() -> None:
    layer = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
    state = jaxnn.state_dict(layer)
    assert not jaxnn.load_state_dict(layer, state).unexpected_keys
    del state["num_batches_tracked"]
    assert not jaxnn.load_state_dict(layer, state).missing_keys
    new = dict(torch.nn.BatchNorm1d(3).state_dict())
    jaxnn.load_state_dict(layer, new)


def test_half_of_a_pair_of_biases_is_missing() -> None:
    cell = nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0))
    state = jaxnn.state_dict(cell)
    del state["bias_hh"]
    with pytest.raises(ValueError, match="missing in the source: bias_hh"):
        jaxnn.load_state_dict(cell, state)
    report = jaxnn.load_state_dict(cell, state, strict=False)
    assert report.missing_keys == ["bias_hh"]
    assert report.filled == ["weight_ih", "weight_hh"]


def test_a_wrong_shape_is_told_in_torchs_layout() -> None:
    layer = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"weight: has shape \(4, 3\) in the model, \(3, 4\)"):
        jaxnn.load_state_dict(layer, {"weight": np.ones((3, 4)), "bias": np.ones(4)})


@pytest.mark.standard_promotion
def test_a_cell_in_a_sequence_takes_the_layer_of_torch() -> None:
    twin = randomize(torch.nn.LSTM(3, 4, batch_first=True))
    rnn = nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    report = jaxnn.load_state_dict(rnn, twin.state_dict(), rename=[(r"^(.*)_l0$", r"cell.\1")])
    assert report.renamed["weight_ih_l0"] == "cell.weight_ih"
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    with torch.no_grad():
        expected = twin(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(rnn(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.standard_promotion
def test_projections_may_be_given_one_by_one() -> None:
    twin = randomize(torch.nn.MultiheadAttention(8, 2, batch_first=True))
    whole = twin.state_dict()
    names = ("query", "key", "value")
    state = {
        "out.weight": whole["out_proj.weight"],
        "out.bias": whole["out_proj.bias"],
        **{f"{n}.weight": w for n, w in zip(names, whole["in_proj_weight"].chunk(3), strict=True)},
        **{f"{n}.bias": b for n, b in zip(names, whole["in_proj_bias"].chunk(3), strict=True)},
    }
    layer = nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0))
    report = jaxnn.load_state_dict(layer, state)
    assert set(report.filled) == set(state)
    for key, array in jaxnn.state_dict(layer).items():
        np.testing.assert_array_equal(array, whole[key].numpy())
    with pytest.raises(ValueError, match=r"missing in the source: in_proj_weight, in_proj_bias"):
        jaxnn.load_state_dict(layer, state | {"out_proj.weight": whole["out_proj.weight"]})


def test_names_of_a_plan_are_those_of_the_tree() -> None:
    mesh = jax.make_mesh((1,), ("model",))
    rows = jax.sharding.PartitionSpec(None, "model")
    layer = nnx.eval_shape(lambda: nnx.Linear(3, 4, rngs=nnx.Rngs(0)))
    plan = jaxnn.sharding.plan(layer, [("kernel", rows)], mesh)
    weights = randomize(torch.nn.Linear(3, 4)).state_dict()
    jaxnn.load_state_dict(layer, weights, sharding=plan)
    assert layer.kernel.get_value().sharding.spec == rows
    np.testing.assert_array_equal(layer.kernel[...], weights["weight"].T.numpy())


def test_partitioned_parameters_go_where_their_mesh_says() -> None:
    mesh = jax.make_mesh((1,), ("model",))
    init = nnx.with_partitioning(nnx.initializers.ones, (None, "model"))
    weights = randomize(torch.nn.Linear(3, 4)).state_dict()

    def abstract() -> nnx.Linear:
        return nnx.eval_shape(lambda: nnx.Linear(3, 4, kernel_init=init, rngs=nnx.Rngs(0)))

    with jax.set_mesh(mesh):
        layer, other = abstract(), abstract()
        jaxnn.load_state_dict(layer, weights)
    assert layer.kernel.get_value().sharding.spec == jax.sharding.PartitionSpec(None, "model")
    assert isinstance(layer.kernel.get_value().sharding.mesh, jax.sharding.Mesh)
    # Without a mesh, the names of its axes mean nothing.
    jaxnn.load_state_dict(other, weights)
    assert not other.kernel.get_value().committed
    for loaded in (layer, other):
        np.testing.assert_array_equal(loaded.kernel[...], weights["weight"].T.numpy())


def test_abstract_layers_of_flax() -> None:
    weights = randomize(torch.nn.MultiheadAttention(8, 2)).state_dict()
    layer = nnx.eval_shape(lambda: nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0)))
    jaxnn.load_state_dict(layer, weights)
    for key, array in jaxnn.state_dict(layer).items():
        np.testing.assert_array_equal(array, weights[key].numpy())


# Linen


class LinenNet(nn.Module):
    """A model with most of Linen's layers."""

    @nn.compact
    def __call__(self, x: jax.Array, ids: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(4, (3, 3), padding="VALID")(x))
        x = nn.BatchNorm(use_running_average=True)(x)
        x = nn.ConvTranspose(4, (2, 2), (2, 2), padding="VALID")(x)
        x = nn.ConvTranspose(4, (2, 2), (2, 2), padding="VALID", name="up")(x)
        x = nn.GroupNorm(num_groups=2, epsilon=1e-5)(x)
        x = x.mean(axis=2) + nn.Embed(5, 4, name="table")(ids)
        x = nn.LayerNorm(epsilon=1e-5)(x)
        x = nn.MultiHeadDotProductAttention(2, name="attention")(x, x)
        x = nn.RNN(nn.OptimizedLSTMCell(6, name="lstm"))(x)
        x = nn.RNN(nn.GRUCell(3, name="gru"))(x)
        x = nn.RNN(nn.SimpleCell(3, name="rnn"))(x)
        x = nn.PReLU()(x)
        return nn.Dense(2, name="head")(x)


class TorchNet(torch.nn.Module):
    """The same model in torch."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv_0 = torch.nn.Conv2d(3, 4, 3)
        self.BatchNorm_0 = torch.nn.BatchNorm2d(4)
        self.ConvTranspose_0 = torch.nn.ConvTranspose2d(4, 4, 2, 2)
        self.up = torch.nn.ConvTranspose2d(4, 4, 2, 2)
        self.GroupNorm_0 = torch.nn.GroupNorm(2, 4)
        self.table = torch.nn.Embedding(5, 4)
        self.LayerNorm_0 = torch.nn.LayerNorm(4)
        self.attention = torch.nn.MultiheadAttention(4, 2, batch_first=True)
        self.lstm = torch.nn.LSTM(4, 6, batch_first=True)
        self.gru = torch.nn.GRU(6, 3, batch_first=True)
        self.rnn = torch.nn.RNN(3, 3, batch_first=True)
        self.PReLU_0 = torch.nn.PReLU()
        self.head = torch.nn.Linear(3, 2)

    def forward(self, x: Any, ids: Any) -> Any:
        x = self.BatchNorm_0(torch.relu(self.Conv_0(x)))
        x = self.GroupNorm_0(self.up(self.ConvTranspose_0(x)))
        x = self.LayerNorm_0(x.mean(3).transpose(1, 2) + self.table(ids))
        x = self.attention(x, x, x)[0]
        x = self.rnn(self.gru(self.lstm(x)[0])[0])[0]
        return self.head(self.PReLU_0(x))


CELLS = [(r"^(lstm|gru|rnn)\.(.*)_l0$", r"\1.\2")]


@pytest.mark.standard_promotion
def test_linen_variables() -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((2, 3, 5, 5)).astype(np.float32)
    ids = random.integers(0, 5, (2, 12))
    net, twin = LinenNet(), randomize(TorchNet())
    arguments = jnp.asarray(channels_last(x)), jnp.asarray(ids)
    abstract = jax.eval_shape(net.init, jax.random.key(0), *arguments)
    source = twin.state_dict()
    variables, report = jaxnn.interop.load_linen(
        abstract, source, rename=CELLS, transposed_convolutions=["up"]
    )
    assert not report.missing_keys
    assert not report.unexpected_keys
    assert "attention.in_proj_weight" in report.transposed
    assert jax.tree.structure(variables) == jax.tree.structure(abstract)
    with torch.no_grad():
        expected = twin(torch.from_numpy(x), torch.from_numpy(ids)).numpy()
    actual = net.apply(variables, *arguments)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)

    with pytest.raises(ValueError, match="no kernel"):
        jaxnn.interop.load_linen(abstract, source, transposed_convolutions=["down"])
    with pytest.raises(ValueError, match="missing"):
        jaxnn.interop.load_linen(abstract, source, transposed_convolutions=["up"])
    with pytest.raises(ValueError, match="params"):
        jaxnn.interop.load_linen(abstract["params"], source)


def test_linen_variables_keep_their_boxes_and_other_collections() -> None:
    init = nn.with_partitioning(nn.initializers.ones, (None, "model"))
    net = nn.Dense(4, kernel_init=init)
    variables = net.init(jax.random.key(0), jnp.ones((1, 3))) | {"cache": {"index": jnp.array(3)}}
    weight = np.arange(12.0).reshape(4, 3)
    source = {"weight": weight, "bias": np.full(4, np.nan)}
    new, report = jaxnn.interop.load_linen(variables, source)
    assert new["params"]["kernel"].names == (None, "model")
    np.testing.assert_array_equal(new["params"]["kernel"].value, weight.T)
    np.testing.assert_array_equal(variables["params"]["kernel"].value, np.ones((3, 4)))
    assert new["cache"]["index"] is variables["cache"]["index"]
    assert report.non_finite == ["bias"]


def test_linen_layers_of_jaxnn_have_torchs_names() -> None:
    net = jaxnn.linen.BatchNorm2d(3)
    variables = net.init({"params": jax.random.key(0)}, jnp.ones((2, 3, 4, 4)))
    source = randomize(torch.nn.BatchNorm2d(3)).state_dict()
    new, report = jaxnn.interop.load_linen(variables, source)
    assert set(report.filled) == set(source)
    assert not report.transposed
    mean = nn.unbox(new)["batch_stats"]["running_mean"]
    np.testing.assert_array_equal(mean, source["running_mean"].numpy())


@pytest.mark.standard_promotion
def test_the_documents_examples_run() -> None:
    text = (Path(__file__).parents[2] / "docs" / "weights.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/weights.md", "exec"), names)
