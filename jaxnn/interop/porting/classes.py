"""The classes of a port: one for each distinct original class, with what its instances differ in.

Modules of one original class, with the same programs and parts, are instances of one class. What
is the same in all of them stands in its `__init__`; what differs becomes its parameters, one for
all options whose values are the same in every instance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from .code import RESERVED, Code, call, constant, dtype, is_name, joined, sequence
from .parts import Part, defaults_of


@dataclass
class Definition:
    """A class of the port.

    Attributes:
        name: its name.
        instances: the modules that are instances of it.
        parameters: the arguments of `__init__`, in order, with their values for each instance.
        names: the parameter for each set of values that the instances differ in.
    """

    name: str
    instances: list[Part] = field(default_factory=list)
    parameters: dict[str, list[Any]] = field(default_factory=dict)
    names: dict[tuple[str, ...], str] = field(default_factory=dict)

    @property
    def first(self) -> Part:
        """The first instance."""
        return self.instances[0]


def definitions_of(root: Part) -> list[Definition]:
    """Return the classes of a model, parts before wholes, and note them in the tree."""
    found: dict[Any, Definition] = {}
    names: set[str] = set(RESERVED)
    for part in _upwards(root):
        if part.kind != "class":
            continue
        key = _key(part)
        if key not in found:
            name, count = part.name, 2
            while name in names:
                name, count = f"{part.name}{count}", count + 1
            names.add(name)
            found[key] = Definition(name)
        found[key].instances.append(part)
        part.definition = found[key]
    for definition in found.values():
        _find_parameters(definition)
    return list(found.values())


def _upwards(part: Part) -> Iterator[Part]:
    for child in part.children.values():
        yield from _upwards(child)
    yield part


def _key(part: Part) -> Any:
    """Return what instances of one class have in common."""
    if part.kind == "layer":
        return "layer", part.name, part.frozen, part.takes_rngs
    if part.kind == "class" and part.definition is not None:
        return "instance", id(part.definition)
    children = tuple((name, _key(child)) for name, child in part.children.items())
    state = tuple((v.name, v.kind, len(v.shape), v.dtype) for v in part.state)
    modes = (_identity(part.training), _identity(part.evaluation))
    return part.kind, part.name, part.original.__module__, part.base, children, state, modes


def _identity(programs: Any) -> Any:
    return programs if isinstance(programs, str) else tuple(map(id, programs))


# --- what instances differ in -------------------------------------------------------------------


@dataclass(frozen=True)
class Slot:
    """A place of a class's `__init__` where its instances may differ."""

    owner: str
    option: str
    values: tuple[Any, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The values, to be compared."""
        return tuple(map(repr, self.values))

    @property
    def differs(self) -> bool:
        """Whether the instances differ here."""
        return len(set(self.key)) > 1


def _slots(owner: str, parts: list[Part]) -> Iterator[Slot]:
    """Yield the slots of a part, which is the same in all instances but for these."""
    first = parts[0]
    if first.kind == "layer":
        for option in first.options:
            yield Slot(owner, option, tuple(part.options.get(option) for part in parts))
    elif first.kind == "class" and owner:
        for parameter in first.definition.parameters:
            yield Slot(owner, parameter, tuple(part.arguments[parameter] for part in parts))
    else:
        yield from _parts_slots(owner, parts)


def _parts_slots(owner: str, parts: list[Part]) -> Iterator[Slot]:
    for name in parts[0].children:
        inner = f"{owner}.{name}" if owner else name
        yield from _slots(inner, [part.children[name] for part in parts])
    for at, variable in enumerate(parts[0].state):
        for dim in range(len(variable.shape)):
            sizes = tuple(part.state[at].shape[dim] for part in parts)
            yield Slot(f"{owner}.{variable.name}" if owner else variable.name, f"size_{dim}", sizes)


def _find_parameters(definition: Definition) -> None:
    groups: dict[tuple[str, ...], list[Slot]] = {}
    for slot in _parts_slots("", definition.instances):
        if slot.differs:
            groups.setdefault(slot.key, []).append(slot)
    for key, slots in groups.items():
        name = _parameter_name(slots, set(definition.parameters))
        definition.names[key] = name
        definition.parameters[name] = list(slots[0].values)
    for at, part in enumerate(definition.instances):
        part.arguments = {name: values[at] for name, values in definition.parameters.items()}


def _parameter_name(slots: list[Slot], taken: set[str]) -> str:
    options = list(dict.fromkeys(slot.option for slot in slots))
    candidates = [
        option.removeprefix("in_")
        for option in options
        if option.startswith("in_") and f"out_{option.removeprefix('in_')}" in options
    ]
    candidates += options
    owner = slots[0].owner.replace(".", "_")
    prefixed = f"{owner}_{options[0]}"
    candidates.append(prefixed if is_name(prefixed) else f"part_{prefixed}")
    candidates += [f"{options[0]}_{count}" for count in range(2, 10_000)]
    usable = (name for name in candidates if name not in taken | RESERVED and is_name(name))
    return next(usable)


# --- construction -------------------------------------------------------------------------------


class Constructor:
    """Writes how the parts of a class are constructed.

    Args:
        definition: the class; None outside of every class.
        parts: its instances, or the root alone.
    """

    def __init__(self, definition: Definition | None, parts: list[Part]) -> None:
        self.definition, self.parts = definition, parts

    def _value(self, slot: Slot) -> Code:
        if slot.differs:
            assert self.definition is not None
            return Code(self.definition.names[slot.key])
        return _written(slot.option, slot.values[0])

    def part(self, owner: str, parts: list[Part]) -> Code:
        """Return the construction of a part."""
        first = parts[0]
        if first.kind == "none":
            return Code("None")
        if first.kind == "layer":
            return self._layer(owner, parts)
        if first.kind == "class":
            options = {slot.option: self._value(slot) for slot in _slots(owner or " ", parts)}
            return call(first.definition.name, **options, **_rngs(first))
        if first.kind.endswith("parameters"):
            return self._parameters(owner, parts)
        children = self.children(owner, parts)
        if first.kind == "list":
            return call("jaxnn.ModuleList", _list(list(children.values())))
        if first.kind == "dict":
            return call("jaxnn.ModuleDict", _dict(children))
        return call("jaxnn.Sequential", *sequential_arguments(children))

    def children(self, owner: str, parts: list[Part]) -> dict[str, Code]:
        """Return the construction of each part of a part."""
        return {
            name: self.part(f"{owner}.{name}" if owner else name, [n.children[name] for n in parts])
            for name in parts[0].children
        }

    def _layer(self, owner: str, parts: list[Part]) -> Code:
        first = parts[0]
        slots = {slot.option: slot for slot in _slots(owner, parts)}
        args: list[Code] = []
        options: dict[str, Code] = {}
        for name, default in defaults_of(first.name).items():
            slot = slots.get(name)
            if slot is None or (not slot.differs and _is_default(slot.values[0], default)):
                continue
            if default is ... and len(args) == list(defaults_of(first.name)).index(name):
                args.append(self._value(slot))
            else:
                options[name] = self._value(slot)
        layer = call(f"jaxnn.{first.name}", *args, **options, **_rngs(first))
        if not first.frozen:
            return layer
        return call("ported.freeze", layer, *map(constant, first.frozen))

    def _parameters(self, owner: str, parts: list[Part]) -> Code:
        variables = {v.name: self.variable(owner, parts, at) for at, v in enumerate(parts[0].state)}
        if parts[0].kind == "parameters":
            return call("jaxnn.ParameterList", _list(list(variables.values())))
        # The order of a plain dict would be lost.
        pairs = [sequence([constant(name), value]) for name, value in variables.items()]
        return call("jaxnn.ParameterDict", sequence(pairs, "[]"))

    def variable(self, owner: str, parts: list[Part], at: int) -> Code:
        """Return the construction of a parameter or buffer, whose values are loaded."""
        variable = parts[0].state[at]
        if variable.kind == "tied":
            return Code("nnx.data(None)")
        full = f"{owner}.{variable.name}" if owner else variable.name
        sizes = [
            self._value(Slot(full, f"size_{dim}", tuple(n.state[at].shape[dim] for n in parts)))
            for dim in range(len(variable.shape))
        ]
        kind = [] if variable.dtype == "float32" else [dtype(variable.dtype)]
        return call(variable.kind, call("jnp.zeros", sequence(sizes), *kind))


def _written(option: str, value: Any) -> Code:
    if option == "dtype":
        return dtype(value)
    if isinstance(value, (tuple, list)):
        brackets = "()" if isinstance(value, tuple) else "[]"
        return sequence([constant(item) for item in value], brackets)
    return constant(value)


def _is_default(value: Any, default: Any) -> bool:
    numbers = isinstance(value, (int, float)) and isinstance(default, (int, float))
    return (numbers or type(value) is type(default)) and bool(value == default)


def _rngs(part: Part) -> dict[str, Code]:
    return {"rngs": Code("rngs")} if part.takes_rngs else {}


def sequential_arguments(children: dict[str, Code]) -> list[Code]:
    """Return the arguments of a Sequential, whose parts may have names of their own."""
    if list(children) == [str(i) for i in range(len(children))]:
        return _runs(list(children.values()))
    if all(is_name(name) for name in children):
        return [call("OrderedDict", **children)]
    pairs = [sequence([constant(name), value]) for name, value in children.items()]
    return [call("OrderedDict", sequence(pairs, "[]"))]


def list_argument(children: dict[str, Code]) -> Code:
    """Return the argument of a ModuleList."""
    return _list(list(children.values()))


def _runs(parts: list[Code]) -> list[Code]:
    """Return arguments, with a comprehension for parts that repeat."""
    found: list[Code] = []
    for _, group in groupby(parts, key=lambda part: part.text):
        same = list(group)
        if len(same) > 1 and same[0].text != "None" and len(same) * len(same[0].text) > 40:
            found.append(_star(same))
        else:
            found += same
    return found


def _star(same: list[Code]) -> Code:
    return joined(f"*({same[0].text} for _ in range({len(same)}))", same)


def _list(parts: list[Code]) -> Code:
    if len(parts) > 1 and len({part.text for part in parts}) == 1 and parts[0].text != "None":
        return joined(f"[{parts[0].text} for _ in range({len(parts)})]", parts)
    return sequence(_runs(parts), "[]")


def _dict(children: dict[str, Code]) -> Code:
    text = ", ".join(f"{constant(name).text}: {code.text}" for name, code in children.items())
    return joined(f"{{{text}}}", children.values())
