"""The call of a model that has several programs: its arguments, and when each program is run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..importer.guards import Guard
from ..importer.program import Body, Input, Structure, Value, leaves, rebuild
from .code import RESERVED, constant, is_name
from .conditions import as_written, conditions_of
from .entries import EVALUATION, Entry
from .modes import OfMode
from .signatures import argument, of_arrays, parameters_of, places_of
from .wrapping import at_operators, with_message, wrapped

_ABSENT = object()


@dataclass(frozen=True)
class Branch:
    """One of the programs of a model.

    Attributes:
        name: of the method that it becomes.
        condition: when it is run, as source; "" for always.
        told: that condition in words.
        asked: the conditions on sizes among that, which the method need not ask for again.
        passed: what the method is called with.
    """

    name: str
    condition: str
    told: str
    asked: frozenset[str]
    passed: tuple[str, ...]


def arguments_of(entries: Sequence[Entry], forward: Callable[..., Any]) -> list[Input]:
    """Return the arguments that a port takes: those that hold arrays, or that its programs part by.

    Args:
        entries: the kinds of calls.
        forward: the original's function, for the order of its arguments.
    """
    known: dict[str, list[Input]] = {}
    for entry in entries:
        for item in entry.bodies[0].inputs:
            known.setdefault(item.name, []).append(item)
    order = {name: at for at, name in enumerate(inspect.signature(forward).parameters)}
    return [
        next((item for item in items if leaves(item.structure)), items[0])
        for name, items in sorted(known.items(), key=lambda pair: order.get(pair[0], len(order)))
        if any(leaves(item.structure) for item in items) or _differs(_structures(name, entries))
    ]


def branches_of(
    entries: Sequence[Entry], forward: Callable[..., Any], taken: set[str], modes: Sequence[str]
) -> list[Branch]:
    """Return the programs of a model in the order in which a call is offered to them.

    Args:
        entries: the kinds of calls.
        forward: the original's function.
        taken: names that its class has already.
        modes: those that the model has programs in.
    """
    arguments = arguments_of(entries, forward)
    found: list[Branch] = []
    for entry in entries:
        asked = [
            (item.name, *_asked(argument(item), _structure(item.name, entry), others))
            for item in arguments
            if _differs(others := _structures(item.name, entries))
        ]
        rivals = [e for e in entries if e is not entry and _same_structures(e, entry, arguments)]
        sizes = _sizes_asked(entry, rivals)
        places = places_of(entry.bodies[0])
        conditions = [condition for _, condition, _ in asked]
        conditions += [of_arrays(text, places) for text in sizes]
        if len(entry.programs) < len(modes):
            mode = next(iter(entry.programs))
            conditions.append(
                "self.deterministic" if mode == EVALUATION else "not self.deterministic"
            )
        words = [word for name, _, word in asked if not _is_default(name, entry, forward)]
        words = words or [word for _, _, word in asked[:1]]
        if any(re.fullmatch(r"\w+\.shape\[0\] == 1", text) for text in sizes):
            words.append("batch_of_one")
        elif any(re.fullmatch(r"\w+\.shape\[0\] (!= 1|>= 2)", text) for text in sizes):
            words.append("batch")
        words += [word for _, _, word in asked if word not in words]
        name = _name(words, taken | {branch.name for branch in found})
        told = " and ".join(conditions) or "any others"
        condition = " and ".join(conditions)
        found.append(Branch(name, condition, told, frozenset(sizes), _passed(entry.bodies[0])))
    # Of two that are each other's contrary, the second needs no condition.
    are_sizes = len(found) == 2 and all({branch.condition} == branch.asked for branch in found)
    if are_sizes and as_written(" or ".join(branch.condition for branch in found)) == "True":
        found[1] = replace(found[1], condition="")
    return found


def _passed(body: Body) -> tuple[str, ...]:
    """Return what a method that is this program is called with."""
    found, is_named = [], False
    for parameter in parameters_of(body):
        if parameter == "*":
            is_named = True
        else:
            name = parameter.lstrip("*")
            is_plain = parameter == name and is_named
            found.append(f"{name}={name}" if is_plain else parameter)
    return tuple(found)


def signature_of(
    entries: Sequence[Entry], forward: Callable[..., Any]
) -> tuple[list[str], list[str]]:
    """Return the parameters of the call, and the names of those that may be left out."""
    defaults = inspect.signature(forward).parameters
    parameters: list[str] = []
    optional: list[str] = []
    is_named = False
    for item in arguments_of(entries, forward):
        name = argument(item)
        if item.variadic:
            parameters.append(f"{item.variadic}{name}")
            is_named = True
            continue
        default = defaults[item.name].default if item.name in defaults else _ABSENT
        has_default = default is None or isinstance(default, (bool, int, float, str))
        is_optional = has_default and (optional or _differs(_structures(item.name, entries)))
        if (item.keyword_only or (optional and not is_optional)) and not is_named:
            parameters.append("*")
            is_named = True
        if is_optional:
            optional.append(item.name)
        parameters.append(f"{name}={constant(default).text}" if is_optional else name)
    return parameters, optional


def refusal(name: str, branches: Sequence[Branch]) -> list[str]:
    """Return the statement that refuses a call that no program is for."""
    told = "; or ".join(branch.told for branch in branches)
    text = f"{name} was ported for calls where {told}: port it with an example of this one too"
    return with_message("raise ValueError", [], text, 8)


def choice(branch: Branch, call: str) -> list[str]:
    """Return the statement that runs a program where its condition holds."""
    if not branch.condition:
        return wrapped(f"return {call}", 8)
    lines = [f"        if {branch.condition}:"]
    if len(lines[0]) > 100:
        parts = at_operators(branch.condition, 88)
        lines = ["        if (", *(f"            {part}" for part in parts), "        ):"]
    return [*lines, *wrapped(f"return {call}", 12)]


# --- structures ----------------------------------------------------------------------------------


def _structure(name: str, entry: Entry) -> Any:
    return next((i.structure for i in entry.bodies[0].inputs if i.name == name), _ABSENT)


def _structures(name: str, entries: Sequence[Entry]) -> list[Any]:
    return [_structure(name, entry) for entry in entries]


def _plain(structure: Any) -> Any:
    """Return a structure without the names of its arrays, and with the types of its constants."""
    if structure is _ABSENT:
        return "absent"
    return repr(rebuild(structure, lambda leaf: Value("")))


def _differs(structures: Sequence[Any]) -> bool:
    return len(set(map(_plain, structures))) > 1


def _same_structures(one: Entry, other: Entry, arguments: Sequence[Input]) -> bool:
    return not any(_differs(_structures(item.name, [one, other])) for item in arguments)


def _asked(name: str, structure: Any, all_of_it: Sequence[Any]) -> tuple[str, str]:
    """Return the condition that an argument is of a structure, and a word for that."""
    others = [other for other in all_of_it if _differs([structure, other])]
    only_none = all(other is None for other in others)
    if structure is None:
        return f"{name} is None", f"without_{name}"
    if isinstance(structure, bool):
        if all(isinstance(other, bool) for other in others):
            return (name, name) if structure else (f"not {name}", f"not_{name}")
        return f"{name} is {structure}", name if structure else f"not_{name}"
    if only_none:
        return f"{name} is not None", f"with_{name}"
    is_constant = isinstance(structure, (int, float, str))
    if is_constant and not any(map(_holds_arrays, others)):
        return f"{name} == {constant(structure).text}", f"{name}_{structure}"
    return f"ported.fits({name}, {_literal(structure)})", f"with_{name}"


def _holds_arrays(structure: Any) -> bool:
    return structure is not _ABSENT and bool(leaves(structure))


def _literal(structure: Any) -> str:
    """Return a structure as source, `...` for an array."""
    if isinstance(structure, Value):
        return "..."
    if isinstance(structure, Structure):
        pairs = ", ".join(f"{constant(n).text}: {_literal(v)}" for n, v in structure.fields)
        return f"{{{pairs}}}"
    if isinstance(structure, list):
        return f"[{', '.join(map(_literal, structure))}]"
    if isinstance(structure, tuple):
        inside = ", ".join(map(_literal, structure))
        return f"({inside},)" if len(structure) == 1 else f"({inside})"
    return constant(structure).text


def _is_default(name: str, entry: Entry, forward: Callable[..., Any]) -> bool:
    """Whether an argument of a kind of call is what it is where it is not given."""
    parameter = inspect.signature(forward).parameters.get(name)
    structure = _structure(name, entry)
    return parameter is not None and not _differs([structure, parameter.default])


def _name(words: Sequence[str], taken: set[str]) -> str:
    """Return a name for a method from what it is for: of several words as few as tell it apart."""
    parts = [re.sub(r"\W", "_", word) for word in words]
    names = ["_and_".join(parts[:count]) for count in range(1, len(parts) + 1)]
    names += [f"call_{count}" for count in range(2, 1000)]
    return next(name for name in names if is_name(name) and name not in taken | RESERVED)


# --- sizes ---------------------------------------------------------------------------------------


def common_conditions(entry: Entry) -> list[Guard]:
    """Return the conditions on sizes that a call has in every mode."""
    first, *rest = entry.bodies
    guards = [
        guard
        for guard in first.guards
        if not isinstance(guard, OfMode) and all(guard in body.guards for body in rest)
    ]
    return conditions_of(guards)


def _sizes_asked(entry: Entry, rivals: Sequence[Entry]) -> list[str]:
    """Return the conditions on sizes that part a kind of call from others of its structure."""
    if not rivals:
        return []
    shapes = dict(entry.bodies[0].shapes)
    fixed = [
        f"{name}.shape[{dim}] == {size}"
        for name, shape in shapes.items()
        for dim, size in enumerate(shape)
        if size is not None
        and any(dict(r.bodies[0].shapes).get(name, shape)[dim] != size for r in rivals)
    ]
    theirs = [{guard.text for guard in common_conditions(rival)} for rival in rivals]
    own = [guard.text for guard in common_conditions(entry)]
    return [*fixed, *(text for text in own if not all(text in texts for texts in theirs))]
