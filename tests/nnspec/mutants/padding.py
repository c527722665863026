"""Wrong paddings."""

from functools import wraps

import jax
import jax.numpy as jnp

import jaxnn.functional as F

from . import mutant, reconfigured

KINDS = ("Constant", "Zero", "Reflection", "Replication", "Circular")
COPYING = KINDS[2:]


def ids(number, *kinds, dims=(1, 2, 3)):
    return [f"{kind}Pad{n}d.M{number:02d}" for kind in kinds for n in dims]


def swapped(pad):
    return tuple(number for pair in zip(pad[1::2], pad[::2], strict=True) for number in pair)


def reversed_pairs(pad):
    return swapped(tuple(reversed(pad)))


def cropped(pad):
    return tuple(min(number, 0) for number in pad)


def grown(pad):
    return tuple(max(number, 0) for number in pad)


def with_padding(layer, change):
    return reconfigured(layer, padding=lambda p: change(p) if isinstance(p, tuple) else p)


def called(layer, call):
    """Return the layer, whose call is `call(self, input, padding)`."""

    class Mutant(layer):
        def __call__(self, input):
            return call(self, input, self.padding)

    return Mutant


@mutant(*ids(1, *KINDS))
def before_and_after_swapped(layer):
    return with_padding(layer, swapped)


@mutant(*ids(2, *KINDS))
def nothing_cropped(layer):
    return with_padding(layer, grown)


@mutant(*ids(3, "Constant"))
def value_ignored(layer):
    return reconfigured(layer, value=0.0)


@mutant(*ids(4, "Constant", dims=(2, 3)), *ids(3, "Zero", dims=(2, 3)))
@mutant(*ids(6, *COPYING, dims=(2, 3)))
def first_dimension_first(layer):
    return with_padding(layer, reversed_pairs)


@mutant(*ids(3, "Reflection"))
def edge_repeated(layer):
    return called(layer, lambda self, input, padding: symmetric(input, padding))


def symmetric(input, pad):
    """Return the padding in which the edge is mirrored too."""
    pairs = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    widths = [(0, 0)] * (input.ndim - len(pairs)) + pairs
    padded = jnp.pad(input, [(max(b, 0), max(a, 0)) for b, a in widths], mode="symmetric")
    return F.pad(padded, cropped(pad))


@mutant(*ids(4, "Reflection", "Replication"))
def cropped_first(layer):
    return called(
        layer, lambda self, input, p: F.pad(F.pad(input, cropped(p)), grown(p), self._mode)
    )


@mutant(*ids(3, "Replication"))
def zeros_instead(layer):
    return called(layer, lambda self, input, p: F.pad(input, p))


@mutant(*ids(3, "Circular"))
def round_from_the_same_end(layer):
    def call(self, input, padding):
        for axis, before, after in zip(
            range(-1, -4, -1), padding[::2], padding[1::2], strict=False
        ):
            first, _ = jnp.split(input, [max(before, 0)], axis)
            _, last = jnp.split(input, [input.shape[axis] - max(after, 0)], axis)
            input = jnp.concatenate([first, input, last], axis)
        return F.pad(input, cropped(padding))

    return called(layer, call)


@mutant(*ids(4, "Circular"))
def cropped_comes_round(layer):
    return called(
        layer, lambda self, input, p: F.pad(F.pad(input, grown(p), "circular"), cropped(p))
    )


@mutant(*ids(5, *COPYING))
def copies_without_gradient(layer):
    def call(self, input, padding):
        constant = jax.lax.stop_gradient(input)
        return F.pad(constant, padding, self._mode) + F.pad(input - constant, padding)

    return called(layer, call)


def changed(function, change):
    """Return the function, called with another `pad`."""

    @wraps(function)
    def wrong(input, pad, mode="constant", value=None):
        return function(input, change(pad), mode, value)

    return wrong


@mutant("pad.M01")
def first_pair_is_the_first_dimension(pad):
    return changed(pad, reversed_pairs)


@mutant("pad.M02")
def swapped_pairs(pad):
    return changed(pad, swapped)


@mutant("pad.M03")
def reflect_repeats_the_edge(function):
    @wraps(function)
    def wrong(input, pad, mode="constant", value=None):
        padded = function(input, pad, mode, value)
        return symmetric(input, pad) if mode == "reflect" else padded

    return wrong


@mutant("pad.M04")
def crops_before_it_copies(function):
    @wraps(function)
    def wrong(input, pad, mode="constant", value=None):
        return function(function(input, cropped(pad)), grown(pad), mode, value)

    return wrong


@mutant("pad.M05")
def negative_numbers_ignored(pad):
    return changed(pad, grown)


@mutant("pad.M06")
def value_dropped(function):
    @wraps(function)
    def wrong(input, pad, mode="constant", value=None):
        return function(input, pad, mode)

    return wrong
