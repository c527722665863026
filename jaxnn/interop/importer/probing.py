"""What a forward pass depends on beside its arguments, parameters and buffers.

A capture freezes it. So before the capture the model itself is run, more than once: what it keeps
in plain attributes, draws from random numbers that are not torch's, or writes into its arguments
shows by what is different afterwards.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from .gradients import Refused
from .layers import layer_name
from .lines import is_the_models, line_of_the_model, place_of
from .patching import attributes_watched
from .prints import print_of
from .restoring import left_as_it_was
from .runs import Runs
from .structures import NotDescribable, copied_call, describe, named_arguments
from .training_modes import modes_put_back, set_mode

if TYPE_CHECKING:
    import torch

Call = tuple[tuple[Any, ...], dict[str, Any]]
Key = tuple[str, str]

_LARGEST, _ENDS = 2**31 - 1, 2**62
# Bytes of parameters up to which they are copied, to be put back.
_LARGEST_COPIED = 2**30


def probe(model: torch.nn.Module, call: Call, wide: bool, runs: Runs | None = None) -> list[str]:
    """Run a model in its mode, and return what its import has to warn of.

    Args:
        model: the model, which is left as it was.
        call: the positional and keyword arguments of the example.
        wide: whether the import has 64-bit integers.
        runs: is told what torch runs.

    Raises:
        Refused: if its result depends on state that the import cannot keep.
    """
    tensors = [*model.parameters(), *model.buffers()]
    if any(tensor.is_meta for tensor in tensors):
        return []
    try:
        return _notes(model, call, wide, Runs() if runs is None else runs)
    except _NotRun:
        return []  # the capture says what is wrong


def runs_in_mode(model: torch.nn.Module, call: Call, training: bool) -> bool:
    """Whether a model itself takes a call, in a mode."""
    with modes_put_back(model), _fresh(model):
        set_mode(model, training)
        try:
            _run(model, call)
        except (_NotRun, Refused):
            return False
    return True


def _notes(model: torch.nn.Module, call: Call, wide: bool, runs: Runs) -> list[str]:
    accesses = _Accesses(model)
    with _fresh(model) as state:
        before, sums, given = _attributes(model), _sums(model), _copied(call)
        _seed()
        drawn = _random_states()
        with accesses.noted(), runs.noted(model), _watched(wide, runs) as generators, _unseeded():
            first = _run(model, given, copy=False, seed=False)
        for name, was in _sums(model).items():
            if was == sums[name]:
                continue
            raise Refused(
                f"forward changes the parameter {name} in place, which has no gradient that an "
                "import could keep: compute the new value (torch.nn.utils.parametrize does), or "
                "change it in the training step"
            )
        notes = _written_arguments(model, given)
        notes += [
            f"forward draws from a torch.Generator of its own, at {line}; the import draws from "
            "the streams of rngs"
            for line in dict.fromkeys(generators)
        ]
        if _random_states() != drawn:
            notes.append(
                f"forward uses Python's or NumPy's random numbers, {_line_of_draw(model, call)}; "
                "the import always uses those that it was captured with: draw with torch instead"
            )
        after = _attributes(model)
        state.put_back()
        second = _run(model, call)
        settled = _attributes(model)
    layers = {path for path, module in model.named_modules() if layer_name(module) is not None}
    switched = [key for key in after if key[0] in layers and before.get(key) != after[key]]
    if switched:
        listed = ", ".join(f"{'.'.join(key)} (set at {accesses.line(key)})" for key in switched)
        raise Refused(
            f"forward changes options of layers, which an import reads once: {listed}; set them "
            "outside of forward, or call the function of torch.nn.functional with them"
        )
    carried = [key for key in accesses.read_first(before, after) if before[key] != after[key]]
    if not _agree(first, second):
        raise _refusal(carried, accesses)
    if not carried:
        return notes
    others = _other_values(call)
    with suppress(_NotRun):
        with _fresh(model) as state:
            _run(model, call)
            state.put_back()
            follows = _run(model, others)
        with _fresh(model):
            comes_first = _run(model, others)
        if not _agree(follows, comes_first):
            raise _refusal(carried, accesses)
    moving = [key for key in carried if settled[key] != after[key]]
    return [
        *notes,
        *(
            f"{'.'.join(filter(None, key))} is read and changed by forward, at "
            f"{accesses.line(key)}; the import has it as it is now: a buffer (register_buffer) "
            "would be kept"
            for key in moving
        ),
    ]


def _refusal(carried: list[Key], accesses: _Accesses) -> Refused:
    if not carried:
        return Refused(
            "two equal calls of the model give different results: it depends on the time, or on "
            "state outside of its parameters and buffers, which an import cannot keep; pass that "
            "as an argument"
        )
    listed = ", ".join(
        f"{'.'.join(filter(None, key))} (set at {accesses.line(key)})" for key in carried
    )
    return Refused(
        f"the result depends on state that earlier calls left in plain attributes: {listed}; keep "
        "it in a buffer (register_buffer), or pass it as an argument and return it"
    )


# --- running ------------------------------------------------------------------------------------


class _NotRun(Exception):
    """The model does not take these values."""


class _State:
    """The parameters and buffers of a model, as they are now.

    Args:
        model: the model; of a large one the parameters are not copied.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        kept, parameters = list(model.buffers()), list(model.parameters())
        if sum(p.numel() * p.element_size() for p in parameters) <= _LARGEST_COPIED:
            kept += parameters
        self.kept = [(tensor, tensor.detach().clone()) for tensor in kept]
        self.buffers = [(module._buffers, dict(module._buffers)) for module in model.modules()]

    def put_back(self) -> None:
        """Let the model have the values that it had."""
        for held, was in self.buffers:
            held.update(was)
        for tensor, value in self.kept:
            tensor.data.copy_(value)


def _sums(model: torch.nn.Module) -> dict[str, str]:
    """Return what is another once a parameter has other values, without a copy of it."""
    import torch

    found = {}
    for name, parameter in model.named_parameters():
        dtype = torch.complex128 if parameter.is_complex() else torch.float64
        of, size = parameter.detach(), tuple(parameter.shape)
        sums = of.sum(dtype=dtype).item(), of.abs().sum(dtype=torch.float64).item()
        found[name] = repr((size, sums))
    return found


@contextmanager
def _fresh(model: torch.nn.Module) -> Iterator[_State]:
    """Let a model be run, and be as before after that."""
    state = _State(model)
    with left_as_it_was(model), steady_seeds():
        try:
            yield state
        finally:
            state.put_back()


@contextmanager
def steady_seeds() -> Iterator[None]:
    """Seed all global random numbers alike, and put them back: what is frozen is the same."""
    import torch

    python, numpys, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()
    _seed()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpys)
        torch.set_rng_state(torchs)


def _run(
    model: torch.nn.Module, call: Call, copy: bool = True, seed: bool = True
) -> tuple[str, list[Any]]:
    """Return a result's structure and tensors, the same seeds before every run.

    Raises:
        _NotRun: if the model raises.
    """
    import torch

    args, kwargs = _copied(call) if copy else call
    if seed:
        _seed()
    try:
        with torch.no_grad():
            result = model(*args, **kwargs)
    except Refused:
        raise
    except Exception as error:
        raise _NotRun from error
    found: list[Any] = []
    structure = describe(result, found, found, True)
    return repr(structure), [item.detach().clone() for item in found]


def _seed() -> None:
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def _copied(call: Call) -> Call:
    try:
        return copied_call(*call)
    except NotDescribable as error:
        raise _NotRun from error


def _agree(one: tuple[str, list[Any]], other: tuple[str, list[Any]]) -> bool:
    import torch

    if one[0] != other[0] or len(one[1]) != len(other[1]):
        return False
    for a, b in zip(one[1], other[1], strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if not (a.is_floating_point() or a.is_complex()):
            if not torch.equal(a, b):
                return False
            continue
        scale = a.abs().nan_to_num(0, 0, 0).max().item() if a.numel() else 0.0
        if not torch.allclose(a, b, rtol=1e-4, atol=1e-6 * scale, equal_nan=True):
            return False
    return True


def _other_values(call: Call) -> Call:
    """Return a call with other values of the same kind: those of the example in another order."""

    def other(tensor: Any) -> Any:
        moved = tensor.flatten().roll(1).reshape(tensor.shape)
        return moved * 0.875 if tensor.is_floating_point() else moved

    return copied_call(*call, other)


# --- attributes ---------------------------------------------------------------------------------


class _Accesses:
    """Which plain attributes of its modules a model reads before it sets them, and where."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.paths = {id(module): path for path, module in model.named_modules()}
        self.forwards = {path: module.forward for path, module in model.named_modules()}
        self.first: dict[Key, str] = {}
        self.lines: dict[Key, str] = {}

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note the accesses to attributes of modules, while in this context."""
        paths, first, lines = self.paths, self.first, self.lines

        def read(module: Any, name: str) -> None:
            path = paths.get(id(module))
            if path is not None:
                first.setdefault((path, name), "read")

        def written(module: Any, name: str) -> None:
            path = paths.get(id(module))
            if path is not None:
                first.setdefault((path, name), "write")
                lines[path, name] = line_of_the_model()

        with attributes_watched(read, written):
            yield

    def line(self, key: Key) -> str:
        """Return where an attribute is set, or where the forward pass begins that changes it."""
        code = getattr(self.forwards[key[0]], "__code__", None)
        forward = f'File "{code.co_filename}", line {code.co_firstlineno}' if code else "forward"
        return self.lines.get(key, forward)

    def read_first(self, before: dict[Key, Any], after: dict[Key, Any]) -> list[Key]:
        """Return the attributes that a call changes, and reads before it sets them anew."""
        for key in {*before, *after}:
            before.setdefault(key, None)
            after.setdefault(key, None)
        return [key for key in after if self.first.get(key) == "read"]


def _attributes(model: torch.nn.Module) -> dict[Key, Any]:
    """Return the plain attributes of all modules, as what can be compared."""
    import torch

    own = set(vars(torch.nn.Module()))
    return {
        (path, name): print_of(value, set())
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if name not in own
    }


# --- arguments, random numbers, integers --------------------------------------------------------


def _written_arguments(model: torch.nn.Module, given: Call) -> list[str]:
    """Return a note for each argument whose tensors were written in place: they were copies."""
    notes = []
    for name, value in named_arguments(model.forward, *given).items():
        tensors: list[Any] = []
        describe(value, tensors, [], True)
        if any(tensor._version for tensor in tensors):
            notes.append(
                f"forward writes into its argument {name!r}; the import computes with the new "
                "value, and leaves the caller's array as it is: return it if it is needed"
            )
    return notes


def _random_states() -> tuple[str, str]:
    return repr(random.getstate()), repr(np.random.get_state(legacy=False))


def _line_of_draw(model: torch.nn.Module, call: Call) -> str:
    """Return where forward draws from Python's or NumPy's global random numbers."""
    found: list[str] = []
    latest = ""

    def place() -> Any:
        return random.getstate()[1][-1], np.random.get_state(legacy=False)["state"]["pos"]

    def traced(frame: Any, event: str, arg: Any) -> Any:
        nonlocal latest
        if not is_the_models(frame.f_code.co_filename) or found:
            return None
        if latest and place() != start:
            found.append(latest)
        latest = place_of(frame)
        return traced

    with _fresh(model):
        args, kwargs = copied_call(*call)
        _seed()
        start = place()
        sys.settrace(traced)
        try:
            model(*args, **kwargs)
        finally:
            sys.settrace(None)
    return f"at {found[0]}" if found else "at a line not known"


@contextmanager
def _unseeded() -> Iterator[None]:
    """Refuse a forward pass that seeds torch's random numbers."""
    import torch

    original = torch.manual_seed

    def refused(seed: Any) -> Any:
        raise Refused(
            f"forward seeds torch's random numbers, at {line_of_the_model()}, and would draw "
            "others in JAX; keep what it draws in a buffer, or give the import its key (rngs=)"
        )

    torch.manual_seed = torch.random.manual_seed = refused
    try:
        yield
    finally:
        torch.manual_seed = torch.random.manual_seed = original


def _leaves_32_bits(values: torch.Tensor) -> bool:
    """Whether 64-bit integers hold what 32 bits cannot.

    The ends of their own range are left out: a conversion of an infinity gives them, which the
    model then masks, as T5's buckets of distances.
    """
    beyond = ((values > _LARGEST) & (values < _ENDS)) | (
        (values < -_LARGEST - 1) & (values > -_ENDS)
    )
    return bool(beyond.any())


@contextmanager
def _watched(wide: bool, runs: Runs) -> Iterator[list[str]]:
    """Refuse integers that leave 32 bits, where the import has no wider ones.

    What is yielded lists the lines that draw from a generator of the model's own.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            runs.runs(func, args, kwargs)
            result = func(*args, **(kwargs or {}))
            if (kwargs or {}).get("generator") is not None:
                drawn.append(line_of_the_model())
            if wide:
                return result
            is_integer = isinstance(result, torch.Tensor) and result.dtype == torch.int64
            if is_integer and "empty" not in func.__name__ and _leaves_32_bits(result):
                raise Refused(
                    f"{func} gives integers beyond 32 bits, at {line_of_the_model()}, which JAX "
                    "has with x64 alone: import and call the model under jax.enable_x64(True)"
                )
            return result

    drawn: list[str] = []
    with Watch():
        yield drawn
