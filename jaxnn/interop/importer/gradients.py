"""A model's own gradients: `torch.autograd.Function`, and hooks of tensors, kept in the graph.

The exporter follows a Function's forward pass and forgets its backward pass. So while a model is
traced, a Function runs both, each between marks: the forward pass on its arguments, the backward
pass on stand-ins for the gradients of its results.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .lines import is_called_by_the_model, line_of_the_model

if TYPE_CHECKING:
    import torch


class Refused(ValueError):
    """A model that departs from the original if it is imported, with the line and the remedy."""


@dataclass
class CustomGradient:
    """One call of a Function, or one hook.

    Attributes:
        name: the name of the Function's class, or of the hook.
        line: where the model calls it.
        names: of the tensors that its forward pass is given.
        outputs: of the results, which have a gradient that the backward pass is given.
        gradients: for each tensor among the arguments, its place among the gradients, or None.
        is_removed: whether it is a hook that the forward pass has taken away again.
    """

    name: str
    line: str
    names: tuple[str, ...] = ("x",)
    outputs: tuple[int, ...] = (0,)
    gradients: tuple[int | None, ...] = (0,)
    is_removed: bool = False


@dataclass
class Recorder:
    """What is noted of Functions and hooks, and the operators that stand for them in the graph.

    Attributes:
        mark: leaves a mark with tensors and sizes.
        stand_in: gives a tensor that stands for the gradient of another.
        fresh: gives a tensor a new name.
        records: by the number in their marks.
        notes: what the importer has to warn of.
    """

    mark: Callable[..., None]
    stand_in: Callable[[Any], Any]
    fresh: Callable[[Any], Any]
    records: list[CustomGradient] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, record: CustomGradient) -> str:
        """Keep a record, and return its number."""
        self.records.append(record)
        return str(len(self.records) - 1)


@contextmanager
def marked_gradients(recorder: Recorder) -> Iterator[None]:
    """Let Functions and hooks of tensors leave marks in the graph, while in this context."""
    import torch

    function = torch.autograd.Function
    apply, register = function.__dict__.get("apply"), torch.Tensor.register_hook

    def applied(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_exporting():
            return _original_apply(cls, apply, args, kwargs)
        if cls.__module__.startswith("torch.utils.checkpoint"):
            return args[0](*args[2:])  # what it computes anew has the same gradient
        if cls.__module__.startswith("torch."):
            return _original_apply(cls, apply, args, kwargs)
        return _apply(recorder, cls, args)

    def registered(self: Any, hook: Callable[..., Any]) -> Any:
        if not torch.compiler.is_exporting():
            return register(self, hook)
        return _hook(recorder, self, hook)

    data: Any = torch.Tensor.data
    retain = torch.Tensor.retain_grad

    def detached(self: Any) -> Any:
        return self.detach() if torch.compiler.is_exporting() else data.__get__(self)

    def set_data(self: Any, value: Any) -> None:
        if torch.compiler.is_exporting() and is_called_by_the_model():
            self.detach().copy_(value)
        else:
            data.__set__(self, value)

    function.apply = classmethod(applied)  # type: ignore[assignment,method-assign]
    torch.Tensor.register_hook = registered  # type: ignore[method-assign,assignment]
    # The exporter loses the one, and has no gradients to retain.
    torch.Tensor.data = property(detached, set_data)  # type: ignore[assignment,method-assign]
    torch.Tensor.retain_grad = lambda self: None  # type: ignore[method-assign,assignment]
    detach = torch.Tensor.detach_

    def detached_in_place(self: Any) -> Any:
        if not torch.compiler.is_exporting() or not is_called_by_the_model():
            return detach(self)
        raise Refused(
            f"forward detaches a tensor in place (detach_), at {line_of_the_model()}, which the "
            "exporter loses; write y = y.detach()"
        )

    torch.Tensor.detach_ = detached_in_place  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.detach_ = detach  # type: ignore[method-assign]
        del torch.Tensor.data
        torch.Tensor.retain_grad = retain  # type: ignore[method-assign]
        torch.Tensor.register_hook = register  # type: ignore[method-assign]
        if apply is None:
            del function.apply
        else:
            function.apply = apply  # type: ignore[method-assign]


def _original_apply(cls: Any, apply: Any, args: Any, kwargs: Any) -> Any:
    import torch

    if apply is not None:
        return apply.__get__(None, cls)(*args, **kwargs)
    return super(torch.autograd.Function, cls).apply(*args, **kwargs)


def _context(needs: tuple[bool, ...]) -> Any:
    """Return what a Function's methods know as `ctx`, without torch's engine behind it."""
    from torch.autograd.function import FunctionCtx

    class Context(FunctionCtx):
        needs_input_grad = needs
        materialize_grads = True
        non_differentiable: tuple[Any, ...] = ()
        dirty_tensors: tuple[Any, ...] = ()
        to_save: tuple[Any, ...] = ()

        @property
        def saved_tensors(self) -> tuple[Any, ...]:
            return tuple(self.to_save)

    return Context()


def _apply(recorder: Recorder, cls: Any, args: tuple[Any, ...]) -> Any:
    """Run a Function's forward and backward pass between marks, and return its results."""
    import torch

    line = line_of_the_model()
    tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
    context = _context(tuple(_is_float(arg) for arg in args))
    record = CustomGradient(cls.__name__, line, _names(cls, args))
    key = recorder.add(record)
    recorder.mark(f"begin {key}", tensors, [])
    base = torch.autograd.Function
    if cls.setup_context is not base.setup_context:
        result = cls.forward(*args)
        cls.setup_context(context, args, result)
    else:
        result = cls.forward(context, *args)
    if context.dirty_tensors:
        raise Refused(
            f"{cls.__name__} changes its arguments in place (mark_dirty), at {line}; return a new "
            "tensor instead"
        )
    results = result if isinstance(result, tuple) else (result,)
    # New names, also where an argument is returned as it is.
    given = tuple(recorder.fresh(r) if isinstance(r, torch.Tensor) else r for r in results)
    outputs = [item for item in given if isinstance(item, torch.Tensor)]
    recorder.mark(f"end {key}", outputs, [])
    constants = {id(item) for item in context.non_differentiable}
    differs = [
        _is_float(item) and id(item) not in constants
        for item in results
        if isinstance(item, torch.Tensor)
    ]
    record.outputs = tuple(i for i, differentiable in enumerate(differs) if differentiable)
    stand_ins = [recorder.stand_in(outputs[i]) for i in record.outputs]
    recorder.mark(f"back {key}", stand_ins, [])
    cotangents = iter(stand_ins)
    passed = [
        None if not isinstance(item, torch.Tensor)
        else next(cotangents) if _is_float(item) and id(item) not in constants
        else torch.zeros_like(item)
        for item in results
    ]  # fmt: skip
    found = _backward(cls, context, passed, line)
    if len(found) < len(args) or any(item is not None for item in found[len(args) :]):
        raise Refused(
            f"the backward pass of {cls.__name__}, called at {line}, gives {len(found)} gradients "
            f"for {len(args)} arguments"
        )
    gradients = [
        _fitted(gradient, arg)
        for gradient, arg in zip(found, args, strict=False)
        if isinstance(arg, torch.Tensor)
    ]
    kept = [gradient for gradient in gradients if gradient is not None]
    place = iter(range(len(kept)))
    record.gradients = tuple(None if g is None else next(place) for g in gradients)
    recorder.mark(f"done {key}", kept, [])
    return given if isinstance(result, tuple) else given[0]


def _names(cls: Any, args: tuple[Any, ...]) -> tuple[str, ...]:
    """Return what a Function's forward pass calls the tensors among its arguments."""
    import torch

    names = list(inspect.signature(cls.forward).parameters)
    if cls.setup_context is torch.autograd.Function.setup_context:
        del names[0]
    names += [f"x{i}" for i in range(len(names), len(args))]
    pairs = zip(names, args, strict=False)
    return tuple(name for name, arg in pairs if isinstance(arg, torch.Tensor))


def _backward(cls: Any, context: Any, cotangents: list[Any], line: str) -> tuple[Any, ...]:
    import torch

    method = cls.backward
    if method is torch.autograd.Function.backward:
        method = cls.vjp
    try:
        found = method(context, *cotangents)
    except Exception as error:
        raise Refused(
            f"the backward pass of {cls.__name__}, called at {line}, cannot be captured: "
            f"{type(error).__name__}: {error}"
        ) from error
    return tuple(found) if isinstance(found, (tuple, list)) else (found,)


def _fitted(gradient: Any, argument: torch.Tensor) -> Any:
    """Return a gradient in its argument's shape and dtype, as torch's engine gives it."""
    if gradient is None or not _is_float(argument):
        return None
    if gradient.shape != argument.shape:
        gradient = gradient.sum_to_size(argument.shape)
    return gradient.to(argument.dtype)


def _is_float(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex())


class _Handle:
    """What a registered hook is removed by."""

    def __init__(self, record: CustomGradient) -> None:
        self.record = record

    def remove(self) -> None:
        """Take the hook away."""
        self.record.is_removed = True

    def __enter__(self) -> _Handle:
        return self

    def __exit__(self, *error: Any) -> None:
        self.remove()


def _hook(recorder: Recorder, tensor: Any, hook: Callable[..., Any]) -> _Handle:
    line = line_of_the_model()
    name = getattr(hook, "__name__", type(hook).__name__)
    record = CustomGradient(name if name.isidentifier() else "hook", line)
    key = recorder.add(record)
    recorder.mark(f"hook {key}", [tensor], [])
    stand_in = recorder.stand_in(tensor)
    recorder.mark(f"back {key}", [stand_in], [])
    try:
        gradient = hook(stand_in)
    except Exception as error:
        raise Refused(
            f"the hook {name}, registered at {line}, cannot be captured: "
            f"{type(error).__name__}: {error}"
        ) from error
    if gradient is None:
        recorder.notes.append(
            f"the hook {name}, registered at {line}, changes no gradient; what else it does has no "
            "place in the import"
        )
    recorder.mark(f"done {key}", [stand_in if gradient is None else gradient], [])
    return _Handle(record)


def refuse_hooks_of_gradients(model: torch.nn.Module) -> None:
    """Refuse a model with hooks that see a module's or a parameter's gradients.

    Raises:
        Refused: naming the module or parameter, and the hook's line.
    """
    for path, module in model.named_modules():
        for kind in ("_backward_hooks", "_backward_pre_hooks"):
            for hook in (getattr(module, kind, None) or {}).values():
                raise Refused(
                    f"{path or 'the model'} has a backward hook, {_place(hook)}, which may change "
                    "its gradients; remove it before the import, and use torch.autograd.Function "
                    "or Tensor.register_hook in forward instead"
                )
    for path, parameter in model.named_parameters():
        accumulated = getattr(parameter, "_post_accumulate_grad_hooks", None) or {}
        for hook in [*(parameter._backward_hooks or {}).values(), *accumulated.values()]:
            raise Refused(
                f"the parameter {path} has a hook of its gradient, {_place(hook)}; remove it "
                "before the import, and change the gradient in the optimiser (an optax "
                "transformation) or in forward"
            )


def _place(hook: Any) -> str:
    inner = getattr(hook, "func", hook)  # of functools.partial
    code = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    name = getattr(inner, "__name__", type(inner).__name__)
    return f'{name} (File "{code.co_filename}", line {code.co_firstlineno})' if code else str(name)
