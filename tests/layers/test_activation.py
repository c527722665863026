"""What the specification cannot say of activations: traced options, second derivatives, complex."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from against_torch import assert_same_function, draw
from platforms import formulated_for

import jaxnn
import jaxnn.functional as F

X = np.array([-4.0, -1.5, -0.5, -0.125, 0.125, 0.5, 1.5, 4.0], np.float64)

WITH_OPTIONS: list[tuple[str, dict[str, float]]] = [
    ("celu", {"alpha": 0.5}),
    ("elu", {"alpha": 0.5}),
    ("hardshrink", {"lambd": 0.25}),
    ("hardtanh", {"min_val": -2.0, "max_val": 0.25}),
    ("leaky_relu", {"negative_slope": 0.25}),
    ("rrelu", {"lower": 0.25, "upper": 0.75}),
    ("softplus", {"beta": 2.0, "threshold": 4.0}),
    ("softshrink", {"lambd": 0.25}),
    ("threshold", {"threshold": 0.25, "value": -3.0}),
]


@pytest.mark.parametrize(("name", "options"), WITH_OPTIONS)
def test_options_may_be_traced(name: str, options: dict[str, float]) -> None:
    function = getattr(F, name)
    x = jnp.asarray(X, jnp.float32)
    traced = jax.jit(lambda x, options: function(x, **options))(x, options)
    np.testing.assert_array_equal(traced, function(x, **options))
    slopes = jax.grad(lambda options: function(x, **options).sum())(options)
    assert all(np.isfinite(slope) for slope in slopes.values())


SMOOTH = [
    "celu", "elu", "gelu", "hardswish", "logsigmoid", "mish", "selu", "sigmoid", "silu",
    "softplus", "softsign", "tanh", "tanhshrink",
]  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivatives(name: str) -> None:
    # At 0 itself the reference differentiates the positive side of elu, celu and selu.
    points = X if name.endswith("elu") and name != "gelu" else [*X, 0.0]
    ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)
    with jax.enable_x64(True):
        x = jnp.asarray(points)
        reverse = jax.vmap(jax.grad(jax.grad(ours)))(x)
        forward = jax.vmap(jax.jacfwd(jax.jacfwd(ours)))(x)
    t = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(theirs(t).sum(), t, create_graph=True)
    (wanted,) = torch.autograd.grad(slope.sum(), t)
    np.testing.assert_allclose(reverse, wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(forward, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["sigmoid", "silu", "softsign", "tanh", "tanhshrink"])
def test_complex(name: str) -> None:
    z = np.array([0.5 + 1j, -0.25j, -2 + 0.5j], np.complex64)
    wanted = getattr(torch.nn.functional, name)(torch.tensor(z)).numpy()
    np.testing.assert_allclose(getattr(F, name)(jnp.asarray(z)), wanted, rtol=1e-5)


@pytest.mark.parametrize("function", [F.softmax, F.log_softmax, F.softmin])
def test_softmax_in_another_dtype(function: Callable[..., Any]) -> None:
    x = jnp.arange(3)
    output = function(x, 0, dtype=jnp.float32)
    wanted = getattr(torch, function.__name__, torch.nn.functional.softmin)(
        torch.arange(3), 0, dtype=torch.float32
    )
    np.testing.assert_allclose(output, wanted, rtol=1e-6)
    with pytest.warns(UserWarning, match="dim"):
        function(output)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("function", [F.softmax, F.log_softmax])
def test_softmax_is_to_the_bit_the_same_on_a_tpu(function: Callable[..., Any], dtype: str) -> None:
    numbers = jnp.finfo(dtype)
    x = np.random.default_rng(0).standard_normal((8, 16)) * 9
    x[1, 0], x[2, 0], x[3] = np.nan, np.inf, -np.inf
    x[4] = numbers.smallest_subnormal
    x[5] = np.linspace(float(numbers.min), float(numbers.max), 16)
    given = jnp.asarray(x).astype(dtype)
    want = function(given, 1)
    with formulated_for("tpu"):
        got = function(given, 1)
    np.testing.assert_array_equal(got.astype(jnp.float32), want.astype(jnp.float32))


def test_random_slopes() -> None:
    x = -jnp.ones((3, 4))
    layer = jaxnn.RReLU()
    with pytest.raises(ValueError, match="rngs"):
        layer(x)
    key = jax.random.key(3)
    np.testing.assert_array_equal(layer(x, rngs=key), F.rrelu(x, training=True, rng=key))
    with pytest.raises(ValueError, match="rng"):
        F.rrelu(x, training=True)
    with pytest.raises(ValueError, match="rng"):
        F.gumbel_softmax(x)


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    x = jax.random.normal(jax.random.key(0), (400, 500))
    output = F.alpha_dropout(x, 0.25, True, rng=jax.random.key(1))
    np.testing.assert_allclose([output.mean(), output.var()], [0, 1], atol=0.02)
    traced = jax.jit(lambda p: F.alpha_dropout(x, p, True, rng=jax.random.key(1)))
    np.testing.assert_allclose(traced(0.25), output, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(traced(1.0), 0 * x)


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda: jaxnn.ELU("1"), TypeError, "alpha"),
        (lambda: jaxnn.LeakyReLU(None), TypeError, "negative_slope"),
        (lambda: jaxnn.GLU(1.5), TypeError, "dim"),
        (lambda: jaxnn.GELU("erf"), ValueError, "approximate"),
        (lambda: F.softshrink(jnp.ones(2, jnp.float16), 1e6), ValueError, "lambd"),
        (lambda: F.hardtanh(jnp.ones(2), 1.0, -1.0), ValueError, "min_val"),
        (lambda: F.threshold(jnp.ones(2, jnp.uint8), 0, 300), ValueError, "value"),
        (lambda: F.rrelu(jnp.ones(2), 0.0, float("inf")), ValueError, "upper"),
        (lambda: F.softmin(jnp.ones(2, bool), 0), TypeError, "input"),
        (lambda: F.dropout1d(jnp.ones(3)), ValueError, "input"),
    ],
)
def test_refusals_name_the_argument(
    call: Callable[[], Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=f"`{named}`"):
        call()


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


def test_refusals() -> None:
    x = jnp.ones((2, 4, 5, 6))
    for make, error, words in [
        (lambda: F.prelu(x, jnp.ones(3)), ValueError, "weight"),
        (lambda: F.softmax(x, 4), ValueError, "dim"),
        (lambda: F.softmax(x.astype(int), 0), TypeError, "input"),
        (lambda: F.relu(x > 0), TypeError, "bool"),
    ]:
        with pytest.raises(error, match=words):
            make()
