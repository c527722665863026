"""What the specification cannot say of convolutions and paddings: transformations and export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from against_torch import assert_close, assert_same_function, draw
from flax import nnx
from jax import export
from platforms import formulated_for

import jaxnn
import jaxnn.functional as F
from jaxnn.functional.convolution.definition import Geometry, native
from jaxnn.functional.convolution.tpu import channels_last

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


# One shape and options for each side of each switch between the formulations on a CPU.
FORMULATIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "few positions": ((2, 3, 5, 4), (16, 3, 3, 2), {"stride": 2, "padding": (1, 2)}),
    "many positions": ((2, 3, 9, 8), (4, 3, 3, 2), {"dilation": (2, 1)}),
    "narrow": ((3, 33, 9, 60), (34, 33, 3, 3), {"padding": (1, 2), "dilation": (2, 1)}),
    "narrow, with a stride": ((5, 33, 9, 62), (34, 33, 3, 4), {"padding": 1, "stride": (1, 2)}),
    "narrow, wide strides": ((9, 33, 5, 62), (34, 33, 2, 1), {"stride": (2, 3)}),
    "one tap, few positions": ((2, 3, 3, 3), (4, 3, 1, 1), {"stride": 2}),
    "one tap, many positions": ((2, 3, 8, 8), (4, 3, 1, 1), {}),
    "many taps": ((2, 3, 9, 9), (4, 3, 9, 8), {"padding": 2}),
    "depthwise, small": ((2, 3, 5, 4), (6, 1, 3, 2), {"groups": 3, "stride": (1, 2)}),
    "depthwise, large": ((3, 4, 20, 17), (8, 1, 3, 2), {"groups": 4, "padding": 1}),
    "few groups": ((2, 8, 9, 8), (8, 4, 5, 5), {"groups": 2, "padding": 1}),
    "few groups, few positions": ((1, 8, 5, 6), (8, 4, 5, 5), {"groups": 2}),
    "many groups": ((2, 32, 7, 8), (32, 2, 6, 6), {"groups": 16, "padding": 2}),
}


@pytest.mark.parametrize("name", FORMULATIONS)
def test_formulations_agree_with_the_native_convolution(name: str) -> None:
    shape, weight_shape, options = FORMULATIONS[name]
    rng = np.random.default_rng(2)
    x, w = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in (shape, weight_shape))
    pair = lambda value: (value, value) if isinstance(value, int) else value  # noqa: E731

    def native(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x,
            w,
            window_strides=pair(options.get("stride", 1)),
            padding=[(each, each) for each in pair(options.get("padding", 0))],
            rhs_dilation=pair(options.get("dilation", 1)),
            feature_group_count=options.get("groups", 1),
        )

    wanted, native_transpose = jax.vjp(native, x, w)
    output, transpose = jax.vjp(lambda x, w: F.conv2d(x, w, **options), x, w)
    np.testing.assert_allclose(output, wanted, rtol=1e-4, atol=1e-4)
    cotangent = jnp.asarray(rng.standard_normal(output.shape), jnp.float32)
    for gradient, expected in zip(transpose(cotangent), native_transpose(cotangent), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)


GEOMETRIES: dict[str, tuple[tuple[int, ...], tuple[int, ...], Geometry]] = {
    "1d": ((2, 6, 9), (4, 3, 3), Geometry((2,), ((1, 2),), (2,), 2, (1,))),
    "2d": ((2, 8, 7, 6), (8, 2, 3, 2), Geometry((1, 2), ((1, 1), (0, 2)), (1, 2), 4, (1, 1))),
    "2d, spread": (
        (2, 4, 5, 6),
        (6, 2, 3, 3),
        Geometry((1, 1), ((2, 1), (1, -1)), (1, 1), 2, (2, 3)),
    ),
    "3d": (
        (1, 6, 4, 5, 3),
        (9, 2, 2, 3, 1),
        Geometry((1, 2, 1), ((1, 0),) * 3, (1, 1, 2), 3, (1, 1, 1)),
    ),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_channels_last_is_the_same_convolution(name: str, dtype: Any) -> None:
    shape, weight_shape, geometry = GEOMETRIES[name]
    rng = np.random.default_rng(3)
    x, w = (jnp.asarray(rng.standard_normal(s), dtype) for s in (shape, weight_shape))
    x = x.at[0, 0].set(jnp.nan)
    output, transpose = jax.vjp(lambda *arrays: channels_last(*arrays, geometry), x, w)
    wanted, wanted_transpose = jax.vjp(lambda *arrays: native(*arrays, geometry), x, w)
    assert 0 < jnp.isnan(wanted).sum() < wanted.size
    bound = {"rtol": 1e-5, "atol": 1e-5} if dtype == jnp.float32 else {"rtol": 2e-2, "atol": 2e-2}
    pairs = [(output, wanted), *zip(transpose(wanted), wanted_transpose(wanted), strict=True)]
    for got, expected in pairs:
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(*(np.asarray(a, np.float32) for a in (got, expected)), **bound)


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


AGAINST_TORCH: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
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


@pytest.mark.parametrize(("shape", "kernel", "options"), AGAINST_TORCH, ids=str)
def test_convolution_against_torch(
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


def test_refusals() -> None:
    x = jnp.ones((2, 4, 5, 6))
    rngs = nnx.Rngs(0)

    def conv(*arguments: Any, **options: Any) -> Any:
        return jaxnn.Conv2d(*arguments, **options, rngs=rngs)

    for make, error, words in [
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
    ]:
        with pytest.raises(error, match=words):
            make()


@pytest.mark.parametrize("options", [{"kernel_size": 3, "padding": 1}, {"kernel_size": (2, 1)}])
def test_unfold_as_a_tpu_gets_it(options: dict[str, Any]) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 6)).astype(np.float32)
    x[0, 0, 0, 0] = np.nan
    tx = torch.tensor(x, requires_grad=True)
    want = torch.nn.functional.unfold(tx, **options)
    with formulated_for("tpu"):
        got, pullback = jax.vjp(lambda x: F.unfold(x, **options), jnp.asarray(x))
        np.testing.assert_array_equal(got, want.detach())
        # Whole numbers, so that sums in any order are exact.
        cotangent = np.random.default_rng(1).integers(-9, 10, got.shape).astype(np.float32)
        want.backward(torch.tensor(cotangent))
        np.testing.assert_array_equal(pullback(jnp.asarray(cotangent))[0], tx.grad)
