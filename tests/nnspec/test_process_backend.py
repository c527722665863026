"""Backends as processes: the protocol, and what comes of programs that break it."""

import io
import json
import sys

import half
import numpy as np
import pytest
from half import HalfBackend

from nnspec import load_layer
from nnspec.backend import BackendError, Refused, Step, Unsupported
from nnspec.judge import judge
from nnspec.oracle import LiveOracle
from nnspec.process import plain, serve, unplain
from nnspec.registry import load_backend
from nnspec.tensors import read_tensors, write_tensors


@pytest.fixture
def start():
    """Start the layer's process with a fault; all are stopped at the end."""
    started = []

    def make(fault="", timeout=20.0):
        started.append(load_backend(half.process(fault), timeout=timeout))
        return started[-1]

    yield make
    for backend in started:
        backend.close()


def verdicts(backend, folder):
    spec = load_layer(half.specification(folder))
    oracle = LiveOracle(HalfBackend())
    return {
        case["id"]: judge(backend, oracle, spec, case, "float32") for case in spec.data["cases"]
    }


def test_a_sound_program(start, tmp_path):
    backend = start()
    assert backend.describe() == {"name": "half", "versions": {"half": "1"}}
    assert {v.verdict for v in verdicts(backend, tmp_path).values()} == {"pass"}


def test_refusals_and_what_is_not_there(start):
    backend = start()
    with pytest.raises(Refused, match="scale must be positive") as caught:
        backend.create("layer", "Half", {"scale": -1.0}, dtype="float32")
    assert caught.value.category == "invalid_param"
    with pytest.raises(Unsupported, match="no layer Third"):
        backend.create("layer", "Third", {}, dtype="float32")


def test_numbers_that_json_lacks(start):
    instance = start().create("layer", "Half", {"scale": float("inf")}, dtype="float32")
    step = Step("train", {"input": np.float32([1, np.nan])}, ["output"])
    np.testing.assert_array_equal(instance.run(step).outputs["output"], [np.inf, np.nan])
    value = {"a": [1.5, float("-inf"), {"b": float("nan")}], "c": "text"}
    assert json.dumps(plain(value), allow_nan=False)
    back = unplain(plain(value))
    assert back["a"][:2] == value["a"][:2]
    assert np.isnan(back["a"][2]["b"])


def test_state_lives_between_calls(start):
    instance = start().create("layer", "Half", {}, dtype="float32")
    instance.load({"calls": np.array(5)})
    step = Step("train", {"input": np.float32([[1]])}, ["output"])
    instance.run(step)
    assert instance.run(step).state["calls"] == 7
    assert instance.state()["calls"] == 7


@pytest.mark.parametrize(
    ("fault", "verdict", "message"),
    [
        ("wrong", "fail", "output.output[0]: got 2.0, wanted 1.0"),
        ("no-output", "fail", "outputs [], wanted ['output']"),
        ("no-gradient", "fail", "no gradient of input"),
        ("no-state", "fail", "state is [], wanted ['calls']"),
        ("does-not-count", "fail", "state.calls"),
        ("breaks", "error", "RuntimeError: out of order"),
        ("writes-nothing", "error", "No such file or directory"),
        ("writes-half", "error", "not a sound safetensors file"),
        ("dies", "error", "request 'run': it died with exit code 3"),
        ("chats", "error", "the answer is no JSON object with 'ok': 'all is well"),
    ],
)
def test_a_fault_is_named(start, tmp_path, fault, verdict, message):
    found = verdicts(start(fault), tmp_path)["Half/by-hand"]
    assert (found.verdict, message in found.message) == (verdict, True), found
    assert found.details.get("backend_died", False) == (fault in ("dies", "chats"))


def test_a_program_that_hangs_is_stopped(start, tmp_path):
    backend = start("hangs", timeout=2.0)
    found = verdicts(backend, tmp_path)["Half/by-hand"]
    assert found.verdict == "error"
    assert "request 'run': no answer within 2 s; stopped" in found.message
    assert backend.process.wait(timeout=5) != 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (half.process("dies-at-start"), "it died with exit code 3"),
        (half.process("chats-at-start"), "the answer is no JSON object with 'ok': 'welcome"),
        (half.process("describes-nonsense"), "'backend' is 'half', not an object"),
        ("process:no-such-program --fast", "'no-such-program --fast' does not start"),
        ("process:", "does not start"),
        ("process:'unclosed", "does not start"),
        ("process:cat", "is no JSON object with 'ok'"),
        ("process:true", "it died with exit code 0"),
        ("nobody", "no backend 'nobody'; installed: .*jaxnn.*process:COMMAND"),
    ],
)
def test_no_backend(name, message):
    with pytest.raises(BackendError, match=message):
        load_backend(name, timeout=20)


def test_a_layer_without_state_and_a_call_without_outputs(start, tmp_path):
    path = tmp_path / "none.safetensors"
    write_tensors(path, {})
    assert read_tensors(path) == {}
    assert start("no-state").create("layer", "Half", {}, dtype="float32").state() == {}


def answers(backend, *requests):
    lines = io.StringIO("".join(json.dumps(request) + "\n" for request in requests))
    written = io.StringIO()
    serve(backend, lines, written)
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_serve_answers_what_it_does_not_understand():
    found = answers(HalfBackend(), {"op": "dance"}, {"op": "run"}, {"op": "stop"}, {"op": "run"})
    assert [answer["ok"] for answer in found] == [False, False]
    assert found[0]["error"]["message"] == "ValueError: unknown request 'dance'"
    assert found[1]["error"]["kind"] == "internal"


def test_a_program_may_tell_the_order_of_its_state():
    # Written with both dtypes and names out of order, as a file of safetensors sorts them.
    backend = load_backend(f"process:{sys.executable} -m nnspec.cli serve jaxnn", timeout=60)
    try:
        assert not backend.tells_order
        state = backend.create("layer", "BatchNorm1d", {"num_features": 2}, dtype="float32").state()
        assert backend.tells_order
    finally:
        backend.close()
    names = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert list(state) == names


def test_serve_survives_garbage():
    written = io.StringIO()
    serve(HalfBackend(), io.StringIO('hello\n[]\n{}\n{"op": "describe"}\n'), written)
    found = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [answer["ok"] for answer in found] == [False, False, False, True]
