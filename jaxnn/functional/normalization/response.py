"""Local response normalisation, across neighbouring channels."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..._checks import check_array, check_floating, check_int
from ..._dtypes import accumulation_dtype
from ..._types import Scalar


def local_response_norm(
    input: Float[Array, "N C *spatial"],
    size: int,
    alpha: Scalar = 1e-4,
    beta: Scalar = 0.75,
    k: Scalar = 1.0,
) -> Float[Array, "N C *spatial"]:
    """Divide by a power of the mean square over neighbouring channels.

    y_c = x_c / (k + alpha / size * sum_j x_j^2)^beta,
    j from c - size // 2 to c + (size - 1) // 2, of which those outside count as 0.

    Shapes: (N, C, *spatial), with one spatial dimension at least; kept.

    Dtypes: any floating point. Half precision is computed in float32.

    Raises:
        TypeError: if the input is not floating-point.
        ValueError: if it has fewer than three dimensions, or `size` is not positive.

    Source: Krizhevsky, Sutskever and Hinton, 2012; torch.nn.functional.local_response_norm.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.ones((1, 3, 1))
        >>> jaxnn.functional.local_response_norm(x, 2, alpha=2.0, beta=1.0).ravel()
        Array([0.5       , 0.33333334, 0.33333334], dtype=float32)
    """
    input = check_array(input, "input", "local_response_norm")
    check_floating(input, "input", "local_response_norm")
    size = check_int(size, "size", "local_response_norm", minimum=1)
    if input.ndim < 3:
        raise ValueError(
            "local_response_norm: `input` must have the dimensions (N, C, positions, ...), got "
            f"shape {input.shape}"
        )
    wide = accumulation_dtype(input.dtype)
    return _local_response_norm(input, size, *(jnp.asarray(v, wide) for v in (alpha, beta, k)))


@partial(jax.jit, static_argnums=1, inline=True)
def _local_response_norm(
    input: jax.Array, size: int, alpha: jax.Array, beta: jax.Array, k: jax.Array
) -> jax.Array:
    x = input.astype(alpha.dtype)
    window = [1] * x.ndim
    window[1] = size
    padding = [(0, 0)] * x.ndim
    padding[1] = (size // 2, (size - 1) // 2)
    sums = lax.reduce_window(x * x, np.zeros((), x.dtype), lax.add, window, [1] * x.ndim, padding)
    return (x / (sums * (alpha / size) + k) ** beta).astype(input.dtype)


def cross_map_lrn2d(
    input: Float[Array, "N C H W"],
    size: int,
    alpha: Scalar = 1e-4,
    beta: Scalar = 0.75,
    k: Scalar = 1.0,
) -> Float[Array, "N C H W"]:
    """Local response normalisation as torch.nn.CrossMapLRN2d has it.

    y_c = x_c * (k + alpha / size * sum_j x_j^2)^-beta,
    j from c - h to c + h with h = (size - 1) // 2, and j = 0 always.

    The derivative is torch's, too, which is not that of the formula: its sum goes over the `size`
    outputs from c - (size - (size - 1) / 2) (rounded towards zero) on.

    Shapes: (N, C, H, W), kept.

    Dtypes: any floating point. Half precision is computed in float32.

    Raises:
        TypeError: if the input is not floating-point.
        ValueError: if it has not four dimensions or no channel, or `size` is not positive; and,
            where it is differentiated, if `size` is 1.

    Source: torch.nn.CrossMapLRN2d.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.functional.normalization import cross_map_lrn2d
        >>> cross_map_lrn2d(jnp.ones((1, 3, 1, 1)), 3, alpha=3.0, beta=1.0).ravel()
        Array([0.33333334, 0.25      , 0.25      ], dtype=float32)
    """
    input = check_array(input, "input", "cross_map_lrn2d")
    check_floating(input, "input", "cross_map_lrn2d")
    size = check_int(size, "size", "cross_map_lrn2d", minimum=1)
    if input.ndim != 4 or input.shape[1] == 0:
        raise ValueError(
            "cross_map_lrn2d: `input` must have the dimensions (N, C, H, W) and at least one "
            f"channel, got shape {input.shape}"
        )
    wide = accumulation_dtype(input.dtype)
    options = (jnp.asarray(v, wide) for v in (alpha, beta, k))
    return _cross_map(input.astype(wide), size, *options).astype(input.dtype)


@partial(jax.jit, static_argnums=1, inline=True)
def _cross_map(
    x: jax.Array, size: int, alpha: jax.Array, beta: jax.Array, k: jax.Array
) -> jax.Array:
    return _cross_map_lrn(x, size, alpha, beta, k)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _cross_map_lrn(
    x: jax.Array, size: int, alpha: jax.Array, beta: jax.Array, k: jax.Array
) -> jax.Array:
    return x * _cross_map_scale(x, size, alpha, k) ** -beta


def _cross_map_scale(x: jax.Array, size: int, alpha: jax.Array, k: jax.Array) -> jax.Array:
    reach = (size - 1) // 2
    squares = x * x
    sums = _sums_of_channels(squares, reach, reach)
    # The first channel stays in all sums.
    is_far = jnp.arange(x.shape[1]) > reach
    sums += jnp.where(is_far[None, :, None, None], squares[:, :1], 0)
    return sums * (alpha / size) + k


def _sums_of_channels(x: jax.Array, before: int, after: int) -> jax.Array:
    """Return for each channel its sum with those before and after it."""
    window, widths = (1, before + after + 1, 1, 1), ((0, 0), (before, after), (0, 0), (0, 0))
    return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, window, (1, 1, 1, 1), widths)


@_cross_map_lrn.defjvp
def _cross_map_lrn_jvp(
    size: int, primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    x, alpha, beta, k = primals
    if size == 1:
        raise ValueError("cross_map_lrn2d: torch has no derivative for `size` 1; use a larger one")
    scale = _cross_map_scale(x, size, alpha, k)
    y = x * scale**-beta
    # Torch's own: input i gets its gradient from the outputs i - before to i - before + size - 1.
    before = int(size - (size - 1) / 2)
    along = _sums_of_channels(x * tangents[0], size - 1 - before, before)
    d_y = scale**-beta * tangents[0] - (2 * alpha * beta / size) * (y / scale) * along
    return y, d_y
