"""Instance normalisation."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ... import functional as F
from .._module import value_of
from ._statistics import LazyNorm, NormWithStatistics


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
        """Return the normalised input; in training, update the running statistics, if any."""
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
            f"jaxnn.{type(self).__name__}: `input` must have num_features={self.num_features} "
            f"channels, got {channels}"
        )
        if self.affine or self.track_running_stats:
            raise ValueError(problem)
        warnings.warn(f"{problem}; it is not used, since there are no parameters", stacklevel=3)


class InstanceNorm1d(_InstanceNorm):
    """Normalise each channel of each sequence; see `InstanceNorm2d`.

    Shapes: (N, C, L) or (C, L), kept.

    Raises:
        ValueError, TypeError: as `InstanceNorm2d`.

    Source: Ulyanov et al., 2016; torch.nn.InstanceNorm1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.InstanceNorm1d(1, eps=1e-12)(jnp.array([[[1.0, 3.0]]]))
        Array([[[-1.,  1.]]], dtype=float32)
    """

    _ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Normalise each channel of each image.

    y = (x - mean) / sqrt(var + eps) * weight + bias

    In training, or without running statistics, mean and var are the mean and the biased variance
    of the channel in that sample; and running = (1 - momentum) * running + momentum * batch, with
    the average over the batch of the mean and of the unbiased variance. In evaluation they are
    the running statistics, if there are any, which stay as they are.

    Shapes: (N, C, H, W) or (C, H, W), kept.

    Args:
        num_features: C.
        eps: what is added to the variance.
        momentum: the batch's share in the new running statistics; None for 0, as in torch.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running statistics.
        bias: whether there is a bias, where `affine` is set.
        dtype: the dtype of parameters and statistics. The input has the same, or half precision
            where it is float32.

    Attributes:
        weight: the scale of each channel, at first 1, of shape (C); or None.
        bias: what is added to each channel, at first 0, of shape (C); or None.
        running_mean: at first 0, of shape (C); or None.
        running_var: at first 1, of shape (C); or None.
        num_batches_tracked: 0 for ever, as in torch, of shape (); or None.
        use_running_average: True in evaluation mode.

    Raises:
        TypeError: if an option is no number; at the call, if the input's dtype does not fit.
        ValueError: at the call, if the shape does not fit, or a channel has a single position and
            no running statistics to use.

    Source: Ulyanov et al., 2016; torch.nn.InstanceNorm2d.

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

    Raises:
        ValueError, TypeError: as `InstanceNorm2d`.

    Source: Ulyanov et al., 2016; torch.nn.InstanceNorm3d.

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

    It becomes one at its first call, which must be eager, or when a state dict is loaded.

    Shapes and args: as `InstanceNorm1d`.

    Raises:
        ValueError: if the first call is under a transformation such as jit.

    Source: torch.nn.LazyInstanceNorm1d.

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

    Shapes and args: as `InstanceNorm2d`.

    Raises:
        ValueError: if the first call is under a transformation such as jit.

    Source: torch.nn.LazyInstanceNorm2d.

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

    It becomes one at its first call, which must be eager, or when a state dict is loaded.

    Shapes and args: as `InstanceNorm3d`.

    Raises:
        ValueError: if the first call is under a transformation such as jit.

    Source: torch.nn.LazyInstanceNorm3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> layer = jaxnn.LazyInstanceNorm3d()
        >>> _ = layer(jnp.ones((2, 3, 4, 4, 4)))
        >>> layer.num_features
        3
    """

    cls_to_become = InstanceNorm3d
