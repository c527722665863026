"""Layer files: what a malformed one is told, and where."""

import json
from pathlib import Path

import half
import pytest
from half import LAYER, changed

from nnspec.backend import made
from nnspec.document import match_dims
from nnspec.expression import evaluate
from nnspec.parameters import has_type
from nnspec.resolve import resolve
from nnspec.specification import load_layer, load_specification, specification_folder
from nnspec.strict_yaml import SpecError, read_yaml


def test_a_sound_file(tmp_path):
    spec = load_layer(half.specification(tmp_path))
    assert (spec.name, spec.family, spec.kind) == ("Half", "activation", "layer")
    assert list(spec.claims) == ["Half.B01", "Half.B02", "Half.E01"]
    assert spec.dtypes() == ["float32", "float64"]
    assert [spec.level(case) for case in spec.data["cases"]] == ["must", "quirk", "must"]
    assert list(load_specification(tmp_path)) == ["Half"]


def add(text):
    return f"{LAYER}{text}\n"


IN_EXPECT = "{outputs: {output: [1, 2]}}"
IN_INPUT = "{input: [2, 4]}"


def expecting(more):
    return changed(IN_EXPECT, IN_EXPECT[:-1] + f", {more}}}")


def with_input(block):
    return changed(IN_INPUT, f"{{input: {block}}}")


def by_hand(line):
    """Add a line to the first case."""
    return changed("    catches: [Half.M01]\n", f"    catches: [Half.M01]\n    {line}\n")


YAML_TRAPS = {
    "empty": ("", "a layer file is a mapping, not NoneType"),
    "a list": ("[1]", "a layer file is a mapping, not list"),
    "syntax": (add("  - {id: "), "not YAML: .* line 4"),
    "tab": ("a:\n\tb: 1", "not YAML"),
    "two documents": (add("---\na: 1"), "not YAML"),
    "null byte": (add("\0"), "not YAML"),
    "too deep": (with_input("[" * 3000 + "]" * 3000), "nested too deeply"),
    "1e-5": (changed("default: 0.5", "default: 1e-5"), "line 10: YAML reads 1e-5 as a string"),
    "1.0e5": (changed("default: 0.5", "default: 1.0e5"), "line 10: YAML reads 1.0e5 as a string"),
    "no": (changed("default: 0.5", "default: no"), "line 10: 'no' is ambiguous"),
    "On": (changed("default: 0.5", "default: On"), "line 10: 'On' is ambiguous"),
    "True": (changed("default: 0.5", "default: True"), "line 10: 'True' is ambiguous"),
    ".nan": (changed("default: 0.5", "default: .nan"), "line 10: .nan is not JSON"),
    ".inf": (changed("default: 0.5", "default: -.inf"), "line 10: -.inf is not JSON"),
    "octal": (changed("revision: 1", "revision: 010"), "line 5: '010' is no plain decimal"),
    "base 60": (changed("revision: 1", "revision: 1:30"), "line 5: '1:30' is no plain decimal"),
    "hexadecimal": (changed("revision: 1", "revision: 0x1"), "line 5: '0x1' is no plain decimal"),
    "huge": (changed("revision: 1", "revision: " + "9" * 5000), "line 5: '999.*' is no plain"),
    "date": (changed("v > 0", "v > 0").replace("0.5, 2.0", "2024-01-01"), "is a timestamp to YAML"),
    "merge": (changed("params: {}", "params: {<<: {scale: 1.0}}"), "'<<' is a merge to YAML"),
    "tag": (changed("params: {}", "params: !!python/name:os.system {}"), "not YAML"),
    "bytes": (changed("default: 0.5", "default: !!binary YQ=="), "is a binary to YAML"),
    "set": (changed("params: {}", "params: !!set {a}"), "is a set to YAML"),
    "own alias": (changed("params: {}", "params: &a {scale: *a}"), "not YAML"),
    "duplicate": (changed("revision: 1", "revision: 1\nrevision: 2"), "line 6: duplicate key 'rev"),
    "duplicate inside": (changed("{id: Half.M01,", "{id: Half.M01, id: a,"), "duplicate key 'id'"),
    "1 and '1'": (changed("params: {}", 'params: {1: 2, "1": 3}'), "duplicate key '1'"),
    "null as a key": (changed("params: {}", "params: {null: 1}"), "key 'null' is not a string"),
    "true as a key": (changed("params: {}", "params: {true: 1}"), "key 'true' is not a string"),
}

SCHEMA = {
    "other version": (changed("nnspec/1", "nnspec/2"), "schema is 'nnspec/2'; this nnspec reads"),
    "no version": (changed("schema: nnspec/1\n", ""), "schema is None"),
    "unknown key": (add("colour: red"), "at top level: .*'colour' was unexpected"),
    "missing key": (changed("revision: 1\n", ""), "at top level: 'revision' is a required"),
    "wrong type": (changed("revision: 1", "revision: first"), "at revision: 'first' is not"),
    "family": (changed("family: activation", "family: sport"), "at family: 'sport' is not one of"),
    "level": (changed("level: must", "level: maybe"), "at behaviours/0/level: 'maybe'"),
    "accuracy": (changed("dtype: T, accuracy: exact", "dtype: T, accuracy: close"), "at outputs/0"),
    "dtype": (changed("must: [float32]", "must: [float8]"), "at dtypes/must/0: 'float8'"),
    "generator": (with_input("{gen: dice, shape: [2]}"), "at cases/0/inputs/input/gen: 'dice'"),
    "number": (with_input("[1, infinity]"), "at cases/0/inputs/input/1: 'infinity'"),
    "null in a tensor": (with_input("[1, null]"), "at cases/0/inputs/input/1"),
    "no steps": (changed(f"    inputs: {IN_INPUT}\n", "    steps: []\n"), "at cases/0/steps"),
    "property": (expecting("properties: [{check: luck}]"), "properties/0/check: 'luck'"),
    "half a property": (expecting("properties: [{check: zero_share}]"), "'p' is a required"),
    "date of a waiver": (
        add('waivers: [{case: Half/by-hand, tensor: output.output, accuracy: shape, '
            'reason: r, date: "soon"}]'),
        "at waivers/0/date: 'soon'",
    ),
}  # fmt: skip

IDS = {
    "uncovered": (changed("covers: [Half.B01]", "covers: [Half.B02]"), "Half.B01 has no case"),
    "uncovered error": (
        changed("expect: {error: Half.E01}", "expect: {}"),
        "Half.E01 is expected by none of its cases",
    ),
    "a must under a quirk": (
        changed("covers: [Half.B01]", "covers: [Half.B01, Half.B02]"),
        "Half.B01 is a must, but each of its cases covers a quirk too",
    ),
    "no value in the file": (
        changed(f"    expect: {IN_EXPECT}\n", ""),
        "Half.B01 has no case whose values stand literally",
    ),
    "covered, but unspecified": (
        changed("level: must", "level: unspecified"),
        "Half.B01 is unspecified, so case Half/by-hand must not cover it",
    ),
    "uncaught": (changed("    catches: [Half.M01]\n", ""), "Half.M01 is caught by no case"),
    "covers": (changed("covers: [Half.B01]", "covers: [Half.B09]"), "unknown claim Half.B09"),
    "catches": (changed("catches: [Half.M01]", "catches: [Half.M09]"), "unknown mutant Half.M09"),
    "error": (changed("{error: Half.E01}", "{error: Half.E09}"), "expects unknown error Half.E09"),
    "error not covered": (
        changed("covers: [Half.E01]", "covers: [Half.B01]"),
        "expects Half.E01 but does not cover it",
    ),
    "waiver": (
        add('waivers: [{case: Half/no, tensor: output.output, accuracy: shape, '
            'reason: r, date: "2025-01-01"}]'),
        "a waiver names unknown case Half/no",
    ),
    "other layer's": (changed("{id: Half.M01,", "{id: Full.M01,"), "Full.M01 should be Half.MNN"),
    "kind of id": (changed("{id: Half.M01,", "{id: Half.B07,"), "Half.B07 should be Half.MNN"),
    "kind of error": (changed("{id: Half.E01,", "{id: Half.B07,"), "Half.B07 should be Half.ENN"),
    "twice": (changed("{id: Half.B02,", "{id: Half.B01,"), "Half.B01 is used twice"),
    "case twice": (changed("id: Half/negative", "id: Half/by-hand"), "Half/by-hand is used twice"),
    "case elsewhere": (changed("id: Half/by-hand", "id: Full/by-hand"), "should be Half/..."),
}  # fmt: skip

EXPRESSIONS = {
    "syntax": (changed("2*scale", "2*"), "let twice: not an expression: '2\\*'"),
    "name": (changed("2*scale", "2*skale"), "let twice: unknown name 'skale'"),
    "attribute": (changed("2*scale", "scale.real"), "let twice: Attribute is not part"),
    "import": (changed("2*scale", "__import__('os')"), "let twice: unknown name '__import__'"),
    "domain": (changed("v > 0", "w > 0"), "domain of scale: unknown name 'w'"),
    "when": (changed("scale <= 0", "size <= 0"), "Half.E01: unknown name 'size'"),
    "accuracy": (
        changed("dtype: T, accuracy: exact", 'dtype: T, accuracy: "ulp(x)"'),
        "accuracy of output: unknown name 'x'",
    ),
    "random": (add('random: "p >"'), "random: not an expression"),
    "fuzz": (add('fuzz: {where: "p"}'), "fuzz: unknown name 'p'"),
    "bound": (changed("C], dtype: T}", "C], dtype: T, bound: k}"), "bound of input: unknown"),
    "init": (changed("init: 0", 'init: "k"'), "init of calls: unknown name 'k'"),
    "shape": (changed("shape: [], dtype", "shape: [k], dtype"), "shape of calls: unknown name 'k'"),
    "itself": (
        changed("let:", 'functions: [{name: f, args: [x], is: "f(x)"}]\nlet:'),
        "functions f: unknown name 'f'",
    ),
    "a later let": (
        changed("let:\n", 'let:\n  - {name: four, is: "2*twice"}\n'),
        "let four: unknown name 'twice'",
    ),
    "of a string": (changed("2*scale", "scale + 'a'"), "Half/by-hand: no arithmetic with 0.5"),
    "without end": (changed("2*scale", "9**9**9**9"), "too large"),
}

CASES = {
    "unknown parameter": (changed("params: {}", "params: {scal: 1.0}"), "unknown parameter 'scal'"),
    "parameter's type": (changed("params: {}", "params: {scale: fast}"), "'fast' is not float"),
    "a bool": (changed("params: {}", "params: {scale: true}"), "scale: True is not float"),
    "a list": (changed("params: {}", "params: {scale: [1.0]}"), "scale: \\[1.0\\] is not float"),
    "domain": (changed("params: {}", "params: {scale: -2.0}"), "-2.0 is outside its domain, v > 0"),
    "default's type": (changed("default: 0.5", "default: null"), "scale: None is not float"),
    "sample's type": (changed("[0.5, 2.0]", "[0.5, two]"), "scale: 'two' is not float"),
    "required": (changed("default: 0.5", "required: true"), "parameter 'scale' is required"),
    "unknown input": (changed(IN_INPUT, "{input: [2, 4], x: [1]}"), "unknown input 'x'"),
    "missing input": (changed(IN_INPUT, "{}"), "input 'input' is missing"),
    "expected output": (changed("{output: [1, 2]}", "{out: [1]}"), "expect.outputs: unknown name"),
    "expected gradient": (expecting("gradients: {x: [1]}"), "expect.gradients: unknown name 'x'"),
    "expected state": (expecting("state: {x: [1]}"), "expect.state: unknown name 'x'"),
    "expected shape": (expecting("shapes: {x: [1]}"), "expect.shapes: unknown name 'x'"),
    "unchanged": (expecting("unchanged: [x]"), "expect.unchanged: unknown name 'x'"),
    "rows": (expecting("unchanged_rows: {x: [1]}"), "expect.unchanged_rows: unknown name 'x'"),
    "cotangent": (by_hand("cotangents: {x: [1]}"), "cotangents: unknown name 'x'"),
    "state": (by_hand("state: {x: 1}"), "Half/by-hand: state: unknown name 'x'"),
    "accuracy": (by_hand("accuracy: {output.x: exact}"), "accuracy: unknown name 'output.x'"),
    "wrt": (changed("wrt: [input]", "wrt: [weight]"), "gradients.wrt: unknown name 'weight'"),
    "steps and inputs": (by_hand("steps: [{inputs: {input: [1]}}]"), "has both steps and inputs"),
    "initial and inputs": (by_hand("initial: true"), "has both initial and inputs"),
    "dtypes": (by_hand("dtypes: [float16]"), "none of its dtypes \\['float16'\\] is declared"),
    "long literal": (with_input(f"[{', '.join('1' * 33)}]"), "inputs.input has 33 elements"),
    "ragged": (with_input("[[2], [4, 5]]"), "ragged literal"),
    "no shape": (with_input("{gen: lattice}"), "gen lattice needs a shape"),
    "option": (with_input("{gen: lattice, shape: [2], low: 1}"), "no option 'low'"),
    "output's shape": (changed("[1, 2]}}", "[1, 2, 3]}}"), "output.output has shape \\[3\\], but"),
    "stated shape": (expecting("shapes: {output: [3]}"), "output.output has shape \\[3\\], but"),
    "gradient's shape": (expecting("gradients: {input: [1]}"), "gradient.input has shape \\[1\\]"),
    "state's shape": (by_hand("state: {calls: [1]}"), "state calls has shape \\[1\\], but"),
    "cotangent's shape": (by_hand("cotangents: {output: [1]}"), "cotangent.output has shape"),
    "gradient not taken": (
        by_hand("gradients: false").replace("[1, 2]}}", "[1, 2]}, gradients: {input: [1]}}"),
        "gradient.input is expected, but the call does not give it",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(*value, id=f"{group}: {name}")
        for group, table in {
            "yaml": YAML_TRAPS, "schema": SCHEMA, "ids": IDS, "expressions": EXPRESSIONS,
            "cases": CASES,
        }.items()
        for name, value in table.items()
    ],
)  # fmt: skip
def test_malformed(tmp_path, text, message):
    path = half.specification(tmp_path, text)
    with pytest.raises(SpecError, match=message) as caught:
        _read_and_resolve(path)
    assert str(path) in str(caught.value)


def _read_and_resolve(path):
    spec = load_layer(path)
    for case in spec.data["cases"]:
        resolve(spec, case, "float32")


def test_every_contradiction_is_told_at_once(tmp_path):
    text = changed("params: {}", "params: {scal: 1.0}").replace("{input: [2, 4]}", "{x: [1]}")
    with pytest.raises(SpecError) as caught:
        load_layer(half.specification(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 3


def test_no_text(tmp_path):
    path = half.specification(tmp_path)
    path.write_bytes(b"\xff\xfe\0")
    with pytest.raises(SpecError, match="can't decode"):
        load_layer(path)
    with pytest.raises(SpecError, match="No such file"):
        load_layer(tmp_path / "Third.yaml")


def test_the_place_of_the_file(tmp_path):
    path = half.specification(tmp_path)
    other = path.with_name("Third.yaml")
    path.rename(other)
    with pytest.raises(SpecError, match=r"the file of Half is named Third\.yaml"):
        load_layer(other)
    folder = tmp_path / "layers" / "pooling"
    folder.mkdir()
    with pytest.raises(SpecError, match="family activation in folder pooling"):
        load_layer(other.rename(folder / "Half.yaml"))


def test_two_files_of_one_name(tmp_path):
    path = half.specification(tmp_path)
    second = tmp_path / "functions" / "activation" / "Half.yaml"
    second.parent.mkdir(parents=True)
    second.write_text(path.read_text().replace("kind: layer", "kind: function"))
    with pytest.raises(SpecError, match="Half is already at"):
        load_specification(tmp_path)


def test_no_specification(tmp_path, monkeypatch):
    with pytest.raises(SpecError, match="no layer files"):
        load_specification(tmp_path)
    monkeypatch.setenv("NNSPEC_SPEC", str(tmp_path / "nowhere"))
    with pytest.raises(SpecError, match=r"no specification found in .*nowhere"):
        specification_folder()


def test_strings_for_what_json_lacks():
    data = read_yaml('[inf, -inf, nan, "-0.0", 1.0e-5, -3, null, "no", "1e-5"]')
    assert data == ["inf", "-inf", "nan", "-0.0", 1e-5, -3, None, "no", "1e-5"]
    assert json.dumps(data, allow_nan=False)


@pytest.mark.parametrize(
    ("pattern", "shape", "dims"),
    [
        (["N", "C"], (2, 3), {"N": 2, "C": 3}),
        (["N", "C"], (2,), {"N": None, "C": None}),
        (["N?", "C", "L"], (2, 3), {"N": None, "C": 2, "L": 3}),
        (["N?", "C", "L"], (1, 2, 3), {"N": 1, "C": 2, "L": 3}),
        (["*"], (), {"*": []}),
        (["N", "*", "C"], (1, 2, 3, 4), {"N": 1, "*": [2, 3], "C": 4}),
        (["N", "*", "C"], (1,), {"N": None, "*": None, "C": None}),
    ],
)
def test_dimensions(pattern, shape, dims):
    assert match_dims(pattern, shape, {}) == dims


def test_the_specification_itself():
    specs = load_specification(Path(__file__).resolve().parents[2] / "spec")
    assert {"BatchNorm2d", "Embedding", "MaxPool2d"} <= specs.keys()
    for spec in specs.values():
        for case in spec.data["cases"]:
            resolve(spec, case, spec.dtypes(case)[0])


def test_a_group_of_state_is_written_out(tmp_path):
    group = """
  - each: {k: "range(twice)", side: "['', '_back']"}
    when: "scale < 2"
    state:
    - {name: "weight_l{k}{side}", kind: parameter, shape: ["{k} + 1"], init: 0}
    - {name: "deep_l{k}", when: "{k} > 0 and '{side}' == ''", kind: parameter, shape: [], init: 0}
"""
    spec = load_layer(half.specification(tmp_path, changed("state:\n", f"state:{group}")))
    names = spec.scope({"scale": 1})
    written = {s["name"]: s["shape"] for s in spec.state(names)}
    assert list(written) == [
        "weight_l0", "weight_l0_back", "weight_l1", "deep_l1", "weight_l1_back", "calls",
    ]  # fmt: skip
    assert written["weight_l1_back"] == ["1 + 1"]
    assert [s["name"] for s in spec.state(spec.scope({"scale": 2}))] == ["calls"]
    entry = spec.state_entry("weight_l7_back")
    assert entry is not None
    assert entry["name"] == "weight_l{k}{side}"
    assert spec.state_entry("weigh_l7") is None


def test_layers_and_functions_as_parameters():
    layer = {"layer": "LayerNorm", "params": {"normalized_shape": [4], "eps": 0.1}}
    assert has_type(layer, "int|layer")
    assert has_type({"function": "relu"}, "function")
    assert not has_type({"function": "relu"}, "layer")
    assert evaluate('v["params"]["eps"]', {"v": layer}) == 0.1
    assert evaluate('v["params"]["bias"]', {"v": layer}) is None
    told = made({"layer": "Outer", "params": {"norm": layer}}, lambda *a: a, lambda *a: a)
    inner = ("LayerNorm", {"normalized_shape": (4,), "eps": 0.1})
    assert told == ("Outer", {"norm": inner})


def test_tensors_as_parameters():
    weight = {"tensor": [1, 0.5]}
    assert has_type(weight, "tensor|null")
    assert not has_type([1, 0.5], "tensor")
    assert evaluate('len(v["tensor"])', {"v": weight}) == 2
    assert made(weight, lambda *a: a, lambda *a: a, lambda numbers: ("made", numbers)) == (
        "made",
        [1, 0.5],
    )
