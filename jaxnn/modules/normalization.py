"""Normalization layers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .. import functional as F
from .._checks import accumulation_dtype, check_array, check_int
from ..functional.normalization import AxisName
from ._module import Module, parameter_dtype


class _BatchNorm(Module):
    """Batch normalisation for inputs of the ranks `_ranks`."""

    _ranks: tuple[int, ...]
    running_mean: Any
    running_var: Any
    num_batches_tracked: Any

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
        name = f"jaxnn.{type(self).__name__}"
        self.num_features = check_int(num_features, "num_features", name, minimum=0)
        self.eps = _check_number(eps, "eps", name)
        self.momentum = None if momentum is None else _check_number(momentum, "momentum", name)
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.axis_name = (
            axis_name if axis_name is None or isinstance(axis_name, str) else tuple(axis_name)
        )
        self.use_running_average = False
        shape, resolved = (self.num_features,), parameter_dtype(self, dtype)
        self.weight = nnx.Param(jnp.ones(shape, resolved)) if affine else nnx.data(None)
        self.bias = nnx.Param(jnp.zeros(shape, resolved)) if affine and bias else nnx.data(None)
        buffers: dict[str, Any] = {
            "running_mean": jnp.zeros(shape, resolved),
            "running_var": jnp.ones(shape, resolved),
            "num_batches_tracked": jnp.zeros((), int),
        }
        for buffer, value in buffers.items():
            setattr(self, buffer, nnx.BatchStat(value) if track_running_stats else nnx.data(None))

    def __call__(self, input: Float[Array, "N C *spatial"]) -> Float[Array, "N C *spatial"]:
        """Return the normalised input; in training, update the running statistics."""
        self._check_input(input)
        updates = self.track_running_stats and not self.use_running_average
        momentum: Any = 0.0 if self.momentum is None else self.momentum
        if updates and self.momentum is None:
            dtype = accumulation_dtype(self.running_mean.dtype)
            momentum = 1 / (self.num_batches_tracked[...] + 1).astype(dtype)
        output, mean, var = F.batch_norm_with_stats(
            input,
            _value(self.running_mean),
            _value(self.running_var),
            _value(self.weight),
            _value(self.bias),
            training=not (self.use_running_average and self.track_running_stats),
            momentum=momentum,
            eps=self.eps,
            axis_name=self.axis_name,
        )
        if updates:
            self.running_mean[...] = mean
            self.running_var[...] = var
            self.num_batches_tracked[...] += 1
        return output

    def _check_input(self, input: jax.Array) -> None:
        name = f"jaxnn.{type(self).__name__}"
        shape = check_array(input, "input", name).shape
        if len(shape) not in self._ranks:
            ranks = " or ".join(map(str, self._ranks))
            raise ValueError(
                f"{name}: `input` must have {ranks} dimensions (N, C, ...), got shape {shape}"
            )
        if shape[1] != self.num_features and (self.affine or self.track_running_stats):
            raise ValueError(
                f"{name}: `input` must have num_features={self.num_features} channels, got "
                f"{shape[1]} in shape {shape}"
            )

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Set the mode of this layer's view; used by `nnx.view`.

        Args:
          use_running_average: if True, the running statistics are used and not updated, as in
            evaluation mode.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def extra_repr(self) -> str:
        """Return the number of features and the options."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
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


def _check_number(value: Any, name: str, layer: str) -> Any:
    if not isinstance(value, (int, float)):
        raise TypeError(f"{layer}: `{name}` must be a number, got {value!r}")
    return value


def _value(variable: nnx.Variable[jax.Array] | None) -> jax.Array | None:
    return None if variable is None else variable[...]
