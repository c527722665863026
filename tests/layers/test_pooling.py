"""Max pooling: what a table of cases against PyTorch, and JAX's transformations, say of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from platforms import formulated_for

import jaxnn
from jaxnn.functional.pooling import windows_of
from jaxnn.functional.pooling.max_pool.definition import select_max
from jaxnn.functional.pooling.max_pool.winners import pick_by_gather, pick_by_taps

torch = pytest.importorskip("torch")
F = torch.nn.functional

INF, NAN = np.inf, np.nan
POOLS = {n: getattr(jaxnn.functional, f"max_pool{n}d") for n in (1, 2, 3)}
TORCH_POOLS = {n: getattr(F, f"max_pool{n}d") for n in (1, 2, 3)}

# Dimensions, shape, then kernel_size, stride, padding, dilation, ceil_mode.
GEOMETRIES = [
    (1, (2, 3, 9), (3, 2, 1, 1, False)),
    (1, (3, 7), (3, 4, 1, 3, True)),
    (1, (1, 1, 90), (40, 3, 20, 2, True)),
    (2, (2, 3, 6, 7), (3, 2, 1, 1, False)),
    (2, (2, 3, 6, 7), (2, None, 0, 1, True)),
    (2, (3, 6, 7), (1, 2, 0, 1, True)),
    (2, (0, 3, 6, 7), (2, 2, 0, 1, False)),
    (2, (1, 2, 9, 8), ((3, 2), (1, 3), (1, 0), (2, 1), True)),
    (2, (2, 2, 12, 13), (9, 1, 4, 1, False)),
    (3, (2, 2, 5, 6, 7), (2, 2, 1, 1, True)),
    (3, (2, 4, 5, 6), ((1, 2, 3), 1, (0, 1, 1), (2, 1, 2), False)),
    (3, (1, 1, 9, 9, 9), (4, 2, 2, 1, False)),
]


def values(shape, kind, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(np.float32)
    if kind == "ties":
        x = rng.integers(-2, 3, shape).astype(np.float32)
    if kind == "special":
        special = np.array([INF, -INF, NAN, 0.0, -0.0], np.float32)
        x = np.where(rng.random(shape) < 0.4, special[rng.integers(0, 5, shape)], x)
    if kind == "lowest":
        x = np.full(shape, -INF, np.float32)
    return x


@pytest.mark.parametrize("kind", ["normal", "ties", "special", "lowest"])
@pytest.mark.parametrize(("n", "shape", "options"), GEOMETRIES)
def test_values_indices_and_gradient(n, shape, options, kind):
    x = values(shape, kind)
    tx = torch.tensor(x, requires_grad=True)
    want, want_indices = TORCH_POOLS[n](tx, *options, return_indices=True)
    got, indices = POOLS[n](x, *options, return_indices=True)
    np.testing.assert_array_equal(got, want.detach())
    if kind != "special":
        np.testing.assert_array_equal(np.signbit(got), np.signbit(want.detach().numpy()))
    np.testing.assert_array_equal(indices, want_indices)
    np.testing.assert_array_equal(POOLS[n](x, *options), want.detach())

    cotangent = np.random.default_rng(1).integers(-128, 128, got.shape).astype(np.float32) / 64
    want.backward(torch.tensor(cotangent))
    for with_indices in (False, True):

        def pool(x, with_indices=with_indices):
            out = POOLS[n](x, *options, return_indices=with_indices)
            return out[0] if with_indices else out

        _, pullback = jax.vjp(pool, jnp.asarray(x))
        np.testing.assert_array_equal(pullback(jnp.asarray(cotangent))[0], tx.grad)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize(("n", "shape", "options"), GEOMETRIES)
def test_values_and_gradient_as_an_accelerator_gets_them(n, shape, options, platform):
    with formulated_for(platform):
        for kind in ["normal", "ties", "special", "lowest"]:
            x = values(shape, kind)
            for dtype in ("float32", "bfloat16", "float16") if kind == "special" else ("float32",):
                given = jnp.asarray(x).astype(dtype)
                tx = torch.tensor(x).to(getattr(torch, dtype)).requires_grad_()
                want = TORCH_POOLS[n](tx, *options, return_indices=True)[0]
                got, pullback = jax.vjp(lambda x: POOLS[n](x, *options), given)
                got, numbers = np.asarray(got, np.float32), want.detach().float().numpy()
                np.testing.assert_array_equal(got, numbers)
                is_number = ~np.isnan(numbers)
                np.testing.assert_array_equal(
                    np.signbit(got)[is_number], np.signbit(numbers)[is_number]
                )
                # Few bits, so that sums in any order are exact.
                cotangent = np.random.default_rng(1).integers(-2, 3, got.shape).astype(np.float32)
                want.backward(torch.tensor(cotangent).to(want.dtype))
                gradient = pullback(jnp.asarray(cotangent).astype(dtype))[0]
                np.testing.assert_array_equal(gradient.astype(jnp.float32), tx.grad.float())


AVERAGES = [
    ("avg_pool1d", (2, 3, 9), (3, 2, 1)),
    ("avg_pool2d", (2, 3, 6, 8), (2,)),
    ("avg_pool2d", (2, 3, 7, 8), (3, 2, 1, True, False)),
    ("avg_pool2d", (3, 7, 8), ((3, 2), (1, 3), (1, 0), True, True, 7)),
    ("avg_pool2d", (1, 2, 9, 9), (7, 1, 3)),
    ("avg_pool3d", (1, 2, 5, 6, 7), (2, 2, 1)),
    ("lp_pool2d", (2, 3, 6, 8), (3, 3, 2, True)),
    ("adaptive_avg_pool2d", (2, 3, 6, 8), ((3, 2),)),
    ("adaptive_avg_pool2d", (2, 3, 6, 8), ((4, 2),)),
    ("adaptive_max_pool2d", (2, 3, 6, 8), ((3, 2),)),
]


@pytest.mark.parametrize(("name", "shape", "options"), AVERAGES)
def test_averages_as_a_tpu_gets_them(name, shape, options):
    with formulated_for("tpu"):
        for dtype, tolerance in (("float32", 1e-6), ("bfloat16", 1e-2), ("float16", 2e-3)):
            for kind in ("normal", "special"):
                x = values(shape, kind)
                given = jnp.asarray(x).astype(dtype)
                # In float32, since torch rounds some of these sums at each step.
                tx = torch.tensor(np.asarray(given, np.float32), requires_grad=True)
                want = getattr(F, name)(tx, *options)
                got, pullback = jax.vjp(
                    lambda x: getattr(jaxnn.functional, name)(x, *options), given
                )
                assert got.dtype == dtype
                close = {"rtol": tolerance, "atol": tolerance}
                np.testing.assert_allclose(np.asarray(got, np.float32), want.detach(), **close)
                cotangent = np.random.default_rng(1).integers(-2, 3, got.shape).astype(np.float32)
                want.backward(torch.tensor(cotangent))
                gradient = pullback(jnp.asarray(cotangent).astype(dtype))[0]
                np.testing.assert_allclose(np.asarray(gradient, np.float32), tx.grad, **close)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "uint8", "int8", "int16", "int32"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_dtypes(n, dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(0 if dtype == "uint8" else -100, 100, (2, 2, *(5,) * n))
    if "float" not in dtype:
        x[0] = np.iinfo(dtype).min  # the lowest value: padding must not win over it
    want, want_indices = TORCH_POOLS[n](
        torch.tensor(x).to(getattr(torch, dtype)), 3, 2, 1, return_indices=True
    )
    got, indices = POOLS[n](jnp.asarray(x).astype(dtype), 3, 2, 1, return_indices=True)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got.astype(jnp.float32), want.to(torch.float32))
    np.testing.assert_array_equal(indices, want_indices)


def test_float64_and_int64():
    with jax.enable_x64(True):
        x = np.random.default_rng(0).standard_normal((1, 2, 6, 6))
        got, indices = jaxnn.functional.max_pool2d(x, 2, return_indices=True)
        want, _ = F.max_pool2d(torch.tensor(x), 2, return_indices=True)
        assert got.dtype == jnp.float64
        assert indices.dtype == jnp.int64
        np.testing.assert_array_equal(got, want)


def test_a_window_without_a_tap_inside():
    # The dilated taps straddle the whole input. torch's index lies outside the plane.
    x = np.ones((1, 1, 2, 2), np.float32)
    want, want_index = F.max_pool2d(torch.tensor(x), 2, 1, 1, 3, return_indices=True)
    got, index = jaxnn.functional.max_pool2d(x, 2, 1, 1, 3, return_indices=True)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(index, want_index)
    gradient = jax.grad(lambda x: jaxnn.functional.max_pool2d(x, 2, 1, 1, 3).sum())(x)
    np.testing.assert_array_equal(gradient, np.zeros_like(x))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 1, 6), {"kernel_size": 2, "padding": 2}),
        ((1, 1, 6), {"kernel_size": 2, "padding": 2, "dilation": 4}),
        ((1, 1, 6), {"kernel_size": 2, "padding": -1}),
        ((1, 1, 6), {"kernel_size": 2, "stride": 0}),
        ((1, 1, 6), {"kernel_size": 2, "stride": -1}),
        ((1, 1, 6), {"kernel_size": 0}),
        ((1, 1, 6), {"kernel_size": 2, "dilation": 0}),
        ((1, 1, 6), {"kernel_size": 7}),
        ((1, 1, 6), {"kernel_size": 2.0}),
        ((1, 1, 6), {"kernel_size": "2"}),
        ((1, 1, 6), {"kernel_size": [2, 2, 2, 2]}),
        ((1, 1, 6), {"kernel_size": 2, "ceil_mode": 1}),
        ((1, 0, 6), {"kernel_size": 2}),
        ((1, 1, 0), {"kernel_size": 2, "padding": 1}),
        ((6,), {"kernel_size": 2}),
        ((1, 1, 1, 6), {"kernel_size": 2}),
    ],
)
def test_refused_as_in_torch(n, shape, options):
    shape = shape + (6,) * (n - 1)
    if len(shape) == n:
        shape = (6,) * n
    x = np.zeros(shape, np.float32)
    with pytest.raises((RuntimeError, TypeError)):
        TORCH_POOLS[n](torch.tensor(x), **options)
    with pytest.raises((ValueError, TypeError), match="`"):
        POOLS[n](x, **options)


@pytest.mark.parametrize("dtype", ["bool", "complex64", "uint16"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_refused_dtypes(n, dtype):
    with pytest.raises(TypeError, match="input"):
        POOLS[n](jnp.ones((1, 1, *(4,) * n), dtype), 2)


def test_one_axis_pools_integers_only_with_indices():
    with pytest.raises(TypeError, match="input"):
        jaxnn.functional.max_pool1d(jnp.ones((1, 4), jnp.int32), 2)
    jaxnn.functional.max_pool1d(jnp.ones((1, 4), jnp.int32), 2, return_indices=True)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_modules(n):
    layer_type, torch_type = getattr(jaxnn, f"MaxPool{n}d"), getattr(torch.nn, f"MaxPool{n}d")
    x = values((2, 2, *(7,) * n), "normal")
    options = {"kernel_size": 3, "padding": 1, "ceil_mode": True, "return_indices": True}
    layer, reference = layer_type(**options), torch_type(**options)
    for got, want in zip(layer(x), reference(torch.tensor(x)), strict=True):
        np.testing.assert_array_equal(got, want)
    assert repr(layer) == repr(reference)
    assert repr(layer_type([2] * n)).count("2") == repr(torch_type([2] * n)).count("2")
    with pytest.raises(ValueError, match="padding"):
        layer_type(2, padding=2)
    with pytest.raises(TypeError, match="device"):
        layer_type(2, device="cpu")


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("options", [(3, 2, 1, 1, True), (7, 1, 3)])
def test_transformations(options, platform):
    with formulated_for(platform):
        check_transformations(options)


def check_transformations(options):
    def pool(x):
        return jaxnn.functional.max_pool2d(x, *options)

    def loss(x):
        return (pool(x) ** 3).sum()

    x = jnp.asarray(values((2, 2, 8, 9), "normal"))
    gradient = jax.grad(loss)(x)
    np.testing.assert_array_equal(jax.jit(jax.grad(loss))(x), gradient)
    np.testing.assert_array_equal(jax.vmap(jax.grad(loss))(x), gradient)
    np.testing.assert_array_equal(jax.grad(jax.checkpoint(loss))(x), gradient)
    _, scanned = jax.lax.scan(lambda c, x: (c, jax.grad(loss)(x)), 0.0, x)
    np.testing.assert_array_equal(scanned, gradient)
    np.testing.assert_array_equal(jax.jacfwd(pool)(x[0]), jax.jacrev(pool)(x[0]))
    _, linear = jax.linearize(pool, x)
    np.testing.assert_array_equal(linear(x), pool(x))
    hessian = jax.hessian(loss)(x[0, :1])
    np.testing.assert_allclose(hessian, jax.jacrev(jax.jacrev(loss))(x[0, :1]), rtol=1e-5)
    np.testing.assert_allclose(hessian, jax.jacfwd(jax.jacfwd(loss))(x[0, :1]), rtol=1e-5)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        jax.grad(loss)(x.astype(jnp.bfloat16))
        jaxnn.functional.max_pool2d(x, *options, return_indices=True)


@pytest.mark.parametrize("options", [(3, 2, 1, 1, True), (2, 2, 0, 1, False), (3, 1, 1, 2, False)])
def test_both_formulations_of_the_derivative_agree(options):
    windows = windows_of(2, "max_pool2d", *options)
    x = jnp.asarray(values((2, 2, 8, 9), "normal"))
    _, indices = select_max(x, windows)
    got, pullback = jax.vjp(lambda x: pick_by_taps(x, indices, windows), x)
    want, want_pullback = jax.vjp(lambda x: pick_by_gather(x, indices, 2), x)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(pullback(got)[0], want_pullback(got)[0], rtol=1e-6)


def test_export_with_symbolic_sizes():
    def loss_and_gradient(x):
        layer = jaxnn.MaxPool2d(3, 2, 1, ceil_mode=True)
        return jax.value_and_grad(lambda x: (layer(x) ** 2).sum())(x)

    (n,) = export.symbolic_shape("n")
    all_symbolic = export.symbolic_shape("n, 2, h, w", constraints=["h >= 4", "w >= 4"])
    for shape in [(n, 2, 6, 7), all_symbolic]:
        exported = export.export(
            jax.jit(loss_and_gradient), platforms=("cpu", "cuda", "rocm", "tpu")
        )(jax.ShapeDtypeStruct(shape, jnp.float32))
        x = jnp.asarray(values((3, 2, 6, 7), "normal"))
        got, want = exported.call(x), loss_and_gradient(x)
        np.testing.assert_allclose(got[0], want[0], rtol=1e-6)
        np.testing.assert_array_equal(got[1], want[1])


def test_adaptive_means_over_sizes_that_are_symbols():
    """One window is the whole of any size; several need to be known to be of one size."""

    def traced(output_size, *constraints):
        shape = export.symbolic_shape("b, 3, h, w", constraints=constraints)
        layer = jaxnn.AdaptiveAvgPool2d(output_size)
        return [str(n) for n in jax.eval_shape(layer, jax.ShapeDtypeStruct(shape, "float32")).shape]

    with pytest.raises(ValueError, match=r"4 windows over a size of which only w is known"):
        traced((1, 4))
    assert traced((1, 4), "mod(w, 4) == 0") == ["b", "3", "1", "4"]
    assert traced((None, 1)) == ["b", "3", "h", "1"]
