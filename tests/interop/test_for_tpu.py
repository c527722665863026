"""What a TPU's compiler makes of whole models and exported files; none of it needs a TPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

SCALE = """
import json, sys
from benchmarks.targets import Target, prepare
name, target = sys.argv[1:]
prepare(target)
from benchmarks.scale import measure, needed
row = measure(name, Target(target), narrow=True)
print(json.dumps({**row, "needed": needed(row)}))
"""

EXPORTED = """
import sys
from benchmarks.targets import Target, prepare
prepare("tpu:v5e")
import jax, jax.export, jax.numpy as jnp, jaxnn
from flax import nnx
from jaxnn.interop.export import export

rngs, target = nnx.Rngs(0), Target("tpu:v5e")
net = jaxnn.Sequential(
    jaxnn.Conv2d(3, 8, 3, padding=1, rngs=rngs), jaxnn.BatchNorm2d(8), jaxnn.ReLU(),
    jaxnn.MaxPool2d(2), jaxnn.Flatten(), jaxnn.Linear(128, 4, rngs=rngs), jaxnn.Softmax(-1),
)
for weights, platforms in (("inside", ["tpu"]), ("arguments", ["cpu", "cuda", "rocm", "tpu"])):
    path = sys.argv[1]
    export(net, jnp.ones((2, 3, 8, 8)), path, weights=weights, platforms=platforms)
    exported = jax.export.deserialize(bytearray(open(path, "rb").read()))
    given = [jnp.ones((5, 3, 8, 8))]
    if weights == "arguments":
        given.insert(0, {name: jnp.asarray(a) for name, a in jaxnn.state_dict(net).items()})
    compiled = target.compiled(exported.call, *given)
    assert compiled.output_shardings.device_set == {target.topology.devices[0]}
    print(compiled.out_info.shape, "convolution" in compiled.as_text())
"""


BY_DATA = """
from benchmarks.targets import Target, prepare
prepare("tpu:v5e")
import jax, jax.numpy as jnp, jaxnn
from flax import nnx
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec as P
from benchmarks.collectives import collectives

mesh = topologies.make_mesh(Target("tpu:v5e").topology, (4,), ("data",))
rngs = nnx.Rngs(0)
layers = {
    "1x1": jaxnn.Conv2d(64, 128, 1, stride=2, bias=False, rngs=rngs),
    "3x3": jaxnn.Conv2d(64, 64, 3, padding=1, bias=False, rngs=rngs),
    "depthwise": jaxnn.Conv2d(64, 64, 3, groups=64, bias=False, rngs=rngs),
    "pool": jaxnn.MaxPool2d(3, 2, 1),
}
x = jax.ShapeDtypeStruct((32, 64, 28, 28), jnp.float32, sharding=NamedSharding(mesh, P("data")))
for name, layer in layers.items():
    graphdef, params = nnx.split(layer)
    placed = jax.tree.map(
        lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=NamedSharding(mesh, P())), params
    )
    loss = lambda params, x: (nnx.merge(graphdef, params)(x) ** 2).sum()
    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(placed, x).compile()
    found = collectives(compiled.as_text(), mesh.shape)
    print(name, *(f"{one.kind} {[shape for _, shape in one.arrays]}" for one in found))
"""


def run(environment: dict[str, str], script: str, *arguments: str) -> str:
    """What a process prints: the compiler's settings have to be there before JAX is."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1] if script is SCALE else done.stdout


def test_a_llama_over_chips_sends_what_its_plan_implies(tpu_compiler: dict[str, str]) -> None:
    pytest.importorskip("transformers")
    row: Any = json.loads(run(tpu_compiler, SCALE, "llama", "tpu:v5e:4x4"))
    assert row["mesh"] == {"data": 4, "model": 4}
    sent = {(one["purpose"], *one["axes"]): one for one in row["sent"]}
    # Each of fourteen matrices in blocks is gathered twice, for it is computed again; and the two
    # tables once.
    gathered = sent["weights gathered", "data"]
    assert (gathered["kind"], gathered["count"]) == ("all-gather", 2 * 14 + 2)
    assert ("gradients summed", "data") in sent
    # The results of the two products of a block whose inner dimension is parted: forward, where it
    # is computed again (but for the last), and the gradients of their inputs; and both tables.
    summed = [one for one in row["sent"] if one["purpose"] == "features summed"]
    assert {tuple(one["axes"]) for one in summed} == {("model",)}
    assert sum(one["count"] for one in summed) <= 2 * (2 + 1 + 2) + 3
    # What is left is the gradient of the embedding, which goes by rows.
    assert all("scatter-add" in one["source"] for one in row["other"]), row["other"]
    # Gradients and activations are temporary; what is kept between steps is what was planned.
    batch = 4 * 4 * 128 * 4 // 4
    kept = row["arguments"] - batch
    weights_and_state = row["planned"] * 3 / 4
    assert abs(kept - weights_and_state) < 0.05 * weights_and_state
    assert row["needed"] < row["memory"]


@pytest.mark.parametrize(
    ("name", "purposes"),
    [
        ("experts", {"tokens to experts", "weights gathered", "gradients summed", "numbers"}),
        ("decode", {"features summed", "numbers"}),
    ],
)
def test_experts_and_a_cache_stay_where_they_are(
    name: str, purposes: set[str], tpu_compiler: dict[str, str]
) -> None:
    pytest.importorskip("transformers")
    row: Any = json.loads(run(tpu_compiler, SCALE, name, "tpu:v5e:8x8"))
    assert {one["purpose"] for one in row["sent"]} == purposes


def test_by_data_the_gradients_of_weights_are_summed_and_nothing_is_gathered(
    tpu_compiler: dict[str, str],
) -> None:
    assert run(tpu_compiler, BY_DATA).splitlines() == [
        "1x1 all-reduce [(128, 64, 1, 1)]",
        "3x3 all-reduce [(64, 64, 3, 3)]",
        "depthwise all-reduce [(64, 1, 3, 3)]",
        "pool",
    ]


def test_an_exported_file_compiles_for_a_tpu(tmp_path: Path, tpu_compiler: dict[str, str]) -> None:
    pytest.importorskip("flatbuffers")
    found = run(tpu_compiler, EXPORTED, str(tmp_path / "net.stablehlo"))
    assert found.splitlines() == ["(5, 4) True"] * 2


GATHER = "%g = bf16[8,512]{1,0} all-gather(%a), channel_id=1, replica_groups="
PROGRAM = """
%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]) parameter(0)
  %x = f32[4]{0} get-tuple-element(%p), index=1
  %r = (f32[4]{0}, f32[4]{0}, u32[], u32[]) collective-permute-start(%x), \
source_target_pairs={{0,2},{2,4},{4,6},{6,0},{1,3},{3,5},{5,7},{7,1}}
}

ENTRY %main (a: bf16[2,512]) -> bf16[8,512] {
  %a = bf16[2,512]{1,0} parameter(0)
  GATHER, dimensions={0}, metadata={op_name="jit(step)/read"}
  %w = (s32[], f32[4]) while(%t), condition=%c, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
}
"""


@pytest.mark.parametrize(
    ("groups", "axes"),
    [
        ("{{0,1},{2,3},{4,5},{6,7}}", ("model",)),
        ("{{0,2,4,6},{1,3,5,7}}", ("data",)),
        ("[4,2]<=[8]", ("model",)),
        ("[2,4]<=[4,2]T(1,0)", ("data",)),
        ("[1,8]<=[8]", ("data", "model")),
        ("mesh['axis_0'=4,'axis_1'=2] {'axis_0'}", ("data",)),
        ("mesh['axis_0'=4,'axis_1'=2] {'axis_1'}", ("model",)),
        ("mesh['axis_0'=2,'axis_1'=4], device_ids=([4,2]T(1,0)) {'axis_0'}", ("model",)),
    ],
)
def test_collectives_are_read(groups: str, axes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.collectives import collectives

    text = PROGRAM.replace("GATHER", GATHER + groups)
    gather, ring = collectives(text, {"data": 4, "model": 2})
    assert (gather.kind, gather.axes, gather.bytes) == ("all-gather", axes, 2 * 8 * 512)
    assert gather.source == "jit(step)/read"
    assert (ring.kind, ring.axes, ring.times, ring.bytes) == (
        "collective-permute", ("data",), 3, 3 * 16,
    )  # fmt: skip


def test_collectives_of_branches_are_read() -> None:
    from benchmarks.collectives import collectives

    program = """
%yes (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  ROOT %s = f32[4]{0} all-reduce(%x), channel_id=1, replica_groups={{0,1}}, to_apply=%add
}

%no (x: f32[4]) -> f32[4] {
  ROOT %x = f32[4]{0} parameter(0)
}

ENTRY %main (p: pred[], a: f32[4]) -> f32[4] {
  %p = pred[] parameter(0)
  %a = f32[4]{0} parameter(1)
  ROOT %c = f32[4]{0} conditional(%p, %a, %a), branch_computations={%yes, %no}
}
"""
    listed = (
        program,
        program.replace(
            "branch_computations={%yes, %no}", "true_computation=%yes, false_computation=%no"
        ),
    )
    for text in listed:
        (one,) = collectives(text, {"data": 2})
        assert (one.kind, one.axes, one.times) == ("all-reduce", ("data",), 1)


def test_unknown_groups_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.collectives import collectives

    with pytest.raises(ValueError, match="unknown groups of chips"):
        collectives(PROGRAM.replace("GATHER", GATHER + "all"), {"data": 4, "model": 2})
