"""Grouped convolutions on a TPU: the same operation, with the channels last."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .definition import CHANNELS_LAST, Geometry, native


def channels_last(input: jax.Array, weight: jax.Array, geometry: Geometry) -> jax.Array:
    """Convolve (N, in_channels, ...) with (out_channels, in_channels / groups, ...).

    A TPU lays arrays out as it likes, so that these transpositions are none in the program, but
    its compiler chooses the kernel by the order that is written: channels first, a convolution of
    four groups takes twice the cycles. Without groups there is no difference.
    """
    input, weight = jnp.moveaxis(input, 1, -1), jnp.moveaxis(weight, (0, 1), (-1, -2))
    return jnp.moveaxis(native(input, weight, geometry, CHANNELS_LAST), -1, 1)
