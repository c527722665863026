"""Exported models run in plain JAX, on any batch, with their weights inside or beside them."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.export import deserialize
from safetensors.numpy import load_file, save_file

import jaxnn
from jaxnn.interop.export import (
    PLATFORMS,
    add_export,
    export,
    export_command,
    export_with_constraints,
)

torch = pytest.importorskip("torch")
nn = torch.nn

PLAIN = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("jaxnn", "flax", "torch"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import jax, jax.export, numpy as np
from safetensors.numpy import load_file, save_file

exported = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
inputs = load_file(sys.argv[2])
weights = [load_file(path) for path in sys.argv[4:]]
save_file({"output": np.asarray(exported.call(*weights, inputs["x"]))}, sys.argv[3])
"""


class Net(nn.Module):
    """Batch normalization, a tied weight, a constant of the program, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 6, bias=False)
        self.norm = nn.BatchNorm1d(6)
        self.down = nn.Linear(6, 4, bias=False)
        self.again = nn.Linear(4, 6, bias=False)
        self.again.weight = self.up.weight
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Any) -> Any:
        x = self.down(self.dropout(self.norm(self.up(x)).relu())) + torch.arange(4.0)
        return self.again(x)


def make() -> Any:
    """Return a model in training mode and an example, as the command takes them."""
    torch.manual_seed(0)
    net = Net()
    net(torch.randn(8, 4))  # so that the running statistics are not those of a new layer
    return net, (torch.randn(2, 4),)


@pytest.fixture(scope="module")
def models() -> tuple[Any, nnx.Module]:
    original, example = make()
    return original, jaxnn.from_torch(original, example, rngs=nnx.Rngs(0), check=False)


def in_plain_jax(path: Path, x: np.ndarray, *weights: Path) -> np.ndarray:
    """Run an exported file in a process that can import neither jaxnn nor flax nor torch."""
    given, output = path.with_suffix(".in"), path.with_suffix(".out")
    save_file({"x": x}, given)
    command = [sys.executable, "-c", PLAIN, *map(str, (path, given, output, *weights))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[-3000:]
    return load_file(output)["output"]


@pytest.mark.parametrize("weights", ["inside", "arguments"])
def test_runs_in_plain_jax_with_another_batch(models: Any, weights: Any, tmp_path: Path) -> None:
    original, net = models
    path = tmp_path / "net.stablehlo"
    exported = export(net, jnp.ones((2, 4)), path, weights=weights)
    assert set(exported.platforms) == set(PLATFORMS)
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    with torch.no_grad():
        wanted = original.eval()(torch.from_numpy(x)).numpy()
    original.train()
    beside = [path.with_suffix(".safetensors")] if weights == "arguments" else []
    np.testing.assert_allclose(in_plain_jax(path, x, *beside), wanted, rtol=1e-5, atol=1e-6)
    assert not net.deterministic  # type: ignore[attr-defined]


def test_weights_as_arguments_have_torchs_keys_and_decide(models: Any, tmp_path: Path) -> None:
    original, net = models
    path = tmp_path / "net.stablehlo"
    export(net, jnp.ones((2, 4)), path, weights="arguments")
    weights = load_file(path.with_suffix(".safetensors"))
    assert set(weights) == set(original.state_dict())
    exported = deserialize(bytearray(path.read_bytes()))
    doubled = {**weights, "down.weight": 0 * weights["down.weight"]}
    output = exported.call(doubled, jnp.ones((3, 4)))
    wanted = np.broadcast_to(weights["again.weight"] @ np.arange(4.0), (3, 6))
    np.testing.assert_allclose(output, wanted, rtol=1e-5, atol=1e-6)


Pair = namedtuple("Pair", ["second", "first"])


class Structured(jaxnn.Module):
    def __call__(self, pair: Any, flag: bool, *, scale: Any = None, named: Any) -> Any:
        total = pair.first + named["y"] if flag else pair.second
        return Pair(total * scale, jaxnn.interop.Record(batch=pair.second))


def test_containers_constants_and_a_fixed_batch(tmp_path: Path) -> None:
    path = tmp_path / "structured.stablehlo"
    x, y = jnp.ones((2, 3)), jnp.full((2, 3), 4.0)
    pair, keywords = Pair(y, x), {"scale": 3, "named": {"y": y}}
    export(Structured(), (pair, True), path, keywords, dynamic=False, platforms=["cpu"])
    exported = deserialize(bytearray(path.read_bytes()))
    result = exported.call({"first": x, "second": y}, None, scale=None, named={"y": y})
    np.testing.assert_array_equal(result["second"], jnp.full((2, 3), 15.0))
    np.testing.assert_array_equal(result["first"]["batch"], y)
    assert exported.in_avals[0].shape == (2, 3)


def test_command(tmp_path: Path, capsys: Any) -> None:
    original, example = make()
    parser = argparse.ArgumentParser()
    add_export(parser.add_subparsers(), lambda options: export_command(options, *made))

    def run(*arguments: str) -> int:
        options = parser.parse_args(["export", "models:make", *arguments])
        return int(options.command(options))

    out = tmp_path / "net.stablehlo"
    made = (original, example, {})
    assert run("-o", str(out), "--platform", "cpu", "--platform", "tpu") == 0
    assert capsys.readouterr().out == f"{out}: for cpu, tpu\n"
    x = torch.randn(7, 4)
    got = deserialize(bytearray(out.read_bytes())).call(jnp.asarray(x.numpy()))
    np.testing.assert_allclose(got, original.eval()(x).detach(), rtol=1e-5, atol=1e-6)

    made = (original, (), {})
    with pytest.raises(ValueError, match="models:make returns no example arguments"):
        run("-o", str(out))


def test_refusals(models: Any, tmp_path: Path) -> None:
    _, net = models
    with pytest.raises(ValueError, match="`weights` must be one of"):
        export(net, jnp.ones((2, 4)), tmp_path / "x", weights="beside")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pass dynamic=False"):
        export(net, jnp.ones(()), tmp_path / "x")
    fixed = jaxnn.from_torch(Net(), torch.ones(2, 4), dynamic=False, check=False)
    with pytest.raises(ValueError, match=r"the model was imported for \(2, 4\)"):
        export(fixed, jnp.ones((2, 4)), tmp_path / "x")
    assert not list(tmp_path.iterdir())


# --- sizes that may differ ----------------------------------------------------------------------


def at_sizes(
    model: Any, example: tuple[Any, ...], path: Path, others: Any, **options: Any
) -> list[str]:
    """Export, compare with PyTorch at other sizes, and return what was stated of the symbols."""
    net = jaxnn.from_torch(model.eval(), example, check=False)
    _, stated = export_with_constraints(
        net, example, path, None, "inside", ["cpu"], **{"constraints": (), **options}
    )
    program = deserialize(bytearray(path.read_bytes()))
    for given in others:
        with torch.no_grad():
            wanted = model(*given)
        found = program.call(*(jnp.asarray(tensor.numpy()) for tensor in given))
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    return stated


def refused_sizes(path: Path, *shapes: tuple[int, ...]) -> None:
    exported = deserialize(bytearray(path.read_bytes()))
    for shape in shapes:
        with pytest.raises(ValueError, match=r"symbolic shape constraint|refining shapes|mismatch"):
            exported.call(jnp.zeros(shape, exported.in_avals[0].dtype))


class Words(nn.Module):
    """A convolution over words, with an embedding of their places."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(20, 8), nn.Parameter(torch.randn(64, 8))
        self.conv = nn.Conv1d(8, 6, 5)

    def forward(self, ids: Any) -> Any:
        if ids.shape[1] > 48:
            raise ValueError("too long")
        x = self.embed(ids) + self.places[: ids.shape[1]]
        return self.conv(x.transpose(1, 2)).relu().amax(-1)


def words(*shape: int) -> Any:
    return torch.randint(0, 20, shape)


def test_what_the_program_asks_of_sizes_is_stated(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "net.stablehlo"
    others = [(words(1, 5),), (words(4, 48),), (words(3, 17),)]
    for dynamic in ({"ids": "(b, s)"}, {"ids": {0: "b", -1: "s"}}):
        stated = at_sizes(Words(), (words(2, 9),), path, others, dynamic=dynamic)
        assert {"s <= 48", "s >= 5"} <= set(stated)
        refused_sizes(path, (2, 49), (2, 4))
    # The one that is not named is the example's.
    stated = at_sizes(Words(), (words(2, 9),), path, [(words(5, 9),)], dynamic={"ids": "(b, _)"})
    assert not stated
    refused_sizes(path, (2, 10))


class Pairs(nn.Module):
    """Of an even number of positions, or shorter than another sequence."""

    def forward(self, x: Any, y: Any) -> Any:
        assert x.shape[1] % 2 == 0
        x = x.reshape(x.shape[0], x.shape[1] // 2, 2).sum(-1)
        return torch.cat([x, y], 1) if x.shape[1] < y.shape[1] else x[:, : y.shape[1]] * y


def test_parities_and_orders_of_sizes(tmp_path: Path) -> None:
    path = tmp_path / "net.stablehlo"
    dynamic = {"x": "(b, s)", "y": "(b, t)"}

    def given(batch: int, s: int, t: int) -> Any:
        return torch.randn(batch, s), torch.randn(batch, t)

    stated = at_sizes(
        Pairs(), given(2, 4, 5), path, [given(3, 8, 9), given(1, 2, 7)], dynamic=dynamic
    )
    assert "mod(s, 2) == 0" in stated
    assert any("t" in constraint and "s" in constraint for constraint in stated)
    call = deserialize(bytearray(path.read_bytes())).call
    for shapes in ((2, 3, 5), (2, 8, 3)):
        with pytest.raises(ValueError, match=r"constraint|refining"):
            call(*(jnp.asarray(tensor.numpy()) for tensor in given(*shapes)))


class Images(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(6, 6, 1, 2), nn.Conv2d(6, 6, 3, groups=2),
        )  # fmt: skip
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 2)

    def forward(self, images: Any) -> Any:
        return self.head(self.pool(self.features(images)).flatten(1))


def test_images_of_any_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "net.stablehlo"
    others = [(torch.randn(1, 3, 24, 40),), (torch.randn(3, 3, 33, 21),)]
    dynamic = {"images": "(b, _, h, w)"}
    stated = at_sizes(Images(), (torch.randn(2, 3, 32, 32),), path, others, dynamic=dynamic)
    assert stated  # the last convolution's window has to fit
    refused_sizes(path, (1, 3, 4, 32))


class Hourglass(nn.Module):
    """Down and up again, which fits where the sizes are even."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(7, 3, 3, padding=1)
        self.places = nn.Parameter(torch.randn(1, 3, 4, 4))

    def forward(self, x: Any) -> Any:
        x = x + nn.functional.interpolate(self.places, x.shape[-2:], mode="bicubic")
        small = nn.functional.max_pool2d(self.down(x), 2)
        large = nn.functional.interpolate(small, scale_factor=2, mode="bilinear")
        return self.up(torch.cat([x, large], 1))


def test_sizes_that_are_multiples(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "net.stablehlo"
    example, others = (torch.randn(2, 3, 8, 16),), [(torch.randn(1, 3, 20, 10),)]
    at_sizes(Hourglass(), example, path, others, dynamic={"x": "(b, _, 2*h, 2*w)"})
    refused = r"Division had remainder 1|refining shapes"
    with pytest.raises(ValueError, match=refused):
        deserialize(bytearray(path.read_bytes())).call(jnp.zeros((1, 3, 7, 8)))
    with pytest.raises(TypeError, match="Cannot concatenate") as told:
        at_sizes(Hourglass(), example, path, [], dynamic={"x": "(b, _, h, w)"})
    assert "best written so, as in (b, _, 8*h, 8*w)" in " ".join(told.value.__notes__)
    # What is asked of a multiple is stated of its symbol.
    stated = at_sizes(
        AsIs(lambda x: x.shape[1] <= 12), (torch.randn(2, 8),), path, [(torch.randn(1, 12),)],
        dynamic={"x": "(b, 4*s)"},
    )  # fmt: skip
    assert stated == ["4*s <= 12"]
    with pytest.raises(ValueError, match=r"3\*s is 8 in the example for no s"):
        at_sizes(Either(), (torch.randn(2, 8),), path, [], dynamic={"x": "(b, 3*s)"})


class Either(nn.Module):
    def forward(self, x: Any) -> Any:
        if x.shape[1] <= 8 or x.shape[0] == 3:
            return x * 2
        return x + x.shape[0] * x.shape[1]


def test_of_several_reasons_the_examples_is_stated(tmp_path: Path) -> None:
    path = tmp_path / "net.stablehlo"
    stated = at_sizes(
        Either(), (torch.randn(2, 5),), path, [(torch.randn(4, 8),)], dynamic={"x": "(b, s)"}
    )
    assert stated == ["s <= 8"]


class AsIs(nn.Module):
    def __init__(self, condition: Any) -> None:
        super().__init__()
        self.condition = condition

    def forward(self, x: Any) -> Any:
        return x * 2 if self.condition(x) else x + 1


def test_what_cannot_be_stated_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "net.stablehlo"
    x = torch.randn(2, 8)
    with pytest.raises(ValueError, match=r"asks whether x\.shape\[1\] != 4 .*s\), at File") as told:
        at_sizes(AsIs(lambda x: x.shape[1] == 4), (x,), path, [], dynamic={"x": "(b, s)"})
    assert "test_export.py" in str(told.value)
    assert "s != 4 cannot be stated to JAX" in str(told.value)
    assert "`constraints` (--constraint)" in str(told.value)
    stated = at_sizes(
        AsIs(lambda x: x.shape[1] == 4), (x,), path, [(torch.randn(3, 5),)],
        dynamic={"x": "(b, s)"}, constraints=["s >= 5"],
    )  # fmt: skip
    assert stated == ["s >= 5"]

    def shorter(x: Any) -> Any:  # a size of one is the least that there is
        return x.shape[1] == 1

    stated = at_sizes(AsIs(shorter), (x,), path, [(torch.randn(3, 2),)], dynamic={"x": "(b, s)"})
    assert stated == ["s >= 2"]

    class Sum(nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x + y

    with pytest.raises(ValueError, match=r"b would be 2 at every call; give .* the same symbol"):
        at_sizes(Sum(), (x, x + 1), path, [], dynamic={"x": "(b, _)"})
    same = {"x": "(b, s)", "y": "(b, s)"}
    at_sizes(Sum(), (x, x + 1), path, [(torch.randn(3, 4), torch.randn(3, 4))], dynamic=same)


class Nested(jaxnn.Module):
    def __call__(self, pair: Any, *rest: Any, states: Any) -> Any:
        return pair.first.sum(0) + rest[0].sum() + states["h"][0]


def test_arrays_in_containers_are_named_by_their_places(tmp_path: Path) -> None:
    path = tmp_path / "net.stablehlo"
    x, h = jnp.ones((2, 3)), jnp.ones(3)
    given = (Pair(None, x), jnp.ones(4)), path, {"states": {"h": [h]}}
    dynamic = {"pair.first": "(n, k)", "rest[0]": "(m,)", "states['h'][0]": "(k,)"}
    exported = export(Nested(), *given, dynamic=dynamic, platforms=["cpu"])
    pair = {"first": jnp.ones((5, 2)), "second": None}
    found = exported.call(pair, jnp.ones(7), states={"h": [jnp.ones(2)]})
    np.testing.assert_array_equal(found, [13.0, 13.0])
    for wrong, message in (
        ({"pair": "(n, k)"}, r"no array of the example is called; they are pair\.first \(2, 3\),"),
        ({"pair.first": "(n,)"}, r"is '\(n,\)', but its shape is \(2, 3\)"),
        ({"pair.first": "(n, 4)"}, r"`dynamic` of pair\.first: .*different size 4"),
        ({"pair.first": {2: "n"}}, r"has the dimensions \[2\], but its shape is \(2, 3\)"),
        ({"pair.first": "(n, n)"}, r"the symbol n is 2 and 3 in the example"),
    ):
        with pytest.raises(ValueError, match=message):
            export(Nested(), *given, dynamic=wrong, platforms=["cpu"])
    with pytest.raises(TypeError, match=r'must be "batch", False, or a mapping .* got \'all\''):
        export(Nested(), *given, dynamic="all")  # type: ignore[arg-type]


def test_the_program_of_the_examples_kind_is_exported(tmp_path: Path) -> None:
    """Of several programs the one that the example takes, whatever their order."""

    class Short(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2 if x.shape[1] < 6 else x.flip(1)

    model = Short().eval()
    calls = [jaxnn.call(torch.randn(2, 4)), jaxnn.call(torch.randn(2, 9))]
    net = jaxnn.from_torch(model, examples=calls)
    for example, other, refused in ((4, 5, 6), (9, 6, 5)):
        path = tmp_path / f"{example}.stablehlo"
        export(net, jnp.ones((2, example)), path, dynamic={"x": "(b, s)"}, platforms=["cpu"])
        x = torch.randn(3, other)
        found = deserialize(bytearray(path.read_bytes())).call(jnp.asarray(x.numpy()))
        np.testing.assert_allclose(found, model(x))
        refused_sizes(path, (3, refused))


def test_sizes_of_the_command(tmp_path: Path, capsys: Any) -> None:
    parser = argparse.ArgumentParser()
    made = (Words(), (words(2, 9),), {})
    add_export(parser.add_subparsers(), lambda options: export_command(options, *made))
    out = tmp_path / "net.stablehlo"

    def run(*arguments: str) -> int:
        options = parser.parse_args(
            ["export", "models:make", "-o", str(out), "--platform", "cpu", *arguments]
        )
        return int(options.command(options))

    assert run("--dynamic", "ids=(b, s)", "--constraint", "s <= 32") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [f"{out}: for cpu", "  where s <= 32"]
    assert "  where s >= 5" in said
    refused_sizes(out, (2, 33), (2, 4))
    program = deserialize(bytearray(out.read_bytes()))
    ids = words(3, 12)
    wanted = made[0].eval()(ids).detach()
    np.testing.assert_allclose(
        program.call(jnp.asarray(ids.numpy(), jnp.int32)), wanted, 1e-4, 1e-5
    )
    for wrong in (("--dynamic", "ids"), ("--dynamic", "ids=(b, s)", "--fixed-batch")):
        with pytest.raises(SystemExit):
            run(*wrong)
    assert "must be 'NAME=(b, s)'" in capsys.readouterr().err
