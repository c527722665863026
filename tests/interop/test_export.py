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
from jaxnn.interop.export import PLATFORMS, add_export, export, export_command

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
    export(Structured(), (pair, True), path, keywords, dynamic_batch=False, platforms=["cpu"])
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
    with pytest.raises(ValueError, match="pass dynamic_batch=False"):
        export(net, jnp.ones(()), tmp_path / "x")
    fixed = jaxnn.from_torch(Net(), torch.ones(2, 4), dynamic=False, check=False)
    with pytest.raises(ValueError, match=r"the model was imported for \(2, 4\)"):
        export(fixed, jnp.ones((2, 4)), tmp_path / "x")
    assert not list(tmp_path.iterdir())
