"""Models and batches spread over devices give what one device gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

import jaxnn

SCRIPT = """
import jax, jax.numpy as jnp, numpy as np, jaxnn
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

rngs = nnx.Rngs(0)
layers = [
    jaxnn.MaxPool2d(3, 2, 1), jaxnn.MaxPool2d(2, return_indices=True), jaxnn.MaxPool2d(6),
    jaxnn.BatchNorm2d(3), jaxnn.Conv2d(3, 4, 3, rngs=rngs),
    jaxnn.Conv2d(3, 3, 3, groups=3, rngs=rngs), jaxnn.PReLU(), jaxnn.ReLU(), jaxnn.Softmax(1),
    jaxnn.Flatten(), jaxnn.Linear(6, 2, rngs=rngs),
]
x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 3, 6, 6)), jnp.float32)
ids, table = jnp.arange(8) % 5, jnp.arange(15.0).reshape(5, 3)

def gradient(layer):
    graphdef, state = nnx.split(layer)
    def loss(x):
        output = nnx.merge(graphdef, state, copy=True)(x)
        return (jax.tree.leaves(output)[0] ** 2).sum()
    return jax.jit(jax.grad(loss))

def rows(table, ids):
    return (jaxnn.functional.embedding(ids, table, padding_idx=1) ** 2).sum()

wanted = [gradient(layer)(x) for layer in layers]
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        spread = NamedSharding(mesh, P("data"))
        for layer, want in zip(layers, wanted, strict=True):
            got = gradient(layer)(jax.device_put(x, spread))
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5, err_msg=repr(layer))
        got = jax.jit(jax.grad(rows))(table, jax.device_put(ids, spread))
        np.testing.assert_allclose(got, jax.grad(rows)(table, ids))
print("equal")
"""


def test_gradients_over_four_devices() -> None:
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "equal", done.stderr[-3000:]


def test_models_in_parts_over_eight_devices() -> None:
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags}
    script = [sys.executable, str(Path(__file__).with_name("sharded.py")), "imported"]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "equal", done.stderr[-3000:]


def test_a_plan_says_what_does_not_fit() -> None:
    mesh = AbstractMesh((4, 2), ("model", "data"))
    net = nnx.eval_shape(lambda: jaxnn.Linear(6, 8, rngs=nnx.Rngs(0)))
    plan = jaxnn.sharding.plan(net, [("weight", P("model")), ("bias", P(("model", "data")))], mesh)
    assert [placement.bytes for placement in plan] == [48, 4]
    for rules, message in (
        ([("weight", P(None, "model"))], r"weight: dimension 1 of \(8, 6\) cannot be parted into"),
        ([("weight", P("heads"))], r"weight: the mesh has the axes \['model', 'data'\]"),
        ([("bias", P(None, "model"))], r"bias has shape \(8,\), but its rule parts 2 dimensions"),
        ([("kernel", P("model"))], r"no name matches the rules \['kernel'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxnn.sharding.plan(net, rules, mesh)


class Tied(jaxnn.Module):
    """A weight of two names, and a table that no state dict has."""

    def __init__(self) -> None:
        self.embed = jaxnn.Embedding(16, 8, rngs=nnx.Rngs(0))
        self.head = jaxnn.Linear(8, 16, bias=False, rngs=nnx.Rngs(0))
        self.head.weight = nnx.data(None)
        self.positions = jaxnn.NonPersistent(jnp.zeros((4, 8)))
        self._tied = (("head.weight", "embed.weight"),)
        self._state_keys = ("embed.weight", "head.weight")


def test_what_is_gathered_is_told_by_the_program() -> None:
    mesh = AbstractMesh((4, 2), ("data", "model"))
    net = nnx.eval_shape(lambda: jaxnn.Linear(8, 8, rngs=nnx.Rngs(0)))
    rules = [("weight", P("model", "data")), ("bias", P("model"))]
    with pytest.raises(ValueError, match=r"`gather`: the mesh has the axes .* not \['rows'\]"):
        jaxnn.sharding.shard(net, rules, mesh, gather=("data", "rows"))
    jaxnn.sharding.shard(net, rules, mesh, gather="data")
    # The bias is not parted over the axis.
    assert [type(v).__name__ for v in (net.weight, net.bias)] == ["GatheredParam", "Param"]
    assert list(nnx.state(net, nnx.Param)) == ["bias", "weight"]
    graphdef, params = nnx.split(net)
    x = jax.ShapeDtypeStruct((4, 8), jnp.float32)

    def loss(params: Any, x: Any) -> Any:
        return (nnx.merge(graphdef, params)(x) ** 2).sum()

    text = str(jax.make_jaxpr(jax.grad(loss))(params, x))
    read = [line for line in text.splitlines() if "sharding_constraint" in line]
    assert len(read) == 2
    assert "spec=P('model', None)" in text
    assert "spec=P('model', 'data')" in text
    with jaxnn.forward_mode():
        text = str(jax.make_jaxpr(lambda p, x: jax.jvp(loss, (p, x), (p, x)))(params, x))
    assert "spec=P('model', None)" in text
    mixed, rest = nnx.split(jaxnn.mixed_precision(net))
    text = str(jax.make_jaxpr(lambda p, x: nnx.merge(mixed, p)(x))(rest, x))
    assert text.index("bf16[8,8] = convert") < text.index("bf16[8,8] = sharding_constraint")
    # The gradients of each sample, which have a dimension more.
    samples = jax.make_jaxpr(jax.vmap(jax.grad(loss), (None, 0)))(params, x)
    assert "spec=P(UNCONSTRAINED, 'model', 'data')" in str(samples)


def test_a_plan_counts_once_what_is_stored_once() -> None:
    mesh = AbstractMesh((4,), ("model",))
    rules = [("embed.weight", P("model")), ("head.weight", P(None, "model"))]
    plan = jaxnn.sharding.plan(Tied(), rules, mesh, optimizer=2)
    assert [(p.name, p.bytes, p.total_bytes) for p in plan] == [
        ("embed.weight", 128, 512), ("head.weight", 0, 0),
    ]  # fmt: skip
    # The first name decides where it is.
    assert plan("head.weight").spec == plan("embed.weight").spec == P("model")
    assert plan.other_bytes == 4 * 8 * 4
    assert plan.bytes == 512 + 128


@pytest.mark.parametrize(
    ("optimizer", "per_weight", "beside"),
    [
        (optax.sgd(0.1), 0, 0),
        (optax.adamw(0.1), 2, 4),
        (optax.adamw(0.1, mu_dtype=jnp.bfloat16), 1.5, 4),
        (optax.chain(optax.clip_by_global_norm(1.0), optax.lion(0.1)), 1, 4),
        (optax.inject_hyperparams(optax.sgd)(0.1, momentum=0.9), 1, 12),
        (3, 3, 0),
    ],
)
def test_a_plan_counts_the_state_of_an_optimizer(
    optimizer: Any, per_weight: float, beside: int
) -> None:
    mesh = AbstractMesh((4, 2), ("model", "data"))
    net = nnx.eval_shape(lambda: jaxnn.BatchNorm1d(8))
    rules = [("weight", P("model")), ("running_mean", P("data"))]
    plan = jaxnn.sharding.plan(net, rules, mesh, optimizer=optimizer)
    found = {p.name: (p.bytes, p.gradient_bytes, p.optimizer_bytes) for p in plan}
    # Statistics are not trained.
    assert found == {
        "weight": (8, 8, 8 * per_weight), "bias": (32, 32, 32 * per_weight),
        "running_mean": (16, 0, 0), "running_var": (32, 0, 0), "num_batches_tracked": (4, 0, 0),
    }  # fmt: skip
    assert plan.other_bytes == beside
    assert plan.bytes == sum(map(sum, found.values())) + beside


def test_factored_state_is_on_every_device() -> None:
    mesh = AbstractMesh((4,), ("model",))
    net = nnx.eval_shape(lambda: jaxnn.Linear(256, 128, bias=False, rngs=nnx.Rngs(0)))
    optimizer = optax.scale_by_factored_rms(min_dim_size_to_factor=128)
    plan = jaxnn.sharding.shard(net, [("weight", P("model"))], mesh)
    plan = jaxnn.sharding.plan(net, [("weight", P("model"))], mesh, optimizer=optimizer)
    state = jaxnn.sharding.optimizer_shardings(optimizer, nnx.state(net, nnx.Param))
    assert {s.spec for s in jax.tree.leaves(state)} == {P()}
    assert next(iter(plan)).optimizer_bytes == 4 * (256 + 128 + 1)


def test_an_abstract_module_is_given_its_shardings() -> None:
    mesh = AbstractMesh((4,), ("model",))
    net = nnx.eval_shape(lambda: jaxnn.Linear(4, 8, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="must be arrays that are spread over a mesh"):
        jaxnn.sharding.optimizer_shardings(optax.adam(0.1), nnx.state(net, nnx.Param))
    jaxnn.sharding.shard(net, [("weight", P("model"))], mesh)
    assert net.weight.get_value().sharding.spec == P("model")
    assert net.bias.get_value().sharding.spec == P()
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        jaxnn.sharding.plan(net, [], mesh, optimizer=-1)
