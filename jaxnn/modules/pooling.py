"""Pooling layers: thin classes over `jaxnn.functional.pooling`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

from flax import nnx
from jaxtyping import Array, Float, Int, Num

from .. import functional as F
from .._checks import check_array
from ..functional.pooling import (
    average_windows_of,
    check_output_size,
    fractional_options,
    lp_windows_of,
    unpool_options,
    windows_of,
)
from ._module import Module, RandomModule, RandomSource


class _MaxPoolNd(Module):
    _n: ClassVar[int]

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs  # nothing is drawn
        layer = f"jaxnn.{type(self).__name__}"
        windows_of(self._n, layer, kernel_size, stride, padding, dilation, ceil_mode)
        _check_return_indices(layer, return_indices)
        self.kernel_size = _static(kernel_size)
        self.stride = _static(stride) or self.kernel_size
        self.padding = _static(padding)
        self.dilation = _static(dilation)
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )

    def __call__(self, input: Num[Array, "*N C *spatial"]) -> Any:
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[self._n - 1]
        return pool(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )


class MaxPool1d(_MaxPoolNd):
    """Maximum of each window over the last axis.

    Formula:
        out[n, c, o] = max over j < kernel_size of input[n, c, o * stride - padding + j * dilation]

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out), with L_out =
    floor((L + 2 * padding - dilation * (kernel_size - 1) - 1) / stride) + 1. With `ceil_mode` it is
    the ceiling, less one where the last window would start at or beyond L + padding.

    Args:
        kernel_size: taps in a window.
        stride: step from window to window, None for `kernel_size`.
        padding: positions added on both sides, which never win; at most half of `kernel_size`.
        dilation: step from tap to tap.
        return_indices: whether the call returns the maxima's positions too.
        ceil_mode: whether a last window may be ragged.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input's dtype cannot be
            pooled (integers only together with `return_indices`, as in torch).
        ValueError: if an option is out of range; at the call, if the input's shape does not fit.

    Source: torch.nn.MaxPool1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.MaxPool1d(3, stride=2, padding=1)(jnp.array([[3.0, 1.0, 2.0, 0.0, 5.0]]))
        Array([[3., 2., 5.]], dtype=float32)
    """

    _n = 1


class MaxPool2d(_MaxPoolNd):
    """Maximum of each window over the last two axes.

    Formula:
        out[n, c, y, x] = max over i < kH, j < kW of
            input[n, c, y * sH - pH + i * dH, x * sW - pW + j * dW]

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N; each size as for
    `MaxPool1d`.

    Args:
        kernel_size: taps in a window; this and the next three, one number or (height, width).
        stride: step from window to window, None for `kernel_size`.
        padding: positions added on both sides, which never win; at most half of `kernel_size`.
        dilation: step from tap to tap.
        return_indices: whether the call returns the maxima's positions h * W + w in the unpadded
            plane too: the first of equals, the last of NaNs.
        ceil_mode: whether a last window may be ragged.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input's dtype cannot be
            pooled.
        ValueError: if an option is out of range; at the call, if the input's shape does not fit.

    Source: torch.nn.MaxPool2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.MaxPool2d(2, ceil_mode=True)(jnp.arange(9.0).reshape(1, 3, 3))
        Array([[[4., 5.],
                [7., 8.]]], dtype=float32)
    """

    _n = 2


class MaxPool3d(_MaxPoolNd):
    """Maximum of each window over the last three axes.

    Formula:
        out[n, c, z, y, x] = max over h < kD, i < kH, j < kW of
            input[n, c, z * sD - pD + h * dD, y * sH - pH + i * dH, x * sW - pW + j * dW]

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N; each size as for
    `MaxPool1d`.

    Args:
        kernel_size: taps in a window; this and the next three, one number or (depth, height,
            width).
        stride: step from window to window, None for `kernel_size`.
        padding: positions added on both sides, which never win; at most half of `kernel_size`.
        dilation: step from tap to tap.
        return_indices: whether the call returns the maxima's positions (d * H + h) * W + w in the
            unpadded volume too: the first of equals, the last of NaNs.
        ceil_mode: whether a last window may be ragged.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input's dtype cannot be
            pooled.
        ValueError: if an option is out of range; at the call, if the input's shape does not fit.

    Source: torch.nn.MaxPool3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.MaxPool3d(2)(jnp.arange(8.0).reshape(1, 2, 2, 2))
        Array([[[[7.]]]], dtype=float32)
    """

    _n = 3


class _AvgPoolNd(Module):
    _n: ClassVar[int]
    divisor_override: int | None = None

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs  # nothing is drawn
        layer = f"jaxnn.{type(self).__name__}"
        options = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        average_windows_of(self._n, layer, *options)
        self.kernel_size = _static(kernel_size)
        self.stride = _static(stride) or self.kernel_size
        self.padding = _static(padding)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"

    def __call__(self, input: Num[Array, "*N C *spatial"]) -> Num[Array, "*N C *spatial_out"]:
        options: dict[str, Any] = {"count_include_pad": self.count_include_pad}
        if self._n > 1:
            options["divisor_override"] = self.divisor_override
        pool: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[self._n - 1]
        return pool(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, **options)


class AvgPool1d(_AvgPoolNd):
    """Mean of each window over the last axis, padded with zeros.

    Formula:
        out[n, c, o] = (sum over j < kernel_size of input[n, c, o * stride - padding + j]) / count

    where count is how many of the window's positions lie between -padding and L + padding, or,
    without `count_include_pad`, between 0 and L.

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out), with L_out =
    floor((L + 2 * padding - kernel_size) / stride) + 1. With `ceil_mode` it is the ceiling, less
    one where the last window would start at or beyond L + padding.

    Args:
        kernel_size: positions in a window.
        stride: step from window to window, None for `kernel_size`.
        padding: zeros added on both sides, at most half of `kernel_size`.
        ceil_mode: whether a last window may be ragged.
        count_include_pad: whether padding counts.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input's dtype cannot be
            averaged.
        ValueError: if an option is out of range; at the call, if the input's shape does not fit.

    Source: torch.nn.AvgPool1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AvgPool1d(3, stride=2, padding=1)(jnp.array([[3.0, 3.0, 2.0, 1.0, 3.0]]))
        Array([[2.       , 2.       , 1.3333334]], dtype=float32)
    """

    _n = 1

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad, rngs=rngs)


class AvgPool2d(_AvgPoolNd):
    """Mean of each window over the last two axes, padded with zeros.

    Formula:
        out[n, c, y, x] = (sum over i < kH, j < kW of
            input[n, c, y * sH - pH + i, x * sW - pW + j]) / count

    where count is `divisor_override`, or else how many of the window's positions lie in the padded
    input, or, without `count_include_pad`, in the input itself.

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N; each size as for
    `AvgPool1d`.

    Args:
        kernel_size: positions in a window; this and the next two, one number or (height, width).
        stride: step from window to window, None for `kernel_size`.
        padding: zeros added on both sides, at most half of `kernel_size`.
        ceil_mode: whether a last window may be ragged.
        count_include_pad: whether padding counts.
        divisor_override: what every sum is divided by, not 0.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input's dtype cannot be
            averaged.
        ValueError: if an option is out of range; at the call, if the input's shape does not fit.

    Source: torch.nn.AvgPool2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AvgPool2d(2, ceil_mode=True)(jnp.arange(9.0).reshape(1, 3, 3))
        Array([[[2. , 3.5],
                [6.5, 8. ]]], dtype=float32)
    """

    _n = 2


class AvgPool3d(_AvgPoolNd):
    """Mean of each window over the last three axes, padded with zeros.

    Formula:
        out[n, c, z, y, x] = (sum over h < kD, i < kH, j < kW of
            input[n, c, z * sD - pD + h, y * sH - pH + i, x * sW - pW + j]) / count

    where count is `divisor_override`, or else how many of the window's positions lie in the padded
    input, or, without `count_include_pad`, in the input itself.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N; each size as for
    `AvgPool1d`.

    Args:
        kernel_size: positions in a window; this and the next two, one number or (depth, height,
            width).
        stride: step from window to window, None for `kernel_size`.
        padding: zeros added on both sides, at most half of `kernel_size`.
        ceil_mode: whether a last window may be ragged.
        count_include_pad: whether padding counts.
        divisor_override: what every sum is divided by, not 0.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input's dtype cannot be
            averaged.
        ValueError: if an option is out of range; at the call, if the input's shape does not fit.

    Source: torch.nn.AvgPool3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AvgPool3d(2)(jnp.arange(8.0).reshape(1, 2, 2, 2))
        Array([[[[3.5]]]], dtype=float32)
    """

    _n = 3


class _AdaptiveAvgPoolNd(Module):
    _n: ClassVar[int]

    def __init__(
        self, output_size: int | Sequence[int | None], *, rngs: nnx.Rngs | None = None
    ) -> None:
        del rngs  # nothing is drawn
        check_output_size(self._n, f"jaxnn.{type(self).__name__}", output_size)
        self.output_size = _static(output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"

    def __call__(self, input: Float[Array, "*N C *spatial"]) -> Float[Array, "*N C *spatial_out"]:
        pool: Any = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[
            self._n - 1
        ]
        return cast(Array, pool(input, self.output_size))


class AdaptiveAvgPool1d(_AdaptiveAvgPoolNd):
    """Mean of each of `output_size` windows that cover the last axis.

    Formula:
        out[n, c, o] = mean of input[n, c, floor(o * L / L_out) : ceil((o + 1) * L / L_out)]

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out), with L_out = output_size.

    Args:
        output_size: how many windows; more than L repeat positions.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input is of no
            floating-point dtype.
        ValueError: if a size is negative; at the call, if the input's shape does not fit.

    Source: torch.nn.AdaptiveAvgPool1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AdaptiveAvgPool1d(3)(jnp.array([[1.0, 2.0, 3.0, 4.0, 5.0]]))
        Array([[1.5, 3. , 4.5]], dtype=float32)
    """

    _n = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPoolNd):
    """Mean of each of H_out * W_out windows that cover the last two axes.

    Formula:
        out[n, c, y, x] = mean of input[n, c,
            floor(y * H / H_out) : ceil((y + 1) * H / H_out),
            floor(x * W / W_out) : ceil((x + 1) * W / W_out)]

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N.

    Args:
        output_size: H_out and W_out, or one number for both; None in a pair keeps the input's size.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input is of no
            floating-point dtype.
        ValueError: if a size is negative; at the call, if the input's shape does not fit.

    Source: torch.nn.AdaptiveAvgPool2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AdaptiveAvgPool2d((1, None))(jnp.arange(6.0).reshape(1, 2, 3))
        Array([[[1.5, 2.5, 3.5]]], dtype=float32)
    """

    _n = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPoolNd):
    """Mean of each of D_out * H_out * W_out windows that cover the last three axes.

    Formula:
        out[n, c, z, y, x] = mean of input[n, c,
            floor(z * D / D_out) : ceil((z + 1) * D / D_out),
            floor(y * H / H_out) : ceil((y + 1) * H / H_out),
            floor(x * W / W_out) : ceil((x + 1) * W / W_out)]

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N.

    Args:
        output_size: D_out, H_out and W_out, or one number for all; None among three keeps the
            input's size.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input is of no
            floating-point dtype.
        ValueError: if a size is negative; at the call, if the input's shape does not fit.

    Source: torch.nn.AdaptiveAvgPool3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AdaptiveAvgPool3d(1)(jnp.arange(8.0).reshape(1, 2, 2, 2))
        Array([[[[3.5]]]], dtype=float32)
    """

    _n = 3


class _AdaptiveMaxPoolNd(Module):
    _n: ClassVar[int]

    def __init__(
        self,
        output_size: int | Sequence[int | None],
        return_indices: bool = False,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs  # nothing is drawn
        layer = f"jaxnn.{type(self).__name__}"
        check_output_size(self._n, layer, output_size)
        _check_return_indices(layer, return_indices)
        self.output_size = _static(output_size)
        self.return_indices = return_indices

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"

    def __call__(self, input: Float[Array, "*N C *spatial"]) -> Any:
        pool: Any = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[
            self._n - 1
        ]
        return pool(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPoolNd):
    """Maximum of each of `output_size` windows that cover the last axis.

    Formula:
        out[n, c, o] = max of input[n, c, floor(o * L / L_out) : ceil((o + 1) * L / L_out)]

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out), with L_out = output_size.

    Args:
        output_size: how many windows; more than L repeat positions.
        return_indices: whether the call returns the maxima's positions too:
            the first of equals, the last of NaNs.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input is of no
            floating-point dtype.
        ValueError: if a size is negative; at the call, if the input's shape does not fit.

    Source: torch.nn.AdaptiveMaxPool1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AdaptiveMaxPool1d(3)(jnp.array([[1.0, 5.0, 3.0, 4.0, 2.0]]))
        Array([[5., 5., 4.]], dtype=float32)
    """

    _n = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPoolNd):
    """Maximum of each of H_out * W_out windows that cover the last two axes.

    Formula:
        out[n, c, y, x] = max of input[n, c,
            floor(y * H / H_out) : ceil((y + 1) * H / H_out),
            floor(x * W / W_out) : ceil((x + 1) * W / W_out)]

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N.

    Args:
        output_size: H_out and W_out, or one number for both; None in a pair keeps the input's size.
        return_indices: whether the call returns the maxima's positions
            h * W + w too: the first of equals, the last of NaNs.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input is of no
            floating-point dtype.
        ValueError: if a size is negative; at the call, if the input's shape does not fit.

    Source: torch.nn.AdaptiveMaxPool2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AdaptiveMaxPool2d((1, None))(jnp.arange(6.0).reshape(1, 2, 3))
        Array([[[3., 4., 5.]]], dtype=float32)
    """

    _n = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPoolNd):
    """Maximum of each of D_out * H_out * W_out windows that cover the last three axes.

    Formula:
        out[n, c, z, y, x] = max of input[n, c,
            floor(z * D / D_out) : ceil((z + 1) * D / D_out),
            floor(y * H / H_out) : ceil((y + 1) * H / H_out),
            floor(x * W / W_out) : ceil((x + 1) * W / W_out)]

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N.

    Args:
        output_size: D_out, H_out and W_out, or one number for all; None among three keeps the
            input's size.
        return_indices: whether the call returns the maxima's positions
            (d * H + h) * W + w too: the first of equals, the last of NaNs.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input is of no
            floating-point dtype.
        ValueError: if a size is negative; at the call, if the input's shape does not fit.

    Source: torch.nn.AdaptiveMaxPool3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.AdaptiveMaxPool3d(1)(jnp.arange(8.0).reshape(1, 2, 2, 2))
        Array([[[[7.]]]], dtype=float32)
    """

    _n = 3


class _MaxUnpoolNd(Module):
    _n: ClassVar[int]

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs  # nothing is drawn
        layer = f"jaxnn.{type(self).__name__}"
        options = unpool_options(self._n, layer, kernel_size, stride, padding)
        self.kernel_size, self.stride, self.padding = options

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"

    def __call__(
        self,
        input: Float[Array, "*N C *spatial"],
        indices: Int[Array, "*N C *spatial"],
        output_size: Sequence[int] | None = None,
    ) -> Float[Array, "*N C *spatial_out"]:
        unpool = (F.max_unpool1d, F.max_unpool2d, F.max_unpool3d)[self._n - 1]
        return unpool(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool1d(_MaxUnpoolNd):
    """Put each value at its index along the last axis, and zero elsewhere.

    Formula:
        out[n, c, indices[n, c, o]] = input[n, c, o]

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out), each size
    being (size - 1) * stride - 2 * padding + kernel_size, or what `output_size` says at the call.

    Args:
        kernel_size: positions in a window of the pooling.
        stride: step of the pooling, None for `kernel_size`.
        padding: padding of the pooling.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if a dtype does not fit.
        ValueError: if an option is out of range; at the call, if a shape or size does not fit.
        IndexError: at the call, if an index lies outside the output.

    Source: Zeiler et al., 2011; torch.nn.MaxUnpool1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.array([[1.0, 3.0, 5.0, 4.0]])
        >>> pooled, indices = jaxnn.MaxPool1d(2, return_indices=True)(x)
        >>> jaxnn.MaxUnpool1d(2)(pooled, indices)
        Array([[0., 3., 5., 0.]], dtype=float32)
    """

    _n = 1


class MaxUnpool2d(_MaxUnpoolNd):
    """Put each value at its index in the plane, and zero elsewhere.

    Formula:
        out[n, c].flat[indices[n, c, y, x]] = input[n, c, y, x]

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N, each size
    being (size - 1) * stride - 2 * padding + kernel_size, or what `output_size` says at the call.

    Args:
        kernel_size: positions in a window of the pooling; this and the next two, one number or
            (height, width).
        stride: step of the pooling, None for `kernel_size`.
        padding: padding of the pooling.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if a dtype does not fit.
        ValueError: if an option is out of range; at the call, if a shape or size does not fit.
        IndexError: at the call, if an index lies outside the output.

    Source: Zeiler et al., 2011; torch.nn.MaxUnpool2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.array([[[1.0, 3.0], [5.0, 4.0]]])
        >>> pooled, indices = jaxnn.MaxPool2d(2, return_indices=True)(x)
        >>> jaxnn.MaxUnpool2d(2)(pooled, indices)
        Array([[[0., 0.],
                [5., 0.]]], dtype=float32)
    """

    _n = 2


class MaxUnpool3d(_MaxUnpoolNd):
    """Put each value at its index in the volume, and zero elsewhere.

    Formula:
        out[n, c].flat[indices[n, c, z, y, x]] = input[n, c, z, y, x]

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N, each size
    being (size - 1) * stride - 2 * padding + kernel_size, or what `output_size` says at the call.

    Args:
        kernel_size: positions in a window of the pooling; this and the next two, one number or
            (depth, height, width).
        stride: step of the pooling, None for `kernel_size`.
        padding: padding of the pooling.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type; at the call, if a dtype does not fit.
        ValueError: if an option is out of range; at the call, if a shape or size does not fit.
        IndexError: at the call, if an index lies outside the output.

    Source: Zeiler et al., 2011; torch.nn.MaxUnpool3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.array([[[[1.0, 3.0]], [[5.0, 4.0]]]])
        >>> pooled, indices = jaxnn.MaxPool3d((2, 1, 2), return_indices=True)(x)
        >>> jaxnn.MaxUnpool3d((2, 1, 2))(pooled, indices)
        Array([[[[0., 0.]],
        <BLANKLINE>
                [[5., 0.]]]], dtype=float32)
    """

    _n = 3


class _LPPoolNd(Module):
    _n: ClassVar[int]

    def __init__(
        self,
        norm_type: float,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        ceil_mode: bool = False,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs  # nothing is drawn
        layer = f"jaxnn.{type(self).__name__}"
        lp_windows_of(self._n, layer, norm_type, kernel_size, stride, ceil_mode)
        self.norm_type = norm_type
        self.kernel_size = _static(kernel_size)
        self.stride = _static(stride)
        self.ceil_mode = ceil_mode

    def extra_repr(self) -> str:
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )

    def __call__(self, input: Num[Array, "*N C *spatial"]) -> Float[Array, "*N C *spatial_out"]:
        pool: Any = (F.lp_pool1d, F.lp_pool2d, F.lp_pool3d)[self._n - 1]
        options = self.norm_type, self.kernel_size, self.stride, self.ceil_mode
        return cast(Array, pool(input, *options))


class LPPool1d(_LPPoolNd):
    """Root of the sum of powers of each window over the last axis.

    Formula:
        out[n, c, o] = (sum over j < kernel_size of input[n, c, o * stride + j]^p)^(1 / p)

    with p = norm_type, and no absolute values; for p of inf or -inf, the maximum or minimum of the
    absolute values. A ragged last window has its mean, not its sum, times the window's size.

    Shapes: (N, C, L) -> (N, C, L_out), or (C, L) -> (C, L_out); sizes as
    for `AvgPool1d` without padding.

    Args:
        norm_type: p, not 0.
        kernel_size: positions in a window.
        stride: step from window to window, None for `kernel_size`.
        ceil_mode: whether a last window may be ragged.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type.
        ValueError: if an option is out of range; at the call, if the input's shape does not fit.

    Source: torch.nn.LPPool1d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.LPPool1d(2, 2)(jnp.array([[3.0, 4.0, 6.0, 8.0]]))
        Array([[ 5., 10.]], dtype=float32)
    """

    _n = 1


class LPPool2d(_LPPoolNd):
    """Root of the sum of powers of each window over the last two axes.

    Formula:
        out[n, c, y, x] = (sum over i < kH, j < kW of input[n, c, y * sH + i, x * sW + j]^p)^(1 / p)

    with p = norm_type, and no absolute values; for p of inf or -inf, the maximum or minimum of the
    absolute values. A ragged last window has its mean, not its sum, times the window's size.

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N; sizes as
    for `AvgPool1d` without padding.

    Args:
        norm_type: p, not 0.
        kernel_size: positions in a window; this and the next one, one number or
            (height, width).
        stride: step from window to window, None for `kernel_size`.
        ceil_mode: whether a last window may be ragged.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type.
        ValueError: if an option is out of range; at the call, if the input's shape does not fit.

    Source: torch.nn.LPPool2d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.LPPool2d(2, 2)(jnp.ones((1, 2, 4)))
        Array([[[2., 2.]]], dtype=float32)
    """

    _n = 2


class LPPool3d(_LPPoolNd):
    """Root of the sum of powers of each window over the last three axes.

    Formula:
        out[n, c, z, y, x] = (sum over h < kD, i < kH, j < kW of
            input[n, c, z * sD + h, y * sH + i, x * sW + j]^p)^(1 / p)

    with p = norm_type, and no absolute values; for p of inf or -inf, the maximum or minimum of the
    absolute values. A ragged last window has its mean, not its sum, times the window's size.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N; sizes as
    for `AvgPool1d` without padding.

    Args:
        norm_type: p, not 0.
        kernel_size: positions in a window; this and the next one, one number or
            (depth, height, width).
        stride: step from window to window, None for `kernel_size`.
        ceil_mode: whether a last window may be ragged.
        rngs: accepted for uniformity; nothing is drawn.

    Raises:
        TypeError: if an option is not of its type.
        ValueError: if an option is out of range; at the call, if the input's shape does not fit.

    Source: torch.nn.LPPool3d.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.LPPool3d(1, 2)(jnp.ones((1, 2, 2, 2)))
        Array([[[[8.]]]], dtype=float32)
    """

    _n = 3


class _FractionalMaxPoolNd(RandomModule):
    _n: ClassVar[int]

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        output_size: int | Sequence[int] | None = None,
        output_ratio: float | Sequence[float] | None = None,
        return_indices: bool = False,
        _random_samples: Float[Array, "N C n"] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        layer = f"jaxnn.{type(self).__name__}"
        if output_size is not None and output_ratio is not None:
            raise ValueError(f"{layer}: `output_size` and `output_ratio` exclude each other")
        options = fractional_options(self._n, layer, kernel_size, output_size, output_ratio)
        self.kernel_size, self.output_size, self.output_ratio = options
        if self.output_ratio is not None and not all(0 < r < 1 for r in self.output_ratio):
            raise ValueError(
                f"{layer}: `output_ratio` must lie between 0 and 1, both excluded, got "
                f"{output_ratio!r}"
            )
        _check_return_indices(layer, return_indices)
        self.return_indices = return_indices
        self._init_random(rngs)
        given = None
        if _random_samples is not None:
            given = nnx.BatchStat(check_array(_random_samples, "_random_samples", layer))
        self._random_samples = nnx.data(given)

    def __call__(
        self, input: Float[Array, "*N C *spatial"], *, rngs: RandomSource | None = None
    ) -> Any:
        """Return the maxima; `rngs` takes the place of the layer's stream."""
        samples, key = None, None
        if self._random_samples is not None:
            samples = self._random_samples[...].astype(input.dtype)
        else:
            key = self._draw_key(rngs)
        pool = (F.fractional_max_pool2d, F.fractional_max_pool3d)[self._n - 2]
        sizes = self.kernel_size, self.output_size, self.output_ratio
        return pool(input, *sizes, self.return_indices, samples, rng=key)


class FractionalMaxPool2d(_FractionalMaxPoolNd):
    """Maximum of each window over the last two axes, the windows at pseudo-random steps.

    Formula: as in `jaxnn.functional.fractional_max_pool2d`. Each sample and channel has its own
    random numbers, drawn at every call, in evaluation mode too, as in torch.

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N.

    Args:
        kernel_size: positions in a window; one number or (height, width).
        output_size: H_out and W_out, or one number for all.
        output_ratio: in place of `output_size`, its ratio to the input's size, between 0 and 1; the
            product is rounded down.
        return_indices: whether the call returns the maxima's positions too: the first of equals,
            the last of NaNs.
        _random_samples: the random numbers, shape (N, C, 2), from 0 up to but without 1; a buffer.
            None to draw them.
        rngs: where the layer's own stream is forked from. Without it, a call needs `rngs`.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input is of no
            floating-point dtype.
        ValueError: if an option is out of range, or both or neither of `output_size` and
            `output_ratio` are given; at the call, if the input's shape does not fit.

    Source: Graham, 2014; torch.nn.FractionalMaxPool2d.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.FractionalMaxPool2d(2, output_ratio=0.5, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((1, 3, 9, 7))).shape
        (1, 3, 4, 3)
    """

    _n = 2


class FractionalMaxPool3d(_FractionalMaxPoolNd):
    """Maximum of each window over the last three axes, the windows at pseudo-random steps.

    Formula: as in `jaxnn.functional.fractional_max_pool3d`. Each sample and channel has its own
    random numbers, drawn at every call, in evaluation mode too, as in torch.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N.

    Args:
        kernel_size: positions in a window; one number or (depth, height, width).
        output_size: D_out, H_out and W_out, or one number for all.
        output_ratio: in place of `output_size`, its ratio to the input's size, between 0 and 1; the
            product is rounded down.
        return_indices: whether the call returns the maxima's positions too: the first of equals,
            the last of NaNs.
        _random_samples: the random numbers, shape (N, C, 3), from 0 up to but without 1; a buffer.
            None to draw them.
        rngs: where the layer's own stream is forked from. Without it, a call needs `rngs`.

    Raises:
        TypeError: if an option is not of its type; at the call, if the input is of no
            floating-point dtype.
        ValueError: if an option is out of range, or both or neither of `output_size` and
            `output_ratio` are given; at the call, if the input's shape does not fit.

    Source: Graham, 2014; torch.nn.FractionalMaxPool3d.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.FractionalMaxPool3d(2, output_ratio=0.5, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((1, 3, 9, 7, 8))).shape
        (1, 3, 4, 3, 4)
    """

    _n = 3


def _static(option: Any) -> Any:
    """Return a list as a tuple: a module's list would count as part of its state."""
    return tuple(option) if isinstance(option, Sequence) else option


def _check_return_indices(layer: str, return_indices: bool) -> None:
    if not isinstance(return_indices, bool):
        raise TypeError(f"{layer}: `return_indices` must be True or False, got {return_indices!r}")
