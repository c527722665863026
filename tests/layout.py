"""Who imports whom, read from the files.

`python tests/layout.py` draws it in docs/architecture.md.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
# jaxnn.interop's own files, by floor; its folders are rooms of their own.
INTEROP = {
    "weights": (
        "checkpoint", "flax_layers", "layout", "linen_variables", "old_forms", "placement",
        "rename", "state_dict",
    ),
    "what ports are built on": ("aten", "ported"),
    "what users call": (
        "call", "export", "from_torch", "lora", "lora_files", "lora_layers", "programs",
        "recapturing", "symbolic_sizes", "verify",
    ),
}  # fmt: skip


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """The modules that a file imports and the names it takes from them, relative ones resolved."""
    for module, name in _imports(path, top_level_only):
        yield module
        if name:
            yield f"{module}.{name}"


def imported_files(path: Path) -> set[Path]:
    """Those of our files that a file needs: of `from . import name`, the module of that name."""
    found = set()
    for module, name in _imports(path):
        found.add((name and module_file(f"{module}.{name}")) or module_file(module))
    return {file for file in found if file is not None} - {path}


def module_file(name: str) -> Path | None:
    """The file of one of our modules."""
    path = ROOT.joinpath(*name.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def _imports(path: Path, top_level_only: bool = False) -> Iterator[tuple[str, str | None]]:
    package = list(path.relative_to(ROOT).with_suffix("").parts)
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield from ((module, alias.name) for alias in node.names)


def circle(folder: str) -> str | None:
    """Files of a folder that import each other in a circle, or None."""
    needs = {path: imported_files(path) for path in files(folder)}
    try:
        tuple(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        return " -> ".join(str(path.relative_to(ROOT)) for path in error.args[1])
    return None


# --- the picture ----------------------------------------------------------------------------


def room(path: Path) -> str | None:
    """The folder that a file is in, or itself where it stands alone; None for a package's face."""
    parts = path.relative_to(ROOT).parts
    if parts[0] != "jaxnn":
        return parts[0]
    if parts[-1] == "__init__.py" and parts[1:] in (("__init__.py",), ("interop", "__init__.py")):
        return None
    if len(parts) == 2:
        if parts[1].startswith("__"):
            return None
        return "jaxnn/_*.py" if parts[1].startswith("_") else f"jaxnn/{parts[1]}"
    if parts[1] == "interop" and len(parts) == 3:
        floor = next(name for name, stems in INTEROP.items() if parts[2][:-3] in stems)
        return f"jaxnn/interop: {floor}"
    return "/".join(parts[: 3 if parts[1] == "interop" else 2])


def rooms() -> dict[str, set[str]]:
    """Each room with those that its files import from."""
    found: dict[str, set[str]] = {}
    for path in [*files("jaxnn"), *files("nnspec"), *files("torchref")]:
        own = room(path)
        if own is not None:
            used = {room(file) for file in imported_files(path)}
            found.setdefault(own, set()).update(name for name in used if name not in (None, own))
    return found


def picture() -> str:
    """The rooms by floor, the highest first, each with the rooms that it stands on directly."""
    needs = rooms()

    @cache
    def floor(name: str) -> int:
        return 1 + max((floor(other) for other in needs[name]), default=0)

    @cache
    def below(name: str) -> frozenset[str]:
        return frozenset(needs[name]).union(*(below(other) for other in needs[name]))

    lines = []
    for name in sorted(needs, key=lambda name: (-floor(name), name)):
        indirect = frozenset[str]().union(*(below(other) for other in needs[name]))
        direct = sorted(needs[name] - indirect, key=lambda other: (-floor(other), other))
        lines.append(f"{floor(name):>2}  {name:<42} {', '.join(direct)}".rstrip())
    return "\n".join([f"    {'room':<42} stands on", *lines])


def page_with_picture() -> str:
    """The page, with the picture of today's imports."""
    start, end = "```text\n", "\n```"
    before, _, rest = PAGE.read_text().partition(start)
    return before + start + picture() + end + rest.partition(end)[2]


if __name__ == "__main__":
    PAGE.write_text(page_with_picture())
