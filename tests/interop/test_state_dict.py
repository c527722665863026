"""State dicts and checkpoint files: names, order, dtypes, casts, and refusals."""

from __future__ import annotations

import ast
import json
import os
import re
import struct
import subprocess
import sys
import warnings
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
from jaxnn.interop.checkpoint import StoredArray

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


def assert_clean(report: jaxnn.LoadReport, filled: Any) -> None:
    assert report == jaxnn.LoadReport(filled=list(filled))


def test_names_order_dtypes_and_values_are_those_of_torch(net: jaxnn.Sequential) -> None:
    source = make_torch_net().state_dict()
    report = jaxnn.load_state_dict(net, source)
    assert_clean(report, source)
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
        assert_clean(jaxnn.load_state_dict(net, source), weights)
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
    layer = nnx.Module()
    layer.seed = nnx.BatchStat(jnp.zeros((), jnp.int32))
    with pytest.raises(ValueError, match="seed: has values that int32 cannot hold"):
        jaxnn.load_state_dict(layer, {"seed": np.array(2**40)})


def test_a_count_of_batches_that_is_too_large_is_held_as_far_as_it_goes() -> None:
    net = jaxnn.Sequential(jaxnn.BatchNorm1d(2, momentum=None))
    state = jaxnn.state_dict(net) | {"0.num_batches_tracked": torch.tensor(2**40)}
    state["0.running_mean"] = np.full(2, 3, np.float32)
    with pytest.warns(UserWarning, match=r"0\.num_batches_tracked is 1099511627776, of which"):
        jaxnn.load_state_dict(net, state)
    largest = 2**31 - 1
    assert int(net[0].num_batches_tracked[...]) == largest
    net(jnp.ones((4, 2)))
    assert int(net[0].num_batches_tracked[...]) == largest
    np.testing.assert_array_equal(net[0].running_mean[...], [3, 3])
    with jax.enable_x64(True):
        wide = jaxnn.BatchNorm1d(2)
        jaxnn.load_state_dict(jaxnn.Sequential(wide), state)
        assert int(wide.num_batches_tracked[...]) == 2**40


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
    assert report.filled == ["norm.bias"]
    np.testing.assert_array_equal(net.norm.bias[...], np.ones(4))


def test_a_report_reads_as_a_summary() -> None:
    missing = [f"layer{i}.weight" for i in range(10)]
    report = jaxnn.LoadReport(missing, renamed={"a": "b"}, non_finite=["b"], filled=["b"])
    assert str(report).splitlines() == [
        "filled 1: b",
        f"missing 10: {', '.join(missing[:8])}, ...",
        "renamed 1: a -> b",
        "not finite 1: b",
    ]
    assert str(jaxnn.LoadReport()) == "filled 0: nothing"


@pytest.mark.parametrize(
    "rename",
    [
        {"module": ""},
        {"module.": ""},
        {"module.": "", "none": None},
        {"module.conv": "conv", "module.norm": "norm.", "module.block.": "block"},
        lambda key: key.removeprefix("module."),
        [(r"^module\.", "")],
    ],
)
def test_rename(rename: Any, net: jaxnn.Sequential) -> None:
    source = {f"module.{key}": value for key, value in jaxnn.state_dict(net).items()}
    report = jaxnn.load_state_dict(net, source, rename=rename)
    assert report.renamed == {key: key.removeprefix("module.") for key in source}


@pytest.mark.parametrize(
    "wrapped",
    [
        torch.nn.DataParallel,
        torch.optim.swa_utils.AveragedModel,
        lambda net: torch.optim.swa_utils.AveragedModel(torch.nn.DataParallel(net)),
        lambda net: torch.nn.Sequential(OrderedDict(backbone=net, head=torch.nn.Linear(1, 1))),
        lambda net: torch.nn.ModuleDict({"_orig_mod": net}),
    ],
)
def test_an_evident_renaming_is_told(wrapped: Any, net: jaxnn.Sequential) -> None:
    source = wrapped(make_torch_net()).state_dict()
    with pytest.raises(ValueError, match=r"the names fit with rename=") as refused:
        jaxnn.load_state_dict(net, source)
    told = re.search(r"rename=(.*)\)$", str(refused.value), re.MULTILINE)
    assert told is not None
    is_whole = "backbone.conv.bias" not in source
    report = jaxnn.load_state_dict(net, source, strict=is_whole, rename=ast.literal_eval(told[1]))
    assert not report.missing_keys


def test_an_evident_renaming_inside_and_the_other_way(net: jaxnn.Sequential) -> None:
    state = jaxnn.state_dict(net)
    inside = {re.sub("conv|block.fc", r"\g<0>._orig_mod", key): v for key, v in state.items()}
    with pytest.raises(ValueError, match=r"the names fit with rename=\[\("):
        jaxnn.load_state_dict(net, inside)
    outer = jaxnn.ModuleDict({"backbone": net})
    with pytest.raises(ValueError, match=r"the names fit with rename=\{'': 'backbone\.'\}"):
        jaxnn.load_state_dict(outer, state)
    jaxnn.load_state_dict(outer, state, rename={"": "backbone."})
    with pytest.raises(ValueError, match=r"rename= changes the source's names"):
        jaxnn.load_state_dict(net, {"a.weight": np.ones(3)})


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
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.weight",
        "layers.1.bias",
        "layers.1.running_mean",
        "layers.1.running_var",
        "layers.1.num_batches_tracked",
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


def test_placement_may_be_given(net: jaxnn.Sequential) -> None:
    mesh = jax.make_mesh((1,), ("model",))
    parted = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("model"))
    weights = jaxnn.state_dict(net)
    abstract = nnx.eval_shape(lambda: make_net(nnx.Rngs(0)))
    plan = jaxnn.sharding.plan(abstract, [(r"conv\.weight", parted.spec)], mesh)
    jaxnn.load_state_dict(abstract, weights, sharding=plan)
    assert abstract.conv.weight.get_value().sharding == parted
    assert_equal(jaxnn.state_dict(abstract), weights)

    jaxnn.load_state_dict(
        net, weights, sharding=lambda name: parted if name == "norm.weight" else None
    )
    assert net.norm.weight.get_value().sharding == parted
    assert not net.norm.bias.get_value().committed
    jaxnn.load_state_dict(net.block, jaxnn.state_dict(net.block), sharding=parted)
    assert net.block["fc"].weight.get_value().sharding == parted
    with pytest.raises(TypeError, match="Sharding"):
        jaxnn.load_state_dict(net, weights, sharding=lambda name: "model")


def test_progress_is_shown_on_stderr(
    net: jaxnn.Sequential, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = jaxnn.state_dict(net)
    jaxnn.load_state_dict(net, weights)
    jaxnn.load_state_dict(net, weights, progress=False)
    assert capsys.readouterr() == ("", "")
    jaxnn.load_state_dict(net, weights, progress=True)
    printed = capsys.readouterr()
    size = sum(array.nbytes for array in weights.values())
    assert not printed.out
    assert f"{size}/{size} bytes" in printed.err


# What a large file needs, in a process of its own: how its memory grows beyond the mapped pages,
# while 64 MiB are loaded into one device, and then in parts into two.
MEMORY = """
import json, sys, threading, time
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from safetensors.numpy import save_file
import jaxnn

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

def growth(load):
    start, samples, done = anonymous(), [], threading.Event()
    def sample():
        while not done.is_set():
            samples.append(anonymous())
            time.sleep(0.001)
    thread = threading.Thread(target=sample)
    thread.start()
    load()
    done.set()
    thread.join()
    return (max(samples) - start) / SIZE

def make(rngs):
    layer = lambda: jaxnn.Linear(1024, 1024, bias=False, rngs=rngs)
    flax = lambda: nnx.Linear(1024, 1024, use_bias=False, rngs=rngs)
    return nnx.List([*(layer() for _ in range(8)), *(flax() for _ in range(8))])

class Net(nnx.Module):
    def __init__(self, rngs):
        self.layers = make(rngs)

path, SIZE = sys.argv[1], 16 * 1024 * 1024 * 4
abstract = lambda: nnx.eval_shape(lambda: Net(nnx.Rngs(0)))
save_file({f"layers.{i}.weight": np.full((1024, 1024), i, np.float32) for i in range(16)}, path)
jaxnn.load_state_dict(jaxnn.Linear(2, 2, bias=False, rngs=nnx.Rngs(0)), {"weight": np.ones((2, 2))})
first, second = abstract(), abstract()
mesh = jax.make_mesh((2,), ("model",))
parted = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("model"))
result = {
    "abstract": growth(lambda: jaxnn.load_state_dict(first, path)),
    "concrete": growth(lambda: jaxnn.load_state_dict(first, path)),
    "parted": growth(lambda: jaxnn.load_state_dict(second, path, sharding=parted)),
}
for net in (first, second):
    values = [array[0, 0] for array in jaxnn.state_dict(net).values()]
    assert values == list(range(16))
assert {v.get_value().sharding for v in jax.tree.leaves(nnx.state(second), is_leaf=lambda v:
    isinstance(v, nnx.Variable))} == {parted}
uneven = nnx.eval_shape(lambda: jaxnn.Linear(2, 3, bias=False, rngs=nnx.Rngs(0)))
try:
    jaxnn.load_state_dict(uneven, {"weight": np.ones((3, 2))}, sharding=parted)
except ValueError as error:
    assert "weight" in str(error), error
else:
    raise AssertionError("3 rows do not go into 2 parts")
print(json.dumps(result))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's accounts")
def test_memory_of_a_large_file(tmp_path: Path) -> None:
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    # What is freed goes back to the system at once, so that its accounts say what is held.
    memory = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "large.safetensors")],
        capture_output=True,
        text=True,
        env=os.environ | devices | memory,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    growth = json.loads(done.stdout)
    assert 0.5 < growth["abstract"] < 1.3, growth
    assert growth["concrete"] < 0.3, growth
    assert 0.5 < growth["parted"] < 1.3, growth


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_every_number_of_half_precision_is_known_as_finite_or_not(dtype: Any) -> None:
    numbers = np.arange(2**16, dtype=np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):
        are_finite = np.isfinite(numbers)
    wanted = {"finite": numbers[are_finite], "not": numbers[~are_finite]}
    net = jaxnn.ParameterDict({name: jnp.zeros(len(v), dtype) for name, v in wanted.items()})
    assert jaxnn.load_state_dict(net, wanted).non_finite == ["not"]
    for number in wanted["not"][:: 2**7 - 1]:
        wanted["finite"][7] = number
        assert jaxnn.load_state_dict(net, wanted).non_finite == ["finite", "not"]


def test_an_error_on_the_way_says_what_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": np.ones((1, 2)), "bias": np.ones(1)}, path)
    net = jaxnn.Linear(2, 1, rngs=nnx.Rngs(0))
    bias = float(net.bias[0])
    read = StoredArray.read
    orders = iter([lambda: None, lambda: path.write_bytes(b"")])

    def read_from_failing_disk(array: StoredArray) -> np.ndarray:
        next(orders)()
        return read(array)

    monkeypatch.setattr(StoredArray, "read", read_from_failing_disk)
    with pytest.raises(OSError, match="cut short") as caught:
        jaxnn.load_state_dict(net, path)
    assert "had been replaced: weight;" in caught.value.__notes__[0]
    np.testing.assert_array_equal(net.weight[...], [[1, 1]])
    assert float(net.bias[0]) == bias

    save_file({"weight": np.zeros((1, 2)), "bias": np.ones(1)}, path)
    orders = iter([path.unlink])
    with pytest.raises(FileNotFoundError) as gone:
        jaxnn.load_state_dict(net, path)
    assert "unchanged" in gone.value.__notes__[0]
    np.testing.assert_array_equal(net.weight[...], [[1, 1]])


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
        "outside": file({"weight": entry, "bias": bias | {"data_offsets": [1000, 1004]}}),
        "backwards": file({"weight": entry, "bias": bias | {"data_offsets": [12, 8]}}),
        "hole": file({"weight": entry, "bias": bias | {"data_offsets": [12, 16]}}, b"\0" * 16),
        "wrong shape": file({"weight": entry | {"shape": [1, 3]}, "bias": bias}),
        "unknown dtype": file({"weight": entry | {"dtype": "X8"}, "bias": bias}),
        "one name twice": file({"weight": entry, "bios": bias, "bias": bias}).replace(
            b"bios", b"bias"
        ),
        "no JSON": struct.pack("<Q", 4) + b"{'a}" + b"\0" * 12,
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


class Hostile:
    """What runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_hostile_pickle_does_not_run(is_zip: bool, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "model.pt"
    content = {"weight": torch.ones(1, 2), "bias": Hostile(f"touch {trace}")}
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    net = jaxnn.Linear(2, 1, rngs=nnx.Rngs(0))
    before = jaxnn.state_dict(net)
    with pytest.raises(ValueError, match=r"weights_only=True.*system"):
        jaxnn.load_state_dict(net, path)
    assert not trace.exists()
    assert_equal(jaxnn.state_dict(net), before)
    # The file does what it is said to do.
    torch.load(path, weights_only=False)
    assert trace.exists()


def test_a_file_of_torch_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.ones(1, 2), "bias": torch.ones(1)}, path)
    whole = path.read_bytes()
    net = jaxnn.Linear(2, 1, rngs=nnx.Rngs(0))
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=str(path)):
            jaxnn.load_state_dict(net, path)


def test_damaged_index(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    net = jaxnn.Linear(2, 1, rngs=nnx.Rngs(0))
    save_file({"weight": np.ones((1, 2))}, tmp_path / "a.safetensors")
    index.write_text(json.dumps({"weight_map": {"weight": "a.safetensors", "bias": "b.bin"}}))
    with pytest.raises(FileNotFoundError, match=r"b\.bin"):
        jaxnn.load_state_dict(net, index)
    names = {"weight": "a.safetensors", "bias": "a.safetensors"}
    index.write_text(json.dumps({"weight_map": names}))
    with pytest.raises(ValueError, match="bias"):
        jaxnn.load_state_dict(net, tmp_path)
    for text in ("", "[]", "{}", '{"weight_map": 3}'):
        index.write_text(text)
        with pytest.raises(ValueError, match="no index"):
            jaxnn.load_state_dict(net, index)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="no file of weights"):
        jaxnn.load_state_dict(net, empty)


def test_a_wrong_shape_in_a_file_reads_no_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": np.ones((2, 1)), "bias": np.ones(1)}, path)
    monkeypatch.setattr(StoredArray, "read", lambda array: pytest.fail("was read"))
    net = jaxnn.Linear(2, 1, rngs=nnx.Rngs(0))
    before = jaxnn.state_dict(net)
    with pytest.raises(ValueError, match=r"weight: has shape \(1, 2\) in the model, \(2, 1\)"):
        jaxnn.load_state_dict(net, path)
    assert_equal(jaxnn.state_dict(net), before)


def test_arrays_without_values_are_refused() -> None:
    net = jaxnn.Linear(2, 1, bias=False, rngs=nnx.Rngs(0))
    abstract = nnx.eval_shape(lambda: jaxnn.Linear(2, 1, bias=False, rngs=nnx.Rngs(0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the end of quantized tensors
        quantized = torch.quantize_per_tensor(torch.ones(1, 2), 0.1, 0, torch.qint8)
    for value in (torch.ones(1, 2, device="meta"), abstract.weight, quantized):
        before = jaxnn.state_dict(net)
        with pytest.raises(ValueError, match=r"holds no values|dequantize"):
            jaxnn.load_state_dict(net, {"weight": value})
        assert_equal(jaxnn.state_dict(net), before)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "complex64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_reported(dtype: str, value: float) -> None:
    net = jaxnn.ParameterList([jnp.ones(3, dtype), jnp.ones(0, dtype), jnp.ones(2, dtype)])
    state = jaxnn.state_dict(net)
    state["0"][1] = value
    assert jaxnn.load_state_dict(net, state).non_finite == ["0"]


@pytest.mark.parametrize("spaces", range(4))
def test_arrays_in_a_file_need_no_alignment(spaces: int, tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}
    header = json.dumps({"weight": entry}).encode() + b" " * spaces
    path = tmp_path / "model.safetensors"
    data = np.array([1.5, 2.5], np.float32).tobytes()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    net = jaxnn.Linear(2, 1, bias=False, rngs=nnx.Rngs(0))
    jaxnn.load_state_dict(net, path)
    np.testing.assert_array_equal(net.weight[...], [[1.5, 2.5]])


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


def test_an_entry_of_a_checkpoint(net: jaxnn.Sequential, tmp_path: Path) -> None:
    weights, averaged = make_torch_net().state_dict(), make_torch_net().state_dict()
    path = tmp_path / "checkpoint.pth"
    torch.save({"params": weights, "params_ema": averaged, "iter": 5}, path)
    with pytest.warns(UserWarning, match="'params' is taken, not 'params_ema'; choose with entry="):
        jaxnn.load_state_dict(net, path)
    assert_equal(jaxnn.state_dict(net), weights)
    jaxnn.load_state_dict(net, path, entry="params_ema")
    assert_equal(jaxnn.state_dict(net), averaged)

    source = {"model": weights, "optimizer": {"state": {}}, "ema": {"v1.0": {"net": averaged}}}
    with pytest.warns(UserWarning, match="'model' is taken, not 'ema.v1.0.net'"):
        jaxnn.load_state_dict(net, source)
    jaxnn.load_state_dict(net, source, entry="ema.v1.0.net")
    assert_equal(jaxnn.state_dict(net), averaged)
    for entry in ("model_ema", "ema.v1.0.nets", "ema.net"):
        with pytest.raises(ValueError, match="has no entry"):
            jaxnn.load_state_dict(net, source, entry=entry)
    with pytest.raises(ValueError, match="arrays alone"):
        jaxnn.load_state_dict(net, weights, entry="model")
    with pytest.raises(ValueError, match=r"one of \['generator', 'critic'\]"):
        jaxnn.load_state_dict(net, {"generator": weights, "critic": averaged})
    jaxnn.load_state_dict(net, {"generator": weights, "epoch": 3})
    assert_equal(jaxnn.state_dict(net), weights)


def test_old_weight_normalisation_into_the_parametrization() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = torch.nn.Sequential(torch.nn.utils.weight_norm(torch.nn.Linear(3, 2)))
    source = old.state_dict()
    theirs = torch.nn.Sequential(torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 2)))
    theirs.load_state_dict(dict(source))
    layer = jaxnn.utils.parametrizations.weight_norm(jaxnn.Linear(3, 2, rngs=nnx.Rngs(0)))
    ours = jaxnn.Sequential(layer)
    prefix = "0.parametrizations.weight.original"
    report = jaxnn.load_state_dict(ours, source)
    assert report.renamed == {"0.weight_g": f"{prefix}0", "0.weight_v": f"{prefix}1"}
    assert_equal(jaxnn.state_dict(ours), theirs.state_dict())
    report = jaxnn.load_state_dict(
        ours, {f"net.{key}": value for key, value in source.items()}, rename={"net.": ""}
    )
    assert report.renamed["net.0.weight_g"] == f"{prefix}0"
    assert_equal(jaxnn.state_dict(ours), theirs.state_dict())


@pytest.mark.parametrize(
    ("name", "options", "shape", "dim"),
    [
        ("Linear", (3, 5), (2, 3), 0),
        ("Conv2d", (3, 5, 2), (2, 3, 4, 4), 0),
        ("ConvTranspose2d", (3, 4, 2), (2, 3, 4, 4), 1),
    ],
)
def test_old_spectral_normalisation_without_its_second_vector(
    name: str, options: Any, shape: tuple[int, ...], dim: int
) -> None:
    x = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = torch.nn.Sequential(
            torch.nn.utils.spectral_norm(getattr(torch.nn, name)(*options))
        )
    layer = getattr(jaxnn, name)(*options, rngs=nnx.Rngs(0))
    ours = jaxnn.Sequential(jaxnn.utils.spectral_norm(layer, rngs=nnx.Rngs(1)))
    theirs(torch.from_numpy(x))
    source = dict(theirs.state_dict())
    del source["0.weight_v"]
    with pytest.raises(ValueError, match=r"0\.weight_v"):
        jaxnn.load_state_dict(ours, source)
    source["0.weight"] = theirs[0].weight.detach()
    jaxnn.load_state_dict(ours, source)
    theirs.load_state_dict(source)
    got, wanted = jaxnn.state_dict(ours), theirs.state_dict()
    if name == "Linear":
        np.testing.assert_allclose(got["0.weight_v"], wanted["0.weight_v"], rtol=1e-4, atol=1e-5)
    # Elsewhere many vectors do: torch's has noise where the weight's matrix has none of the rows.
    matrix = np.moveaxis(got["0.weight_orig"], dim, 0)
    u = matrix.reshape(len(matrix), -1) @ got["0.weight_v"]
    np.testing.assert_allclose(u / np.linalg.norm(u), wanted["0.weight_u"], rtol=1e-4, atol=1e-5)
    y = theirs.eval()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours.eval()(jnp.asarray(x)), y, rtol=1e-4, atol=1e-5)


class Labelled(torch.Tensor):
    """A tensor of a subclass with nothing of its own."""


class Wrapped(torch.Tensor):
    """A tensor whose values another one holds."""

    @staticmethod
    def __new__(cls, inner: Any) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.ops.aten.detach.default:
            return args[0]
        raise NotImplementedError(f"{function} of a {cls.__name__}")


class Quantized(Wrapped):
    """One that can give its values."""

    def dequantize(self) -> Any:
        return self.inner


def test_tensors_of_subclasses() -> None:
    net = jaxnn.Linear(2, 1, rngs=nnx.Rngs(0))
    bias, values = np.full(1, 7.0), torch.tensor([[1.0, 2.0]])
    for value in (values.as_subclass(Labelled), Quantized(values), torch.nn.Buffer(values)):
        jaxnn.load_state_dict(net, {"bias": bias, "weight": value})
        np.testing.assert_array_equal(net.weight[...], values)
    before = jaxnn.state_dict(net)
    lazy = torch.nn.LazyLinear(1).state_dict()["weight"]
    for value, reason in ((Wrapped(values), "is a Wrapped, whose values"), (lazy, "lazy layer")):
        with pytest.raises(ValueError, match=f"weight: {reason}|weight: is a parameter of a lazy"):
            jaxnn.load_state_dict(net, {"bias": bias + 1, "weight": value})
        assert_equal(jaxnn.state_dict(net), before)


def test_tensors_that_are_spread_over_devices(tmp_path: Path) -> None:
    from torch import distributed
    from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

    net = jaxnn.Linear(2, 4, rngs=nnx.Rngs(0))
    weight, bias = torch.arange(8.0).reshape(4, 2), torch.ones(4)
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        spread = distribute_tensor(weight, mesh, [Shard(0)])
        jaxnn.load_state_dict(net, {"weight": spread, "bias": bias})
    finally:
        distributed.destroy_process_group()
    np.testing.assert_array_equal(net.weight[...], weight)


def test_lazy_state_into_lazy_layers() -> None:
    theirs = torch.nn.Sequential(torch.nn.LazyLinear(3), torch.nn.Linear(2, 2))
    ours = jaxnn.Sequential(
        jaxnn.LazyLinear(3, rngs=nnx.Rngs(0)), jaxnn.Linear(2, 2, rngs=nnx.Rngs(0))
    )
    report = jaxnn.load_state_dict(ours, theirs.state_dict())
    assert report.filled == ["1.weight", "1.bias"]
    assert isinstance(ours[0], jaxnn.LazyLinear)


class Counting(jaxnn.Module):
    """A module with a state beside its arrays, as torch's `get_extra_state` has it."""

    def __init__(self) -> None:
        self.calls = 0

    def get_extra_state(self) -> Any:
        return {"calls": self.calls}

    def set_extra_state(self, state: Any) -> None:
        self.calls = state["calls"]


def test_extra_state() -> None:
    net = jaxnn.Sequential(jaxnn.Linear(1, 1, rngs=nnx.Rngs(0)), Counting())
    state = jaxnn.state_dict(net)
    assert state["1._extra_state"] == {"calls": 0}
    jaxnn.load_state_dict(net, jaxnn.interop.to_torch(state) | {"1._extra_state": {"calls": 3}})
    assert net[1].calls == 3
    with pytest.raises(ValueError, match=r"missing in the source: 1\._extra_state"):
        jaxnn.load_state_dict(net, {k: v for k, v in state.items() if "extra" not in k})
    plain = jaxnn.Sequential(jaxnn.Linear(1, 1, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"_extra_state is what a module of the source keeps"):
        jaxnn.load_state_dict(plain, state)
    report = jaxnn.load_state_dict(plain, state, strict=False)
    assert report.unexpected_keys == ["1._extra_state"]
