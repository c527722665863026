"""A program as the lines of a method."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..importer.guards import Guard
from ..importer.operators import DRAWING
from ..importer.program import (
    Assign,
    Body,
    Call,
    Custom,
    Literal,
    Opaque,
    Operation,
    State,
    Structure,
    Value,
    calls_in_turn,
    leaves,
)
from ..importer.tree import parts_called
from .code import RESERVED, TERNARY, Code, call, constant, dtype, is_name, joined, sequence
from .conditions import conditions_of
from .hints import hints_of, names_of_sizes
from .loops import rolled
from .modes import Choice, OfMode
from .observing import Kind, Kinds
from .parts import Part
from .signatures import argument, of_arrays, parameters_of, places_of, without_constants
from .simplify import Item, simplified
from .spellings import spelled
from .steps import values_in
from .wrapping import INDENT, WIDTH, with_message, wrapped

DEPTH = 4

_READABLE = {
    "sym_size": "size", "getitem": "part", "scaled_dot_product_attention": "attention",
    "to_copy": "converted", "slice": "part",
}  # fmt: skip


@dataclass
class Method:
    """The lines of a method, and what it needs.

    Attributes:
        parameters: of its signature.
        lines: of its body.
        uses_mode: whether it asks for the mode.
        draws: whether it draws itself.
    """

    parameters: list[str]
    lines: list[str]
    uses_mode: bool = False
    draws: bool = False


class MethodWriter:
    """Writes the lines of one program.

    Args:
        body: the program.
        part: a module that has it.
        kinds: what is known of the program's values.
        called: the program that a part of the model has, by the part and the variant.
        call_names: what the results of calls are called, by the attribute called.
        function: the name of a function with a gradient of its own, in the file.
        asked: conditions on sizes that hold where the method is called.
    """

    def __init__(
        self,
        body: Body,
        part: Part,
        kinds: Kinds,
        called: Callable[[Part, int], Body],
        call_names: Mapping[str, list[str]],
        function: Callable[[Custom], str],
        asked: frozenset[str] = frozenset(),
    ) -> None:
        self.body, self.part, self.kinds, self.asked = body, part, kinds, asked
        self.called, self.function = called, function
        self.lines: list[str] = []
        self.codes: dict[str, Code] = {}
        self.pending: dict[str, Code] = {}
        self.held: dict[str, str] = {}
        self.done: set[int] = set()
        self.reads: set[str] = set()
        self.uses_mode = self.draws = False
        self.items = simplified(body, part, kinds)
        self.consumers: dict[str, set[int]] = {}
        self.counts: Counter[str] = Counter()
        for at, item in enumerate(self.items):
            for name in values_in(item.step):
                self.consumers.setdefault(name, set()).add(at)
                self.counts[name] += 1
        self.hints = hints_of(self.items, call_names, self._names_of_sizes())

    def _names_of_sizes(self) -> dict[tuple[str, int], str]:
        """Return what the original calls the sizes of its arguments, by the arrays' names."""
        arrays = {
            item.name: item.structure.name
            for item in self.body.inputs
            if isinstance(item.structure, Value)
        }
        return {
            (arrays[name], dim): called
            for (name, dim), called in names_of_sizes(self.part.original).items()
            if name in arrays
        }

    def write(self) -> Method:
        """Return the method."""
        self._bind_inputs()
        self._require()
        for at, item in enumerate(self.items):
            self.at = at
            self._write(item)
        parameters = parameters_of(self.body)
        lines = rolled(self.lines, self._length)
        return Method(parameters, lines, self.uses_mode, self.draws)

    def is_chain(self) -> bool:
        """Whether the program does nothing but call all parts in turn."""
        steps, result = [item.step for item in self.items[:-1]], self.items[-1].step.value[0]
        return calls_in_turn(self.body, steps, result, parts_called(self.part.node))

    def _length(self, path: str) -> int:
        """Return how many parts a list has, by its place in the source; 0 where it is none."""
        part: Part | None = self.part
        for name in path.strip(".").split("."):
            part = None if part is None else part.children.get(name)
        return 0 if part is None else len(part.children)

    # --- operands -------------------------------------------------------------------------------

    def kind(self, value: Any) -> Kind | None:
        """Return what is known of a value; see `Operands`."""
        return self.kinds.of(value)

    def code(self, value: Any) -> Code:
        """Return the source of a value; see `Operands`."""
        if isinstance(value, Value):
            self.reads.add(value.name)
            return self.codes[value.name]
        if isinstance(value, State):
            return Code(f"{self.access(value.path)}[...]", ordered=True)
        if isinstance(value, Literal):
            return call("jnp.array", self.code(_listed(value.values)), dtype(value.dtype))
        if isinstance(value, Choice):
            return self._choice(value)
        if isinstance(value, str) and value == "draw":
            self.draws = True
            return Code("self.draw(rngs)")
        if isinstance(value, tuple):
            return sequence([self.code(item) for item in value])
        if isinstance(value, list):
            return sequence([self.code(item) for item in value], "[]")
        if isinstance(value, Structure):
            return self._structure(value)
        return constant(None if isinstance(value, Opaque) else value)

    def _choice(self, value: Choice) -> Code:
        self.uses_mode = True
        if (value.training, value.evaluation) == (True, False):
            return Code("not self.deterministic", TERNARY)
        if (value.training, value.evaluation) == (False, True):
            return Code("self.deterministic")
        one, other = constant(value.evaluation), constant(value.training)
        return Code(f"{one.text} if self.deterministic else {other.text}", TERNARY)

    def _structure(self, value: Structure) -> Code:
        fields = {name: self.code(item) for name, item in value.fields}
        if value.kind == "namedtuple":
            return call(value.name, **fields)
        if value.kind == "record" and all(is_name(str(name)) for name in fields):
            return call("Record", **fields)
        text = ", ".join(f"{constant(name).text}: {code.text}" for name, code in fields.items())
        record = joined(f"{{{text}}}", fields.values())
        return call("Record", record) if value.kind == "record" else record

    def access(self, path: str) -> str:
        """Return how a part of the module, or its state, is reached."""
        return access(self.part, path)

    # --- statements -----------------------------------------------------------------------------

    def _bind_inputs(self) -> None:
        given = [item for item in self.body.inputs if leaves(item.structure)]
        for name in (*map(argument, given), *self.body.captured):
            self._hold(name, name)
        for item in given:
            self._bind(argument(item), item.structure)

    def _require(self) -> None:
        """Refuse what the program does not hold for."""
        places = places_of(self.body)
        for name, shape in self.body.shapes:
            if name in self.codes:  # else nothing uses it
                code, sizes = self.codes[name].text, constant(shape).text
                named = constant(places.get(name, code)).text
                self.lines += wrapped(f"ported.require_shape({code}, {named}, {sizes})", INDENT)
        of_mode = [guard for guard in self.body.guards if isinstance(guard, OfMode)]
        common = conditions_of(guard for guard in self.body.guards if guard not in of_mode)
        for guard in common:
            if guard.text not in self.asked:
                self.lines += self._required(guard, INDENT)
        for training in (True, False):
            own = conditions_of(guard for guard in of_mode if guard.training is training)
            texts = [guard.text for guard in common]
            lines = [self._required(g, INDENT + 4) for g in own if g.text not in texts]
            if lines:
                self.uses_mode = True
                sign = "not " if training else ""
                self.lines.append(f"{' ' * INDENT}if {sign}self.deterministic:")
                self.lines += [line for part in lines for line in part]

    def _required(self, guard: Guard, indent: int) -> list[str]:
        """Return the statement that a condition is required, which says what asks for it."""
        condition = of_arrays(guard.text, {n: code.text for n, code in self.codes.items()})
        place = re.sub(r'File ".*/|"', "", guard.line)
        told = of_arrays(guard.text, places_of(self.body))
        told = f"{told} ({place})" if place else told
        return with_message("ported.require", [condition], told, indent)

    def _hold(self, name: str, variable: str) -> None:
        self.held[variable] = name
        self.codes[name] = Code(variable)

    def _bind(self, variable: str, structure: Any) -> None:
        """Let the values of an argument be found."""
        if isinstance(structure, Value):
            self._hold(structure.name, variable)
            return
        used = [leaf.name for leaf in leaves(structure) if self.consumers.get(leaf.name)]
        if not used:
            return
        if _is_tuple(structure):
            self.lines += wrapped(f"{self._target(structure)} = {variable}", INDENT)
            return
        self.held[variable] = whole = f"argument {variable}"
        self.consumers[whole] = set().union(*(self.consumers[name] for name in used))
        self._reach(Code(variable), structure)

    def _reach(self, of: Code, structure: Any) -> None:
        """Let the values of a structure be read off it where they are used."""
        if isinstance(structure, Value):
            self.codes[structure.name] = of
        elif isinstance(structure, Structure):
            for name, item in structure.fields:
                is_entry = structure.kind == "dict" or not is_name(str(name))
                text = f"[{constant(name).text}]" if is_entry else f".{name}"
                self._reach(Code(f"{of.text}{text}"), item)
        elif isinstance(structure, (tuple, list)):
            for place, item in enumerate(structure):
                self._reach(Code(f"{of.text}[{place}]"), item)

    def _target(self, structure: Any, top: bool = True) -> str:
        """Return what a structure of tuples is assigned to."""
        if isinstance(structure, Value):
            return self._named(structure.name)
        if isinstance(structure, Structure):
            structure = tuple(item for _, item in structure.fields)
        if isinstance(structure, (tuple, list)):
            parts = [self._target(item, False) for item in structure]
            inside = ", ".join(parts)
            if len(parts) == 1:
                return f"({inside},)"
            return inside if top else f"({inside})"
        return "_"

    def _named(self, name: str) -> str:
        """Let a value have a variable, and return it."""
        if not self.consumers.get(name):
            return "_"
        base = self.hints.get(name) or re.sub(r"_\d+$", "", name)
        kind = self.kinds.named(name)
        if name not in self.hints and kind is not None and kind.dtype is None and not kind.length:
            base = "size"
        base = _READABLE.get(base, f"layer_{base}" if base.isdigit() else base)
        base = f"{base}_" if base in RESERVED or not is_name(base) else base
        variable, count = base, 1
        while variable in self.held and self._is_needed(self.held[variable]):
            variable, count = f"{base}_{count}", count + 1
        self._hold(name, variable)
        return variable

    def _is_needed(self, name: str) -> bool:
        return bool(self.consumers.get(name, set()) - self.done)

    def _write(self, item: Item) -> None:
        code = self._expression(item)
        prefix = self._prefix_length(item)
        inlined = [name for name in self.reads if name in self.pending]
        if inlined and (INDENT + prefix + len(code.text) > WIDTH - 4 or code.depth > DEPTH):
            self._flush()
            code = self._expression(item)
        if code.ordered and any(
            self.pending[name].ordered for name in self.pending if name not in self.reads
        ):
            self._flush()
            code = self._expression(item)
        code = replace(code, items=code.items | {self.at})
        # A spelling may have no need of an operand.
        for name in [n for n in self.pending if n not in self.reads]:
            if self.consumers[name] == {self.at}:
                del self.pending[name]
        single = self._single(item)
        if single is not None:
            for name in self.reads:
                self.pending.pop(name, None)
            self.pending[single] = self.codes[single] = code
            return
        for name in [name for name in self.pending if name in self.reads]:
            del self.pending[name]
        self._flush()
        self._emit(item, code)

    def _single(self, item: Item) -> str | None:
        """Return the value that may be written into the step that uses it."""
        step = item.step
        if item.targets or isinstance(step, Assign):
            return None
        if isinstance(step, Custom):
            return None
        result = Value(step.result) if isinstance(step, Operation) else step.results
        if not isinstance(result, Value) or (isinstance(step, Call) and step.extra):
            return None
        name = result.name
        is_returned = self.at == len(self.items) - 2 and name in values_in(self.items[-1].step)
        if self.counts[name] != 1 or (name in self.hints and not is_returned):
            return None
        return name

    def _prefix_length(self, item: Item) -> int:
        step = item.step
        if isinstance(step, Operation):
            return len(self.hints.get(step.result, step.result)) + 3
        return 12

    def _flush(self) -> None:
        """Write what was to be written into a later step as statements of its own."""
        for name, code in list(self.pending.items()):
            del self.pending[name]
            self.done |= code.items
            self.lines += wrapped(f"{self._named(name)} = {code.text}", INDENT)

    def _expression(self, item: Item) -> Code:
        self.reads = set()
        step = item.step
        if isinstance(step, Operation):
            if step.operator in DRAWING:
                self.draws = True
            return spelled(self, step.operator, step.arguments)
        if isinstance(step, Call):
            return self._call(step)
        if isinstance(step, Custom):
            given = [self.code(value) for value in (*step.inputs, *step.captured)]
            return call(self.function(step), *given)
        if not step.path:
            return self._output(*step.value)
        return self.code(step.value)

    def _output(self, output: Any, extra: tuple[Any, ...]) -> Code:
        result = self.code(output)
        return sequence([result, *map(self.code, extra)]) if extra else result

    def _emit(self, item: Item, code: Code) -> None:
        self.done |= code.items
        step = item.step
        if isinstance(step, Assign):
            self._assign(step, code)
            return
        if isinstance(step, Operation):
            if item.targets:
                kind = self.kinds.values[step.result]
                names = dict(item.targets)
                structure = tuple(
                    Value(names[i]) if i in names else None for i in range(kind.length or 0)
                )
                target = self._target(structure)
            else:
                target = self._named(step.result)
            self.lines += wrapped(f"{target} = {code.text}", INDENT)
            return
        if isinstance(step, Custom):
            values = tuple(map(Value, step.results))
            target = self._target(values if len(values) > 1 else values[0])
            self.lines += wrapped(f"{target} = {code.text}", INDENT)
            return
        results = step.results
        if step.extra:
            results = (results, *(Value(name) for name in step.extra))
        used = [leaf for leaf in leaves(results) if self.consumers.get(leaf.name)]
        if not used:
            self.lines += wrapped(code.text, INDENT)
        elif _is_tuple(results) or isinstance(results, Value):
            self.lines += wrapped(f"{self._target(results)} = {code.text}", INDENT)
        else:
            whole = f"result of {self.at}"
            self.consumers[whole] = set().union(*(self.consumers[leaf.name] for leaf in used))
            base = step.module.rpartition(".")[2]
            self.hints[whole] = base if is_name(base) else "result"
            variable = self._named(whole)
            self.lines += wrapped(f"{variable} = {code.text}", INDENT)
            self._reach(Code(variable), results)

    def _assign(self, step: Assign, code: Code) -> None:
        if not step.path:
            output = step.value[0]
            is_tuple = bool(self.body.extra) or (type(output) is tuple and len(output) > 1)
            is_short = INDENT + len("return ") + len(code.text) <= WIDTH
            text = code.text[1:-1] if is_tuple and is_short else code.text
            self.lines += wrapped(f"return {text}", INDENT)
            return
        target = self.access(step.path)
        kind, own = self.kinds.of(step.value), self.kinds.state(step.path)
        if kind is None or own is None or kind.dtype != own.dtype:
            text = f"jnp.asarray({code.text}, {target}.dtype)"
        else:
            text = code.text
        self.lines += wrapped(f"{target}[...] = {text}", INDENT)

    def _call(self, step: Call) -> Code:
        child = self.part.at(step.module)
        function = self.access(step.module)
        args, kwargs = list(step.args), dict(step.kwargs)
        captured: dict[str, Any] = {}
        if child.kind == "class" and child.programs:
            body = self.called(child, step.variant)
            args, kwargs = without_constants(body, args, kwargs)
            captured = dict(zip(body.captured, step.captured, strict=True))
            number = child.number(step.variant)
            if number:
                function += f".call_{number}"
        elif child.kind == "layer":
            kwargs = {name: value for name, value in kwargs.items() if value is not None}
        options = {name: self.code(value) for name, value in {**kwargs, **captured}.items()}
        if child.draws:
            options["rngs"] = Code("rngs")
        code = call(function, *(self.code(value) for value in args), **options)
        return replace(code, ordered=code.ordered or child.mutable or child.draws)


def access(part: Part, path: str) -> str:
    """Return how a part of a module is reached from within it."""
    text = "self"
    for name in filter(None, path.split(".")):
        positions = [str(i) for i in range(len(part.children))]
        is_list = part.kind in ("sequential", "list", "parameters") or part.base
        if name.isdigit() and is_list and (part.kind == "parameters" or name in positions):
            is_place = part.kind == "parameters" or list(part.children) == positions
            text = f"{text}[{name}]" if is_place else f'getattr({text}, "{name}")'
        elif is_name(name):
            text = f"{text}.{name}"
        elif part.kind == "named parameters":
            text = f"{text}[{constant(name).text}]"
        else:
            text = f'getattr({text}, "{name}")'
        part = part.children.get(name, part)
    return text


def _is_tuple(structure: Any) -> bool:
    """Whether a structure can be taken apart by an assignment."""
    if isinstance(structure, Structure):
        if structure.kind != "namedtuple":
            return False
        structure = tuple(item for _, item in structure.fields)
    if isinstance(structure, (tuple, list)):
        return all(
            _is_tuple(item) or not isinstance(item, (tuple, list, Structure)) for item in structure
        )
    return False


def _listed(values: Any) -> Any:
    return [_listed(item) for item in values] if isinstance(values, tuple) else values
