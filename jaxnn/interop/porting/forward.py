"""A program as the lines of a method."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..importer.operators import DRAWING
from ..importer.program import (
    Assign,
    Body,
    Call,
    Custom,
    Input,
    Literal,
    Opaque,
    Operation,
    State,
    Structure,
    Value,
    leaves,
)
from .code import RESERVED, TERNARY, Code, call, constant, dtype, is_name, joined, sequence
from .hints import assigned_at
from .layout import INDENT, WIDTH, laid_out
from .loops import rolled
from .modes import COPIES, Choice, substituted
from .spelling import Kind, spelled
from .tree import Node

DEPTH = 4

_READABLE = {
    "sym_size": "size", "getitem": "part", "scaled_dot_product_attention": "attention",
    "to_copy": "converted", "slice": "part",
}  # fmt: skip
_CONVERSIONS = {"_to_copy", "to", "to_dtype", "type_as"}


@dataclass(frozen=True)
class Item:
    """A step that is left after what does nothing is left out.

    Attributes:
        step: the step; None for the result.
        targets: of an operation with several results, their names by place.
    """

    step: Any
    targets: tuple[tuple[int, str], ...] = ()


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


def parameters_of(body: Body) -> list[str]:
    """Return the parameters of a method: constants are part of the program, and none of it."""
    parameters, is_named = [], False
    for item in body.inputs:
        if not leaves(item.structure):
            continue
        name = _argument(item)
        if item.variadic == "*":
            is_named = True
        elif item.keyword_only and not is_named and not item.variadic:
            parameters.append("*")
            is_named = True
        parameters.append(f"{item.variadic}{name}")
    captured = list(body.captured)
    if captured and any(parameter.startswith("**") for parameter in parameters):
        return [*parameters[:-1], *captured, parameters[-1]]
    return [*parameters, *captured]


def _argument(item: Input) -> str:
    return f"{item.name}_" if item.name in RESERVED or not is_name(item.name) else item.name


class Writer:
    """Writes the lines of one program.

    Args:
        body: the program.
        node: a module that has it.
        root: the whole model.
        kinds: what is known of the program's values.
        state_kind: what is known of a parameter or buffer, by its path below the module.
        called: the program that a part of the model has, by the part and the variant.
        call_names: what the results of calls are called, by the attribute called.
        function: the name of a function with a gradient of its own, in the file.
    """

    def __init__(
        self,
        body: Body,
        node: Node,
        kinds: Mapping[str, Kind],
        state_kind: Callable[[str], Kind | None],
        called: Callable[[Node, int], Body],
        call_names: Mapping[str, list[str]],
        function: Callable[[Custom], str],
    ) -> None:
        self.body, self.node = body, node
        self.kinds, self.state_kind, self.called = kinds, state_kind, called
        self.function = function
        self.call_names = {name: list(names) for name, names in call_names.items()}
        self.lines: list[str] = []
        self.codes: dict[str, Code] = {}
        self.pending: dict[str, Code] = {}
        self.held: dict[str, str] = {}
        self.done: set[int] = set()
        self.reads: set[str] = set()
        self.uses_mode = self.draws = False
        self.same: dict[str, Any] = {}
        self.stopped: set[str] = set()
        self.sizes: dict[str, Value] = {}
        self.items = self._items()
        self.consumers: dict[str, set[int]] = {}
        self.counts: Counter[str] = Counter()
        for at, item in enumerate(self.items):
            for name in _names_in(item.step):
                self.consumers.setdefault(name, set()).add(at)
                self.counts[name] += 1
        self.hints = self._hints()

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
        body = self.body
        if body.captured or body.extra or len(body.inputs) != 1 or body.inputs[0].variadic:
            return False
        value, called = body.inputs[0].structure, []
        for item in self.items[:-1]:
            step = item.step
            if not isinstance(step, Call) or step.args != (value,) or step.kwargs:
                return False
            if step.captured or step.extra or step.variant:
                return False
            called.append(step.module)
            value = step.results
        parts = [
            name for name, child in self.node.children.items()
            if (child.kind, child.name) != ("layer", "Identity")
        ]  # fmt: skip
        result = self.items[-1].step.value[0]
        return isinstance(value, Value) and result == value and called == parts

    def _length(self, path: str) -> int:
        """Return how many parts a list has, by its place in the source; 0 where it is none."""
        node: Node | None = self.node
        for name in path.strip(".").split("."):
            node = None if node is None else node.children.get(name)
        return 0 if node is None else len(node.children)

    # --- what is left of the program --------------------------------------------------------------

    def _items(self) -> list[Item]:
        steps: list[Any] = []
        for original in self.body.steps:
            step = substituted(original, self.same)
            equal = self._equal(step) if isinstance(step, Operation) else None
            if equal is None:
                steps.append(step)
            else:
                self.same[step.result] = equal
        steps = _assigned_early(steps)
        extra = tuple(Value(name) for name in self.body.extra)
        result = substituted(Assign("", (self.body.output, extra)), self.same)
        needed = set(_names_in(result))
        kept: list[Any] = []
        for step in reversed(steps):
            is_call = isinstance(step, Call) and self.node.at(step.module).mutable
            if is_call or isinstance(step, Assign) or needed & set(_results(step)):
                kept.append(step)
                needed |= set(_names_in(step))
        return [*self._unpacked(kept[::-1]), Item(result)]

    def _equal(self, step: Operation) -> Any:
        """Return the value that an operation gives once more; None where it gives a new one."""
        given = dict(step.arguments)
        if step.operator.startswith(("python.", "sym_")) and step.operator != "python.getitem":
            return self._known_size(step)
        value = given.get(step.arguments[0][0]) if step.arguments else None
        if not isinstance(value, (Value, Literal)):
            return None
        if step.operator in COPIES:
            return value
        # In evaluation mode a dropout does nothing.
        if step.operator.endswith("dropout") and given.get("train", True) is False:
            return value
        kind, result = self.kind(value), self.kinds.get(step.result)
        if kind is None or result is None or kind.dtype is None:
            return None
        if step.operator == "add" and given.get("other") == 0:
            return value if kind == result else None
        if step.operator in ("copy", "slice_scatter"):
            # What is written everywhere replaces all.
            source = given.get("src")
            is_whole = isinstance(source, Value) and self.kind(source) == result == kind
            return source if is_whole and (step.operator == "copy" or _is_entire(given)) else None
        is_same = kind.dtype == result.dtype and kind.shapes == result.shapes
        if step.operator == "slice":
            return value if _is_entire(given) else None
        if step.operator == "detach":
            is_stopped = isinstance(value, Value) and value.name in self.stopped
            self.stopped.add(step.result)
            return value if is_stopped or not kind.is_float else None
        if step.operator in ("expand", "view", "reshape"):
            sizes = given.get("size", given.get("shape", ()))
            return value if is_same and all(isinstance(size, int) for size in sizes) else None
        return value if is_same and step.operator in _CONVERSIONS else None

    def _known_size(self, step: Operation) -> Any:
        """Return a size that has been computed before."""
        key = f"{step.operator}{step.arguments}"
        if key not in self.sizes:
            self.sizes[key] = Value(step.result)
            return None
        return self.sizes[key]

    def _unpacked(self, steps: list[Any]) -> list[Item]:
        """Let an operation with several results name those that are used."""
        parts: dict[str, dict[int, str]] = {}
        whole: set[str] = set(_names_in(self.body.output)) | set(self.body.extra)
        for step in steps:
            if isinstance(step, Operation) and step.operator == "python.getitem":
                (_, of), (_, place) = step.arguments
                if isinstance(of, Value) and isinstance(place, int) and place >= 0:
                    parts.setdefault(of.name, {}).setdefault(place, step.result)
                    if parts[of.name][place] != step.result:
                        self.same[step.result] = Value(parts[of.name][place])
                    continue
            whole |= set(_names_in(step))
        items = []
        unpacked = {
            name for name in parts
            if name not in whole and (kind := self.kinds.get(name)) is not None and kind.length
        }  # fmt: skip
        for step in steps:
            if isinstance(step, Operation):
                if step.result in unpacked:
                    items.append(Item(step, tuple(sorted(parts[step.result].items()))))
                    continue
                is_part = step.operator == "python.getitem" and isinstance(
                    step.arguments[0][1], Value
                )
                if is_part and step.arguments[0][1].name in unpacked:
                    continue
            items.append(Item(substituted(step, self.same)))
        return items

    def _hints(self) -> dict[str, str]:
        """Return the names of the original for the last operation of each of its statements."""
        hints: dict[str, str] = {}
        last: tuple[str, tuple[str, ...], int] | None = None
        for item in [*self.items, Item(None)]:
            step = item.step
            found = assigned_at(step.source) if isinstance(step, Operation) else None
            if isinstance(step, Call) and last is not None:
                continue
            if found is not None and len(found[0]) > 1:
                parts = _parts_named(item, found[0])
                hints |= parts
                found = None if parts or step.operator == "sym_size" else (found[0][:1], found[1])
            if last is not None and (found is None or found != last[1:]):
                hints[last[0]] = last[1][0]
            last = None if found is None else (step.result, *found)
        for item in self.items:
            if isinstance(item.step, Call) and isinstance(item.step.results, Value):
                names = self.call_names.get(item.step.module.partition(".")[0])
                if names:
                    hints[item.step.results.name] = names.pop(0) if len(names) > 1 else names[0]
        return {ssa: name for ssa, name in hints.items() if name not in RESERVED and is_name(name)}

    # --- operands -------------------------------------------------------------------------------

    def kind(self, value: Any) -> Kind | None:
        """Return what is known of a value; see `Operands`."""
        if isinstance(value, Value):
            return self.kinds.get(value.name)
        if isinstance(value, State):
            return self.state_kind(value.path)
        if isinstance(value, Literal):
            return Kind(np.dtype(jnp.dtype(value.dtype)), (np.shape(value.values),))
        return None

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
        return access(self.node, path)

    # --- statements -----------------------------------------------------------------------------

    def _bind_inputs(self) -> None:
        given = [item for item in self.body.inputs if leaves(item.structure)]
        for name in (*map(_argument, given), *self.body.captured):
            self._hold(name, name)
        for item in given:
            self._bind(_argument(item), item.structure)

    def _require(self) -> None:
        """Refuse what the program does not hold for."""
        for guard in self.body.guards:
            condition = re.sub(
                r"(\w+)\.shape", lambda match: f"{self.codes[match[1]].text}.shape", guard.text
            )
            place = re.sub(r'File ".*/|"', "", guard.line)
            told = constant(f"{guard.text} ({place})" if place else guard.text)
            self.lines += laid_out(f"ported.require({condition}, {told.text})", INDENT)

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
            self.lines += laid_out(f"{self._target(structure)} = {variable}", INDENT)
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
        is_returned = self.at == len(self.items) - 2 and name in _names_in(self.items[-1].step)
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
            self.lines += laid_out(f"{self._named(name)} = {code.text}", INDENT)

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
                kind = self.kinds[step.result]
                names = dict(item.targets)
                structure = tuple(
                    Value(names[i]) if i in names else None for i in range(kind.length or 0)
                )
                target = self._target(structure)
            else:
                target = self._named(step.result)
            self.lines += laid_out(f"{target} = {code.text}", INDENT)
            return
        if isinstance(step, Custom):
            values = tuple(map(Value, step.results))
            target = self._target(values if len(values) > 1 else values[0])
            self.lines += laid_out(f"{target} = {code.text}", INDENT)
            return
        results = step.results
        if step.extra:
            results = (results, *(Value(name) for name in step.extra))
        used = [leaf for leaf in leaves(results) if self.consumers.get(leaf.name)]
        if not used:
            self.lines += laid_out(code.text, INDENT)
        elif _is_tuple(results) or isinstance(results, Value):
            self.lines += laid_out(f"{self._target(results)} = {code.text}", INDENT)
        else:
            whole = f"result of {self.at}"
            self.consumers[whole] = set().union(*(self.consumers[leaf.name] for leaf in used))
            base = step.module.rpartition(".")[2]
            self.hints[whole] = base if is_name(base) else "result"
            variable = self._named(whole)
            self.lines += laid_out(f"{variable} = {code.text}", INDENT)
            self._reach(Code(variable), results)

    def _assign(self, step: Assign, code: Code) -> None:
        if not step.path:
            output = step.value[0]
            is_tuple = bool(self.body.extra) or (type(output) is tuple and len(output) > 1)
            is_short = INDENT + len("return ") + len(code.text) <= WIDTH
            text = code.text[1:-1] if is_tuple and is_short else code.text
            self.lines += laid_out(f"return {text}", INDENT)
            return
        target = self.access(step.path)
        kind, own = self.kind(step.value), self.state_kind(step.path)
        if kind is None or own is None or kind.dtype != own.dtype:
            text = f"jnp.asarray({code.text}, {target}.dtype)"
        else:
            text = code.text
        self.lines += laid_out(f"{target}[...] = {text}", INDENT)

    def _call(self, step: Call) -> Code:
        child = self.node.at(step.module)
        function = self.access(step.module)
        args, kwargs = list(step.args), dict(step.kwargs)
        captured: dict[str, Any] = {}
        if child.kind == "class" and child.programs:
            body = self.called(child, step.variant)
            args, kwargs = _given(body, args, kwargs)
            captured = dict(zip(body.captured, step.captured, strict=True))
            if step.variant:
                function += f".call_{step.variant}"
        elif child.kind == "layer":
            kwargs = {name: value for name, value in kwargs.items() if value is not None}
        options = {name: self.code(value) for name, value in {**kwargs, **captured}.items()}
        if child.draws:
            options["rngs"] = Code("rngs")
        code = call(function, *(self.code(value) for value in args), **options)
        return replace(code, ordered=code.ordered or child.mutable or child.draws)


def _given(body: Body, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return a call's arguments without those that are constants, which the program contains."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    left, known = list(args), dict(kwargs)
    for item in body.inputs:
        if item.variadic == "*":
            taken, left = left, []
            if leaves(item.structure):
                positional += taken
        elif item.variadic == "**":
            if leaves(item.structure):
                named |= known
        elif left and not item.keyword_only:
            value = left.pop(0)
            if leaves(item.structure):
                positional.append(value)
        elif item.name in known:
            value = known.pop(item.name)
            if leaves(item.structure):
                named[_argument(item)] = value
    return positional, named


def access(node: Node, path: str) -> str:
    """Return how a part of a module is reached from within it."""
    text = "self"
    for name in filter(None, path.split(".")):
        positions = [str(i) for i in range(len(node.children))]
        is_list = node.kind in ("sequential", "list", "parameters") or node.base
        if name.isdigit() and is_list and (node.kind == "parameters" or name in positions):
            is_place = node.kind == "parameters" or list(node.children) == positions
            text = f"{text}[{name}]" if is_place else f'getattr({text}, "{name}")'
        elif is_name(name):
            text = f"{text}.{name}"
        elif node.kind == "named parameters":
            text = f"{text}[{constant(name).text}]"
        else:
            text = f'getattr({text}, "{name}")'
        node = node.children.get(name, node)
    return text


# --- small things -------------------------------------------------------------------------------


def _is_entire(given: Mapping[str, Any]) -> bool:
    """Whether a slice is all of a dimension."""
    end = given.get("end")
    is_open = end is None or (isinstance(end, int) and end >= 2**31)
    return is_open and not given.get("start") and given.get("step", 1) == 1


def _assigned_early(steps: list[Any]) -> list[Any]:
    """Return the steps with state set where its value is known, unless it is read after that."""
    for assign in [step for step in steps if isinstance(step, Assign)]:
        if not isinstance(assign.value, Value):
            continue
        made = next(
            (at for at, step in enumerate(steps)
             if not isinstance(step, Assign) and assign.value.name in _results(step)),
            None,
        )  # fmt: skip
        if made is None or any(assign.path in _states_in(step) for step in steps[made + 1 :]):
            continue
        steps = [step for step in steps if step is not assign]
        steps.insert(made + 1, assign)
    return steps


def _parts_named(item: Item, names: tuple[str, ...]) -> dict[str, str]:
    """Return the names that a statement gives the parts of what it takes apart."""
    step = item.step
    if len(item.targets) == len(names):
        return {ssa: names[at] for at, ssa in item.targets if at < len(names)}
    dim = dict(step.arguments).get("dim")
    if step.operator == "sym_size" and isinstance(dim, int) and dim < len(names):
        return {step.result: names[dim]}
    return {}


def _names_in(step: Any) -> list[str]:
    """Return the values that a step, or a structure, reads, as often as it does."""
    if isinstance(step, Operation):
        structure: Any = tuple(value for _, value in step.arguments)
    elif isinstance(step, Call):
        structure = (step.args, tuple(value for _, value in step.kwargs), step.captured)
    elif isinstance(step, Custom):
        structure = (step.inputs, step.captured)
    else:
        structure = step.value if isinstance(step, Assign) else step
    return [leaf.name for leaf in leaves(structure) if isinstance(leaf, Value)]


_PARTS = ("arguments", "args", "kwargs", "value", "inputs", "captured")


def _states_in(step: Any) -> list[str]:
    parts = [getattr(step, name, ()) for name in _PARTS]
    return [leaf.path for leaf in leaves(tuple(parts)) if isinstance(leaf, State)]


def _results(step: Any) -> list[str]:
    if isinstance(step, Operation):
        return [step.result]
    if isinstance(step, Custom):
        return list(step.results)
    return [*(leaf.name for leaf in leaves(step.results)), *step.extra]


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
