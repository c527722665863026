"""Linear, convolution, activation, dropout and initialisation against torch."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import jaxnn
import jaxnn.functional as F

torch = pytest.importorskip("torch")

generator = np.random.default_rng(0)


def draw(*shape: int) -> np.ndarray:
    return generator.standard_normal(shape).astype(np.float32)


def assert_close(actual: Any, expected: Any, tolerance: float) -> None:
    """Compare relative to the largest element."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    bound = tolerance * max(np.abs(expected).max(initial=0), 1e-30)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


def assert_same_function(ours: Any, theirs: Any, *arguments: np.ndarray) -> None:
    """Compare values, gradients, and derivatives forwards, with torch in float64."""
    doubles = tuple(torch.tensor(a, dtype=torch.float64) for a in arguments)
    expected, expected_vjp = torch.func.vjp(theirs, *doubles)
    output, vjp = jax.vjp(ours, *arguments)
    assert_close(output, expected, 2e-6)
    cotangent = draw(*output.shape)
    gradients = vjp(cotangent)
    wanted = expected_vjp(torch.tensor(cotangent, dtype=torch.float64))
    for gradient, expected in zip(gradients, wanted, strict=True):
        assert_close(gradient, expected, 2e-6)
    tangents = tuple(draw(*a.shape) for a in arguments)
    _, derivative = jax.jvp(ours, arguments, tangents)
    backwards = sum(np.vdot(g, t) for g, t in zip(gradients, tangents, strict=True))
    np.testing.assert_allclose(np.vdot(derivative, cotangent), backwards, rtol=1e-3, atol=1e-3)


CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 4, 7, 6), (3, 4, 3, 2), {"padding": 1}),
    ((2, 4, 7, 6), (3, 4, 3, 2), {"stride": (2, 1), "padding": (2, 0), "dilation": (1, 2)}),
    ((4, 7, 6), (3, 4, 3, 2), {}),
    ((2, 4, 7, 6), (4, 2, 3, 3), {"groups": 2, "padding": "same"}),
    ((2, 4, 7, 6), (8, 1, 3, 3), {"groups": 4, "padding": 1, "stride": 2}),
    ((1, 68, 5, 5), (68, 2, 3, 3), {"groups": 34}),
    ((1, 4, 12, 12), (4, 1, 9, 9), {"groups": 4}),
    ((2, 4, 9, 8), (5, 4, 1, 1), {"stride": 2}),
    ((2, 4, 9, 8), (5, 4, 1, 1), {"padding": 1}),
    ((0, 4, 7, 6), (3, 4, 3, 2), {}),
    ((2, 4, 40), (6, 4, 1), {}),
    ((2, 4, 11), (6, 2, 3), {"stride": 2, "padding": 1, "groups": 2}),
    ((2, 2, 4, 5, 6), (4, 2, 2, 3, 2), {"padding": (1, 0, 2)}),
]


@pytest.mark.parametrize(("shape", "kernel", "options"), CONVOLUTIONS, ids=str)
def test_convolution(
    shape: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, Any]
) -> None:
    name = f"conv{len(kernel) - 2}d"
    ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)
    assert_same_function(
        lambda *a: ours(*a, **options),
        lambda *a: theirs(*a, **options),
        draw(*shape),
        draw(*kernel),
        draw(kernel[0]),
    )


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [(2, 1), "same", "valid"])
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_padding_modes(mode: str, padding: Any) -> None:
    options = {"padding": padding, "padding_mode": mode, "dilation": (1, 2), "groups": 2}
    theirs = torch.nn.Conv2d(4, 6, (4, 3), **options)
    ours = jaxnn.Conv2d(4, 6, (4, 3), **options, rngs=nnx.Rngs(0))
    jaxnn.load_state_dict(ours, theirs.state_dict())
    for shape in ((2, 4, 8, 7), (4, 8, 7)):
        x = draw(*shape)
        assert_close(ours(x), theirs(torch.tensor(x)).detach(), 1e-6)
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_rounded_once(dtype: str) -> None:
    def rounded(*shape: int) -> Any:
        return torch.tensor(draw(*shape)).to(getattr(torch, dtype))

    for name, shapes in {
        "linear": ((16, 256), (8, 256), (8,)),
        "conv2d": ((2, 16, 9, 9), (8, 16, 3, 3), (8,)),
    }.items():
        tensors = [rounded(*shape).requires_grad_() for shape in shapes]
        arrays = [jnp.asarray(t.detach().float().numpy()).astype(dtype) for t in tensors]
        exact = getattr(torch.nn.functional, name)(*(t.double() for t in tensors))
        cotangent = rounded(*exact.shape)
        output, vjp = jax.vjp(getattr(F, name), *arrays)
        assert output.dtype == dtype
        half_ulp = {"bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype]
        assert_close(output.astype(jnp.float32), exact.detach(), 1.01 * half_ulp)
        wanted = torch.autograd.grad(exact, tensors, cotangent.double())
        ours = vjp(jnp.asarray(cotangent.float().numpy()).astype(dtype))
        for gradient, expected in zip(ours, wanted, strict=True):
            assert_close(gradient.astype(jnp.float32), expected.float(), 4 * half_ulp)


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 3), (4, 3), (4,)),
        ((3,), (4, 3), (4,)),
        ((2, 5, 3), (4, 3)),
        ((2, 3), (3,)),
        ((0, 3), (4, 3), (4,)),
        ((2, 0), (4, 0), (4,)),
        ((2, 3), (4, 3), ()),
        ((2, 3), (4, 3), (2, 1)),
    ],
    ids=str,
)
def test_linear(shapes: tuple[tuple[int, ...], ...]) -> None:
    arguments = [draw(*shape) for shape in shapes]
    assert_same_function(F.linear, torch.nn.functional.linear, *arguments)


def test_integers() -> None:
    x, w = np.arange(6).reshape(2, 3), np.arange(12).reshape(4, 3)
    expected = torch.nn.functional.linear(torch.tensor(x), torch.tensor(w))
    np.testing.assert_array_equal(F.linear(x, w), expected)
    images, kernels = x.reshape(1, 1, 2, 3), w[:2, :2].reshape(1, 1, 2, 2)
    expected = torch.nn.functional.conv2d(torch.tensor(images), torch.tensor(kernels))
    np.testing.assert_array_equal(F.conv2d(images, kernels), expected)


SPECIAL = np.array([np.nan, -0.0, 0.0, -1, 1, np.inf, -np.inf], np.float32)


def test_relu_and_prelu_at_special_values() -> None:
    x = torch.tensor(SPECIAL, requires_grad=True)
    (expected,) = torch.autograd.grad(torch.nn.functional.relu(x).sum(), x)
    output = F.relu(SPECIAL)
    np.testing.assert_array_equal(output, torch.nn.functional.relu(x).detach())
    assert np.signbit(output[1])
    np.testing.assert_array_equal(jax.grad(lambda x: F.relu(x).sum())(SPECIAL), expected)
    for slope in (0.25, 0.0, np.inf):
        finite = np.array([-0.0, 0.0, -1, 1, np.inf], np.float32)
        x, w = torch.tensor(finite, requires_grad=True), torch.tensor([slope], requires_grad=True)
        output = torch.nn.functional.prelu(x, w)
        np.testing.assert_array_equal(F.prelu(finite, w.detach().numpy()), output.detach())
        expected = torch.autograd.grad(output.sum(), (x, w))
        ours = jax.grad(lambda x, w: F.prelu(x, w).sum(), (0, 1))(finite, w.detach().numpy())
        for gradient, wanted in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(gradient, wanted)


@pytest.mark.parametrize(
    ("shape", "weights"), [((2, 3, 4), 3), ((2, 3), 3), ((5,), 1), ((), 1), ((2, 3, 4), 1)]
)
def test_prelu_shapes(shape: tuple[int, ...], weights: int) -> None:
    x, w = draw(*shape), draw(weights)
    np.testing.assert_array_equal(
        F.prelu(jnp.asarray(x), w),
        torch.nn.functional.prelu(torch.tensor(x), torch.tensor(w)),
    )


@pytest.mark.filterwarnings("ignore:Implicit dimension", "ignore:softmax. `dim`")
def test_softmax() -> None:
    for shape in ((), (3,), (2, 3), (2, 3, 4), (2, 3, 2, 2), (2, 0)):
        for dim in (None, *range(-len(shape), len(shape))):
            assert_same_function(
                lambda x, dim=dim: F.softmax(x, dim),
                lambda x, dim=dim: (
                    torch.softmax(x, dim)
                    if dim is not None
                    else torch.nn.functional.softmax(x, dim)
                ),
                draw(*shape),
            )
    for row in ([-np.inf, -np.inf], [np.inf, 1], [1e38, -1e38]):
        x = np.array(row, np.float32)
        np.testing.assert_array_equal(F.softmax(x, 0), torch.softmax(torch.tensor(x), 0))
    assert F.softmax(jnp.arange(3), 0, dtype=jnp.bfloat16).dtype == jnp.bfloat16
    with pytest.warns(UserWarning, match="dim"):
        jaxnn.Softmax()(draw(2, 2))


def test_dropout() -> None:
    x, key = draw(200, 50), jax.random.key(0)
    dropped = F.dropout(x, 0.3, rng=key)
    kept = np.asarray(dropped) != 0
    assert abs(kept.mean() - 0.7) < 5 * math.sqrt(0.21 / x.size)
    np.testing.assert_allclose(dropped, np.where(kept, x / np.float32(0.7), 0), rtol=1e-6)
    gradient = jax.grad(lambda x: F.dropout(x, 0.3, rng=key).sum())(x)
    np.testing.assert_array_equal(np.asarray(gradient) != 0, kept)
    np.testing.assert_array_equal(jax.jit(F.dropout)(x, 0.3, rng=key), dropped)
    traced = jax.jit(lambda x, p: F.dropout(x, p, rng=key))
    for p, expected in ((0.0, x), (1.0, 0 * x)):
        np.testing.assert_array_equal(F.dropout(x, p), expected)
        np.testing.assert_array_equal(traced(x, p), expected)
        assert np.isfinite(jax.grad(lambda x, p=p: traced(x, p).sum())(x)).all()
    np.testing.assert_array_equal(F.dropout(np.arange(3), training=False), np.arange(3))
    for p in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="`p`"):
            jaxnn.Dropout(p)
    with pytest.raises(ValueError, match="rng"):
        jaxnn.Dropout()(x)
    with pytest.raises(TypeError, match="dtype"):
        F.dropout(np.arange(3), rng=key)


def test_layers_draw_from_streams_of_their_own() -> None:
    rngs = nnx.Rngs(0)
    first, second = jaxnn.Dropout(rngs=rngs), jaxnn.Dropout(rngs=rngs)
    x = jnp.ones((10, 10))
    outputs = [first(x), first(x), second(x)]
    assert len({np.asarray(output).tobytes() for output in outputs}) == 3
    again = jaxnn.Dropout(rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(again(x), outputs[0])
    np.testing.assert_array_equal(
        first(x, rngs=jax.random.key(1)), second(x, rngs=jax.random.key(1))
    )


def test_refusals() -> None:
    x = jnp.ones((2, 4, 5, 6))
    rngs = nnx.Rngs(0)

    def conv(*arguments: Any, **options: Any) -> Any:
        return jaxnn.Conv2d(*arguments, **options, rngs=rngs)

    for make, error, words in [
        (lambda: jaxnn.Linear(2, 3), ValueError, r"rngs=nnx\.Rngs"),
        (lambda: jaxnn.Linear(2, 3, rngs=0), TypeError, "rngs"),
        (lambda: jaxnn.Linear(2, 3, device="cpu", rngs=rngs), TypeError, "device_put"),
        (lambda: jaxnn.Linear(-1, 3, rngs=rngs), ValueError, "in_features"),
        (lambda: jaxnn.Linear(2.0, 3, rngs=rngs), TypeError, "in_features"),
        (lambda: jaxnn.Linear(7, 3, rngs=rngs)(x), ValueError, "in_features=7"),
        (lambda: jaxnn.Linear(6, 3, rngs=rngs)(x.astype(int)), TypeError, "dtype"),
        (lambda: F.linear(jnp.ones(()), jnp.ones((1, 1))), ValueError, "dimension"),
        (lambda: F.linear(x, jnp.ones((3, 6)), jnp.ones(4)), ValueError, "bias"),
        (lambda: F.linear([1.0], jnp.ones((1, 1))), TypeError, "input"),
        (lambda: conv(4, 2, 3, stride=0), ValueError, "stride"),
        (lambda: conv(4, 2, 3, padding=-1), ValueError, "padding"),
        (lambda: conv(4, 2, 3, padding="SAME"), ValueError, "padding"),
        (lambda: conv(4, 2, 3, 2, padding="same"), ValueError, "stride"),
        (lambda: conv(4, 2, 3, groups=3), ValueError, "in_channels"),
        (lambda: conv(4, 3, 3, groups=2), ValueError, "out_channels"),
        (lambda: conv(4, 2, 3.0), TypeError, "kernel_size"),
        (lambda: conv(4, 2, (3, 3, 3)), ValueError, "kernel_size"),
        (lambda: conv(4, 2, 3, padding_mode="wrap"), ValueError, "padding_mode"),
        (lambda: conv(4, 2, 7)(x), ValueError, "kernel"),
        (lambda: conv(3, 2, 1)(x), ValueError, "channels"),
        (lambda: conv(4, 2, 1)(x[0, 0]), ValueError, "dimensions"),
        (lambda: conv(4, 2, 3, padding=5, padding_mode="reflect")(x), ValueError, "reflect"),
        (lambda: conv(4, 2, 3, padding=6, padding_mode="circular")(x), ValueError, "circular"),
        (lambda: F.prelu(x, jnp.ones(3)), ValueError, "weight"),
        (lambda: F.softmax(x, 4), ValueError, "dim"),
        (lambda: F.softmax(x.astype(int), 0), TypeError, "input"),
        (lambda: F.relu(x > 0), TypeError, "bool"),
    ]:
        with pytest.raises(error, match=words):
            make()


@pytest.mark.parametrize("name", ["Linear", "Conv2d"])
def test_parameters_are_drawn_as_in_torch(name: str) -> None:
    arguments = {"Linear": (30, 400), "Conv2d": (10, 60, 3)}[name]
    theirs = getattr(torch.nn, name)(*arguments)
    ours = getattr(jaxnn, name)(*arguments, rngs=nnx.Rngs(0))
    for key, value in jaxnn.state_dict(ours).items():
        expected = theirs.state_dict()[key]
        assert value.shape == expected.shape
        bound = 1 / math.sqrt(theirs.weight[0].numel())
        assert np.abs(value).max() <= bound
        assert np.abs(value).max() > 0.9 * bound
        assert abs(value.mean()) < 5 * bound / math.sqrt(3 * value.size)


INITIALISATIONS: dict[str, dict[str, Any]] = {
    "uniform": {"a": -1.0, "b": 3.0},
    "normal": {"mean": 1.0, "std": 2.0},
    "trunc_normal": {"mean": 0.5, "std": 1.5, "a": -1.0, "b": 2.0},
    "xavier_uniform": {"gain": 2.0},
    "xavier_normal": {"gain": 2.0},
    "kaiming_uniform": {"a": 0.5, "mode": "fan_out"},
    "kaiming_normal": {"nonlinearity": "relu"},
    "orthogonal": {"gain": 2.0},
    "sparse": {"sparsity": 0.25, "std": 0.5},
    "constant": {"val": 3.0},
    "ones": {},
    "zeros": {},
    "eye": {},
}


def kolmogorov_smirnov(first: np.ndarray, second: np.ndarray) -> float:
    values = np.sort(np.concatenate([first.ravel(), second.ravel()]))
    ranks = [np.searchsorted(np.sort(a.ravel()), values, "right") / a.size for a in (first, second)]
    return float(np.abs(ranks[0] - ranks[1]).max())


@pytest.mark.parametrize(("name", "options"), INITIALISATIONS.items())
def test_initialisations_have_the_moments_of_torch(name: str, options: dict[str, Any]) -> None:
    shape = (200, 300)
    ours = np.asarray(getattr(jaxnn.init, name)(jax.random.key(0), shape, **options))
    theirs = getattr(torch.nn.init, f"{name}_")(torch.empty(shape), **options).numpy()
    assert ours.shape == shape
    np.testing.assert_allclose(ours.mean(), theirs.mean(), atol=0.02)
    np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.02)
    np.testing.assert_allclose((ours == 0).mean(), (theirs == 0).mean(), atol=1e-6)
    # The two-sample Kolmogorov-Smirnov distance, which 1e-7 of such pairs exceed.
    assert kolmogorov_smirnov(ours, theirs) < 2.9 * math.sqrt(2 / ours.size)
    half = getattr(jaxnn.init, name)(jax.random.key(0), shape, jnp.bfloat16, **options)
    assert half.dtype == jnp.bfloat16


def test_initialisations_beyond_moments() -> None:
    key = jax.random.key(0)
    for shape, groups in (((4, 2, 3), 2), ((6, 3, 2, 3), 3), ((2, 3, 1, 2, 3), 1)):
        expected = torch.nn.init.dirac_(torch.empty(shape), groups).numpy()
        np.testing.assert_array_equal(jaxnn.init.dirac(None, shape, groups=groups), expected)
    tail = jaxnn.init.trunc_normal(key, (1000,), a=6.0, b=7.0)
    assert 6 <= float(tail.min()) < float(tail.mean()) < 6.3
    w = jaxnn.init.orthogonal(key, (8, 2, 2))
    np.testing.assert_allclose(w.reshape(8, 4).T @ w.reshape(8, 4), np.eye(4), atol=1e-6)
    assert jaxnn.init.calculate_gain("leaky_relu", 0.2) == torch.nn.init.calculate_gain(
        "leaky_relu", 0.2
    )
    for make in (
        lambda: jaxnn.init.calculate_gain("gelu"),
        lambda: jaxnn.init.kaiming_uniform(key, (3,)),
        lambda: jaxnn.init.kaiming_uniform(key, (3, 3), mode="fan"),
        lambda: jaxnn.init.eye(None, (3,)),
        lambda: jaxnn.init.dirac(None, (3, 3, 3), groups=2),
        lambda: jaxnn.init.normal(key, (3,), std=-1.0),
        lambda: jaxnn.init.uniform(key, (3,), a=1.0, b=0.0),
    ):
        with pytest.raises(ValueError, match="`"):
            make()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    ("a", "b", "ends"),
    [
        ((6, 8), (3, 8, 16), [2, 3, 6]),
        ((6, 8), (3, 8, 16), [0, 6, 6]),
        ((3, 8, 8), (8, 16), [4, 4, 16]),
        ((8, 8), (8, 16), [0, 4, 8]),
        ((2, 4, 8), (2, 8, 16), None),
    ],
)
def test_grouped_products(a, b, ends, dtype):
    random = np.random.default_rng(0)
    a, b = (np.round(random.uniform(-2, 2, shape) * 16) / 16 for shape in (a, b))
    kind = getattr(torch, dtype)
    offs = None if ends is None else torch.tensor(ends, dtype=torch.int32)
    want = torch.nn.functional.grouped_mm(
        torch.tensor(a, dtype=kind), torch.tensor(b, dtype=kind), offs=offs
    )
    ours = jnp.asarray(a, dtype), jnp.asarray(b, dtype)
    given = None if ends is None else jnp.array(ends, "int32")
    got = jax.jit(partial(F.grouped_mm, offs=given))(*ours)
    assert got.dtype == dtype
    np.testing.assert_array_equal(np.asarray(got, float), want.double().numpy())
    check_grads(
        partial(F.grouped_mm, offs=given), jax.tree.map(lambda x: x.astype("float32"), ours), 1,
        atol=0.05, rtol=0.05,
    )  # fmt: skip


def test_grouped_products_refuse_what_torch_refuses():
    a, b, offs = jnp.ones((6, 8)), jnp.ones((3, 8, 16)), jnp.array([2, 3, 6], "int32")
    for args, options, message in (
        ((a, b), {}, "`offs` goes with a matrix of two dimensions"),
        ((a[:3, None], b), {"offs": offs}, "and with no other"),
        ((a, b), {"offs": offs[:2]}, "numbers of groups must be equal"),
        ((a, b[:, :4]), {"offs": offs}, "last dimension of `mat_a`"),
        ((a[0], b), {"offs": offs}, "must have 2 or 3 dimensions"),
        ((a, b), {"offs": offs, "bias": a}, "`bias` is not supported"),
        ((a, b), {"offs": offs, "out_dtype": "bfloat16"}, "`out_dtype` must be"),
    ):
        with pytest.raises(ValueError, match=message):
            F.grouped_mm(*args, **options)
    for args, options, message in (
        ((a, b), {"offs": offs.astype("float32")}, "vector of int32"),
        ((a, b.astype("bfloat16")), {"offs": offs}, "dtypes must be equal"),
        ((a.astype("int32"), b.astype("int32")), {"offs": offs}, "must be float32"),
    ):
        with pytest.raises(TypeError, match=message):
            F.grouped_mm(*args, **options)
