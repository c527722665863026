"""Sparse gradients of embeddings, and the optimizers for them, against PyTorch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxnn
from jaxnn.sparse import RowGrad, adagrad, labels, sgd, sparse_adam, value_and_grad

torch = pytest.importorskip("torch")
# torch asks for a choice, with a warning, at its first sparse tensor.
torch.sparse.check_sparse_tensor_invariants.enable()

TABLE = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
BATCHES = np.random.default_rng(1).integers(0, 6, (10, 8, 3))


class Net(nnx.Module):
    def __init__(self, **options):
        rngs = nnx.Rngs(0)
        self.embedding = jaxnn.Embedding(6, 3, sparse=True, _weight=TABLE, **options)
        self.norm = jaxnn.BatchNorm1d(3)
        self.dropout = jaxnn.Dropout(0.5, rngs=rngs)
        self.linear = jaxnn.Linear(3, 2, rngs=rngs)

    def __call__(self, ids):
        return self.linear(self.dropout(self.norm(self.embedding(ids).mean(1))))


def loss_of_net(net, ids):
    return (net(ids) ** 2).sum()


def leaf(grads, *path):
    for key in path:
        grads = grads[key]
    return grads[...]


def test_as_nnx_grad_but_for_the_table():
    ids = jnp.array([[1, 2, 2], [5, 2, 0]])
    sparse, dense = Net(), Net()
    loss, grads = value_and_grad(loss_of_net)(sparse, ids)
    want_loss, want = nnx.value_and_grad(loss_of_net)(dense, ids)
    np.testing.assert_array_equal(loss, want_loss)
    assert type(grads) is type(want)
    assert [p for p, _ in nnx.to_flat_state(grads)] == [p for p, _ in nnx.to_flat_state(want)]
    row_grad = leaf(grads, "embedding", "weight")
    assert isinstance(row_grad, RowGrad)
    np.testing.assert_array_equal(row_grad.ids, [0, 1, 2, 5, 6, 6])
    np.testing.assert_array_equal(row_grad.rows[4:], np.zeros((2, 3)))
    np.testing.assert_allclose(
        row_grad.to_dense(), leaf(want, "embedding", "weight"), rtol=1e-6, atol=1e-7
    )
    np.testing.assert_allclose(leaf(grads, "linear", "weight"), leaf(want, "linear", "weight"))
    # What the call writes is written: statistics, counters and the random streams.
    state, want_state = (nnx.state(net, nnx.Not(nnx.RngKey)) for net in (sparse, dense))
    jax.tree.map(np.testing.assert_array_equal, state, want_state)


@pytest.mark.parametrize("padding_idx", [None, 2, -1])
def test_padding_duplicates_and_empty_slots(padding_idx):
    layer = jaxnn.Embedding(6, 3, padding_idx, sparse=True, _weight=TABLE)
    reference = torch.nn.Embedding(6, 3, padding_idx, sparse=True, _weight=torch.tensor(TABLE))
    ids = np.array([[2, 5], [2, 4]])
    _, grads = value_and_grad(lambda layer, ids: (layer(ids) ** 3).sum())(layer, ids)
    (reference(torch.tensor(ids)) ** 3).sum().backward()
    want = reference.weight.grad.coalesce()
    got = leaf(grads, "weight")
    np.testing.assert_array_equal(got.ids[: want._nnz()], want.indices()[0])
    assert (got.ids[want._nnz() :] == 6).all()
    np.testing.assert_allclose(got.rows[: want._nnz()], want.values(), rtol=1e-5)


def test_aux_and_no_lookup():
    layer = jaxnn.Embedding(6, 3, sparse=True, _weight=TABLE)
    (loss, aux), grads = value_and_grad(lambda layer: (jnp.float32(2.0), "aux"), has_aux=True)(
        layer
    )
    assert (loss, aux) == (2.0, "aux")
    assert leaf(grads, "weight").rows.shape == (0, 3)
    np.testing.assert_array_equal(leaf(grads, "weight").to_dense(), np.zeros((6, 3)))


def test_a_table_used_twice():
    class Two(nnx.Module):
        def __init__(self):
            self.first = jaxnn.Embedding(6, 3, sparse=True, _weight=TABLE)
            self.second = jaxnn.Embedding(6, 3, sparse=True, _weight=TABLE)
            self.second.weight = self.first.weight
            self.again = self.first

        def __call__(self, ids):
            return self.first(ids) * self.second(ids[::-1]) + self.again(ids[:1])

    def loss(net, ids):
        return (net(ids) ** 2).sum()

    ids = jnp.array([1, 4, 1])
    _, grads = value_and_grad(loss)(Two(), ids)
    want = nnx.grad(loss)(Two(), ids)
    assert [p for p, _ in nnx.to_flat_state(grads)] == [p for p, _ in nnx.to_flat_state(want)]
    (got,) = jax.tree.leaves(grads, is_leaf=lambda node: isinstance(node, RowGrad))
    assert got.ids.shape == (7,)
    np.testing.assert_allclose(got.to_dense(), jax.tree.leaves(want)[0], rtol=1e-5)


def tied(net, ids):
    return ((net(ids) @ net.weight[...].T) ** 2).sum()


def mapped(net, ids):
    return (jax.vmap(net)(ids) ** 2).sum()


def rematerialised(net, ids):
    return nnx.remat(lambda net, ids: (net(ids) ** 2).sum())(net, ids)


def scanned(net, ids):
    return jax.lax.scan(lambda total, row: (total + (net(row) ** 2).sum(), None), 0.0, ids)[0]


@pytest.mark.parametrize("loss", [tied, mapped, rematerialised, scanned])
def test_a_gradient_that_comes_in_another_way_is_dense(loss):
    layer = jaxnn.Embedding(6, 3, sparse=True, _weight=TABLE)
    ids = jnp.array([[1, 4], [1, 0]])
    _, grads = value_and_grad(loss)(layer, ids)
    want = nnx.grad(loss)(layer, ids)
    assert isinstance(leaf(grads, "weight"), jax.Array)
    np.testing.assert_allclose(leaf(grads, "weight"), leaf(want, "weight"), rtol=1e-5)


def test_a_table_that_is_only_read_stays_sparse():
    layer = jaxnn.Embedding(6, 3, sparse=True, _weight=TABLE)

    def loss(layer, ids):
        scale = jax.lax.stop_gradient(jnp.abs(layer.weight[...]).max())
        return (layer(ids) / scale).sum()

    _, grads = value_and_grad(loss)(layer, jnp.array([3]))
    assert isinstance(leaf(grads, "weight"), RowGrad)


def test_max_norm_is_written():
    sparse, dense = (
        jaxnn.Embedding(6, 3, sparse=is_sparse, max_norm=0.5, _weight=TABLE)
        for is_sparse in (True, False)
    )

    def loss(layer, ids):
        return (layer(ids) ** 3).sum()

    ids = jnp.array([1, 3, 1])
    _, grads = value_and_grad(loss)(sparse, ids)
    want = nnx.grad(loss)(dense, ids)
    np.testing.assert_allclose(leaf(grads, "weight").to_dense(), leaf(want, "weight"), rtol=1e-6)
    np.testing.assert_array_equal(sparse.weight[...], dense.weight[...])


def test_frequency_is_refused():
    layer = jaxnn.Embedding(6, 3, sparse=True, scale_grad_by_freq=True, _weight=TABLE)
    with pytest.raises(ValueError, match="scale_grad_by_freq"):
        value_and_grad(lambda layer: layer(jnp.array([1])).sum())(layer)


def test_frozen_and_dense_embeddings_are_left_alone():
    frozen = jaxnn.Embedding.from_pretrained(TABLE, sparse=True)
    _, grads = value_and_grad(lambda layer: layer(jnp.array([1])).sum())(frozen)
    assert not jax.tree.leaves(grads)
    dense = jaxnn.Embedding(6, 3, _weight=TABLE)
    _, grads = value_and_grad(lambda layer: layer(jnp.array([1])).sum())(dense)
    assert leaf(grads, "weight").shape == (6, 3)


def test_ids_out_of_range():
    layer = jaxnn.Embedding(6, 3, sparse=True, _weight=TABLE)

    def loss(layer, ids):
        return jnp.nansum(layer(ids))

    with pytest.raises(IndexError):
        value_and_grad(loss)(layer, jnp.array([6]))
    _, grads = nnx.jit(value_and_grad(loss))(layer, jnp.array([6, -1, 2]))
    np.testing.assert_array_equal(leaf(grads, "weight").ids, [2, 6, 6])
    np.testing.assert_array_equal(leaf(grads, "weight").rows, [[1] * 3, [0] * 3, [0] * 3])


OPTIMIZERS = {
    "sgd": (lambda: sgd(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (lambda: sgd(0.1, 0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "adagrad": (
        lambda: adagrad(0.1, 0.05, 0.1),
        lambda p: torch.optim.Adagrad(p, 0.1, 0.05, initial_accumulator_value=0.1),
    ),
    "adagrad_defaults": (adagrad, torch.optim.Adagrad),
    "sparse_adam": (
        lambda: sparse_adam(0.1, (0.8, 0.95), 1e-6),
        lambda p: torch.optim.SparseAdam(p, 0.1, (0.8, 0.95), 1e-6),
    ),
    "sparse_adam_defaults": (sparse_adam, torch.optim.SparseAdam),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_steps_as_in_torch(name):
    ours, theirs = OPTIMIZERS[name]
    layer = jaxnn.Embedding(6, 3, padding_idx=0, sparse=True, _weight=TABLE)
    reference = torch.nn.Embedding(6, 3, padding_idx=0, sparse=True, _weight=torch.tensor(TABLE))
    optimizer, torch_optimizer = (
        nnx.Optimizer(layer, ours(), wrt=nnx.Param),
        theirs(reference.parameters()),
    )

    def loss(layer, ids):
        return (layer(ids).sum(1) ** 2).sum()

    @nnx.jit
    def step(layer, optimizer, ids):
        _, grads = value_and_grad(loss)(layer, ids)
        optimizer.update(layer, grads)

    for ids in BATCHES:
        step(layer, optimizer, jnp.asarray(ids))
        torch_optimizer.zero_grad()
        (reference(torch.tensor(ids)).sum(1) ** 2).sum().backward()
        torch_optimizer.step()
        np.testing.assert_allclose(
            layer.weight[...], reference.weight.detach(), rtol=2e-5, atol=1e-6
        )


@pytest.mark.parametrize("name", ["sgd", "momentum", "adagrad"])
def test_dense_gradients_as_in_torch(name):
    ours, theirs = OPTIMIZERS[name]
    weight = torch.tensor(TABLE, requires_grad=True)
    optimizer, torch_optimizer = ours(), theirs([weight])
    params = jnp.asarray(TABLE)
    state = optimizer.init(params)
    for scale in (1.0, 2.0, -1.0):
        torch_optimizer.zero_grad()
        (weight**2).sum().mul(scale).backward()
        torch_optimizer.step()
        updates, state = optimizer.update(2 * scale * params, state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params, weight.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.standard_promotion
@pytest.mark.parametrize("with_state", [False, True])
def test_beside_a_dense_optimizer(with_state):
    """The tables by sparse Adam, the rest by Adam: through nnx.Optimizer, or optax alone."""
    net = Net()
    net.dropout.deterministic = True
    transforms = {"sparse": sparse_adam(0.1), "dense": optax.adam(0.01)}
    optimizer = optax.partition(transforms, labels(net))
    reference = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(6, 3, sparse=True),
            "norm": torch.nn.BatchNorm1d(3),
            "linear": torch.nn.Linear(3, 2),
        }
    )
    reference.load_state_dict(jaxnn.interop.to_torch(jaxnn.state_dict(net)))
    torch_optimizers = [
        torch.optim.SparseAdam(reference["embedding"].parameters(), 0.1),
        torch.optim.Adam(
            [*reference["norm"].parameters(), *reference["linear"].parameters()], 0.01
        ),
    ]

    if with_state:
        opt_state = optimizer.init(nnx.state(net, nnx.Param))

        def step(ids):
            nonlocal opt_state
            _, grads = value_and_grad(loss_of_net)(net, ids)
            params = nnx.state(net, nnx.Param)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            nnx.update(net, optax.apply_updates(params, updates))

    else:
        nnx_optimizer = nnx.Optimizer(net, optimizer, wrt=nnx.Param)

        def step(ids):
            _, grads = value_and_grad(loss_of_net)(net, ids)
            nnx_optimizer.update(net, grads)

    for ids in BATCHES[:4]:
        step(jnp.asarray(ids))
        reference.zero_grad()
        hidden = reference["norm"](reference["embedding"](torch.tensor(ids)).mean(1))
        (reference["linear"](hidden) ** 2).sum().backward()
        for torch_optimizer in torch_optimizers:
            torch_optimizer.step()
    np.testing.assert_allclose(
        net.embedding.weight[...], reference["embedding"].weight.detach(), atol=1e-3
    )
    np.testing.assert_allclose(
        net.linear.weight[...], reference["linear"].weight.detach(), atol=1e-3
    )


def test_only_the_rows_seen_change():
    params = {"table": jnp.asarray(TABLE)}
    grads = {"table": RowGrad(jnp.array([4, 1, 6]), jnp.ones((3, 3)), (6, 3))}
    for optimizer in (sgd(0.1), adagrad(0.1), sparse_adam(0.1)):
        updates, state = optimizer.update(grads, optimizer.init(params), params)
        new = optax.apply_updates(params, updates)["table"]
        np.testing.assert_array_equal(new[jnp.array([0, 2, 3, 5])], TABLE[[0, 2, 3, 5]])
        assert (new[jnp.array([1, 4])] != TABLE[[1, 4]]).all()
        for leaf in jax.tree.leaves(state):
            if leaf.ndim:
                assert (leaf[jnp.array([0, 2, 3, 5])] == 0).all()


def test_schedules_and_repeated_ids():
    rows = jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    twice = RowGrad(jnp.array([2, 2]), rows, (6, 3))
    once = RowGrad(jnp.array([2]), rows.sum(0, keepdims=True), (6, 3))
    schedule = optax.linear_schedule(0.1, 0.2, 1)
    params = jnp.asarray(TABLE)
    for make in (sgd, adagrad, sparse_adam):
        results = []
        for grad in (twice, once):
            optimizer, new = make(schedule), params
            state = optimizer.init(params)
            for _ in range(2):
                updates, state = optimizer.update(grad, state, new)
                new = optax.apply_updates(new, updates)
            results.append(new)
        np.testing.assert_allclose(*results, rtol=1e-6)
    updates, _ = sgd(schedule).update(once, sgd(schedule).init(params))
    np.testing.assert_allclose(updates.rows, -0.1 * once.rows, rtol=1e-6)


def test_row_grad():
    grad = RowGrad(jnp.array([2, 0, 2, -1, 6]), jnp.ones((5, 3)), (6, 3))
    coalesced = grad.coalesce()
    np.testing.assert_array_equal(coalesced.ids, [0, 2, 6, 6, 6])
    np.testing.assert_array_equal(coalesced.rows[:, 0], [1, 2, 0, 0, 0])
    assert coalesced.coalesce() is coalesced
    np.testing.assert_array_equal(coalesced.to_dense(), grad.to_dense())
    np.testing.assert_array_equal((grad + grad).to_dense(), 2 * grad.to_dense())
    np.testing.assert_array_equal(TABLE + grad, TABLE + np.asarray(grad.to_dense()))
    leaves, structure = jax.tree.flatten(grad)
    assert [leaf.shape for leaf in leaves] == [(5,), (5, 3)]
    assert jax.tree.unflatten(structure, leaves).shape == (6, 3)
    with pytest.raises(ValueError, match="shape"):
        jnp.ones((5, 3)) + grad
    with pytest.raises(TypeError, match=r"optax\.partition"):
        jnp.ones((6, 3)) + jax.tree.map(lambda leaf: leaf.astype(jnp.float32), grad)


def test_refused_options():
    for make in (sgd, adagrad, sparse_adam):
        with pytest.raises(ValueError, match="learning_rate"):
            make(-1.0)
    with pytest.raises(ValueError, match="betas"):
        sparse_adam(betas=(0.9, 1.0))
    optimizer = sparse_adam()
    with pytest.raises(TypeError, match=r"optax\.adam"):
        optimizer.update(jnp.asarray(TABLE), optimizer.init(jnp.asarray(TABLE)))


@pytest.mark.parametrize("make", [sgd, adagrad, sparse_adam])
def test_a_donated_step_holds_nothing_as_large_as_the_table(make):
    rows, width = 100_000, 64
    table = jnp.zeros((rows, width))
    layer = jaxnn.Embedding(rows, width, sparse=True, max_norm=1.0, _weight=table)
    optimizer = make(0.1)
    graphdef, state = nnx.split(layer)
    opt_state = optimizer.init(nnx.state(layer, nnx.Param))

    @jax.jit
    def step(state, opt_state, ids):
        layer = nnx.merge(graphdef, state)
        _, grads = value_and_grad(lambda layer, ids: (layer(ids) ** 2).sum())(layer, ids)
        params = nnx.state(layer, nnx.Param)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        nnx.update(layer, optax.apply_updates(params, updates))
        return nnx.state(layer), opt_state

    step = jax.jit(step.__wrapped__, donate_argnums=(0, 1))
    compiled = step.lower(state, opt_state, jnp.zeros((32,), jnp.int32)).compile()
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < table.nbytes / 10
    assert memory.alias_size_in_bytes >= table.nbytes


def test_strict_promotion():
    layer = jaxnn.Embedding(
        6, 3, sparse=True, max_norm=1.0, _weight=jnp.asarray(TABLE, jnp.bfloat16)
    )
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        for make in (sgd, adagrad, sparse_adam):
            optimizer = make(optax.constant_schedule(0.1))
            params = nnx.state(layer, nnx.Param)
            _, grads = value_and_grad(lambda layer: layer(jnp.array([1, 1])).sum())(layer)
            updates, _ = optimizer.update(grads, optimizer.init(params), params)
            assert jax.tree.leaves(optax.apply_updates(params, updates))[0].dtype == jnp.bfloat16


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_a_bag_has_gradients_of_rows(mode: str) -> None:
    bag = jaxnn.EmbeddingBag(9, 4, mode=mode, sparse=True, padding_idx=2, rngs=nnx.Rngs(0))
    ids, offsets = jnp.array([4, 2, 4, 1]), jnp.array([0, 3])

    def loss(bag: Any) -> Any:
        return (bag(ids, offsets) ** 2).sum()

    _, sparse = jaxnn.sparse.value_and_grad(loss)(bag)
    rows = sparse["weight"].get_value()
    dense = nnx.grad(loss)(bag)["weight"][...]
    np.testing.assert_allclose(jnp.zeros((9, 4)).at[rows.ids].add(rows.rows, mode="drop"), dense)
