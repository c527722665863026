"""Batch normalisation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ... import functional as F
from ..._dtypes import accumulation_dtype
from ..._types import AxisName
from .._module import value_of
from ._statistics import LazyNorm, NormWithStatistics


class _BatchNorm(NormWithStatistics):
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
        """Return the normalised input; in training, update the running statistics."""
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
                f"jaxnn.{type(self).__name__}: `input` must have num_features={self.num_features} "
                f"channels, got {shape[1]} in shape {shape}"
            )


class BatchNorm1d(_BatchNorm):
    """Normalise each channel of a batch of vectors or sequences; see `BatchNorm2d`.

    Shapes: (N, C) or (N, C, L), kept.

    Raises:
        ValueError, TypeError: as `BatchNorm2d`.

    Source: Ioffe and Szegedy, 2015; torch.nn.BatchNorm1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.BatchNorm1d(1, eps=1e-12)(jnp.array([[1.0], [3.0]]))
        Array([[-1.],
               [ 1.]], dtype=float32)
    """

    _ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Normalise each channel of a batch of images.

    y = (x - mean) / sqrt(var + eps) * weight + bias

    In training, or without running statistics, mean and var are the channel's mean and biased
    variance over the batch, and running = (1 - momentum) * running + momentum * batch, with the
    unbiased variance. In evaluation they are the running statistics, which stay as they are.

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

    Raises:
        TypeError: if an option is no number; at the call, if the input's dtype does not fit.
        ValueError: at the call, if the shape does not fit, or in training, if a channel has a
            single value or eps is not positive.

    Source: Ioffe and Szegedy, 2015; torch.nn.BatchNorm2d.

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


class BatchNorm3d(_BatchNorm):
    """Normalise each channel of a batch of volumes; see `BatchNorm2d`.

    Shapes: (N, C, D, H, W), kept.

    Raises:
        ValueError, TypeError: as `BatchNorm2d`.

    Source: Ioffe and Szegedy, 2015; torch.nn.BatchNorm3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.BatchNorm3d(4)(jnp.ones((2, 4, 3, 3, 3))).shape
        (2, 4, 3, 3, 3)
    """

    _ranks = (5,)


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation by the statistics of a batch that is spread over devices.

    As `BatchNorm2d`, for any number of spatial dimensions. Where the batch is one sharded array
    under `jax.jit`, its statistics are those of all of it in any layer. Where each device has its
    own part, under `shard_map`, `vmap` or `pmap`, `axis_name` says over which mapped axes.

    Shapes: (N, C, *spatial), kept.

    Args:
        num_features, eps, momentum, affine, track_running_stats, bias, dtype: as `BatchNorm2d`.
        process_group: None; the devices are named by `axis_name`.
        axis_name: the mapped axis or axes that the batch is spread over.

    Raises:
        ValueError: if there is a process group; at the call, as `BatchNorm2d`.
        TypeError: as `BatchNorm2d`.

    Source: torch.nn.SyncBatchNorm.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> graphdef, state = nnx.split(jaxnn.SyncBatchNorm(1, eps=1e-12, axis_name="device"))
        >>> def step(x):
        ...     return nnx.merge(graphdef, state, copy=True)(x)
        >>> jax.vmap(step, axis_name="device")(jnp.array([[[1.0]], [[3.0]]])).ravel()
        Array([-1.,  1.], dtype=float32)
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: None = None,
        *,
        bias: bool = True,
        axis_name: AxisName = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        if process_group is not None:
            raise ValueError(
                "jaxnn.SyncBatchNorm: `process_group` belongs to torch.distributed, got "
                f"{process_group!r}; name the mapped axis instead: axis_name="
            )
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            bias=bias,
            axis_name=axis_name,
            dtype=dtype,
        )

    def _check_input(self, input: jax.Array) -> None:
        if jnp.ndim(input) < 2:
            raise ValueError(
                "jaxnn.SyncBatchNorm: `input` must have the dimensions (N, C, ...), got shape "
                f"{jnp.shape(input)}"
            )
        self._ranks = (jnp.ndim(input),)
        super()._check_input(input)

    @classmethod
    def convert_sync_batchnorm(
        cls, module: nnx.Module, process_group: None = None, *, axis_name: AxisName = None
    ) -> nnx.Module:
        """Replace every BatchNorm of a module by a SyncBatchNorm with its state, and return it.

        A module that is a BatchNorm itself is returned as a new SyncBatchNorm; any other is
        changed in place.
        """
        if process_group is not None:
            cls(1, process_group=process_group)
        for path, layer in list(nnx.iter_modules(module)):
            if isinstance(layer, _BatchNorm) and not isinstance(layer, SyncBatchNorm):
                sync = cls._from(layer, axis_name)
                if not path:
                    return sync
                owner: Any = module
                for name in path[:-1]:
                    owner = getattr(owner, name) if isinstance(name, str) else owner[name]
                if isinstance(path[-1], str):
                    setattr(owner, path[-1], sync)
                else:
                    owner[path[-1]] = sync
        return module

    @classmethod
    def _from(cls, layer: _BatchNorm, axis_name: AxisName) -> SyncBatchNorm:
        sync = cls(0, axis_name=axis_name)
        own = vars(sync)
        kept = {name: value for name, value in vars(layer).items() if name != "axis_name"}
        own.update({**kept, "_pytree__nodes": own["_pytree__nodes"]})
        return sync


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

    It becomes one at its first call, which must be eager, or when a state dict is loaded.

    Shapes and args: as `BatchNorm1d`.

    Raises:
        ValueError: if the first call is under a transformation such as jit.

    Source: torch.nn.LazyBatchNorm1d.

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

    Shapes and args: as `BatchNorm2d`.

    Raises:
        ValueError: if the first call is under a transformation such as jit.

    Source: torch.nn.LazyBatchNorm2d.

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

    It becomes one at its first call, which must be eager, or when a state dict is loaded.

    Shapes and args: as `BatchNorm3d`.

    Raises:
        ValueError: if the first call is under a transformation such as jit.

    Source: torch.nn.LazyBatchNorm3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> layer = jaxnn.LazyBatchNorm3d()
        >>> _ = layer(jnp.ones((2, 3, 4, 4, 4)))
        >>> layer.num_features
        3
    """

    cls_to_become = BatchNorm3d
