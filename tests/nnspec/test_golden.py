"""Goldens: recorded, read back, and refused where they are damaged, stale or absent."""

import json
import struct
from dataclasses import replace

import half
import numpy as np
import pytest
from half import HalfBackend, changed

from nnspec import golden
from nnspec.golden import GoldenError, GoldenOracle
from nnspec.judge import judge
from nnspec.oracle import LiveOracle
from nnspec.resolve import resolve
from nnspec.specification import load_layer
from nnspec.tensors import read_tensors, write_tensors

REFERENCE = {"name": "half", "versions": {"half": "1"}}


@pytest.fixture
def recorded(tmp_path):
    """A specification of one layer, with its goldens."""
    record(tmp_path, load_layer(half.specification(tmp_path)))
    return tmp_path


def record(folder, spec, reference=REFERENCE):
    recording = golden.record_layer(spec, LiveOracle(HalfBackend()))
    golden.write(folder, {spec.name: (spec, recording)}, reference)
    return recording


def spec_of(folder):
    return load_layer(folder / "layers" / "activation" / "Half.yaml")


def files(folder):
    return golden.paths(folder, spec_of(folder))


def read(folder):
    return golden.read(folder, spec_of(folder), golden.read_lock(folder))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_recorded_is_read_back(recorded):
    spec = spec_of(recorded)
    live, stored = LiveOracle(HalfBackend()), GoldenOracle(recorded)
    for case in spec.data["cases"]:
        for dtype in spec.dtypes(case):
            resolved = resolve(spec, case, dtype)
            pairs = zip(live.references(resolved), stored.references(resolved), strict=True)
            for one, other in pairs:
                assert (one.refused is None) == (other.refused is None)
                assert one.tensors.keys() == other.tensors.keys()
                for name, tensor in one.tensors.items():
                    np.testing.assert_array_equal(tensor.oracle, other.tensors[name].oracle)
                    assert tensor.error == other.tensors[name].error


def test_verdicts_against_goldens(recorded):
    spec, oracle = spec_of(recorded), GoldenOracle(recorded)
    for fault, wanted in (("", "pass"), ("wrong", "fail"), ("accepts", "fail")):
        found = [
            judge(HalfBackend(fault), oracle, spec, case, "float32") for case in spec.data["cases"]
        ]
        assert wanted in [v.verdict for v in found]
        assert "error" not in [v.verdict for v in found], found


def test_recording_again_changes_no_byte(recorded):
    before = contents(recorded)
    record(recorded, spec_of(recorded))
    assert contents(recorded) == before


def test_dtypes_with_the_same_values_share_one_oracle(recorded):
    manifest = json.loads(files(recorded)[1].read_text())
    assert manifest["cases"]["Half/by-hand@float64"]["oracle"] == "Half/by-hand@float32"


def test_every_flipped_bit_is_found(recorded):
    for path in files(recorded):
        sound = path.read_bytes()
        for position in range(0, len(sound), 97):
            damaged = bytearray(sound)
            damaged[position] ^= 1 << (position % 8)
            path.write_bytes(damaged)
            with pytest.raises(GoldenError, match=str(path)):
                read(recorded)
        path.write_bytes(sound)
    read(recorded)


def test_truncated(recorded):
    for path in files(recorded):
        sound = path.read_bytes()
        for length in (0, 4, 8, len(sound) // 2, len(sound) - 1):
            path.write_bytes(sound[:length])
            with pytest.raises(GoldenError, match=str(path)):
                read(recorded)
        path.write_bytes(sound)


def test_a_header_that_lies(recorded):
    path = files(recorded)[0]
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    for change in ({"dtype": "F128"}, {"shape": [2**40]}, {"data_offsets": [0, 2**40]}):
        lying = json.dumps({name: {**item, **change} for name, item in header.items()}).encode()
        path.write_bytes(struct.pack("<Q", len(lying)) + lying + data[8 + size :])
        with pytest.raises(GoldenError, match="not a sound safetensors file"):
            read(recorded)


def test_an_edited_tensor_or_manifest(recorded):
    tensors_path, manifest_path = files(recorded)
    tensors = read_tensors(tensors_path)
    write_tensors(tensors_path, {**tensors, "extra": np.zeros(1)})
    with pytest.raises(GoldenError, match=f"{tensors_path}: changed since goldens.lock"):
        read(recorded)
    write_tensors(tensors_path, tensors)
    manifest = json.loads(manifest_path.read_text())
    manifest["cases"]["Half/by-hand@float32"]["steps"][0]["errors"]["output.output"] = 1e9
    manifest_path.write_text(json.dumps(manifest))
    with pytest.raises(GoldenError, match=f"{manifest_path}: changed since goldens.lock"):
        read(recorded)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_file(recorded, missing):
    files(recorded)[missing].unlink()
    with pytest.raises(GoldenError, match="no goldens of Half; run: nnspec record"):
        read(recorded)


def test_no_goldens_at_all(tmp_path):
    half.specification(tmp_path)
    with pytest.raises(GoldenError, match="no goldens of Half; run: nnspec record"):
        read(tmp_path)


def test_stale(recorded):
    half.specification(recorded, changed("[2, 4]", "[2, 6]").replace("[1, 2]}}", "[1, 3]}}"))
    with pytest.raises(GoldenError, match=r"recorded from another revision .* --layer Half"):
        read(recorded)
    spec = spec_of(recorded)
    verdict = judge(
        HalfBackend(), GoldenOracle(recorded), spec, spec.cases["Half/by-hand"], "float32"
    )
    assert verdict.verdict == "error"
    assert "run: nnspec record --layer Half" in verdict.message


def test_prose_makes_no_golden_stale(recorded):
    half.specification(recorded, changed("Half of the input, and", "The input halved, and"))
    assert read(recorded).cases


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "{}", '{"format": 1}', '{"format": 1, "layers": {}}',
        '{"format": 2, "layers": {}, "reference": {}}',
        '{"format": 1, "layers": [], "reference": {}}',
        '{"format": 1, "layers": {"Half": {}}, "reference": {}}',
        '{"format": 1, "layers": {"Half": "x"}, "reference": {}}',
    ],
)  # fmt: skip
def test_a_broken_lock(recorded, text):
    (recorded / "goldens.lock").write_text(text)
    before = contents(recorded)
    with pytest.raises(GoldenError, match=r"goldens\.lock: no sound lock file.*delete it and run"):
        GoldenOracle(recorded)
    with pytest.raises(GoldenError, match="no sound lock file"):
        record(recorded, spec_of(recorded))
    assert contents(recorded) == before


def test_a_lock_that_is_no_text(recorded):
    (recorded / "goldens.lock").write_bytes(b"\xff\xfe")
    with pytest.raises(GoldenError, match="no sound lock file"):
        golden.read_lock(recorded)


def test_layers_of_two_references_are_not_mixed(recorded):
    other = {"name": "half", "versions": {"half": "2"}}
    spec = spec_of(recorded)
    third = replace(spec, data={**spec.data, "name": "Third", "cases": []})
    before = contents(recorded)
    with pytest.raises(GoldenError, match=r"pins .*'half': '1'.* this reference is .*'half': '2'"):
        record(recorded, third, other)
    assert contents(recorded) == before
    record(recorded, spec, other)
    assert golden.read_lock(recorded)["reference"] == other


def test_differences(recorded):
    old = read(recorded)
    new = golden.Recording(dict(old.tensors), old.cases)
    assert list(golden.differences(old, new)) == []
    name = "Half/by-hand@float32/0/output.output"
    new.tensors[name] = old.tensors[name] + 0.25
    new.tensors["more"] = np.zeros(1)
    del new.tensors["Half/two-calls@float32/0/state.calls"]
    assert list(golden.differences(old, new)) == [
        f"~ {name}: largest difference 0.25 (0.1 of its scale)",
        "- Half/two-calls@float32/0/state.calls",
        "+ more",
    ]
    new.tensors[name] = np.zeros(3, np.float32)
    assert f"~ {name}: float64[2] -> float32[3]" in list(golden.differences(old, new))
