"""Convolutions, with input channels that are given or taken from the first call."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Num

from ... import functional as F
from ..._checks import ntuple
from ..._types import IntOrInts
from ...functional.convolution import same_padding
from .._module import name_of
from .._state import value_of
from ..linear import draw_weight_and_bias
from ._base import Convolution, LazyConvolution

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Convolution):
    """A convolution."""

    def __init__(
        self,
        in_channels: int,
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
        name = name_of(self)
        self._init_geometry(in_channels, out_channels, kernel_size, stride, dilation, groups)
        self.padding = self._checked_padding(padding, name)
        self.padding_mode = padding_mode
        if padding_mode not in PADDING_MODES:
            raise ValueError(
                f"{name}: `padding_mode` must be one of {PADDING_MODES}, got {padding_mode!r}"
            )
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight, self.bias = draw_weight_and_bias(self, shape, bool(bias), dtype, rngs)

    def _checked_padding(self, padding: IntOrInts | str, name: str) -> tuple[int, ...] | str:
        if not isinstance(padding, str):
            return ntuple(padding, self._n, "padding", name, minimum=0)
        if padding not in ("same", "valid"):
            raise ValueError(f'{name}: `padding` must be ints, "same" or "valid", got {padding!r}')
        if padding == "same" and any(step != 1 for step in self.stride):
            raise ValueError(f'{name}: `padding` "same" needs a stride of 1, got {self.stride}')
        return padding

    def __call__(self, input: Num[Array, "*N C *spatial"]) -> Num[Array, "*N out *spatial_out"]:
        padding = self.padding
        if self.padding_mode != "zeros" and padding != "valid":
            if input.ndim not in (self._n + 1, self._n + 2):
                raise ValueError(
                    f"{name_of(self)}: `input` must have {self._n + 2} dimensions, or "
                    f"{self._n + 1} without N, got shape {input.shape}"
                )
            if isinstance(padding, str):
                pads = same_padding(self.kernel_size, self.dilation)
            else:
                pads = [(p, p) for p in padding]
            flat = [width for before_and_after in reversed(pads) for width in before_and_after]
            input, padding = F.pad(input, flat, self.padding_mode), "valid"
        return type(self)._function(
            input,
            self.weight[...],
            value_of(self.bias),
            self.stride,
            padding,
            self.dilation,
            self.groups,
        )


class Conv1d(_Conv):
    """Convolve along one dimension, with learnt kernels; see `Conv2d`.

    Shapes: (N, in_channels, L) or (in_channels, L) -> (N, out_channels, L_out), or without N.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Conv1d(16, 33, 3, stride=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((20, 16, 50))).shape
        (20, 33, 24)
    """

    _n = 1
    _function = staticmethod(F.conv1d)


class Conv2d(_Conv):
    """Convolve (that is, correlate) along two dimensions, with learnt kernels.

    See `jaxnn.functional.conv2d`.

    Shapes: (N, in_channels, H, W) or (in_channels, H, W) -> (N, out_channels, H_out, W_out), or
    without N; H_out is floor((H + padding before and after - dilation (kernel_size - 1) - 1) /
    stride) + 1, and W_out likewise.

    Args:
        in_channels: the number of the input's channels.
        out_channels: the number of the output's channels.
        kernel_size: the kernel's size, one number or one a dimension.
        stride: the step of the window, likewise.
        padding: what is added on both sides, likewise; or "valid" for nothing, or "same" for as
            much as keeps the size, of which the odd one stands at the end.
        dilation: the step between the kernel's taps, likewise.
        groups: into how many groups the channels are divided.
        bias: whether there is a bias.
        padding_mode: what is added: "zeros", "reflect", "replicate" or "circular".
        dtype: the parameters' dtype, real or complex, which the input must have too.
        rngs: where the parameters are drawn from.

    Attributes:
        weight: the kernels, of shape (out_channels, in_channels / groups, *kernel_size), drawn from
            U(-k, k) with k = 1 / sqrt(in_channels / groups * prod(kernel_size)).
        bias: what is added to each channel, of shape (out_channels), drawn likewise; or None.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Conv2d(16, 33, (3, 5), stride=(2, 1), padding=(4, 2), rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((20, 16, 50, 100))).shape
        (20, 33, 28, 100)
    """

    _n = 2
    _function = staticmethod(F.conv2d)


class Conv3d(_Conv):
    """Convolve along three dimensions, with learnt kernels; see `Conv2d`.

    Shapes: (N, in_channels, D, H, W) or (in_channels, D, H, W) -> (N, out_channels, D_out, H_out,
    W_out), or without N.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Conv3d(4, 8, 3, padding="same", rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 4, 5, 6, 7))).shape
        (2, 8, 5, 6, 7)
    """

    _n = 3
    _function = staticmethod(F.conv3d)


class _LazyConv(LazyConvolution):
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


class LazyConv1d(_LazyConv, Conv1d):
    """`Conv1d`, whose `in_channels` is the number of channels of its first input.

    See `LazyConv2d`.

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

    See `LazyConv2d`.

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
