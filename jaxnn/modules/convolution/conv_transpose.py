"""Transposed convolutions, with input channels that are given or taken from the first call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Num

from ... import functional as F
from ..._checks import check_int, ntuple
from ..._types import IntOrInts
from .._module import name_of
from .._state import value_of
from ..linear import draw_weight_and_bias
from ._base import Convolution, LazyConvolution


class _ConvTranspose(Convolution):
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
        name = name_of(self)
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

    def __call__(
        self, input: Num[Array, "*N C *spatial"], output_size: Sequence[int] | None = None
    ) -> Num[Array, "*N out *spatial_out"]:
        longer = self.output_padding
        if output_size is not None:
            longer = self._output_padding(input.shape, output_size)
        return type(self)._function(
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
        name, n = name_of(self), self._n
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


class ConvTranspose1d(_ConvTranspose):
    """Apply the transpose of a convolution along one dimension, with learnt kernels.

    See `ConvTranspose2d`.

    Shapes: (N, in_channels, L) or (in_channels, L) -> (N, out_channels, L_out), or without N.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.ConvTranspose1d(16, 33, 3, stride=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((20, 16, 50))).shape
        (20, 33, 101)
    """

    _n = 1
    _function = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_ConvTranspose):
    """Apply the transpose of a convolution along two dimensions, with learnt kernels.

    See `jaxnn.functional.conv_transpose2d`.

    Shapes: (N, in_channels, H, W) or (in_channels, H, W) -> (N, out_channels, H_out, W_out), or
    without N; H_out is (H - 1) stride - 2 padding + dilation (kernel_size - 1) + output_padding
    + 1, and W_out likewise. At the call, `output_size` may say (H_out, W_out), or the whole shape.

    Args:
        in_channels: the number of the input's channels.
        out_channels: the number of the output's channels.
        kernel_size: the kernel's size, one number or one a dimension.
        stride: the step between the places of the input's elements, likewise.
        padding: how much is cut off on both sides of the output, likewise.
        output_padding: how much longer the output is at its end, likewise; less than the stride or
            the dilation; the call's `output_size` stands in for it.
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
    _function = staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_ConvTranspose):
    """Apply the transpose of a convolution along three dimensions, with learnt kernels.

    See `ConvTranspose2d`.

    Shapes: (N, in_channels, D, H, W) or (in_channels, D, H, W) -> (N, out_channels, D_out, H_out,
    W_out), or without N.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.ConvTranspose3d(4, 8, (3, 5, 2), stride=(2, 1, 1), rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 4, 5, 6, 7))).shape
        (2, 8, 11, 10, 8)
    """

    _n = 3
    _function = staticmethod(F.conv_transpose3d)


class _LazyConvTranspose(LazyConvolution):
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


class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):
    """`ConvTranspose1d`, whose `in_channels` is the number of channels of its first input.

    See `LazyConvTranspose2d`.

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

    See `LazyConvTranspose2d`.

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
