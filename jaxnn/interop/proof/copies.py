"""Copies of both sides, so that the models stay as they are, and runs of them."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..importer.imported import Imported, change_programs
from ..importer.probing import steady_seeds
from ..importer.program import Operation, Program
from ..importer.training_modes import set_mode
from .calls import Call, widened
from .differences import Difference, is_rounding
from .outcomes import Outcome, differences, of_flax, of_torch, with_steady_coins

if TYPE_CHECKING:
    import torch

# Parameters up to which what departs is judged in float64 too, which takes copies of that width.
LARGEST_IN_FLOAT64 = 2**27
# Bytes of parameters up to which each run has a copy of its own; beyond, runs share one.
LARGEST_COPIED = 2**28


def copied(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a model, tensors that it keeps from a computation among it."""
    import torch

    kept: dict[int, Any] = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in (*vars(module).values(), *module._buffers.values())
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    return _deep_copy(model, kept)


def _deep_copy(model: torch.nn.Module, memo: dict[int, Any]) -> torch.nn.Module:
    """Return a copy, in which a `forward` set on a module has the copies of what it refers to."""
    made = copy.deepcopy(model, memo)
    for module in made.modules():
        function = vars(module).get("forward")
        if isinstance(function, FunctionType) and function.__closure__:
            new = FunctionType(
                function.__code__, function.__globals__, function.__name__, function.__defaults__,
                tuple(_of_the_copy(cell, memo) for cell in function.__closure__),
            )  # fmt: skip
            new.__kwdefaults__ = function.__kwdefaults__
            vars(module)["forward"] = new
    return made


def _of_the_copy(cell: CellType, memo: dict[int, Any]) -> CellType:
    """Return a cell with the copy of what the cell holds, or the cell if it holds no part."""
    try:
        value = cell.cell_contents
    except ValueError:  # nothing yet
        return cell
    is_part = id(getattr(value, "__self__", value)) in memo
    return CellType(copy.deepcopy(value, memo)) if is_part else cell


def twin(model: torch.nn.Module, training: bool | None = None) -> torch.nn.Module:
    """Return a copy of a copy, in a mode or as it is; those of a large model share parameters."""
    shared = {id(p): p for p in model.parameters()} if _is_large(model) else {}
    made = _deep_copy(model, shared)
    if training is not None:
        set_mode(made, training)
    return made


def _is_large(model: torch.nn.Module) -> bool:
    return sum(p.numel() * p.element_size() for p in model.parameters()) > LARGEST_COPIED


def in_mode(net: nnx.Module, training: bool) -> nnx.Module:
    """Return the module itself, in a mode."""
    port: Any = net
    if training:
        port.train()
    else:
        port.eval()
    return net


def of_model(model: torch.nn.Module, call: Call, training: bool | None = None) -> Outcome:
    """Run copies of a model, so that what it branches on goes as in its import.

    Raises:
        Exception: what the model raises.
    """

    def run() -> Outcome:
        with steady_seeds():  # as in the capture, which freezes what is not torch's
            try:
                return of_torch(twin(model, training), call)
            except RuntimeError as error:
                if "leaf variables" not in str(error):
                    raise
                return of_torch(twin(model, training), call, uncopied=True)

    outcome = run()
    # The importer lets a branch on a single random number go one way.
    return with_steady_coins(run) if outcome.drawn and outcome.reads else outcome


def of_rounding(
    departs: list[Difference], model: torch.nn.Module, net: nnx.Module, call: Call
) -> list[Difference]:
    """Return those differences that are of rounding: both sides are run in float64.

    Args:
        departs: what departs, in the width of the models.
        model: a copy of the original, in its mode.
        net: the port, in the same mode; both stay as they are.
        call: the arguments.
    """
    size = sum(p.numel() for p in model.parameters())
    if size > LARGEST_IN_FLOAT64 or not any(np.isfinite(d.error) for d in departs):
        return []
    left = list(departs)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        # What the code converts to a dtype may be its own choice, or its input's dtype.
        for convert, dtypes in ((_with_wide_programs, wide_dtypes), (nnx.clone, nullcontext)):
            with suppress(Exception), dtypes():  # a model may insist on a dtype
                wanted = of_model(copied(model)._apply(widened), call.widened())
                got = of_flax(_in_float64(convert(net)), call.widened())
                found = {(d.name, d.kind): d for d in differences(wanted, got)}
                left = [
                    d for d in left
                    if (d.name, d.kind) not in found or not is_rounding(d, found[d.name, d.kind])
                ]  # fmt: skip
            if not left:
                break
    return [d for d in departs if d not in left]


@contextmanager
def wide_dtypes() -> Iterator[None]:
    """Let torch's functions convert to float64 where they are told to convert to floats."""
    import torch
    from torch.overrides import TorchFunctionMode

    wide = {getattr(torch, narrow): getattr(torch, name) for narrow, name in _WIDE.items()}
    converting = (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16)

    class Widening(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            function = torch.Tensor.double if function in converting else function
            given = [wide.get(a, a) if isinstance(a, torch.dtype) else a for a in args]
            named = {
                name: wide.get(value, value) if isinstance(value, torch.dtype) else value
                for name, value in (kwargs or {}).items()
            }
            return function(*given, **named)

    with Widening():
        yield


def _with_wide_programs(net: nnx.Module) -> nnx.Module:
    """Return a copy whose programs convert to float64 where they convert to floats."""
    made = nnx.clone(net)
    for _, node in nnx.iter_modules(made):
        if isinstance(node, Imported):
            change_programs(node, _wide)
    return made


def _wide(program: Program) -> Program:
    return Program(replace(program.body, steps=tuple(map(_wide_step, program.body.steps))))


def _wide_step(step: Any) -> Any:
    if not isinstance(step, Operation):
        return step
    arguments = [
        (name, _WIDE.get(value, value) if isinstance(value, str) else value)
        for name, value in step.arguments
    ]
    return replace(step, arguments=tuple(arguments))


_WIDE = {
    "float32": "float64", "bfloat16": "float64", "float16": "float64", "complex64": "complex128",
}  # fmt: skip


def _in_float64(net: nnx.Module) -> nnx.Module:
    """Return a copy whose numbers are of double width."""

    def wide(value: Any) -> Any:
        if jnp.issubdtype(value.dtype, jnp.complexfloating):
            return value.astype(jnp.complex128)
        return value.astype(jnp.float64) if jnp.issubdtype(value.dtype, jnp.floating) else value

    graph, state = nnx.split(net)
    return nnx.merge(graph, jax.tree.map(wide, state))


def as_wide_as(tensors: Iterable[Any]) -> Any:
    """Return a context in which JAX has numbers of 64 bits, if one of the tensors has such."""
    wide = ("torch.float64", "torch.complex128")
    is_wide = any(str(getattr(tensor, "dtype", "")) in wide for tensor in tensors)
    return jax.enable_x64(is_wide or jax.config.read("jax_enable_x64"))


@contextmanager
def as_it_was(model: torch.nn.Module) -> Iterator[None]:
    """Leave the global random numbers as they were, and nothing said by the models' warnings."""
    import torch

    of_python, of_numpy = random.getstate(), np.random.get_state()
    threads = torch.get_num_threads()
    if not _is_large(model):  # threads that wait for each other would take the most of the time
        torch.set_num_threads(1)
    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.inference_mode(False),
            torch.enable_grad(),
            warnings.catch_warnings(),
            jax.default_matmul_precision("highest"),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(of_python)
        np.random.set_state(of_numpy)
