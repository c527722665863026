"""Fractional max pooling: an N-d core, and thin 2d and 3d functions over it.

Windows of one size lie at pseudo-random steps, of which each sample and channel has its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ..._checks import check_array, check_floating, ntuple
from ..._dtypes import accumulation_dtype, index_dtype
from ..._types import IntOrInts
from ._windows import check_rank
from .max_pool.winners import pick_by_gather

Ratio = float | Sequence[float]


def fractional_max_pool2d(
    input: Float[Array, "*N C H W"],
    kernel_size: IntOrInts,
    output_size: IntOrInts | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Float[Array, "N C 2"] | None = None,
    *,
    rng: jax.Array | None = None,
) -> Any:
    """Maximum of each window over the last two axes, the windows at pseudo-random steps.

    Formula:
        out[n, c, y, x] = max over i < kH, j < kW of input[n, c, a(y) + i, b(x) + j]

    with b(o) = floor((o + u) * r) - floor(u * r), r = (W - kW) / (W_out - 1), but b(W_out - 1) =
    W - kW, for u = _random_samples[n, c, 0]; a likewise over H for u = _random_samples[n, c, 1].

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N.

    Args:
        input: floating-point.
        kernel_size: positions in a window; one number or (height, width).
        output_size: H_out and W_out, or one number for both.
        output_ratio: where there is no `output_size`: H_out / H and W_out / W, rounded down.
        return_indices: whether to return the maxima's positions too.
        _random_samples: the numbers u, from 0 up to but without 1, of the input's dtype; at least N
            (without a batch, 1) rows of them.
        rng: the key from which they are drawn where they are not given.

    Returns:
        The maxima; with `return_indices` a pair of them and their positions h * W + w: the first of
        equals, the last of NaNs.

    Raises:
        TypeError: if a dtype or an option is not of its type.
        ValueError: if an option is out of range, a shape does not fit, or `rng` is needed.

    Source: Graham, 2014; torch.nn.functional.fractional_max_pool2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.arange(16.0).reshape(1, 4, 4)
        >>> u = jnp.full((1, 1, 2), 0.25)
        >>> jaxnn.functional.fractional_max_pool2d(x, 2, 2, _random_samples=u)
        Array([[[ 5.,  7.],
                [13., 15.]]], dtype=float32)
    """
    options = kernel_size, output_size, output_ratio, return_indices, _random_samples, rng
    return _fractional_max_pool_nd(2, input, *options)


def fractional_max_pool3d(
    input: Float[Array, "*N C D H W"],
    kernel_size: IntOrInts,
    output_size: IntOrInts | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Float[Array, "N C 3"] | None = None,
    *,
    rng: jax.Array | None = None,
) -> Any:
    """Maximum of each window over the last three axes, the windows at pseudo-random steps.

    See `fractional_max_pool2d`. The numbers u of depth, height and width are _random_samples[n, c]
    in this order; positions are (d * H + h) * W + w.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N.

    Raises:
        TypeError, ValueError: as `fractional_max_pool2d`.

    Source: Graham, 2014; torch.nn.functional.fractional_max_pool3d.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.arange(27.0).reshape(1, 3, 3, 3)
        >>> jaxnn.functional.fractional_max_pool3d(x, 2, 1, rng=jax.random.key(0))
        Array([[[[26.]]]], dtype=float32)
    """
    options = kernel_size, output_size, output_ratio, return_indices, _random_samples, rng
    return _fractional_max_pool_nd(3, input, *options)


def fractional_max_pool2d_with_indices(
    input: Float[Array, "*N C H W"],
    kernel_size: IntOrInts,
    output_size: IntOrInts | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Float[Array, "N C 2"] | None = None,
    *,
    rng: jax.Array | None = None,
) -> tuple[Float[Array, "*N C H_out W_out"], Int[Array, "*N C H_out W_out"]]:
    """`fractional_max_pool2d` that returns the indices whatever `return_indices` says, as in torch.

    Shapes, dtypes and errors: as for `fractional_max_pool2d`.

    Source: torch.nn.functional.fractional_max_pool2d_with_indices.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxnn
        >>> pool = jaxnn.functional.fractional_max_pool2d_with_indices
        >>> pool(jnp.arange(9.0).reshape(1, 3, 3), 2, 1, rng=jax.random.key(0))
        (Array([[[8.]]], dtype=float32), Array([[[8]]], dtype=int32))
    """
    options = kernel_size, output_size, output_ratio, True, _random_samples, rng
    pair: tuple[Array, Array] = _fractional_max_pool_nd(2, input, *options)
    return pair


def fractional_max_pool3d_with_indices(
    input: Float[Array, "*N C D H W"],
    kernel_size: IntOrInts,
    output_size: IntOrInts | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Float[Array, "N C 3"] | None = None,
    *,
    rng: jax.Array | None = None,
) -> tuple[Float[Array, "*N C D_out H_out W_out"], Int[Array, "*N C D_out H_out W_out"]]:
    """`fractional_max_pool3d` that returns the indices whatever `return_indices` says, as in torch.

    Shapes, dtypes and errors: as for `fractional_max_pool3d`.

    Source: torch.nn.functional.fractional_max_pool3d_with_indices.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxnn
        >>> pool = jaxnn.functional.fractional_max_pool3d_with_indices
        >>> pool(jnp.arange(27.0).reshape(1, 3, 3, 3), 2, 1, rng=jax.random.key(0))
        (Array([[[[26.]]]], dtype=float32), Array([[[[26]]]], dtype=int32))
    """
    options = kernel_size, output_size, output_ratio, True, _random_samples, rng
    pair: tuple[Array, Array] = _fractional_max_pool_nd(3, input, *options)
    return pair


def fractional_options(
    n: int,
    layer: str,
    kernel_size: IntOrInts,
    output_size: IntOrInts | None,
    output_ratio: Ratio | None,
) -> tuple[tuple[int, ...], tuple[int, ...] | None, tuple[float, ...] | None]:
    """Check the options of fractional max pooling over `n` axes, and return them along each axis.

    Raises:
        TypeError: if an option is not of its type.
        ValueError: if an option is out of range, or neither size nor ratio is given.
    """
    options = {"kernel_size": kernel_size, "output_size": output_size, "output_ratio": output_ratio}
    for name, value in options.items():
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) != n:
            raise ValueError(f"{layer}: `{name}` must be one number or {n}, got {value!r}")
    kernels = ntuple(kernel_size, n, "kernel_size", layer, minimum=1)
    if output_size is not None:
        return kernels, ntuple(output_size, n, "output_size", layer, minimum=0), None
    if output_ratio is None:
        raise ValueError(f"{layer}: one of `output_size` and `output_ratio` must be given")
    given = output_ratio if isinstance(output_ratio, Sequence) else (output_ratio,) * n
    for ratio in given:
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float, np.number)):
            raise TypeError(
                f"{layer}: `output_ratio` must be a number or {n}, got {output_ratio!r}"
            )
        if not ratio >= 0:
            raise ValueError(f"{layer}: `output_ratio` must not be negative, got {output_ratio!r}")
    return kernels, None, tuple(float(ratio) for ratio in given)


def _fractional_max_pool_nd(
    n: int,
    input: Array,
    kernel_size: IntOrInts,
    output_size: IntOrInts | None,
    output_ratio: Ratio | None,
    return_indices: bool,
    samples: Array | None,
    rng: jax.Array | None,
) -> Any:
    layer = f"fractional_max_pool{n}d"
    kernels, counts, ratios = fractional_options(n, layer, kernel_size, output_size, output_ratio)
    input = check_array(input, "input", layer)
    check_rank(input, n, layer)
    check_floating(input, "input", layer)
    if any(size == 0 for size in input.shape[1:]):
        raise ValueError(
            f"{layer}: `input` may be empty only in the first dimension, got shape {input.shape}"
        )
    sizes = input.shape[-n:]
    if counts is None:
        assert ratios is not None
        counts = tuple(int(size * ratio) for size, ratio in zip(sizes, ratios, strict=True))
    # torch wants one position more over three axes.
    spare = [s - k - c + 1 - (n == 3) for s, k, c in zip(sizes, kernels, counts, strict=True)]
    if min(spare) < 0:
        raise ValueError(
            f"{layer}: `input` of shape {input.shape} is too small for {counts} windows of "
            f"{kernels}; take a smaller kernel_size or output_size"
        )
    samples = _samples(n, layer, input, samples, rng)
    output, indices = _fractional_max(input, samples, kernels, counts)
    return (output, indices) if return_indices else output


def _samples(
    n: int, layer: str, input: Array, given: Array | None, rng: jax.Array | None
) -> Float[Array, "N C n"]:
    """Return the random numbers: those given, if they fit, or drawn from `rng`."""
    batch = input.shape[0] if input.ndim == n + 2 else 1
    channels = input.shape[-n - 1]
    if given is None:
        if rng is None:
            raise ValueError(f"{layer}: `rng` is needed to draw: pass rng=jax.random.key(0)")
        return jax.random.uniform(rng, (batch, channels, n), accumulation_dtype(input.dtype))
    samples = check_array(given, "_random_samples", layer)
    if samples.dtype != input.dtype:
        raise TypeError(
            f"{layer}: `_random_samples` must be of the input's dtype {input.dtype}, got "
            f"{samples.dtype}"
        )
    too_few = isinstance(batch, int) and samples.ndim == 3 and samples.shape[0] < batch
    if samples.ndim != 3 or samples.shape[1:] != (channels, n) or too_few:
        raise ValueError(
            f"{layer}: `_random_samples` must have shape {(batch, channels, n)}, got "
            f"{samples.shape}"
        )
    return samples[:batch]


@partial(jax.jit, static_argnums=(2, 3), inline=True)
def _fractional_max(
    x: Float[Array, "..."],
    samples: Float[Array, "N C n"],
    kernels: tuple[int, ...],
    counts: tuple[int, ...],
) -> tuple[Float[Array, "..."], Int[Array, "..."]]:
    n, lead = len(kernels), x.shape[: -len(kernels)]
    if 0 in counts:
        empty = jnp.zeros((*lead, *counts), x.dtype)
        return empty, empty.astype(index_dtype())
    # Over two axes torch gives the first number to the last of them.
    u = samples.astype(accumulation_dtype(x.dtype)).reshape(*lead, n)[..., :: -1 if n == 2 else 1]
    options = zip(x.shape[-n:], kernels, counts, strict=True)
    starts = [_starts(u[..., i], *along) for i, along in enumerate(options)]
    windows = _flat_windows(starts, x.shape, kernels)
    fixed, along = lax.stop_gradient(x).reshape(*lead, math.prod(x.shape[-n:])), len(lead)
    values = jnp.take_along_axis(
        fixed, windows.reshape(*lead, math.prod(windows.shape[along:])), -1
    )
    places = _place_of_maximum(values.reshape(windows.shape))
    indices = jnp.take_along_axis(windows, places, -1)[..., 0]
    indices = indices.reshape(*lead, *counts)
    return pick_by_gather(x, indices, n), indices.astype(index_dtype())


def _starts(u: Float[Array, "*lead"], size: int, kernel: int, count: int) -> Int[Array, "*lead o"]:
    """Return where each window along one axis starts."""
    last = jnp.full((*u.shape, 1), size - kernel, jnp.int32)
    if count == 1:
        return last
    # Rounded as torch rounds, since the integer part of the product may depend on it.
    step = jnp.asarray(np.asarray(size - kernel, u.dtype) / np.asarray(count - 1, u.dtype))
    u = u[..., None]
    position = jnp.arange(count - 1, dtype=u.dtype).reshape((1,) * (u.ndim - 1) + (-1,))
    starts = ((position + u) * step).astype(jnp.int32) - (u * step).astype(jnp.int32)
    return jnp.concatenate([starts, last], -1)


def _flat_windows(
    starts: list[Int[Array, "*lead o"]], shape: tuple[int, ...], kernels: tuple[int, ...]
) -> Int[Array, "*lead windows taps"]:
    """Return the flat position of every tap of every window, in row-major order."""
    n, lead = len(kernels), starts[0].shape[:-1]
    along = []
    for i, (start, kernel) in enumerate(zip(starts, kernels, strict=True)):
        taps = start[..., None] + jnp.arange(kernel, dtype=jnp.int32).reshape(
            (1,) * start.ndim + (-1,)
        )
        spread = [1] * (2 * n)
        spread[i], spread[n + i] = taps.shape[-2:]
        along.append(taps.reshape(*lead, *spread))
    flat = along[0]
    for places, size in zip(along[1:], shape[-n + 1 :], strict=True):
        flat = flat * size + places
    windows = math.prod(start.shape[-1] for start in starts)
    return flat.reshape(*lead, windows, math.prod(kernels))


def _place_of_maximum(values: Float[Array, "*lead taps"]) -> Int[Array, "*lead 1"]:
    """Return where the last axis has its maximum: the first of equals, but the last NaN."""
    nan = jnp.isnan(values)
    last_nan = values.shape[-1] - 1 - jnp.argmax(nan[..., ::-1], -1, keepdims=True)
    return jnp.where(
        nan.any(-1, keepdims=True), last_nan, jnp.argmax(values, -1, keepdims=True)
    ).astype(jnp.int32)
