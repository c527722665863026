"""Models on torch's meta device are imported without values, and filled, placed and compiled."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

import jaxnn

torch = pytest.importorskip("torch")
nn = torch.nn


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.BatchNorm1d(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.scale = nn.Parameter(torch.ones(8), requires_grad=False)

    def forward(self, x: Any) -> Any:
        return x + self.scale * self.down(self.up(self.norm(x)).relu())


class Net(nn.Module):
    """Blocks, a tied weight, and a table outside of the state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("table", torch.arange(8.0), persistent=False)

    def forward(self, ids: Any) -> Any:
        x = self.embed(ids) + self.table
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def on_meta(*, with_table: bool) -> Any:
    with torch.device("meta"):
        net = Net()
    if with_table:
        net.table = torch.arange(8.0)
    return net


IDS = torch.tensor([1, 2, 3, 1])


def abstract(net: nnx.Module) -> dict[str, bool]:
    """Whether each variable has a shape alone, by path."""
    return {
        ".".join(map(str, path)): isinstance(variable.get_value(), jax.ShapeDtypeStruct)
        for path, variable in nnx.to_flat_state(nnx.state(net))
    }


def test_all_of_it_is_shapes_of_the_right_kinds() -> None:
    net = jaxnn.from_torch(on_meta(with_table=False), IDS)
    assert all(abstract(net).values())
    whole = jaxnn.from_torch(Net(), IDS, check=False)
    one, other = nnx.state(net), nnx.state(whole)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (left.shape, left.dtype) == (right.shape, right.dtype)
    assert "no values" in str(jaxnn.interop.evidence(net))


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_filled_it_is_the_model(device: str) -> None:
    torch.manual_seed(0)
    original = Net()
    # The example may be anywhere; what has values keeps them.
    net: Any = jaxnn.from_torch(on_meta(with_table=True), IDS.to(device))
    assert not abstract(net)["table"]
    assert not jaxnn.load_state_dict(net, original.state_dict()).missing_keys
    assert not any(abstract(net).values())
    wanted = original(IDS)
    np.testing.assert_allclose(net(jnp.asarray(IDS.numpy())), wanted.detach(), 1e-5, 1e-5)


def test_a_plan_a_place_and_a_program_without_values() -> None:
    net = jaxnn.from_torch(on_meta(with_table=False).bfloat16(), IDS)
    mesh = AbstractMesh((2,), ("model",))
    plan = jaxnn.sharding.shard(net, [(".*up.weight", P("model"))], mesh)
    assert plan("blocks.1.up.weight").spec == P("model")
    graphdef, state = nnx.split(net)
    ids = jax.ShapeDtypeStruct((6,), jnp.int32)
    found = jax.eval_shape(lambda state, ids: nnx.merge(graphdef, state)(ids), state, ids)
    assert (found.shape, found.dtype) == ((6, 10), jnp.bfloat16)


def test_the_original_is_as_it_was() -> None:
    model = on_meta(with_table=True)
    was = {name: id(t) for name, t in (*model.named_parameters(), *model.named_buffers())}
    jaxnn.from_torch(model, IDS)
    assert {n: id(t) for n, t in (*model.named_parameters(), *model.named_buffers())} == was
    assert model.table.device.type == "cpu"


def test_a_tensor_of_forwards_own_without_values_is_refused() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.offset = nn.Linear(2, 2), torch.ones(2)

        def forward(self, x: Any) -> Any:
            return self.linear(x) + self.offset

    with torch.device("meta"):
        model = Plain()
    with pytest.raises(ValueError, match=r"forward contains a tensor of shape \(2,\).*buffer"):
        jaxnn.from_torch(model, torch.ones(1, 2))
