"""The convolution of any dtype on any platform: one bilinear map, and its derivatives."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from ..._dtypes import accumulation_dtype
from ..._xla import by_platform
from . import cpu
from .definition import Geometry, kernels_of_transpose, native
from .phases import Formulation, by_phases
from .tpu import channels_last


# `inline`, because XLA recognises fewer convolutions in a function that is called.
@partial(jax.jit, static_argnames="geometry", inline=True)
def convolve(
    input: jax.Array, weight: jax.Array, bias: jax.Array | None, geometry: Geometry
) -> jax.Array:
    """Convolve (N, in_channels, ...) with (out_channels, in_channels / groups, ...)."""
    if jnp.issubdtype(input.dtype, jnp.complexfloating):
        output = _complex(input, weight, geometry)
    elif jnp.issubdtype(input.dtype, jnp.floating):
        output = _bilinear(input, weight, geometry)
    else:
        output = native(input, weight, geometry)
    if bias is not None:
        wide_bias = bias.astype(output.dtype)
        output = output + lax.broadcast_in_dim(wide_bias, output.shape, (1,))
    return output.astype(input.dtype)


@partial(jax.jit, static_argnames="geometry", inline=True)
def convolve_transposed(
    input: jax.Array, weight: jax.Array, bias: jax.Array | None, geometry: Geometry
) -> jax.Array:
    """Convolve (N, in_channels, ...) with (in_channels, out_channels / groups, ...), transposed."""
    return convolve(input, kernels_of_transpose(weight, geometry.groups), bias, geometry)


def _complex(input: jax.Array, weight: jax.Array, geometry: Geometry) -> jax.Array:
    """By real convolutions, since the libraries of accelerators have no others."""
    real = _bilinear(input.real, weight.real, geometry) - _bilinear(
        input.imag, weight.imag, geometry
    )
    imag = _bilinear(input.real, weight.imag, geometry) + _bilinear(
        input.imag, weight.real, geometry
    )
    return lax.complex(real, imag)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _bilinear(input: jax.Array, weight: jax.Array, geometry: Geometry) -> jax.Array:
    """The convolution, in the accumulation dtype."""
    return _by_platform(cpu.values, geometry, input, weight)


@_bilinear.defjvp
def _bilinear_jvp(
    geometry: Geometry,
    primals: tuple[jax.Array, jax.Array],
    tangents: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array]:
    input, weight = primals
    d_input, d_weight = tangents
    # Checkpointed, since what they derive from `input` is as large as it is, and so that the
    # choice of the platform is part of the backward pass and no input to it.
    through_input, through_weight = (
        jax.checkpoint(partial(_by_platform, formulation, geometry), prevent_cse=False)
        for formulation in (cpu.through_input, cpu.through_weight)
    )
    d_output = through_input(d_input, weight) + through_weight(input, d_weight)
    return _bilinear(input, weight, geometry), d_output


def _by_platform(
    formulation: Formulation, geometry: Geometry, input: jax.Array, weight: jax.Array
) -> jax.Array:
    """The definition, or on a CPU the given formulation; both in the accumulation dtype."""
    wide = accumulation_dtype(input.dtype)

    def on_cpu(input: jax.Array, weight: jax.Array) -> jax.Array:
        return by_phases(formulation, input.astype(wide), weight.astype(wide), geometry)

    def default(input: jax.Array, weight: jax.Array) -> jax.Array:
        return native(input, weight, geometry).astype(wide)

    def on_tpu(input: jax.Array, weight: jax.Array) -> jax.Array:
        return channels_last(input, weight, geometry).astype(wide)

    own = on_tpu if geometry.groups > 1 else None
    # Sizes that are symbols, as in an export, are not known to be equal if computed otherwise.
    are_known = all(isinstance(size, int) for size in input.shape[2:])
    output: jax.Array = by_platform(on_cpu if are_known else default, default, tpu=own)(
        input, weight
    )
    return output
