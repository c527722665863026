"""`jaxnn port` writes files that one would keep, and `jaxnn verify` proves them without torch."""

from __future__ import annotations

import ast
import base64
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import adversarial_models
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch_models
from flax import nnx
from safetensors.numpy import load_file, save_file
from torch import nn
from torch.nn import functional as F

import jaxnn
from jaxnn.cli import main
from jaxnn.interop import PortError, check_port, load_port, port
from jaxnn.interop.porting.wrapping import wrapped

# What is ported relies on JAX's promotion, as any code does that people write.
pytestmark = pytest.mark.standard_promotion


class Block(nn.Module):
    def __init__(self, channels: int, out: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.layer1 = nn.Sequential(*(Block(4, 4) for _ in range(3)))
        self.layer2 = nn.Sequential(Block(4, 8, 2), Block(8, 8))
        self.layer3 = nn.Sequential(Block(8, 16, 2), Block(16, 16))
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Dropping(nn.Module):
    """Drops by a layer and by a function; has parameters in containers, frozen ones, constants."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 6).requires_grad_(False)
        self.lists = nn.ParameterList([torch.randn(6), torch.randn(2, 6)])
        self.dicts = nn.ParameterDict({"bias": torch.randn(6)})
        self.drop = nn.Dropout(0.5)
        self.register_buffer("large", torch.arange(600.0).reshape(100, 6) / 600, persistent=False)

    def forward(self, ids, *, scale: float = 1.0):
        x = self.table(ids) * self.lists[0] + self.dicts["bias"] + self.lists[1].sum(0)
        x = F.dropout(self.drop(x), 0.5, self.training) * scale
        return x + self.large[: ids.shape[1]] + torch.arange(6.0)


def resnet():
    return ResNet(), (torch.randn(2, 3, 8, 8),)


def dropping():
    return Dropping(), (torch.randint(0, 7, (2, 3)),), {"scale": 2.0}


MODELS: dict[str, Any] = {**torch_models.MODELS, "resnet": resnet, "dropping": dropping}
WITHOUT_TORCH = ["dropping", "tied_language_model", "views"]


@pytest.fixture(scope="module")
def ported(tmp_path_factory) -> Any:
    """Each model with its call, the folder of its port and the report, made when asked for."""
    base = tmp_path_factory.mktemp("ported")
    made: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in made:
            torch.manual_seed(0)
            module, *call = MODELS[name]()
            # Statistics and scales that are not those of the start.
            with torch.no_grad():
                for key, tensor in [*module.named_parameters(), *module.named_buffers()]:
                    if tensor.is_floating_point() and "running_var" not in key:
                        tensor.add_(torch.randn(tensor.shape) * 0.05)
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                report = port(module, *call, folder=base / name, check=name == "views")
            made[name] = (module, call, base / name, report)
        return made[name]

    return get


@pytest.mark.parametrize("name", MODELS)
def test_the_port_is_the_model(ported, name):
    module, _, folder, report = ported(name)
    assert report.ok, str(report)
    assert sorted(path.name for path in folder.iterdir()) == [
        "model.py",
        "parity.json",
        "weights.safetensors",
    ]
    floats = [key for key, p in module.named_parameters() if p.requires_grad]
    assert {*floats, "output 0"} <= {row.name for row in report.rows}


@pytest.mark.parametrize("name", MODELS)
def test_the_text_is_clean(ported, name):
    folder = ported(name)[2]
    for command in (["check", "--select", "E,F"], ["format", "--check"]):
        options = ["--isolated", "--line-length", "100", str(folder / "model.py")]
        found = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *options],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert found.returncode == 0, found.stdout + found.stderr
    imported = {
        line.split()[1].partition(".")[0]
        for line in (folder / "model.py").read_text().splitlines()
        if line.startswith(("import ", "from "))
    }
    assert imported <= {"jax", "flax", "jaxnn", "collections"}


RESNET = '''"""ResNet, ported from PyTorch by jaxnn.

`jaxnn.interop.load_port(FOLDER)` gives the model with its weights.
"""

from flax import nnx

import jaxnn
import jaxnn.functional as F
from jaxnn.interop import ported


class Block(jaxnn.Module):
    """Block of test_port."""

    def __init__(self, channels, *, rngs):
        self.conv1 = jaxnn.Conv2d(channels, channels, 3, padding=1, bias=False, rngs=rngs)
        self.bn1 = jaxnn.BatchNorm2d(channels)
        self.relu = jaxnn.ReLU()
        self.conv2 = jaxnn.Conv2d(channels, channels, 3, padding=1, bias=False, rngs=rngs)
        self.bn2 = jaxnn.BatchNorm2d(channels)

    def __call__(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out = out + x
        return self.relu(out)


class Block2(jaxnn.Module):
    """Block of test_port."""

    def __init__(self, in_channels, channels, *, rngs):
        self.conv1 = jaxnn.Conv2d(
            in_channels, channels, 3, stride=2, padding=1, bias=False, rngs=rngs
        )
        self.bn1 = jaxnn.BatchNorm2d(channels)
        self.relu = jaxnn.ReLU()
        self.conv2 = jaxnn.Conv2d(channels, channels, 3, padding=1, bias=False, rngs=rngs)
        self.bn2 = jaxnn.BatchNorm2d(channels)
        self.downsample = jaxnn.Sequential(
            jaxnn.Conv2d(in_channels, channels, 1, stride=2, bias=False, rngs=rngs),
            jaxnn.BatchNorm2d(channels),
        )

    def __call__(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        identity = self.downsample(x)
        out = out + identity
        return self.relu(out)


class ResNet(jaxnn.Module):
    """ResNet of test_port."""

    def __init__(self, *, rngs):
        self.stem = jaxnn.Conv2d(3, 4, 3, padding=1, rngs=rngs)
        self.layer1 = jaxnn.Sequential(*(Block(channels=4, rngs=rngs) for _ in range(3)))
        self.layer2 = jaxnn.Sequential(
            Block2(in_channels=4, channels=8, rngs=rngs), Block(channels=8, rngs=rngs)
        )
        self.layer3 = jaxnn.Sequential(
            Block2(in_channels=8, channels=16, rngs=rngs), Block(channels=16, rngs=rngs)
        )
        self.fc = jaxnn.Linear(16, 5, rngs=rngs)

    def __call__(self, x):
        ported.require_shape(x, "x", (None, 3, None, None))
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(F.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def make(*, rngs=None):
    """Return the model; its weights are drawn."""
    rngs = nnx.Rngs(0) if rngs is None else rngs
    return ResNet(rngs=rngs)
'''


def test_the_text_is_what_one_would_write(ported):
    assert (ported("resnet")[2] / "model.py").read_text() == RESNET


@pytest.mark.parametrize(
    "name", ["FrozenStatistics", "TrainsInEvaluation", "statistics_frozen_in_forward"]
)
def test_parts_keep_modes_of_their_own(tmp_path, name):
    case = adversarial_models.CASES[name]
    assert port(case.make(), case.args(), folder=tmp_path / name, check=False).ok
    nets = load_port(tmp_path / name), jaxnn.from_torch(case.make(), case.args(), check=False)
    for mode in ("train", "eval"):
        ours, theirs = (averages(getattr(net, mode)()) for net in nets)
        assert ours == theirs


def averages(net: nnx.Module) -> dict[Any, bool]:
    """Whether each layer with running statistics uses them, by its path."""
    found = {
        path: node.use_running_average
        for path, node in nnx.iter_modules(net)
        if hasattr(node, "use_running_average")
    }
    assert found
    return found


SHARED = ["shared_modules", "shared_with_a_layer", "shared_with_blocks", "tied_language_model"]


@pytest.mark.parametrize("name", SHARED)
def test_what_is_shared_stays_one_variable(ported, name):
    module, call, folder, _ = ported(name)
    nets = load_port(folder), jaxnn.from_torch(module, *call, check=False)
    keys = list(module.state_dict())
    for net in nets:
        assert len(jax.tree.leaves(nnx.state(net, nnx.Param))) == len(list(module.parameters()))
        assert list(jaxnn.state_dict(net)) == keys
        values = {
            key: np.full(t.shape, i) for i, (key, t) in enumerate(module.state_dict().items())
        }
        jaxnn.load_state_dict(net, values)
        loaded = jaxnn.state_dict(net)
        for names in shared_names(module).values():
            assert len({float(loaded[key].reshape(-1)[0]) for key in names}) == 1, names


def shared_names(module: nn.Module) -> dict[int, list[str]]:
    """The keys of the state dict under which each tensor stands, by its identity."""
    found: dict[int, list[str]] = {}
    for key, tensor in module.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), []).append(key)
    assert any(len(keys) > 1 for keys in found.values())
    return found


def test_names_loops_and_kinds(ported):
    text = (ported("tied_language_model")[2] / "model.py").read_text()
    assert "q, k, v = " in text
    assert "self.blocks = jaxnn.ModuleList([Attention(rngs=rngs) for _ in range(2)])" in text
    assert 'ported.tie(self, {"head.weight": "token.weight"})' in text
    assert "return_hidden" not in text
    text = (ported("transformer")[2] / "model.py").read_text()
    assert "for layer in self.layers:\n            output = layer(output, " in text
    text = (ported("residual_network")[2] / "model.py").read_text()
    assert "self.calls[...] = self.calls[...] + 1\n" in text
    text = (ported("dropping")[2] / "model.py").read_text()
    assert "aten.dropout(self.draw(rngs), " in text
    assert "0.5, train=not self.deterministic)" in text
    assert 'ported.freeze(jaxnn.Embedding(7, 6, rngs=rngs), "weight")' in text
    assert "scale" not in text


def torch_free(code: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run code in a process where torch cannot be imported."""
    begin = "import sys; sys.modules['torch'] = None\n"
    command = [sys.executable, "-c", begin + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_proves_ports_without_torch(ported):
    folders = [ported(name)[2] for name in WITHOUT_TORCH]
    code = """
from jaxnn.cli import main
print(*(main(["verify", folder, "--device", "cpu"]) for folder in sys.argv[1:]))
assert sys.modules["torch"] is None
"""
    found = torch_free(code, *folders)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == "0 0 0"
    assert "views: agrees (" in found.stdout


def test_one_wrong_weight_departs(ported, tmp_path, capsys):
    folder = shutil.copytree(ported("resnet")[2], tmp_path / "wrong")
    weights = load_file(folder / "weights.safetensors")
    key = "layer2.0.downsample.0.weight"
    weights[key] = weights[key].copy()
    weights[key][0, 0] *= -1
    save_file(weights, folder / "weights.safetensors")
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "departs" in out
    report = check_port(folder)
    assert not report.ok
    # What departs stands on top.
    rows = [line for line in str(report).splitlines() if " ok " in line or "departs" in line]
    assert "departs" in rows[0]


def flat(value: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(value)]


@pytest.mark.parametrize(
    "name", [n for n in MODELS if n not in ("dropping", "recurrent", "transformer", "resnet")]
)
def test_training_is_that_of_the_import(ported, name):
    module, call, folder, _ = ported(name)
    net = jaxnn.from_torch(module, *call, check=False)
    port = load_port(folder, rngs=nnx.Rngs(0))
    net.train()
    port.train()
    parity = json.loads((folder / "parity.json").read_text())
    args, kwargs = jaxnn.interop.porting.parity._given(parity["calls"][0], folder)
    constants = dict(call[1]) if len(call) > 1 else {}
    ours = port(*args, **kwargs)
    theirs = net(*as_arrays(call[0]), **as_arrays(constants))
    for one, other in zip(flat(ours), flat(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)
    state, wanted = jaxnn.state_dict(port), jaxnn.state_dict(net)
    assert list(state) == list(wanted) == list(module.state_dict())
    for key, array in wanted.items():
        np.testing.assert_allclose(state[key], array, rtol=2e-5, atol=2e-6, err_msg=key)


def as_arrays(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return jnp.asarray(value.numpy())
    if isinstance(value, dict):
        return {name: as_arrays(item) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(as_arrays, value))
    return tuple(map(as_arrays, value)) if isinstance(value, tuple) else value


def test_what_draws_draws_from_the_key(ported):
    net = load_port(ported("dropping")[2], rngs=nnx.Rngs(0))
    ids = jnp.zeros((2, 3), int)
    quiet = net(ids)
    net.train()
    first, second = net(ids, rngs=jax.random.key(1)), net(ids, rngs=jax.random.key(2))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, net(ids, rngs=jax.random.key(1)))
    assert not np.array_equal(net(ids), net(ids))
    net.eval()
    assert np.array_equal(net(ids), quiet)
    # Three quarters are dropped, by the two in turn.
    net.train()
    dropped = net(jnp.zeros((900, 3), int)) - net.large[:3] - jnp.arange(6.0)
    assert abs(float((abs(dropped) < 1e-4).mean()) - 0.75) < 0.02
    assert isinstance(net.table.weight, jaxnn.Frozen)
    alone = load_port(ported("dropping")[2])
    alone.train()
    assert alone(ids).shape == (2, 3, 6)


def test_wide_models_are_proved_to_1e_9(tmp_path):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh()).double()
    report = port(net, torch.randn(2, 3, dtype=torch.float64), folder=tmp_path / "wide")
    assert report.ok
    assert max(row.relative for row in report.rows) < 1e-12
    assert "dtype=float" in (tmp_path / "wide" / "model.py").read_text()


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        b, n, m, d = x.shape
        return self.linear(x.reshape(b * n * m, d)).reshape(b, n, m, d)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Tokens(), Tokens()

    def forward(self, x):
        rows = x.reshape(x.shape[0] * 3 * 2, 4).tanh()
        return self.second(self.first(rows.reshape(x.shape)))


def test_products_of_sizes_are_written_once(tmp_path):
    assert port(Twice(), torch.randn(2, 3, 2, 4), folder=tmp_path / "twice").ok
    lines = (tmp_path / "twice" / "model.py").read_text().splitlines()
    reshapes = [line.strip() for line in lines if "x.reshape(" in line and "linear" in line]
    assert len(reshapes) == 1  # one class for both


class ScaledEmbedding(nn.Embedding):
    def __init__(self):
        super().__init__(4, 3)
        self.register_buffer("scale", torch.tensor(3.0), persistent=False)

    def forward(self, ids):
        return super().forward(ids) * self.scale


def test_buffers_without_a_dimension_come_back(tmp_path):
    assert port(ScaledEmbedding(), torch.tensor([[1, 2]]), folder=tmp_path / "scaled").ok


def test_large_arrays_are_sampled(tmp_path):
    report = port(nn.Linear(100, 90), torch.randn(2, 100), folder=tmp_path / "large")
    assert report.ok
    parity = json.loads((tmp_path / "large" / "parity.json").read_text())
    weight = parity["calls"][0]["gradients"]["weight"]
    assert weight["shape"] == [90, 100]
    assert len(weight["positions"]) == 4096
    assert max(weight["positions"]) < 9000


# --- called wrongly -----------------------------------------------------------------------------

FACTORIES = """
import torch
def good(): return torch.nn.Linear(2, 3), (torch.ones(1, 2),)
def named(): return torch.nn.Linear(2, 3), (), {"input": torch.ones(1, 2)}
def nothing(): return 3
def unsupported():
    class Net(torch.nn.Module):
        def forward(self, x): return x.nonzero()
    return Net(), (torch.ones(1, 2),)
number = 3
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    (tmp_path / "factories_of_test.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "factories_of_test", raising=False)
    return tmp_path


def test_the_commands(factories, capsys):
    assert main(["port", "factories_of_test:good", "-o", "out"]) == 0
    assert "out/model.py: agrees (8 of 8 agree)" in capsys.readouterr().out
    assert main(["verify", "out"]) == 0
    assert main(["verify", "factories_of_test:good"]) == 0
    out = capsys.readouterr().out
    assert "factories_of_test:good in evaluation mode: agrees (1 of 1 agree)" in out
    assert "factories_of_test:good in training mode: agrees (1 of 1 agree)" in out
    assert main(["port", "factories_of_test:good", "-o", "out"]) == 2
    assert "out holds files already" in capsys.readouterr().err
    assert main(["port", "factories_of_test:named", "-o", "out", "--force"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["port", "factories_of_test", "-o", "x"], "must be MODULE:FACTORY"),
        (["port", "no_such_module:f", "-o", "x"], "cannot import 'no_such_module'"),
        (["port", "factories_of_test:none", "-o", "x"], "has no 'none'"),
        (["port", "factories_of_test:number", "-o", "x"], "must be a function, is int"),
        (["port", "factories_of_test:nothing", "-o", "x"], "must return a torch.nn.Module"),
        (["port", "factories_of_test:unsupported", "-o", "x"], "nonzero"),
        (["verify", "no-folder"], "no-folder is no port"),
        (["verify", "factories_of_test:good", "--device", "quantum"], "--device quantum"),
    ],
)
def test_called_wrongly(factories, capsys, arguments, message):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("jaxnn: ")
    assert message in err
    assert not (factories / "x").exists()


def test_a_gradient_that_departs_at_a_kink_is_judged_in_float64(ported, tmp_path):
    folder = shutil.copytree(ported("resnet")[2], tmp_path / "kink")
    parity = json.loads((folder / "parity.json").read_text())
    (kept, *_) = parity["calls"]
    name = next(iter(kept["gradients"]))
    # As where a ReLU's input is zero but for rounding.
    zeros = np.zeros_like(jaxnn.interop.porting.as_json.array_from_json(kept["gradients"][name]))
    kept["gradients"][name]["data"] = base64.b64encode(zeros.tobytes()).decode()
    (folder / "parity.json").write_text(json.dumps(parity))
    report = jaxnn.interop.check_port(folder)
    assert report.ok
    assert f"{name} (float64)" in [row.name for row in report.rows]
    kept["gradients in float64"][name] = kept["gradients"][name]
    (folder / "parity.json").write_text(json.dumps(parity))
    assert [row.name for row in jaxnn.interop.check_port(folder).rows if not row.agrees] == [name]


def test_a_port_is_proved_at_two_sizes_and_one_of_the_old_form_at_its_one(ported, tmp_path):
    folder = shutil.copytree(ported("resnet")[2], tmp_path / "old")
    parity = json.loads((folder / "parity.json").read_text())
    shapes = [call["args"]["tuple"][0]["shape"] for call in parity["calls"]]
    assert shapes == [[2, 3, 8, 8], [3, 3, 9, 9]]
    names = [row.name for row in check_port(folder).rows]
    assert {"output 0", "output 0, another input, (2→3, 3, 8→9, 8→9)"} <= set(names)
    wrong = np.zeros(15, np.float32)
    kept = parity["calls"][1]["outputs"][0]
    kept["data"] = base64.b64encode(wrong.tobytes()).decode()
    (folder / "parity.json").write_text(json.dumps(parity))
    departs = [row.name for row in check_port(folder).rows if not row.agrees]
    assert departs == ["output 0, another input, (2→3, 3, 8→9, 8→9)"]
    first = parity["calls"][0]
    old = {"format": "jaxnn-parity/1", "mode": parity["mode"], **first}
    (folder / "parity.json").write_text(json.dumps(old))
    assert [row.name for row in check_port(folder).rows] == names[: len(names) // 2]


def damage(folder: Path, file: str, change: Any) -> None:
    path = folder / file
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("weights.safetensors", lambda data: data[:-9], "weights.safetensors is damaged"),
        ("weights.safetensors", None, "weights.safetensors is missing"),
        ("parity.json", lambda data: data[:-9], "parity.json is damaged"),
        ("parity.json", lambda data: b"{}", "parity.json is no jaxnn-parity/2 file"),
        ("parity.json", lambda data: data.replace(b'"dtype"', b'"kind"'), "parity.json is damaged"),
        (
            "parity.json",
            lambda data: data.replace(b'"data": "', b'"data": "!'),
            "parity.json is damaged",
        ),
        ("model.py", lambda data: b"def make(:", "model.py cannot be run: SyntaxError"),
        ("model.py", lambda data: b"x = 1", "has no function make"),
        ("model.py", None, "is no port"),
    ],
)
def test_damaged_ports_are_named(ported, tmp_path, capsys, file, change, message):
    folder = shutil.copytree(ported("views")[2], tmp_path / "damaged")
    if change is None:
        (folder / file).unlink()
    else:
        damage(folder, file, change)
    assert main(["verify", str(folder)]) == 2
    assert message in capsys.readouterr().err
    with pytest.raises(PortError):
        check_port(folder)


def expression(draw: random.Random, depth: int) -> str:
    """A nested expression with names of any length."""

    def inner() -> str:
        return expression(draw, depth - 1)

    name = "name_" + "x" * draw.randrange(12)
    if not depth:
        return name
    items = ", ".join(inner() for _ in range(draw.randrange(4)))
    return draw.choice([
        lambda: name, lambda: f"({inner()} + {inner()}) * {inner()}", lambda: f"{name}({items})",
        lambda: f"{name}[{inner()}]", lambda: f"{name}[{inner()}, {inner()}]",
        lambda: f"({inner()},)", lambda: f"({inner()}, {inner()})", lambda: f"[{items}]",
        lambda: f"({inner()}) == ({inner()} // {inner()})",
    ])()  # fmt: skip


def test_a_broken_line_means_what_it_meant() -> None:
    """Of one expression in parentheses, or one index, a comma would make a tuple."""
    draw = random.Random(0)
    for _ in range(1000):
        statement = f"y = {expression(draw, draw.randrange(1, 6))}"
        lines = "\n".join(wrapped(statement))
        assert ast.dump(ast.parse(lines)) == ast.dump(ast.parse(statement)), statement


class TwoBatches(nn.Module):
    """A condition on the sizes of two arguments that takes more than a line."""

    def forward(self, encoded_features, decoder_positions):
        flat = encoded_features.reshape(-1, 16)
        return flat.reshape(decoder_positions.shape[0], -1, 16) + decoder_positions[:, None, None]


def test_a_long_condition_on_sizes_is_checked(tmp_path: Path) -> None:
    given = torch.randn(2, 5, 32), torch.ones(2)
    assert port(TwoBatches(), given, folder=tmp_path).ok
    net = load_port(tmp_path)
    assert net(jnp.ones((3, 5, 32)), jnp.ones(3)).shape == (3, 10, 16)
    with pytest.raises(ValueError, match="the model was ported for sizes with"):
        net(jnp.ones((3, 5, 32)), jnp.ones(4))


class Halves(nn.Module):
    """Takes an even number of rows; the number of its steps is a size of the example."""

    def forward(self, x):
        half = x.shape[1] // 2
        first, second = x[:, :half], x[:, half:]
        for step in range(x.shape[2]):
            first = first + second[:, :, step : step + 1]
        return first


def test_sizes_that_the_port_has_as_constants_are_required(tmp_path: Path) -> None:
    assert port(Halves(), torch.randn(2, 6, 4), folder=tmp_path).ok
    net = load_port(tmp_path)
    for shape in ((5, 6, 4), (1, 10, 4)):
        x = torch.randn(shape)
        np.testing.assert_allclose(net(jnp.asarray(x.numpy())), Halves()(x), rtol=1e-6)
    for shape in ((2, 6, 5), (6, 4)):
        with pytest.raises(ValueError, match=r"x has shape .* was ported for \(any, any, 4\)"):
            net(jnp.ones(shape))
    with pytest.raises(ValueError, match=r"x\.shape\[1\] % 2 == 0 \(test_port\.py, line \d+"):
        net(jnp.ones((2, 7, 4)))


class Calls(nn.Sequential):
    """Calls its parts in turn, of which one has a size as a constant."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 6), Halves())

    def forward(self, x):
        return self[1](self[0](x.mT).mT)


@pytest.mark.parametrize("model", [nn.Sequential(nn.Tanh(), Halves()), Calls()])
def test_a_chain_of_parts_requires_what_they_do(model: nn.Module, tmp_path: Path) -> None:
    assert port(model, torch.randn(2, 6, 4), folder=tmp_path).ok
    with pytest.raises(ValueError, match="was ported for"):
        load_port(tmp_path)(jnp.ones((2, 6, 5)))


def test_a_chain_of_layers_takes_every_size_that_they_take(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(2)))
    assert port(model, torch.randn(2, 3, 8, 8), folder=tmp_path).ok
    assert load_port(tmp_path)(jnp.ones((1, 3, 9, 7))).shape == (1, 4, 2, 2)


# --- several programs ---------------------------------------------------------------------------


class Masked(nn.Module):
    """Takes a mask or not, and a flag."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x, mask=None, *, causal=False):
        y = self.linear(x)
        scores = y @ y.mT
        if mask is not None:
            scores = scores.masked_fill(mask[:, None] == 0, -1e9)
        if causal:
            scores = scores.masked_fill(~torch.ones(scores.shape[1:]).tril().bool(), -1e9)
        return scores.softmax(-1) @ y


MASKED = """
    def __call__(self, x, mask=None, *, causal=False):
        if mask is None and not causal:
            return self.without_mask(x)
        if mask is not None and not causal:
            return self.with_mask(x, mask)
        if mask is None and causal:
            return self.causal(x)
        raise ValueError(
            "Masked was ported for calls where mask is None and not causal; or mask is not None "
            "and not causal; or mask is None and causal: port it with an example of this one too"
        )
"""


def test_several_programs_are_branches(tmp_path: Path) -> None:
    x, mask = torch.randn(2, 5, 6), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    examples = [jaxnn.call(x), jaxnn.call(x, mask), jaxnn.call(x, causal=True)]
    model = Masked()
    assert port(model, examples=examples, folder=tmp_path).ok
    assert MASKED in (tmp_path / "model.py").read_text()
    net = load_port(tmp_path)
    x, mask = torch.randn(3, 4, 6), torch.tensor([[1, 1, 0, 0]]).expand(3, 4)
    for args, kwargs in (((x,), {}), ((x, mask), {}), ((x,), {"causal": True})):
        found = net(*as_arrays(args), **kwargs)
        np.testing.assert_allclose(found, model(*args, **kwargs).detach(), atol=1e-5)
    with pytest.raises(ValueError, match="port it with an example of this one too"):
        net(*as_arrays((x, mask)), causal=True)


class OneIsOther(nn.Module):
    """Does something else with a batch of one."""

    def forward(self, x):
        return x * 2 if x.shape[0] == 1 else x - x.mean(0)


class OneIsSpread(nn.Module):
    """Spreads the positions over a batch of more than one, which changes nothing."""

    def forward(self, x):
        at = torch.arange(x.shape[1], dtype=x.dtype)[None]
        if x.shape[0] != 1:
            at = at.expand(x.shape[0], -1)
        return x + at * 3


def test_a_batch_of_one_has_a_program_where_it_needs_one(tmp_path: Path) -> None:
    for model in (OneIsOther(), OneIsSpread()):
        folder = tmp_path / type(model).__name__
        assert port(model, torch.randn(3, 6), folder=folder).ok
        net = load_port(folder)
        for shape in ((1, 4), (2, 6), (5, 2)):
            x = torch.randn(shape)
            np.testing.assert_allclose(net(jnp.asarray(x.numpy())), model(x), atol=1e-6)
    other, spread = ((path / "model.py").read_text() for path in sorted(tmp_path.iterdir()))
    assert (
        "        if x.shape[0] != 1:\n            return self.batch(x)\n"
        "        return self.batch_of_one(x)\n"
    ) in other
    assert spread.count("def ") == 2  # the call, and make


def test_the_command_takes_several_examples_and_names_of_sizes(factories, capsys):
    (factories / "kinds.py").write_text(
        "import jaxnn, torch\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x, twice=False):\n"
        "        return x + x if twice else x * x\n"
        "x = torch.ones(2, 3)\n"
        "def kinds(): return Net(), (jaxnn.call(x), jaxnn.call(x, twice=True))\n"
    )
    assert main(["port", "kinds:kinds", "-o", "out", "--dynamic", "x=(batch, 3)"]) == 0
    net = load_port("out")
    assert net(jnp.full((4, 3), 5.0), twice=True).tolist() == [[10.0] * 3] * 4
    with pytest.raises(ValueError, match=r"was ported for \(any, 3\)"):
        net(jnp.ones((4, 5)))
    assert main(["port", "kinds:kinds", "-o", "other", "--dynamic", "all"]) == 2
    assert "--dynamic 'all' must be auto, batch, none" in capsys.readouterr().err
