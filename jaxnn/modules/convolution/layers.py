"""Convolution layers, over one core for any number of spatial dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Num

from ... import functional as F
from ..._checks import check_int, ntuple
from ...functional.convolution import same_padding
from .._module import Module, value_of
from ..linear import draw_weight_and_bias

IntOrInts = int | Sequence[int]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Base(Module):
    """What convolutions and their transposes share, over `_n` spatial dimensions."""

    _n: int
    bias: Any  # a parameter, or None
    padding_mode: str

    def _init_geometry(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts,
        dilation: IntOrInts,
        groups: int,
    ) -> None:
        name = f"jaxnn.{type(self).__name__}"
        self.in_channels = check_int(in_channels, "in_channels", name, minimum=0)
        self.out_channels = check_int(out_channels, "out_channels", name, minimum=0)
        self.kernel_size = ntuple(kernel_size, self._n, "kernel_size", name, minimum=1)
        self.stride = ntuple(stride, self._n, "stride", name, minimum=1)
        self.dilation = ntuple(dilation, self._n, "dilation", name, minimum=1)
        self.groups = check_int(groups, "groups", name, minimum=1)
        for argument, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % self.groups:
                raise ValueError(f"{name}: `{argument}`={channels} must be a multiple of {groups=}")

    def extra_repr(self) -> str:
        """Return the channels, the kernel's size, and what is not the default."""
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        ]
        zeros, ones = (0,) * self._n, (1,) * self._n
        defaults = {"padding": zeros, "dilation": ones, "output_padding": zeros, "groups": 1}
        for option, default in defaults.items():
            value = getattr(self, option, default)
            if value != default:
                parts.append(f"{option}={value}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class _Conv(_Base):
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
        name = f"jaxnn.{type(self).__name__}"
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
            flat = [width for before_and_after in reversed(pads) for width in before_and_after]
            input, padding = F.pad(input, flat, self.padding_mode), "valid"
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self._n - 1]
        return convolve(
            input,
            self.weight[...],
            value_of(self.bias),
            self.stride,
            padding,
            self.dilation,
            self.groups,
        )


class _ConvTranspose(_Base):
    """The transpose of a convolution."""

    def __init__(
        self,
        in_channels: int,
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
        name = f"jaxnn.{type(self).__name__}"
        self._init_geometry(in_channels, out_channels, kernel_size, stride, dilation, groups)
        self.padding = ntuple(padding, self._n, "padding", name, minimum=0)
        # Its bounds are checked at the call, where `output_size` may stand in for it.
        self.output_padding = ntuple(output_padding, self._n, "output_padding", name)
        self.padding_mode = padding_mode
        if padding_mode != "zeros":
            raise ValueError(f'{name}: `padding_mode` must be "zeros", got {padding_mode!r}')
        shape = (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        self.weight, self.bias = draw_weight_and_bias(
            self, shape, bool(bias), dtype, rngs, bias_size=self.out_channels
        )

    def _convolve(self, input: jax.Array, output_size: Sequence[int] | None) -> jax.Array:
        longer = self.output_padding
        if output_size is not None:
            longer = self._output_padding(input.shape, output_size)
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[self._n - 1]
        return convolve(
            input,
            self.weight[...],
            value_of(self.bias),
            self.stride,
            self.padding,
            longer,
            self.groups,
            self.dilation,
        )

    def _output_padding(
        self, shape: tuple[int, ...], output_size: Sequence[int]
    ) -> tuple[int, ...]:
        """Return how much longer than its least the output is to be."""
        name, n = f"jaxnn.{type(self).__name__}", self._n
        if isinstance(output_size, str) or not isinstance(output_size, Sequence):
            raise TypeError(
                f"{name}: `output_size` must be a sequence of ints, got {output_size!r}"
            )
        if len(output_size) not in (n, len(shape)):
            raise ValueError(
                f"{name}: `output_size` must hold {n} or {len(shape)} ints for an input of shape "
                f"{shape}, got {output_size!r}"
            )
        sizes = [check_int(size, "output_size", name) for size in output_size[-n:]]
        dims = zip(
            shape[-n:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True
        )
        least = [(size - 1) * s - 2 * p + d * (k - 1) + 1 for size, s, p, d, k in dims]
        most = [size + s - 1 for size, s in zip(least, self.stride, strict=True)]
        if any(not a <= size <= b for a, size, b in zip(least, sizes, most, strict=True)):
            raise ValueError(
                f"{name}: `output_size` must lie between {least} and {most} for an input of shape "
                f"{shape}, got {sizes}"
            )
        return tuple(size - a for size, a in zip(sizes, least, strict=True))


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
        dtype: the parameters' dtype, real or complex, which the input must have too.
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


class ConvTranspose1d(_ConvTranspose):
    """Apply the transpose of a convolution along one dimension, with learnt kernels.

    The arguments are those of `ConvTranspose2d`.

    Shapes: (N, in_channels, L) or (in_channels, L) -> (N, out_channels, L_out), or without N; L_out
    is (L - 1) stride - 2 padding + dilation (kernel_size - 1) + output_padding + 1.

    Attributes:
        weight: the kernels, of shape (in_channels, out_channels / groups, kernel_size).
        bias: what is added to each channel, of shape (out_channels); or None.

    Raises:
        ValueError, TypeError: as `ConvTranspose2d`.

    Source: torch.nn.ConvTranspose1d.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.ConvTranspose1d(16, 33, 3, stride=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((20, 16, 50))).shape
        (20, 33, 101)
    """

    _n = 1

    def __call__(
        self, input: Num[Array, "*N C L"], output_size: Sequence[int] | None = None
    ) -> Num[Array, "*N out L_out"]:
        """Return the transposed convolution, of the given size where there is one."""
        return self._convolve(input, output_size)


class ConvTranspose2d(_ConvTranspose):
    """Apply the transpose of a convolution along two dimensions, with learnt kernels.

    y[n, o, q] = bias[o] + the sum of weight[c, o, k] x[n, c, p] over all c, k and p for which
    stride * p + dilation * k - padding = q, where c runs over the channels of o's group.

    Shapes: (N, in_channels, H, W) or (in_channels, H, W) -> (N, out_channels, H_out, W_out), or
    without N; H_out is (H - 1) stride - 2 padding + dilation (kernel_size - 1) + output_padding
    + 1, and W_out likewise.

    Args:
        in_channels: the number of the input's channels.
        out_channels: the number of the output's channels.
        kernel_size: the kernel's size, one number or one a dimension.
        stride: the step between the places of the input's elements, likewise.
        padding: how much is cut off on both sides of the output, likewise.
        output_padding: how much longer the output is at its end, likewise; the call's
            `output_size` stands in for it.
        groups: into how many groups the channels are divided.
        bias: whether there is a bias.
        dilation: the step between the kernel's taps, likewise.
        padding_mode: "zeros"; no other is supported.
        dtype: the parameters' dtype, real or complex, which the input must have too.
        rngs: where the parameters are drawn from.

    Attributes:
        weight: the kernels, of shape (in_channels, out_channels / groups, *kernel_size), drawn from
            U(-k, k) with k = 1 / sqrt(out_channels / groups * prod(kernel_size)).
        bias: what is added to each channel, of shape (out_channels), drawn likewise; or None.

    Raises:
        ValueError: if an option is out of bounds or there is no `rngs`; at the call, if the shape
            or `output_size` does not fit, or `output_padding` is neither smaller than the stride
            nor than the dilation.
        TypeError: if an option is no int; at the call, if the input's dtype is not that of the
            parameters.

    Source: torch.nn.ConvTranspose2d.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.ConvTranspose2d(16, 16, 3, stride=2, padding=1, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((1, 16, 6, 6))).shape
        (1, 16, 11, 11)
        >>> layer(jnp.ones((1, 16, 6, 6)), output_size=(12, 12)).shape
        (1, 16, 12, 12)
    """

    _n = 2

    def __call__(
        self, input: Num[Array, "*N C H W"], output_size: Sequence[int] | None = None
    ) -> Num[Array, "*N out H_out W_out"]:
        """Return the transposed convolution, of the given size where there is one."""
        return self._convolve(input, output_size)


class ConvTranspose3d(_ConvTranspose):
    """Apply the transpose of a convolution along three dimensions, with learnt kernels.

    The arguments are those of `ConvTranspose2d`.

    Shapes: (N, in_channels, D, H, W) or (in_channels, D, H, W) -> (N, out_channels, D_out, H_out,
    W_out), or without N; the sizes are as in `ConvTranspose2d`.

    Attributes:
        weight: the kernels, of shape (in_channels, out_channels / groups, *kernel_size).
        bias: what is added to each channel, of shape (out_channels); or None.

    Raises:
        ValueError, TypeError: as `ConvTranspose2d`.

    Source: torch.nn.ConvTranspose3d.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.ConvTranspose3d(4, 8, (3, 5, 2), stride=(2, 1, 1), rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 4, 5, 6, 7))).shape
        (2, 8, 11, 10, 8)
    """

    _n = 3

    def __call__(
        self, input: Num[Array, "*N C D H W"], output_size: Sequence[int] | None = None
    ) -> Num[Array, "*N out D_out H_out W_out"]:
        """Return the transposed convolution, of the given size where there is one."""
        return self._convolve(input, output_size)
