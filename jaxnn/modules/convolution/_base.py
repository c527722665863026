"""What convolutions and their transposes share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax

from ..._checks import check_int, ntuple
from ..._types import IntOrInts
from .._lazy import LazyModule
from .._module import Module, name_of
from .._options import changed


class Convolution(Module):
    """What convolutions and their transposes share, over `_n` spatial dimensions."""

    _n: ClassVar[int]
    _function: ClassVar[Callable[..., Any]]
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
        name = name_of(self)
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
        zeros, ones = (0,) * self._n, (1,) * self._n
        defaults = {"padding": zeros, "dilation": ones, "output_padding": zeros, "groups": 1}
        return ", ".join(
            [
                f"{self.in_channels}, {self.out_channels}",
                f"kernel_size={self.kernel_size}, stride={self.stride}",
                *changed(self, defaults),
                *(["bias=False"] if self.bias is None else []),
                *changed(self, {"padding_mode": "zeros"}),
            ]
        )


class LazyConvolution(LazyModule):
    """A convolution whose input channels are still to come."""

    channels_argument = "in_channels"
    _n: int
    groups: int

    def channels_of_input(self, input: jax.Array) -> int:
        """Return the size of the dimension before the spatial ones."""
        if input.ndim not in (self._n + 1, self._n + 2):
            raise ValueError(
                f"{name_of(self)}: `input` must have {self._n + 1} or {self._n + 2} "
                f"dimensions, got shape {input.shape}"
            )
        channels = input.shape[-self._n - 1]
        if channels % self.groups:
            raise ValueError(
                f"{name_of(self)}: the {channels} channels of `input` cannot be "
                f"divided into groups={self.groups}"
            )
        return channels
