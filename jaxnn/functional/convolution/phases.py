"""Convolutions of an input with zeros between its elements, without the zeros."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .definition import Geometry

Formulation = Callable[[jax.Array, jax.Array, Geometry], jax.Array]


def by_phases(
    formulation: Formulation, input: jax.Array, weight: jax.Array, geometry: Geometry
) -> jax.Array:
    """A convolution without zeros between the input's elements, but for each phase of the output.

    Which taps meet zeros depends on an output's position modulo the input's dilation, its phase
    alone. So each phase is a convolution with the other taps, and its channels stand beside those
    of the other phases (sub-pixel convolution, https://arxiv.org/abs/1609.05158), if these have as
    many taps: a kernel that is filled up with zeros would make NaN of an infinity that it meets.
    """
    n, phases = len(geometry.stride), geometry.input_dilation
    if all(count == 1 for count in phases):
        return formulation(input, weight, geometry)
    dims = [_phased(i, input.shape[2 + i], weight.shape[2 + i], geometry) for i in range(n)]
    kernels = jnp.flip(weight, range(2, n + 2))
    outputs: dict[tuple[int, ...], jax.Array] = {}
    for alike in itertools.product(*(dim.alike() for dim in dims)):
        members = list(itertools.product(*(of.phases for of in alike)))
        if any(of.taps == 0 for of in alike):
            sizes = (dim.positions for dim in dims)
            nothing = jnp.zeros((input.shape[0], weight.shape[0], *sizes), input.dtype)
            outputs |= dict.fromkeys(members, nothing)
            continue
        apart = Geometry(
            stride=(1,) * n,
            padding=tuple(of.padding for of in alike),
            dilation=tuple(of.dilation for of in alike),
            groups=geometry.groups,
            input_dilation=(1,) * n,
        )
        parts = [
            kernels[:, :, *(of.window(phase) for of, phase in zip(alike, member, strict=True))]
            for member in members
        ]
        joined = jnp.flip(jnp.stack(parts, axis=1), range(3, n + 3))
        joined = joined.reshape(-1, *joined.shape[2:])
        output = formulation(input, joined, apart)
        split = output.reshape(input.shape[0], weight.shape[0], len(members), *output.shape[2:])
        outputs |= {member: split[:, :, i] for i, member in enumerate(members)}
    order = itertools.product(*(range(count) for count in phases))
    together = jnp.stack([outputs[phase] for phase in order], axis=2)
    output = _interleaved(together, phases)
    return output[:, :, *(dim.window for dim in dims)]


class _Alike(NamedTuple):
    """Phases of one dimension that have as many taps, at the same places of the input."""

    phases: tuple[int, ...]
    starts: tuple[int, ...]  # each phase's first element of the flipped kernel
    step: int  # the step between a phase's elements of the kernel
    taps: int
    dilation: int
    padding: tuple[int, int]

    def window(self, phase: int) -> slice:
        """Return where the phase's taps lie in the flipped kernel."""
        start = self.starts[self.phases.index(phase)]
        return slice(start, start + (self.taps - 1) * self.step + 1, self.step)


class _Phased(NamedTuple):
    """One dimension of a convolution whose phases stand apart."""

    phases: int
    kernel_size: int
    spread: int  # the dilation that the phases divide
    dilation: int  # the dilation that stays one
    first: int
    last: int
    size: int
    window: slice  # where the output lies among the interleaved phases

    @property
    def positions(self) -> int:
        """How many positions each phase has."""
        return self.last - self.first + 1

    def alike(self) -> list[_Alike]:
        """Return the phases, those together that one convolution can make."""
        found: dict[tuple[int, int], list[tuple[int, int]]] = {}
        common = math.gcd(self.phases, self.spread)
        step = self.phases // common
        for phase in range(self.phases):
            # Its taps are the elements at which spread * element - phase is divisible.
            elements = [
                k for k in range(self.kernel_size) if (self.spread * k - phase) % self.phases == 0
            ]
            first = (self.spread * elements[0] - phase) // self.phases if elements else 0
            start = elements[0] if elements else 0
            found.setdefault((len(elements), first), []).append((phase, start))
        alike = []
        for (taps, place), members in found.items():
            dilation = self.dilation * (self.spread // common)
            before = self.dilation * place + dilation * (taps - 1) - self.first
            after = self.last + 1 - self.size - self.dilation * place
            phases, starts = zip(*members, strict=True)
            alike.append(_Alike(phases, starts, step, taps, dilation, (before, after)))
        return alike


def _phased(i: int, size: int, kernel_size: int, geometry: Geometry) -> _Phased:
    phases, dilation = geometry.input_dilation[i], geometry.dilation[i]
    # A dimension without zeros between its elements has one phase, and stays as it is.
    kept = 1 if phases > 1 else dilation
    spread = dilation // kept
    # The output is a part of the full convolution, whose phases all begin with the input.
    begin = dilation * (kernel_size - 1) - geometry.padding[i][0]
    end = (size - 1) * phases + 1 + geometry.padding[i][1]
    first, last = begin // phases, (end - 1) // phases
    window = slice(begin - phases * first, end - phases * first)
    return _Phased(phases, kernel_size, spread, kept, first, last, size, window)


def _interleaved(output: jax.Array, phases: Sequence[int]) -> jax.Array:
    """Move the phases, which are dimension 2, to the positions between one another."""
    n, batch, channels, sizes = len(phases), *output.shape[:2], output.shape[3:]
    split = output.reshape(batch, channels, *phases, *sizes)
    pairs = [axis for i in range(n) for axis in (2 + n + i, 2 + i)]
    interleaved = split.transpose(0, 1, *pairs)
    return interleaved.reshape(
        batch, channels, *(size * s for size, s in zip(sizes, phases, strict=True))
    )
