"""One entry in several libraries: the same numbers first, then their times against each other."""

from __future__ import annotations

import copy
import importlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

import jaxnn

from .entries import Called, Entry

LEARNING_RATE = 1e-6
"""So small that a model timed for hundreds of steps stays where it is."""


class Unavailable(Exception):
    """The peer has no such layer, or is not installed."""


@dataclass
class Side:
    """What one library does for an entry: callables that return when the work is done."""

    name: str
    forward: Callable[[], Any]
    backward: Callable[[], Any]
    results: dict[str, np.ndarray]
    compile_seconds: float | None = None
    temporary_bytes: tuple[int, int] | None = None


def sides(
    entry: Entry, size: int, peers: Sequence[str], device: str
) -> tuple[list[Side], list[str]]:
    """jaxnn and its peers, torch first, and what is said of a peer that is left out."""
    rng = np.random.default_rng(0)
    arrays = [item.draw(rng) for item in entry.sizes[size]]
    torch.manual_seed(0)
    layer = _seen(entry.make(torch.nn))
    accelerator = torch.device("cuda" if device == "gpu" else "cpu")
    made = [_torch_side("torch", entry, layer, arrays, accelerator)]
    made.append(_jaxnn_side(entry, layer, arrays))
    makers = {
        "torch-compile": partial(_torch_side, "torch-compile", entry, device=accelerator),
        "flax": partial(_flax_side, entry), "equinox": partial(_equinox_side, entry),
    }  # fmt: skip
    notes = []
    for peer in peers:
        if peer in makers:
            try:
                made.append(makers[peer](layer=layer, arrays=arrays))
            except Unavailable as reason:
                notes.append(f"{peer}: {reason}")
    return made, notes


def check_equal(entry: Entry, made: Sequence[Side]) -> None:
    """Refuse to time what is not the same.

    Raises:
        ValueError: naming the entry, the library and how far it is off.
    """
    for side in made[1:]:
        for name, got in side.results.items():
            wanted = made[0].results[name]
            scale = max(float(np.abs(wanted).max(initial=0)), 1e-6)
            error = float(np.abs(wanted.reshape(-1) - got.reshape(-1)).max(initial=0)) / scale
            if wanted.size != got.size or not error < 2e-3:
                raise ValueError(
                    f"{entry.name}: {name} of {side.name} is off by {error:.1e} of its scale, "
                    f"shapes {got.shape} and {wanted.shape}"
                )


def interleaved(
    calls: dict[str, Callable[[], Any]], repetitions: int, seconds: float = 0.004
) -> dict[str, list[float]]:
    """Seconds a call, in rounds of all of them: A B C A B C.

    A call shorter than `seconds` is repeated within its turn, so that the clock sees enough.
    """
    count = {}
    for name, call in calls.items():
        call()
        started = time.perf_counter()
        call()
        count[name] = max(1, math.ceil(seconds / (time.perf_counter() - started)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repetitions):
        for name, call in calls.items():
            started = time.perf_counter()
            for _ in range(count[name]):
                call()
            times[name].append((time.perf_counter() - started) / count[name])
    return times


def _seen(layer: Any) -> Called:
    """Every entry in one form: a layer, or a function, and how it is called."""
    if isinstance(layer, Called):
        return layer
    return Called(layer, lambda layer, *inputs: layer(*inputs))


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


def _torch_side(
    name: str, entry: Entry, layer: Called, arrays: Sequence[np.ndarray], device: torch.device
) -> Side:
    inputs = [torch.from_numpy(a).to(device) for a in arrays]
    module = copy.deepcopy(layer.layer)
    leaves = {
        f"input {i}": x.requires_grad_(not entry.imported)
        for i, x in enumerate(inputs) if x.is_floating_point()
    }  # fmt: skip
    parameters = []
    if isinstance(module, torch.nn.Module):
        module = module.to(device)
        parameters = list(module.parameters())
        leaves |= dict(module.named_parameters())
    run = torch.compile(layer.call) if name == "torch-compile" else layer.call
    optimizer = torch.optim.SGD(parameters, LEARNING_RATE) if entry.imported else None
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    evaluated = copy.deepcopy(module).eval() if entry.imported else module

    def forward() -> Any:
        with torch.no_grad():
            output = _first(run(evaluated, *inputs))
        wait()
        return output

    cotangent = torch.from_numpy(_cotangent(tuple(forward().shape))).to(device)

    def backward() -> Any:
        for leaf in leaves.values():
            leaf.grad = None
        output = _first(run(module, *inputs))
        output.backward(cotangent)
        if optimizer is not None:
            optimizer.step()
        wait()
        return output

    results = {"output": forward(), "training output": backward().detach()}
    if not entry.imported:
        results |= {key: leaf.grad for key, leaf in leaves.items()}
    return Side(name, forward, backward, {k: np.asarray(v.cpu()) for k, v in results.items()})


def _cotangent(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def _jaxnn_side(entry: Entry, layer: Called, arrays: Sequence[np.ndarray]) -> Side:
    original = layer.layer
    if entry.imported:
        given = map(torch.from_numpy, arrays)
        module = jaxnn.from_torch(copy.deepcopy(original), *given, check=False)
        return _module_side("jaxnn", entry, module, layer.call, arrays)
    own = _seen(entry.make(_Seeded()))
    if not isinstance(own.layer, nnx.Module):
        return _jax_side("jaxnn", entry, partial(_stateless, own.layer), {}, {}, arrays)
    jaxnn.load_state_dict(own.layer, original.state_dict())
    return _module_side("jaxnn", entry, own.layer, own.call, arrays)


class _Seeded:
    """jaxnn, whose layers draw their parameters without being told from what."""

    functional = jaxnn.functional

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(getattr(jaxnn, name), rngs=nnx.Rngs(0))


def _stateless(function: Callable[..., Any], parameters: Any, rest: Any, *inputs: Any) -> Any:
    del parameters
    return _first(function(*inputs)), rest


def _module_side(
    name: str, entry: Entry, module: nnx.Module, call: Callable[..., Any],
    arrays: Sequence[np.ndarray], channels_last: bool = False,
) -> Side:  # fmt: skip
    graphdef, parameters, rest = nnx.split(module, nnx.Param, ...)

    def run(parameters: Any, rest: Any, *inputs: Any) -> Any:
        model = nnx.merge(graphdef, parameters, rest, copy=True)
        output = _first(call(model, *inputs))
        return output, nnx.state(model, nnx.Not(nnx.Param))

    evaluate = None
    if entry.imported:
        frozen = nnx.graphdef(nnx.clone(module).eval())

        def evaluate(parameters: Any, rest: Any, *inputs: Any) -> Any:
            return _first(call(nnx.merge(frozen, parameters, rest, copy=True), *inputs)), rest

    return _jax_side(name, entry, run, parameters, rest, arrays, evaluate, channels_last)


def _jax_side(
    name: str, entry: Entry, run: Callable[..., Any], parameters: Any, rest: Any,
    arrays: Sequence[np.ndarray], evaluate: Callable[..., Any] | None = None,
    channels_last: bool = False,
) -> Side:  # fmt: skip
    swap = partial(_swapped, channels_last)
    inputs = [jnp.asarray(swap(a, -1)) for a in arrays]
    floating = [i for i, x in enumerate(inputs) if jnp.issubdtype(x.dtype, jnp.floating)]
    forward_program = jax.jit(evaluate or run)
    shape = jax.eval_shape(forward_program, parameters, rest, *inputs)[0].shape
    wanted = _cotangent(tuple(np.empty(shape).shape))
    if channels_last and len(shape) > 3:
        wanted = np.moveaxis(_cotangent((shape[0], shape[-1], *shape[1:-1])), 1, -1)
    cotangent = jnp.asarray(wanted)

    def step(parameters: Any, rest: Any, cotangent: Any, *inputs: Any) -> Any:
        leaves = [inputs[i] for i in floating] if not entry.imported else []

        def of(parameters: Any, leaves: Any) -> Any:
            given = list(inputs)
            for i, leaf in zip(floating, leaves, strict=False):
                given[i] = leaf
            return run(parameters, rest, *given)

        output, transpose, rest_after = jax.vjp(of, parameters, leaves, has_aux=True)
        d_parameters, d_leaves = transpose(cotangent)
        if entry.imported:
            update = jax.tree.map(lambda p, g: p - LEARNING_RATE * g, parameters, d_parameters)
            return output, update, rest_after
        return output, (d_leaves, d_parameters), rest_after

    program = jax.jit(step, donate_argnums=(0, 1) if entry.imported else ())
    started = time.perf_counter()
    compiled = program.lower(parameters, rest, cotangent, *inputs).compile()
    seconds = time.perf_counter() - started
    temporary = tuple(
        c.memory_analysis().temp_size_in_bytes
        for c in (forward_program.lower(parameters, rest, *inputs).compile(), compiled)
    )
    # The state of a model moves on, as in training, and its memory is given to the new one.
    carried = [jax.tree.map(jnp.copy, (parameters, rest))]

    def forward() -> Any:
        return jax.block_until_ready(forward_program(parameters, rest, *inputs))

    def backward() -> Any:
        result = jax.block_until_ready(program(*carried[0], cotangent, *inputs))
        if entry.imported:
            carried[0] = result[1:]
        return result

    output, (value, gradients, _) = forward()[0], backward()
    results = {"output": swap(np.asarray(output), 1), "training output": swap(np.asarray(value), 1)}
    if not entry.imported:
        for i, gradient in zip(floating, gradients[0], strict=True):
            results[f"input {i}"] = swap(np.asarray(gradient), 1)
    if not entry.imported and name == "jaxnn" and gradients[1]:
        flat = nnx.to_flat_state(gradients[1])
        results |= {".".join(map(str, path)): np.asarray(v[...]) for path, v in flat}
    return Side(name, forward, backward, results, seconds, temporary)  # type: ignore[arg-type]


def _swapped(channels_last: bool, array: np.ndarray, to: int) -> np.ndarray:
    """Channels from dimension 1 to the last (`to` = -1), or back (1)."""
    if not channels_last or array.ndim < 4:
        return array
    return np.moveaxis(array, 1, -1) if to == -1 else np.moveaxis(array, -1, 1)


def _flax_side(entry: Entry, layer: Called, arrays: Sequence[np.ndarray]) -> Side:
    if entry.flax is None:
        raise Unavailable("no such layer")
    module = entry.flax(nnx, nnx.Rngs(0))
    if not isinstance(module, nnx.Module):
        run = partial(_stateless, module)
        return _jax_side("flax", entry, run, {}, {}, arrays, channels_last=True)
    if not isinstance(module, nnx.RNN):
        jaxnn.load_state_dict(module, layer.layer.state_dict())
    else:
        rename = [(r"^weight_(.)h_l0$", r"cell.weight_\1h"), (r"^bias_(.)h_l0$", r"cell.bias_\1h")]
        jaxnn.load_state_dict(module, layer.layer.state_dict(), rename=rename)
    return _module_side("flax", entry, module, lambda m, x: m(x), arrays, channels_last=True)


def _equinox_side(entry: Entry, layer: Called, arrays: Sequence[np.ndarray]) -> Side:
    if entry.equinox is None:
        raise Unavailable("no such layer")
    try:
        equinox = importlib.import_module("equinox")
    except ImportError:
        raise Unavailable("not installed") from None
    module = entry.equinox(equinox, jax.random.key(0))
    parameters = {}
    if isinstance(layer.layer, torch.nn.Module):
        for key, tensor in layer.layer.state_dict().items():
            old = getattr(module, key, None)
            if old is not None:
                parameters[key] = jnp.asarray(tensor.numpy()).reshape(old.shape)

    def run(parameters: Any, rest: Any, *inputs: Any) -> Any:
        names = list(parameters)
        filled = module
        if names:
            filled = equinox.tree_at(
                lambda m: [getattr(m, n) for n in names], module, list(parameters.values())
            )
        return jax.vmap(filled)(*inputs), rest

    return _jax_side("equinox", entry, run, parameters, {}, arrays)
