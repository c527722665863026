"""One entry in several libraries: the same numbers first, then their times against each other."""

from __future__ import annotations

import copy
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

from . import libraries
from .entries import Called, Entry
from .libraries import LEARNING_RATE, Program, Unavailable, first, seen


@dataclass
class Side:
    """What one library does for an entry: callables that return when the work is done."""

    name: str
    forward: Callable[[], Any]
    backward: Callable[[], Any]
    results: dict[str, np.ndarray]
    compile_seconds: float | None = None
    temporary_bytes: tuple[int, int] | None = None
    least_bytes: tuple[int, int] | None = None
    truth: dict[str, np.ndarray] | None = None
    """Of torch in half precision, what it gives in float32 for the same numbers."""


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCE = {"float32": 2e-3, "bfloat16": 5e-2}
"""Of the largest element: what is faster because it computes something else is not timed."""
MORE_THAN_TORCH = 1.5
"""How much farther than torch in half precision a library may be from float32."""


def sides(
    entry: Entry, size: int, peers: Sequence[str], device: str, dtype: str = "float32"
) -> tuple[list[Side], list[str]]:
    """jaxnn and its peers, torch first, and what is said of a peer that is left out."""
    rng = np.random.default_rng(0)
    drawn = [torch.from_numpy(item.draw(rng)) for item in entry.sizes[size]]
    arrays = [a.to(DTYPES[dtype]) if a.is_floating_point() else a for a in drawn]
    torch.manual_seed(0)
    layer = seen(entry.make(torch.nn))
    if isinstance(layer.layer, torch.nn.Module):
        layer.layer.to(DTYPES[dtype])
    accelerator = torch.device("cuda" if device == "gpu" else "cpu")
    made = [_torch_side("torch", entry, layer, arrays, accelerator)]
    if dtype != "float32":
        wide = [a.float() if a.is_floating_point() else a for a in arrays]
        in_float32 = seen(entry.make(torch.nn))
        if isinstance(in_float32.layer, torch.nn.Module):
            in_float32.layer.load_state_dict(layer.layer.state_dict())
        made[0].truth = _torch_side("torch", entry, in_float32, wide, accelerator).results
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


def check_equal(entry: Entry, made: Sequence[Side], dtype: str = "float32") -> None:
    """Refuse to time what is not the same.

    In half precision, what torch gives in float32 for the same numbers decides: a library may be as
    far from it as the tolerance, or as torch itself is.

    Raises:
        ValueError: naming the entry, the library and how far it is off.
    """
    reference = made[0]
    for side in made[1:]:
        for name, got in side.results.items():
            wanted = (reference.truth or reference.results)[name]
            error, torchs = (_error(array, wanted) for array in (got, reference.results[name]))
            if not error < max(TOLERANCE[dtype], MORE_THAN_TORCH * torchs):
                raise ValueError(
                    f"{entry.name}: {name} of {side.name} is off by {error:.1e} of its scale, "
                    f"torch by {torchs:.1e}, shapes {got.shape} and {wanted.shape}"
                )


def _error(array: np.ndarray, wanted: np.ndarray) -> float:
    if wanted.size != array.size:
        return math.inf
    scale = max(float(np.abs(wanted).max(initial=0)), 1e-6)
    return float(np.abs(wanted.reshape(-1) - array.reshape(-1)).max(initial=0)) / scale


def copy_rate() -> float:
    """Bytes a second that a large copy reads and writes here."""
    x = jnp.ones(2**26, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    times = interleaved({"copy": lambda: jax.block_until_ready(copy(x))}, 10)["copy"]
    return 2 * x.nbytes / sorted(times)[len(times) // 2]


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


def _torch_side(
    name: str, entry: Entry, layer: Called, arrays: Sequence[torch.Tensor], device: torch.device
) -> Side:
    inputs = [a.clone().to(device) for a in arrays]
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
            output = first(run(evaluated, *inputs))
        wait()
        return output

    output = forward()
    cotangent = torch.from_numpy(_cotangent(tuple(output.shape))).to(device, output.dtype)

    def backward() -> Any:
        for leaf in leaves.values():
            leaf.grad = None
        output = first(run(module, *inputs))
        output.backward(cotangent)
        if optimizer is not None:
            optimizer.step()
        wait()
        return output

    results = {"output": forward(), "training output": backward().detach()}
    if not entry.imported:
        results |= {key: leaf.grad for key, leaf in leaves.items()}
    return Side(name, forward, backward, {k: v.cpu().float().numpy() for k, v in results.items()})


def _cotangent(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def _jaxnn_side(entry: Entry, layer: Called, arrays: Sequence[torch.Tensor]) -> Side:
    if entry.imported:
        net = jaxnn.from_torch(copy.deepcopy(layer.layer), tuple(arrays), check=False)
        own = Called(net, layer.call)
    else:
        own = libraries.own_layer(entry)
        if isinstance(own.layer, nnx.Module):
            jaxnn.load_state_dict(own.layer, _weights(layer))
    return _jax_side(libraries.of_layer("jaxnn", entry, own), entry, arrays)


def _jax_side(program: Program, entry: Entry, arrays: Sequence[torch.Tensor]) -> Side:
    dtype = jnp.bfloat16 if any(a.dtype == torch.bfloat16 for a in arrays) else jnp.float32
    parameters, rest = _cast((program.parameters, program.rest), dtype)
    inputs = _cast([jnp.asarray(program.given(_numpy(a))) for a in arrays], dtype)
    forward_program = jax.jit(program.forward)
    shape = jax.eval_shape(forward_program, parameters, rest, *inputs)[0].shape
    wanted = _cotangent(program.returned(np.empty(shape)).shape)
    cotangent = _cast(jnp.asarray(program.given(wanted)), dtype)
    step = libraries.training_step(program, entry, inputs)
    jitted = jax.jit(step, donate_argnums=(0, 1) if entry.imported else ())
    started = time.perf_counter()
    compiled = jitted.lower(parameters, rest, cotangent, *inputs).compile()
    seconds = time.perf_counter() - started
    programs = (forward_program.lower(parameters, rest, *inputs).compile(), compiled)
    memory = [c.memory_analysis() for c in programs]
    temporary = tuple(m.temp_size_in_bytes for m in memory)
    # Each argument and result once: what has to be moved.
    least = tuple(m.argument_size_in_bytes + m.output_size_in_bytes for m in memory)
    # The state of a model moves on, as in training, and its memory is given to the new one.
    carried = [jax.tree.map(jnp.copy, (parameters, rest))]

    def forward() -> Any:
        return jax.block_until_ready(forward_program(parameters, rest, *inputs))

    def backward() -> Any:
        result = jax.block_until_ready(jitted(*carried[0], cotangent, *inputs))
        if entry.imported:
            carried[0] = result[1:]
        return result

    output, (value, gradients, _) = forward()[0], backward()
    found = {"output": output, "training output": value}
    if not entry.imported:
        floating = [i for i, x in enumerate(inputs) if jnp.issubdtype(x.dtype, jnp.floating)]
        found |= {f"input {i}": g for i, g in zip(floating, gradients[0], strict=True)}
    results = {key: program.returned(_wide(array)) for key, array in found.items()}
    if not entry.imported and program.name == "jaxnn" and gradients[1]:
        flat = nnx.to_flat_state(gradients[1])
        results |= {".".join(map(str, path)): _wide(v[...]) for path, v in flat}
    return Side(program.name, forward, backward, results, seconds, temporary, least)  # type: ignore[arg-type]


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()


def _wide(array: jax.Array) -> np.ndarray:
    return np.asarray(array, np.float32)


def _cast(tree: Any, dtype: Any) -> Any:
    def cast(leaf: Any) -> Any:
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree)


def _weights(layer: Called) -> dict[str, np.ndarray]:
    return {key: _numpy(tensor) for key, tensor in layer.layer.state_dict().items()}


def _flax_side(entry: Entry, layer: Called, arrays: Sequence[torch.Tensor]) -> Side:
    module = libraries.flax_layer(entry)
    if isinstance(module, nnx.RNN):
        rename = [(r"^weight_(.)h_l0$", r"cell.weight_\1h"), (r"^bias_(.)h_l0$", r"cell.bias_\1h")]
        jaxnn.load_state_dict(module, _weights(layer), rename=rename)
    elif isinstance(module, nnx.Module):
        jaxnn.load_state_dict(module, _weights(layer))
    program = libraries.of_layer("flax", entry, seen(module), channels_last=True)
    return _jax_side(program, entry, arrays)


def _equinox_side(entry: Entry, layer: Called, arrays: Sequence[torch.Tensor]) -> Side:
    weights = {}
    if isinstance(layer.layer, torch.nn.Module):
        weights = _weights(layer)
    return _jax_side(libraries.equinox_program(entry, weights), entry, arrays)
