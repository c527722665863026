"""Batch and instance normalisation, by statistics of the input or by running ones."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ... import functional as F
from ..._dtypes import accumulation_dtype
from ..._types import AxisName
from .._module import name_of
from .._state import value_of
from ._statistics import LazyNorm, NormWithStatistics


class BatchNorm(NormWithStatistics):
    """Batch normalisation of inputs of the ranks `_ranks`."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        axis_name: AxisName = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_statistics(num_features, eps, momentum, affine, track_running_stats, bias, dtype)
        self.axis_name = (
            axis_name if axis_name is None or isinstance(axis_name, str) else tuple(axis_name)
        )

    def __call__(self, input: Float[Array, "N C *spatial"]) -> Float[Array, "N C *spatial"]:
        self._check_input(input)
        updates = self.track_running_stats and not self.use_running_average
        momentum: Any = 0.0 if self.momentum is None else self.momentum
        if updates and self.momentum is None:
            dtype = accumulation_dtype(self.running_mean.dtype)
            momentum = 1 / (self.num_batches_tracked[...].astype(dtype) + 1)
        output, mean, var = F.batch_norm_with_stats(
            input,
            value_of(self.running_mean),
            value_of(self.running_var),
            value_of(self.weight),
            value_of(self.bias),
            training=not (self.use_running_average and self.track_running_stats),
            momentum=momentum,
            eps=self.eps,
            axis_name=self.axis_name,
        )
        if updates:
            # Not `[...] =`, which asks the value for its sharding: a search of all of a trace.
            self.running_mean.set_value(mean)
            self.running_var.set_value(var)
            count = self.num_batches_tracked[...]
            # At the end of the integers it stays, where one more would be negative.
            is_last = count == jnp.iinfo(count.dtype).max
            self.num_batches_tracked.set_value(count + jnp.where(is_last, 0, 1).astype(count.dtype))
        return output

    def _check_input(self, input: jax.Array) -> None:
        shape = self._check_rank(input).shape
        if shape[1] != self.num_features and (self.affine or self.track_running_stats):
            raise ValueError(
                f"{name_of(self)}: `input` must have num_features={self.num_features} "
                f"channels, got {shape[1]} in shape {shape}"
            )


class BatchNorm1d(BatchNorm):
    """Normalise each channel of a batch of vectors or sequences; see `BatchNorm2d`.

    Shapes: (N, C) or (N, C, L), kept.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.BatchNorm1d(1, eps=1e-12)(jnp.array([[1.0], [3.0]]))
        Array([[-1.],
               [ 1.]], dtype=float32)
    """

    _ranks = (2, 3)


class BatchNorm2d(BatchNorm):
    """Normalise each channel of a batch of images: see `jaxnn.functional.batch_norm`.

    In training, the statistics are the batch's, and running = (1 - momentum) * running + momentum *
    batch, with the unbiased variance. In evaluation they are the running ones, which stay as they
    are. Without running statistics they are always the batch's.

    Shapes: (N, C, H, W), kept.

    Args:
        num_features: C.
        eps: what is added to the variance.
        momentum: the batch's share in the new running statistics; None for the average over all
            batches.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running statistics.
        bias: whether there is a bias, where `affine` is set.
        axis_name: the mapped axis or axes that the batch is spread over; the statistics are those
            of all of it.
        dtype: the dtype of parameters and statistics. The input has the same, or half precision
            where it is float32.

    Attributes:
        weight: the scale of each channel, at first 1, of shape (C); or None.
        bias: what is added to each channel, at first 0, of shape (C); or None.
        running_mean: at first 0, of shape (C); or None.
        running_var: at first 1, of shape (C); or None.
        num_batches_tracked: the number of batches seen in training, of shape (); or None.
        use_running_average: True in evaluation mode.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> layer = jaxnn.BatchNorm2d(1, momentum=0.5)
        >>> _ = layer(jnp.array([1.0, 3.0]).reshape(1, 1, 1, 2))
        >>> layer.running_mean[...], layer.running_var[...]
        (Array([1.], dtype=float32), Array([1.5], dtype=float32))
        >>> layer.eval()(jnp.ones((1, 1, 1, 1)))
        Array([[[[0.]]]], dtype=float32)
    """

    _ranks = (4,)


class BatchNorm3d(BatchNorm):
    """Normalise each channel of a batch of volumes; see `BatchNorm2d`.

    Shapes: (N, C, D, H, W), kept.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.BatchNorm3d(4)(jnp.ones((2, 4, 3, 3, 3))).shape
        (2, 4, 3, 3, 3)
    """

    _ranks = (5,)


class _LazyBatchNorm(LazyNorm):
    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        axis_name: AxisName = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_lazy(
            rngs,
            eps=eps,
            momentum=momentum,
            affine=affine,
            track_running_stats=track_running_stats,
            bias=bias,
            axis_name=axis_name,
            dtype=dtype,
        )


class LazyBatchNorm1d(_LazyBatchNorm, BatchNorm1d):
    """`BatchNorm1d`, whose `num_features` is the size of dimension 1 of its first input.

    See `LazyBatchNorm2d`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> layer = jaxnn.LazyBatchNorm1d()
        >>> _ = layer(jnp.ones((2, 3, 4)))
        >>> layer.num_features
        3
    """

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyBatchNorm, BatchNorm2d):
    """`BatchNorm2d`, whose `num_features` is the size of dimension 1 of its first input.

    It becomes one at its first call, which must be eager, or when a state dict is loaded.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> layer = jaxnn.LazyBatchNorm2d()
        >>> _ = layer(jnp.ones((2, 3, 4, 4)))
        >>> layer.num_features
        3
    """

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyBatchNorm, BatchNorm3d):
    """`BatchNorm3d`, whose `num_features` is the size of dimension 1 of its first input.

    See `LazyBatchNorm2d`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> layer = jaxnn.LazyBatchNorm3d()
        >>> _ = layer(jnp.ones((2, 3, 4, 4, 4)))
        >>> layer.num_features
        3
    """

    cls_to_become = BatchNorm3d


class _InstanceNorm(NormWithStatistics):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_statistics(num_features, eps, momentum, affine, track_running_stats, bias, dtype)

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        input = self._check_rank(input, "(N, C, ...) or (C, ...)")
        batch = input[None] if input.ndim < max(self._ranks) else input
        self._check_channels(batch.shape[1])
        own = not (self.use_running_average and self.track_running_stats)
        output, mean, var = F.instance_norm_with_stats(
            batch,
            value_of(self.running_mean),
            value_of(self.running_var),
            value_of(self.weight),
            value_of(self.bias),
            use_input_stats=own,
            momentum=0.0 if self.momentum is None else self.momentum,
            eps=self.eps,
        )
        if own and self.track_running_stats:
            self.running_mean.set_value(mean)
            self.running_var.set_value(var)
        return output[0] if input.ndim < max(self._ranks) else output

    def _check_channels(self, channels: int) -> None:
        if channels == self.num_features:
            return
        problem = (
            f"{name_of(self)}: `input` must have num_features={self.num_features} "
            f"channels, got {channels}"
        )
        if self.affine or self.track_running_stats:
            raise ValueError(problem)
        warnings.warn(f"{problem}; it is not used, since there are no parameters", stacklevel=3)


class InstanceNorm1d(_InstanceNorm):
    """Normalise each channel of each sequence; see `InstanceNorm2d`.

    Shapes: (N, C, L) or (C, L), kept.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.InstanceNorm1d(1, eps=1e-12)(jnp.array([[[1.0, 3.0]]]))
        Array([[[-1.,  1.]]], dtype=float32)
    """

    _ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Normalise each channel of each image: see `jaxnn.functional.instance_norm`.

    In training, or without running statistics, the statistics are those of the channel in each
    sample; and running = (1 - momentum) * running + momentum * batch, with the average over the
    batch of the mean and of the unbiased variance. In evaluation they are the running ones, if
    there are any, which stay as they are.

    Shapes: (N, C, H, W) or (C, H, W), kept.

    Args:
        num_features: C.
        eps: what is added to the variance.
        momentum: the batch's share in the new running statistics; None for 0, as in torch.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running statistics.
        bias: whether there is a bias, where `affine` is set.
        dtype: as for `BatchNorm2d`.

    Attributes:
        weight, bias, running_mean, running_var, use_running_average: as of `BatchNorm2d`.
        num_batches_tracked: 0 for ever, as in torch, of shape (); or None.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> layer = jaxnn.InstanceNorm2d(1, momentum=0.5, track_running_stats=True)
        >>> _ = layer(jnp.array([1.0, 3.0]).reshape(1, 1, 1, 2))
        >>> layer.running_mean[...], layer.running_var[...]
        (Array([1.], dtype=float32), Array([1.5], dtype=float32))
    """

    _ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Normalise each channel of each volume; see `InstanceNorm2d`.

    Shapes: (N, C, D, H, W) or (C, D, H, W), kept.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.InstanceNorm3d(4)(jnp.ones((2, 4, 3, 3, 3))).shape
        (2, 4, 3, 3, 3)
    """

    _ranks = (4, 5)


class _LazyInstanceNorm(LazyNorm):
    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_lazy(
            rngs,
            eps=eps,
            momentum=momentum,
            affine=affine,
            track_running_stats=track_running_stats,
            bias=bias,
            dtype=dtype,
        )


class LazyInstanceNorm1d(_LazyInstanceNorm, InstanceNorm1d):
    """`InstanceNorm1d`, whose `num_features` is the size of dimension 1 of its first input.

    See `LazyInstanceNorm2d`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> layer = jaxnn.LazyInstanceNorm1d()
        >>> _ = layer(jnp.ones((2, 3, 4)))
        >>> layer.num_features
        3
    """

    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_LazyInstanceNorm, InstanceNorm2d):
    """`InstanceNorm2d`, whose `num_features` is the size of dimension 1 of its first input.

    It becomes one at its first call, which must be eager, or when a state dict is loaded.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> layer = jaxnn.LazyInstanceNorm2d()
        >>> _ = layer(jnp.ones((2, 3, 4, 4)))
        >>> layer.num_features
        3
    """

    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_LazyInstanceNorm, InstanceNorm3d):
    """`InstanceNorm3d`, whose `num_features` is the size of dimension 1 of its first input.

    See `LazyInstanceNorm2d`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> layer = jaxnn.LazyInstanceNorm3d()
        >>> _ = layer(jnp.ones((2, 3, 4, 4, 4)))
        >>> layer.num_features
        3
    """

    cls_to_become = InstanceNorm3d
