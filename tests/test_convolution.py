"""What the specification cannot say of convolutions and paddings: transformations and export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxnn
import jaxnn.functional as F

x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 3, 4)), jnp.float32)
w = jnp.asarray(np.random.default_rng(1).standard_normal((4, 2, 3, 2)), jnp.float32)

FUNCTIONS: dict[str, Callable[[jax.Array], Any]] = {
    "conv_transpose2d": lambda x: F.conv_transpose2d(
        x, w, jnp.ones(4), stride=(2, 1), padding=1, groups=2, dilation=(1, 2)
    ),
    "reflect": lambda x: F.pad(x, (1, -2, 2, 1), "reflect"),
    "replicate": lambda x: F.pad(x, (1, 2, -1, 1), "replicate"),
    "circular": lambda x: F.pad(x, (1, 2, 2, -1), "circular"),
    "constant": lambda x: F.pad(x, (1, -1, 0, 2), value=1.5),
    "unfold": lambda x: F.unfold(x, 2, dilation=2, padding=1),
    "fold": lambda x: F.fold(x.reshape(x.shape[0], 4, 12), (2, 13), (1, 2), stride=(1, 2)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_agree(name: str) -> None:
    function = FUNCTIONS[name]
    forwards, backwards = jax.jacfwd(function)(x), jax.jacrev(function)(x)
    np.testing.assert_allclose(forwards, backwards, rtol=1e-5, atol=1e-6)
    one = lambda scale: jnp.sin(function(scale * x)).sum()  # noqa: E731
    np.testing.assert_allclose(
        jax.hessian(one)(0.5), jax.grad(jax.grad(one))(0.5), rtol=1e-3, atol=1e-4
    )
    mapped = jax.vmap(function)(jnp.stack([x, x + 1]))
    np.testing.assert_allclose(mapped[1], function(x + 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_export_for_all_platforms_with_a_symbolic_batch(name: str) -> None:
    function = FUNCTIONS[name]
    (batch,) = export.symbolic_shape("batch")
    for call in (function, jax.grad(lambda x: jnp.sin(function(x)).sum())):
        exported = export.export(jax.jit(call), platforms=["cpu", "cuda", "rocm", "tpu"])(
            jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
        )
        np.testing.assert_allclose(exported.call(x), call(x), rtol=1e-4, atol=1e-5)


def test_transposed_convolution_is_the_gradient_of_the_convolution() -> None:
    y = jnp.ones((2, 2, 7, 9))
    options: Any = {"stride": 2, "padding": 1, "dilation": (1, 3)}
    _, transpose = jax.vjp(lambda y: F.conv2d(y, w, **options), y)
    (wanted,) = transpose(F.conv2d(y, w, **options))
    got = F.conv_transpose2d(
        F.conv2d(y, w, **options), w, output_padding=(0, 1), **options
    )  # fmt: skip
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_the_value_of_a_padding_may_be_traced() -> None:
    padded = jax.jit(lambda value: F.pad(x, (1, 2), value=value))(2.0)
    np.testing.assert_array_equal(padded, F.pad(x, (1, 2), value=2.0))
    slope = jax.grad(lambda value: F.pad(x, (1, 2), value=value).sum())(2.0)
    assert slope == 3 * 2 * 4 * 3
    layer = jaxnn.ConstantPad1d(1, jnp.asarray(3.0))
    assert layer(x)[0, 0, 0, 0] == 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.pad(x, 1), TypeError, "sequence of ints"),
        (lambda: F.pad(x, (1, True)), TypeError, "must be an int"),
        (lambda: F.pad(x, (1, 1), "constant", "1"), TypeError, "must be a number"),
        (lambda: F.conv_transpose2d(x, w, padding="same", groups=2), TypeError, "`padding`"),
        (lambda: F.unfold(x, [2]), ValueError, "must be an int or 2 ints"),
        (lambda: jaxnn.Fold(4, 2.0), TypeError, "`kernel_size`"),
        (lambda: jaxnn.ReflectionPad2d("1"), TypeError, "`padding`"),
    ],
)
def test_messages_name_the_argument(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
