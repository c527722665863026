"""The compiler of a TPU or GPU, in a process of its own, and what it makes of an entry."""

from __future__ import annotations

import math
import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, lru_cache, partial
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from . import libraries
from .entries import ENTRIES, WHOLE_MODELS, Entry, Whole
from .libraries import Program, Unavailable
from .programs import cost
from .targets import Target

PHASES = ("forward", "backward")
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
ACCURATE = "flax, two passes"
"""flax.nnx with the variance that is accurate where the mean is large."""
LAYERS = tuple(entry for entry in ENTRIES if not entry.imported)
"""Of the models, those of the sizes that they are trained at are compiled."""

Row = dict[str, Any]


class Compiler:
    """A process that compiles, and is ended where one program takes longer than `limit` seconds.

    A TPU's compiler has taken half an hour, and 6 GB, for one model.
    """

    def __init__(self, target: str, limit: float):
        self.target = target
        self.limit = limit
        self._pool: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def measure(self, entry: Entry, size: int, dtype: str) -> list[Row]:
        """One entry of one size in one dtype: forward, and with backward."""
        asked = (entry.name, size, dtype)
        names = self._ask(_sides, *asked).get()
        return [
            {
                "name": entry.name, "family": entry.family, "size": size, "dtype": dtype,
                "phase": phase, "target": self.target,
                "shape": " ".join("x".join(map(str, i.shape)) for i in entry.sizes[size]),
                **self._compile(names, *asked, phase),
            }
            for phase in (PHASES if entry.has_backward else PHASES[:1])
        ]  # fmt: skip

    def _compile(self, names: list[str], *asked: Any) -> dict[str, Any]:
        """What each side costs; of those that took too long, the seconds that they had."""
        sides, stopped = {}, {}
        for name in names:
            try:
                sides[name] = self._ask(_facts, self.target, name, *asked).get(self.limit)
            except multiprocessing.TimeoutError:
                self._end()
                stopped[name] = self.limit
        return {"sides": sides, "stopped": stopped}

    def _ask(self, question: Callable[..., Any], *given: Any) -> Any:
        if self._pool is None:
            self._pool = multiprocessing.get_context("spawn").Pool(1)
            # What every program needs is not of the first one's time.
            self._pool.apply(_start, (self.target,))
        return self._pool.apply_async(question, given)

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None


@cache
def _target(name: str) -> Target:
    return Target(name)


def _start(target: str) -> None:
    _prices(target)
    # A TPU's compiler would report a crash where the process is only ended.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _prices(target: str) -> tuple[float, float]:
    """The bytes and the products of a cycle; of a GPU no price is known."""
    chip = _target(target)
    return (chip.bytes_per_cycle, chip.flops_per_cycle) if chip.kind == "tpu" else (math.inf,) * 2


def _entry(name: str) -> Entry:
    return next(entry for entry in (*LAYERS, *WHOLE_MODELS) if entry.name == name)


@lru_cache(1)
def _programs(name: str, size: int, dtype: str) -> dict[str, Program]:
    return {program.name: program for program in programs(_entry(name), size, dtype)}


def _sides(name: str, size: int, dtype: str) -> list[str]:
    return [*_programs(name, size, dtype)]


def _facts(
    target: str, side: str, name: str, size: int, dtype: str, phase: str
) -> dict[str, float]:
    program, chip = _programs(name, size, dtype)[side], _target(target)
    return _compiled(chip, _lowered(program, _entry(name), size, dtype, phase, chip))


def programs(entry: Entry, size: int, dtype: str) -> list[Program]:
    """The entry in jaxnn, and in what it is compared with."""
    own = _own(entry, size, dtype)
    made = [own]
    makers: list[Callable[[], Program]] = [
        partial(_flax, entry), partial(_flax, entry, is_accurate=True),
        partial(libraries.equinox_program, entry), partial(libraries.plain_program, entry, own),
    ]  # fmt: skip
    for make in makers:
        try:
            made.append(make())
        except Unavailable:
            continue
    return made


def _own(entry: Entry, size: int, dtype: str) -> Program:
    if not entry.imported:
        return libraries.of_layer("jaxnn", entry, libraries.own_layer(entry))
    import torch

    import jaxnn

    # An import has the dtypes of its example.
    layer = libraries.seen(entry.make(torch.nn))
    layer.layer.to(getattr(torch, dtype))
    rng = np.random.default_rng(0)
    drawn = [torch.from_numpy(item.draw(rng)) for item in entry.sizes[size]]
    inputs = [x.to(getattr(torch, dtype)) if x.is_floating_point() else x for x in drawn]
    net = jaxnn.from_torch(layer.layer, tuple(inputs), check=False)
    return libraries.of_layer("jaxnn", entry, libraries.Called(net, layer.call))


def _flax(entry: Entry, is_accurate: bool = False) -> Program:
    module = libraries.flax_layer(entry)
    name = "flax"
    if is_accurate:
        norms = [
            m for _, m in nnx.iter_modules(module) if hasattr(m, "use_fast_variance")
        ] if isinstance(module, nnx.Module) else []  # fmt: skip
        if not norms:
            raise Unavailable("nothing to choose")
        for norm in norms:
            norm.use_fast_variance = False
        name = ACCURATE
    return libraries.of_layer(name, entry, libraries.seen(module), channels_last=True)


def _lowered(
    program: Program, entry: Entry, size: int, dtype: str, phase: str, target: Target
) -> Any:
    drawn = [program.given(_abstract(item)) for item in entry.sizes[size]]
    parameters, rest, inputs = _cast((program.parameters, program.rest, drawn), DTYPES[dtype])
    arguments = target.abstract((parameters, rest, *inputs))
    if phase == "forward":
        return jax.jit(program.forward).lower(*arguments)
    output = jax.eval_shape(program.run, *arguments)[0]
    step = libraries.training_step(program, entry, inputs)
    donated = (0, 1) if entry.imported else ()
    cotangent = target.abstract(output)
    return jax.jit(step, donate_argnums=donated).lower(
        *arguments[:2], cotangent, *arguments[2:]
    )  # fmt: skip


def _abstract(item: Any) -> Any:
    """Zeros of the input's shape that take no memory."""
    dtype = np.int32 if isinstance(item, Whole) else np.float32
    return np.broadcast_to(np.zeros((), dtype), item.shape)


def _cast(tree: Any, dtype: Any) -> Any:
    def cast(leaf: Any) -> Any:
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jax.ShapeDtypeStruct(leaf.shape, dtype if is_float else leaf.dtype)

    return jax.tree.map(cast, tree)


def _compiled(target: Target, lowered: Any) -> dict[str, float]:
    compiled = lowered.compile()
    memory = compiled.memory_analysis()
    price, products = _prices(target.name)
    facts = asdict(cost(compiled.as_text(), price))
    facts["temporaries"] = memory.temp_size_in_bytes
    # What has to be moved: each argument and result once.
    facts["least_bytes"] = memory.argument_size_in_bytes + memory.output_size_in_bytes
    if target.kind == "tpu":
        flops = (compiled.cost_analysis() or {}).get("flops", 0.0)
        facts["bound"] = max(facts["least_bytes"] / price, flops / products)
    return facts
