"""Every layer under every transformation of JAX and NNX, compared with the plain call."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export
from jax.sharding import PartitionSpec

import jaxnn
from jaxnn.functional._gradients import with_transpose_of

x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 3, 5, 5)), jnp.float32)


def make_net(rngs: nnx.Rngs | None = None) -> jaxnn.Sequential:
    rngs = rngs or nnx.Rngs(0)
    return jaxnn.Sequential(
        jaxnn.Conv2d(3, 4, 3, padding=1, rngs=rngs),
        jaxnn.BatchNorm2d(4),
        jaxnn.ReLU(),
        jaxnn.MaxPool2d(2, ceil_mode=True),
        jaxnn.Conv2d(4, 4, 2, groups=4, rngs=rngs),
        jaxnn.Conv2d(4, 4, 1, rngs=rngs),
        jaxnn.Dropout(0.3, rngs=rngs),
        jaxnn.Flatten(),
        jaxnn.Linear(16, 5, rngs=rngs),
        jaxnn.BatchNorm1d(5),
        jaxnn.PReLU(),
        jaxnn.Sequential(jaxnn.Linear(5, 5, rngs=rngs), jaxnn.Identity()),
        jaxnn.Softmax(1),
    )


def call(net: Any, x: Any) -> Any:
    return net(x)


def loss(net: Any) -> Any:
    return (net(x) ** 2).sum()


def assert_same(actual: Any, expected: Any, rtol: float = 2e-5) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), actual, expected
    )


@pytest.fixture(scope="module")
def reference() -> tuple[Any, dict[str, np.ndarray]]:
    net = make_net()
    return net(x), jaxnn.state_dict(net)


@pytest.fixture(scope="module")
def gradient() -> Any:
    return jax.tree.leaves(nnx.grad(loss)(make_net()))


def with_nnx_jit(net: Any) -> Any:
    return nnx.jit(call)(net, x)


def with_cached_partial(net: Any) -> Any:
    return nnx.cached_partial(nnx.jit(call), net)(x)


def with_jit_partial(net: Any) -> Any:
    return nnx.jit_partial(call, net, graph=False)(x)


def with_remat(net: Any) -> Any:
    return nnx.remat(call)(net, x)


def with_jax_jit_over_split(net: Any) -> Any:
    graphdef, state = nnx.split(net)

    @jax.jit
    def step(state: Any, x: Any) -> Any:
        net = nnx.merge(graphdef, state)
        return net(x), nnx.state(net)

    output, state = step(state, x)
    nnx.update(net, state)
    return output


def with_jax_jit_of_the_module(net: Any) -> Any:
    output, new = jax.jit(lambda net, x: (net(x), net))(net, x)
    nnx.update(net, nnx.state(new))
    return output


@pytest.mark.parametrize(
    "run",
    [
        with_nnx_jit,
        with_cached_partial,
        with_jit_partial,
        with_remat,
        with_jax_jit_over_split,
        with_jax_jit_of_the_module,
    ],
)
def test_compiled_calls(run: Callable[[Any], Any], reference: Any) -> None:
    net = make_net()
    assert_same(run(net), reference[0])
    assert_same(jaxnn.state_dict(net), reference[1])


def test_evaluation_by_a_view() -> None:
    net = make_net()
    net(x)
    view = nnx.view(net, deterministic=True, use_running_average=True)
    before = jaxnn.state_dict(net)
    output = nnx.jit_partial(call, view, graph=False)(x)
    assert_same(output, net.eval()(x))
    assert_same(jaxnn.state_dict(net), before)
    assert "use_running_average" in nnx.view_info(net)


def test_gradients_agree(gradient: Any, reference: Any) -> None:
    net = make_net()
    assert_same(
        jax.tree.leaves(nnx.grad(lambda net: (nnx.remat(call)(net, x) ** 2).sum())(net)), gradient
    )
    assert_same(jaxnn.state_dict(net), reference[1])

    graphdef, params, rest = nnx.split(make_net(), nnx.Param, ...)

    def split_loss(params: Any) -> Any:
        net = nnx.merge(graphdef, params, rest, copy=True)
        return loss(net), nnx.state(net, nnx.Not(nnx.Param))

    (_, _), over_split = jax.value_and_grad(split_loss, has_aux=True)(params)
    assert_same(jax.tree.leaves(over_split), gradient)


@pytest.mark.parametrize("training", [True, False])
def test_forward_and_second_derivatives(training: bool) -> None:
    net = make_net() if training else make_net().eval()
    graphdef, params, rest = nnx.split(net, nnx.Param, ...)

    def output(params: Any, x: Any) -> Any:
        return nnx.merge(graphdef, params, rest, copy=True)(x)

    def split_loss(params: Any) -> Any:
        return (output(params, x) ** 2).sum()

    tangent = jax.tree.map(jnp.cos, params)
    _, forward = jax.jvp(split_loss, (params,), (tangent,))
    backward = jax.tree.map(jnp.vdot, jax.grad(split_loss)(params), tangent)
    np.testing.assert_allclose(forward, sum(jax.tree.leaves(backward)), rtol=1e-4)

    scaled = lambda scale: (output(params, scale * x) ** 2).sum()  # noqa: E731
    np.testing.assert_allclose(
        jax.hessian(scaled)(1.1), jax.grad(jax.grad(scaled))(1.1), rtol=1e-3, atol=1e-5
    )
    inputs = lambda x: output(params, x)[:, 0]  # noqa: E731
    assert_same(jax.jacfwd(inputs)(x), jax.jacrev(inputs)(x), rtol=1e-3)


def test_scan_with_the_module_as_carry() -> None:
    net, plain = make_net(), make_net()
    step = nnx.scan(lambda net, x: (net, net(x)), in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    _, outputs = step(net, jnp.stack([x, x + 1]))
    assert_same(outputs, jnp.stack([plain(x), plain(x + 1)]))
    assert_same(jaxnn.state_dict(net), jaxnn.state_dict(plain))


def test_vmap_with_statistics_of_its_own_for_each_member() -> None:
    net = make_net()
    statistics = nnx.state(net, nnx.BatchStat)
    nnx.update(net, jax.tree.map(lambda a: jnp.stack([a, a]), statistics))
    axes = nnx.StateAxes({nnx.Param: None, ...: 0})
    mapped = nnx.split_rngs(splits=2)(nnx.vmap(call, in_axes=(axes, 0)))
    xs = jnp.stack([x, x + 1])
    assert mapped(net, xs).shape == (2, 4, 5)
    alone = make_net()
    alone[0:2](xs[1])
    assert_same(net[1].running_mean[1], alone[1].running_mean[...])


def test_ensemble() -> None:
    nets = nnx.vmap(make_net)(nnx.Rngs(0).split(3))
    outputs = nnx.vmap(call, in_axes=(0, None))(nets, x)
    assert outputs.shape == (3, 4, 5)
    assert not np.allclose(outputs[0], outputs[1])


def test_linen() -> None:
    module = nnx.bridge.to_linen(make_net)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = module.init(keys, x)
    output, updates = module.apply(
        variables, x, rngs={"dropout": keys["dropout"]}, mutable=["batch_stats"]
    )
    assert output.shape == (4, 5)
    assert int(updates["batch_stats"]["1"]["num_batches_tracked"]) == 1


def test_shard_map() -> None:
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    split, whole = PartitionSpec("batch"), PartitionSpec()
    layer = jaxnn.BatchNorm2d(3, axis_name="batch")
    graphdef, state = nnx.split(layer)

    def step(state: Any, x: Any) -> Any:
        layer = nnx.merge(graphdef, state)
        return layer(x), nnx.state(layer)

    mapped = jax.shard_map(step, mesh=mesh, in_specs=(whole, split), out_specs=(split, whole))
    output, state = mapped(state, x)
    plain = jaxnn.BatchNorm2d(3)
    assert_same(output, plain(x))
    assert_same(state["running_var"][...], plain.running_var[...])

    graphdef, params, rest = nnx.split(make_net().eval(), nnx.Param, ...)
    local = lambda params, x: jax.lax.psum(  # noqa: E731
        (nnx.merge(graphdef, params, rest, copy=True)(x) ** 2).sum(), "batch"
    )
    spread = jax.shard_map(local, mesh=mesh, in_specs=(whole, split), out_specs=whole)
    assert_same(
        jax.tree.leaves(jax.grad(spread)(params, x)),
        jax.tree.leaves(nnx.grad(loss)(make_net().eval())),
    )


def test_explicit_sharding() -> None:
    with jax.set_mesh(jax.make_mesh((1,), ("batch",))):
        spread = jax.device_put(x, PartitionSpec("batch"))
        layer = jaxnn.Conv2d(3, 4, 3, rngs=nnx.Rngs(0))
        graphdef, params = nnx.split(layer)
        gradient = jax.jit(jax.grad(lambda p, x: (nnx.merge(graphdef, p)(x) ** 2).sum()))
        assert_same(jax.tree.leaves(gradient(params, spread)), jax.tree.leaves(gradient(params, x)))


@pytest.mark.parametrize("training", [True, False])
def test_export_for_all_platforms_with_a_symbolic_batch(training: bool) -> None:
    net = make_net() if training else make_net().eval()
    graphdef, state = nnx.split(net)

    def output(x: Any) -> Any:
        return nnx.merge(graphdef, state, copy=True)(x)

    def input_gradient(x: Any) -> Any:
        return jax.grad(lambda x: output(x)[:, 0].sum())(x)

    (batch,) = export.symbolic_shape("batch")
    for function in (output, input_gradient):
        exported = export.export(jax.jit(function), platforms=["cpu", "cuda", "rocm", "tpu"])(
            jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
        )
        assert_same(exported.call(x), function(x), rtol=1e-4)


def test_copies_are_equal() -> None:
    for duplicate in (copy.deepcopy, nnx.clone):
        net = make_net()
        other = duplicate(net)
        assert list(jaxnn.state_dict(other)) == list(jaxnn.state_dict(net))
        assert_same(other(x), net(x))


def test_reseed() -> None:
    net = jaxnn.Dropout(0.5, rngs=nnx.Rngs(dropout=0))
    nnx.reseed(net, dropout=1)
    first = net(x)
    assert not np.array_equal(first, net(x))
    nnx.reseed(net, dropout=1)
    np.testing.assert_array_equal(first, net(x))


def test_strict_promotion(reference: Any) -> None:
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        assert_same(make_net()(x), reference[0])
        nnx.grad(loss)(make_net())


def test_a_linear_map_with_a_transpose_of_its_own() -> None:
    # A transpose that is none tells which of the two is taken.
    def scaled(x: Any, w: Any) -> Any:
        return with_transpose_of(lambda x, w: x * w, lambda c, w: 10 * c * w, x, w)

    x, weights = jnp.array([1.0, 2.0]), jnp.array([[3.0, 4.0], [5.0, 6.0]])
    back = lambda x, w: jax.vjp(scaled, x, w)[1](jnp.ones(2))  # noqa: E731
    np.testing.assert_array_equal(back(x, weights[0])[0], [30, 40])
    np.testing.assert_array_equal(back(x, weights[0])[1], [0, 0])
    _, tangent = jax.jvp(scaled, (x, weights[0]), (jnp.ones(2), jnp.ones(2)))
    np.testing.assert_array_equal(tangent, [3, 4])
    np.testing.assert_array_equal(jax.vmap(back, (None, 0))(x, weights)[0], 10 * weights)
    mapped = lambda x: jax.vmap(scaled, (None, 1), 1)(x, weights)  # noqa: E731
    np.testing.assert_array_equal(mapped(x), x[:, None] * weights)
    np.testing.assert_array_equal(jax.grad(lambda x: mapped(x).sum())(x), [70, 110])
    twice = jax.vjp(lambda c: jax.vjp(scaled, x, weights[0])[1](c)[0], jnp.ones(2))[1]
    np.testing.assert_array_equal(twice(jnp.ones(2))[0], [3, 4])
