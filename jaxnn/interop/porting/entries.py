"""The kinds of calls that a port is for: each with its programs, of which one may hold for two."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from flax import nnx

from ..importer.guards import Guard
from ..importer.imported import Imported, forwards_of
from ..importer.program import Body, Call, Program
from ..importer.tree import Node
from .conditions import as_written
from .examples import Example
from .flow import same_flow

TRAINING, EVALUATION = "training", "evaluation"
MODES = {TRAINING: True, EVALUATION: False}


@dataclass(eq=False)
class Entry:
    """A kind of call of the model as a whole.

    Attributes:
        programs: by mode; none where the model cannot be called so in it.
        examples: calls of the kind.
    """

    programs: dict[str, Program]
    examples: list[Example] = field(default_factory=list)

    @property
    def bodies(self) -> list[Body]:
        """The forward passes of the modes."""
        return [program.body for program in self.programs.values()]


def entries_of(net: nnx.Module, examples: Sequence[Example]) -> list[Entry]:
    """Return the kinds of calls that an import has programs for; none of what is a layer.

    A program that holds for the calls of another stands for both.
    """
    if not isinstance(net, Imported):
        return []
    found: dict[tuple[Any, ...], Entry] = {}
    for example in examples:
        programs = _programs_for(net, example)
        if programs:
            entry = found.setdefault(tuple(programs.items()), Entry(programs))
            entry.examples.append(example)
    if not found:  # which says why
        args, kwargs = examples[0].call.in_jax(examples[0].call.arrays())
        forwards_of(net).fitting(False, args, kwargs)
    return _fewest(net, list(found.values()))


def _programs_for(net: Imported, example: Example) -> dict[str, Program]:
    args, kwargs = example.call.in_jax(example.call.arrays())
    programs = {}
    for mode, training in MODES.items():
        with suppress(ValueError, TypeError):
            body = forwards_of(net).fitting(training, args, kwargs)
            known = forwards_of(net).of(training)
            programs[mode] = next(p for p in known if isinstance(p, Program) and p.body is body)
    return programs


def _fewest(net: Imported, entries: list[Entry]) -> list[Entry]:
    kept: list[Entry] = []
    for entry in entries:
        for at, one in enumerate(kept):
            both = _for_both(net, one, entry) or _for_both(net, entry, one)
            if both is not None:
                kept[at] = both
                break
        else:
            kept.append(entry)
    return kept


def _for_both(net: Imported, general: Entry, special: Entry) -> Entry | None:
    """Return a kind of call that is two, if the programs of the first hold for the second too."""
    if general.programs.keys() != special.programs.keys():
        return None
    programs: dict[str, Program] = {}
    made: dict[tuple[Program, Program], Program] = {}
    for mode, program in general.programs.items():
        pair = program, special.programs[mode]
        if pair not in made:
            body = _widened(pair[0].body, pair[1].body)
            calls = [call for example in special.examples for call in example.in_jax()]
            if body is None or not all(
                same_flow(net, pair[0].body, pair[1].body, call, MODES[mode]) for call in calls
            ):
                return None
            made[pair] = Program(body)
        programs[mode] = made[pair]
    return Entry(programs, [*general.examples, *special.examples])


def _widened(body: Body, other: Body) -> Body | None:
    """Return a program with the conditions that it or another has, if these can be joined.

    What the other fixes, and the program does not, is no condition then, and a condition that says
    that it is not so.
    """
    alike = ("inputs", "captured", "extra")
    if any(getattr(body, name) != getattr(other, name) for name in alike):
        return None
    fixed: dict[str, int] = {}
    ours, theirs = dict(body.shapes), dict(other.shapes)
    if ours.keys() != theirs.keys():
        return None
    for name, shape in ours.items():
        for dim, (size, wanted) in enumerate(zip(shape, theirs[name], strict=True)):
            if size is None and wanted is not None:
                fixed[f"{name}.shape[{dim}]"] = wanted
            elif size != wanted:
                return None
    if not fixed:
        return None
    told = " and ".join(f"{name} == {size}" for name, size in fixed.items())
    guards: list[Guard] = []
    asked: set[str] = set()
    for guard in body.guards:
        text = _with_sizes(guard.text, fixed)
        if text == "False":
            weaker = as_written(f"{guard.text} or {told}")
            if not re.fullmatch(r"True|\S+ >= 1", weaker):
                return None
        else:
            guards.append(guard)
            asked.add(text)
    of_other = {_with_sizes(guard.text, fixed) for guard in other.guards}
    if (asked | {"True"}) != (of_other | {"True"}):
        return None
    return replace(body, guards=tuple(guards))


def _with_sizes(text: str, fixed: dict[str, int]) -> str:
    """Return a condition with numbers for some sizes."""
    text = re.sub(r"\w+\.shape\[\d+\]", lambda size: str(fixed.get(size[0], size[0])), text)
    if ".shape" not in text:
        return str(bool(eval(text, {"__builtins__": {}}, {"min": min, "max": max})))
    return as_written(text)


# --- the programs of parts that are called --------------------------------------------------------


def variants_called(root: Node, entries: Sequence[Entry]) -> dict[str, tuple[int, ...]]:
    """Return the numbers of each part's programs that some call runs, by the part's path."""
    found: dict[str, set[int]] = {}
    seen: set[tuple[str, str, int]] = set()

    def follow(node: Node, body: Body, mode: str) -> None:
        for step in body.steps:
            if not isinstance(step, Call):
                continue
            child = _at(node, step.module)
            if child is None or (child.path, mode, step.variant) in seen:
                continue
            seen.add((child.path, mode, step.variant))
            found.setdefault(child.path, set()).add(step.variant)
            for programs in _of_modes(child, mode):
                follow(child, programs[min(step.variant, len(programs) - 1)].body, mode)

    for entry in entries:
        for mode, program in entry.programs.items():
            follow(root, program.body, mode)
    return {path: tuple(sorted(numbers)) for path, numbers in found.items()}


def _of_modes(node: Node, mode: str) -> Iterator[tuple[Program, ...]]:
    """Yield a part's programs: in the mode of the whole, and in the other, which it may be in."""
    for programs in (node.training, node.evaluation):
        if programs and not isinstance(programs, str):
            yield programs


def _at(node: Node, path: str) -> Node | None:
    """Return the part at a path; None for what is in a layer."""
    for name in filter(None, path.split(".")):
        if node.kind == "layer" or name not in node.children:
            return None
        node = node.children[name]
        if node.same is not None:
            node = node.same
    return node
