"""Imports prove themselves: what departs is named, what cannot be compared is said."""

from __future__ import annotations

import copy
import json
import pickle
import random
import warnings
from typing import Any

import adversarial_models
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn
from torch.nn import functional as F

import jaxnn
from jaxnn.interop import ImportDeparts, check_port, evidence, load_port, port
from jaxnn.interop.importer.operators import OPERATORS
from jaxnn.interop.proof import comparing
from jaxnn.interop.proof.calls import Call, other_calls
from jaxnn.interop.proof.comparing import check_import
from jaxnn.interop.proof.drawing import CannotFix, fixed_in_torch, fixed_key


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        return self.norm(self.layer(x)).sin()


def blocks() -> nn.Module:
    return nn.Sequential(Block(), Block(), nn.Linear(4, 2))


def unchecked(net: nn.Module, *args: Any) -> Any:
    return jaxnn.from_torch(net, args, check=False, rngs=nnx.Rngs(0))


def compared(net: nn.Module, *args: Any) -> Any:
    return evidence(jaxnn.from_torch(net, args, rngs=nnx.Rngs(0)))


def test_an_import_carries_what_was_compared():
    found = compared(blocks(), torch.randn(2, 4))
    assert found.ok
    runs = [(row.mode, row.input.partition(",")[0], row.outputs) for row in found.rows]
    assert runs == [
        (mode, name, 1)
        for name in ("the example", "another input")
        for mode in ("evaluation", "training")
    ]
    gradients = {(row.mode, row.input): row.gradients for row in found.rows if row.gradients}
    # 10 parameters and the input.
    assert list(gradients.values()) == [11] * 4
    assert [row.buffers for row in found.rows] == [0, 6, 0, 6]
    assert all(value < 1e-4 for row in found.rows for value in row.relative.values())
    assert "(2→3, 4)" in str(found)
    assert "11 within" in str(found)


@pytest.mark.parametrize(
    "name", ["FrozenStatistics", "TrainsInEvaluation", "statistics_frozen_in_forward"]
)
def test_modes_are_those_that_the_original_gives_its_parts(name):
    case = adversarial_models.CASES[name]
    found = evidence(jaxnn.from_torch(case.make(), case.args()))
    assert found.ok
    assert {row.mode for row in found.rows if not row.why_not} == {"evaluation", "training"}


# --- what departs ---------------------------------------------------------------------------------


def test_a_wrong_weight_is_named_by_its_module():
    net, x = blocks(), torch.randn(2, 4)
    ours = unchecked(net, x)
    getattr(ours, "1").layer.weight[...] += 0.01
    with pytest.raises(ImportDeparts, match=r"module 1\.layer \(Linear\) is the first") as caught:
        check_import(ours, net, [(x, {})], True)
    assert "in evaluation mode, on the example" in str(caught.value)
    assert not caught.value.evidence.ok
    assert isinstance(caught.value, ValueError)
    assert "departs" in str(caught.value.evidence)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert not again.evidence.ok


def test_a_wrong_operator_is_named_and_report_warns(monkeypatch):
    sin = OPERATORS["sin"]
    monkeypatch.setitem(OPERATORS, "sin", lambda self: sin(self) + 0.01)
    with pytest.raises(ImportDeparts, match=r"module 0 \(Block\).*check=False.*report") as caught:
        jaxnn.from_torch(blocks(), torch.randn(2, 4))
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match=r"module 0 \(Block\)") as warned:
        ours = jaxnn.from_torch(blocks(), torch.randn(2, 4), check="report")
    assert str(warned[0].message) == str(caught.value)
    assert warned[0].filename == __file__
    assert not evidence(ours).ok
    assert unchecked(blocks(), torch.randn(2, 4)) is not None


def test_a_wrong_gradient_is_named_nearest_to_the_fault(monkeypatch):
    cos = OPERATORS["cos"]
    monkeypatch.setitem(OPERATORS, "cos", lambda self: jax.lax.stop_gradient(cos(self)))

    class Last(Block):
        def forward(self, x):
            return self.layer(x).cos()

    net = nn.Sequential(Block(), Last(), nn.Linear(4, 2))
    with pytest.raises(ImportDeparts, match=r"module 1\.layer \(Linear\).*gradient of 1\.layer\."):
        jaxnn.from_torch(net, torch.randn(2, 4))


def test_a_wrong_gradient_of_the_input_alone_is_found(monkeypatch):
    sin = OPERATORS["sin"]
    monkeypatch.setitem(OPERATORS, "sin", lambda self: jax.lax.stop_gradient(sin(self)))

    class Wave(nn.Module):
        def forward(self, x):
            return x.sin()

    with pytest.raises(ImportDeparts, match=r"the model itself.*gradient of input 0"):
        jaxnn.from_torch(Wave(), torch.randn(2, 4))


def test_a_wrong_buffer_is_named():
    net, x = blocks(), torch.randn(2, 4)
    ours = unchecked(net, x)
    getattr(ours, "0").norm.momentum = 0.3
    with pytest.raises(ImportDeparts, match=r"in training mode.*module 0\.norm.*running_"):
        check_import(ours, net, [(x, {})], True)


def test_a_constant_of_the_example_departs_on_the_other_input(monkeypatch):
    x = torch.tensor([[0.5, 2.0, 1.0, 1.5]])
    largest = jnp.float32(2.0)
    monkeypatch.setitem(OPERATORS, "amax", lambda self, dim=(), keepdim=False: largest)

    class Scaled(nn.Module):
        def forward(self, x):
            return x.detach().amax() * torch.ones_like(x)

    with pytest.raises(ImportDeparts, match=r"on another input, \(1→3, 4→5\)"):
        jaxnn.from_torch(Scaled(), x)


def test_a_head_of_zeros_hides_nothing():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    nn.init.zeros_(net[1].weight)
    ours = unchecked(net, torch.randn(2, 3))
    getattr(ours, "0").bias[...] += 0.1
    with pytest.raises(ImportDeparts, match=r"module 0 \(Linear\)"):
        check_import(ours, net, [(torch.randn(2, 3), {})], True)
    assert not net[1].weight.any()


# --- what is not compared, or in a way of its own -------------------------------------------------


def test_sizes_that_the_import_refuses_are_said():
    class Few(nn.Module):
        def forward(self, x):
            return x * 2 if x.shape[0] < 3 and x.shape[1] < 4 else x

    found = evidence(jaxnn.from_torch(Few(), torch.randn(2, 3)))
    refused = [row for row in found.rows if row.why_not]
    assert refused
    assert all("x.shape[0] < 3" in row.why_not for row in refused)
    assert "not compared" in str(found)
    assert [row.input for row in found.rows if not row.why_not][-1].endswith("same shapes")


def test_what_the_import_refuses_is_said(monkeypatch):
    class Fixed(nn.Module):
        def forward(self, x):
            return x * torch.arange(len(x))[:, None] if len(x) == 2 else x

    net = unchecked(Fixed(), torch.randn(2, 3))
    monkeypatch.setattr(comparing, "free_shapes", lambda net, call: [(None, 3)])

    def refuse(self: Any, x: Any) -> Any:
        if x.shape[0] != 2:
            raise ValueError("imported for (2, 3)")
        return x * jnp.arange(2.0)[:, None]

    class Guarded(nnx.Module):
        __call__ = refuse

        def train(self, **_: Any) -> Any:
            return self

        eval = train

    del net
    guarded = check_import(Guarded(), Fixed(), [(torch.randn(2, 3), {})], True)
    found = evidence(guarded)
    why = [row.why_not for row in found.rows if row.why_not]
    assert why
    assert "the import refuses it: ValueError: imported for (2, 3)" in why[0]
    assert found.rows[-1].input == "another input of the same shapes"
    assert found.rows[-1].outputs == 1


class Noise(nn.Module):
    """Random numbers as values, of all kinds."""

    def forward(self, x):
        rows = torch.randint(0, x.shape[0], (3,))
        order = torch.randperm(4)
        keep = torch.empty(x.shape[0], 1).bernoulli_(0.8) / 0.8
        return (
            (x + torch.rand_like(x) * x)[rows][:, order],
            x * torch.randn(4) + torch.normal(0.0, 2.0, (4,)),
            x * keep * torch.empty(4).uniform_(-1, 3),
        )


class Dropped(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        y = F.dropout(self.layer(x), 0.3, self.training)
        y = F.alpha_dropout(y, 0.2, self.training)
        z = F.scaled_dot_product_attention(y[:, None], x[:, None], x[:, None], dropout_p=0.25)
        return z + F.feature_alpha_dropout(y[..., None], 0.2, self.training)[:, None, :, 0]


DRAWING = {
    "dropout": lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.4), nn.RReLU()),
    "channels": lambda: nn.Sequential(nn.Dropout1d(0.2), nn.AlphaDropout(0.3), nn.Linear(4, 2)),
    "attention": lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True),
    "functions": Dropped,
    "noise": Noise,
}


@pytest.mark.parametrize("name", DRAWING)
def test_what_draws_is_compared_with_every_draw_fixed(name):
    three = name in ("channels", "attention")
    found = compared(DRAWING[name](), torch.randn(*((2, 3, 4) if three else (2, 4))))
    assert all(row.gradients or not row.relative.get("gradient") for row in found.rows)
    assert any("random numbers" in note and "fixed on both sides" in note for note in found.notes)
    trained = [row for row in found.rows if row.mode == "training"]
    assert all(row.outputs and not row.why_not for row in trained)
    assert sum(row.gradients for row in trained)


def test_a_stack_of_recurrent_layers_and_fractional_pooling():
    lstm = nn.LSTM(4, 5, 2, dropout=0.5, batch_first=True)
    assert "bernoulli_" in str(compared(lstm, torch.randn(2, 3, 4)))
    pool = nn.FractionalMaxPool2d(2, output_size=3)
    assert "fixed on both sides" in str(compared(pool, torch.randn(2, 3, 7, 7)))


def test_a_layer_that_scales_wrongly_when_it_drops_is_found():
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    ours = unchecked(net, torch.randn(2, 4))
    getattr(ours, "1").p = 0.4
    with pytest.raises(ImportDeparts, match=r"in training mode.*module 1 \(Dropout\)"):
        check_import(ours, net, [(torch.randn(2, 4), {})], True)


def test_the_fixed_numbers():
    key = fixed_key()
    with fixed_in_torch() as drawn:
        assert torch.rand(2, 3).eq(1 / 32).all()
        assert F.dropout(torch.ones(5), 0.5).eq(2).all()
        assert F.dropout(torch.ones(5), 0.99).eq(0).all()
        close = torch.randn(3) - float(jax.random.normal(key))
        assert close.abs().max() < 1e-6
        with pytest.raises(CannotFix, match=r"aten\.poisson"):
            torch.poisson(torch.ones(2))
    assert drawn == ["rand", "bernoulli_", "bernoulli_", "randn", "poisson"]
    # Programs of the fixed key and of others are kept apart.
    x = jnp.ones(100)
    fixed = jaxnn.functional.dropout(x, 0.5, rng=key)
    drawn_again = jaxnn.functional.dropout(x, 0.5, rng=jax.random.key(0))
    assert (fixed == 2).all()
    assert (drawn_again == 0).any()


def test_what_cannot_be_fixed_is_not_compared(monkeypatch):
    monkeypatch.setattr("jaxnn.interop.proof.drawing.DRAWING", set())
    found = compared(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), torch.randn(2, 2))
    why = [row.why_not for row in found.rows if row.mode == "training" and row.why_not]
    assert any("aten.bernoulli_, which cannot be fixed" in text for text in why)
    assert all(row.outputs for row in found.rows if row.mode == "evaluation")


class Kink(nn.Module):
    def __init__(self, at: torch.Tensor):
        super().__init__()
        self.register_buffer("at", at)

    def forward(self, x):
        return torch.relu(x.sum(1) - self.at)


def test_a_kink_is_judged_in_float64(monkeypatch):
    total = OPERATORS["sum"]

    def one_digit_off(*args: Any, **kwargs: Any) -> jax.Array:
        right = total(*args, **kwargs)
        still = jax.lax.stop_gradient(right)
        return right + (jnp.nextafter(still, jnp.inf) - still)

    monkeypatch.setitem(OPERATORS, "sum", one_digit_off)
    x = torch.rand(1, 99)
    # Below zero in exact arithmetic, so that the gradient is none; above by rounding.
    while x.double().sum() >= x.sum(1).double():
        x = torch.rand(1, 99)
    found = compared(Kink(x.sum(1)[0]), x)
    assert found.ok
    assert any("input 0" in row.judged for row in found.rows)
    assert "judged in float64" in str(found)


def test_a_fault_is_no_rounding(monkeypatch):
    total = OPERATORS["sum"]
    monkeypatch.setitem(OPERATORS, "sum", lambda *a, **k: total(*a, **k) * 1.001)
    with pytest.raises(ImportDeparts, match=r"output is off by"):
        jaxnn.from_torch(Kink(torch.tensor(0.0)), torch.rand(2, 9))


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, dtype=torch.complex64))

    def forward(self, x, z):
        y = torch.fft.rfft(x, dim=-1) * self.weight + z
        return y, y.abs().sum(-1), y.real * y.imag


def test_complex_numbers():
    x, z = torch.randn(2, 4), torch.randn(2, 3, dtype=torch.complex64)
    found = compared(Complex(), x, z)
    assert [row.gradients for row in found.rows if row.gradients] == [3] * 4
    ours = unchecked(Complex(), x, z)
    with pytest.raises(ImportDeparts):
        check_import(ours, Complex(), [((x, z), {})], True)


class Special(nn.Module):
    """Not finite, whole numbers, None, a view, a container and an argument changed in place."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(2, 2)

    def forward(self, x, ids, flags):
        x.mul_(2)
        y = torch.log(x)
        part = y[:, 1:]
        return {
            "y": y, "part": (part, None), "ids": ids + 1, "best": x.argmax(-1), "flags": ~flags,
            "rows": x.shape[0], "name": "special",
        }  # fmt: skip


def test_values_of_all_kinds():
    x = torch.tensor([[1.0, -1.0, 0.0], [2.0, 0.5, 3.0]])
    args = x, torch.tensor([3, 7]), torch.tensor([[True], [False]])
    with pytest.warns(UserWarning, match=r"forward writes into its argument 'x'"):
        found = compared(Special(), *args)
    assert [row.outputs for row in found.rows] == [6] * len(found.rows)
    assert x[0, 0] == 1.0  # the example is as it was
    assert found.rows[0].gradients == 3


def test_a_model_of_no_floats():
    class Ids(nn.Module):
        def forward(self, ids):
            return ids * 2

    found = compared(Ids(), torch.tensor([[1, 2]]))
    assert found.ok
    assert {row.gradients for row in found.rows} == {0}


def test_double_precision_and_half():
    net = blocks().double()
    with jax.enable_x64(True):
        found = compared(net, torch.randn(2, 4).double())
    assert max(value for row in found.rows for value in row.relative.values()) < 1e-9
    half = nn.Sequential(nn.Linear(4, 4), nn.GELU()).bfloat16()
    assert compared(half, torch.randn(2, 4).bfloat16()).ok


def test_branches_on_values_are_compared_where_they_are_those_of_the_example():
    class Branch(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 3 else x - 1

    with pytest.warns(UserWarning, match="branches on the values"):
        ours = jaxnn.from_torch(Branch(), torch.full((2, 3), 0.6))
    found = evidence(ours)
    assert found.ok
    assert len([row for row in found.rows if not row.why_not]) >= 2


def test_offsets_stay_offsets():
    bag = nn.EmbeddingBag(6, 3)
    found = compared(bag, torch.tensor([1, 2, 5, 4]), torch.tensor([0, 2]))
    assert found.ok
    assert [row.outputs for row in found.rows] == [1] * 4


def test_a_mode_that_the_example_cannot_be_run_in():
    found = compared(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), torch.randn(1, 3))
    rows = {(row.mode, row.input): row for row in found.rows}
    assert "Expected more than 1 value" in rows["training", "the example"].why_not
    assert rows["training", "another input, (1→3, 3)"].gradients == 5
    assert rows["training", "another input, (1→3, 3)"].buffers == 3


class AsksForGradients(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        if self.training:
            x.requires_grad = True
        return self.layer(x)


def test_a_model_that_asks_for_its_inputs_gradient():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = compared(AsksForGradients(), torch.randn(2, 3))
    assert not any("leaf" in row.why_not for row in found.rows)
    assert all(row.outputs for row in found.rows if row.mode == "evaluation")


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_are_compared_where_none_are_recorded(context):
    net = blocks()
    ours = unchecked(net, torch.randn(2, 4))
    with context():
        found = evidence(check_import(ours, net, [(torch.randn(2, 4), {})], True))
    assert [row.gradients for row in found.rows] == [11] * 4


# --- nothing is left behind -----------------------------------------------------------------------


def test_the_model_its_modes_and_the_random_numbers_are_as_they_were():
    net = nn.Sequential(blocks(), nn.Dropout(0.5), nn.Linear(2, 2))
    net.eval()
    net[0][1].norm.train()
    modes = [module.training for module in net.modules()]
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    ours = unchecked(net, torch.randn(2, 4))
    flags = [vars(node).get("deterministic") for _, node in nnx.iter_modules(ours)]
    values = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(ours, nnx.Param)))
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    wanted = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    check_import(ours, net, [(torch.randn(2, 4), {})], True)
    torch.manual_seed(3)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == wanted
    torch.manual_seed(3)
    check_import(ours, net, [(torch.ones(2, 4), {})], True)
    assert torch.rand(1).item() == wanted[2]
    assert torch.get_num_threads() == threads
    assert [module.training for module in net.modules()] == modes
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[key])
    assert all(p.grad is None for p in net.parameters())
    assert [vars(node).get("deterministic") for _, node in nnx.iter_modules(ours)] == flags
    after = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(ours, nnx.Param)))
    jax.tree.map(np.testing.assert_array_equal, values, after)


def test_the_evidence_travels_with_the_net():
    ours = jaxnn.from_torch(blocks(), torch.randn(2, 4))
    found = evidence(ours)
    graph, state = nnx.split(ours)
    assert evidence(nnx.merge(graph, state)) is found
    assert evidence(nnx.clone(ours)) is found
    assert evidence(copy.deepcopy(ours)) is found
    assert nnx.split(ours)[0] == graph
    assert hash(nnx.split(ours)[0]) == hash(graph)
    again = evidence(nnx.merge(pickle.loads(pickle.dumps(graph)), state))
    assert again.rows == found.rows
    assert str(again) == str(found)
    layer = jaxnn.from_torch(nn.Linear(2, 2), torch.ones(1, 2))
    assert evidence(layer).ok


def test_without_evidence():
    with pytest.raises(ValueError, match=r"Linear carries no evidence.*check=False"):
        evidence(unchecked(nn.Linear(2, 2), torch.ones(1, 2)))
    with pytest.raises(ValueError, match=r"`check` must be True, False or \"report\", got 'no'"):
        jaxnn.from_torch(nn.Linear(2, 2), torch.ones(1, 2), check="no")


def test_parameters_without_values_cannot_be_compared():
    net = nn.Linear(2, 2)
    ours = unchecked(net, torch.ones(1, 2))
    meta = nn.Linear(2, 2, device="meta")
    found = evidence(check_import(ours, meta, [(torch.ones(1, 2), {})], True))
    assert not found.rows
    assert "meta device" in str(found)


def test_other_inputs_keep_what_holds_for_the_example():
    ids, mask = torch.tensor([[5, 2, 9]]), torch.tensor([[True, True, False]])
    x = torch.rand(1, 3) + 0.5
    call = Call.of((ids, mask, x, x), {"scale": 2.0})
    assert len(call.tensors) == 3
    calls = list(other_calls(call, [(None, 3), (None, 3), (None, None)]))
    for _, some in calls:
        for other in some:
            args, kwargs = other.in_torch(other.tensors)
            assert kwargs == {"scale": 2.0}
            assert args[2] is args[3]
            assert set(args[0].unique().tolist()) <= {5, 2, 9}
            assert (args[2] > 0).all()
            assert args[2].max() <= x.max()
            assert args[1].dtype == torch.bool
    assert calls[0][1][0].tensors[0].shape == (3, 3)
    assert calls[0][1][0].tensors[2].shape == (3, 4)
    assert calls[-1][0] == "another input of the same shapes"


# --- ports and verify -----------------------------------------------------------------------------


def test_a_port_keeps_its_evidence(tmp_path):
    assert port(blocks(), torch.randn(2, 4), folder=tmp_path / "port").ok
    parity = json.loads((tmp_path / "port" / "parity.json").read_text())
    assert len(parity["evidence"]["rows"]) == 4
    found = evidence(load_port(tmp_path / "port"))
    assert found.ok
    assert found.rows[0].gradients == 11
    assert port(nn.Linear(2, 2), torch.ones(1, 2), folder=tmp_path / "plain", check=False).ok
    with pytest.raises(ValueError, match="carries no evidence"):
        evidence(load_port(tmp_path / "plain"))


class Phase(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, dtype=torch.complex64))

    def forward(self, x):
        return x * self.weight


@pytest.mark.standard_promotion
def test_a_complex_port_is_compared_as_complex(tmp_path):
    folder = tmp_path / "phase"
    report = port(Phase(), torch.randn(2, 3, dtype=torch.complex64), folder=folder)
    assert report.ok
    names = ["output 0", "input 0", "weight"]
    assert [row.name for row in report.rows] == [
        *names, *(f"{name}, another input, (2→3, 3)" for name in names),
    ]  # fmt: skip
    parity = json.loads((folder / "parity.json").read_text())
    call = parity["calls"][0]
    array = jaxnn.interop.porting.as_json.array_from_json(call["gradients"]["weight"])
    call["gradients"]["weight"] = jaxnn.interop.porting.as_json.array_as_json(array.conj())
    call["gradients in float64"] = {}
    (folder / "parity.json").write_text(json.dumps(parity))
    assert [row.name for row in check_port(folder).rows if not row.agrees] == ["weight"]


def test_verify_compares_gradients_and_state():
    net, x = blocks(), torch.randn(5, 4)
    ours = unchecked(net, x)
    report = jaxnn.verify(net, ours, x)
    assert report.ok
    rows = {row.name: row for row in report.rows}
    assert rows["0.layer"].gradient.kind == "gradient"
    assert rows["0.norm"].state.kind == "buffer"
    assert rows[""].gradient.name == "input 0"
    assert rows["0"].state is None
    getattr(ours, "1").norm.momentum = 0.3
    report = jaxnn.verify(net, ours, x)
    assert not report.ok
    assert report.first.name == "1.norm"
    assert all(row.agrees for row in report.rows)
    assert "running_" in str(report)


def test_verify_finds_a_wrong_gradient(monkeypatch):
    net, x = blocks().eval(), torch.randn(5, 4)
    ours = unchecked(net, x)
    sin = OPERATORS["sin"]
    monkeypatch.setitem(OPERATORS, "sin", lambda self: jax.lax.stop_gradient(sin(self)))
    report = jaxnn.verify(net, ours, x)
    assert not report.ok
    assert report.first.name == "1.norm"
    assert all(row.agrees for row in report.rows)


def test_verify_of_a_model_that_draws_says_so():
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    x = torch.randn(3, 4)
    for rngs in (None, nnx.Rngs(0)):
        ours = jaxnn.from_torch(net, x, rngs=rngs, check=False)
        report = jaxnn.verify(net, ours, x)
        assert report.ok
        assert str(report).startswith("The model draws random numbers (bernoulli_)")
    assert not jaxnn.verify(net.eval(), ours.eval(), x).notes


def test_verify_of_a_port_with_flax_layers():
    class Port(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.layer = nnx.Linear(4, 4, rngs=rngs)
            self.norm = nnx.LayerNorm(4, epsilon=1e-5, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.drop(self.norm(self.layer(x)))

    class Original(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.norm, self.drop = nn.Linear(4, 4), nn.LayerNorm(4), nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(self.norm(self.layer(x)))

    original, ours = Original(), Port(nnx.Rngs(0))
    jaxnn.load_state_dict(ours, original.state_dict())
    report = jaxnn.verify(original, ours, torch.randn(3, 4))
    assert report.ok
    gradients = {row.name: row.gradient for row in report.rows if row.gradient is not None}
    assert set(gradients) == {"layer", "norm", ""}
    with warnings.catch_warnings():
        ours.layer.kernel[...] = ours.layer.kernel[...].T
    assert jaxnn.verify(original, ours, torch.randn(3, 4)).first.name == "layer"


class Casts(nn.Module):
    """Layers and functions under autocast, what it casts by hand, and what it does not cast."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            y = F.gelu(self.norm(self.first(x)))
            y = y @ self.last.weight
        with torch.autocast("cpu", enabled=False):
            y = self.last(y.float())
        return self.last(y.to(torch.float16).float()), y.half()


def test_half_precision_inside_of_a_model():
    net = jaxnn.from_torch(Casts(), torch.randn(4, 3))
    found = evidence(net)
    assert found.ok
    assert all(row.outputs == 2 and row.gradients == 7 for row in found.rows)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
    text = jax.jit(net.eval()).lower(x).as_text()
    assert "bf16" in text
    assert "f16" in text.replace("bf16", "")


def test_a_forward_that_is_set_on_a_part():
    """What a function refers to is the copy's in a copy."""
    net = blocks()
    part = next(module for module in net.modules() if isinstance(module, nn.Linear))
    forward = part.forward
    part.forward = lambda x: forward(x) * 3
    assert evidence(jaxnn.from_torch(net, torch.randn(2, 4))).ok


class Doubles(nn.Module):
    def forward(self, x):
        return x * 2


def test_an_output_in_half_precision_is_not_one_in_float32():
    class Narrow(nnx.Module):
        def __call__(self, x: Any) -> Any:
            return (x * 2).astype(jnp.bfloat16)

    with pytest.raises(ImportDeparts, match="its output 0 has another shape or dtype"):
        check_import(Narrow(), Doubles(), [(torch.randn(2, 3), {})], True)
