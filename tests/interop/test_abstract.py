"""Models on torch's meta device are imported without values, and filled, placed and compiled."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P
from safetensors.torch import save_file

import jaxnn

torch = pytest.importorskip("torch")
nn = torch.nn


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.BatchNorm1d(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.scale = nn.Parameter(torch.ones(8), requires_grad=False)

    def forward(self, x: Any) -> Any:
        return x + self.scale * self.down(self.up(self.norm(x)).relu())


class Net(nn.Module):
    """Blocks, a tied weight, and a table outside of the state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("table", torch.arange(8.0), persistent=False)

    def forward(self, ids: Any) -> Any:
        x = self.embed(ids) + self.table
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def on_meta(*, with_table: bool) -> Any:
    with torch.device("meta"):
        net = Net()
    if with_table:
        net.table = torch.arange(8.0)
    return net


IDS = torch.tensor([1, 2, 3, 1])


def abstract(net: nnx.Module) -> dict[str, bool]:
    """Whether each variable has a shape alone, by path."""
    return {
        ".".join(map(str, path)): isinstance(variable.get_value(), jax.ShapeDtypeStruct)
        for path, variable in nnx.to_flat_state(nnx.state(net))
    }


def test_all_of_it_is_shapes_of_the_right_kinds() -> None:
    net = jaxnn.from_torch(on_meta(with_table=False), IDS)
    assert all(abstract(net).values())
    whole = jaxnn.from_torch(Net(), IDS, check=False)
    one, other = nnx.state(net), nnx.state(whole)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (left.shape, left.dtype) == (right.shape, right.dtype)
    assert "no values" in str(jaxnn.interop.evidence(net))


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_filled_it_is_the_model(device: str) -> None:
    torch.manual_seed(0)
    original = Net()
    # The example may be anywhere; what has values keeps them.
    net: Any = jaxnn.from_torch(on_meta(with_table=True), IDS.to(device))
    assert not abstract(net)["table"]
    assert not jaxnn.load_state_dict(net, original.state_dict()).missing_keys
    assert not any(abstract(net).values())
    wanted = original(IDS)
    np.testing.assert_allclose(net(jnp.asarray(IDS.numpy())), wanted.detach(), 1e-5, 1e-5)


def test_a_plan_a_place_and_a_program_without_values() -> None:
    net = jaxnn.from_torch(on_meta(with_table=False).bfloat16(), IDS)
    mesh = AbstractMesh((2,), ("model",))
    plan = jaxnn.sharding.shard(net, [(".*up.weight", P("model"))], mesh)
    assert plan("blocks.1.up.weight").spec == P("model")
    graphdef, state = nnx.split(net)
    ids = jax.ShapeDtypeStruct((6,), jnp.int32)
    found = jax.eval_shape(lambda state, ids: nnx.merge(graphdef, state)(ids), state, ids)
    assert (found.shape, found.dtype) == ((6, 10), jnp.bfloat16)


def test_the_original_is_as_it_was() -> None:
    model = on_meta(with_table=True)
    was = {name: id(t) for name, t in (*model.named_parameters(), *model.named_buffers())}
    jaxnn.from_torch(model, IDS)
    assert {n: id(t) for n, t in (*model.named_parameters(), *model.named_buffers())} == was
    assert model.table.device.type == "cpu"


def test_a_tensor_of_forwards_own_without_values_is_refused() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.offset = nn.Linear(2, 2), torch.ones(2)

        def forward(self, x: Any) -> Any:
            return self.linear(x) + self.offset

    with torch.device("meta"):
        model = Plain()
    with pytest.raises(ValueError, match=r"forward contains a tensor of shape \(2,\).*buffer"):
        jaxnn.from_torch(model, torch.ones(1, 2))


# --- from a checkpoint --------------------------------------------------------------------------


def test_parameters_alone_are_abstract() -> None:
    shared = nn.Parameter(torch.ones(2))
    with jaxnn.interop.abstract_parameters():
        model = Net()
        one, other = nn.Module(), nn.Module()
        one.weight = other.weight = shared
        lazy = nn.LazyLinear(2)
        one.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    assert one.weight is other.weight
    assert one.weight.is_meta
    assert (one.weight.requires_grad, one.frozen.requires_grad) == (True, False)
    assert torch.nn.parameter.is_lazy(lazy.weight)
    assert not nn.Linear(1, 1).weight.is_meta
    assert model.head.weight is model.embed.weight
    assert not any(buffer.is_meta for buffer in model.buffers())
    net: Any = jaxnn.from_torch(model, IDS)
    is_abstract = abstract(net)
    assert [name for name, is_so in is_abstract.items() if not is_so] == [
        f"blocks.{i}.norm.{name}"
        for i in range(2)
        for name in ("num_batches_tracked", "running_mean", "running_var")
    ] + ["table"]
    torch.manual_seed(0)
    original = Net()
    assert not jaxnn.load_state_dict(net, original.state_dict()).abstract
    assert jaxnn.verify(original, net, IDS).ok


def test_what_was_not_loaded_is_told_at_a_call() -> None:
    net: Any = jaxnn.from_torch(on_meta(with_table=False), IDS)
    ids = jnp.asarray(IDS.numpy())
    weights = Net().state_dict()
    del weights["blocks.1.up.bias"]
    with pytest.raises(ValueError, match=r"missing in the source: blocks\.1\.up\.bias"):
        jaxnn.load_state_dict(net, weights)
    with pytest.raises(ValueError, match=r"Net is abstract.*\n  22 \(embed\.weight, .*\.\.\.\): "):
        net(ids)
    report = jaxnn.load_state_dict(net, weights, strict=False)
    assert report.missing_keys == ["blocks.1.up.bias"]
    assert report.abstract == ["blocks.1.up.bias", "table"]
    assert "without values 2: blocks.1.up.bias, table" in str(report)
    wanted = (
        r"  1 \(blocks\.1\.up\.bias\): fill them with jaxnn\.load_state_dict(.|\n)*"
        r"  1 \(table\): in no state dict, so that .*abstract_parameters"
    )
    with pytest.raises(ValueError, match=wanted):
        net(ids)
    with pytest.raises(ValueError, match=wanted):
        jax.jit(lambda ids: net(ids) + 1)(ids)
    with pytest.raises(
        TypeError, match=r"Net is abstract: 1 of its entries \(blocks\.1\.up\.bias\)"
    ):
        jaxnn.state_dict(net)
    full = Net()
    jaxnn.load_state_dict(net, {"blocks.1.up.bias": full.blocks[1].up.bias}, strict=False)
    jaxnn.load_state_dict(net, full.state_dict())
    net.table.set_value(jnp.arange(8.0))
    assert jaxnn.verify(full, net, IDS).ok


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_values_are_cast_to_the_dtype_of_the_net(dtype: str, tmp_path: Path) -> None:
    """As torch's `copy_` does; a program is of the dtypes that it was captured in."""
    torch.manual_seed(0)
    wanted = getattr(torch, dtype)
    other = torch.bfloat16 if dtype == "float32" else torch.float32
    with jaxnn.interop.abstract_parameters():
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).to(wanted)
    net: Any = jaxnn.from_torch(model, torch.ones(1, 3, dtype=wanted))
    source = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).to(other)
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    jaxnn.load_state_dict(net, tmp_path)
    found = jaxnn.interop.to_torch(jaxnn.state_dict(net))
    for name, value in source.to(wanted).state_dict().items():
        assert found[name].dtype == wanted
        assert torch.equal(found[name], value), name


def test_layers_without_values_say_so() -> None:
    for make, given in (
        (lambda: jaxnn.Linear(2, 2, rngs=nnx.Rngs(0)), (jnp.ones((1, 2)),)),
        (lambda: jaxnn.LSTM(2, 2, rngs=nnx.Rngs(0)), (jnp.ones((1, 1, 2)),)),
        (
            lambda: jaxnn.Sequential(jaxnn.ReLU(), jaxnn.Linear(2, 2, rngs=nnx.Rngs(0))),
            (jnp.ones((1, 2)),),
        ),
    ):
        net: Any = nnx.eval_shape(make)
        with pytest.raises(ValueError, match=rf"{type(net).__name__} is abstract.*\n.*weight"):
            net(*given)
        # Traced with the state as an argument, it needs no values.
        graphdef, state = nnx.split(net)
        jax.eval_shape(lambda s, *x, g=graphdef: nnx.merge(g, s)(*x), state, *given)
    with pytest.raises(ValueError, match="features"):  # what is wrong otherwise stays as it was
        jaxnn.Linear(2, 2, rngs=nnx.Rngs(0))(jnp.ones((1, 3)))


OVER_DEVICES = """
import json, sys
import jax, jax.numpy as jnp, numpy as np, torch
from flax import nnx
from jax.sharding import AbstractMesh, AxisType, PartitionSpec as P
from safetensors.torch import save_file
from pathlib import Path
import jaxnn
from jaxnn.modules._state import named_variables
from test_abstract import IDS, Net

folder = Path(sys.argv[1])
torch.manual_seed(0)
original = Net().bfloat16()
weights = original.state_dict()
del weights["head.weight"]  # tied: a file holds it once
names = list(weights)
halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
for file, kept in halves.items():
    save_file({name: weights[name] for name in kept}, folder / file)
(folder / "model.safetensors.index.json").write_text(json.dumps(
    {"weight_map": {name: file for file, kept in halves.items() for name in kept}}))

def net():
    with jaxnn.interop.abstract_parameters():
        model = Net()
    return jaxnn.from_torch(model.bfloat16(), IDS)

def refused(call, *words):
    try:
        call()
    except ValueError as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError(words)

mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
RULES = [
    (r".*up\\.weight", P("model", "data")), (r".*down\\.weight", P("data", "model")),
    (r"embed\\.weight", P(None, "model")),
]
ids = jnp.asarray(IDS.numpy())
want = original(IDS).float().detach().numpy()
call = jax.jit(lambda net, ids: net(ids))

for gather in ((), ("data",)):
    one = net()
    plan = jaxnn.sharding.shard(one, RULES, mesh, gather=gather)
    report = jaxnn.load_state_dict(one, folder)
    assert not report.missing_keys and not report.abstract, report
    for name, variable in named_variables(one):
        value = variable.get_raw_value()
        assert value.sharding == plan(name), (name, value.sharding)
        assert value.is_fully_addressable and value.dtype == variable.dtype
    up = one.blocks[0].up.weight.get_raw_value()
    assert up.addressable_shards[0].data.shape == (4, 4), up.addressable_shards[0]
    found = np.asarray(call(one, ids), np.float32)
    assert abs(found - want).max() < 2e-2 * abs(want).max(), abs(found - want).max()

# The same without shard: the plan says where each goes.
one = net()
plan = jaxnn.sharding.plan(one, RULES, mesh)
jaxnn.load_state_dict(one, folder, sharding=plan)
assert one.embed.weight.get_value().sharding == plan("embed.weight")
assert plan("head.weight") == plan("embed.weight")

# A mesh without devices is no place; under one that has them, it is.
far = AbstractMesh((2, 4), ("data", "model"))
for way in ("shard", "sharding"):
    one = net()
    if way == "shard":
        jaxnn.sharding.shard(one, RULES, far)
        load = lambda: jaxnn.load_state_dict(one, folder)
    else:
        load = lambda: jaxnn.load_state_dict(
            one, folder, sharding=jaxnn.sharding.plan(one, RULES, far))
    refused(load, "embed.weight", "abstract mesh", "jax.set_mesh")
    with jax.set_mesh(mesh):
        load()
    assert one.embed.weight.get_value().sharding == plan("embed.weight")
    assert not one.table.get_value().committed

# Whatever is wrong is said before anything is read.
for changed, words in (
    ({"b.safetensors": halves["b.safetensors"][1:]}, ["missing", halves["b.safetensors"][0]]),
    ({"c.safetensors": ["embed.other"]}, ["unexpected in the source: embed.other"]),
):
    files = {**halves, **changed}
    save_file({"embed.other": torch.ones(2)}, folder / "c.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(
        {"weight_map": {name: file for file, kept in files.items() for name in kept}}))
    one = net()
    jaxnn.sharding.shard(one, RULES, mesh)
    refused(lambda: jaxnn.load_state_dict(one, folder), *words)
    assert isinstance(one.embed.weight.get_value(), jax.ShapeDtypeStruct)
print("loaded")
"""


def test_a_checkpoint_in_files_goes_to_eight_devices(tmp_path: Path) -> None:
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", OVER_DEVICES, str(tmp_path)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "loaded", done.stderr[-3000:]


# --- as Flax and others have abstract modules ---------------------------------------------------


@pytest.fixture
def pair() -> tuple[Any, Any]:
    torch.manual_seed(0)
    original = Net()
    with jaxnn.interop.abstract_parameters():
        model = Net()
    return original, jaxnn.from_torch(model, IDS)


def test_the_shapes_of_an_import() -> None:
    original = Net()
    net = jaxnn.from_torch(original, IDS, check=False)
    shapes: Any = nnx.eval_shape(lambda: nnx.clone(net))
    assert all(abstract(shapes).values())
    assert jaxnn.load_state_dict(shapes, original.state_dict()).abstract == ["table"]
    with pytest.raises(
        TypeError, match=r"within a function that JAX traces; .*abstract_parameters"
    ):
        nnx.eval_shape(lambda: jaxnn.from_torch(original, IDS))


def test_what_is_made_of_an_abstract_import_is_filled_like_it(pair: Any) -> None:
    original, net = pair
    graph, state = nnx.split(nnx.clone(net))
    made = {
        "a pickle": nnx.merge(pickle.loads(pickle.dumps(graph)), state),
        "remat": jaxnn.remat(nnx.clone(net), r"blocks\.\d"),
        "mixed precision": jaxnn.mixed_precision(nnx.clone(net)),
    }
    wanted = original.eval()(IDS).detach().numpy()
    for what, one in made.items():
        assert not jaxnn.load_state_dict(one, original.state_dict()).abstract, what
        found = one.eval()(jnp.asarray(IDS.numpy()))
        bound = 2e-2 if what == "mixed precision" else 1e-5
        assert np.abs(found - wanted).max() < bound * np.abs(wanted).max(), what
    assert abstract(net)["embed.weight"]  # the import itself is as it was


def test_orbax_restores_into_it(pair: Any, tmp_path: Path) -> None:
    checkpoint = pytest.importorskip("orbax.checkpoint")
    original, net = pair
    with checkpoint.StandardCheckpointer() as checkpointer:
        kept = jaxnn.from_torch(original, IDS, check=False)
        checkpointer.save(tmp_path / "state", nnx.state(kept))
    mesh = jax.make_mesh((1,), ("model",), axis_types=(AxisType.Auto,))
    jaxnn.sharding.shard(net, [("embed.weight", P("model"))], mesh)
    graph, state = nnx.split(net)
    with checkpoint.StandardCheckpointer() as checkpointer:
        restored: Any = nnx.merge(graph, checkpointer.restore(tmp_path / "state", state))
    assert restored.embed.weight.get_value().sharding.spec == P("model")
    assert jaxnn.verify(original, restored, IDS).ok
