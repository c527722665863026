"""Convolutions that take the number of input channels from their first call."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from .._lazy import LazyModule
from .layers import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    IntOrInts,
)


class _LazyConvolution(LazyModule):
    channels_argument = "in_channels"
    _n: int
    groups: int

    def channels_of_input(self, input: jax.Array) -> int:
        """Return the size of the dimension before the spatial ones."""
        if input.ndim not in (self._n + 1, self._n + 2):
            raise ValueError(
                f"jaxnn.{type(self).__name__}: `input` must have {self._n + 1} or {self._n + 2} "
                f"dimensions, got shape {input.shape}"
            )
        channels = input.shape[-self._n - 1]
        if channels % self.groups:
            raise ValueError(
                f"jaxnn.{type(self).__name__}: the {channels} channels of `input` cannot be "
                f"divided into groups={self.groups}"
            )
        return channels


class _LazyConv(_LazyConvolution):
    def __init__(
        self,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: IntOrInts | str = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_lazy(
            rngs,
            groups,
            out_channels=out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            dtype=dtype,
        )

    def channels_of_state(self, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
        """Return the channels of all groups, each of the weight's second dimension."""
        weight = shapes.get("weight", ())
        return weight[1] * self.groups if len(weight) > 1 else None


class _LazyConvTranspose(_LazyConvolution):
    def __init__(
        self,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: IntOrInts = 0,
        output_padding: IntOrInts = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: IntOrInts = 1,
        padding_mode: str = "zeros",
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_lazy(
            rngs,
            groups,
            out_channels=out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            groups=groups,
            bias=bias,
            dilation=dilation,
            padding_mode=padding_mode,
            dtype=dtype,
        )

    def channels_of_state(self, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
        """Return the weight's first dimension, where the groups divide it."""
        weight = shapes.get("weight", ())
        return weight[0] if weight and weight[0] % self.groups == 0 else None


class LazyConv1d(_LazyConv, Conv1d):
    """`Conv1d`, whose `in_channels` is the number of channels of its first input.

    It becomes one at its first call, which must be eager, or when a state dict is loaded.

    Shapes and args: as `Conv1d`.

    Raises:
        ValueError: if there is no `rngs`; if the first call is under a transformation such as jit.

    Source: torch.nn.LazyConv1d.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.LazyConv1d(4, 3, rngs=nnx.Rngs(0))
        >>> _ = layer(jnp.ones((2, 3, 5)))
        >>> layer.weight.shape
        (4, 3, 3)
    """

    cls_to_become = Conv1d


class LazyConv2d(_LazyConv, Conv2d):
    """`Conv2d`, whose `in_channels` is the number of channels of its first input.

    It becomes one at its first call, which must be eager, or when a state dict is loaded.

    Shapes and args: as `Conv2d`.

    Raises:
        ValueError: if there is no `rngs`; if the first call is under a transformation such as jit.

    Source: torch.nn.LazyConv2d.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.LazyConv2d(4, 3, rngs=nnx.Rngs(0))
        >>> _ = layer(jnp.ones((2, 3, 5, 5)))
        >>> layer.weight.shape
        (4, 3, 3, 3)
    """

    cls_to_become = Conv2d


class LazyConv3d(_LazyConv, Conv3d):
    """`Conv3d`, whose `in_channels` is the number of channels of its first input.

    It becomes one at its first call, which must be eager, or when a state dict is loaded.

    Shapes and args: as `Conv3d`.

    Raises:
        ValueError: if there is no `rngs`; if the first call is under a transformation such as jit.

    Source: torch.nn.LazyConv3d.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.LazyConv3d(4, 3, rngs=nnx.Rngs(0))
        >>> _ = layer(jnp.ones((2, 3, 5, 5, 5)))
        >>> layer.weight.shape
        (4, 3, 3, 3, 3)
    """

    cls_to_become = Conv3d


class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):
    """`ConvTranspose1d`, whose `in_channels` is the number of channels of its first input.

    It becomes one at its first call, which must be eager, or when a state dict is loaded.

    Shapes and args: as `ConvTranspose1d`.

    Raises:
        ValueError: if there is no `rngs`; if the first call is under a transformation such as jit.

    Source: torch.nn.LazyConvTranspose1d.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.LazyConvTranspose1d(4, 3, rngs=nnx.Rngs(0))
        >>> _ = layer(jnp.ones((2, 3, 5)))
        >>> layer.weight.shape
        (3, 4, 3)
    """

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d):
    """`ConvTranspose2d`, whose `in_channels` is the number of channels of its first input.

    It becomes one at its first call, which must be eager, or when a state dict is loaded.

    Shapes and args: as `ConvTranspose2d`.

    Raises:
        ValueError: if there is no `rngs`; if the first call is under a transformation such as jit.

    Source: torch.nn.LazyConvTranspose2d.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.LazyConvTranspose2d(4, 3, rngs=nnx.Rngs(0))
        >>> _ = layer(jnp.ones((2, 3, 5, 5)))
        >>> layer.weight.shape
        (3, 4, 3, 3)
    """

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d):
    """`ConvTranspose3d`, whose `in_channels` is the number of channels of its first input.

    It becomes one at its first call, which must be eager, or when a state dict is loaded.

    Shapes and args: as `ConvTranspose3d`.

    Raises:
        ValueError: if there is no `rngs`; if the first call is under a transformation such as jit.

    Source: torch.nn.LazyConvTranspose3d.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.LazyConvTranspose3d(4, 3, rngs=nnx.Rngs(0))
        >>> _ = layer(jnp.ones((2, 3, 5, 5, 5)))
        >>> layer.weight.shape
        (3, 4, 3, 3, 3)
    """

    cls_to_become = ConvTranspose3d
