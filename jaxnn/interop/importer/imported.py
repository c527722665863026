"""The NNX module that an imported PyTorch module becomes, and how it runs its program."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ...modules._module import (
    Module,
    RandomSource,
    accepts_rngs,
    fork_stream,
    key_from,
    keys_for_parts,
)
from .guards import Guard
from .operators import DRAWING, OPERATORS, dtype_of
from .program import (
    Body,
    Call,
    Custom,
    Opaque,
    Operation,
    Program,
    Sizes,
    State,
    Structure,
    Value,
    leaves,
    rebuild,
)

# What JAX raises where a program asks for a tensor's values, for a size or a branch.
NEEDS_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)

Pass = Callable[[Sequence[Any], Sequence[Any]], tuple[Any, ...]]


def with_gradient(
    forward: Pass, backward: Pass, saved: Sequence[int], outputs: Sequence[int]
) -> Pass:
    """Return `forward` with a gradient of its own.

    Args:
        forward: a function of inputs and of arrays or sizes beside them, which have no gradient.
        backward: a function of the gradients of some results, by torch's convention, and of what
            is saved, that returns those of the inputs, None for none.
        saved: the places, among inputs, what is beside them and results, of what is saved.
        outputs: the places of the results whose gradients `backward` takes.
    """

    def called(inputs: Sequence[Any], beside: Sequence[Any]) -> tuple[Any, ...]:
        is_array = [hasattr(value, "shape") for value in beside]
        arrays = tuple(value for value, array in zip(beside, is_array, strict=True) if array)
        # Sizes are static: they are no arguments of what is differentiated.
        sizes = {
            len(inputs) + at: value
            for at, (value, array) in enumerate(zip(beside, is_array, strict=True))
            if not array
        }

        def everything(arrays: Sequence[Any]) -> tuple[Any, ...]:
            left = iter(arrays)
            return tuple(
                next(left) if array else value
                for value, array in zip(beside, is_array, strict=True)
            )

        def run(inputs: Any, arrays: Any) -> Any:
            return forward(inputs, everything(arrays))

        def saving(inputs: Any, arrays: Any) -> Any:
            results = run(inputs, arrays)
            known = (*inputs, *everything(arrays), *results)
            return results, [known[at] for at in saved if at not in sizes]

        def differentiated(kept: Any, cotangents: Any) -> Any:
            left = iter(kept)
            given = [sizes[at] if at in sizes else next(left) for at in saved]
            found = backward([_as_in_torch(cotangents[at]) for at in outputs], given)
            return tuple(None if g is None else _as_in_torch(g) for g in found), None

        function = jax.custom_vjp(run)
        function.defvjp(saving, differentiated)
        results: tuple[Any, ...] = function(tuple(inputs), arrays)
        return results

    return called


def customised(step: Custom, inputs: Sequence[Any], captured: Sequence[Any]) -> tuple[Any, ...]:
    """Return the results of a Function, whose gradient is that of its own backward pass."""
    function = with_gradient(
        partial(_pass, step.forward), partial(_pass, step.backward), step.saved, step.outputs
    )
    return function(inputs, captured)


def _as_in_torch(gradient: jax.Array) -> jax.Array:
    """Return a gradient by torch's convention, of JAX's, or the other way round."""
    return gradient.conj() if jnp.iscomplexobj(gradient) else gradient


def bind_pass(body: Body, inputs: Sequence[Any], captured: Sequence[Any]) -> dict[str, Any]:
    """Return what one pass of a Function is given, under the names of its program."""
    names = [item.structure.name for item in body.inputs]
    return dict(zip((*names, *body.captured), (*inputs, *captured), strict=True))


def _pass(body: Body, inputs: Sequence[Any], captured: Sequence[Any]) -> tuple[Any, ...]:
    """Run one pass of a Function."""
    values = bind_pass(body, inputs, captured)

    def read(leaf: Any) -> Any:
        if isinstance(leaf, Value):
            return values[leaf.name]
        return jnp.asarray(np.array(leaf.values, dtype_of(leaf.dtype)))

    for step in body.steps:
        assert isinstance(step, Operation)
        arguments = {name: rebuild(value, read) for name, value in step.arguments}
        values[step.result] = OPERATORS[step.operator](**arguments)
    result: tuple[Any, ...] = rebuild(body.output, read)
    return result


class Record(dict[str, Any]):
    """A dict whose entries are attributes too, and which counts as a sequence of its values.

    It stands for the dataclass-like results of torch models, whose entries are read in all three
    ways.

    Example:
        >>> from jaxnn.interop import Record
        >>> result = Record(logits=1, loss=2)
        >>> result.logits, result["loss"], result[0]
        (1, 2, 1)
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the result has {list(self)}, and no {name!r}") from None

    def __getitem__(self, key: Any) -> Any:
        return (
            list(self.values())[key] if isinstance(key, (int, slice)) else super().__getitem__(key)
        )

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the values that are not None."""
        return tuple(value for value in self.values() if value is not None)


def _flatten_record(record: Record) -> tuple[Any, Any]:
    return [(jax.tree_util.DictKey(name), value) for name, value in record.items()], tuple(record)


jax.tree_util.register_pytree_with_keys(
    Record, _flatten_record, lambda names, values: Record(zip(names, values, strict=True))
)


class WithOwnModes(Module):
    """A module whose original has a `train` of its own, which some parts do not follow."""

    _own_modes: tuple[tuple[str, bool, bool], ...]

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        # Whoever sets the mode of a tree, `train()` or `nnx.view`, does it parts first.
        if name == "deterministic" and vars(self).get("_own_modes"):
            self._follow(value)

    def _follow(self, evaluation: bool) -> None:
        """Give each part the mode that the original's own `train` gives it."""
        for path, training, evaluating in self._own_modes:
            node = descend(self, path)
            for flag in ("deterministic", "use_running_average"):
                if isinstance(vars(node).get(flag), bool):
                    vars(node)[flag] = evaluating if evaluation else training


class Imported(WithOwnModes):
    """A module imported from PyTorch: its parts under their names, and its forward pass as data.

    It is called as the original is, in the mode (`train()`, `eval()`) that it is in. Batches of
    other sizes need no new import; other shapes, or other values of arguments that are no arrays,
    do, and are refused.

    Args:
        source: the name of the original class.
        training: the forward passes in training mode: the first for a call from outside.
        evaluation: those in evaluation mode.

    Raises:
        ValueError: at a call whose arguments differ from those of the import in more than the
            batch; if the module cannot run in the mode it is in, with the reason.
        TypeError: at a call with arguments that the original does not take.

    Source: torch.export.

    Example:
        >>> from jaxnn.interop.importer.imported import Imported
        >>> Imported("Nothing", (), ())
        Nothing()
    """

    deterministic: bool

    def __init__(
        self,
        source: str,
        training: tuple[Program, ...] | str,
        evaluation: tuple[Program, ...] | str,
        *,
        rngs: RandomSource | None = None,
    ) -> None:
        self._source = source
        self._training = training
        self._evaluation = evaluation
        self._tied: tuple[tuple[str, str], ...] = ()
        self._state_keys: tuple[str, ...] = ()
        self._own_modes = ()
        self._sizes = Sizes()
        self.state_version = 1
        self._stream = nnx.data(fork_stream(source, rngs, "dropout"))
        self.deterministic = False

    def __call__(self, *args: Any, rngs: RandomSource | None = None, **kwargs: Any) -> Any:
        """Run the forward pass; what draws takes its keys from `rngs`, where given."""
        body = self._body(0)
        if body.captured:
            raise ValueError(
                f"{self._source} uses values that only the module around it has "
                f"({', '.join(body.captured)}), so it runs as a part of that alone"
            )
        values: dict[str, Any] = {}
        bind(self._source, body, args, kwargs, values)
        check_sizes(self._source, self._sizes.shapes, self._sizes.guards, values)
        # Operands of unlike dtypes meet as they do in the original.
        with tied_in_place(self), jax.numpy_dtype_promotion("standard"):
            return self._run(body, args, kwargs, (), keys_for_parts(rngs))[0]

    def _body(self, variant: int) -> Body:
        programs = self._evaluation if self.deterministic else self._training
        if isinstance(programs, str):
            mode = "evaluation" if self.deterministic else "training"
            raise ValueError(f"{self._source} cannot run in {mode} mode: {programs}")
        if not programs:
            raise ValueError(
                f"{self._source} is not called by the model it was imported with, so its forward "
                "pass is not known; import it by itself"
            )
        return programs[min(variant, len(programs) - 1)].body

    def _run(
        self,
        body: Body,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        captured: Sequence[Any],
        rngs: RandomSource | None,
    ) -> tuple[Any, tuple[Any, ...]]:
        values = dict(zip(body.captured, captured, strict=True))
        bind(self._source, body, args, kwargs, values)

        def read(leaf: Any) -> Any:
            if isinstance(leaf, Value):
                return values[leaf.name]
            if isinstance(leaf, State):
                return descend(self, leaf.path)[...]
            return jnp.asarray(np.array(leaf.values, dtype_of(leaf.dtype)))

        for step in body.steps:
            if isinstance(step, Operation):
                arguments = {name: rebuild(value, read) for name, value in step.arguments}
                if step.operator in DRAWING:
                    arguments["draw"] = partial(self._draw_key, rngs)
                try:
                    values[step.result] = OPERATORS[step.operator](**arguments)
                except Exception as error:
                    error.add_note(f"{step.operator}, which the model calls at {step.source}")
                    raise
            elif isinstance(step, Call):
                self._call(step, values, read, rngs)
            elif isinstance(step, Custom):
                given, captured = rebuild(step.inputs, read), rebuild(step.captured, read)
                values.update(zip(step.results, customised(step, given, captured), strict=True))
            else:
                variable = descend(self, step.path)
                variable[...] = rebuild(step.value, read).astype(variable.dtype)
        output = realise(rebuild(body.output, read))
        return output, tuple(values[name] for name in body.extra)

    def _call(
        self, step: Call, values: dict[str, Any], read: Any, rngs: RandomSource | None
    ) -> None:
        module = descend(self, step.module)
        args = realise(rebuild(step.args, read))
        kwargs = {name: realise(rebuild(value, read)) for name, value in step.kwargs}
        if isinstance(module, Imported):
            captured = rebuild(step.captured, read)
            result, extra = module._run(module._body(step.variant), args, kwargs, captured, rngs)
            values.update(zip(step.extra, extra, strict=True))
        else:
            if rngs is not None and accepts_rngs(type(module)):  # type: ignore[arg-type]
                kwargs["rngs"] = rngs
            try:
                result = module(*args, **kwargs)
            except Exception as error:
                error.add_note(f"the layer {step.module} of {self._source}")
                raise
        match(step.results, result, values, step.module)

    def _draw_key(self, rngs: RandomSource | None) -> jax.Array:
        source = self._stream if rngs is None else rngs
        if source is None:
            raise ValueError(
                f"{self._source} draws random numbers: import it with rngs=nnx.Rngs(0), pass rngs= "
                "(an nnx.Rngs or a key) at the call, or call eval() on the module"
            )
        return key_from(source, "dropout", self._source)

    def set_view(self, deterministic: bool | None = None) -> None:
        """Set the mode of this module's view; used by `nnx.view`.

        Args:
          deterministic: if True, the module evaluates.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def __repr__(self) -> str:
        return super().__repr__().replace(type(self).__name__, self._source, 1)

    __str__ = __repr__


def descend(module: Any, path: str) -> Any:
    """Return what is at the dotted `path` below `module`.

    Raises:
        ValueError: if it is tied to a part of a larger module, which is not at work here.
    """
    node = module
    for name in filter(None, path.split(".")):
        node = getattr(node, name)
    if node is None:
        raise ValueError(
            f"{path} is tied to another part of the model and is not stored here: call the model "
            "as a whole"
        )
    return node


@contextmanager
def tied_in_place(module: Imported) -> Iterator[None]:
    """Let what is tied be reached under each of its names, for the time of a call.

    A variable is stored once, since NNX's tree mode forbids that two attributes share it.
    """
    owners = []
    try:
        for alias, path in module._tied:
            owner, _, name = alias.rpartition(".")
            node = descend(module, owner)
            if getattr(node, name) is None:
                owners.append((node, name))
                _place(node, name, descend(module, path))
        yield
    finally:
        for node, name in reversed(owners):
            _place(node, name, None)


def _place(node: Any, name: str, value: Any) -> None:
    # Past the checks of containers, and past NNX's, which would see a shared variable.
    vars(node)[name] = value


def bind(
    name: str, body: Body, args: Sequence[Any], kwargs: Mapping[str, Any], values: dict[str, Any]
) -> None:
    """Put the arrays of a call's arguments into `values`, under the names of the program.

    Raises:
        TypeError: if an argument is missing or unknown.
        ValueError: if one differs from that of the import in more than an array's values.
    """
    positional, named = list(args), dict(kwargs)
    for item in body.inputs:
        if item.variadic == "*":
            given: Any = tuple(positional)
            positional = []
        elif item.variadic == "**":
            given, named = dict(named), {}
        elif positional and not item.keyword_only:
            given = positional.pop(0)
            if item.name in named:
                raise TypeError(f"{name}: argument {item.name!r} is given twice")
        elif item.name in named:
            given = named.pop(item.name)
        elif not leaves(item.structure):  # a constant
            continue
        else:
            raise TypeError(f"{name}: argument {item.name!r} is missing")
        match(item.structure, given, values, item.name)
    if positional or named:
        known = [item.name for item in body.inputs]
        raise TypeError(
            f"{name} takes the arguments {known}; got {len(args)} by position, {list(kwargs)} by "
            "name"
        )
    check_sizes(name, body.shapes, body.guards, values)


def check_sizes(
    name: str,
    shapes: Sequence[tuple[str, tuple[int | None, ...]]],
    guards: Sequence[Guard],
    values: Mapping[str, Any],
) -> None:
    """Refuse arrays of other sizes than those that a program holds for.

    Raises:
        ValueError: naming the condition, and the line that asks for it.
    """
    for array, shape in shapes:
        _check_input(name, array, values[array], shape)
    for guard in guards:
        if not guard.holds(values):
            sizes = ", ".join(
                f"{array}: {tuple(values[array].shape)}"
                for array, _ in shapes
                if f"{array}.shape" in guard.text
            )
            raise ValueError(
                f"{name}: the model was imported for sizes with {guard.text}, which it asks for at "
                f"{guard.line or 'no line of its own'}; got {sizes}: import it again with an "
                "example of these sizes"
            )


def _check_input(name: str, array: str, value: Any, shape: tuple[int | None, ...]) -> None:
    fits = len(value.shape) == len(shape) and all(
        wanted is None or size == wanted for size, wanted in zip(value.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(
            f"{name}: {array} has shape {tuple(value.shape)}, but the model was imported for "
            f"({wanted}); import it again with an example of that shape"
        )


def match(structure: Any, given: Any, values: dict[str, Any], where: str) -> None:
    """Put the arrays of `given`, whose structure must be that of `structure`, into `values`.

    Raises:
        ValueError: if the structures, or what is no array in them, differ.
    """
    if isinstance(structure, Value):
        if given is None or isinstance(given, (str, dict, list, tuple)):
            raise ValueError(f"{where} must be an array, got {type(given).__name__}")
        values[structure.name] = given if isinstance(given, int) else jnp.asarray(given)
    elif isinstance(structure, Opaque):
        if given != structure:
            raise ValueError(
                f"{where} was a {structure.name} at the import, which the call changes or takes "
                "arrays from; only the module around it can give that: call the model as a whole"
            )
    elif isinstance(structure, Structure):
        for name, item in structure.fields:
            match(item, _member(given, name, where), values, f"{where}[{name!r}]")
    elif isinstance(structure, (tuple, list)):
        items = list(given.values()) if isinstance(given, Record) else given
        if not isinstance(items, (tuple, list)) or len(items) != len(structure):
            raise ValueError(
                f"{where} was a {type(structure).__name__} of {len(structure)} at the import, got "
                f"{_briefly(given)}"
            )
        for index, (item, value) in enumerate(zip(structure, items, strict=True)):
            match(item, value, values, f"{where}[{index}]")
    elif not _same(structure, given):
        raise ValueError(
            f"{where} was {structure!r} at the import, which is part of the program; got "
            f"{_briefly(given)}: import the model again for that"
        )


def _member(given: Any, name: Any, where: str) -> Any:
    if isinstance(given, Mapping) and name in given:
        return given[name]
    if isinstance(name, str) and hasattr(given, name):
        return getattr(given, name)
    raise ValueError(f"{where} has no {name!r}; got {_briefly(given)}")


def _same(structure: Any, given: Any) -> bool:
    if hasattr(given, "shape"):
        return False
    return bool(structure == given) or repr(structure) == repr(given) == "nan"


def _briefly(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"an array of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"one of {len(value)}"
    return repr(value) if isinstance(value, (int, float, str, type(None))) else type(value).__name__


def realise(structure: Any) -> Any:
    """Return the structure with dicts, named tuples and records in place of their descriptions."""
    if isinstance(structure, Structure):
        fields = {name: realise(item) for name, item in structure.fields}
        if structure.kind == "dict":
            return fields
        if structure.kind == "record":
            return Record(fields)
        return _named_tuple(structure.name, tuple(fields))(**fields)
    if type(structure) is tuple:
        return tuple(realise(item) for item in structure)
    if isinstance(structure, list):
        return [realise(item) for item in structure]
    return structure


def as_call(call: tuple[tuple[Any, ...], Mapping[str, Any]]) -> tuple[Any, dict[str, Any]]:
    """Return a call of the original as one of the import: arrays for tensors, and records."""
    from ..checkpoint import as_numpy
    from .structures import describe

    tensors: list[Any] = []
    structure = describe((call[0], dict(call[1])), tensors, [])
    args, kwargs = realise(
        rebuild(structure, lambda v: jnp.asarray(as_numpy(tensors[int(v.name)].detach())))
    )
    return args, kwargs


@cache
def _named_tuple(name: str, fields: tuple[str, ...]) -> Any:
    return namedtuple(name, fields)
