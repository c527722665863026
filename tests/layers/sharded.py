"""Run by test_sharding.py on eight devices: models in parts give what they give whole."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxnn

ROW, COLUMN = P(None, "model"), P("model", None)


def models():
    """Name, module, inputs and the rules of tensor parallelism."""
    rngs = nnx.Rngs(0)
    random = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(random.standard_normal(shape), jnp.float32)

    yield (
        "mlp",
        jaxnn.Sequential(
            jaxnn.Linear(8, 16, rngs=rngs), jaxnn.GELU(), jaxnn.Linear(16, 8, rngs=rngs)
        ),
        (draw(8, 8),),
        [("0.weight", COLUMN), ("0.bias", P("model")), ("2.weight", ROW)],
    )
    yield (
        "convolution",
        jaxnn.Sequential(
            jaxnn.Conv2d(4, 8, 3, padding=1, rngs=rngs),
            jaxnn.BatchNorm2d(8),
            jaxnn.ReLU(),
            jaxnn.Conv2d(8, 4, 1, rngs=rngs),
        ),
        (draw(8, 4, 6, 6),),
        [("0.weight", COLUMN), ("0.bias", P("model")), ("3.weight", ROW)],
    )
    ids = jnp.asarray(random.integers(0, 16, (8, 5)))
    yield "embedding by rows", jaxnn.Embedding(16, 8, rngs=rngs), (ids,), [("weight", COLUMN)]
    yield "embedding by columns", jaxnn.Embedding(16, 8, rngs=rngs), (ids,), [("weight", ROW)]
    attention = [
        (".*in_proj_weight", COLUMN), (".*in_proj_bias", P("model")), (".*out_proj.weight", ROW),
    ]  # fmt: skip
    x = draw(8, 6, 8)
    yield (
        "attention",
        jaxnn.MultiheadAttention(8, 4, batch_first=True, rngs=rngs),
        (x, x, x),
        (attention),
    )
    layer = jaxnn.TransformerEncoderLayer(8, 4, 16, dropout=0.0, batch_first=True, rngs=rngs)
    yield "transformer", jaxnn.TransformerEncoder(layer, 2), (x,), [
        *attention, (".*linear1.weight", COLUMN), (".*linear1.bias", P("model")),
        (".*linear2.weight", ROW),
    ]  # fmt: skip


def imported():
    """A PyTorch model, imported."""
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(128, 8),
    )  # fmt: skip
    x = torch.randn(8, 3, 4, 4)
    rules = [("0.weight", COLUMN), ("4.weight", ROW)]
    yield "imported", jaxnn.from_torch(net, x, check=False), (jnp.asarray(x.numpy()),), rules


def step(module, out_sharding=None):
    """Loss, gradients and the state after a call in training mode."""
    graphdef, parameters, rest = nnx.split(module, nnx.Param, ...)

    def call(parameters, rest, inputs):
        model = nnx.merge(graphdef, parameters, rest, copy=True)
        return jax.tree.leaves(model(*inputs))[0], nnx.state(model, nnx.Not(nnx.Param))

    if out_sharding is not None:
        call = jax.sharding.auto_axes(call, out_sharding=out_sharding)

    @jax.jit
    def run(parameters, rest, inputs):
        def loss(parameters):
            output, state = call(parameters, rest, inputs)
            weights = jnp.cos(jnp.arange(output.size, dtype=jnp.float32)).reshape(output.shape)
            return (output * weights).sum(), state

        return jax.value_and_grad(loss, has_aux=True)(parameters)

    return lambda *inputs: run(parameters, rest, inputs)


def check(name, module, inputs, rules, kind):
    wanted = step(module)(*inputs)
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(kind,) * 2)
    everything = jaxnn.sharding.fully_sharded(("data", "model"), mesh)
    axes = ("data", "model")
    ways = {
        "data parallel": ([], ()), "fully sharded": ([(".*", everything)], ()),
        "tensor parallel": (rules, ()), "gathered": ([(".*", everything)], axes),
    }  # fmt: skip
    for way, (table, gather) in ways.items():
        # On explicit axes a product over a parted dimension needs a word on its result: inside of
        # the call, the compiler finds it.
        explicit = table and not gather and kind is AxisType.Explicit
        out_sharding = (P("data"), P()) if explicit else None
        with jax.set_mesh(mesh):
            parted = nnx.clone(module)
            jaxnn.sharding.shard(parted, table, mesh, gather=gather)
            spread = [jax.device_put(x, NamedSharding(mesh, P("data"))) for x in inputs]
            found = step(parted, out_sharding)(*spread)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
                continue
            np.testing.assert_allclose(one, other, 2e-4, 2e-5, err_msg=f"{name}, {way}, {kind}")


def main():
    for item in (*models(), *(imported() if "imported" in sys.argv else ())):
        for kind in (AxisType.Auto, AxisType.Explicit):
            check(*item, kind)
    print("equal")


if __name__ == "__main__":
    main()
