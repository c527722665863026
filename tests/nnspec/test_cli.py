"""The command line: exit codes, messages that name the place, and nothing written by mistake."""

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import half
import pytest
from half import changed

from nnspec.cli import main
from nnspec.golden import paths
from nnspec.specification import load_layer


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A specification with goldens, and an empty working folder."""
    spec = tmp_path / "spec"
    half.specification(spec)
    monkeypatch.chdir(tmp_path)
    assert main(["--spec", str(spec), "record", "--backend", half.process()]) == 0
    return spec


@pytest.fixture
def call(folder, capsys):
    """Call nnspec; return its exit code, and what it printed on both streams."""
    capsys.readouterr()

    def run(*arguments):
        code = main(["--spec", str(folder), *map(str, arguments)])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        return code, printed.out, printed.err

    return run


def on(fault="", against="golden"):
    return ["--backend", half.process(fault), "--against", against, "--jobs", "1"]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- run ------------------------------------------------------------------------------------


def test_run_passes_and_reports(call, folder):
    code, out, _ = call("run", *on(), "--out", "report")
    assert code == 0
    assert "left out: 3 cases (dtypes other than float32; --all leaves out nothing)" in out
    report = json.loads((folder.parent / "report" / "report.json").read_text())
    assert report["counts"]["pass"] == 3
    assert report["left_out"]
    suites = ET.parse(folder.parent / "report" / "junit.xml").getroot()
    assert [s.get("tests") for s in suites] == ["3"]
    page = (folder.parent / "report" / "report.html").read_text()
    assert "Half.B01" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_all_leaves_out_nothing(call):
    code, out, _ = call("run", *on(), "--all")
    assert code == 0
    assert "left out" not in out


@pytest.mark.parametrize("against", [half.process(), "none", "golden"])
def test_a_failure_is_told_with_its_claim_and_how_to_see_it(call, against):
    code, out, _ = call("run", *on("wrong", against))
    assert code == 1
    assert "FAIL Half/by-hand@float32" in out
    assert "Half.B01: output = scale * input." in out
    assert "step 0: output.output[0]: got 2.0, wanted 1.0" in out
    assert "nnspec repro 'Half/by-hand@float32' --backend" in out


def test_level_must_leaves_quirks_out(call):
    assert call("run", *on("does-not-count"), "--case", "*two*")[0] == 1
    code, out, _ = call("run", *on("wrong"), "--level", "must", "--case", "*two*")
    assert code == 2
    code, out, _ = call("run", *on(), "--level", "must")
    assert code == 0
    assert "left out: " in out


@pytest.mark.parametrize("fault", ["dies", "chats"])
def test_every_case_of_a_dying_backend_is_an_error(call, fault):
    code, out, _ = call("run", *on(fault))
    assert code == 1
    assert out.count("ERROR Half/") == 2  # the third is refused at construction
    assert "backend process" in out


def test_a_backend_that_hangs(call):
    code, out, _ = call("run", *on("hangs"), "--timeout", "1", "--case", "Half/by-hand")
    assert code == 1
    assert "no answer within 1 s; stopped" in out


def test_unsupported_fails_unless_allowed(call, folder):
    text = half.LAYER.replace("Half", "Third")
    (folder / "layers" / "activation" / "Third.yaml").write_text(text)
    arguments = ["run", *on(against="none")]
    assert call(*arguments)[0] == 1
    assert call(*arguments, "--allow-unsupported")[0] == 0
    assert call(*arguments, "--allow-unsupported", "--layer", "Third")[0] == 1  # nothing passed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "Third"], "--layer 'Third' matches nothing; see: nnspec list"),
        (["--family", "pool*"], "--family 'pool*' matches nothing"),
        (["--case", "Half/none"], "no case matches --case 'Half/none' --dtype float32"),
        (["--dtype", "float8"], "--dtype float8: no layer declares it; known are"),
        (["--dtype", "bfloat16"], "--dtype bfloat16: no layer declares it"),
        (["--backend", "nobody"], "no backend 'nobody'; installed: "),
        (["--backend", "process:no-such-program"], "'no-such-program' does not start"),
        (["--against", "nobody"], "no backend 'nobody'; installed: "),
    ],
)
def test_called_wrongly(call, folder, arguments, message):
    code, _, err = call("run", *on(), *arguments)
    assert code == 2
    assert message in err
    assert not list((folder.parent).glob("nnspec-report/*"))


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["dance"], ["run", "--level", "all"], ["show"], ["run", "--jobs", "0"],
        ["run", "--timeout", "-1"], ["run", "--timeout", "nan"], ["fuzz", "Half", "--examples", "x"]
    ],
)  # fmt: skip
def test_unknown_commands_and_choices(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: nnspec" in capsys.readouterr().err


# --- goldens --------------------------------------------------------------------------------


def test_damaged_goldens_stop_the_run(call, folder):
    for path in paths(folder, load_layer(folder / "layers" / "activation" / "Half.yaml")):
        sound = path.read_bytes()
        path.write_bytes(sound[:-3])
        code, _, err = call("run", *on())
        assert code == 2
        assert str(path) in err
        assert "nnspec record" in err
        path.write_bytes(sound)


def test_stale_goldens_stop_the_run(call, folder):
    half.specification(folder, changed("[2, 4]", "[4, 4]").replace("[1, 2]}}", "[2, 2]}}"))
    code, _, err = call("run", *on())
    assert code == 2
    assert "recorded from another revision" in err
    assert "run: nnspec record --layer Half" in err


def test_record_check_writes_nothing(call, folder):
    before = contents(folder)
    code, out, _ = call("record", "--check", "--backend", half.process())
    assert (code, "0 tensors differ, 0 layers unsound" in out) == (0, True)
    code, out, _ = call("record", "--check", "--backend", half.process("wrong"))
    assert code == 1
    assert "Half ~ Half/by-hand@float32/0/output.output: largest difference 1 " in out
    half.specification(folder, changed("[2, 4]", "[4, 4]").replace("[1, 2]}}", "[2, 2]}}"))
    code, out, _ = call("record", "--check", "--backend", half.process())
    assert code == 1
    assert "recorded from another revision" in out
    half.specification(folder)
    assert contents(folder) == before


def test_record_tells_what_changes(call, folder):
    half.specification(folder, changed("[2, 4]", "[2, 6]").replace("[1, 2]}}", "[1, 3]}}"))
    code, out, _ = call("record", "--backend", half.process())
    assert code == 0
    assert "Half ~ Half/by-hand@float32/0/output.output: largest difference 1 " in out
    assert call("run", *on())[0] == 0


@pytest.mark.parametrize("fault", ["dies", "breaks", "chats"])
def test_a_reference_that_breaks_overwrites_nothing(call, folder, fault):
    before = contents(folder)
    code, _, err = call("record", "--backend", half.process(fault))
    assert code == 2
    assert "backend process" in err
    assert contents(folder) == before


def test_a_broken_lock_is_not_overwritten(call, folder):
    (folder / "goldens.lock").write_text("{")
    before = contents(folder)
    for arguments in (["record", "--backend", half.process()], ["run", *on()]):
        code, _, err = call(*arguments)
        assert code == 2
        assert "goldens.lock: no sound lock file" in err
    assert contents(folder) == before


def test_record_of_an_unknown_layer(call):
    code, _, err = call("record", "--layer", "Third", "--backend", half.process())
    assert (code, "no layer 'Third' in the specification" in err) == (2, True)


# --- the specification ----------------------------------------------------------------------


def test_validate(call, folder, tmp_path):
    assert call("validate")[:2] == (0, "1 files, 0 malformed\n")
    bad = tmp_path / "bad" / "Half.yaml"
    bad.parent.mkdir()
    bad.write_text(changed("revision: 1", "revision: no"))
    shutil.copy(folder / "schema.json", bad.parent)
    code, out, err = call("validate", bad, folder)
    assert (code, out) == (1, "2 files, 1 malformed\n")
    assert f"{bad}: line 5: 'no' is ambiguous" in err
    assert call("validate", tmp_path / "none")[0] == 2
    (tmp_path / "empty").mkdir()
    assert call("validate", tmp_path / "empty")[0] == 2


def test_a_malformed_file_stops_every_command(call, folder):
    half.specification(folder, changed("params: {}", "params: {scal: 1.0}"))
    for arguments in (["run", *on()], ["list"], ["show", "Half"], ["export", "--out", "x"],
                      ["record", "--backend", half.process()]):  # fmt: skip
        code, _, err = call(*arguments)
        assert code == 2
        assert "Half.yaml: case Half/by-hand: unknown parameter 'scal'" in err


def test_show_and_list(call):
    assert "Half" in call("list")[1]
    assert "scale * input" in call("show", "Half")[1]
    code, out, _ = call("show", "Half.B01")
    assert (code, "covered by Half/by-hand" in out) == (0, True)
    assert "caught by Half/by-hand" in call("show", "Half.M01")[1]
    assert "gen: lattice" in call("show", "Half/two-calls@float64")[1]
    code, _, err = call("show", "Half.B77")
    assert (code, "Half has no case, claim or mutant 'Half.B77'" in err) == (2, True)
    code, _, err = call("show", "Hal")
    assert (code, "no layer 'Hal' in the specification; did you mean Half?" in err) == (2, True)
    assert call("list", "--layer", "Third")[0] == 2


def test_show_loses_no_word_of_a_claim_on_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["show", "MaxPool2d.B03"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "a last window that would start at or beyond the end of the input" in words


def test_repro(call):
    code, out, _ = call("repro", "Half/by-hand", *on()[:4])
    assert code == 0
    assert "step 0 wanted output.output" in out
    assert "PASS Half/by-hand@float32" in out
    code, out, _ = call("repro", "Half/by-hand@float64", *on("wrong")[:4])
    assert code == 1
    assert "FAIL Half/by-hand@float64" in out
    assert call("repro", "Half/negative", *on()[:4])[0] == 0
    assert call("repro", "Half/negative", *on("accepts")[:4])[0] == 1
    code, _, err = call("repro", "Half/by-hand@float16", *on()[:4])
    assert code == 2
    assert "not judged in float16; its dtypes are ['float32', 'float64']" in err
    assert call("repro", "Half/none", *on()[:4])[0] == 2


def test_export_needs_no_generator(call, folder):
    code, out, _ = call("export", "--out", "out", "--case", "Half/two-calls")
    assert (code, "2 resolved cases" in out) == (0, True)
    document = json.loads((folder.parent / "out" / "Half.json").read_text())
    case = document["resolved"][0]
    assert case["id"] == "Half/two-calls@float32"
    assert len(case["steps"]) == 2
    assert case["steps"][0]["inputs"]["input"]["shape"] == [3, 2]
    assert len(case["steps"][0]["inputs"]["input"]["values"]) == 3
    assert case["steps"][1]["expected"]["state.calls"]["values"] == 2
    assert call("export", "--out", "out", "--case", "Half/none")[0] == 2
    assert call("export", "--out", "out", "--dtype", "float16")[0] == 2


def test_reports_that_cannot_be_written_stop_the_run_before_it_starts(call, folder):
    code, out, err = call("run", *on(), "--out", folder / "schema.json")
    assert (code, out) == (2, "")
    assert "schema.json" in err


def test_diff(call, folder):
    call("run", *on(), "--out", "before")
    call("run", *on("wrong"), "--out", "after")
    code, out, _ = call("diff", "before/report.json", "after/report.json")
    assert code == 1
    assert "Half/by-hand@float32: pass -> fail" in out
    assert call("diff", "before/report.json", "before/report.json")[0] == 0
    bad = folder.parent / "bad.json"
    for text in ("", "[]", "{}", '{"format": "nnspec-report/1"}',
                 '{"format": "nnspec-report/1", "verdicts": [1]}'):  # fmt: skip
        bad.write_text(text)
        code, _, err = call("diff", bad, "before/report.json")
        assert (code, str(bad) in err) == (2, True)
    assert call("diff", "none.json", bad)[0] == 2


def test_no_specification(tmp_path, capsys):
    assert main(["--spec", str(tmp_path), "list"]) == 2
    assert "no layer files" in capsys.readouterr().err


# --- as a program ---------------------------------------------------------------------------


def nnspec(*arguments, **options):
    command = [sys.executable, "-m", "nnspec.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_the_program_fails_without_a_traceback(folder):
    found = nnspec("--spec", folder, "run", "--backend", half.process("dies-at-start"), *on()[2:])
    assert found.returncode == 2
    assert found.stderr.startswith("nnspec: backend process ")
    assert "Traceback" not in found.stderr


def test_workers_judge_as_one_process_does(folder):
    found = nnspec("--spec", folder, "run", *on("wrong")[:4], "--jobs", "2", "--all", cwd=folder)
    assert found.returncode == 1
    assert "FAIL Half/by-hand@float64" in found.stdout
    assert "Traceback" not in found.stderr


def test_serve_is_a_backend(folder):
    found = nnspec("serve", "nobody")
    assert (found.returncode, "no backend 'nobody'" in found.stderr) == (2, True)


def test_nothing_of_a_framework_is_imported():
    code = (
        "import sys, nnspec, nnspec.cli, nnspec.golden, nnspec.process; "
        "print(sorted({'jax', 'flax', 'torch', 'jaxnn'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
