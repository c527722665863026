"""Mixed precision, which is torch.autocast's, and the memory that nnx.remat saves."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxnn
from jaxnn.interop.importer.operators import OPERATORS
from jaxnn.precision import _HALF_OPERATORS, _WIDE_OPERATORS, mixed_precision

torch = pytest.importorskip("torch")
nn = torch.nn

PAGE = Path(__file__).parents[2] / "docs" / "accelerators.md"


class Attention(nn.Module):
    """A block whose products, softmax and mask stand between the layers, one weight tied."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 16)
        self.norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.head = nn.Linear(16, 11, bias=False)
        self.head.weight = self.table.weight
        self.scale = nn.Parameter(torch.ones(16))
        self.register_buffer("mask", torch.triu(torch.full((6, 6), -1e9), 1))

    def forward(self, ids: Any) -> Any:
        x = self.table(ids)
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        weights = (q @ k.transpose(-1, -2) / 4 + self.mask).softmax(-1)
        return self.head(x + self.scale * (weights @ v))


class Pictures(nn.Module):
    """Convolutions and batch normalization, and a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.rnn = nn.GRU(64, 8, batch_first=True)
        self.classify = nn.Sequential(nn.Linear(8, 4), nn.LogSoftmax(-1))

    def forward(self, x: Any) -> Any:
        x = self.norm(self.conv(x)).relu()
        return self.classify(self.rnn(x.flatten(2))[0])


def attention() -> tuple[Any, Any]:
    return Attention(), torch.arange(12).reshape(2, 6) % 11


def pictures() -> tuple[Any, Any]:
    return Pictures(), torch.randn(4, 3, 8, 8)


def as_array(tensor: Any) -> jax.Array:
    return jnp.asarray(tensor.numpy())


def relative(one: Any, other: Any) -> float:
    wide = np.asarray(other, np.float64)
    return float(np.abs(np.asarray(one, np.float64) - wide).max() / np.abs(wide).max())


@pytest.fixture(scope="module", params=[attention, pictures], ids=["attention", "pictures"])
def models(request: pytest.FixtureRequest) -> tuple[Any, nnx.Module, Any]:
    torch.manual_seed(0)
    original, x = request.param()
    return original, jaxnn.from_torch(original, x, check=False), x


def dtypes(tree: Any) -> set[str]:
    return {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}


def test_follows_float32_within_the_error_of_bfloat16(models: Any) -> None:
    original, net, x = models
    net = nnx.clone(net)
    mixed = mixed_precision(net)
    exact, ours = nnx.clone(net)(as_array(x)), mixed(as_array(x))
    assert ours.dtype == jnp.float32
    # It is another number, so that something was computed in bfloat16, but a near one.
    assert 1e-5 < relative(ours, exact) < 3e-2
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        theirs = original(x).float()
    assert relative(ours, theirs) < 3e-2


def test_gradients_and_state_stay_in_float32(models: Any) -> None:
    _, net, x = models
    cotangent = jnp.cos(jnp.arange(net(as_array(x)).size, dtype=jnp.float32))

    def gradient(model: nnx.Module) -> Any:
        graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)

        @jax.jit
        def of(parameters: Any) -> Any:
            def loss(parameters: Any) -> Any:
                model = nnx.merge(graphdef, parameters, rest, copy=True)
                output = model(as_array(x))
                return (output.reshape(-1) * cotangent).sum(), nnx.state(model, nnx.Not(nnx.Param))

            return jax.grad(loss, has_aux=True)(parameters)

        return of(parameters)

    gradients, rest = gradient(mixed_precision(nnx.clone(net)))
    exact, exact_rest = gradient(nnx.clone(net))
    assert dtypes(gradients) == {"float32"}
    assert dtypes(rest) == dtypes(exact_rest)
    difference = jax.tree.map(jnp.subtract, jax.tree.leaves(gradients), jax.tree.leaves(exact))
    assert 1e-4 < optax.tree.norm(difference) / optax.tree.norm(exact) < 3e-2


def test_names_inside_a_larger_model_are_the_models_too() -> None:
    parts = [jaxnn.Linear(2, 3, rngs=nnx.Rngs(0)), jaxnn.Linear(3, 2, rngs=nnx.Rngs(1))]
    whole = jaxnn.Sequential(mixed_precision(parts[0]), parts[1])
    assert list(jaxnn.state_dict(whole)) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    jaxnn.load_state_dict(whole, {k: 0 * v for k, v in jaxnn.state_dict(whole).items()})
    assert not parts[0].weight[...].any()


def test_state_dict_is_the_models(models: Any) -> None:
    original, net, _ = models
    mixed = mixed_precision(nnx.clone(net))
    weights = jaxnn.state_dict(mixed)
    assert list(weights) == list(original.state_dict())
    for key, value in jaxnn.state_dict(net).items():
        np.testing.assert_array_equal(weights[key], value)
    report = jaxnn.load_state_dict(mixed, {name: 0 * value for name, value in weights.items()})
    assert not report.missing_keys
    assert not report.unexpected_keys
    assert not any(value.any() for value in jaxnn.state_dict(mixed.module).values())


def test_statistics_are_written_and_modes_followed() -> None:
    net = jaxnn.Sequential(jaxnn.Linear(3, 4, rngs=nnx.Rngs(0)), jaxnn.BatchNorm1d(4))
    mixed = mixed_precision(net)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 3)), jnp.float32)
    nnx.jit(lambda mixed, x: mixed(x))(mixed, x)
    norm: Any = net[1]
    assert int(norm.num_batches_tracked[...]) == 1
    assert norm.running_mean.dtype == jnp.float32
    wanted = net[0](x).mean(0) * 0.1
    np.testing.assert_allclose(norm.running_mean[...], wanted, rtol=2e-2, atol=2e-3)
    mixed.eval()
    before = np.asarray(norm.running_mean[...])
    one, other = mixed(x[:1]), mixed(x)[:1]
    np.testing.assert_allclose(one, other, rtol=1e-2)
    np.testing.assert_array_equal(norm.running_mean[...], before)


def test_dropout_draws_anew() -> None:
    net = jaxnn.Sequential(jaxnn.Dropout(0.5, rngs=nnx.Rngs(0)), jaxnn.Identity())
    mixed = mixed_precision(net)
    x = jnp.ones((4, 16))
    assert (mixed(x) != mixed(x)).any()
    key = jax.random.key(1)
    np.testing.assert_array_equal(mixed(x, rngs=key), mixed(x, rngs=key))


@pytest.mark.parametrize(
    ("layer", "inside"),
    [
        (lambda rngs: jaxnn.Linear(4, 4, rngs=rngs), "bfloat16"),
        (lambda rngs: jaxnn.MultiheadAttention(4, 2, rngs=rngs), "bfloat16"),
        (lambda rngs: jaxnn.LayerNorm(4), "float32"),
        (lambda rngs: jaxnn.Softmax(-1), "float32"),
        (lambda rngs: jaxnn.ReLU(), "bfloat16"),
        (lambda rngs: jaxnn.BatchNorm1d(3), "bfloat16"),
        (
            lambda rngs: jaxnn.utils.parametrizations.weight_norm(jaxnn.Linear(4, 4, rngs=rngs)),
            "float32",
        ),
    ],
)
def test_which_layers_compute_in_half_precision(
    layer: Callable[[nnx.Rngs], Any], inside: str
) -> None:
    rngs = nnx.Rngs(0)
    net = mixed_precision(layer(rngs), outputs=None)
    x = jnp.ones((2, 3, 4), jnp.bfloat16)
    args = (x, x, x) if isinstance(net.module, jaxnn.MultiheadAttention) else (x,)
    assert dtypes(net(*args)) == {inside}


@pytest.mark.standard_promotion
def test_optimizer_of_a_transformer_under_jit_and_remat() -> None:
    layer = jaxnn.TransformerEncoderLayer(8, 2, 16, batch_first=True, rngs=nnx.Rngs(0))
    mixed = mixed_precision(layer)
    optimizer = nnx.Optimizer(mixed, optax.adamw(1e-2), wrt=nnx.Param)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 8)), jnp.float32)

    @nnx.jit
    def step(mixed: Any, optimizer: Any) -> Any:
        def loss(mixed: Any) -> Any:
            return (nnx.remat(lambda mixed, x: mixed(x))(mixed, x) ** 4).mean()

        value, gradients = nnx.value_and_grad(loss)(mixed)
        optimizer.update(mixed, gradients)
        return value

    losses = [float(step(mixed, optimizer)) for _ in range(8)]
    assert losses[-1] < losses[0]
    assert "bfloat16" not in dtypes(nnx.state(optimizer)) | dtypes(nnx.state(mixed, nnx.Param))


def test_operators_exist_and_are_of_one_precision() -> None:
    assert not _HALF_OPERATORS & _WIDE_OPERATORS
    assert (_HALF_OPERATORS | _WIDE_OPERATORS).issubset(OPERATORS)


def test_refusals() -> None:
    net = jaxnn.Linear(2, 2, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=r"must be jnp.bfloat16 or jnp.float16, got int16"):
        mixed_precision(net, jnp.int16)
    with pytest.raises(TypeError, match=r"`module` must be an nnx.Module, got function"):
        mixed_precision(lambda x: x)  # type: ignore[arg-type]
    lazy = jaxnn.Sequential(jaxnn.LazyLinear(2, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="'0' is a LazyLinear without parameters yet"):
        mixed_precision(lazy)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 32)
        self.blocks = nn.Sequential(*(Up() for _ in range(6)))

    def forward(self, x: Any) -> Any:
        return self.blocks(self.stem(x)).mean(-1)


class Up(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.up, self.down = nn.Linear(32, 256), nn.Linear(256, 32)

    def forward(self, x: Any) -> Any:
        return x + self.down(torch.tanh(self.up(self.norm(x))))


def test_remat_over_the_blocks_of_an_imported_model() -> None:
    torch.manual_seed(0)
    net: Any = jaxnn.from_torch(Residual(), torch.zeros(2, 8))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((256, 8)), jnp.float32)

    graphdef, parameters, rest = nnx.split(net, nnx.Param, ...)

    def unrolled(net: Any, call: Any) -> Any:
        y = net.stem(x)
        for block in net.blocks:
            y = call(block, y)
        return y

    def scanned(net: Any, call: Any) -> Any:
        block, _ = nnx.split(net.blocks[0])
        states = [nnx.state(block) for block in net.blocks]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

        def step(y: Any, state: Any) -> Any:
            return call(nnx.merge(block, state), y), None

        return jax.lax.scan(step, net.stem(x), stacked)[0]

    def compiled(way: Any, call: Any) -> Any:
        def loss(parameters: Any) -> Any:
            net = nnx.merge(graphdef, parameters, rest, copy=True)
            return (way(net, call).mean(-1) ** 2).mean()

        return jax.jit(jax.value_and_grad(loss)).lower(parameters).compile()

    def plain(block: Any, y: Any) -> Any:
        return block(y)

    wanted = (net(x) ** 2).mean()
    programs = {
        (way, is_saved): compiled(way, nnx.remat(plain) if is_saved else plain)
        for way in (unrolled, scanned)
        for is_saved in (False, True)
    }
    first = programs[unrolled, False](parameters)
    np.testing.assert_allclose(first[0], wanted, rtol=1e-6)
    for program in programs.values():
        for one, other in zip(
            jax.tree.leaves(program(parameters)), jax.tree.leaves(first), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    # On a CPU, XLA merges what is computed twice, unless a loop stands between.
    sizes = [programs[scanned, s].memory_analysis().temp_size_in_bytes for s in (False, True)]
    assert sizes[1] < 0.6 * sizes[0], sizes


@pytest.mark.standard_promotion
def test_blocks_of_the_page_on_accelerators_run() -> None:
    page = PAGE.read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "accelerators.md", "exec"), names)
    assert names["exported"].nr_devices == 1
    for link in re.findall(r"\]\(([^)#:]+)\)", page):
        assert (PAGE.parent / link).exists(), link
