"""What each JAX library computes for an entry, as a pure function with its parameters apart."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxnn

from .entries import Called, Entry
from .plain import PLAIN

LEARNING_RATE = 1e-6
"""So small that a model timed for hundreds of steps stays where it is."""


class Unavailable(Exception):
    """The library has no such layer, or is not installed."""


@dataclass(frozen=True)
class Program:
    """An entry in one library.

    `run` gets parameters, other state and inputs, and returns the output and the state after it;
    `evaluate` is the same for a model in evaluation. Inputs have their channels last or not.
    """

    name: str
    run: Callable[..., Any]
    parameters: Any
    rest: Any
    evaluate: Callable[..., Any] | None = None
    channels_last: bool = False

    @property
    def forward(self) -> Callable[..., Any]:
        return self.evaluate or self.run

    def given(self, array: Any) -> Any:
        """An input of torch's order in this library's."""
        return np.moveaxis(array, 1, -1) if self.channels_last and array.ndim > 3 else array

    def returned(self, array: Any) -> Any:
        """An output or gradient in torch's order."""
        return np.moveaxis(array, -1, 1) if self.channels_last and array.ndim > 3 else array


def training_step(program: Program, entry: Entry, inputs: Sequence[Any]) -> Callable[..., Any]:
    """Forward and backward: a layer's gradients, or a model's step of gradient descent.

    It gets parameters, other state, the output's cotangent, and inputs.
    """
    floating = [i for i, x in enumerate(inputs) if jnp.issubdtype(x.dtype, jnp.floating)]

    def step(parameters: Any, rest: Any, cotangent: Any, *inputs: Any) -> Any:
        leaves = [] if entry.imported else [inputs[i] for i in floating]

        def of(parameters: Any, leaves: Any) -> Any:
            given = list(inputs)
            for i, leaf in zip(floating, leaves, strict=False):
                given[i] = leaf
            return program.run(parameters, rest, *given)

        output, transpose, rest_after = jax.vjp(of, parameters, leaves, has_aux=True)
        d_parameters, d_leaves = transpose(cotangent)
        if not entry.imported:
            return output, (d_leaves, d_parameters), rest_after
        update = jax.tree.map(
            lambda p, g: p - jnp.asarray(LEARNING_RATE, p.dtype) * g, parameters, d_parameters
        )
        return output, update, rest_after

    return step


def seen(layer: Any) -> Called:
    """Every entry in one form: a layer, or a function, and how it is called."""
    if isinstance(layer, Called):
        return layer
    return Called(layer, lambda layer, *inputs: layer(*inputs))


def first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


def own_layer(entry: Entry) -> Called:
    """The layer or function of jaxnn."""
    return seen(entry.make(_Seeded()))


class _Seeded:
    """jaxnn, whose layers draw their parameters without being told from what."""

    functional = jaxnn.functional

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(getattr(jaxnn, name), rngs=nnx.Rngs(0))


def of_layer(name: str, entry: Entry, layer: Called, channels_last: bool = False) -> Program:
    """A module, or a function, of jaxnn or flax.nnx."""
    module, call = layer.layer, layer.call
    if not isinstance(module, nnx.Module):
        return Program(
            name, lambda _, rest, *inputs: (first(call(module, *inputs)), rest), {}, {},
            channels_last=channels_last,
        )  # fmt: skip
    graphdef, parameters, rest = nnx.split(module, nnx.Param, ...)

    def run(parameters: Any, rest: Any, *inputs: Any) -> Any:
        model = nnx.merge(graphdef, parameters, rest, copy=True)
        output = first(call(model, *inputs))
        return output, nnx.state(model, nnx.Not(nnx.Param))

    if not entry.imported:
        return Program(name, run, parameters, rest, channels_last=channels_last)
    evaluated = nnx.clone(module)
    evaluated.eval()
    frozen = nnx.graphdef(evaluated)

    def evaluate(parameters: Any, rest: Any, *inputs: Any) -> Any:
        return first(call(nnx.merge(frozen, parameters, rest, copy=True), *inputs)), rest

    return Program(name, run, parameters, rest, evaluate, channels_last)


def flax_layer(entry: Entry) -> Any:
    """Flax's module or function.

    Raises:
        Unavailable: Flax has none.
    """
    if entry.flax is None:
        raise Unavailable("no such layer")
    return entry.flax(nnx, nnx.Rngs(0))


def equinox_program(entry: Entry, weights: dict[str, np.ndarray] | None = None) -> Program:
    """Equinox's layer, mapped over the batch.

    Raises:
        Unavailable: Equinox has none, or is not installed.
    """
    if entry.equinox is None:
        raise Unavailable("no such layer")
    try:
        equinox = importlib.import_module("equinox")
    except ImportError:
        raise Unavailable("not installed") from None
    module = entry.equinox(equinox, jax.random.key(0))
    for key, array in (weights or {}).items():
        old = getattr(module, key, None)
        if old is not None:
            new = jnp.asarray(array).reshape(old.shape)
            module = equinox.tree_at(lambda m, key=key: getattr(m, key), module, new)
    parameters, static = equinox.partition(module, equinox.is_inexact_array)

    def run(parameters: Any, rest: Any, *inputs: Any) -> Any:
        return jax.vmap(equinox.combine(parameters, static))(*inputs), rest

    return Program("equinox", run, parameters, {})


def plain_program(entry: Entry, own: Program) -> Program:
    """What one writes without a library, of the same parameters.

    Raises:
        Unavailable: No plain formulation is kept for the entry.
    """
    if entry.name not in PLAIN:
        raise Unavailable("no plain formulation")
    formula = PLAIN[entry.name]

    def run(parameters: Any, rest: Any, *inputs: Any) -> Any:
        flat = nnx.to_flat_state(parameters) if parameters else ()
        return formula({".".join(map(str, k)): v[...] for k, v in flat}, *inputs), rest

    return Program("plain", run, own.parameters, own.rest)
