"""One import for every size that the model lets differ, and for calls of several kinds."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnn

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

draw = torch.randn


def ids(*shape: int) -> Any:
    return torch.randint(0, 50, shape)


def in_jax(value: Any) -> Any:
    return jnp.asarray(value.numpy()) if isinstance(value, torch.Tensor) else value


def agrees(net: nnx.Module, model: Any, *args: Any, **kwargs: Any) -> None:
    """Check that the import gives what the original gives."""
    with torch.no_grad():
        wanted = model(*args, **kwargs)
    got: Any = net(*map(in_jax, args), **{name: in_jax(value) for name, value in kwargs.items()})
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


class Linears(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        return self.two(F.relu(self.one(x)))


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Any, mask: Any) -> Any:
        return F.softmax(self.layer(x) @ x.transpose(-1, -2) + mask, -1)


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = (
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.Linear(8, 5),
        )

    def forward(self, x: Any) -> Any:
        return self.head(F.max_pool2d(F.relu(self.norm(self.conv(x))), 2).mean((2, 3)))


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(128, 5)

    def forward(self, x: Any) -> Any:
        return self.head(self.conv(x).flatten(1))


class Skip(nn.Module):
    """A U-Net of one level, which pads what an odd size has lost."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(8, 3, 2, 2)

    def forward(self, x: Any) -> Any:
        y = self.up(self.down(x))
        height, width = x.shape[2] - y.shape[2], x.shape[3] - y.shape[3]
        return torch.cat([x, F.pad(y, (0, width, 0, height))], 1)


class Characters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.conv = nn.Embedding(50, 8), nn.Conv1d(8, 16, 5)

    def forward(self, x: Any) -> Any:
        return self.conv(self.embed(x).transpose(1, 2)).max(-1).values


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.table = nn.Embedding(50, 8), nn.Parameter(draw(1, 32, 8))

    def forward(self, x: Any) -> Any:
        y, length = self.embed(x), x.shape[1]
        if length > 16:
            y = y * 2
        return y + self.table[:, :length]


class Halves(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.reshape(x.shape[0], 2, x.shape[1] // 2).sum(1)


SIZES: dict[str, tuple[Callable[[], Any], list[tuple[Any, ...]]]] = {
    "a batch of one": (lambda: nn.Sequential(Flat()), [(draw(1, 3, 8, 8),), (draw(4, 3, 8, 8),)]),
    "three axes": (Linears, [(draw(2, 1, 8),), (draw(1, 1, 8),), (draw(3, 4, 8),)]),
    "a mask that spreads": (
        Masked, [(draw(2, 4, 8), draw(2, 1, 4)), (draw(3, 6, 8), draw(3, 1, 6))],
    ),
    "a mask that spreads, and a batch of one": (
        Masked, [(draw(1, 4, 8), draw(1, 1, 4)), (draw(3, 6, 8), draw(3, 1, 6))],
    ),
    "one mask for all": (Masked, [(draw(2, 4, 8), draw(4, 4)), (draw(1, 1, 8), draw(1, 1))]),
    "images": (Pooled, [(draw(1, 3, 32, 32),), (draw(3, 3, 40, 24),), (draw(2, 3, 9, 7),)]),
    "equal areas": (Flat, [(draw(1, 3, 8, 8),), (draw(3, 3, 16, 4),), (draw(3, 3, 8, 7),)]),
    "odd sizes": (Skip, [(draw(1, 3, 32, 32),), (draw(3, 3, 41, 23),), (draw(1, 3, 1, 1),)]),
    "characters": (Characters, [(ids(2, 12),), (ids(1, 5),), (ids(3, 30),)]),
    "positions": (Positions, [(ids(1, 1),), (ids(1, 3),), (ids(3, 16),)]),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_an_import_is_for_sizes_that_it_has_not_seen(name: str) -> None:
    made, (example, *others) = SIZES[name]
    torch.manual_seed(0)
    model = made().eval()
    net = jaxnn.from_torch(model, example)
    for args in (example, *others):
        agrees(net, model, *args)


@pytest.mark.parametrize(
    ("model", "example", "other", "condition"),
    [
        (Positions(), ids(2, 4), ids(2, 17), r"x.shape\[1\] <= 16.*in forward"),
        (Characters(), ids(2, 12), ids(2, 4), r"x.shape\[1\] >= 5"),
        (Flat(), draw(1, 3, 8, 8), draw(1, 3, 9, 9), r"== 128.*in forward"),
        (Linears(), draw(2, 8), draw(2, 9), r"\(2, 9\).*imported for \(any, 8\).*in forward"),
        (Linears(), draw(2, 8), draw(2, 3, 8), r"\(2, 3, 8\).*imported for \(any, 8\)"),
        (Halves(), draw(2, 8), draw(2, 7), r"x.shape\[1\]"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_a_program_does_not_hold_for_is_refused_with_its_condition(
    model: Any, example: Any, other: Any, condition: str
) -> None:
    net = jaxnn.from_torch(model.eval(), example)
    with pytest.raises(ValueError, match=f"(?s){condition}"):
        net(in_jax(other))


@pytest.mark.parametrize(
    "squeezed",
    [
        lambda x: x.squeeze(),
        lambda x: x.squeeze(1),
        lambda x: torch.squeeze(x, (1, 0)),
        lambda x: torch.ops.aten.squeeze.dim(x, -2),
        lambda x: x.clone().squeeze_(1),
    ],
)
def test_a_squeeze_asks_whether_a_size_is_one(squeezed: Any) -> None:
    class Ranks(nn.Module):
        def forward(self, x: Any) -> Any:
            y = squeezed(x * 2)
            return y * 10 if y.ndim == 2 else y

    net: Any = jaxnn.from_torch(Ranks(), draw(2, 3, 8))
    agrees(net, Ranks(), draw(4, 5, 8))
    with pytest.raises(ValueError, match=r"x.shape\[1\] != 1"):
        net(jnp.ones((2, 1, 8)))


# --- several programs ---------------------------------------------------------------------------


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.table = nn.Parameter(draw(8)), draw(100)

    def forward(self, x: Any, twice: bool) -> Any:
        return x * self.weight * 2 if twice else x * self.weight + self.table[:8]


class Kinds(nn.Module):
    """A model with flags, what may be None, and a branch on a size."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.inner = nn.Linear(8, 8), Inner()

    def forward(self, x: Any, mask: Any = None, twice: bool = False) -> Any:
        y = self.inner(self.layer(x), twice)
        if mask is not None:
            y = y * mask
        return y + 1 if x.shape[1] > 6 else y


EXAMPLES = [
    jaxnn.call(draw(2, 4, 8)),
    jaxnn.call(draw(2, 4, 8), draw(2, 4, 1)),
    jaxnn.call(draw(2, 4, 8), twice=True),
    jaxnn.call(draw(3, 5, 8)),  # as the first
]


@pytest.fixture(scope="module")
def kinds() -> tuple[Any, Any]:
    torch.manual_seed(0)
    model = Kinds().eval()
    return model, jaxnn.from_torch(model, examples=EXAMPLES)


def test_calls_of_several_kinds_share_the_parameters(kinds: Any) -> None:
    model, net = kinds
    assert len(jaxnn.interop.programs(net)) == 3
    agrees(net, model, draw(1, 6, 8))
    agrees(net, model, draw(5, 1, 8), mask=draw(5, 1, 1))
    agrees(net, model, draw(1, 2, 8), twice=True)
    assert list(jaxnn.state_dict(net)) == list(model.state_dict())


def test_the_nearest_program_says_why_it_does_not_fit(kinds: Any) -> None:
    _, net = kinds
    with pytest.raises(ValueError, match=r"x.shape\[1\] <= 6.*in forward") as refused:
        net(jnp.ones((2, 7, 8)))
    assert "the nearest of 3 programs" in refused.value.__notes__[0]
    with pytest.raises(ValueError, match="mask was None at the import"):
        net(jnp.ones((2, 4, 8)), jnp.ones((2, 4, 1)), True)


def test_every_example_is_a_part_of_the_evidence(kinds: Any) -> None:
    rows = jaxnn.interop.evidence(kinds[1]).rows
    assert {row.input.partition(",")[0] for row in rows} == {
        "the example", "example 2", "example 3", "example 4", "another input",
    }  # fmt: skip
    assert all(not row.why_not and row.outputs == 1 and row.gradients for row in rows)


def test_programs_are_printed_with_their_conditions(kinds: Any) -> None:
    text = str(jaxnn.interop.programs(kinds[1]))
    assert "x: array (any, any, 8)" in text
    assert "mask: array (any, any, 1)" in text
    assert "twice: True" in text
    assert "where x.shape[1] <= 6\n" in text
    assert "test_sizes.py" in text
    assert "x.shape[2] == 8" not in text  # which the shape says
    with pytest.raises(TypeError, match="Linear has no programs"):
        jaxnn.interop.programs(kinds[1].layer)


def test_several_programs_live_where_one_does(kinds: Any) -> None:
    model, net = kinds
    x, mask = draw(3, 2, 8), draw(3, 2, 1)
    for same in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net), nnx.clone(net)):
        agrees(same, model, x)
        agrees(same, model, x, mask)
    graph, state = nnx.split(net)
    call = jax.jit(lambda state, *args: nnx.merge(graph, state)(*args))
    for args in ((x,), (x, mask)):
        np.testing.assert_allclose(
            call(state, *map(in_jax, args)), model(*args).detach(), rtol=1e-5, atol=1e-5
        )
    forward = nnx.jit_partial(lambda net, *args: net(*args), net, graph=False)
    np.testing.assert_allclose(forward(in_jax(x)), model(x).detach(), rtol=1e-5, atol=1e-5)


def test_a_batch_of_one_may_have_a_program_of_its_own() -> None:
    class Spreads(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2 if x.shape[0] == 1 else x + x.mean(0)

    for example in (draw(1, 4), draw(3, 4)):
        net = jaxnn.from_torch(Spreads(), example)
        assert len(jaxnn.interop.programs(net)) == 2
        for batch in (1, 2, 5):
            agrees(net, Spreads(), draw(batch, 4))


# --- what may differ is the user's to say ---------------------------------------------------------


def shape_of(dynamic: Any, **options: Any) -> str:
    net = jaxnn.from_torch(Kinds().eval(), draw(2, 4, 8), dynamic=dynamic, check=False)
    return jaxnn.interop.programs(net).rows[0].arguments[0][1]


@pytest.mark.parametrize(
    ("dynamic", "shape"),
    [
        ("auto", "array (any, any, 8)"),
        ("batch", "array (any, 4, 8)"),
        (False, "array (2, 4, 8)"),
        ({"x": {1: "length"}}, "array (2, any, 8)"),
        ({"x": {0: "batch", -2: "length"}}, "array (any, any, 8)"),
    ],
)
def test_dynamic_says_which_sizes_may_differ(dynamic: Any, shape: str) -> None:
    assert shape_of(dynamic) == shape


@pytest.mark.parametrize(
    ("dynamic", "kind", "message"),
    [
        ({"x": {2: "width"}}, ValueError, "'width', dimension 2 of x.*8 alone.*in forward"),
        ({"y": {0: "batch"}}, ValueError, "'y', which is no tensor of the example; it has x"),
        ({"x": {5: "r"}}, ValueError, "dimension 5 of x, which has 3"),
        ("all", TypeError, "got 'all'"),
        (True, TypeError, "got True"),
    ],
)
def test_what_dynamic_cannot_say_is_refused(dynamic: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=f"(?s){message}"):
        shape_of(dynamic)


def test_sizes_of_one_name_are_one_size() -> None:
    class Sums(nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x.sum(1) + y.sum(1)

    dynamic = {"x": {1: "length"}, "y": {1: "length"}}
    net = jaxnn.from_torch(Sums(), (draw(2, 3), draw(2, 3)), dynamic=dynamic)
    agrees(net, Sums(), draw(2, 5), draw(2, 5))
    with pytest.raises(ValueError, match="where both are 'length'"):
        net(jnp.ones((2, 5)), jnp.ones((2, 4)))


def test_names_hold_for_calls_of_several_kinds_and_for_a_size_of_one() -> None:
    class Steps(nn.Module):
        def forward(self, x: Any, kept: Any = None) -> Any:
            if x.shape[1] == 1:  # as a decoder that reads one token
                x = x * 2.0
            x = x - 1 if x.shape[0] != 1 else x
            return x if kept is None else torch.cat([kept, x], 1)

    calls = [jaxnn.call(draw(2, 5)), jaxnn.call(draw(2, 5), draw(2, 3)), jaxnn.call(draw(2, 1))]
    dynamic = {"x": {0: "batch", 1: "length"}, "kept": {0: "batch", 1: "slots"}}
    net = jaxnn.from_torch(Steps(), examples=calls, dynamic=dynamic)
    for batch in (1, 3):
        for length in (1, 4):
            agrees(net, Steps(), draw(batch, length))
        agrees(net, Steps(), draw(batch, 4), draw(batch, 6))
    with pytest.raises(ValueError, match=r"names 'held', which is no tensor of .* x, kept"):
        jaxnn.from_torch(Steps(), examples=calls, dynamic={"held": {0: "batch"}})


def test_what_is_called_otherwise_now_says_so() -> None:
    with pytest.raises(TypeError, match=r'dynamic_batch=True is now dynamic="batch"'):
        jaxnn.from_torch(Linears(), draw(2, 8), dynamic_batch=True)
    with pytest.raises(TypeError, match="unknown argument 'dynamics'"):
        jaxnn.from_torch(Linears(), draw(2, 8), dynamics=True)
    with pytest.raises(TypeError, match="give an example of a call"):
        jaxnn.from_torch(Linears())
    with pytest.raises(TypeError, match="not both"):
        jaxnn.from_torch(Linears(), draw(2, 8), examples=[jaxnn.call(draw(2, 8))])
    with pytest.raises(TypeError, match=r"made by jaxnn.call\(...\); got tuple"):
        jaxnn.from_torch(Linears(), examples=[(draw(2, 8),)])  # type: ignore[list-item]


# --- capturing more -------------------------------------------------------------------------------


def test_a_call_that_no_program_fits_captures_the_original_once_more() -> None:
    torch.manual_seed(0)
    model = Kinds().eval()
    net: Any = jaxnn.from_torch(model, draw(2, 4, 8), recapture=True)
    agrees(net, model, draw(2, 7, 8))
    assert len(jaxnn.interop.programs(net)) == 2
    # While it is traced, where the arguments have no values.
    call = jax.jit(lambda net, x, mask: net(x, mask))
    x, mask = draw(2, 4, 8), draw(2, 4, 1)
    got = call(net, in_jax(x), in_jax(mask))
    np.testing.assert_allclose(got, model(x, mask).detach(), rtol=1e-5, atol=1e-5)
    assert len(jaxnn.interop.programs(net)) == 3
    agrees(net, model, x, mask)
    agrees(net, model, draw(2, 9, 8), draw(2, 9, 1), True)
    assert len(jaxnn.interop.programs(net)) == 4
    stored = pickle.loads(pickle.dumps(net))  # without the original
    agrees(stored, model, draw(3, 9, 8), draw(3, 9, 1), True)
    with pytest.raises(ValueError, match=r"x.shape\[1\] > 6"):
        stored(jnp.ones((2, 3, 8)), jnp.ones((2, 3, 1)), True)


def test_the_parts_of_a_container_may_need_programs_that_come_later() -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.Sequential(nn.Linear(1, 1), Halves())

        def forward(self, x: Any) -> Any:
            return self.parts(x[..., None])[..., 0] + 1

    class Halves(nn.Module):
        def forward(self, x: Any) -> Any:
            if x.shape[1] % 2:
                return x * 3.0
            return torch.cat([x[:, ::2].sin(), x[:, 1::2]], 1)

    torch.manual_seed(0)
    for model in (nn.Sequential(Halves(), nn.ReLU()), Around()):
        net: Any = jaxnn.from_torch(model.eval(), draw(2, 4), recapture=True)
        assert net.eval()(jnp.ones((2, 5))).shape == (2, 5)
        for size in (4, 5, 8, 9):
            agrees(net, model, draw(3, size))
        assert len(jaxnn.interop.programs(net)) == 2
        assert jaxnn.state_dict(net).keys() == model.state_dict().keys()


def test_what_is_captured_later_is_proved_too() -> None:
    class Sees(nn.Module):
        """It gives other results than what it was captured with."""

        def __init__(self) -> None:
            super().__init__()
            self.sign = 1.0

        def forward(self, x: Any, negative: bool = False) -> Any:
            return x * (2.0 if negative else 1.0) * self.sign

    model = Sees()
    net: Any = jaxnn.from_torch(model, draw(2, 3), recapture=True)
    with pytest.raises(ValueError, match="cannot capture"):
        net(jnp.ones((2, 3)), jnp.ones((2, 3)))  # an array for a flag
    assert len(jaxnn.interop.programs(net)) == 1
    agrees(net, model, draw(2, 3), True)


# --- without torch --------------------------------------------------------------------------------

_WITHOUT_TORCH = """
import pickle, sys
sys.modules["torch"] = None  # an import of it fails
import jax.numpy as jnp
import jaxnn
with open(sys.argv[1], "rb") as file:
    net = pickle.load(file)
x = jnp.ones((3, 2, 8))
print(net(x).shape, net(x, twice=True).shape, jaxnn.interop.evidence(net).ok)
print(jaxnn.interop.programs(net))
try:
    net(jnp.ones((3, 9, 8)))
except ValueError as error:
    print(error)
"""


def test_a_pickle_of_several_programs_runs_without_torch(kinds: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.pickle"
    path.write_bytes(pickle.dumps(kinds[1]))
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "(3, 2, 8) (3, 2, 8) True" in done.stdout
    assert "where x.shape[1] <= 6" in done.stdout
    assert "the model was imported for sizes with x.shape[1] <= 6" in done.stdout


def test_several_programs_are_stored_and_parted_as_one(kinds: Any, tmp_path: Path) -> None:
    ocp = pytest.importorskip("orbax.checkpoint")
    model, net = kinds
    graph, state = nnx.split(net)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "net", nnx.to_pure_dict(state))
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "net", nnx.to_pure_dict(state))
    nnx.replace_by_pure_dict(state, restored)
    again = nnx.merge(graph, state)
    agrees(again, model, draw(3, 2, 8), draw(3, 2, 1))
    mesh = jax.make_mesh((1,), ("data",))
    parted = nnx.clone(net)
    jaxnn.sharding.shard(parted, [(".*", jax.sharding.PartitionSpec())], mesh)
    agrees(parted, model, draw(3, 2, 8), twice=True)
