"""Convolution layers, over one core for any number of spatial dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Num

from .. import functional as F
from .._checks import check_int, ntuple
from ..functional.convolution import same_padding
from ..functional.padding import PADDING_MODES, pad_spatial
from ._module import Module
from .linear import draw_weight_and_bias

IntOrInts = int | Sequence[int]


class _Conv(Module):
    """A convolution over `_n` spatial dimensions."""

    _n: int

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
        name = f"jaxnn.{type(self).__name__}"
        self.in_channels = check_int(in_channels, "in_channels", name, minimum=0)
        self.out_channels = check_int(out_channels, "out_channels", name, minimum=0)
        self.kernel_size = ntuple(kernel_size, self._n, "kernel_size", name, minimum=1)
        self.stride = ntuple(stride, self._n, "stride", name, minimum=1)
        self.dilation = ntuple(dilation, self._n, "dilation", name, minimum=1)
        self.groups = check_int(groups, "groups", name, minimum=1)
        self.padding = self._checked_padding(padding, name)
        self.padding_mode = padding_mode
        for argument, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % self.groups:
                raise ValueError(f"{name}: `{argument}`={channels} must be a multiple of {groups=}")
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

    def _convolve(self, input: jax.Array) -> jax.Array:
        padding = self.padding
        if self.padding_mode != "zeros" and padding != "valid":
            if input.ndim not in (self._n + 1, self._n + 2):
                raise ValueError(
                    f"jaxnn.{type(self).__name__}: `input` must have {self._n + 2} dimensions, or "
                    f"{self._n + 1} without N, got shape {input.shape}"
                )
            if isinstance(padding, str):
                pads = same_padding(self.kernel_size, self.dilation)
            else:
                pads = [(p, p) for p in padding]
            name = f"jaxnn.{type(self).__name__}"
            input, padding = pad_spatial(input, pads, self.padding_mode, name), "valid"
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self._n - 1]
        bias = None if self.bias is None else self.bias[...]
        return convolve(
            input, self.weight[...], bias, self.stride, padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        """Return the channels, the kernel's size, and what is not the default."""
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        ]
        if self.padding != (0,) * self._n:
            parts.append(f"padding={self.padding}")
        if self.dilation != (1,) * self._n:
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class Conv1d(_Conv):
    """Convolve along one dimension, with learnt kernels; the arguments are those of `Conv2d`.

    Shapes: (N, in_channels, L) or (in_channels, L) -> (N, out_channels, L_out), or without N; L_out
    is floor((L + padding before and after - dilation (kernel_size - 1) - 1) / stride) + 1.

    Attributes:
        weight: the kernels, of shape (out_channels, in_channels / groups, kernel_size).
        bias: what is added to each channel, of shape (out_channels); or None.

    Raises:
        ValueError, TypeError: as `Conv2d`.

    Source: torch.nn.Conv1d.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Conv1d(16, 33, 3, stride=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((20, 16, 50))).shape
        (20, 33, 24)
    """

    _n = 1

    def __call__(self, input: Num[Array, "*N C L"]) -> Num[Array, "*N out L_out"]:
        """Return the convolution."""
        return self._convolve(input)


class Conv2d(_Conv):
    """Convolve (that is, correlate) along two dimensions, with learnt kernels.

    y[n, o, p] = bias[o]
    + sum over c, k of weight[o, c, k] x[n, c, stride * p + dilation * k - padding],
    where c runs over the channels of o's group.

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
        dtype: the parameters' dtype, which the input must have too.
        rngs: where the parameters are drawn from.

    Attributes:
        weight: the kernels, of shape (out_channels, in_channels / groups, *kernel_size), drawn from
            U(-k, k) with k = 1 / sqrt(in_channels / groups * prod(kernel_size)).
        bias: what is added to each channel, of shape (out_channels), drawn likewise; or None.

    Raises:
        ValueError: if an option is out of bounds or there is no `rngs`; at the call, if the shape
            does not fit.
        TypeError: if an option is no int; at the call, if the input's dtype is not that of the
            parameters.

    Source: torch.nn.Conv2d.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Conv2d(16, 33, (3, 5), stride=(2, 1), padding=(4, 2), rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((20, 16, 50, 100))).shape
        (20, 33, 28, 100)
    """

    _n = 2

    def __call__(self, input: Num[Array, "*N C H W"]) -> Num[Array, "*N out H_out W_out"]:
        """Return the convolution."""
        return self._convolve(input)


class Conv3d(_Conv):
    """Convolve along three dimensions, with learnt kernels; the arguments are those of `Conv2d`.

    Shapes: (N, in_channels, D, H, W) or (in_channels, D, H, W) -> (N, out_channels, D_out, H_out,
    W_out), or without N; the sizes are as in `Conv2d`.

    Attributes:
        weight: the kernels, of shape (out_channels, in_channels / groups, *kernel_size).
        bias: what is added to each channel, of shape (out_channels); or None.

    Raises:
        ValueError, TypeError: as `Conv2d`.

    Source: torch.nn.Conv3d.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Conv3d(4, 8, 3, padding="same", rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 4, 5, 6, 7))).shape
        (2, 8, 5, 6, 7)
    """

    _n = 3

    def __call__(self, input: Num[Array, "*N C D H W"]) -> Num[Array, "*N out D_out H_out W_out"]:
        """Return the convolution."""
        return self._convolve(input)
