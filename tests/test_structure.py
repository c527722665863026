"""How the project hangs together: who imports whom, and that code, spec and torch use one name."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import itertools
import re
import typing
import warnings
from pathlib import Path
from typing import Any

import layout
import pytest
import torch
from flax import nnx
from layout import ROOT, files, imported_files, imports

import jaxnn
from nnspec.specification import load_specification, names_without_file, specification_folder

SPECS = load_specification()
OUR_PACKAGES = ("jaxnn", "nnspec", "torchref")


def starts(name: str, *packages: str) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in packages)


@pytest.mark.parametrize("package", OUR_PACKAGES)
def test_no_files_import_each_other_in_a_circle(package: str) -> None:
    assert layout.circle(package) is None


def test_the_architecture_is_drawn_as_it_is() -> None:
    assert layout.PAGE.read_text() == layout.page_with_picture(), "run: python tests/layout.py"


@pytest.mark.parametrize("package", OUR_PACKAGES)
def test_a_private_name_stays_in_its_file(package: str) -> None:
    for path in files(package):
        for name in imports(path):
            is_private = name.rpartition(".")[2].startswith("_") and not name.endswith("__")
            is_ours = starts(name, *OUR_PACKAGES)
            assert not (is_private and is_ours) or layout.module_file(name), (path, name)


@pytest.mark.parametrize("package", OUR_PACKAGES)
def test_files_are_short(package: str) -> None:
    for path in files(package):
        assert len(path.read_text().splitlines()) <= 510, path


def test_the_judge_evaluates_no_expression() -> None:
    for name in ("judge", "accuracy", "properties", "export", "runner"):
        needed = imported_files(ROOT / "nnspec" / f"{name}.py")
        assert ROOT / "nnspec" / "expression.py" not in needed, name


def test_nnspec_imports_no_framework_and_no_backend() -> None:
    for path in files("nnspec"):
        bad = [n for n in imports(path) if starts(n, "jax", "flax", "torch", "jaxnn", "torchref")]
        assert not bad, (path, bad)


def test_torchref_imports_no_jax() -> None:
    for path in files("torchref"):
        assert not [n for n in imports(path) if starts(n, "jax", "flax", "jaxnn")], path


def test_jaxnn_imports_torch_nowhere_at_top_level() -> None:
    for path in files("jaxnn"):
        assert not [n for n in imports(path, True) if starts(n, "torch", "torchref")], path


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("jaxnn/functional", ("jaxnn.modules", "jaxnn.interop", "nnspec")),
        ("jaxnn/modules", ("jaxnn.interop", "nnspec")),
        ("jaxnn/interop", ("nnspec",)),
    ],
)
def test_imports_run_one_way(folder: str, forbidden: tuple[str, ...]) -> None:
    for path in files(folder):
        assert not [n for n in imports(path) if starts(n, *forbidden)], path


# Modules stand below utils and interop, which do not know each other.
@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("jaxnn/modules", ("jaxnn.utils", "jaxnn.sparse", "jaxnn.sharding", "jaxnn.precision")),
        ("jaxnn/utils", ("jaxnn.interop",)),
        ("jaxnn/interop", ("jaxnn.utils",)),
    ],
)
def test_modules_stand_below_what_uses_them(folder: str, forbidden: tuple[str, ...]) -> None:
    for path in files(folder):
        assert not [n for n in imports(path) if starts(n, *forbidden)], path


def test_jaxnn_does_not_import_its_own_face() -> None:
    for path in files("jaxnn"):
        if path.name == "backend.py":  # nnspec's guest, who uses jaxnn as anyone does
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            assert not [name for name in names if starts(name, "jaxnn")], path


@pytest.mark.parametrize("path", ["jaxnn/backend.py", "torchref/backend.py"])
def test_adapters_name_no_layer(path: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    words = {
        n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }
    words |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not words & set(SPECS)


LAYERS = [spec for spec in SPECS.values() if spec.kind == "layer"]


# Where torch has these, jaxnn has them only to say what has replaced them.
REPLACED = {"size_average", "reduce"}


def given_default(param: inspect.Parameter) -> Any:
    if param.default is inspect.Parameter.empty:
        return None
    if inspect.isfunction(inspect.unwrap(param.default)):
        return {"function": param.default.__name__}
    return list(param.default) if isinstance(param.default, tuple) else param.default


@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: spec.name)
def test_signature_is_the_specification(spec: Any) -> None:
    signature = inspect.signature(getattr(jaxnn, spec.name))
    own = {"axis_name", "dtype", "rngs", "_weight", "_freeze", *REPLACED}
    ours = [p for p in signature.parameters.values() if p.name not in own]
    ours = [p for p in ours if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    stated = spec.data["params"]
    assert [p.name for p in ours] == [p["name"] for p in stated]
    for param, entry in zip(ours, stated, strict=True):
        assert given_default(param) == entry.get("default"), param.name
        assert (param.kind is param.KEYWORD_ONLY) == bool(entry.get("keyword_only")), param.name
    assert signature.parameters["rngs"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: spec.name)
def test_specification_has_the_defaults_of_torch(spec: Any) -> None:
    theirs = getattr(torch.nn, spec.name)
    # A recurrent layer takes (*args, **kwargs); its first overload says what they are.
    overloads = typing.get_overloads(theirs.__init__)
    signature = inspect.signature(overloads[0] if overloads else theirs.__init__)
    _, *parameters = signature.parameters.values()
    parameters = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    own = {"device", "dtype", "_weight", "_freeze", *REPLACED}
    theirs = [p for p in parameters if p.name not in own]
    stated = {p["name"]: p.get("default") for p in spec.data["params"]}
    assert {p.name: given_default(p) for p in theirs} == stated


@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: spec.name)
def test_a_layer_is_where_its_family_says(spec: Any) -> None:
    home = f"jaxnn.modules.{spec.family}"
    assert f"{getattr(jaxnn, spec.name).__module__}.".startswith(f"{home}.")
    assert importlib.util.find_spec(f"jaxnn.functional.{spec.family}")


WITH_FUNCTION = [spec for spec in LAYERS if "functional" in spec.data]


def home(thing: Any) -> list[str]:
    """The family and, where that is a folder, the file that a layer or a function stands in."""
    _, _, *parts = thing.__module__.split(".")
    return list(itertools.takewhile(lambda part: part not in IMPLEMENTATION, parts))


# How a function is made where its family, or its file, is a folder of its own.
IMPLEMENTATION = {"definition", "cpu", "functions"}


@pytest.mark.parametrize("spec", WITH_FUNCTION, ids=lambda spec: spec.name)
def test_a_layer_and_its_function_stand_in_files_of_one_name(spec: Any) -> None:
    layer = home(getattr(jaxnn, spec.name))
    function = home(getattr(jaxnn.functional, spec.data["functional"]["name"]))
    shared = min(len(layer), len(function))  # a family of one idea is a file on its side
    assert layer[:shared] == function[:shared]


# torch shows the layers inside these, under names of its own, and a pair for each number.
SHOWN_OTHERWISE = {"MultiheadAttention", "TripletMarginWithDistanceLoss", "AvgPool1d"}
SHOWN_AS_IN_TORCH = [
    spec for spec in LAYERS
    if spec.name not in SHOWN_OTHERWISE and not spec.name.startswith(("Lazy", "Transformer"))
]  # fmt: skip


@pytest.mark.parametrize("spec", SHOWN_AS_IN_TORCH, ids=lambda spec: spec.name)
def test_a_layer_prints_as_in_torch(spec: Any) -> None:
    for case in spec.data["cases"][:3]:
        given = case.get("params", {}).items()
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in given}
        if any(isinstance(value, dict) for value in options.values()):
            continue  # an array or a function
        options = {k: float(v) if v in ("inf", "-inf") else v for k, v in options.items()}
        with warnings.catch_warnings(action="ignore"):
            try:
                theirs = getattr(torch.nn, spec.name)(**options)
            except (TypeError, ValueError, RuntimeError, AssertionError):
                continue  # refused
            ours = getattr(jaxnn, spec.name)(**options, rngs=nnx.Rngs(0))
        assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: spec.name)
def test_a_layer_shows_an_example(spec: Any) -> None:
    assert f"jaxnn.{spec.name}" in getattr(jaxnn, spec.name).__doc__.partition("Example:")[2]


@pytest.mark.parametrize("spec", WITH_FUNCTION, ids=lambda spec: spec.name)
def test_a_layer_leaves_formula_and_errors_to_its_function(spec: Any) -> None:
    layer = getattr(jaxnn, spec.name)
    siblings = "|".join(re.escape(other.name) for other in LAYERS if other.family == spec.family)
    assert re.search(rf"`jaxnn\.functional\.\w+`|`({siblings}|RNN(Cell)?Base)`", layer.__doc__)
    assert not re.search(r"^ *(Formula|Raises):", layer.__doc__, re.MULTILINE)


@pytest.mark.parametrize("spec", WITH_FUNCTION, ids=lambda spec: spec.name)
def test_function_has_the_stated_arguments(spec: Any) -> None:
    function = getattr(jaxnn.functional, spec.data["functional"]["name"])
    parameters = inspect.signature(function).parameters.values()
    positional = [p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    positional = [name for name in positional if name not in REPLACED]
    assert positional == spec.data["functional"]["arguments"]
    for other in spec.data["functional"].get("also", ()):
        assert callable(getattr(jaxnn.functional, other))


def test_what_has_no_file_is_there_all_the_same() -> None:
    named = names_without_file(specification_folder())
    left_out = {"Container", "DataParallel"}  # of no use in JAX
    for name in {*named["layer"]} - left_out:
        assert isinstance(getattr(jaxnn, name), type), name
    assert not (named["layer"].keys() | named["function"].keys()) & SPECS.keys()


# --- jaxnn.functional: definitions, formulations, and the seam between them --------------------


def names_in(path: Path) -> set[str]:
    """The names and attributes that a file's code mentions."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {n.id for n in nodes if isinstance(n, ast.Name)}
    return names | {n.attr for n in nodes if isinstance(n, ast.Attribute)}


def test_one_module_asks_for_a_platform() -> None:
    for path in files("jaxnn"):
        if path.name != "_xla.py":
            assert not names_in(path) & {"platform_dependent", "set_xla_metadata"}, path


@pytest.mark.parametrize("path", sorted((ROOT / "jaxnn/functional").rglob("definition.py")))
def test_a_definition_knows_no_platform(path: Path) -> None:
    hints = {"platform_dependent", "set_xla_metadata", "optimization_barrier"}
    assert not names_in(path) & hints
    folder = ".".join(path.relative_to(ROOT).parent.parts)
    above = [f"{folder}.{name}" for name in ("cpu", "functions")]
    assert not [n for n in imports(path) if starts(n, "jaxnn._xla", *above)]


def test_a_formulation_for_a_cpu_stands_beside_a_definition() -> None:
    for path in (ROOT / "jaxnn/functional").rglob("cpu.py"):
        assert path.with_name("definition.py").exists(), path


# --- jaxnn.interop ------------------------------------------------------------------------------

INTEROP = ROOT / "jaxnn" / "interop"
# As its docstring has them: a file imports from its own floor and from those below alone.
FLOORS = (
    {*layout.INTEROP["weights"]},
    {"importer"},
    {*layout.INTEROP["what ports are built on"], "proof"},
    {*layout.INTEROP["what users call"]},
    {"porting"},
)


def place(path: Path) -> str:
    """The file or folder of jaxnn.interop that a file is, or is in."""
    return path.relative_to(INTEROP).parts[0].removesuffix(".py")


def test_interop_stands_on_floors() -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    for path in files("jaxnn/interop"):
        if path.parent == INTEROP and path.name == "__init__.py":
            continue
        for name in imports(path):
            if starts(name, "jaxnn.interop") and name != "jaxnn.interop":
                used = name.removeprefix("jaxnn.interop.").split(".")[0]
                assert floor[used] <= floor[place(path)], (path, name)


def test_interop_uses_no_private_attribute_of_another_file() -> None:
    defined = {path: private_names(path) for path in files("jaxnn/interop")}
    # Models of torch have some of these names too.
    known = {*vars(torch.nn.Module()), *dir(torch.Tensor), *dir(torch.nn.Module)}
    for path, own in defined.items():
        foreign = set().union(*defined.values()) - own - known
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) != "self":
                assert node.attr not in foreign, (path, node.lineno, node.attr)


def private_names(path: Path) -> set[str]:
    """The private names that a file defines, attributes of its objects among them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


def test_the_port_does_not_walk_the_original() -> None:
    walks = {"_buffers", "_modules", "get_submodule", "named_children", "named_modules"}
    for path in files("jaxnn/interop/porting"):
        nodes = ast.walk(ast.parse(path.read_text()))
        assert not walks & {n.attr for n in nodes if isinstance(n, ast.Attribute)}, path


def test_spellings_mirror_the_operators() -> None:
    folders = (INTEROP / "importer" / "operators", INTEROP / "porting" / "spellings")
    operators, spellings = ({path.name for path in folder.glob("*.py")} for folder in folders)
    assert operators == spellings
