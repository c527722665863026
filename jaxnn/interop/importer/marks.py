"""The marks that modules and layers leave in the graph while a model is traced.

Each module says where its call begins and ends, and with what: an operator `mark` that does nothing
stands in the graph. A layer that jaxnn has is not looked into: an operator `call` stands for it,
whose outputs have the right shapes. So the hierarchy, the signatures and the nested results are
those of the original, whatever the exporter does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from .alike import Alike, Seen, has_opaque, result_like, seen_call, signature_of, state_of
from .gradients import Refused
from .kernels import kernels_by_shape
from .lines import line_of_the_model
from .program import Opaque, leaves, rebuild
from .structures import (
    among,
    arguments_of,
    as_dicts,
    describe,
    described_call,
    same_structure,
)

if TYPE_CHECKING:
    import torch


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


@contextmanager
def traced(
    model: torch.nn.Module,
    is_layer: Callable[[torch.nn.Module], bool],
    records: list[RecordedCall],
    alike: Alike,
) -> Iterator[None]:
    """Let the parts of `model` leave marks and calls in the graph, while in this context.

    Those of the model itself are left by `call_of_the_model`.
    """
    library = library_of_marks()
    library.records, library.twins, library.modes = records, {}, {}
    library.layers, library.parameters, library.alike = {}, {}, alike
    alike.begin(model)
    changed = []
    try:
        _, *modules = _modules_to_trace(model, is_layer)  # the first is the model
        library.layers |= {name: module for name, module, layer in modules if layer}
        library.twins |= {name: _shallow_copy(layer) for name, layer in library.layers.items()}
        for name, module, layer in modules:
            wrap = _layer_forward if layer else _marked_forward
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


def call_of_the_model(model: torch.nn.Module) -> Callable[..., Any]:
    """Return a call of the model as a whole with marks around it, a `__call__` of its own too."""
    return _marked_forward(library_of_marks(), "", model, model)


def _has_forward_hooks(module: torch.nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _modules_to_trace(
    model: torch.nn.Module, is_layer: Callable[[torch.nn.Module], bool]
) -> Iterator[tuple[str, torch.nn.Module, bool]]:
    """Yield the modules under their first names, layers without what is in them."""
    seen: set[int] = set()

    def walk(name: str, module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module, bool]]:
        if id(module) in seen:
            return
        seen.add(id(module))
        layer = is_layer(module)
        yield name, module, layer
        if not layer:
            for child_name, child in module.named_children():
                yield from walk(f"{name}.{child_name}" if name else child_name, child)

    yield from walk("", model)


def _shallow_copy(module: torch.nn.Module) -> torch.nn.Module:
    """Return a module with the same parameters that shares nothing else with `module`."""
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
        if not inner:  # the exporter has put its own tensors in the parameters' places
            layers = library.layers.items()
            library.parameters = {name: _identities(layer) for name, layer in layers}
        block = _Block(library.alike, name, module, args, kwargs)
        if block.like:
            return _called_like(library, block.like, name, args, kwargs)
        args, kwargs = _aliased(args, kwargs)
        structure, named, tensors, sizes = described_call(args, kwargs, inner)
        arguments = arguments_of(forward, structure, named)
        record = RecordedCall(name, structure, named, arguments)
        key = library.add(record)
        torch.ops.jaxnn_import.mark(f"enter {key}", tensors, sizes)
        block.begins(tensors)
        try:
            result = call(*args, **kwargs)
        except BaseException:
            torch.ops.jaxnn_import.mark(f"exit {key}", [], [])
            block.ends(None)
            raise
        if inner:
            _without_changed(record, forward, args, kwargs, tensors)
        found: list[Any] = []
        found_sizes: list[Any] = []
        record.results = describe(result, found, found_sizes, inner)
        torch.ops.jaxnn_import.mark(f"exit {key}", found, found_sizes)
        is_known = not found_sizes and not has_opaque(record.results)
        block.ends(seen_call(name, block.signature, result, record.results, found, is_known))
        return result

    return marked


class _Block:
    """A call of a module that others may be like.

    Attributes:
        signature: of its arguments; None where it is no such module.
        like: the calls that it is like, which have been captured.
    """

    def __init__(self, alike: Alike, name: str, module: Any, args: Any, kwargs: Any) -> None:
        self.alike, self.name, self.module = alike, name, module
        self.is_member = alike.is_member(name)
        self.signature = signature_of(args, kwargs) if self.is_member else None
        self.like = alike.like(name, self.signature) if self.is_member else []

    def begins(self, tensors: list[Any]) -> None:
        if self.is_member:
            self.given, self.was = tensors, state_of(self.module, tensors)
            self.alike.enters(self.name)

    def ends(self, seen: Seen | None) -> None:
        if self.is_member:
            is_kept = seen is not None and state_of(self.module, self.given) == self.was
            self.alike.leaves(self.name, seen if is_kept else None)


def _called_like(
    library: _Library, seen: list[Seen], name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Return what stands for a call that is like another."""
    import torch

    structure, named, tensors, sizes = described_call(args, kwargs, True)
    record = RecordedCall(name, structure, named, results=seen[0].structure)
    key = library.add(record)
    library.alike.stand_in(name, key, seen)
    return result_like(seen[0], torch.ops.jaxnn_import.call(key, tensors, sizes))


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
        is_same = same_structure(now, was) and all(
            tensors[i] is tensor for i, tensor in zip(at, held, strict=True)
        )
        return was if is_same else Opaque(type(value).__name__)

    record.args = tuple(kept(*pair) for pair in zip(args, record.args, strict=True))
    record.kwargs = {name: kept(kwargs[name], item) for name, item in record.kwargs.items()}
    record.arguments = arguments_of(forward, record.args, record.kwargs)


def _layer_forward(
    library: _Library, name: str, module: torch.nn.Module, call: Callable[..., Any]
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
        structure, named, tensors, sizes = described_call(args, kwargs)
        # Looked into, since torch casts what is inside; not what keeps statistics, as BatchNorm.
        is_cast = not module._buffers and any(_is_cast(t.device.type) for t in tensors)
        if is_cast or library.parameters[name] != _identities(module):
            return call(*args, **kwargs)
        if any(isinstance(value, torch.nn.utils.rnn.PackedSequence) for value in args):
            raise Refused(
                f"{name} is given a PackedSequence, at {line_of_the_model()}; give it the padded "
                "tensor, and mask what lies behind the ends (jaxnn's own layer takes `lengths`)"
            )
        record = RecordedCall(name, structure, named)
        key = library.add(record)
        flat = torch.ops.jaxnn_import.call(key, tensors, sizes)
        result = rebuild(record.results, among(flat, ()))
        if getattr(module, "inplace", False) and isinstance(args[0], torch.Tensor):
            return args[0].copy_(result)
        return as_dicts(result)

    return called


def _identities(module: torch.nn.Module) -> tuple[int, ...]:
    """Return which tensors stand in the places of the parameters: a call may put others there."""
    return tuple(map(id, module.parameters()))


def _is_cast(device: str) -> bool:
    """Whether torch.autocast is at work for a device."""
    import torch

    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


class _Library:
    """The operators that stand in the graph for calls of modules."""

    def __init__(self) -> None:
        import torch

        self.records: list[RecordedCall] = []
        self.twins: dict[str, torch.nn.Module] = {}
        self.modes: dict[str, bool] = {}
        self.layers: dict[str, torch.nn.Module] = {}
        self.parameters: dict[str, tuple[int, ...]] = {}
        self.alike = Alike()
        # Whether a layer is asked for the shapes of its results just now.
        self.stands_in = False
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

        empty = self.alike.empty(key)
        if empty is not None:
            return empty
        record = self.records[int(key)]
        twin = self.twins[record.module]

        actual = among(tensors, sizes)
        args = as_dicts(rebuild(record.args, actual))
        kwargs = {name: as_dicts(rebuild(item, actual)) for name, item in record.kwargs.items()}
        self.stands_in = True
        try:
            with kernels_by_shape():
                result = type(twin).forward(twin, *args, **kwargs)
        finally:
            self.stands_in = False
        found: list[torch.Tensor] = []
        record.results = describe(result, found, [])
        # An operator's results must not be its arguments.
        return [tensor.clone(memory_format=torch.preserve_format) for tensor in found]


@cache
def library_of_marks() -> _Library:
    """Return the operators, which are defined once."""
    return _Library()
