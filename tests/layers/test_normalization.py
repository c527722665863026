"""Batch normalisation against torch in float64: values, both derivatives, state, refusals."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import assert_close
from flax import nnx

import jaxnn
import jaxnn.functional as F

torch = pytest.importorskip("torch")

generator = np.random.default_rng(0)
START = generator.bit_generator.state


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Draw the same numbers in a test whatever ran before it, in this or another worker."""
    generator.bit_generator.state = START


def draw(*shape: int) -> np.ndarray:
    return generator.standard_normal(shape).astype(np.float32)


def double(array: np.ndarray) -> Any:
    return torch.tensor(array, dtype=torch.float64)


@pytest.mark.parametrize("mean", [0.0, 1e4])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (6, 3)])
def test_values_and_derivatives(shape: tuple[int, ...], training: bool, mean: float) -> None:
    running_mean, running_var = draw(3) + np.float32(mean), draw(3) ** 2 + np.float32(0.5)
    arguments = (draw(*shape) + np.float32(mean), draw(3), draw(3))
    tangents, cotangent = tuple(draw(*a.shape) for a in arguments), draw(*shape)

    def ours(x: Any, w: Any, b: Any) -> Any:
        return F.batch_norm(x, running_mean, running_var, w, b, training, 0.3)

    def theirs(x: Any, w: Any, b: Any) -> Any:
        statistics = double(running_mean), double(running_var)
        return torch.nn.functional.batch_norm(x, *statistics, w, b, training, 0.3)

    expected, expected_vjp = torch.func.vjp(theirs, *map(double, arguments))
    output, vjp = jax.vjp(ours, *arguments)
    assert_close(output, expected, 1e-6)
    for gradient, wanted in zip(vjp(cotangent), expected_vjp(double(cotangent)), strict=True):
        assert_close(gradient, wanted, 2e-6)
    _, derivative = jax.jvp(ours, arguments, tangents)
    backwards = sum(np.vdot(g, t) for g, t in zip(vjp(cotangent), tangents, strict=True))
    np.testing.assert_allclose(np.vdot(derivative, cotangent), backwards, rtol=1e-4)

    def penalty(f: Any, grad: Any, b: Any) -> Any:
        return lambda x, w: (grad(lambda x: (f(x, w, b) ** 3).sum())(x) ** 2).sum()

    x, w, b = arguments
    second = jax.grad(penalty(ours, jax.grad, b), (0, 1))(x, w)
    wanted = torch.func.grad(penalty(theirs, torch.func.grad, double(b)), (0, 1))
    for gradient, expected in zip(second, wanted(double(x), double(w)), strict=True):
        assert_close(gradient, expected, 1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": None},
        {"momentum": 0.0},
        {"momentum": 1.0},
        {"affine": False},
        {"bias": False},
        {"track_running_stats": False},
        {"momentum": 0.75, "eps": 1e-3},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_state_over_calls(options: dict[str, Any], dtype: str) -> None:
    theirs, ours = torch.nn.BatchNorm2d(3, **options), jaxnn.BatchNorm2d(3, **options)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.tensor(draw(3)))
    jaxnn.load_state_dict(ours, dict(theirs.state_dict()))
    tolerance = {"float32": 1e-6, "bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype]
    for training in (True, True, False, True):
        theirs.train(training)
        ours = ours.train() if training else ours.eval()
        x = torch.tensor(draw(4, 3, 5, 2) * 2 + 1).to(getattr(torch, dtype))
        output = ours(jnp.asarray(x.float().numpy()).astype(dtype))
        assert output.dtype == dtype
        assert_close(output.astype(jnp.float32), theirs(x).detach().float(), tolerance)
        expected = theirs.state_dict()
        state = jaxnn.state_dict(ours)
        assert list(state) == list(expected)
        for key, value in state.items():
            assert_close(value, expected[key], 1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_parameters(dtype: str) -> None:
    theirs = torch.nn.BatchNorm1d(3, dtype=getattr(torch, dtype))
    ours = jaxnn.BatchNorm1d(3, dtype=dtype)
    x = torch.tensor(draw(8, 3)).to(getattr(torch, dtype))
    output = ours(jnp.asarray(x.float().numpy()).astype(dtype))
    assert_close(output.astype(jnp.float32), theirs(x).detach().float(), 1e-2)
    assert ours.running_mean.dtype == dtype


def test_variance_survives_a_large_mean() -> None:
    x = draw(8, 4, 28, 28) + np.float32(1e4)
    _, _, var = F.batch_norm_with_stats(x, jnp.zeros(4), jnp.ones(4), training=True, momentum=1.0)
    exact = x.astype(np.float64).var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(var, exact, rtol=5e-7)


def test_empty_batch_leaves_the_statistics() -> None:
    theirs, ours = torch.nn.BatchNorm1d(3), jaxnn.BatchNorm1d(3)
    theirs(torch.zeros(0, 3)), ours(jnp.zeros((0, 3)))
    for key, value in jaxnn.state_dict(ours).items():
        np.testing.assert_array_equal(value, theirs.state_dict()[key])


def test_statistics_carry_no_gradient() -> None:
    def loss(x: Any, mean: Any, training: bool) -> Any:
        _, mean, var = F.batch_norm_with_stats(x, mean, jnp.ones(3), training=training)
        return (mean + var).sum()

    for gradient in jax.grad(loss, (0, 1))(draw(4, 3), jnp.ones(3), True):
        np.testing.assert_array_equal(gradient, 0)


def test_traced_options() -> None:
    x = draw(4, 3)
    mean, var = jnp.zeros(3), jnp.ones(3)
    traced = jax.jit(
        lambda eps, momentum: F.batch_norm_with_stats(x, mean, var, None, None, True, momentum, eps)
    )
    known = F.batch_norm_with_stats(x, mean, var, None, None, True, 0.25, 0.5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), traced(0.5, 0.25), known)
    slope = jax.grad(lambda eps: (F.batch_norm(x, None, None, training=True, eps=eps) ** 3).sum())
    plain = jax.grad(
        lambda eps: (((x - x.mean(0)[None]) / jnp.sqrt(x.var(0) + eps)[None]) ** 3).sum()
    )
    np.testing.assert_allclose(slope(0.5), plain(0.5), rtol=1e-4)


@pytest.mark.parametrize("axis_name", ["batch", ("batch",)])
def test_statistics_over_a_mapped_axis(axis_name: Any) -> None:
    x, weights = draw(2, 3, 4, 5), draw(2, 3, 4, 5)
    whole = jaxnn.BatchNorm1d(4)
    expected = whole(x.reshape(6, 4, 5)).reshape(x.shape)
    spread = jaxnn.BatchNorm1d(4, axis_name=axis_name)
    mapped = nnx.vmap(lambda layer, x: layer(x), in_axes=(None, 0), axis_name="batch")
    assert_close(mapped(spread, x), expected, 1e-6)
    for key, value in jaxnn.state_dict(spread).items():
        assert_close(value, jaxnn.state_dict(whole)[key], 1e-6)

    def output(x: Any) -> Any:
        return F.batch_norm(x.reshape(6, 4, 5), None, None, training=True).reshape(x.shape)

    def spread_output(x: Any) -> Any:
        normalise = lambda x: F.batch_norm(x, None, None, training=True, axis_name=axis_name)  # noqa: E731
        return jax.vmap(normalise, axis_name="batch")(x)

    assert_close(
        *(jax.grad(lambda x, f=f: (f(x) * weights).sum())(x) for f in (spread_output, output)), 1e-5
    )
    assert_close(*(jax.jvp(f, (x,), (weights,))[1] for f in (spread_output, output)), 1e-5)
    # A single value a member is more than one over the axis.
    assert mapped(jaxnn.BatchNorm1d(4, axis_name=axis_name), x[:, :1, :, 0]).shape == (2, 1, 4)


def test_refusals() -> None:
    x = jnp.ones((4, 3, 2, 2))
    layer = jaxnn.BatchNorm2d
    for make, error, words in [
        (lambda: layer(3)(x[0]), ValueError, "dimensions"),
        (lambda: layer(4)(x), ValueError, "channels"),
        (lambda: layer(3)(x[:1, :, :1, :1]), ValueError, "single value"),
        (
            lambda: layer(3, track_running_stats=False).eval()(x[:1, :, :1, :1]),
            ValueError,
            "single value",
        ),
        (lambda: layer(3, eps=0.0)(x), ValueError, "eps"),
        (lambda: layer(3, eps=-1.0).eval()(x), ValueError, "eps"),
        (lambda: layer(3)(x.astype(int)), TypeError, "dtype"),
        (lambda: layer(3, dtype="bfloat16")(x), TypeError, "dtype|float32"),
        (lambda: layer(3, dtype=int), TypeError, "dtype"),
        (lambda: layer(3, dtype="float64"), ValueError, "64"),
        (lambda: layer(3, device="cpu"), TypeError, "device_put"),
        (lambda: layer(2.5), TypeError, "num_features"),
        (lambda: layer(3)([[1.0]]), TypeError, "input"),
        (lambda: F.batch_norm(x, None, None), ValueError, "running_mean"),
        (lambda: F.batch_norm(x, jnp.ones(3), None, training=True), ValueError, "running_var"),
        (lambda: F.batch_norm(x, jnp.ones(2), jnp.ones(3)), ValueError, "running_mean"),
        (lambda: F.batch_norm(jnp.ones(3), None, None, training=True), ValueError, "N, C"),
    ]:
        with pytest.raises(error, match=words):
            make()
    assert layer(3).eval()(x[:1, :, :1, :1]).shape == (1, 3, 1, 1)
    assert layer(3, eps=0.0).eval()(x).shape == x.shape


@pytest.mark.parametrize("shape", [(17, 123, 1025), (2, 2**20 + 1)])
def test_layer_norm_of_many_rows(shape: tuple[int, ...]) -> None:
    size = shape[-1]
    x, d_output, weight, bias = draw(*shape), draw(*shape), draw(size), draw(size)
    inputs = [double(array).requires_grad_() for array in (x, weight, bias)]
    expected = torch.nn.functional.layer_norm(inputs[0], (size,), *inputs[1:])
    expected.backward(double(d_output))

    def normalize(x: Any, weight: Any, bias: Any) -> Any:
        return F.layer_norm(x, (size,), weight, bias)

    output, transpose = jax.vjp(jax.jit(normalize), x, weight, bias)
    gradients = transpose(jnp.asarray(d_output))
    assert_close(output, expected.detach(), 1e-6)
    for gradient, leaf in zip(gradients, inputs, strict=True):
        assert_close(gradient, leaf.grad, 1e-5)
    tangents = [draw(*leaf.shape) for leaf in inputs]
    _, d_forward = jax.jvp(normalize, (x, weight, bias), tuple(tangents))
    forward = float(np.vdot(np.asarray(d_forward, np.float64), d_output))
    backward = sum(float(np.vdot(g, t)) for g, t in zip(gradients, tangents, strict=True))
    assert abs(forward - backward) < 1e-5 * np.abs(d_forward * d_output).sum()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rms_norm_of_small_values_has_the_eps_of_float32(dtype: str) -> None:
    # The float64 oracle of the specification has another eps, so this is compared with torch.
    x = torch.tensor([[0.0, 2.0**-12]]).to(getattr(torch, dtype))
    expected = torch.nn.RMSNorm(1, dtype=x.dtype)(x.T).float().detach().numpy()
    ours = jaxnn.RMSNorm(1, dtype=dtype)(jnp.asarray(x.T.float().numpy()).astype(dtype))
    np.testing.assert_allclose(ours.astype(jnp.float32), expected, rtol=1e-6)


def test_sync_batch_norm_over_a_mapped_axis_is_batch_norm_over_the_whole_batch() -> None:
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 3, 5, 2)), jnp.float32)
    whole = jaxnn.BatchNorm2d(5)
    expected = whole(x.reshape(12, 5, 2, 1)).reshape(x.shape)
    graphdef, state = nnx.split(jaxnn.SyncBatchNorm(5, axis_name="device"))

    def step(part: jax.Array) -> tuple[jax.Array, nnx.State]:
        layer = nnx.merge(graphdef, state, copy=True)
        return layer(part), nnx.state(layer, nnx.BatchStat)

    output, statistics = jax.vmap(step, axis_name="device")(x)
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)
    for name in ("running_mean", "running_var"):
        for own in statistics[name][...]:
            np.testing.assert_allclose(own, getattr(whole, name)[...], rtol=1e-5, atol=1e-7)


def test_batch_norms_are_converted_with_their_state() -> None:
    net = jaxnn.Sequential(
        jaxnn.Sequential(jaxnn.BatchNorm2d(3, momentum=0.3, eps=0.1)), jaxnn.ReLU()
    )
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 3, 5, 2)), jnp.float32)
    net(x)
    before = jaxnn.state_dict(net)
    converted = jaxnn.SyncBatchNorm.convert_sync_batchnorm(nnx.clone(net), axis_name="device")
    assert isinstance(converted[0][0], jaxnn.SyncBatchNorm)
    assert converted[0][0].axis_name == "device"
    assert list(jaxnn.state_dict(converted)) == list(before)
    np.testing.assert_array_equal(converted.eval()(x), net.eval()(x))
    alone = jaxnn.SyncBatchNorm.convert_sync_batchnorm(jaxnn.BatchNorm1d(3))
    assert repr(alone) == repr(torch.nn.SyncBatchNorm(3))
    with pytest.raises(ValueError, match="axis_name"):
        jaxnn.SyncBatchNorm(3, process_group=object())


def test_instance_norm_warns_of_channels_that_do_not_matter() -> None:
    with pytest.warns(UserWarning, match="num_features=3"):
        jaxnn.InstanceNorm1d(3)(jnp.ones((2, 4, 5)))
