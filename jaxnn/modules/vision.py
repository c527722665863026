"""Layers of images: blocks, shuffles, other sizes."""

from __future__ import annotations

from collections.abc import Sequence

from flax import nnx
from jaxtyping import Array, Float, Num, Shaped

from .. import functional as F
from .._checks import check_int
from ..functional.vision import check_resampling, pair, window
from ._module import Module

IntOrInts = int | Sequence[int]
FloatOrFloats = float | Sequence[float]


class _Window(Module):
    """A window that slides over images."""

    def _init_window(
        self, kernel_size: IntOrInts, dilation: IntOrInts, padding: IntOrInts, stride: IntOrInts
    ) -> None:
        window(kernel_size, dilation, padding, stride, f"jaxnn.{type(self).__name__}")
        self.kernel_size = _hashable(kernel_size)
        self.dilation = _hashable(dilation)
        self.padding = _hashable(padding)
        self.stride = _hashable(stride)

    def extra_repr(self) -> str:
        """Return the options of the window."""
        names = ("kernel_size", "dilation", "padding", "stride")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class Unfold(_Window):
    """Take out the blocks under a sliding window, as columns.

    y[n, (c, k), l] = x[n, c, stride * p + dilation * k - padding], where x is zero outside its
    bounds, k runs over the kernel's taps and l over the window's positions p, row by row.

    Shapes: (N, C, H, W) or (C, H, W) -> (N, C kH kW, L), or without N; L is the product of
    floor((H + 2 padding - dilation (kH - 1) - 1) / stride) + 1 and the same for W.

    Dtypes: any but integers, which stay.

    Args:
        kernel_size: the window's size, one number or (height, width).
        dilation: the step between the window's taps, likewise.
        padding: the zeros on both sides, likewise.
        stride: the step of the window, likewise.
        rngs: not needed.

    Raises:
        ValueError: if an option is out of bounds; at the call, if the shape does not fit, or the
            window exceeds the padded input.
        TypeError: if an option is no int; at the call, if the dtype is an integer's.

    Source: torch.nn.Unfold.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Unfold((1, 2))(jnp.array([[[1.0, 2.0, 3.0]]]))
        Array([[1., 2.],
               [2., 3.]], dtype=float32)
    """

    def __init__(
        self,
        kernel_size: IntOrInts,
        dilation: IntOrInts = 1,
        padding: IntOrInts = 0,
        stride: IntOrInts = 1,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs
        self._init_window(kernel_size, dilation, padding, stride)

    def __call__(self, input: Shaped[Array, "*N C H W"]) -> Shaped[Array, "*N C*kH*kW L"]:
        """Return the blocks."""
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(_Window):
    """Put blocks back where `Unfold` takes them from, adding where they overlap.

    y[n, c, q] = the sum of x[n, (c, k), l] over all taps k and positions p, of number l, for which
    stride * p + dilation * k - padding = q.

    Shapes: (N, C kH kW, L) or (C kH kW, L) -> (N, C, *output_size), or without N; L is the number
    of the window's positions on the output, as in `Unfold`.

    Dtypes: any but integers, which stay; of bools the sum is "or".

    Args:
        output_size: the size of the images, one number or (height, width).
        kernel_size: the window's size, likewise.
        dilation: the step between the window's taps, likewise.
        padding: how much of the blocks lies beyond the images, on both sides, likewise.
        stride: the step of the window, likewise.
        rngs: not needed.

    Raises:
        ValueError: if an option is out of bounds; at the call, if the shape does not fit.
        TypeError: if an option is no int; at the call, if the dtype is an integer's.

    Source: torch.nn.Fold.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Fold((1, 3), (1, 2))(jnp.array([[1.0, 2.0], [10.0, 20.0]]))
        Array([[[ 1., 12., 20.]]], dtype=float32)
    """

    def __init__(
        self,
        output_size: IntOrInts,
        kernel_size: IntOrInts,
        dilation: IntOrInts = 1,
        padding: IntOrInts = 0,
        stride: IntOrInts = 1,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs
        pair(output_size, "output_size", "jaxnn.Fold", minimum=1)
        self.output_size = _hashable(output_size)
        self._init_window(kernel_size, dilation, padding, stride)

    def __call__(self, input: Shaped[Array, "*N C*kH*kW L"]) -> Shaped[Array, "*N C H W"]:
        """Return the images."""
        return F.fold(
            input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )

    def extra_repr(self) -> str:
        """Return the options of the images and of the window."""
        return f"output_size={self.output_size}, {super().extra_repr()}"


class PixelShuffle(Module):
    """Spread the channels over finer pixels.

    y[c, h r + i, w r + j] = x[c r^2 + i r + j, h, w], where r is `upscale_factor`.

    Shapes: (*N, C r^2, H, W) -> (*N, C, H r, W r). Dtypes: any.

    Args:
        upscale_factor: how many times higher and wider the output is.
        rngs: not needed.

    Raises:
        TypeError: if the factor is no int.
        ValueError: if it is not positive; at the call, if its square does not divide the channels
            or the input has fewer than three dimensions.

    Source: Shi et al., 2016; torch.nn.PixelShuffle.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.PixelShuffle(2)(jnp.arange(4.0).reshape(4, 1, 1))
        Array([[[0., 1.],
                [2., 3.]]], dtype=float32)
    """

    def __init__(self, upscale_factor: int, *, rngs: nnx.Rngs | None = None) -> None:
        del rngs
        self.upscale_factor = check_int(
            upscale_factor, "upscale_factor", "jaxnn.PixelShuffle", minimum=1
        )

    def __call__(self, input: Shaped[Array, "*N C*r*r H W"]) -> Shaped[Array, "*N C H*r W*r"]:
        """Return the finer images."""
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        """Return the factor."""
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """Gather finer pixels into channels: the inverse of `PixelShuffle`.

    y[c r^2 + i r + j, h, w] = x[c, h r + i, w r + j], where r is `downscale_factor`.

    Shapes: (*N, C, H r, W r) -> (*N, C r^2, H, W). Dtypes: any.

    Args:
        downscale_factor: how many times lower and narrower the output is.
        rngs: not needed.

    Raises:
        TypeError: if the factor is no int.
        ValueError: if it is not positive; at the call, if it does not divide height and width or
            the input has fewer than three dimensions.

    Source: torch.nn.PixelUnshuffle.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.PixelUnshuffle(2)(jnp.arange(4.0).reshape(1, 2, 2)).ravel()
        Array([0., 1., 2., 3.], dtype=float32)
    """

    def __init__(self, downscale_factor: int, *, rngs: nnx.Rngs | None = None) -> None:
        del rngs
        self.downscale_factor = check_int(
            downscale_factor, "downscale_factor", "jaxnn.PixelUnshuffle", minimum=1
        )

    def __call__(self, input: Shaped[Array, "*N C H*r W*r"]) -> Shaped[Array, "*N C*r*r H W"]:
        """Return the coarser images."""
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        """Return the factor."""
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Deal the channels of all groups out in turn.

    y[n, i g + j] = x[n, j C / g + i], where g is `groups`.

    Shapes: (N, C, *spatial), with one spatial dimension at least; kept. Dtypes: any.

    Args:
        groups: the number of groups, which divides the channels.
        rngs: not needed.

    Raises:
        TypeError: if `groups` is no int.
        ValueError: if it is not positive; at the call, if it does not divide the channels or the
            input has fewer than three dimensions.

    Source: Zhang et al., 2018; torch.nn.ChannelShuffle.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ChannelShuffle(2)(jnp.arange(4.0).reshape(1, 4, 1)).ravel()
        Array([0., 2., 1., 3.], dtype=float32)
    """

    def __init__(self, groups: int, *, rngs: nnx.Rngs | None = None) -> None:
        del rngs
        self.groups = check_int(groups, "groups", "jaxnn.ChannelShuffle", minimum=1)

    def __call__(self, input: Shaped[Array, "N C *spatial"]) -> Shaped[Array, "N C *spatial"]:
        """Return the images, their channels shuffled."""
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        """Return the number of groups."""
        return f"groups={self.groups}"


class Upsample(Module):
    """Resample to another size.

    An output at position i of a dimension looks at the input's position s (i + 1/2) - 1/2, with
    s = in / out, or s = 1 / scale_factor where that is given and not recomputed; with
    `align_corners` at i (in - 1) / (out - 1). `jaxnn.functional.interpolate` says what each mode
    makes of the input around that position.

    Shapes: (N, C, *spatial) with one to three spatial dimensions -> (N, C, *out), where out is
    `size`, or floor(spatial * scale_factor).

    Dtypes: any floating point; also uint8 for "nearest" and "nearest-exact". Half precision is
    computed in float32.

    Args:
        size: the new spatial sizes; one number for all.
        scale_factor: their ratio to the old ones, likewise; one of the two must be given.
        mode: "nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear" or "area".
        align_corners: whether the first and last elements keep their places; for the linear and
            cubic modes.
        recompute_scale_factor: whether the ratio of the sizes takes the place of `scale_factor`.
        rngs: not needed.

    Raises:
        TypeError: at the call, if the dtype is none of those, or a size or factor no number.
        ValueError: if the options do not go together; at the call, if they do not go with the
            input's dimensions, or a size is not positive.

    Source: torch.nn.Upsample.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Upsample(4, mode="linear")(jnp.array([[[1.0, 2.0]]]))
        Array([[[1.  , 1.25, 1.75, 2.  ]]], dtype=float32)
    """

    def __init__(
        self,
        size: IntOrInts | None = None,
        scale_factor: FloatOrFloats | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs
        self.size = None if size is None else _hashable(size)
        self.scale_factor = _floats(scale_factor)
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor
        check_resampling(
            self.size,
            self.scale_factor,
            mode,
            align_corners,
            recompute_scale_factor,
            f"jaxnn.{type(self).__name__}",
        )

    def __call__(self, input: Num[Array, "N C *spatial"]) -> Num[Array, "N C *out"]:
        """Return the images in their new size."""
        return F.interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
        )

    def extra_repr(self) -> str:
        """Return the factor or the size, and the mode."""
        if self.scale_factor is None:
            return f"size={self.size}, mode={self.mode!r}"
        return f"scale_factor={self.scale_factor}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Resample to another size by the nearest neighbour.

    y[i, j] = x[floor(s i), floor(t j)], with s = H / H_out, or 1 / scale_factor where that is
    given, and t likewise.

    Shapes: (N, C, H, W) -> (N, C, *size), or (N, C, floor(H scale_factor), floor(W scale_factor));
    as in torch, any `Upsample` takes are taken.

    Dtypes: any floating point and uint8.

    Args:
        size: the new height and width, one number or two.
        scale_factor: their ratio to the old ones, likewise; one of the two must be given.
        rngs: not needed.

    Raises:
        TypeError: at the call, if the dtype is none of those, or a size or factor no number.
        ValueError: if not one of the two is given; at the call, if a size is not positive.

    Source: torch.nn.UpsamplingNearest2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.UpsamplingNearest2d(scale_factor=2)(jnp.array([[[[1.0, 2.0]]]]))
        Array([[[[1., 1., 2., 2.],
                 [1., 1., 2., 2.]]]], dtype=float32)
    """

    def __init__(
        self,
        size: IntOrInts | None = None,
        scale_factor: FloatOrFloats | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        super().__init__(size, scale_factor, mode="nearest", rngs=rngs)


class UpsamplingBilinear2d(Upsample):
    """Resample to another size bilinearly; the corners keep their places.

    An output at (i, j) weighs the four neighbours of the input's position
    (i (H - 1) / (H_out - 1), j (W - 1) / (W_out - 1)).

    Shapes: (N, C, H, W) -> (N, C, *size), or (N, C, floor(H scale_factor), floor(W scale_factor)).

    Dtypes: any floating point; half precision is computed in float32.

    Args:
        size: the new height and width, one number or two.
        scale_factor: their ratio to the old ones, likewise; one of the two must be given.
        rngs: not needed.

    Raises:
        TypeError: at the call, if the dtype is none of those, or a size or factor no number.
        ValueError: if not one of the two is given; at the call, if a size is not positive, or the
            input has not four dimensions.

    Source: torch.nn.UpsamplingBilinear2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.UpsamplingBilinear2d((1, 4))(jnp.array([[[[0.0, 3.0]]]]))
        Array([[[[0., 1., 2., 3.]]]], dtype=float32)
    """

    def __init__(
        self,
        size: IntOrInts | None = None,
        scale_factor: FloatOrFloats | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True, rngs=rngs)

    def __call__(self, input: Float[Array, "N C H W"]) -> Float[Array, "N C H_out W_out"]:
        """Return the images in their new size."""
        return super().__call__(input)


def _floats(factor: FloatOrFloats | None) -> float | tuple[float, ...] | None:
    """Return the factors as torch keeps them, for which 0 is none."""
    if isinstance(factor, Sequence) and not isinstance(factor, str):
        return tuple(float(each) for each in factor)
    return float(factor) if factor else None


def _hashable(value: IntOrInts) -> int | tuple[int, ...]:
    """Return an option as it is printed, since a list cannot be static."""
    return tuple(value) if isinstance(value, Sequence) else value
