"""Convolution layers: those that are told their input channels, and those that ask the input."""

from .layers import Conv1d as Conv1d
from .layers import Conv2d as Conv2d
from .layers import Conv3d as Conv3d
from .layers import ConvTranspose1d as ConvTranspose1d
from .layers import ConvTranspose2d as ConvTranspose2d
from .layers import ConvTranspose3d as ConvTranspose3d
from .lazy import LazyConv1d as LazyConv1d
from .lazy import LazyConv2d as LazyConv2d
from .lazy import LazyConv3d as LazyConv3d
from .lazy import LazyConvTranspose1d as LazyConvTranspose1d
from .lazy import LazyConvTranspose2d as LazyConvTranspose2d
from .lazy import LazyConvTranspose3d as LazyConvTranspose3d
