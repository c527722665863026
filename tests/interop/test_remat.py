"""Parts of an import that are computed again give what they gave, and keep less."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnn

torch = pytest.importorskip("torch")
tnn = torch.nn


class Block(tnn.Module):
    """Changes a buffer, draws, takes a flag and a dict, and returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = tnn.BatchNorm1d(8), tnn.Linear(8, 8)
        self.dropout = tnn.Dropout(0.5)

    def forward(self, given: dict[str, Any], flag: bool, *, shift: Any = None) -> Any:
        x = self.dropout(self.linear(self.norm(given["x"])).tanh())
        return {"x": given["x"] + x if flag else x, "shift": shift, "was": self.linear.bias}


class Net(tnn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = tnn.ModuleList(Block() for _ in range(2))
        self.layers = tnn.TransformerEncoder(
            tnn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1
        )
        self.head = tnn.Linear(8, 8)
        self.head.weight = self.blocks[0].linear.weight

    def forward(self, x: Any) -> Any:
        state, held = {"x": x}, []
        for block in self.blocks:
            state = block(state, True, shift=x)
            held.append(state["was"])
        return self.head(self.layers(state["x"][:, None])[:, 0]) + state["shift"] + sum(held)


X = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
PATTERN = r"blocks\.\d|layers\.layers\.\d"


@pytest.fixture(scope="module")
def net() -> nnx.Module:
    torch.manual_seed(0)
    return jaxnn.from_torch(Net(), torch.from_numpy(X), rngs=nnx.Rngs(0), check=False)


def step(net: nnx.Module, **options: Any) -> Any:
    """Value, gradients and the state after a call."""
    graphdef, params, rest = nnx.split(net, nnx.Param, ...)

    def loss(params: Any, rest: Any, x: Any) -> Any:
        model: Any = nnx.merge(graphdef, params, rest, copy=True)
        return (model(x, **options) ** 2).mean(), nnx.state(model, nnx.Not(nnx.Param))

    return jax.value_and_grad(loss, has_aux=True), (params, rest, jnp.asarray(X))


def numbers(tree: Any) -> list[Any]:
    leaves = jax.tree.leaves(tree)
    is_key = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return [
        jax.random.key_data(leaf) if key else leaf for leaf, key in zip(leaves, is_key, strict=True)
    ]


@pytest.mark.parametrize(
    ("mode", "is_mixed", "key"), [("train", False, None), ("train", True, 3), ("eval", False, None)]
)
def test_it_computes_the_same(net: nnx.Module, mode: str, is_mixed: bool, key: Any) -> None:
    programs = []
    for model in (net, jaxnn.remat(net, PATTERN)):
        getattr(model, mode)()
        if is_mixed:
            model = jaxnn.mixed_precision(model)  # noqa: PLW2901
        function, given = step(model, **({} if key is None else {"rngs": jax.random.key(key)}))
        text = str(jax.make_jaxpr(function)(*given))
        programs.append((numbers(jax.jit(function)(*given)), text.count("remat")))
    (wanted, none), (found, some) = programs
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert some >= none + 3


def test_the_gradient_keeps_less(net: nnx.Module) -> None:
    net.train()

    def kept(model: nnx.Module) -> int:
        x = jnp.asarray(X)
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def loss(params: Any) -> Any:
            return (nnx.merge(graphdef, params, rest, copy=True)(x) ** 2).mean()  # type: ignore[operator]

        residuals = jax.eval_shape(lambda p: jax.vjp(loss, p)[1], params)
        return sum(leaf.size for leaf in jax.tree.leaves(residuals))

    all_again = kept(jaxnn.remat(net, PATTERN))
    with_products = kept(jaxnn.remat(net, PATTERN, jax.checkpoint_policies.dots_saveable))
    assert all_again < with_products < kept(net)


def test_it_is_another_model_with_the_same_arrays(net: Any) -> None:
    saving: Any = jaxnn.remat(net, PATTERN)
    assert saving.head.bias[...] is net.head.bias[...]
    assert list(jaxnn.state_dict(saving)) == list(jaxnn.state_dict(net))
    assert saving.blocks[0].norm.running_mean is not net.blocks[0].norm.running_mean
    report = jaxnn.verify(Net().eval(), saving.eval(), torch.from_numpy(X))
    assert report.rows  # which looks into the parts


def test_what_nothing_imported_calls_is_refused(net: nnx.Module) -> None:
    with pytest.raises(ValueError, match=r"no part has a path like 'layer'; the first are"):
        jaxnn.remat(net, "layer")
    chain = jaxnn.Sequential(jaxnn.Linear(2, 2, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"0 is a Linear, and what calls it is no imported code"):
        jaxnn.remat(chain, "0")
