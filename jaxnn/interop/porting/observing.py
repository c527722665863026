"""What the values of a model's programs are, as far as a call in each mode shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..importer.custom_vjp import run_pass
from ..importer.imported import Imported, run_program
from ..importer.observers import Observer, observed_by
from ..importer.program import Body, Custom, Literal, State, Value
from .entries import TRAINING, Entry


@dataclass(frozen=True)
class Kind:
    """What is known of a value, of all calls of the program.

    Attributes:
        dtype: its dtype; None for a size.
        shapes: the shape that it has had in each run of the program, which all values share.
        length: of a tuple or list of arrays, how many there are.
    """

    dtype: Any = None
    shapes: tuple[tuple[int, ...], ...] = ((),)
    length: int | None = None

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shapes[0])

    @property
    def is_float(self) -> bool:
        """Whether it is a real floating-point array."""
        return self.dtype is not None and bool(jnp.issubdtype(self.dtype, jnp.floating))

    @property
    def is_bool(self) -> bool:
        """Whether it is an array of bools."""
        return self.dtype is not None and self.dtype == np.bool_


@dataclass(frozen=True)
class Kinds:
    """What is known of the values of a program.

    Attributes:
        values: by name.
        state: of a parameter or buffer, by its path below the module.
    """

    values: Mapping[str, Kind] = field(default_factory=dict)
    state: Callable[[str], Kind | None] = lambda path: None

    def named(self, name: str) -> Kind | None:
        """Return what is known of the value of that name."""
        return self.values.get(name)

    def of(self, value: Any) -> Kind | None:
        """Return what is known of an argument of a step; of a number, None."""
        if isinstance(value, Value):
            return self.values.get(value.name)
        if isinstance(value, State):
            return self.state(value.path)
        if isinstance(value, Literal):
            return Kind(np.dtype(jnp.dtype(value.dtype)), (np.shape(value.values),))
        return None


Observed = dict[int, dict[str, Kind]]


def observe(net: nnx.Module, entries: Sequence[Entry]) -> Observed:
    """Return what the values of each program are, by body and name.

    Args:
        net: the imported model.
        entries: the kinds of its calls, whose examples are run in each mode. What is equal in all
            of them alone counts as equal.
    """
    runs: dict[int, list[dict[str, Kind | None]]] = {}
    if not isinstance(net, Imported):
        return {}
    for entry in entries:
        for mode, program in entry.programs.items():
            (net.train if mode == TRAINING else net.eval)()
            body = replace(program.body, shapes=(), guards=())  # which may ask for other sizes
            for example in entry.examples:
                for args, kwargs in example.in_jax():
                    _note(net, body, program.body, partial(_run, args=args, kwargs=kwargs), runs)
    return {body: _of_all(known) for body, known in runs.items()}


def _note(
    net: Imported,
    run: Body,
    written: Body,
    call: Callable[..., int],
    runs: dict[int, list[dict[str, Kind | None]]],
) -> None:
    noting = _Noting()
    with observed_by(noting):
        try:
            nnx.eval_shape(partial(call, body=run), net)
        except (ValueError, TypeError):  # a mode that the model cannot run in
            return
    for body, values in noting.seen:
        kinds = {name: kind_of(value) for name, value in values.items()}
        known = runs.setdefault(id(written if body is run else body), [])
        if kinds not in known:
            known.append(kinds)


def _of_all(runs: Sequence[Mapping[str, Kind | None]]) -> dict[str, Kind]:
    """Return what all runs of a program have shown of its values."""
    found = {}
    for name in runs[0]:
        kinds = [kind for run in runs if (kind := run.get(name)) is not None]
        if len(kinds) == len(runs) and len({(k.dtype, k.ndim, k.length) for k in kinds}) == 1:
            shapes = tuple(kind.shapes[0] for kind in kinds)
            found[name] = Kind(kinds[0].dtype, shapes, kinds[0].length)
    return found


def kind_of(value: Any) -> Kind | None:
    """Return what is known of one value; None where it is neither an array nor made of arrays."""
    if isinstance(value, (tuple, list)):
        return Kind(length=len(value))
    if hasattr(value, "dtype"):
        return Kind(np.dtype(value.dtype), (tuple(value.shape),))
    return Kind() if isinstance(value, (int, float)) else None


def _run(module: Imported, *, body: Body, args: tuple[Any, ...], kwargs: Any) -> int:
    run_program(module, body, args, kwargs, nnx.Rngs(0))
    return 0


class _Noting(Observer):
    """Keeps the values of every program that runs."""

    def __init__(self) -> None:
        self.seen: list[tuple[Body, dict[str, Any]]] = []

    def begins(self, body: Body, values: dict[str, Any]) -> None:
        self.seen.append((body, values))

    def customised(self, step: Custom, known: tuple[Any, ...]) -> None:
        """Run the backward pass too, which nothing else here does."""
        results = known[-len(step.results) :]
        gradients = [jnp.ones_like(results[at]) for at in step.outputs]
        run_pass(step.backward, gradients, [known[at] for at in step.saved])
