"""Batch and instance normalisation, which may keep running statistics."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._checks import check_array, check_floating, check_parameters
from ..._dtypes import accumulation_dtype
from ..._types import AxisName, Scalar
from .definition import Statistics, count_of, normalize_by, updated
from .own_statistics import normalize_by_own_statistics


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
    vectors = _vectors("batch_norm", running_mean, running_var, weight, bias)
    _check_batch_norm(input, vectors, training, eps)
    mean, var, scale, offset = _with_defaults(vectors, input)
    wide = accumulation_dtype(input.dtype)
    eps = jnp.asarray(eps, wide)
    if not training:
        assert mean is not None
        assert var is not None
        return normalize_by(input, mean, var, scale, offset, eps), mean, var

    names = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name or ())
    if count_of(input, 1, names) == 1:
        raise ValueError(
            "batch_norm: a channel of a single value cannot be normalised in training, got input "
            f"of shape {input.shape}; use a larger batch, or evaluation mode"
        )
    output, batch = normalize_by_own_statistics(input, scale, offset, eps, 1, names)
    if mean is None or var is None or 0 in input.shape:
        return output, mean, var
    share = jnp.asarray(momentum, wide)
    # In Python's precision, where the momentum is known.
    kept = jnp.asarray(1 - momentum, wide)
    return output, *updated(mean, var, batch, share, kept)


def _vectors(layer: str, *given: jax.Array | None) -> dict[str, jax.Array | None]:
    names = ("running_mean", "running_var", "weight", "bias")
    return {
        name: None if vector is None else check_array(vector, name, layer)
        for name, vector in zip(names, given, strict=True)
    }


def _with_defaults(
    vectors: dict[str, jax.Array | None], input: jax.Array
) -> tuple[jax.Array | None, jax.Array | None, jax.Array, jax.Array]:
    """Return mean, variance, scale and offset; the latter two 1 and 0 where they are not given."""
    mean, var, scale, offset = vectors.values()
    channels = input.shape[1]
    dtype = next((v.dtype for v in vectors.values() if v is not None), input.dtype)
    scale = jnp.ones(channels, dtype) if scale is None else scale
    offset = jnp.zeros(channels, dtype) if offset is None else offset
    return mean, var, scale, offset


def _check_batch_norm(
    input: jax.Array, vectors: dict[str, jax.Array | None], training: bool, eps: Scalar
) -> None:
    check_floating(input, "input", "batch_norm")
    if input.ndim < 2:
        raise ValueError(
            f"batch_norm: `input` must have the dimensions (N, C, ...), got shape {input.shape}"
        )
    given = {name: vector for name, vector in vectors.items() if vector is not None}
    check_parameters(input, given, (input.shape[1],), "batch_norm")
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


def instance_norm(
    input: Float[Array, "N C *spatial"],
    running_mean: Float[Array, "C"] | None = None,
    running_var: Float[Array, "C"] | None = None,
    weight: Float[Array, "C"] | None = None,
    bias: Float[Array, "C"] | None = None,
    use_input_stats: bool = True,
    momentum: Scalar = 0.1,
    eps: Scalar = 1e-5,
) -> Float[Array, "N C *spatial"]:
    """Normalise each channel of each sample, by its own statistics or by running ones.

    y = (x - mean) / sqrt(var + eps) * weight + bias,
    with the mean and the biased variance of the channel over its positions in the sample, or,
    without `use_input_stats`, with `running_mean` and `running_var`.

    The running statistics are not updated: see `instance_norm_with_stats`.

    Shapes: input (N, C, *spatial), kept; all others (C). Without `use_input_stats` also (N, C).

    Dtypes: as `batch_norm`.

    Args:
        input: the samples.
        running_mean: the mean to use, or to update, which gets no gradient.
        running_var: the variance to use, or to update, which gets no gradient.
        weight: the scale of each channel; None for 1.
        bias: what is added to each channel; None for 0.
        use_input_stats: whether the sample's own statistics are used, with the gradient through
            them.
        momentum: the share of the batch in the new running statistics.
        eps: what is added to the variance.

    Raises:
        TypeError: if a dtype is none of those.
        ValueError: if a shape does not fit, a statistic is missing, or a channel has a single
            position while its own statistics are to be used.

    Source: Ulyanov et al., 2016; torch.nn.functional.instance_norm.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.instance_norm(jnp.array([[[1.0, 3.0]]]), eps=1e-12)
        Array([[[-1.,  1.]]], dtype=float32)
    """
    output, _, _ = instance_norm_with_stats(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )
    return output


def instance_norm_with_stats(
    input: Float[Array, "N C *spatial"],
    running_mean: Float[Array, "C"] | None = None,
    running_var: Float[Array, "C"] | None = None,
    weight: Float[Array, "C"] | None = None,
    bias: Float[Array, "C"] | None = None,
    use_input_stats: bool = True,
    momentum: Scalar = 0.1,
    eps: Scalar = 1e-5,
) -> tuple[Float[Array, "N C *spatial"], Float[Array, "C"] | None, Float[Array, "C"] | None]:
    """`instance_norm`, and the running statistics after it.

    running = (1 - momentum) * running + momentum * (the mean over the batch of the statistic),
    with each sample's mean and unbiased variance, where its own statistics are used; else as they
    were. No gradient flows to them or from them.

    Returns:
        The output, the running mean and the running variance; the latter None where they were.

    Raises:
        TypeError, ValueError: as `instance_norm`.

    Source: torch.nn.functional.instance_norm, which updates the running statistics in place.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.array([[[1.0, 3.0]], [[5.0, 7.0]]])
        >>> _, mean, var = jaxnn.functional.instance_norm_with_stats(
        ...     x, jnp.zeros(1), jnp.ones(1), momentum=0.5
        ... )
        >>> mean, var
        (Array([2.], dtype=float32), Array([1.5], dtype=float32))
    """
    input, vectors = _instance_norm_arguments(
        input, running_mean, running_var, weight, bias, use_input_stats
    )
    mean, var, scale, offset = _with_defaults(vectors, input)
    batch, channels, *spatial = input.shape
    wide = accumulation_dtype(input.dtype)
    eps = jnp.asarray(eps, wide)
    if not use_input_stats:
        assert mean is not None
        assert var is not None
        return normalize_by(input, mean, var, scale, offset, eps), mean, var

    # Each channel of each sample is one channel of a batch of one.
    joined = input.reshape((1, batch * channels, *spatial))
    repeated = (
        jnp.broadcast_to(v[None], (batch, channels)).reshape(batch * channels)
        for v in (scale, offset)
    )
    output, own = normalize_by_own_statistics(joined, *repeated, eps, 1)
    output = output.reshape(input.shape)
    if mean is None or var is None or 0 in input.shape:
        return output, mean, var
    average = jax.tree.map(lambda v: v.reshape(batch, channels).mean(0), own)
    share = jnp.asarray(momentum, wide)
    # In Python's precision, where the momentum is known.
    kept = jnp.asarray(1 - momentum, wide)
    return output, *updated(mean, var, Statistics(*average), share, kept)


def _instance_norm_arguments(
    input: jax.Array,
    running_mean: jax.Array | None,
    running_var: jax.Array | None,
    weight: jax.Array | None,
    bias: jax.Array | None,
    use_input_stats: bool,
) -> tuple[jax.Array, dict[str, jax.Array | None]]:
    input = check_array(input, "input", "instance_norm")
    vectors = _vectors("instance_norm", running_mean, running_var, weight, bias)
    check_floating(input, "input", "instance_norm")
    # A single position has no statistics of its own, but may be normalised by running ones.
    if input.ndim < (3 if use_input_stats else 2):
        raise ValueError(
            "instance_norm: `input` must have the dimensions (N, C, positions, ...), or (N, C) "
            f"where its own statistics are not used, got shape {input.shape}"
        )
    given = {name: vector for name, vector in vectors.items() if vector is not None}
    check_parameters(input, given, (input.shape[1],), "instance_norm")
    has_mean, has_var = "running_mean" in given, "running_var" in given
    if has_mean != has_var or not (use_input_stats or has_mean):
        raise ValueError(
            "instance_norm: `running_mean` and `running_var` must both be given where the input's "
            "own statistics are not used, and both or none else"
        )
    if use_input_stats and all(size == 1 for size in input.shape[2:]):
        raise ValueError(
            "instance_norm: a channel of a single position cannot be normalised by its own "
            f"statistics, got input of shape {input.shape}; give it more than one, or running "
            "statistics and use_input_stats=False"
        )
    return input, vectors
