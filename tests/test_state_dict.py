"""State dicts and checkpoint files: names, order, dtypes, casts, and refusals."""

from __future__ import annotations

import json
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

import jaxnn

torch = pytest.importorskip("torch")


def make_net(rngs: nnx.Rngs) -> jaxnn.Sequential:
    return jaxnn.Sequential(
        OrderedDict(
            conv=jaxnn.Conv2d(3, 4, 3, rngs=rngs),
            norm=jaxnn.BatchNorm2d(4),
            drop=jaxnn.Dropout(0.5, rngs=rngs),
            block=jaxnn.ModuleDict({"fc": jaxnn.Linear(4, 2, bias=False, rngs=rngs)}),
        )
    )


def make_torch_net() -> Any:
    return torch.nn.Sequential(
        OrderedDict(
            conv=torch.nn.Conv2d(3, 4, 3),
            norm=torch.nn.BatchNorm2d(4),
            drop=torch.nn.Dropout(0.5),
            block=torch.nn.ModuleDict({"fc": torch.nn.Linear(4, 2, bias=False)}),
        )
    )


@pytest.fixture
def net() -> jaxnn.Sequential:
    return make_net(nnx.Rngs(0))


def assert_equal(actual: dict[str, np.ndarray], expected: dict[str, Any]) -> None:
    assert list(actual) == list(expected)
    for key, value in expected.items():
        wanted = value.numpy() if isinstance(value, torch.Tensor) else value
        assert actual[key].dtype == wanted.dtype, key
        np.testing.assert_array_equal(actual[key], wanted, err_msg=key)


def test_names_order_dtypes_and_values_are_those_of_torch(net: jaxnn.Sequential) -> None:
    source = make_torch_net().state_dict()
    report = jaxnn.load_state_dict(net, source)
    assert report == jaxnn.LoadReport()
    assert_equal(jaxnn.state_dict(net), source)
    assert_equal(jaxnn.state_dict(nnx.merge(*nnx.split(net))), source)
    make_torch_net().load_state_dict(jaxnn.interop.to_torch(jaxnn.state_dict(net)))


def test_loading_the_own_state_is_the_identity(net: jaxnn.Sequential) -> None:
    before = jaxnn.state_dict(net)
    jaxnn.load_state_dict(net, before)
    assert_equal(jaxnn.state_dict(net), before)


def test_state_dict_is_a_copy(net: jaxnn.Sequential) -> None:
    state = jaxnn.state_dict(net)
    state["conv.bias"][...] = 7
    jaxnn.load_state_dict(net, state)
    state["conv.bias"][...] = 8
    assert float(net.conv.bias[0]) == 7


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_every_kind_of_file(dtype: str, tmp_path: Path) -> None:
    weights = {
        "weight": np.arange(6.0).reshape(1, 6).astype(dtype),
        "bias": np.array([1.5]).astype(dtype),
    }
    tensors = jaxnn.interop.to_torch(weights)
    save_file(weights, tmp_path / "plain.safetensors")
    for suffix in ("pt", "pth", "bin"):
        torch.save(tensors, tmp_path / f"plain.{suffix}")
    torch.save({"epoch": 3, "state_dict": OrderedDict(tensors)}, tmp_path / "nested.pt")
    torch.save(tensors, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    save_file({"weight": weights["weight"]}, sharded / "model-1-of-2.safetensors")
    save_file({"bias": weights["bias"]}, sharded / "model-2-of-2.safetensors")
    index = sharded / "model.safetensors.index.json"
    files = {"weight": "model-1-of-2.safetensors", "bias": "model-2-of-2.safetensors"}
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))

    sources = [*tmp_path.glob("*.*"), index, sharded, str(sharded), weights, tensors]
    assert len(sources) == 11
    for source in sources:
        net = jaxnn.Linear(6, 1, dtype=dtype, rngs=nnx.Rngs(0))
        assert jaxnn.load_state_dict(net, source) == jaxnn.LoadReport(), source
        assert_equal(jaxnn.state_dict(net), weights)


def test_values_are_cast_to_the_model() -> None:
    net = jaxnn.Linear(2, 2, rngs=nnx.Rngs(0))
    weight = np.array([[1.0, 2.5], [1e300, np.nan]])
    report = jaxnn.load_state_dict(net, {"weight": weight, "bias": np.array([1, -2])})
    assert report.non_finite == ["weight"]
    assert net.weight.dtype == jnp.float32
    np.testing.assert_array_equal(net.weight[...], [[1.0, 2.5], [np.inf, np.nan]])
    half = jaxnn.Linear(2, 2, bias=False, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    jaxnn.load_state_dict(half, {"weight": torch.full((2, 2), 1.01)})
    assert jaxnn.state_dict(half)["weight"].dtype == ml_dtypes.bfloat16


def test_a_single_element_fits_a_scalar() -> None:
    net = jaxnn.BatchNorm1d(2)
    state = jaxnn.state_dict(net) | {"num_batches_tracked": np.array([5])}
    jaxnn.load_state_dict(net, state)
    assert int(net.num_batches_tracked[...]) == 5
    with pytest.raises(ValueError, match="num_batches_tracked"):
        jaxnn.load_state_dict(net, state | {"num_batches_tracked": np.array(2**40)})


def test_num_batches_tracked_may_be_missing_from_old_weights() -> None:
    theirs, ours = torch.nn.BatchNorm1d(2), jaxnn.BatchNorm1d(2)
    state = theirs.state_dict()
    del state["num_batches_tracked"]
    for load in (theirs.load_state_dict, lambda state: jaxnn.load_state_dict(ours, state)):
        load(dict(state))
        with pytest.raises((RuntimeError, ValueError), match="num_batches_tracked"):
            load(state)


def test_problems_are_listed_together_and_nothing_is_written(net: jaxnn.Sequential) -> None:
    before = jaxnn.state_dict(net)
    source = {key: value + 1 for key, value in before.items()}
    source["norm.weight"] = np.ones(5)
    source["extra"] = np.ones(1)
    del source["conv.bias"]
    with pytest.raises(ValueError, match=r"conv\.bias(.|\n)*extra(.|\n)*norm\.weight"):
        jaxnn.load_state_dict(net, source)
    with pytest.raises(ValueError, match="shape"):
        jaxnn.load_state_dict(net, source, strict=False)
    with pytest.raises(ValueError, match="complex"):
        jaxnn.load_state_dict(net, {"norm.weight": np.ones(4, complex)}, strict=False)
    with pytest.raises(ValueError, match="array"):
        jaxnn.load_state_dict(net, before | {"conv.bias": [1, 2, 3, 4]})
    assert_equal(jaxnn.state_dict(net), before)


def test_not_strict(net: jaxnn.Sequential) -> None:
    report = jaxnn.load_state_dict(
        net, {"norm.bias": np.ones(4), "head.weight": np.ones(2)}, strict=False
    )
    assert "conv.weight" in report.missing_keys
    assert report.unexpected_keys == ["head.weight"]
    np.testing.assert_array_equal(net.norm.bias[...], np.ones(4))


@pytest.mark.parametrize(
    "rename",
    [
        {"module": ""},
        {"module.": ""},
        {"module.conv": "conv", "module.norm": "norm.", "module.block.": "block"},
        lambda key: key.removeprefix("module."),
        [(r"^module\.", "")],
    ],
)
def test_rename(rename: Any, net: jaxnn.Sequential) -> None:
    source = {f"module.{key}": value for key, value in jaxnn.state_dict(net).items()}
    report = jaxnn.load_state_dict(net, source, rename=rename)
    assert report.renamed == {key: key.removeprefix("module.") for key in source}


def test_rename_can_drop_but_not_merge(net: jaxnn.Sequential) -> None:
    source = jaxnn.state_dict(net) | {"optimizer": np.ones(1)}
    jaxnn.load_state_dict(net, source, rename=lambda key: None if key == "optimizer" else key)
    with pytest.raises(ValueError, match="one name"):
        jaxnn.load_state_dict(net, source, rename={"optimizer": "conv.bias"})


def test_shared_variables_have_both_names() -> None:
    rngs = nnx.Rngs(0)

    class Tied(nnx.Module):
        def __init__(self) -> None:
            self.first = jaxnn.Linear(2, 2, bias=False, rngs=rngs)
            self.second = jaxnn.Linear(2, 2, bias=False, rngs=rngs)
            self.second.weight = self.first.weight
            self.again = self.first

    net = Tied()
    assert list(jaxnn.state_dict(net)) == ["first.weight", "second.weight", "again.weight"]
    report = jaxnn.load_state_dict(net, {"second.weight": np.ones((2, 2))})
    assert report.missing_keys == []
    np.testing.assert_array_equal(net.first.weight[...], np.ones((2, 2)))


def test_any_nnx_module() -> None:
    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.rngs = rngs
            self.layers = nnx.List([nnx.Linear(2, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)])
            self.table = jaxnn.Frozen(jnp.ones(2))
            self.hidden = jaxnn.NonPersistent(jnp.ones(2))
            self.buffer = nnx.BatchStat(jnp.ones(2))
            self.heads = nnx.Dict(b=jaxnn.PReLU(), a=jaxnn.PReLU())
            self.scale = nnx.Param(jnp.ones(()))

    net = Net(nnx.Rngs(0))
    state = jaxnn.state_dict(net)
    assert list(state)[:3] == ["table", "scale", "buffer"]
    assert list(state)[-2:] == ["heads.b.weight", "heads.a.weight"]
    assert set(list(state)[3:-2]) == {
        "layers.0.kernel",
        "layers.0.bias",
        "layers.1.scale",
        "layers.1.bias",
        "layers.1.mean",
        "layers.1.var",
    }
    jaxnn.load_state_dict(net, state)


def test_abstract_module(net: jaxnn.Sequential) -> None:
    abstract = nnx.eval_shape(lambda: make_net(nnx.Rngs(0)))
    with pytest.raises(TypeError, match="abstract"):
        jaxnn.state_dict(abstract)
    jaxnn.load_state_dict(abstract, jaxnn.state_dict(net))
    assert_equal(jaxnn.state_dict(abstract), jaxnn.state_dict(net))


def test_placement_is_kept() -> None:
    net = jaxnn.Linear(2, 2, rngs=nnx.Rngs(0))
    mesh = jax.make_mesh((1,), ("model",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("model"))
    net.weight.set_value(jax.device_put(net.weight[...], sharding))
    jaxnn.load_state_dict(net, jaxnn.state_dict(net))
    assert net.weight.get_value().sharding == sharding
    assert not net.bias.get_value().committed


def damaged_files() -> dict[str, bytes]:
    entry = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}
    bias = {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]}

    def file(header: dict[str, Any], data: bytes = b"\0" * 12) -> bytes:
        encoded = json.dumps(header).encode()
        return struct.pack("<Q", len(encoded)) + encoded + data

    good = file({"weight": entry, "bias": bias})
    return {
        "empty": b"",
        "truncated": good[:-1],
        "truncated header": good[:30],
        "too long": good + b"\0",
        "overlap": file({"weight": entry, "bias": bias | {"data_offsets": [4, 8]}}),
        "wrong shape": file({"weight": entry | {"shape": [1, 3]}, "bias": bias}),
        "unknown dtype": file({"weight": entry | {"dtype": "X8"}, "bias": bias}),
        "huge header": struct.pack("<Q", 2**60) + good[8:],
    }


@pytest.mark.parametrize("name", damaged_files())
def test_damaged_safetensors(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(damaged_files()[name])
    net = jaxnn.Linear(2, 1, rngs=nnx.Rngs(0))
    before = jaxnn.state_dict(net)
    with pytest.raises(ValueError, match="safetensors"):
        jaxnn.load_state_dict(net, path)
    assert_equal(jaxnn.state_dict(net), before)


def test_refused_sources(tmp_path: Path, net: jaxnn.Sequential) -> None:
    torch.save(make_torch_net(), tmp_path / "module.pt")
    (tmp_path / "garbage.pt").write_bytes(b"garbage")
    for name in ("module.pt", "garbage.pt"):
        with pytest.raises(ValueError, match="weights_only"):
            jaxnn.load_state_dict(net, tmp_path / name)
    with pytest.raises(ValueError, match="several"):
        jaxnn.load_state_dict(net, tmp_path)
    with pytest.raises(FileNotFoundError):
        jaxnn.load_state_dict(net, tmp_path / "absent.safetensors")
    with pytest.raises(TypeError, match="state_dict"):
        jaxnn.load_state_dict(net, make_torch_net())
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"weight": "../other.safetensors"}})
    )
    with pytest.raises(ValueError, match="beside"):
        jaxnn.load_state_dict(net, tmp_path)
    with pytest.raises(ValueError, match="entry"):
        jaxnn.load_state_dict(net, {"generator": {}, "discriminator": {}})
    (tmp_path / "weights.txt").touch()
    with pytest.raises(ValueError, match="suffix"):
        jaxnn.load_state_dict(net, tmp_path / "weights.txt")
