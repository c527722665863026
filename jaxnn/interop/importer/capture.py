"""Capturing a torch model's forward pass with `torch.export`, module by module.

While the model is traced, each of its modules says where its call begins and ends, and with what:
an operator `mark` that does nothing stands in the graph. A layer that jaxnn has is not looked
into: an operator `call` stands for it, whose outputs have the right shapes. So the hierarchy, the
signatures and the nested results are those of the original, whatever the exporter does.
"""

from __future__ import annotations

import copy
import inspect
import io
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from .gradients import CustomGradient, Recorder, Refused, marked_gradients
from .guards import Origin, guards_of, line_of_the_model, noted_origins
from .program import Opaque, Structure, Value, leaves, rebuild

if TYPE_CHECKING:
    import torch


class NotDescribable(TypeError):
    """An argument or result that is neither made of tensors nor a constant."""


@dataclass
class RecordedCall:
    """One call of a module: where, with what, and what came back.

    In `args`, `kwargs` and `results`, `Value("3")` is the third tensor and `Value("s1")` the first
    integer that depends on a shape.
    """

    module: str
    args: Any
    kwargs: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    results: Any = None


@dataclass
class Captured:
    """An exported graph and what is known of it.

    Attributes:
        program: the graph.
        records: what its marks and calls mean, by key.
        origins: where its guards stand.
        gradients: its Functions and hooks, by key.
        modes: whether each layer that is not looked into was called in training mode.
        notes: what the importer has to warn of.
    """

    program: torch.export.ExportedProgram
    records: list[RecordedCall]
    origins: dict[str, Origin] = field(default_factory=dict)
    gradients: list[CustomGradient] = field(default_factory=list)
    modes: dict[str, bool] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def describe(value: Any, tensors: list[Any], sizes: list[Any], inner: bool = False) -> Any:
    """Return the structure of `value`, moving its tensors and symbolic sizes to the lists.

    Args:
        value: an argument or a result.
        tensors: takes the tensors.
        sizes: takes the sizes that depend on those of the example.
        inner: whether it crosses the boundary of a module inside of the model. What has no
            structure that could be given by name is `Opaque` there: the graph knows which of its
            tensors are used.

    Raises:
        NotDescribable: if it holds something else than tensors, containers and constants.
    """
    import torch

    def of(item: Any) -> Any:
        return describe(item, tensors, sizes, inner)

    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return Value(str(len(tensors) - 1))
    if isinstance(value, torch.SymInt):
        sizes.append(value)
        return Value(f"s{len(sizes) - 1}")
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        return value
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, torch.device):
        return None
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        pairs = tuple((name, of(getattr(value, name))) for name in value._fields)
        return Structure("namedtuple", type(value).__name__, pairs)
    if isinstance(value, (tuple, torch.Size)):
        return tuple(of(item) for item in value)
    if isinstance(value, (list, deque)):
        return [of(item) for item in value]
    if isinstance(value, Mapping):
        kind = "dict" if type(value).__name__ in ("dict", "OrderedDict") else "record"
        pairs = tuple((key, of(item)) for key, item in value.items())
        return Structure(kind, type(value).__name__, pairs)
    if is_dataclass(value) and not isinstance(value, type):
        pairs = tuple((f.name, of(getattr(value, f.name))) for f in fields(value))
        return Structure("record", type(value).__name__, pairs)
    if inner:
        return _constants_of(value)
    if hasattr(value, "__dict__") and not callable(value):
        pairs = tuple((name, of(item)) for name, item in vars(value).items())
        return Structure("record", type(value).__name__, pairs)
    raise NotDescribable(f"{type(value).__name__} is neither a tensor nor made of tensors")


def _constants_of(value: Any) -> Structure | Opaque:
    """Return an object's structure if it holds constants alone, as a configuration does."""
    tensors: list[Any] = []
    try:
        structure = describe(value, tensors, tensors)
    except (NotDescribable, RecursionError):
        return Opaque(type(value).__name__)
    return Opaque(type(value).__name__) if tensors else structure


def capture(
    model: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    is_leaf: Callable[[torch.nn.Module], bool],
    dynamic_batch: bool,
    decisions: Decisions | None = None,
    size_one: bool = True,
) -> Captured:
    """Export `model` in the mode that it is in.

    Args:
        model: the model.
        args: the positional arguments of the example.
        kwargs: its keyword arguments.
        is_leaf: whether a module is a layer that is not looked into.
        dynamic_batch: whether leading dimensions may differ.
        decisions: how branches on values are taken; without them such a branch is refused.
        size_one: whether a dimension that may differ may be 1 (or 0), with the conditions that the
            model has on that; else the exporter takes for granted that it is more.
    """
    import torch

    structure, named, tensors, _ = _described(args, kwargs)
    tensors = _told_apart(tensors)
    records: list[RecordedCall] = []

    class Flat(torch.nn.Module):
        """The model between flat lists of tensors, so that no structure need be registered."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
            given, options = _given(args, structure, kwargs, named, _among(flat, ()))
            before = named_arguments(model.forward, given, options)
            was = {name: describe(value, [], []) for name, value in before.items()}
            with _assigned_buffers(self.model):
                result = self.model(*given, **options)
            found: list[torch.Tensor] = []
            describe(result, found, [])
            for name, value in before.items():
                for lost in _lost(value, was[name], result):
                    raise Refused(
                        f"the model changes a {type(lost).__name__} that it is given as {name!r}, "
                        "and does not return it; return it in the result, so that it comes back"
                    )
            return tuple(found)

    shapes: Any = None
    if dynamic_batch:
        auto = torch.export.Dim.AUTO
        shapes = (tuple({0: auto} if tensor.ndim else {} for tensor in tensors),)
    origins: dict[str, Origin] = {}
    _library()
    operators = torch.ops.jaxnn_import
    recorder = Recorder(operators.mark, operators.stand_in, operators.alias)
    with ExitStack() as stack:
        for context in (
            left_as_it_was(model), _traced(model, is_leaf, records), _gradient_marks(),
            _masks_as_they_are(), _einsum_in_order(), _quietly(),
            noted_origins(origins), marked_gradients(recorder),
            _oblivious(size_one and dynamic_batch),
        ):  # fmt: skip
            stack.enter_context(context)
        stack.enter_context(_undecided() if decisions is None else _as_decided(decisions))
        exported = torch.export.export(Flat(), tuple(tensors), dynamic_shapes=shapes, strict=False)
        exported = exported.run_decompositions({})
    modes = dict(_library().modes)
    return Captured(exported, records, origins, recorder.records, modes, recorder.notes)


def is_valid_for(captured: Captured, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a program's conditions hold for a call with these arguments."""
    arrays = {f"flat[{i}]": tensor for i, tensor in enumerate(_described(args, kwargs)[2])}
    guards = guards_of(captured.program, captured.origins)
    return all(guard.holds(arrays) for guard in guards)


def _described(
    args: Sequence[Any], kwargs: Mapping[str, Any], inner: bool = False
) -> tuple[Any, dict[str, Any], list[Any], list[Any]]:
    """Return the structures of a call's arguments, with their tensors and symbolic sizes."""
    tensors: list[Any] = []
    sizes: list[Any] = []
    structure = tuple(describe(item, tensors, sizes, inner) for item in args)
    named = {n: describe(v, tensors, sizes, inner) for n, v in kwargs.items()}
    return structure, named, tensors, sizes


def copied_call(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    tensor: Callable[[Any], Any] = lambda tensor: tensor,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call with copies of their tensors, and of what holds these.

    Args:
        args: the positional arguments.
        kwargs: the keyword arguments.
        tensor: what is made of each tensor before it is copied.

    Raises:
        NotDescribable: if one is neither made of tensors nor a constant.
    """
    structure, named, tensors, _ = _described(args, kwargs)
    made = [tensor(item.detach()).clone() for item in tensors]
    return _given(args, structure, kwargs, named, _among(made, ()))


def _told_apart(tensors: Sequence[Any]) -> list[Any]:
    """Return the tensors, copies of those that stand there twice: another call may give two."""
    seen: set[int] = set()
    apart = []
    for tensor in tensors:
        apart.append(tensor.clone() if id(tensor) in seen else tensor)
        seen.add(id(tensor))
    return apart


def named_arguments(
    forward: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call by name, where the signature names them."""
    try:
        return dict(inspect.signature(forward).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {f"arg{i}": item for i, item in enumerate(args)} | dict(kwargs)


def _lost(value: Any, was: Any, result: Any) -> Iterator[Any]:
    """Yield what a call has changed of an argument, and has not returned."""
    if describe(value, [], []) == was or _is_within(value, result):
        return
    if isinstance(value, tuple) and isinstance(was, tuple):
        for item, structure in zip(value, was, strict=True):
            yield from _lost(item, structure, result)
    else:
        yield value


def _is_within(value: Any, result: Any) -> bool:
    """Whether a container or object is the result, or stands in it."""
    import torch

    if value is result:
        return True
    if isinstance(result, (torch.Tensor, torch.nn.Module)) or callable(result):
        return False
    if isinstance(result, Mapping):
        return any(_is_within(value, item) for item in result.values())
    if isinstance(result, (tuple, list, deque)):
        return any(_is_within(value, item) for item in result)
    held = vars(result) if hasattr(result, "__dict__") else {}
    return any(_is_within(value, item) for item in held.values())


@contextmanager
def _assigned_buffers(model: torch.nn.Module) -> Iterator[None]:
    """Mark what is assigned to a buffer's name, and put the buffer itself back."""
    import torch

    was = [(path, m, dict(m._buffers)) for path, m in model.named_modules()]
    yield
    for path, module, buffers in was:
        for name, buffer in buffers.items():
            new = module._buffers.get(name)
            if new is not buffer and isinstance(new, torch.Tensor):
                full = f"{path}.{name}" if path else name
                if buffer is None or (buffer.shape, buffer.dtype) != (new.shape, new.dtype):
                    had = "None" if buffer is None else f"{buffer.dtype} {tuple(buffer.shape)}"
                    raise Refused(
                        f"forward assigns the buffer {full}, which was {had}, what is {new.dtype} "
                        f"{tuple(new.shape)}; register it with the shape and dtype that it keeps"
                    )
                torch.ops.jaxnn_import.mark(f"assign {full}", [new], [])
                module._buffers[name] = buffer


@contextmanager
def left_as_it_was(model: torch.nn.Module) -> Iterator[None]:
    """Put back what the modules' attributes hold: a traced call leaves its own tensors there."""
    kept = [_Kept(module) for module in model.modules()]
    try:
        yield
    finally:
        for one in kept:
            one.put_back()


class _Kept:
    """The attributes of a module or object, and what the containers among them hold."""

    def __init__(self, owner: Any, memo: set[int] | None = None) -> None:
        import torch

        self.owner, self.held = owner, dict(vars(owner))
        self.within: list[_Kept] = []
        self.contents: list[tuple[Any, Any]] = []
        memo = set() if memo is None else memo
        for name, value in self.held.items():
            if isinstance(owner, torch.nn.Module) and name in _REGISTERED:
                self.contents.append((value, copy.copy(value)))
            else:
                self._note(value, memo)

    def _note(self, value: Any, memo: set[int]) -> None:
        import torch

        if id(value) in memo or isinstance(value, (torch.nn.Module, torch.Tensor, type)):
            return
        memo.add(id(value))
        if isinstance(value, (dict, list, deque, set)):
            self.contents.append((value, copy.copy(value)))
            items = value.values() if isinstance(value, dict) else value
            for item in list(items):
                self._note(item, memo)
        elif isinstance(value, tuple):
            for item in value:
                self._note(item, memo)
        elif hasattr(value, "__dict__") and not callable(value) and not inspect.ismodule(value):
            self.within.append(_Kept(value, memo))

    def put_back(self) -> None:
        held = vars(self.owner)
        for name in [name for name in held if name not in self.held]:
            del held[name]
        held.update(self.held)
        for container, content in self.contents:
            container.clear()
            if isinstance(container, (dict, set)):
                container.update(content)
            else:
                container.extend(content)
        for one in self.within:
            one.put_back()


# What a module registers itself, whose parts are noted by themselves.
_REGISTERED = {"_parameters", "_buffers", "_modules"}


def _among(tensors: Sequence[Any], sizes: Sequence[Any]) -> Callable[[Value], Any]:
    """Return what a Value of a recorded call stands for, as a function."""

    def chosen(value: Value) -> Any:
        return sizes[int(value.name[1:])] if value.name[0] == "s" else tensors[int(value.name)]

    return chosen


def _given(
    args: Sequence[Any],
    structure: Any,
    kwargs: Mapping[str, Any],
    named: Mapping[str, Any],
    leaf: Callable[[Value], Any],
) -> tuple[Any, dict[str, Any]]:
    """Return the arguments with their tensors and sizes replaced by what `leaf` gives."""
    options = {name: _actual(kwargs[name], item, leaf) for name, item in named.items()}
    return _actual(tuple(args), structure, leaf), options


def _actual(value: Any, structure: Any, tensor: Callable[[Value], Any]) -> Any:
    """Return `value` with its tensors replaced by those that `tensor` gives."""
    import torch

    if isinstance(structure, Value):
        return tensor(structure)
    if isinstance(structure, Structure):
        made = {
            name: _actual(
                value[name] if isinstance(value, Mapping) else getattr(value, name), item, tensor
            )
            for name, item in structure.fields
        }
        if isinstance(value, tuple):
            return type(value)(**made)
        changed = copy.copy(value)
        if isinstance(value, Mapping):
            for name, item in made.items():
                changed[name] = item
        else:
            for name, item in made.items():
                object.__setattr__(changed, name, item)
        return changed
    if isinstance(value, (tuple, list, deque)) and not isinstance(value, torch.Size):
        items = [_actual(v, s, tensor) for v, s in zip(value, structure, strict=True)]
        return type(value)(items)
    return value


def _arguments(
    forward: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the structures of a call's arguments by the names that `forward` gives them.

    Those that are not given have their defaults, where these are constants. A value is the pair of
    structure and kind of parameter.
    """
    try:
        signature = inspect.signature(forward)
        bound = signature.bind(*args, **kwargs)
    except (TypeError, ValueError):
        named = {f"arg{i}": (item, "positional") for i, item in enumerate(args)}
        return {**named, **{name: (item, "keyword") for name, item in kwargs.items()}}
    kinds: dict[Any, str] = {
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.VAR_KEYWORD: "**",
        inspect.Parameter.KEYWORD_ONLY: "keyword",
    }
    found = {}
    for name, parameter in signature.parameters.items():
        kind = kinds.get(parameter.kind, "positional")
        if name in bound.arguments:
            value = bound.arguments[name]
        elif kind in ("*", "**"):
            value = () if kind == "*" else {}
        else:
            value = parameter.default
            if not (value is None or isinstance(value, (bool, int, float, str))):
                continue
        if kind == "**":
            value = Structure("dict", "dict", tuple(value.items()))
        found[name] = (value, kind)
    return found


@contextmanager
def _traced(
    model: torch.nn.Module, is_leaf: Callable[[torch.nn.Module], bool], records: list[RecordedCall]
) -> Iterator[None]:
    """Let the modules of `model` leave marks and calls in the graph, while in this context."""
    library = _library()
    library.records, library.twins, library.modes = records, {}, {}
    changed = []
    try:
        modules = list(_modules_to_trace(model, is_leaf))
        library.twins |= {name: _shallow_copy(module) for name, module, leaf in modules if leaf}
        for name, module, leaf in modules:
            wrap = _leaf_forward if leaf else _marked_forward
            # With its hooks, which are a part of what a call does.
            method = "_call_impl" if _has_forward_hooks(module) else "forward"
            changed.append((module, method, module.__dict__.get(method)))
            module.__dict__[method] = wrap(library, name, module, getattr(module, method))
        yield
    finally:
        for module, method, had in reversed(changed):
            module.__dict__.pop(method, None)
            if had is not None:
                module.__dict__[method] = had


def _has_forward_hooks(module: torch.nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _modules_to_trace(
    model: torch.nn.Module, is_leaf: Callable[[torch.nn.Module], bool]
) -> Iterator[tuple[str, torch.nn.Module, bool]]:
    """Yield the modules under their first names, leaves without what is in them."""
    seen: set[int] = set()

    def walk(name: str, module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module, bool]]:
        if id(module) in seen:
            return
        seen.add(id(module))
        leaf = is_leaf(module)
        yield name, module, leaf
        if not leaf:
            for child_name, child in module.named_children():
                yield from walk(f"{name}.{child_name}" if name else child_name, child)

    yield from walk("", model)


def _shallow_copy(module: torch.nn.Module) -> torch.nn.Module:
    """Return a module of the same parameters, apart from `module` in all else."""
    twin = copy.copy(module)
    twin.__dict__ = dict(module.__dict__)
    for name in ("_parameters", "_buffers", "_modules"):
        twin.__dict__[name] = dict(module.__dict__[name])
    # Statistics that a call updates; the exporter's own tensors do not guard these.
    buffers = {n: None if b is None else b.clone() for n, b in twin._buffers.items()}
    twin.__dict__["_buffers"] = buffers
    for name, child in twin._modules.items():
        if child is not None:
            twin._modules[name] = _shallow_copy(child)
    return twin


def _marked_forward(
    library: _Library, name: str, module: torch.nn.Module, call: Callable[..., Any]
) -> Callable[..., Any]:
    """Return `call` of a module with marks around it."""
    import torch

    forward = module.forward
    inner = bool(name)

    def marked(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = _aliased(args, kwargs)
        structure, named, tensors, sizes = _described(args, kwargs, inner)
        arguments = _arguments(forward, structure, named)
        record = RecordedCall(name, structure, named, arguments)
        key = library.add(record)
        torch.ops.jaxnn_import.mark(f"enter {key}", tensors, sizes)
        try:
            result = call(*args, **kwargs)
        except BaseException:
            torch.ops.jaxnn_import.mark(f"exit {key}", [], [])
            raise
        if inner:
            _without_changed(record, forward, args, kwargs, tensors)
        found: list[Any] = []
        found_sizes: list[Any] = []
        record.results = describe(result, found, found_sizes, inner)
        torch.ops.jaxnn_import.mark(f"exit {key}", found, found_sizes)
        return result

    return marked


def _aliased(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Any]:
    """Return the arguments with an alias for a tensor that is given twice.

    It must be told apart inside: another call of the part may give two.
    """
    import torch

    seen: set[int] = set()

    def apart(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        twice = id(value) in seen
        seen.add(id(value))
        return torch.ops.aten.alias(value) if twice else value

    return tuple(map(apart, args)), {name: apart(value) for name, value in kwargs.items()}


def _without_changed(
    record: RecordedCall,
    forward: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    tensors: list[Any],
) -> None:
    """Make the containers that a call has changed opaque: what they hold crosses by the graph."""

    def kept(value: Any, was: Any) -> Any:
        held: list[Any] = []
        now = describe(value, held, [], True)
        at = [int(leaf.name) for leaf in leaves(was) if leaf.name[0] != "s"]
        is_same = _same_structure(now, was) and all(
            tensors[i] is tensor for i, tensor in zip(at, held, strict=True)
        )
        return was if is_same else Opaque(type(value).__name__)

    record.args = tuple(kept(*pair) for pair in zip(args, record.args, strict=True))
    record.kwargs = {name: kept(kwargs[name], item) for name, item in record.kwargs.items()}
    record.arguments = _arguments(forward, record.args, record.kwargs)


def _same_structure(one: Any, other: Any) -> bool:
    """Whether two structures are the same but for the names of their values."""
    return bool(rebuild(one, lambda leaf: None) == rebuild(other, lambda leaf: None)) and len(
        leaves(one)
    ) == len(leaves(other))


def _leaf_forward(
    library: _Library, name: str, module: torch.nn.Module, _: Callable[..., Any]
) -> Callable[..., Any]:
    """Return what stands for the call of a layer that is not looked into."""
    import torch

    if type(module) is torch.nn.Identity:
        return lambda input, *args, **kwargs: input

    def called(*args: Any, **kwargs: Any) -> Any:
        if library.modes.setdefault(name, module.training) != module.training:
            raise Refused(
                f"{name} is called in training and in evaluation mode by one forward pass, at "
                f"{line_of_the_model()}; use two modules that share their parameters"
            )
        structure, named, tensors, sizes = _described(args, kwargs)
        record = RecordedCall(name, structure, named)
        key = library.add(record)
        flat = torch.ops.jaxnn_import.call(key, tensors, sizes)
        result = rebuild(record.results, _among(flat, ()))
        if getattr(module, "inplace", False) and isinstance(args[0], torch.Tensor):
            return args[0].copy_(result)
        return _realise(result)

    return called


def _realise(result: Any) -> Any:
    if isinstance(result, Structure):
        return {name: _realise(item) for name, item in result.fields}
    return result


class _Library:
    """The operators that stand in the graph for calls of modules."""

    def __init__(self) -> None:
        import torch

        self.records: list[RecordedCall] = []
        self.twins: dict[str, torch.nn.Module] = {}
        self.modes: dict[str, bool] = {}
        self.library = torch.library.Library("jaxnn_import", "DEF")
        self.library.define("mark(str key, Tensor[] tensors, SymInt[] sizes) -> ()")
        self.library.define("call(str key, Tensor[] tensors, SymInt[] sizes) -> Tensor[]")
        self.library.define("stand_in(Tensor of) -> Tensor")
        self.library.define("alias(Tensor self) -> Tensor")
        for name, function in (
            ("mark", self._mark), ("call", self._call),
            ("stand_in", self._copy), ("alias", self._copy),
        ):  # fmt: skip
            self.library.impl(name, function, "CompositeExplicitAutograd")
            torch.library.register_fake(f"jaxnn_import::{name}", function, lib=self.library)
            # Else the exporter would drop calls whose results are not used.
            torch.fx.node.has_side_effect(getattr(torch.ops.jaxnn_import, name).default)

    def add(self, record: RecordedCall) -> str:
        self.records.append(record)
        return str(len(self.records) - 1)

    @staticmethod
    def _mark(key: str, tensors: list[Any], sizes: list[Any]) -> None:
        return None

    @staticmethod
    def _copy(tensor: Any) -> Any:
        return tensor.clone()

    def _call(self, key: str, tensors: list[Any], sizes: list[Any]) -> list[Any]:
        import torch

        record = self.records[int(key)]
        twin = self.twins[record.module]

        actual = _among(tensors, sizes)
        args = _realise(rebuild(record.args, actual))
        kwargs = {name: _realise(rebuild(item, actual)) for name, item in record.kwargs.items()}
        result = type(twin).forward(twin, *args, **kwargs)
        found: list[torch.Tensor] = []
        record.results = describe(result, found, [])
        # An operator's results must not be its arguments.
        return [tensor.clone(memory_format=torch.preserve_format) for tensor in found]


@cache
def _library() -> _Library:
    return _Library()


@contextmanager
def _gradient_marks() -> Iterator[None]:
    """Let what switches gradients off or on leave marks in the graph: the exporter forgets it."""
    import torch

    patched = []

    def patch(owner: Any, name: str) -> None:
        original = getattr(owner, name)
        patched.append((owner, name, original))

        def replaced(self: Any, *args: Any) -> Any:
            is_the_models = _from_the_model() and torch.compiler.is_exporting()
            result = original(self, *args)
            if is_the_models:
                torch.ops.jaxnn_import.mark(f"grad {int(torch.is_grad_enabled())}", [], [])
            return result

        setattr(owner, name, replaced)

    try:
        for owner in (torch.no_grad, torch.enable_grad, torch.inference_mode):
            patch(owner, "__enter__")
            patch(owner, "__exit__")
        patch(torch.set_grad_enabled, "__init__")
        patch(torch.set_grad_enabled, "__exit__")
        yield
    finally:
        for owner, name, original in patched:
            setattr(owner, name, original)


def _oblivious(yes: bool) -> Any:
    """Let the exporter ask about sizes of 0 and 1 as about others, instead of excluding them."""
    from torch.fx.experimental import _config

    return _config.patch(backed_size_oblivious=yes)  # type: ignore[attr-defined]


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter's graphs and logs from the terminal: what is wrong is raised."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("torch")]
    loggers = [logging.getLogger(name) for name in names]
    disabled = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, was in zip(loggers, disabled, strict=True):
            logger.disabled = was


@contextmanager
def _einsum_in_order() -> Iterator[None]:
    """Multiply the operands of an einsum from left to right: a search for the best fixes sizes."""
    import torch

    settings: Any = torch.backends.opt_einsum
    enabled = settings.enabled
    settings.enabled = False
    try:
        yield
    finally:
        settings.enabled = enabled


@contextmanager
def _masks_as_they_are() -> Iterator[None]:
    """Keep torch's transformers from looking whether a mask is causal: it is applied as given."""
    from torch.nn.modules import transformer

    detect = transformer._detect_is_causal_mask
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: bool(is_causal)
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = detect


# What a model's code reads of a tensor's values, to branch on or to compute a shape with.
_READS = ("__bool__", "__int__", "__float__", "__index__", "item", "tolist")


@dataclass
class Decisions:
    """What a model read of its tensors' values, in order, when it ran on the example."""

    answers: list[Any] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def decide(model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Decisions:
    """Run a copy of the model on the example, and note what it reads of its tensors' values."""
    import torch

    decisions = Decisions()
    twin = copy.deepcopy(model)

    def answer(original: Callable[..., Any], tensor: Any, caller: Any) -> Any:
        value = original(tensor)
        decisions.answers.append(value)
        line = f"{caller.f_code.co_filename}:{caller.f_lineno}"
        decisions.lines += [line] if line not in decisions.lines else []
        return value

    args, kwargs = copied_call(args, kwargs)
    with _reads(answer), _coins_that_never_drop(), torch.enable_grad():
        twin(*args, **kwargs)
    return decisions


class _AsksForGradients(RuntimeError):
    """A data-dependent branch: what needs a gradient differs while a model is traced."""


@contextmanager
def _undecided() -> Iterator[None]:
    """Refuse what only a run of the model can answer; its values the exporter refuses itself."""

    def answer(original: Callable[..., Any], tensor: Any, caller: Any) -> Any:
        if getattr(original, "__name__", "") == "__get__":
            raise _AsksForGradients("data-dependent: the model asks whether a tensor has gradients")
        return original(tensor)

    with _reads(answer):
        yield


@contextmanager
def _as_decided(decisions: Decisions) -> Iterator[None]:
    """Answer what the model reads of its tensors' values as it was on the example."""
    answers = iter(decisions.answers)
    with _reads(lambda original, tensor, caller: next(answers)), _coins_that_never_drop():
        yield


@contextmanager
def _reads(answer: Callable[[Callable[..., Any], Any, Any], Any]) -> Iterator[None]:
    """Let `answer` answer what the model's own code reads of a tensor's values."""
    import torch

    originals = {name: getattr(torch.Tensor, name) for name in _READS}
    needs_gradient: Any = torch.Tensor.requires_grad

    def patch(name: str) -> None:
        original = originals[name]

        def read(self: Any) -> Any:
            caller = sys._getframe(1)
            if not _is_torchs(caller):
                return answer(original, self, caller)
            return original(self)

        setattr(torch.Tensor, name, read)

    def asked(self: Any) -> Any:
        caller = sys._getframe(1)
        if _is_torchs(caller) or isinstance(self, torch.nn.Parameter):
            return needs_gradient.__get__(self)
        return answer(needs_gradient.__get__, self, caller)

    def set_gradient(self: Any, value: bool) -> None:
        needs_gradient.__set__(self, value)

    try:
        for name in _READS:
            patch(name)
        torch.Tensor.requires_grad = property(asked, set_gradient)  # type: ignore[assignment,method-assign]
        yield
    finally:
        del torch.Tensor.requires_grad
        for name, original in originals.items():
            setattr(torch.Tensor, name, original)


@contextmanager
def _coins_that_never_drop() -> Iterator[None]:
    """Let `torch.rand` of a single number be 1, which no probability exceeds."""
    import torch

    rand = torch.rand

    def steady(*size: Any, **options: Any) -> Any:
        shape = size[0] if len(size) == 1 and isinstance(size[0], (list, tuple)) else size
        single = all(isinstance(n, int) and n == 1 for n in shape)
        return torch.ones(shape) if single else rand(*size, **options)

    torch.rand = steady  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.rand = rand


def _is_torchs(frame: Any) -> bool:
    module = frame.f_globals.get("__name__", "")
    return bool(module == "torch" or module.startswith("torch."))


def _from_the_model() -> bool:
    """Whether what is called comes from a model's or a layer's code, not from torch's machinery."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.endswith("utils/_contextlib.py"):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return False
    return not _is_torchs(frame) or frame.f_globals.get("__name__", "").startswith("torch.nn.")
