"""Normalization."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._checks import accumulation_dtype, check_array, check_floating

AxisName = str | Sequence[str] | None
Scalar = float | Float[Array, ""]


def batch_norm(
    input: Float[Array, "N C *spatial"],
    running_mean: Float[Array, "C"] | None,
    running_var: Float[Array, "C"] | None,
    weight: Float[Array, "C"] | None = None,
    bias: Float[Array, "C"] | None = None,
    training: bool = False,
    momentum: Scalar = 0.1,
    eps: Scalar = 1e-5,
    *,
    axis_name: AxisName = None,
) -> Float[Array, "N C *spatial"]:
    """Normalise each channel, by the statistics of the batch or by running ones.

    y = (x - mean) / sqrt(var + eps) * weight + bias,
    with the mean and the biased variance of the channel over the batch in training, else with
    `running_mean` and `running_var`.

    The running statistics are not updated: see `batch_norm_with_stats`.

    Shapes: input (N, C, *spatial), kept; all others (C).

    Dtypes: any floating point. The parameters and statistics have the input's dtype, or, all of
    them, float32 for an input in half precision, which is computed in float32.

    Args:
        input: the batch.
        running_mean: the mean for evaluation, which gets no gradient.
        running_var: the variance for evaluation, which gets no gradient.
        weight: the scale of each channel; None for 1.
        bias: what is added to each channel; None for 0.
        training: whether the batch's own statistics are used, with the gradient through them.
        momentum: the share of the batch in the new running statistics.
        eps: what is added to the variance.
        axis_name: the mapped axis or axes (of vmap, shard_map or pmap) that the batch is spread
            over; the statistics are those of all of it.

    Raises:
        TypeError: if a dtype is none of those.
        ValueError: if a shape does not fit, statistics are missing, a channel has a single value in
            training, or eps is not positive in training, or negative.

    Source: Ioffe and Szegedy, 2015; torch.nn.functional.batch_norm.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.array([[1.0], [3.0]])
        >>> jaxnn.functional.batch_norm(x, None, None, training=True, eps=1e-12)
        Array([[-1.],
               [ 1.]], dtype=float32)
    """
    output, _, _ = batch_norm_with_stats(
        input,
        running_mean,
        running_var,
        weight,
        bias,
        training,
        momentum,
        eps,
        axis_name=axis_name,
    )
    return output


def batch_norm_with_stats(
    input: Float[Array, "N C *spatial"],
    running_mean: Float[Array, "C"] | None,
    running_var: Float[Array, "C"] | None,
    weight: Float[Array, "C"] | None = None,
    bias: Float[Array, "C"] | None = None,
    training: bool = False,
    momentum: Scalar = 0.1,
    eps: Scalar = 1e-5,
    *,
    axis_name: AxisName = None,
) -> tuple[Float[Array, "N C *spatial"], Float[Array, "C"] | None, Float[Array, "C"] | None]:
    """`batch_norm`, and the running statistics after it.

    running = (1 - momentum) * running + momentum * batch,
    with the batch's mean and its unbiased variance, in training; else as they were. No gradient
    flows to them or from them.

    Returns:
        The output, the running mean and the running variance; the latter None where they were.

    Raises:
        TypeError, ValueError: as `batch_norm`.

    Source: torch.nn.functional.batch_norm, which updates the running statistics in place.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.array([[1.0], [3.0]])
        >>> _, mean, var = jaxnn.functional.batch_norm_with_stats(
        ...     x, jnp.zeros(1), jnp.ones(1), training=True, momentum=0.5
        ... )
        >>> mean, var
        (Array([1.], dtype=float32), Array([1.5], dtype=float32))
    """
    input = check_array(input, "input", "batch_norm")
    vectors = {
        name: None if vector is None else check_array(vector, name, "batch_norm")
        for name, vector in {
            "running_mean": running_mean,
            "running_var": running_var,
            "weight": weight,
            "bias": bias,
        }.items()
    }
    _check_batch_norm(input, vectors, training, eps)
    mean, var, scale, offset = vectors.values()
    channels = input.shape[1]
    dtype = next((v.dtype for v in vectors.values() if v is not None), input.dtype)
    scale = jnp.ones(channels, dtype) if scale is None else scale
    offset = jnp.zeros(channels, dtype) if offset is None else offset
    wide = accumulation_dtype(input.dtype)
    eps = jnp.asarray(eps, wide)
    if not training:
        assert mean is not None
        assert var is not None
        return _normalize(input, mean, var, scale, offset, eps), mean, var

    names = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name or ())
    if _count(input, names) == 1:
        raise ValueError(
            "batch_norm: a channel of a single value cannot be normalised in training, got input "
            f"of shape {input.shape}; use a larger batch, or evaluation mode"
        )
    output, batch = _normalize_batch(input, scale, offset, eps, names)
    if mean is None or var is None or 0 in input.shape:
        return output, mean, var
    share = jnp.asarray(momentum, wide)
    # In Python's precision, where the momentum is known.
    kept = jnp.asarray(1 - momentum, wide)
    return output, *_update(mean, var, batch, share, kept)


def _check_batch_norm(
    input: jax.Array, vectors: dict[str, jax.Array | None], training: bool, eps: Scalar
) -> None:
    check_floating(input, "input", "batch_norm")
    if input.ndim < 2:
        raise ValueError(
            f"batch_norm: `input` must have the dimensions (N, C, ...), got shape {input.shape}"
        )
    given = {name: vector for name, vector in vectors.items() if vector is not None}
    allowed = {input.dtype, accumulation_dtype(input.dtype)}
    dtypes = {name: vector.dtype for name, vector in given.items()}
    if len(set(dtypes.values())) > 1 or not set(dtypes.values()) <= allowed:
        listed = ", ".join(f"`{name}` is {dtype}" for name, dtype in dtypes.items())
        raise TypeError(
            f"batch_norm: for an input of {input.dtype}, the parameters and statistics must all be "
            f"of {' or all of '.join(sorted(map(str, allowed)))}, but {listed}"
        )
    for name, vector in given.items():
        if vector.shape != (input.shape[1],):
            raise ValueError(
                f"batch_norm: `{name}` must have shape ({input.shape[1]},), one element for each "
                f"channel of an input of shape {input.shape}, got {vector.shape}"
            )
    has_mean, has_var = "running_mean" in given, "running_var" in given
    if has_mean != has_var or not (training or has_mean):
        raise ValueError(
            "batch_norm: `running_mean` and `running_var` must both be given in evaluation, and "
            "both or none in training"
        )
    if not isinstance(eps, jax.core.Tracer) and (eps < 0 or (training and eps <= 0)):
        raise ValueError(
            f"batch_norm: `eps` must be positive in training and not negative else, got {eps}"
        )


def _per_channel(vector: jax.Array, like: jax.Array) -> jax.Array:
    return lax.broadcast_in_dim(vector, like.shape, (1,))


@partial(jax.jit, inline=True)
def _normalize(
    input: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    weight: jax.Array,
    bias: jax.Array,
    eps: jax.Array,
) -> jax.Array:
    x, weight, bias = (array.astype(eps.dtype) for array in (input, weight, bias))
    mean, var = (lax.stop_gradient(array).astype(eps.dtype) for array in (mean, var))
    scale = weight * lax.rsqrt(var + eps)
    y = (x - _per_channel(mean, x)) * _per_channel(scale, x) + _per_channel(bias, x)
    return y.astype(input.dtype)


class _Statistics(NamedTuple):
    """A batch's statistics for each channel: the mean is `shift + offset`."""

    shift: jax.Array
    offset: jax.Array
    var: jax.Array
    unbiased_var: jax.Array


def _count(input: jax.Array, names: tuple[str, ...]) -> Any:
    """Return the number of values a channel, over the whole batch; symbolic where a size is."""
    local = math.prod((input.shape[0], *input.shape[2:]))
    return local * lax.psum(1, names) if names else local


def _channel_means(
    arrays: tuple[jax.Array, ...], count: jax.Array, names: tuple[str, ...]
) -> tuple[jax.Array, ...]:
    sums = tuple(array.sum((0, *range(2, array.ndim))) for array in arrays)
    sums = lax.psum(sums, names) if names else sums
    return tuple(total / count for total in sums)


def _batch_statistics(input: jax.Array, dtype: Any, names: tuple[str, ...]) -> _Statistics:
    x = input.astype(dtype)
    count = jnp.asarray(_count(input, names)).astype(dtype)
    # The mean of squares less the square of the mean would cancel; and a mean that is large
    # against the deviation cannot be held exactly. So a first mean is subtracted, which is exact,
    # and both moments are taken of the rest.
    (shift,) = _channel_means((x,), count, names)
    centred = x - _per_channel(shift, x)
    offset, square = _channel_means((centred, centred * centred), count, names)
    var = square - offset * offset
    # Below this the offset is the rounding of its own sum, and the first mean is the better one.
    noise = 8 * jnp.finfo(dtype).eps * jnp.sqrt(square)
    offset = jnp.where(jnp.abs(offset) <= noise, jnp.zeros_like(offset), offset)
    return _Statistics(shift, offset, var, var * (count / (count - 1)))


@partial(jax.jit, static_argnames="names", inline=True)
def _normalize_batch(
    input: jax.Array, weight: jax.Array, bias: jax.Array, eps: jax.Array, names: tuple[str, ...]
) -> tuple[jax.Array, _Statistics]:
    return _normalize_by_own_statistics(input, weight, bias, eps, names)


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def _normalize_by_own_statistics(
    input: jax.Array, weight: jax.Array, bias: jax.Array, eps: jax.Array, names: tuple[str, ...]
) -> tuple[jax.Array, _Statistics]:
    statistics = _batch_statistics(input, eps.dtype, names)
    scale = weight.astype(eps.dtype) * lax.rsqrt(statistics.var + eps)
    centred = _centred(input, statistics)
    y = centred * _per_channel(scale, input) + _per_channel(bias.astype(eps.dtype), input)
    return y.astype(input.dtype), statistics


@_normalize_by_own_statistics.defjvp
def _normalize_by_own_statistics_jvp(
    names: tuple[str, ...],
    primals: tuple[jax.Array, ...],
    tangents: tuple[jax.Array, ...],
) -> tuple[tuple[jax.Array, _Statistics], tuple[jax.Array, _Statistics]]:
    input, weight, _, eps = primals
    # The statistics that leave have no derivative; those in the derivative itself do, for a second
    # one, and so are not taken from there.
    statistics = _batch_statistics(input, eps.dtype, names)
    # Without the checkpoint, the normalised input would be kept for the backward pass, beside the
    # input; it is made again from the statistics.
    derivative = jax.checkpoint(partial(_batch_derivative, names), prevent_cse=False)
    d_output = derivative(input, weight, eps, statistics, tangents)
    no_change = jax.tree.map(jnp.zeros_like, statistics)
    return _normalize_by_own_statistics(*primals, names), (d_output, no_change)


def _batch_derivative(
    names: tuple[str, ...],
    input: jax.Array,
    weight: jax.Array,
    eps: jax.Array,
    statistics: _Statistics,
    tangents: tuple[jax.Array, ...],
) -> jax.Array:
    """The derivative of the output, linear in the tangents.

    Collected so that its transpose reduces the output's cotangent twice, and no more.
    """
    d_input, d_weight, d_bias = (tangent.astype(eps.dtype) for tangent in tangents[:3])
    inverse = lax.rsqrt(statistics.var + eps)
    normalized = _centred(input, statistics) * _per_channel(inverse, input)
    count = jnp.asarray(_count(input, names)).astype(eps.dtype)
    d_mean, d_along = _channel_means((d_input, normalized * d_input), count, names)
    scale = weight.astype(eps.dtype) * inverse
    constant = d_bias - scale * d_mean
    slope = d_weight - scale * (d_along + inverse * tangents[3] / 2)
    d_output = (
        _per_channel(scale, input) * d_input
        + _per_channel(constant, input)
        + normalized * _per_channel(slope, input)
    )
    return d_output.astype(input.dtype)


def _centred(input: jax.Array, statistics: _Statistics) -> jax.Array:
    x = input.astype(statistics.shift.dtype)
    return (x - _per_channel(statistics.shift, x)) - _per_channel(statistics.offset, x)


@partial(jax.jit, inline=True)
def _update(
    running_mean: jax.Array,
    running_var: jax.Array,
    batch: _Statistics,
    momentum: jax.Array,
    kept: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    def mix(running: jax.Array, new: jax.Array) -> jax.Array:
        mixed = kept * running.astype(kept.dtype) + momentum * new
        return lax.stop_gradient(mixed.astype(running.dtype))

    return mix(running_mean, batch.shift + batch.offset), mix(running_var, batch.unbiased_var)
