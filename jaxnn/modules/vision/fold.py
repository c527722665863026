"""Blocks of images as columns, and back."""

from __future__ import annotations

from flax import nnx
from jaxtyping import Array, Shaped

from ... import functional as F
from ..._types import IntOrInts
from ...functional.vision import pair, window
from .._module import Module, name_of
from .._options import static


class _Window(Module):
    """A window that slides over images."""

    def _init_window(
        self, kernel_size: IntOrInts, dilation: IntOrInts, padding: IntOrInts, stride: IntOrInts
    ) -> None:
        window(kernel_size, dilation, padding, stride, name_of(self))
        self.kernel_size = static(kernel_size)
        self.dilation = static(dilation)
        self.padding = static(padding)
        self.stride = static(stride)

    def extra_repr(self) -> str:
        names = ("kernel_size", "dilation", "padding", "stride")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class Unfold(_Window):
    """Take out the blocks under a sliding window, as columns: see `jaxnn.functional.unfold`.

    Shapes: (N, C, H, W) or (C, H, W) -> (N, C kH kW, L), or without N; L is the number of the
    window's positions.

    Args:
        kernel_size: the window's size, one number or (height, width).
        dilation: the step between the window's taps, likewise.
        padding: the zeros on both sides, likewise.
        stride: the step of the window, likewise.

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
        self._init_window(kernel_size, dilation, padding, stride)

    def __call__(self, input: Shaped[Array, "*N C H W"]) -> Shaped[Array, "*N C*kH*kW L"]:
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(_Window):
    """Put blocks back where `Unfold` takes them from, adding where they overlap.

    See `jaxnn.functional.fold`.

    Shapes: (N, C kH kW, L) or (C kH kW, L) -> (N, C, *output_size), or without N; L is the number
    of the window's positions on the output, as in `Unfold`.

    Args:
        output_size: the size of the images, one number or (height, width).
        kernel_size: the window's size, likewise.
        dilation: the step between the window's taps, likewise.
        padding: how much of the blocks lies beyond the images, on both sides, likewise.
        stride: the step of the window, likewise.

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
        pair(output_size, "output_size", "jaxnn.Fold", minimum=1)
        self.output_size = static(output_size)
        self._init_window(kernel_size, dilation, padding, stride)

    def __call__(self, input: Shaped[Array, "*N C*kH*kW L"]) -> Shaped[Array, "*N C H W"]:
        return F.fold(
            input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, {super().extra_repr()}"
