"""Low-rank adapters: where they go, what they compute and train, and the folders of PEFT."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from safetensors.numpy import load_file, save_file

import jaxnn
from jaxnn.interop import add_lora, load_lora, merge_lora, save_lora

ROOT = Path(__file__).parents[2]
R = nnx.Rngs
# In one of its tests transformers and PEFT look at torchvision, whose operators are not there.
pytestmark = pytest.mark.standard_promotion


class Conv1D(torch.nn.Module):
    """As transformers has it."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = torch.nn.Parameter(torch.randn(nx, nf) / 4)
        self.bias = torch.nn.Parameter(torch.randn(nf))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return out.view(*x.size()[:-1], self.nf)


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c_fc, self.q_proj = Conv1D(12, 8), torch.nn.Linear(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.q_proj(torch.nn.functional.gelu(self.c_fc(x)))


class Small(torch.nn.Module):
    """One of each kind of layer that takes an adapter, and two that share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(20, 8, padding_idx=0)
        self.layers = torch.nn.ModuleList(Block() for _ in range(2))
        self.conv = torch.nn.Conv2d(1, 3, (3, 2), padding=1, stride=(2, 1))
        self.tied_in, self.tied_out = torch.nn.Embedding(20, 8), torch.nn.Linear(8, 20, bias=False)
        self.tied_out.weight = self.tied_in.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids) + self.tied_in(ids)
        for block in self.layers:
            x = block(x)
        return self.tied_out(x) + self.conv(x[:, None]).mean()


IDS = np.array([[3, 5, 0, 19, 2], [7, 0, 1, 1, 4]])
EVERY = r"table|layers\.\d\.(c_fc|q_proj)|conv"
PATHS = (
    "table", "layers.0.c_fc", "layers.0.q_proj", "layers.1.c_fc", "layers.1.q_proj", "conv",
)  # fmt: skip


@cache
def original() -> Small:
    torch.manual_seed(0)
    return Small()


@cache
def imported() -> nnx.Module:
    return jaxnn.from_torch(original(), torch.tensor(IDS), rngs=R(0))


@pytest.fixture
def net() -> Any:
    return nnx.clone(imported())


def randomised(net: Any, scale: float = 0.3) -> Any:
    """The net, with adapters as if they were trained."""
    random = np.random.default_rng(0)
    for _, leaf in nnx.to_flat_state(nnx.state(net, nnx.LoRAParam)):
        leaf.set_value(jnp.asarray(scale * random.standard_normal(leaf.shape), leaf.dtype))
    return net


def close(got: Any, wanted: Any, bound: float = 2e-5) -> None:
    np.testing.assert_allclose(np.asarray(got), np.asarray(wanted), rtol=bound, atol=bound)


# --- where they go --------------------------------------------------------------------------------


def test_adapters_leave_values_and_names_as_they_were(net: Any) -> None:
    before, values = net(IDS), jaxnn.state_dict(net)
    assert add_lora(net, EVERY, rank=3, alpha=6, rngs=R(1)) == PATHS
    np.testing.assert_array_equal(net(IDS), before)
    after = jaxnn.state_dict(net)
    assert list(after) == list(values) == list(original().state_dict())
    assert all((after[name] == values[name]).all() for name in values)
    adapters = nnx.to_flat_state(nnx.state(net, nnx.LoRAParam))
    names = [".".join(map(str, path)) for path, _ in adapters]
    assert sorted(names) == sorted(f"{p}.lora.lora_{half}" for p in PATHS for half in "AB")
    jaxnn.load_state_dict(net, original().state_dict())
    randomised(net)
    assert not np.allclose(net(IDS), before)


def test_a_list_says_how_paths_end(net: Any) -> None:
    assert add_lora(net, ["q_proj"], rngs=R(0)) == ("layers.0.q_proj", "layers.1.q_proj")
    assert add_lora(net, ["layers.1.c_fc"], rngs=R(0)) == ("layers.1.c_fc",)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"layers", r"layers is a ModuleList, which takes no adapter"),
        (r"layers\.0", r"layers.0 is a Block, which takes no adapter"),
        (r"q_proj", r"no part of Small is named by 'q_proj'; .* end in c_fc, conv, q_proj, table"),
        (["proj"], r"the first is table; a regular expression is for the whole path"),
        (r"tied_in", r"tied_in shares its weight with tied_out: .* untie them"),
        (r"tied_out", r"tied_out shares its weight with tied_in"),
    ],
)
def test_what_takes_no_adapter_is_refused_by_name(net: Any, pattern: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        add_lora(net, pattern, rngs=R(0))


def test_nothing_is_changed_where_one_is_refused(net: Any) -> None:
    add_lora(net, ["c_fc"], rngs=R(0))
    with pytest.raises(ValueError, match=r"Small is unchanged:\n  layers.0.c_fc has an adapter"):
        add_lora(net, ["c_fc", "q_proj"], rngs=R(0))
    assert len(nnx.to_flat_state(nnx.state(net, nnx.LoRAParam))) == 4


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"rank": 0}, ValueError, "`rank` must be at least 1, got 0"),
        ({"alpha": "8"}, TypeError, "`alpha` must be a number, got '8'"),
        ({"dropout": 1.5}, ValueError, "`dropout` must be a probability, from 0 to 1, got 1.5"),
        ({"rngs": None}, TypeError, "`rngs` must be an nnx.Rngs"),
    ],
)
def test_options_are_checked(
    net: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        add_lora(net, EVERY, **{"rngs": R(0), **options})


def test_layers_whose_weights_are_read_by_others_are_refused() -> None:
    class Reads(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(4, 4)
            self.heads = torch.nn.MultiheadAttention(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.heads(x, x, x)[0] + torch.nn.functional.linear(x, self.inner.weight)

    net = jaxnn.from_torch(Reads(), torch.ones(3, 2, 4), rngs=R(0))
    with pytest.raises(ValueError, match="inner is not called: Reads reads its weight itself"):
        add_lora(net, "inner", rngs=R(0))
    with pytest.raises(ValueError, match=r"heads.out_proj is not called: MultiheadAttention reads"):
        add_lora(net, r"heads\.out_proj", rngs=R(0))


def test_layers_that_peft_has_no_rule_for_are_refused() -> None:
    net = jaxnn.Sequential(
        jaxnn.Embedding(4, 2, max_norm=1.0, rngs=R(0)),
        jaxnn.Conv2d(2, 2, 3, groups=2, rngs=R(0)),
        jaxnn.Linear(2, 2, rngs=R(0)),
    )
    with pytest.raises(ValueError, match=r"0 has a max_norm.*\n  1 has groups"):
        add_lora(net, r"\d", rngs=R(0))


# --- what they compute ----------------------------------------------------------------------------


def by_hand(net: Any) -> Small:
    """The original, with what the adapters of `net` add added to its weights."""
    made = Small()
    made.load_state_dict(original().state_dict())
    for path in PATHS:
        node = net
        for name in path.split("."):
            node = getattr(node, name)
        a, b = (torch.tensor(np.asarray(v[...])) for v in (node.lora.lora_A, node.lora.lora_B))
        weight = made.get_submodule(path).weight
        with torch.no_grad():
            if path == "conv":
                weight += torch.einsum("orxy,rihw->oihw", b, a) * node.lora.scaling
            else:
                product = b @ a * node.lora.scaling
                weight += product if path.endswith("q_proj") else product.T
    return made


@pytest.mark.parametrize("options", [{"alpha": 6}, {"alpha": 5, "rslora": True}], ids=str)
def test_merged_unmerged_and_the_original_with_these_weights_are_one(
    net: Any, options: dict[str, Any]
) -> None:
    add_lora(net, EVERY, rank=3, **options, rngs=R(1))
    scaling = {6: 2.0, 5: 5 / math.sqrt(3)}[options["alpha"]]
    assert net.conv.lora.scaling == scaling
    randomised(net)
    values = net(IDS)
    wanted = by_hand(net)
    close(values, wanted(torch.tensor(IDS)).detach())
    assert merge_lora(net) == PATHS
    close(net(IDS), values)
    assert not nnx.to_flat_state(nnx.state(net, nnx.LoRAParam))
    for name, value in jaxnn.state_dict(net).items():
        close(value, wanted.state_dict()[name], 1e-6)
    # The layers are what they were, and may have adapters again.
    assert repr(net) == repr(imported())
    assert add_lora(net, EVERY, rngs=R(1)) == PATHS


def test_there_must_be_something_to_merge(net: Any) -> None:
    with pytest.raises(ValueError, match="merge_lora: Small has no adapters"):
        merge_lora(net)


def test_adapters_of_half_precision_weights_are_wider() -> None:
    net = jaxnn.Sequential(jaxnn.Linear(16, 8, dtype=jnp.bfloat16, rngs=R(0)))
    x = jax.random.normal(jax.random.key(0), (4, 16), jnp.bfloat16)
    plain = net(x)
    add_lora(net, "0", rngs=R(0))
    layer: Any = net[0]
    np.testing.assert_array_equal(net(x), plain)
    randomised(net)
    a, b = layer.lora.lora_A[...], layer.lora.lora_B[...]
    assert a.dtype == b.dtype == jnp.float32
    wanted = plain.astype(jnp.float32) + (x.astype(jnp.float32) @ a.T @ b.T) * layer.lora.scaling
    assert net(x).dtype == jnp.bfloat16
    np.testing.assert_array_equal(net(x), wanted.astype(jnp.bfloat16))
    weight = layer.weight[...].astype(jnp.float32) + b @ a * layer.lora.scaling
    merge_lora(net)
    np.testing.assert_array_equal(layer.weight[...], weight.astype(jnp.bfloat16))


def test_dropout_is_of_the_adapters_input_alone_and_in_training() -> None:
    net = jaxnn.Sequential(jaxnn.Linear(400, 1, rngs=R(0)), jaxnn.Dropout())
    net.eval()
    add_lora(net, "0", rank=1, alpha=1, dropout=0.25, rngs=R(0))
    lora = net[0].lora  # type: ignore[union-attr]
    assert lora.deterministic
    lora.lora_A[...], lora.lora_B[...] = jnp.ones((1, 400)), jnp.ones((1, 1))
    x = jnp.ones((1, 400))
    inner = lambda **given: float(lora(net[0], x, **given)[0, 0])  # noqa: E731
    assert inner() == 400
    net.train()
    first, second = inner(), inner()
    assert first != second
    kept = first * 0.75
    assert kept == pytest.approx(round(kept))
    assert abs(kept - 300) < 5 * math.sqrt(400 * 0.75 * 0.25)
    assert inner(rngs=jax.random.key(3)) == inner(rngs=jax.random.key(3))
    base = float(net[0].__class__.__mro__[2].__call__(net[0], x)[0, 0])
    given = net[0](x, rngs=jax.random.key(3))  # type: ignore[call-arg]
    assert float(given[0, 0]) == pytest.approx(base + inner(rngs=jax.random.key(3)))


def test_an_imported_model_hands_its_random_numbers_on(net: Any) -> None:
    add_lora(net, EVERY, dropout=0.5, rngs=R(1))
    randomised(net)
    assert not net.conv.lora.deterministic
    assert not np.array_equal(net(IDS), net(IDS))
    drawn = [net(IDS, rngs=jax.random.key(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    net.eval()
    np.testing.assert_array_equal(net(IDS), net(IDS))


# --- training -------------------------------------------------------------------------------------


def test_an_optimizer_of_adapters_moves_adapters_alone(net: Any) -> None:
    before = jaxnn.state_dict(net)
    add_lora(net, EVERY, rank=3, rngs=R(1))
    first = losses_of(net, lambda net: net(IDS), steps=8)
    assert first[-1] < 0.9 * first[0]
    after = jaxnn.state_dict(net)
    assert all((after[name] == before[name]).all() for name in before)
    for path, value in nnx.to_flat_state(nnx.state(net, nnx.LoRAParam)):
        assert np.abs(value[...]).max() > 0, path


def losses_of(net: Any, call: Callable[[Any], Any], steps: int) -> list[float]:
    optimizer = nnx.Optimizer(net, optax.adam(2e-2), wrt=nnx.LoRAParam)

    @nnx.jit
    def step(net: Any, optimizer: Any) -> Any:
        loss, gradients = nnx.value_and_grad(
            lambda net: (call(net) ** 2).mean(), argnums=nnx.DiffState(0, nnx.LoRAParam)
        )(net)
        optimizer.update(net, gradients)
        return loss

    return [float(step(net, optimizer)) for _ in range(steps)]


def test_it_is_an_ordinary_module(net: Any) -> None:
    add_lora(net, EVERY, rank=3, dropout=0.1, rngs=R(1))
    randomised(net)
    net.eval()
    values = net(IDS)
    graph, state = nnx.split(net)
    close(jax.jit(lambda state: nnx.merge(graph, state)(IDS))(state), values)
    close(nnx.jit_partial(lambda net, x: net(x), net, graph=False)(IDS), values)
    again = nnx.merge(pickle.loads(pickle.dumps(graph)), state)
    np.testing.assert_array_equal(again(IDS), values)
    again.train()
    assert not again.layers[0].c_fc.lora.deterministic
    found = jaxnn.interop.programs(net).rows[0]
    assert found.operations == jaxnn.interop.programs(imported()).rows[0].operations
    saving = jaxnn.remat(net, r"layers\.\d")
    close(saving(IDS), values)
    gradients = [
        nnx.grad(lambda net: (net(IDS) ** 2).mean(), argnums=nnx.DiffState(0, nnx.LoRAParam))(n)
        for n in (net, saving)
    ]
    for one, other in zip(*map(jax.tree.leaves, gradients), strict=True):
        close(one, other)


def test_mixed_precision_computes_adapters_in_half_precision(net: Any) -> None:
    mixed = jaxnn.mixed_precision(net)
    assert add_lora(mixed, r"layers\.0\.q_proj", rngs=R(1)) == ("layers.0.q_proj",)
    randomised(net)
    assert 0 < jnp.abs(mixed(IDS) - net(IDS)).max() < 0.02 * jnp.abs(net(IDS)).max()
    graph, state = nnx.split(mixed)
    jaxpr = str(jax.make_jaxpr(lambda state: nnx.merge(graph, state)(IDS))(state))
    assert "bf16[8,12]" in jaxpr  # A, and nothing else of this shape
    with pytest.raises(ValueError, match="shares its weight"):
        add_lora(mixed, "tied_out", rngs=R(0))
    assert merge_lora(mixed) == ("layers.0.q_proj",)


def test_adapters_are_exported_with_the_weights(tmp_path: Path) -> None:
    pytest.importorskip("flatbuffers")
    net = jaxnn.Sequential(jaxnn.Linear(3, 2, rngs=R(0)))
    add_lora(net, "0", rank=2, rngs=R(0))
    randomised(net)
    x = jnp.ones((1, 3))
    exported = jaxnn.interop.export(net, x, tmp_path / "net", weights="arguments")
    weights = load_file(tmp_path / "net.safetensors")
    assert {"0.lora.lora_A", "0.lora.lora_B"} < weights.keys()
    close(exported.call(weights, x), net(x))


def test_layers_of_a_transformer_that_are_called_take_one() -> None:
    net = jaxnn.TransformerEncoderLayer(8, 2, 16, batch_first=True, rngs=R(0)).eval()
    x = jax.random.normal(jax.random.key(0), (2, 5, 8))
    plain = net(x)
    add_lora(net, ["linear1", "linear2"], rngs=R(1))
    assert net.linear1.lora.deterministic
    randomised(net)
    values = net(x)
    assert not np.allclose(values, plain)
    merge_lora(net)
    close(net(x), values)
    with pytest.raises(ValueError, match=r"out_proj is not called: MultiheadAttention reads"):
        add_lora(net, ["out_proj"], rngs=R(1))


def test_an_abstract_model_has_adapters_with_values() -> None:
    net = nnx.eval_shape(lambda: jaxnn.Sequential(jaxnn.Linear(3, 2, rngs=R(0))))
    add_lora(net, "0", rank=2, rngs=R(0))
    with pytest.raises(ValueError, match="is abstract"):
        merge_lora(net)
    weights = {"0.weight": np.ones((2, 3), np.float32), "0.bias": np.zeros(2, np.float32)}
    assert not jaxnn.load_state_dict(net, weights).abstract
    np.testing.assert_array_equal(net(jnp.ones(3)), [3, 3])


SHARDED = """
import jax, jax.numpy as jnp, numpy as np, jaxnn
from flax import nnx
from jax.sharding import AxisType, PartitionSpec as P

COLUMN = [(r"0\\.(weight|lora\\.lora_B)", P("model", None)), (r"0\\.bias", P("model"))]
ROW = [(r"2\\.(weight|lora\\.lora_A)", P(None, "model"))]
for kind, last, gather in (
    (AxisType.Auto, 3, ()), (AxisType.Auto, 3, "model"), (AxisType.Explicit, 1, ()),
):
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(kind, kind))
    layers = (
        jaxnn.Linear(8, 16, rngs=nnx.Rngs(0)), jaxnn.ReLU(), jaxnn.Linear(16, 8, rngs=nnx.Rngs(1))
    )
    net = jaxnn.Sequential(*layers[:last])
    jaxnn.interop.add_lora(net, ["0", "2"], rank=4, rngs=nnx.Rngs(2))
    for path, leaf in nnx.to_flat_state(nnx.state(net, nnx.LoRAParam)):
        leaf.set_value(jax.random.normal(jax.random.key(len(path)), leaf.shape))
    rules = COLUMN + ROW if last == 3 else COLUMN
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(net)))
    assert jaxnn.sharding.plan(net, [], mesh, optimizer=2).bytes == 4 * state_bytes
    x = jax.random.normal(jax.random.key(0), (4, 8))
    whole = net(x)
    jaxnn.sharding.shard(net, rules, mesh, gather=gather)
    assert net[0].lora.lora_B.get_value().sharding.spec == P("model", None)
    assert isinstance(net[0].lora.lora_B, nnx.LoRAParam)
    with jax.set_mesh(mesh):
        given = jax.device_put(x, jax.NamedSharding(mesh, P("data", None)))

        @jax.jit
        def run(state):
            return nnx.merge(graph, state)(given)

        graph, state = nnx.split(net)
        np.testing.assert_allclose(run(state), whole, rtol=1e-5, atol=1e-5)
        sharding = net[0].weight.get_value().sharding
        jaxnn.interop.merge_lora(net)
        assert net[0].weight.get_value().sharding == sharding
        graph, state = nnx.split(net)
        np.testing.assert_allclose(run(state), whole, rtol=1e-5, atol=1e-5)
print("equal")
"""


def test_adapters_are_sharded_as_weights_are() -> None:
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    environment = {**os.environ, **flags, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SHARDED]
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert run.stdout.strip() == "equal", run.stderr[-3000:]


# --- folders --------------------------------------------------------------------------------------


def folder_by_hand(path: Path, rank: int = 2, **config: Any) -> dict[str, np.ndarray]:
    """Write adapters of the two q_proj as PEFT does; return the arrays."""
    random = np.random.default_rng(1)
    arrays = {
        f"base_model.model.layers.{i}.q_proj.lora_{half}.weight": random.standard_normal(
            (rank, 12) if half == "A" else (8, rank)
        ).astype(np.float32)
        for i in range(2)
        for half in "AB"
    }
    save_file(arrays, path / "adapter_model.safetensors")
    stated = {
        "peft_type": "LORA", "r": rank, "lora_alpha": 6, "target_modules": ["q_proj"], **config
    }  # fmt: skip
    (path / "adapter_config.json").write_text(json.dumps(stated))
    return arrays


def test_a_folder_is_loaded_by_the_names_in_it(net: Any, tmp_path: Path) -> None:
    arrays = folder_by_hand(tmp_path, alpha_pattern={r"layers\.1\.q_proj": 4})
    assert load_lora(net, tmp_path) == ("layers.0.q_proj", "layers.1.q_proj")
    wanted = Small()
    wanted.load_state_dict(original().state_dict())
    for i, scaling in enumerate((6 / 2, 4 / 2)):
        a, b = (
            torch.tensor(arrays[f"base_model.model.layers.{i}.q_proj.lora_{half}.weight"])
            for half in "AB"
        )
        with torch.no_grad():
            wanted.layers[i].q_proj.weight += b @ a * scaling
    close(net(IDS), wanted(torch.tensor(IDS)).detach(), 1e-4)


def test_a_folder_comes_back_as_it_went(net: Any, tmp_path: Path) -> None:
    add_lora(net, EVERY, rank=3, alpha=6, rslora=True, dropout=0.1, rngs=R(1))
    net.layers[1].q_proj.__class__, kept = jaxnn.Linear, net.layers[1].q_proj.lora
    del net.layers[1].q_proj.lora
    add_lora(net, r"layers\.1\.q_proj", rank=2, alpha=1, rslora=True, dropout=0.1, rngs=R(1))
    assert kept.rank == 3
    randomised(net)
    save_lora(net, tmp_path / "new" / "folder")
    written = load_file(tmp_path / "new" / "folder" / "adapter_model.safetensors")
    assert "base_model.model.table.lora_embedding_A" in written
    assert written["base_model.model.layers.0.c_fc.lora_A.weight"].shape == (3, 8)
    config = json.loads((tmp_path / "new" / "folder" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["c_fc", "conv", "q_proj", "table"]
    assert (config["r"], config["rank_pattern"]) == (3, {r"^layers\.1\.q_proj": 2})
    assert config["fan_in_fan_out"]
    other: Any = nnx.clone(imported())
    assert load_lora(other, tmp_path / "new" / "folder", rngs=R(0)) == PATHS[0:0] + tuple(
        sorted(PATHS)
    )
    assert other.conv.lora.dropout == 0.1
    net.eval(), other.eval()
    np.testing.assert_array_equal(other(IDS), net(IDS))


def test_where_only_some_layers_of_a_name_have_adapters_a_pattern_names_them(
    net: Any, tmp_path: Path
) -> None:
    add_lora(net, ["layers.1.q_proj", "table"], rngs=R(1))
    save_lora(net, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == r"table|layers\.1\.q_proj"


def test_peft_has_one_dropout_and_one_rule_of_scaling(net: Any, tmp_path: Path) -> None:
    add_lora(net, ["q_proj"], rngs=R(1))
    add_lora(net, ["c_fc"], rslora=True, rngs=R(1))
    with pytest.raises(ValueError, match="PEFT has one rslora for all adapters"):
        save_lora(net, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"use_dora": True}, "not plain LoRA, which alone jaxnn has: use_dora=True"),
        ({"lora_bias": True, "layer_replication": [[0, 1]]}, "lora_bias=True, layer_replication"),
        ({"peft_type": "IA3"}, "`peft_type` must be LORA, got 'IA3'"),
        ({"init_lora_weights": "pissa_niter_16"}, "weights of the model itself were changed"),
        ({"r": 4}, r"shapes \(4, 12\) and \(8, 4\) of rank 4, got \(2, 12\) and \(8, 2\)"),
    ],
)
def test_folders_of_another_kind_are_refused(
    net: Any, tmp_path: Path, config: dict[str, Any], text: str
) -> None:
    folder_by_hand(tmp_path, **config)
    with pytest.raises(ValueError, match=text):
        load_lora(net, tmp_path)
    assert repr(net) == repr(imported())


def test_a_folder_for_another_model_is_refused(net: Any, tmp_path: Path) -> None:
    arrays = folder_by_hand(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    some = dict(list(arrays.items())[:3])
    save_file(some, file)
    with pytest.raises(ValueError, match=r"one half alone of layers.1.q_proj"):
        load_lora(net, tmp_path)
    save_file({k.replace("q_proj", "w"): v for k, v in arrays.items()}, file)
    with pytest.raises(ValueError, match=r"Small has no layers.0.w, layers.1.w; the adapters are"):
        load_lora(net, tmp_path)
    save_file({**arrays, "base_model.model.tied_out.bias": np.ones(20, np.float32)}, file)
    with pytest.raises(ValueError, match=r"Small has no tied_out.bias"):
        load_lora(net, tmp_path)
    save_file({k.replace("layers.0.q_proj", "tied_out"): v for k, v in arrays.items()}, file)
    with pytest.raises(ValueError, match=r"tied_out shares its weight"):
        load_lora(net, tmp_path)
    assert repr(net) == repr(imported())
