"""The Python file of a port."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..importer import imported
from ..importer.from_torch import Importation
from ..importer.imported import Imported, descend
from ..importer.program import Body, Custom, Structure
from .classes import Constructor, Definition, definitions_of, list_argument, sequential_arguments
from .code import RESERVED, constant, is_name
from .forward import Method, Writer
from .hints import names_of_calls
from .layout import laid_out
from .modes import merged
from .spelling import Kind
from .tree import Node, is_torch_sequential, make_chain, tree_of

TRAINING, EVALUATION = "training", "evaluation"


def source_of(importer: Importation, net: nnx.Module, args: tuple[Any, ...], kwargs: Any) -> str:
    """Return the source of an imported model.

    Args:
        importer: what imported it.
        net: the imported model.
        args: arrays for a call of it.
        kwargs: those by name.
    """
    root = tree_of(importer)
    writer = _File(importer, root, net, observe(net, args, kwargs))
    writer.find_chains(root)
    return writer.text(definitions_of(root))


# --- what values are ------------------------------------------------------------------------------

Observed = dict[int, dict[str, Kind]]


def observe(net: nnx.Module, args: tuple[Any, ...], kwargs: Any) -> Observed:
    """Return what the values of each program are, from a call in each mode, by body and name."""
    seen: list[tuple[Body, dict[str, Any]]] = []
    for mode in (net.train, net.eval):
        mode()

        with _noted(seen):
            try:
                nnx.eval_shape(lambda module: _called_once(module, args, kwargs), net)
            except ValueError:  # a mode that the model cannot run in
                continue
    found: Observed = {}
    for body, values in seen:
        kinds = found.setdefault(id(body), {})
        for name, value in values.items():
            kind = _kind_of(value)
            known = kinds.get(name, kind)
            if kind is not None and known is not None and kind.dtype == known.dtype:
                shapes = (
                    known.shapes if kind.shapes[0] in known.shapes else known.shapes + kind.shapes
                )
                if len({len(shape) for shape in shapes}) == 1:
                    kinds[name] = Kind(kind.dtype, shapes, kind.length)
    return found


def _called_once(module: Any, args: tuple[Any, ...], kwargs: Any) -> int:
    rngs = {"rngs": nnx.Rngs(0)} if isinstance(module, Imported) else {}
    module(*args, **kwargs, **rngs)
    return 0


def _kind_of(value: Any) -> Kind | None:
    if isinstance(value, (tuple, list)):
        return Kind(length=len(value))
    if hasattr(value, "dtype"):
        return Kind(np.dtype(value.dtype), (tuple(value.shape),))
    return Kind() if isinstance(value, (int, float)) else None


@contextmanager
def _noted(seen: list[tuple[Body, dict[str, Any]]]) -> Iterator[None]:
    """Keep the values of every program that runs."""
    original, of_pass, custom = imported.bind, imported.bind_pass, imported.customised

    def bind(name: str, body: Body, args: Any, kwargs: Any, values: dict[str, Any]) -> None:
        seen.append((body, values))
        original(name, body, args, kwargs, values)

    def bind_pass(body: Body, inputs: Any, captured: Any) -> dict[str, Any]:
        values = of_pass(body, inputs, captured)
        seen.append((body, values))
        return values

    def customised(step: Custom, inputs: Any, captured: Any) -> tuple[Any, ...]:
        results = custom(step, inputs, captured)
        saved = [(*inputs, *captured, *results)[at] for at in step.saved]
        imported._pass(step.backward, [jnp.ones_like(results[at]) for at in step.outputs], saved)
        return results

    try:
        imported.bind, imported.bind_pass, imported.customised = bind, bind_pass, customised
        yield
    finally:
        imported.bind, imported.bind_pass, imported.customised = original, of_pass, custom


# --- the file -----------------------------------------------------------------------------------


@dataclass
class _Forward:
    """A variant of a call: one method, or one for each mode."""

    both: Method | None = None
    modes: dict[str, Method | str] | None = None


class _File:
    def __init__(
        self, importer: Importation, root: Node, net: nnx.Module, observed: Observed
    ) -> None:
        self.importer, self.root, self.net, self.observed = importer, root, net, observed
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
            for line in laid_out(f"{name} = namedtuple({constant(name).text}, {_quoted(fields)})")
        ]
        head = self._head(code, bool(tuples))
        if tuples:
            head += "\n\n" + "\n".join(tuples)
        return f"{head}\n\n\n{code}\n"

    def find_chains(self, node: Node) -> None:
        """Let what calls its parts in turn, once what does nothing is left out, be a Sequential."""
        for child in node.children.values():
            self.find_chains(child)
        is_tied_root = node is self.root and bool(self.importer.tied)
        if node.kind != "class" or not node.programs or node.state or is_tied_root:
            return
        module = self.importer.model.get_submodule(node.path)
        if not is_torch_sequential(module):
            return
        if len(node.programs) == 1 and self._writer(node, node.programs[0].body).is_chain():
            node.training = node.evaluation = ()
            make_chain(node, module)

    def _writer(self, node: Node, *bodies: Body, body: Body | None = None) -> Writer:
        kinds: dict[str, Kind] = {}
        for one in bodies:
            kinds |= self.observed.get(id(one), {})
        calls = names_of_calls(type(self.importer.model.get_submodule(node.path)))
        written = bodies[0] if body is None else body
        state_kind = self._state_kind(node)
        return Writer(written, node, kinds, state_kind, self._called, calls, self._function)

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
                node = Node("", "class")
                kinds = self.observed.get(id(body), {})
                method = Writer(
                    body, node, kinds, lambda path: None, self._called, {}, self._function
                ).write()
                lines += laid_out(f"def {name}_{suffix}({', '.join(method.parameters)}):")
                lines += [line.removeprefix("    ") for line in method.lines]
                lines += ["", ""]
            options = (
                f"inputs={len(step.inputs)}, saved={_places(step.saved)}, "
                f"outputs={_places(step.outputs)}"
            )
            passes = f"{name}_forward, {name}_backward"
            lines += laid_out(f"{name} = ported.function({passes}, {options})")
            self.functions[key] = name, lines
        return self.functions[key][0]

    def _head(self, code: str, has_tuples: bool) -> str:
        name = type(self.importer.model).__name__
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
        return [*lines, *laid_out(f"return {built.text}", 4)]

    # --- classes --------------------------------------------------------------------------------

    def _class(self, definition: Definition) -> list[str]:
        node = definition.first
        forwards = self._forwards(node)
        has_mode = any(_has_mode(forward) for forward in forwards)
        draws = any(method.draws for forward in forwards for method in _methods(forward))
        base = f"jaxnn.{node.base or 'Module'}"
        if has_mode or draws or (node.own_modes and not node.base):
            base = "ported.Module"
        origin = "" if node.origin.startswith("__") else f" of {node.origin}"
        lines = [f"class {definition.name}({base}):", f'    """{node.name}{origin}."""']
        lines += self._init(definition, base)
        for number, forward in enumerate(forwards):
            lines += ["", *self._method(node, number, forward)]
        return lines

    def _init(self, definition: Definition, base: str) -> list[str]:
        node, nodes = definition.first, definition.instances
        constructor = Constructor(definition, nodes)
        body: list[str] = []
        children = constructor.children("", nodes)
        if node.base:
            arguments = sequential_arguments(children)
            if node.base == "ModuleList":
                arguments = [list_argument(children)]
            inside = ", ".join(argument.text for argument in arguments)
            body += laid_out(f"super().__init__({inside})", 8)
            children = {}
        elif base == "ported.Module":
            body.append(f"        super().__init__({'rngs' if node.takes_rngs else ''})")
        for name, code in children.items():
            path = f"{node.path}.{name}" if node.path else name
            if path in self.importer.tied:
                body += laid_out(_assigned(name, "nnx.data(None)"), 8)
            elif node.children[name].kind != "none":
                body += laid_out(_assigned(name, code.text), 8)
        for at, variable in enumerate(node.state):
            code = constructor.variable("", nodes, at)
            body += laid_out(_assigned(variable.name, code.text), 8)
        if node.own_modes:
            modes = ", ".join(repr(mode).replace("'", '"') for mode in node.own_modes)
            body += laid_out(f"self._own_modes = ({modes},)", 8)
        if node is self.root and self.importer.tied:
            pairs = ", ".join(
                f"{constant(alias).text}: {constant(first).text}"
                for alias, first in self.importer.tied.items()
            )
            body += laid_out(f"ported.tie(self, {{{pairs}}})", 8)
        if not body:
            return []
        parameters = ["self", *definition.parameters]
        if node.takes_rngs:
            parameters += ["*", "rngs"]
        return ["", *_signature("__init__", parameters), *body]

    # --- forward passes -------------------------------------------------------------------------

    def _forwards(self, node: Node) -> list[_Forward]:
        training, evaluation = node.training, node.evaluation
        if isinstance(training, str) or isinstance(evaluation, str):
            return self._one_mode(node)
        count = max(len(training), len(evaluation))
        found = []
        for at in range(count):
            pair = [p[min(at, len(p) - 1)] if p else None for p in (training, evaluation)]
            first, second = pair
            if first is None or second is None or first is second:
                only = second or first
                assert only is not None
                mode = EVALUATION if second is not None else TRAINING
                found.append(_Forward(self._written(node, only.body, [only.body], mode)))
                continue
            body = merged(first.body, second.body)
            if body is not None:
                found.append(_Forward(self._written(node, body, [first.body], TRAINING)))
                continue
            modes = {
                TRAINING: self._written(node, first.body, [first.body], TRAINING),
                EVALUATION: self._written(node, second.body, [second.body], EVALUATION),
            }
            found.append(_Forward(modes=dict(modes)))
        return found

    def _one_mode(self, node: Node) -> list[_Forward]:
        """Return the forward pass of a model that can be captured in one mode alone."""
        found = []
        for mode, programs in ((EVALUATION, node.evaluation), (TRAINING, node.training)):
            if isinstance(programs, str):
                continue
            other, reason = (
                (TRAINING, node.training) if mode == EVALUATION else (EVALUATION, node.evaluation)
            )
            for program in programs:
                method = self._written(node, program.body, [program.body], mode)
                found.append(_Forward(modes={mode: method, other: str(reason)}))
        return found

    def _written(self, node: Node, body: Body, seen: list[Body], mode: str) -> Method:
        self.mode = mode
        self._note_tuples(body)
        return self._writer(node, *seen, body=body).write()

    def _called(self, child: Node, variant: int) -> Body:
        modes = {TRAINING: child.training, EVALUATION: child.evaluation}
        for mode in (self.mode, EVALUATION, TRAINING):
            programs = modes[mode]
            if not isinstance(programs, str) and programs:
                return programs[min(variant, len(programs) - 1)].body
        raise AssertionError("a module that is called has a program")

    def _state_kind(self, node: Node) -> Any:
        def kind(path: str) -> Kind | None:
            full = f"{node.path}.{path}" if node.path else path
            for alias, first in self.importer.tied.items():
                if full == alias or full.startswith(f"{alias}."):
                    full = first + full[len(alias) :]
            try:
                value = descend(self.net, full)
            except (AttributeError, ValueError):
                return None
            return Kind(np.dtype(value.dtype), (tuple(value.shape),))

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

    def _method(self, node: Node, number: int, forward: _Forward) -> list[str]:
        name = f"call_{number}" if number else "__call__"
        decorators = []
        starts = []
        if node is self.root:
            if self.importer.tied:
                decorators.append("    @ported.tied")
            if node.draws:
                starts.append("        rngs = ported.keys_for_parts(rngs)")
        if forward.both is not None:
            parameters = _with_rngs(forward.both.parameters, node)
            return [*decorators, *_signature(name, parameters), *starts, *forward.both.lines]
        assert forward.modes is not None
        if any(isinstance(method, str) for method in forward.modes.values()):
            return [*decorators, *self._refusing(name, node, forward.modes, starts)]
        return [*decorators, *self._choosing(name, node, forward.modes, starts)]

    def _refusing(self, name: str, node: Node, modes: Any, starts: list[str]) -> list[str]:
        method = next(m for m in modes.values() if isinstance(m, Method))
        mode, reason = next((k, m) for k, m in modes.items() if isinstance(m, str))
        sign = "" if mode == EVALUATION else "not "
        text = f"{node.name} cannot run in {mode} mode: {reason}"[:80].replace('"', "'")
        lines = _signature(name, _with_rngs(method.parameters, node))
        lines += [*starts, f"        if {sign}self.deterministic:"]
        lines += laid_out(f"raise ValueError({constant(text).text})", 12)
        return [*lines, *method.lines]

    def _choosing(self, name: str, node: Node, modes: Any, starts: list[str]) -> list[str]:
        suffix = "" if name == "__call__" else name.removeprefix("call")
        training, evaluation = modes[TRAINING], modes[EVALUATION]
        draws = ["*", "rngs=None"] if node.draws else []
        if training.parameters == evaluation.parameters and not any(
            "*" in parameter for parameter in training.parameters
        ):
            lines = _signature(name, _with_rngs(training.parameters, node))
            passed = [*training.parameters, *(["rngs=rngs"] if draws else [])]
        else:
            lines = _signature(name, ["self", "*args", "**kwargs"])
            starts, passed = [], ["*args", "**kwargs"]
        inside = ", ".join(passed)
        lines += [*starts, "        if self.deterministic:"]
        lines += laid_out(f"return self._evaluate{suffix}({inside})", 12)
        lines += laid_out(f"return self._train{suffix}({inside})", 8)
        for label, method in (("_evaluate", evaluation), ("_train", training)):
            lines += ["", *_signature(f"{label}{suffix}", _with_rngs(method.parameters, node))]
            lines += method.lines
        return lines


def _methods(forward: _Forward) -> list[Method]:
    found: list[Any] = [forward.both, *(forward.modes or {}).values()]
    return [method for method in found if isinstance(method, Method)]


def _has_mode(forward: _Forward) -> bool:
    return forward.modes is not None or any(method.uses_mode for method in _methods(forward))


def _with_rngs(parameters: list[str], node: Node) -> list[str]:
    if not node.draws:
        return ["self", *parameters]
    named = any(parameter.startswith("*") for parameter in parameters)
    if named and parameters[-1].startswith("**"):
        return ["self", *parameters[:-1], "rngs=None", parameters[-1]]
    return ["self", *parameters, *([] if named else ["*"]), "rngs=None"]


def _signature(name: str, parameters: list[str]) -> list[str]:
    return laid_out(f"def {name}({', '.join(parameters)}):", 4)


def _places(places: tuple[int, ...]) -> str:
    return repr(tuple(places))


def _assigned(name: str, text: str) -> str:
    if name.isidentifier():
        return f"self.{name} = {text}"
    return f"setattr(self, {constant(name).text}, {text})"


def _quoted(fields: tuple[str, ...]) -> str:
    return f"[{', '.join(constant(name).text for name in fields)}]"
