"""Grouped convolutions on a TPU: the same operation, with the channels last."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from .definition import Geometry


def channels_last(input: jax.Array, weight: jax.Array, geometry: Geometry) -> jax.Array:
    """Convolve (N, in_channels, ...) with (out_channels, in_channels / groups, ...).

    A TPU lays arrays out as it likes, so that these transpositions are none in the program, but
    its compiler chooses the kernel by the order that is written: channels first, a convolution of
    four groups takes twice the cycles. Without groups there is no difference.
    """
    spatial = "DHW"[3 - len(geometry.stride) :]
    output = lax.conv_general_dilated(
        jnp.moveaxis(input, 1, -1),
        jnp.moveaxis(weight, (0, 1), (-1, -2)),
        window_strides=geometry.stride,
        padding=geometry.padding,
        lhs_dilation=geometry.input_dilation,
        rhs_dilation=geometry.dilation,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        feature_group_count=geometry.groups,
    )
    return jnp.moveaxis(output, -1, 1)
