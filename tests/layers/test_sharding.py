"""Models and batches spread over devices give what one device gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
