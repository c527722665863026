"""The Python file of a port."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flax import nnx

from ..importer.naming import joined
from ..importer.program import Body, Custom, Program, Structure
from ..importer.tree import ModelTree, Node
from ..importer.tying import descend
from .branches import Branch, branches_of, choice, refusal, signature_of
from .classes import Constructor, Definition, definitions_of, list_argument, sequential_arguments
from .code import RESERVED, constant, is_name
from .entries import EVALUATION, TRAINING, Entry, variants_called
from .hints import names_of_calls
from .methods import Method, MethodWriter
from .modes import merged
from .observing import Kind, Kinds, Observed, kind_of, observe
from .parts import Part, Written, is_sequential, part_of
from .wrapping import wrapped


def source_of(tree: ModelTree, net: nnx.Module, entries: Sequence[Entry]) -> str:
    """Return the source of an imported model.

    Args:
        tree: what it is made of.
        net: the imported model.
        entries: the kinds of its calls.
    """
    programs: dict[str, Any] = {TRAINING: tree.root.training, EVALUATION: tree.root.evaluation}
    for mode, known in programs.items():
        if not isinstance(known, str):
            found = [entry.programs[mode] for entry in entries if mode in entry.programs]
            programs[mode] = tuple(dict.fromkeys(found))
    root = part_of(tree.root, Written(programs, variants_called(tree.root, entries)))
    file = _File(tree.tied, root, net, observe(net, entries), entries)
    file.find_chains(root)
    return file.text(definitions_of(root))


# --- the file -----------------------------------------------------------------------------------


@dataclass
class _Forward:
    """A variant of a call: one method, or one for each mode."""

    both: Method | None = None
    modes: dict[str, Method | str] | None = None


class _File:
    def __init__(
        self,
        tied: Mapping[str, str],
        root: Part,
        net: nnx.Module,
        observed: Observed,
        entries: Sequence[Entry],
    ) -> None:
        self.tied, self.root, self.net, self.observed = tied, root, net, observed
        self.entries = entries
        self.mode = EVALUATION
        self.tuples: dict[str, tuple[str, ...]] = {}
        self.functions: dict[str, tuple[str, list[str]]] = {}

    def text(self, definitions: list[Definition]) -> str:
        self.taken = {definition.name for definition in definitions}
        classes = [self._class(definition) for definition in definitions]
        functions = [lines for _, lines in self.functions.values()]
        code = "\n\n\n".join("\n".join(lines) for lines in [*functions, *classes, self._make()])
        tuples = [
            line
            for name, fields in self.tuples.items()
            for line in wrapped(f"{name} = namedtuple({constant(name).text}, {_quoted(fields)})")
        ]
        head = self._head(code, bool(tuples))
        if tuples:
            head += "\n\n" + "\n".join(tuples)
        return f"{head}\n\n\n{code}\n"

    def find_chains(self, part: Part) -> None:
        """Let what calls its parts in turn, once what does nothing is left out, be a Sequential."""
        for child in part.children.values():
            self.find_chains(child)
        if part.kind != "class" or not part.programs or part.state:
            return
        # The model as a whole says which sizes it is for, unless it is made of layers alone.
        if part is self.root and (self.tied or not part.is_of_layers):
            return
        if not is_sequential(part) or len(part.programs) != 1:
            return
        if self._writer(part, part.programs[0].body).is_chain():
            part.become_sequential()

    def _writer(
        self,
        part: Part,
        *bodies: Body,
        body: Body | None = None,
        asked: frozenset[str] = frozenset(),
    ) -> MethodWriter:
        values: dict[str, Kind] = {}
        for one in bodies:
            values |= self.observed.get(id(one), {})
        kinds = Kinds(values, self._state_kind(part))
        calls = names_of_calls(part.original)
        written = bodies[0] if body is None else body
        return MethodWriter(written, part, kinds, self._called, calls, self._function, asked)

    def _function(self, step: Custom) -> str:
        """Return the name of a function with a gradient of its own, written once."""
        key = repr((step.forward, step.backward, step.saved, step.outputs))
        if key not in self.functions:
            base = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", step.name).lower()
            taken = RESERVED | self.taken | {name for name, _ in self.functions.values()}
            names = [base, *(f"{base}_{count}" for count in range(2, 10_000))]
            name = next(n for n in names if n not in taken and is_name(n))
            lines: list[str] = []
            for suffix, body in (("forward", step.forward), ("backward", step.backward)):
                part = Part(Node("", None), "class")
                kinds = Kinds(self.observed.get(id(body), {}))
                writer = MethodWriter(body, part, kinds, self._called, {}, self._function)
                method = writer.write()
                lines += wrapped(f"def {name}_{suffix}({', '.join(method.parameters)}):")
                lines += [line.removeprefix("    ") for line in method.lines]
                lines += ["", ""]
            options = (
                f"inputs={len(step.inputs)}, saved={_places(step.saved)}, "
                f"outputs={_places(step.outputs)}"
            )
            passes = f"{name}_forward, {name}_backward"
            lines += wrapped(f"{name} = ported.function({passes}, {options})")
            self.functions[key] = name, lines
        return self.functions[key][0]

    def _head(self, code: str, has_tuples: bool) -> str:
        name = self.root.original.__name__
        lines = [f'"""{name}, ported from PyTorch by jaxnn.', ""]
        lines.append("`jaxnn.interop.load_port(FOLDER)` gives the model with its weights.")
        if re.search(r"\baten\.", code):
            lines.append("`aten` holds operators of torch that JAX has under no name of its own.")
        lines += ['"""', ""]
        standard = []
        if has_tuples:
            standard.append("namedtuple")
        if "OrderedDict(" in code:
            standard.insert(0, "OrderedDict")
        if standard:
            lines += [f"from collections import {', '.join(standard)}", ""]
        for line, pattern in (
            ("import jax", r"\bjax\.(?!numpy)"),
            ("import jax.numpy as jnp", r"\bjnp\."),
            ("from flax import nnx", r"\bnnx\."),
        ):
            if re.search(pattern, code):
                lines.append(line)
        lines.append("")
        if re.search(r"\bjaxnn\.", code):
            lines.append("import jaxnn")
        if re.search(r"\bF\.", code):
            lines.append("import jaxnn.functional as F")
        used = [n for n in ("Record", "aten", "ported") if re.search(rf"\b{n}[.(]", code)]
        if used:
            lines.append(f"from jaxnn.interop import {', '.join(used)}")
        return "\n".join(lines).rstrip()

    def _make(self) -> list[str]:
        built = Constructor(None, [self.root]).part("", [self.root])
        lines = ["def make(*, rngs=None):", '    """Return the model; its weights are drawn."""']
        if self.root.takes_rngs:
            lines.append("    rngs = nnx.Rngs(0) if rngs is None else rngs")
        return [*lines, *wrapped(f"return {built.text}", 4)]

    # --- classes --------------------------------------------------------------------------------

    def _class(self, definition: Definition) -> list[str]:
        part = definition.first
        branches = self._branches(part)
        forwards = self._forwards(part, branches)
        has_mode = any(_has_mode(forward) for forward in forwards)
        draws = any(method.draws for forward in forwards for method in _methods(forward))
        base = f"jaxnn.{part.base or 'Module'}"
        if has_mode or draws or (part.own_modes and not part.base):
            base = "ported.Module"
        module = part.original.__module__
        origin = "" if module.startswith("__") else f" of {module}"
        lines = [f"class {definition.name}({base}):", f'    """{part.name}{origin}."""']
        lines += self._init(definition, base)
        names = ["__call__", *(f"call_{number}" for number in range(1, len(forwards)))]
        if branches:
            lines += ["", *self._call_of_branches(part, branches)]
            names = [branch.name for branch in branches]
        for name, forward in zip(names, forwards, strict=True):
            lines += ["", *self._method(part, name, forward)]
        return lines

    def _init(self, definition: Definition, base: str) -> list[str]:
        part, parts = definition.first, definition.instances
        constructor = Constructor(definition, parts)
        body: list[str] = []
        children = constructor.children("", parts)
        if part.base:
            arguments = sequential_arguments(children)
            if part.base == "ModuleList":
                arguments = [list_argument(children)]
            inside = ", ".join(argument.text for argument in arguments)
            body += wrapped(f"super().__init__({inside})", 8)
            children = {}
        elif base == "ported.Module":
            body.append(f"        super().__init__({'rngs' if part.takes_rngs else ''})")
        for name, code in children.items():
            path = joined(part.path, name)
            if path in self.tied:
                body += wrapped(_assigned(name, "nnx.data(None)"), 8)
            elif part.children[name].kind != "none":
                body += wrapped(_assigned(name, code.text), 8)
        for at, variable in enumerate(part.state):
            code = constructor.variable("", parts, at)
            body += wrapped(_assigned(variable.name, code.text), 8)
        if part.own_modes:
            modes = ", ".join(repr(mode).replace("'", '"') for mode in part.own_modes)
            body += wrapped(f"self._own_modes = ({modes},)", 8)
        if part is self.root and self.tied:
            pairs = ", ".join(
                f"{constant(alias).text}: {constant(first).text}"
                for alias, first in self.tied.items()
            )
            body += wrapped(f"ported.tie(self, {{{pairs}}})", 8)
        if not body:
            return []
        parameters = ["self", *definition.parameters]
        if part.takes_rngs:
            parameters += ["*", "rngs"]
        return ["", *_signature("__init__", parameters), *body]

    # --- forward passes -------------------------------------------------------------------------

    def _branches(self, part: Part) -> list[Branch]:
        """Return the programs of a model that has several."""
        if part is not self.root or len(self.entries) < 2:
            return []
        taken = {*dir(nnx.Module), *part.children, *(variable.name for variable in part.state)}
        modes = [m for m in (TRAINING, EVALUATION) if not isinstance(getattr(part, m), str)]
        return branches_of(self.entries, _forward_of(part), taken, modes)

    def _call_of_branches(self, part: Part, branches: Sequence[Branch]) -> list[str]:
        """Return the call of a model that has several programs."""
        decorators, starts = self._around(part)
        parameters, _ = signature_of(self.entries, _forward_of(part))
        lines = [*decorators, *_signature("__call__", _with_rngs(parameters, part)), *starts]
        for branch in branches:
            passed = [*branch.passed, *(["rngs=rngs"] if part.draws else [])]
            lines += choice(branch, f"self.{branch.name}({', '.join(passed)})")
        if all(branch.condition for branch in branches):
            lines += refusal(part.name, branches)
        return lines

    def _forwards(self, part: Part, branches: Sequence[Branch]) -> list[_Forward]:
        training, evaluation = part.training, part.evaluation
        if isinstance(training, str) or isinstance(evaluation, str):
            return self._one_mode(part, branches)
        if branches:
            return [
                self._forward(part, e.programs.get(TRAINING), e.programs.get(EVALUATION), b.asked)
                for e, b in zip(self.entries, branches, strict=True)
            ]
        count = max(len(training), len(evaluation))
        found = []
        for at in range(count):
            first, second = (p[min(at, len(p) - 1)] if p else None for p in (training, evaluation))
            found.append(self._forward(part, first, second))
        return found

    def _forward(
        self,
        part: Part,
        first: Program | None,
        second: Program | None,
        asked: frozenset[str] = frozenset(),
    ) -> _Forward:
        """Return the forward pass of which there is a program in training and in evaluation."""
        if first is None or second is None or first is second:
            only = second or first
            assert only is not None
            mode = EVALUATION if second is not None else TRAINING
            return _Forward(self._written(part, only.body, [only.body], mode, asked))
        body = merged(first.body, second.body)
        if body is not None:
            return _Forward(self._written(part, body, [first.body], TRAINING, asked))
        modes = {
            TRAINING: self._written(part, first.body, [first.body], TRAINING, asked),
            EVALUATION: self._written(part, second.body, [second.body], EVALUATION, asked),
        }
        return _Forward(modes=dict(modes))

    def _one_mode(self, part: Part, branches: Sequence[Branch]) -> list[_Forward]:
        """Return the forward pass of a model that can be captured in one mode alone."""
        found = []
        for mode, programs in ((EVALUATION, part.evaluation), (TRAINING, part.training)):
            if isinstance(programs, str):
                continue
            other, reason = (
                (TRAINING, part.training) if mode == EVALUATION else (EVALUATION, part.evaluation)
            )
            for at, program in enumerate(programs):
                asked = branches[at].asked if branches else frozenset()
                method = self._written(part, program.body, [program.body], mode, asked)
                found.append(_Forward(modes={mode: method, other: str(reason)}))
        return found

    def _written(
        self,
        part: Part,
        body: Body,
        seen: list[Body],
        mode: str,
        asked: frozenset[str] = frozenset(),
    ) -> Method:
        self.mode = mode
        self._note_tuples(body)
        return self._writer(part, *seen, body=body, asked=asked).write()

    def _called(self, child: Part, variant: int) -> Body:
        modes = {TRAINING: child.training, EVALUATION: child.evaluation}
        for mode in (self.mode, EVALUATION, TRAINING):
            programs = modes[mode]
            if not isinstance(programs, str) and programs:
                return programs[min(child.number(variant), len(programs) - 1)].body
        raise AssertionError("a module that is called has a program")

    def _state_kind(self, part: Part) -> Any:
        def kind(path: str) -> Kind | None:
            full = joined(part.path, path)
            for alias, first in self.tied.items():
                if full == alias or full.startswith(f"{alias}."):
                    full = first + full[len(alias) :]
            try:
                value = descend(self.net, full)
            except (AttributeError, ValueError):
                return None
            return kind_of(value)

        return kind

    def _note_tuples(self, body: Body) -> None:
        def note(value: Any) -> None:
            if isinstance(value, Structure):
                if value.kind == "namedtuple":
                    self.tuples[value.name] = tuple(name for name, _ in value.fields)
                for _, item in value.fields:
                    note(item)
            elif isinstance(value, (tuple, list)):
                for item in value:
                    note(item)

        note(body.output)
        for step in body.steps:
            for name in ("args", "kwargs", "value"):
                note(getattr(step, name, ()))

    def _around(self, part: Part) -> tuple[list[str], list[str]]:
        """Return the decorators of a call from outside, and what it begins with."""
        decorators, starts = [], []
        if part is self.root:
            if self.tied:
                decorators.append("    @ported.tied")
            if part.draws:
                starts.append("        rngs = ported.keys_for_parts(rngs)")
        return decorators, starts

    def _method(self, part: Part, name: str, forward: _Forward) -> list[str]:
        decorators, starts = self._around(part) if name == "__call__" else ([], [])
        if forward.both is not None:
            parameters = _with_rngs(forward.both.parameters, part)
            return [*decorators, *_signature(name, parameters), *starts, *forward.both.lines]
        assert forward.modes is not None
        if any(isinstance(method, str) for method in forward.modes.values()):
            return [*decorators, *self._refusing(name, part, forward.modes, starts)]
        return [*decorators, *self._choosing(name, part, forward.modes, starts)]

    def _refusing(self, name: str, part: Part, modes: Any, starts: list[str]) -> list[str]:
        method = next(m for m in modes.values() if isinstance(m, Method))
        mode, reason = next((k, m) for k, m in modes.items() if isinstance(m, str))
        sign = "" if mode == EVALUATION else "not "
        text = f"{part.name} cannot run in {mode} mode: {reason}"[:80].replace('"', "'")
        lines = _signature(name, _with_rngs(method.parameters, part))
        lines += [*starts, f"        if {sign}self.deterministic:"]
        lines += wrapped(f"raise ValueError({constant(text).text})", 12)
        return [*lines, *method.lines]

    def _choosing(self, name: str, part: Part, modes: Any, starts: list[str]) -> list[str]:
        suffix = "" if name == "__call__" else f"_{name.removeprefix('call_')}"
        training, evaluation = modes[TRAINING], modes[EVALUATION]
        draws = ["*", "rngs=None"] if part.draws else []
        if training.parameters == evaluation.parameters and not any(
            "*" in parameter for parameter in training.parameters
        ):
            lines = _signature(name, _with_rngs(training.parameters, part))
            passed = [*training.parameters, *(["rngs=rngs"] if draws else [])]
        else:
            lines = _signature(name, ["self", "*args", "**kwargs"])
            starts, passed = [], ["*args", "**kwargs"]
        inside = ", ".join(passed)
        lines += [*starts, "        if self.deterministic:"]
        lines += wrapped(f"return self._evaluate{suffix}({inside})", 12)
        lines += wrapped(f"return self._train{suffix}({inside})", 8)
        for label, method in (("_evaluate", evaluation), ("_train", training)):
            lines += ["", *_signature(f"{label}{suffix}", _with_rngs(method.parameters, part))]
            lines += method.lines
        return lines


def _forward_of(part: Part) -> Any:
    model: Any = part.node.module
    return model.forward


def _methods(forward: _Forward) -> list[Method]:
    found: list[Any] = [forward.both, *(forward.modes or {}).values()]
    return [method for method in found if isinstance(method, Method)]


def _has_mode(forward: _Forward) -> bool:
    return forward.modes is not None or any(method.uses_mode for method in _methods(forward))


def _with_rngs(parameters: list[str], part: Part) -> list[str]:
    if not part.draws:
        return ["self", *parameters]
    named = any(parameter.startswith("*") for parameter in parameters)
    if named and parameters[-1].startswith("**"):
        return ["self", *parameters[:-1], "rngs=None", parameters[-1]]
    return ["self", *parameters, *([] if named else ["*"]), "rngs=None"]


def _signature(name: str, parameters: list[str]) -> list[str]:
    return wrapped(f"def {name}({', '.join(parameters)}):", 4)


def _places(places: tuple[int, ...]) -> str:
    return repr(tuple(places))


def _assigned(name: str, text: str) -> str:
    if name.isidentifier():
        return f"self.{name} = {text}"
    return f"setattr(self, {constant(name).text}, {text})"


def _quoted(fields: tuple[str, ...]) -> str:
    return f"[{', '.join(constant(name).text for name in fields)}]"
