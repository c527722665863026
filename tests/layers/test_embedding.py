"""Embedding: values, gradients, the table after the call and refusals, against PyTorch."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from jax import export

import jaxnn

torch = pytest.importorskip("torch")

TABLE = np.random.default_rng(0).integers(-128, 128, (7, 4)).astype(np.float32) / 32
IDS = np.array([[1, 2, 2], [5, 0, 2]])


def run_torch(ids, table, cotangent=None, **options):
    weight = torch.tensor(table, requires_grad=True)
    out = torch.nn.functional.embedding(torch.tensor(ids), weight, **options)
    if cotangent is None:
        cotangent = np.random.default_rng(1).integers(-64, 64, out.shape) / np.float32(32)
    out.backward(torch.tensor(cotangent, dtype=out.dtype))
    return out.detach().numpy(), weight.detach().numpy(), weight.grad.numpy(), cotangent


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0), (2, 1, 3)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding_idx": 2},
        {"padding_idx": -5},
        {"scale_grad_by_freq": True},
        {"padding_idx": 0, "scale_grad_by_freq": True},
        {"max_norm": 3.0},
        {"max_norm": 3.0, "norm_type": 1.0, "padding_idx": 1},
        {"max_norm": 1.5, "norm_type": np.inf},
        {"max_norm": 2, "norm_type": 3},
        {"max_norm": 0.0},
        {"max_norm": 100.0},
    ],
)
def test_values_table_and_gradient(options, shape):
    ids = np.random.default_rng(2).integers(0, 7, shape)
    want, want_table, want_gradient, cotangent = run_torch(ids, TABLE, **options)

    def embed(table):
        return jaxnn.functional.embedding_with_weight(jnp.asarray(ids), table, **options)

    (got, table), pullback = jax.vjp(embed, jnp.asarray(TABLE))
    np.testing.assert_allclose(got, want, rtol=5e-7)
    np.testing.assert_allclose(table, want_table, rtol=5e-7)
    untouched = np.setdiff1d(np.arange(7), ids)
    np.testing.assert_array_equal(np.asarray(table)[untouched], TABLE[untouched])
    (gradient,) = pullback((jnp.asarray(cotangent), jnp.zeros_like(table)))
    np.testing.assert_allclose(gradient, want_gradient, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(
        jaxnn.functional.embedding(jnp.asarray(ids), jnp.asarray(TABLE), **options), got
    )
    # The table that is returned has the derivative of the table that came.
    (through,) = pullback((jnp.zeros_like(got), jnp.ones_like(table)))
    np.testing.assert_array_equal(through, np.ones_like(TABLE))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("norm_type", [1.0, 2.0, np.inf])
@pytest.mark.parametrize("size", [1.0, 300.0])  # the latter is scaled by less than 2**-14
def test_max_norm_in_low_precision_is_exact(dtype, norm_type, size):
    table = size * np.random.default_rng(0).standard_normal((20, 33)).astype(np.float32)
    weight = torch.tensor(table).to(getattr(torch, dtype))
    rows = jnp.asarray(table).astype(dtype)
    ids = np.arange(0, 20, 2)
    torch.nn.functional.embedding(torch.tensor(ids), weight, max_norm=0.1, norm_type=norm_type)
    _, got = jaxnn.functional.embedding_with_weight(
        jnp.asarray(ids), rows, max_norm=0.1, norm_type=norm_type
    )
    np.testing.assert_array_equal(got.astype(jnp.float32), weight.float().numpy())


def test_max_norm_is_compared_in_double_precision():
    # The nearest float32 to 0.1 exceeds 0.1.
    table = np.array([[0.1, 0.0], [0.5, 0.0]], np.float32)
    weight = torch.tensor(table)
    torch.nn.functional.embedding(torch.tensor([0]), weight, max_norm=0.1)
    _, got = jaxnn.functional.embedding_with_weight(
        jnp.array([0]), jnp.asarray(table), max_norm=0.1
    )
    assert got[0, 0] < 0.1
    np.testing.assert_allclose(got, weight, rtol=1e-7)


@pytest.mark.parametrize("dtype", ["float64", "int32", "bool", "complex64"])
def test_dtypes(dtype):
    with jax.enable_x64(True):
        table = jnp.asarray(TABLE).astype(dtype)
        got = jaxnn.functional.embedding(jnp.asarray(IDS), table)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, np.asarray(table)[IDS])


def test_ids_out_of_range():
    table = jnp.asarray(TABLE)
    for bad in (7, -1, 2**32):
        with pytest.raises(IndexError, match="input"):
            jaxnn.functional.embedding(np.array([0, bad]), table)
    ids = jnp.array([3, -1, 7, 3])

    @jax.jit
    def embed(table, ids):
        return jaxnn.functional.embedding_with_weight(ids, table, max_norm=1.0)

    rows, new = embed(table, ids)
    np.testing.assert_array_equal(np.isnan(rows).any(-1), [False, True, True, False])
    np.testing.assert_array_equal(new[jnp.array([0, 1, 2, 4, 5, 6])], TABLE[[0, 1, 2, 4, 5, 6]])
    gradient = jax.jit(jax.grad(lambda table: jnp.nansum(embed(table, ids)[0])))(table)
    np.testing.assert_array_equal(gradient, np.eye(7)[[3]].T * np.full(4, 2.0))
    outside = jax.jit(jaxnn.functional.embedding)(jnp.array([9]), table.astype(jnp.int32))
    np.testing.assert_array_equal(outside, np.zeros((1, 4)))

    with jaxnn.check_indices(False):
        assert np.isnan(jaxnn.functional.embedding(ids, table)[1]).all()
    with pytest.raises(IndexError):
        jaxnn.functional.embedding(ids, table)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "bool", "float32", "uint32"])
def test_refused_ids(dtype):
    with pytest.raises(TypeError, match="input"):
        jaxnn.functional.embedding(np.ones(2, dtype), TABLE)


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (ValueError, {"padding_idx": 4}),
        (ValueError, {"padding_idx": -5}),
        (TypeError, {"padding_idx": 1.0}),
        (TypeError, {"max_norm": "1"}),
        (TypeError, {"max_norm": 1.0, "norm_type": "2"}),
        (ValueError, {"_weight": np.ones((3, 4), np.float32)}),
        (TypeError, {"_weight": np.ones((4, 3), np.int32)}),
        (TypeError, {"dtype": jnp.int32}),
        (TypeError, {"device": "cpu"}),
        (ValueError, {"rngs": None}),
    ],
)
def test_refused_at_construction(error, options):
    with pytest.raises(error, match=f"`{next(iter(options))}`|norm_type|rngs"):
        jaxnn.Embedding(4, 3, **{"rngs": nnx.Rngs(0), **options})


def test_refused_shapes_and_tables():
    for table in (np.ones(3), np.ones((3, 2, 2))):
        with pytest.raises(ValueError, match="weight"):
            jaxnn.functional.embedding(jnp.array([0]), table)
    with pytest.raises(ValueError, match="embeddings"):
        jaxnn.Embedding.from_pretrained(np.ones(3))
    with pytest.raises(IndexError):
        jaxnn.functional.embedding(jnp.array([0]), np.ones((0, 3)))
    with pytest.raises(TypeError, match="weight"):
        jaxnn.functional.embedding(jnp.array([0]), np.ones((2, 3), np.int32), max_norm=1.0)


def test_empty_tables():
    for rows, width, ids in [(0, 3, np.zeros(0, int)), (3, 0, np.array([1]))]:
        layer = jaxnn.Embedding(rows, width, rngs=nnx.Rngs(0))
        assert layer(ids).shape == (*ids.shape, width)
        assert jax.jit(jaxnn.functional.embedding)(ids, layer.weight[...]).shape[-1] == width
        gradient = nnx.grad(lambda layer, ids=ids: layer(ids).sum())(layer)
        assert gradient["weight"][...].shape == (rows, width)


def test_initial_table():
    layer = jaxnn.Embedding(2000, 50, padding_idx=-1, rngs=nnx.Rngs(0))
    table = np.asarray(layer.weight[...])
    assert layer.padding_idx == 1999
    assert (table[-1] == 0).all()
    assert abs(table[:-1].mean()) < 0.02
    assert abs(table[:-1].std() - 1) < 0.01
    assert jaxnn.Embedding(2, 3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)).weight.dtype == jnp.bfloat16


def test_padding_row_is_not_zeroed_again():
    table = np.ones((3, 2), np.float32)
    assert (jaxnn.Embedding(3, 2, 1, _weight=table).weight[...] == 1).all()
    layer = jaxnn.Embedding(3, 2, padding_idx=1, rngs=nnx.Rngs(0))
    jaxnn.load_state_dict(layer, {"weight": table})
    np.testing.assert_array_equal(layer(jnp.array(1)), [1, 1])


def test_from_pretrained():
    frozen = jaxnn.Embedding.from_pretrained(TABLE, max_norm=1.0, padding_idx=-1)
    assert isinstance(frozen.weight, jaxnn.Frozen)
    assert not jax.tree.leaves(nnx.state(frozen, nnx.Param))
    frozen(jnp.array([3]))  # max_norm rewrites a frozen table too
    assert np.linalg.norm(frozen.weight[...][3]) <= 1.0
    free = jaxnn.Embedding.from_pretrained(TABLE, freeze=False, norm_type=1.0, sparse=True)
    assert isinstance(free.weight, nnx.Param)
    assert (free.norm_type, free.sparse, free.padding_idx) == (1.0, True, None)
    np.testing.assert_array_equal(jaxnn.state_dict(frozen)["weight"][:3], TABLE[:3])


def test_repr():
    options = {"padding_idx": 1, "max_norm": 2.0, "norm_type": 1.0, "sparse": True}
    layer = jaxnn.Embedding(3, 2, rngs=nnx.Rngs(0), **options)
    assert repr(layer) == repr(torch.nn.Embedding(3, 2, **options))
    assert repr(jaxnn.Embedding(3, 2, rngs=nnx.Rngs(0))) == "Embedding(3, 2)"


@pytest.mark.parametrize("jitted", [False, True])
def test_max_norm_over_several_calls(jitted):
    options = {"max_norm": 2.0, "norm_type": 1.0, "padding_idx": 0}
    layer = jaxnn.Embedding(7, 4, _weight=TABLE, **options)
    reference = torch.nn.Embedding(7, 4, _weight=torch.tensor(TABLE), **options)

    def loss(layer, ids):
        return (layer(ids) ** 2).sum() + (layer(ids[:1]) ** 3).sum()

    gradient_of = nnx.jit(nnx.grad(loss)) if jitted else nnx.grad(loss)
    for train, ids in [(True, [[0, 2], [2, 5]]), (False, [[5, 6], [6, 1]])]:
        layer.train() if train else layer.eval()
        reference.zero_grad()
        want = reference(torch.tensor(ids))
        ((want**2).sum() + (reference(torch.tensor(ids[:1])) ** 3).sum()).backward()
        gradient = gradient_of(layer, jnp.asarray(ids))
        np.testing.assert_allclose(gradient["weight"][...], reference.weight.grad, rtol=1e-5)
        np.testing.assert_allclose(layer.weight[...], reference.weight.detach(), rtol=5e-7)


def test_sparse_and_frequency_exclude_each_other():
    layer = jaxnn.Embedding(3, 2, sparse=True, scale_grad_by_freq=True, rngs=nnx.Rngs(0))
    layer(jnp.array([0]))
    with pytest.raises(ValueError, match="scale_grad_by_freq"):
        nnx.grad(lambda layer: layer(jnp.array([0])).sum())(layer)


@pytest.mark.parametrize(
    "options", [{}, {"padding_idx": 2, "scale_grad_by_freq": True}, {"max_norm": 2.0}]
)
def test_transformations(options):
    table, ids = jnp.asarray(TABLE), jnp.asarray(IDS)

    def embed(table, ids):
        return jaxnn.functional.embedding(ids, table, **options)

    def loss(table, ids):
        return (embed(table, ids) ** 3).sum()

    gradient = jax.grad(loss)(table, ids)
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(table, ids), gradient, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(jax.checkpoint(loss))(table, ids), gradient, rtol=1e-6)
    each = [jax.grad(loss)(table, row) for row in ids]
    np.testing.assert_allclose(jax.vmap(jax.grad(loss), (None, 0))(table, ids), each, rtol=1e-6)
    _, scanned = jax.lax.scan(lambda c, row: (c, jax.grad(loss)(table, row)), 0.0, ids)
    np.testing.assert_allclose(scanned, each, rtol=1e-6)
    np.testing.assert_allclose(
        jax.jacfwd(embed)(table, ids), jax.jacrev(embed)(table, ids), rtol=1e-6
    )
    np.testing.assert_allclose(
        jax.hessian(loss)(table, ids), jax.jacrev(jax.jacrev(loss))(table, ids), rtol=1e-5
    )
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        jax.grad(loss)(table.astype(jnp.bfloat16), ids)


def test_traced_max_norm():
    table, ids = jnp.asarray(TABLE), jnp.asarray(IDS)

    @jax.jit
    def embed(max_norm):
        return jaxnn.functional.embedding(ids, table, max_norm=max_norm)

    want = jaxnn.functional.embedding(ids, table, max_norm=2.0)
    np.testing.assert_array_equal(embed(jnp.float32(2.0)), want)


def test_export_with_a_symbolic_batch():
    def loss_and_gradient(table, ids):
        def loss(table):
            return (jaxnn.functional.embedding(ids, table, padding_idx=2, max_norm=2.0) ** 2).sum()

        return jax.value_and_grad(loss)(table)

    (n,) = export.symbolic_shape("n")
    exported = export.export(jax.jit(loss_and_gradient), platforms=("cpu", "cuda", "rocm", "tpu"))(
        jax.ShapeDtypeStruct((7, 4), jnp.float32), jax.ShapeDtypeStruct((n, 3), jnp.int32)
    )
    got = exported.call(jnp.asarray(TABLE), jnp.asarray(IDS, jnp.int32))
    want = loss_and_gradient(jnp.asarray(TABLE), jnp.asarray(IDS))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_bfloat16_gradient_is_close():
    ids = np.random.default_rng(0).integers(0, 7, 40)
    weight = torch.tensor(TABLE).bfloat16().requires_grad_()
    torch.nn.functional.embedding(
        torch.tensor(ids), weight, scale_grad_by_freq=True
    ).sum().backward()
    gradient = jax.grad(
        lambda table: jaxnn.functional.embedding(
            jnp.asarray(ids), table, scale_grad_by_freq=True
        ).sum()
    )(jnp.asarray(TABLE, ml_dtypes.bfloat16))
    np.testing.assert_allclose(gradient.astype(np.float32), weight.grad.float(), rtol=2e-2)
