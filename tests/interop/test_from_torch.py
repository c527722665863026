"""Imported models against the originals: values, gradients, training, structure, errors."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import torch
import torch_models
from flax import nnx
from torch import nn

import jaxnn
from jaxnn.interop import to_torch

NAMES = sorted(torch_models.MODELS)


def arrays(value: Any) -> Any:
    """Tensors as arrays, structures kept."""
    if isinstance(value, torch.Tensor):
        return jnp.asarray(value.detach().numpy())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(arrays, value))
    if isinstance(value, (tuple, list)):
        return type(value)(map(arrays, value))
    if isinstance(value, dict):
        return {name: arrays(item) for name, item in value.items()}
    return value


def flat(value: Any) -> list[Any]:
    """The tensors or arrays of a result, in order."""
    if value is None:
        return []
    if hasattr(value, "shape"):
        return [value]
    if isinstance(value, torch_models.Result):
        value = dict(vars(value))
    # In JAX's order, which is that of the names.
    items = [value[name] for name in sorted(value)] if isinstance(value, dict) else value
    return [leaf for item in items for leaf in flat(item)]


def loss_of(result: Any, wide: Any, cosine: Any, arange: Any) -> Any:
    total = 0.0
    for leaf in flat(result):
        total = total + (wide(leaf) * cosine(arange(leaf))).sum()
    return total


def torch_loss(result: Any) -> torch.Tensor:
    def arange(leaf: torch.Tensor) -> torch.Tensor:
        return torch.arange(leaf.numel()).reshape(leaf.shape).double()

    return loss_of(result, torch.Tensor.double, torch.cos, arange)


def jax_loss(result: Any) -> jax.Array:
    def arange(leaf: jax.Array) -> jax.Array:
        return jnp.arange(leaf.size).reshape(leaf.shape).astype(float)

    return loss_of(result, lambda leaf: leaf.astype(float), jnp.cos, arange)


def close(ours: Any, theirs: torch.Tensor, tolerance: float) -> None:
    want = theirs.detach().numpy()
    assert ours.shape == want.shape
    assert np.abs(np.asarray(ours) - want).max(initial=0) <= tolerance * max(
        1.0, np.abs(want).max(initial=0)
    )


@pytest.fixture(scope="module")
def imported():
    """Each model in float64, the original and the import, made once."""
    made: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in made:
            torch.manual_seed(0)
            net, args, kwargs = torch_models.MODELS[name]()
            net = net.double()
            args, kwargs = doubled(args), doubled(kwargs)
            with jax.enable_x64(True):
                ours = jaxnn.from_torch(net.eval(), args, kwargs, rngs=nnx.Rngs(0))
            made[name] = net, ours, args, kwargs
        net, ours, args, kwargs = made[name]
        return copy.deepcopy(net), nnx.clone(ours), args, dict(kwargs)

    return get


def doubled(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, tuple):
        items = [doubled(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return {n: doubled(v) for n, v in value.items()} if isinstance(value, dict) else value


def larger(value: Any) -> Any:
    """Another batch: that of the example twice, with other values."""
    if isinstance(value, torch.Tensor):
        return torch.cat([value, value.flip(-1)]) if value.ndim else value
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(map(larger, value))
    return {n: larger(v) for n, v in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_values_gradients_and_state(imported, name, mode):
    net, ours, args, kwargs = imported(name)
    net.train(mode == "train")
    getattr(ours, mode)()
    with jax.enable_x64(True):
        graphdef, parameters, rest = nnx.split(ours, nnx.Param, ...)

        options = {n: kwargs[n] for n in ("return_hidden",) if n in kwargs}
        given = [arrays(args), arrays({n: v for n, v in kwargs.items() if n not in options})]

        @jax.jit
        def run(parameters, rest, args, kwargs):
            module = nnx.merge(graphdef, parameters, rest, copy=True)
            result = module(*args, **kwargs, **options)
            return jax_loss(result), (result, nnx.state(module))

        (_, (result, state)), gradients = jax.value_and_grad(run, has_aux=True)(
            parameters, rest, *given
        )
        nnx.update(ours, state)
        want = net(*args, **kwargs)
        for one, other in zip(flat(result), flat(want), strict=True):
            close(one, other, 1e-9)
        if any(p.requires_grad for p in net.parameters()):
            torch_loss(want).backward()
        theirs = dict(net.named_parameters())
        found = nnx.to_flat_state(gradients)
        for path, gradient in found:
            wanted = theirs[".".join(map(str, path))].grad
            wanted = torch.zeros(gradient.shape) if wanted is None else wanted
            close(gradient[...], wanted, 1e-9)
        assert len(found) == sum(p.requires_grad for p in net.parameters())
        saved = jaxnn.state_dict(ours)
        assert list(saved) == list(net.state_dict())
        for key, tensor in net.state_dict().items():
            close(saved[key], tensor, 1e-9)
            assert str(saved[key].dtype) == str(tensor.dtype).removeprefix("torch.")
        net.load_state_dict(to_torch(saved), strict=True)


@pytest.mark.parametrize("name", sorted({*NAMES} - {"recurrent"}))
def test_another_batch_needs_no_new_import(imported, name):
    net, ours, args, kwargs = imported(name)
    args, kwargs = larger(args), {n: v if n == "mask" and name == "transformer" else larger(v)
                                  for n, v in kwargs.items()}  # fmt: skip
    ours.eval()
    with jax.enable_x64(True):
        result = ours(*arrays(args), **arrays(kwargs))
        for one, other in zip(flat(result), flat(net.eval()(*args, **kwargs)), strict=True):
            close(one, other, 1e-9)


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("name", ["residual_network", "tied_language_model"])
def test_training_follows_torch(imported, name, optimiser):
    net, ours, args, kwargs = imported(name)
    net.train()
    ours.train()
    if optimiser == "sgd":
        theirs: Any = torch.optim.SGD(net.parameters(), 1e-3)
        transform = optax.sgd(1e-3)
    else:
        theirs = torch.optim.AdamW(net.parameters(), 1e-3)
        transform = optax.adamw(1e-3, weight_decay=1e-2)
    hidden = kwargs.pop("return_hidden", None)
    options = {} if hidden is None else {"return_hidden": hidden}
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        optimizer = nnx.Optimizer(ours, transform, wrt=nnx.Param)

        @nnx.jit
        def step(module, optimizer, args, kwargs):
            loss, gradients = nnx.value_and_grad(lambda m: jax_loss(m(*args, **kwargs, **options)))(
                module
            )
            optimizer.update(module, gradients)
            return loss

        for _ in range(20):
            theirs.zero_grad()
            wanted = torch_loss(net(*args, **kwargs, **options))
            wanted.backward()
            theirs.step()
            loss = step(ours, optimizer, arrays(args), arrays(kwargs))
            close(loss, wanted, 1e-6)


def test_structure_of_results(imported):
    _, ours, args, kwargs = imported("tied_language_model")
    with jax.enable_x64(True):
        result = ours.eval()(*arrays(args), **arrays(kwargs))
        assert result.logits is result["logits"] is result[0]
        assert isinstance(result.hidden, tuple)
        _, ours, args, kwargs = imported("recurrent")
        _, state = ours(*arrays(args), **arrays(kwargs))
        assert type(state).__name__ == "State"
        assert state.hidden.shape == (2, 2, 6)
        _, ours, args, _ = imported("switches")
        assert ours.eval()(*arrays(args))["auxiliary"][1] is None


def test_parts_have_the_names_and_kinds_of_the_original(imported):
    _, ours, *_ = imported("tied_language_model")
    assert isinstance(ours.token, jaxnn.Embedding)
    assert isinstance(ours.blocks, jaxnn.ModuleList)
    assert repr(ours.blocks[1]).startswith("Attention(")
    assert isinstance(ours.causal, jaxnn.NonPersistent)
    _, ours, *_ = imported("sizes")
    assert isinstance(ours.frozen, jaxnn.Frozen)
    with jax.enable_x64(True):
        part = imported("tied_language_model")[1].blocks[0]
        assert part(jnp.ones((2, 4, 8)), jnp.ones((2, 4), bool)).shape == (2, 4, 8)


def test_tied_weights_are_stored_once_and_trained_in_tree_mode(imported):
    _, ours, args, kwargs = imported("tied_language_model")
    assert ours.head.weight is None
    options = {"return_hidden": kwargs.pop("return_hidden")}
    with jax.enable_x64(True):
        step = nnx.jit_partial(
            lambda module, ids, mask: module(ids, mask, **options)["logits"],
            nnx.view(ours, deterministic=True),
            graph=False,
        )
        assert step(*arrays(args), arrays(kwargs)["mask"]).shape == (2, 4, 11)
    assert ours.head.weight is None


def test_tied_weights_of_a_sequential():
    original = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    original[2].weight = original[0].weight
    ours = jaxnn.from_torch(original, torch.ones(2, 3))
    assert list(jaxnn.state_dict(ours)) == list(original.state_dict())
    x = torch.randn(5, 3)
    np.testing.assert_allclose(
        ours(jnp.asarray(x.numpy())), original(x).detach().numpy(), atol=1e-6
    )


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(x) + torch.nn.functional.dropout(torch.rand_like(x), 0.5, self.training)


def test_what_draws_draws_from_the_key():
    ours = jaxnn.from_torch(Noisy(), torch.ones(2, 50), rngs=nnx.Rngs(0))
    x = jnp.ones((2, 50))
    key = jax.random.key(1)
    assert (ours(x) != ours(x)).any()
    assert (ours(x, rngs=key) == ours(x, rngs=key)).all()
    assert (ours(x, rngs=key) != ours(x, rngs=jax.random.key(2))).any()
    silent = jaxnn.from_torch(Noisy(), torch.ones(2, 50))
    with pytest.raises(ValueError, match=r"rngs=nnx\.Rngs"):
        silent(x)
    assert silent(x, rngs=key).shape == (2, 50)


class Data(nn.Module):
    def forward(self, x):
        y = x.nonzero()
        return y, torch.unique(x)


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))

    def forward(self, x):
        for layer in self.layers:
            if self.training and torch.rand([]) < 0.5:
                continue
            x = layer(x)
        return x if torch.isfinite(x).all() else torch.zeros_like(x)


def test_branches_on_values_are_those_of_the_example():
    net = Branch().eval()
    with pytest.warns(UserWarning, match=r"Branch branches on the values .*test_from_torch\.py:"):
        ours = jaxnn.from_torch(net, torch.ones(2, 3))
    x = torch.randn(5, 3)
    close(ours(arrays(x)), net(x), 1e-6)
    close(ours.train()(arrays(x)), net(x), 1e-6)  # no layer is dropped


def test_what_cannot_be_imported_is_said():
    with pytest.raises(NotImplementedError, match=r"nonzero.*\n.*unique") as caught:
        jaxnn.from_torch(Data(), torch.ones(3))
    assert "test_from_torch.py" in str(caught.value)
    with pytest.raises(TypeError, match=r"must be a torch.nn.Module, got int"):
        jaxnn.from_torch(3, torch.ones(3))


def test_other_arguments_than_those_of_the_import_are_refused(imported):
    _, ours, args, kwargs = imported("tied_language_model")
    ids, mask = arrays(args)[0], arrays(kwargs)["mask"]
    with jax.enable_x64(True):
        with pytest.raises(ValueError, match="return_hidden was True at the import"):
            ours(ids, mask, False)
        with pytest.raises(ValueError, match=r"mask.shape\[1\] == ids.shape\[1\].*in forward"):
            ours(ids[:, :3], mask, return_hidden=True)
        with pytest.raises(TypeError, match="argument 'ids' is missing"):
            ours(mask=mask, return_hidden=True)
        with pytest.raises(TypeError, match="takes the arguments"):
            ours(ids, mask, return_hidden=True, labels=ids)
        with pytest.raises(ValueError, match="mask must be an array, got NoneType"):
            ours(ids, None, return_hidden=True)


def test_the_model_is_as_it_was():
    net, args, kwargs = torch_models.MODELS["residual_network"]()
    net.eval()
    net[1].bn.train()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    ours = jaxnn.from_torch(net, args, kwargs)
    assert [m.training for m in net.modules()].count(True) == 1
    assert not any("forward" in vars(m) for m in net.modules())
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[key])
    assert not getattr(ours, "1").bn.use_running_average
    assert getattr(ours, "0").bn.use_running_average


def test_a_layer_becomes_the_layer():
    net = nn.Linear(3, 2).bfloat16()
    ours = jaxnn.from_torch(net, torch.ones(1, 3).bfloat16())
    assert isinstance(ours, jaxnn.Linear)
    assert ours.weight.dtype == jnp.bfloat16
    assert torch.equal(to_torch(jaxnn.state_dict(ours))["weight"], net.weight)


RESTORE = """
import pickle, sys
sys.modules["torch"] = None
import jax.numpy as jnp, numpy as np, orbax.checkpoint as ocp
from flax import nnx

folder = sys.argv[1]
with open(f"{folder}/graph", "rb") as file:
    graph = pickle.load(file)
with ocp.StandardCheckpointer() as checkpointer:
    state = checkpointer.restore(f"{folder}/state")
net = nnx.merge(graph, nnx.State(state))
np.testing.assert_array_equal(net(np.load(f"{folder}/x.npy")), np.load(f"{folder}/y.npy"))
assert (net.train()(jnp.ones((2, 3, 6, 6))) != net(jnp.ones((2, 3, 6, 6)))).any()
print("restored")
"""


def test_saved_with_orbax_and_restored_without_torch(tmp_path):
    net, args, _ = torch_models.residual_network()
    net.append(nn.Dropout(0.5))
    ours = jaxnn.from_torch(net.eval(), args, rngs=nnx.Rngs(0))
    graph, state = nnx.split(ours)
    (tmp_path / "graph").write_bytes(pickle.dumps(graph))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
    x = np.random.default_rng(0).standard_normal((4, 3, 6, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", ours(x))
    done = subprocess.run(
        [sys.executable, "-c", RESTORE, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "restored", done.stderr[-2000:]


class Renamed(torch.nn.Module):
    """It translates old checkpoints, and knows them by their version."""

    _version = 2

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(2, 2)

    def forward(self, x):
        return self.inner(x)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        if local_metadata.get("version") not in (1, 2):
            raise ValueError("no version")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def test_the_version_of_a_state_dict_comes_back():
    original = torch.nn.Sequential(Renamed(), torch.nn.ReLU())
    net = jaxnn.from_torch(original, torch.ones(1, 2))
    weights = to_torch(jaxnn.state_dict(net))
    original.load_state_dict(weights, strict=True)
    assert weights._metadata == {"0": {"version": 2}}
    jaxnn.load_state_dict(net, weights)
