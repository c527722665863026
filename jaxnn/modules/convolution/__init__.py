"""Convolution layers, transposed ones, and their lazy forms."""

from .conv import Conv1d as Conv1d
from .conv import Conv2d as Conv2d
from .conv import Conv3d as Conv3d
from .conv import LazyConv1d as LazyConv1d
from .conv import LazyConv2d as LazyConv2d
from .conv import LazyConv3d as LazyConv3d
from .conv_transpose import ConvTranspose1d as ConvTranspose1d
from .conv_transpose import ConvTranspose2d as ConvTranspose2d
from .conv_transpose import ConvTranspose3d as ConvTranspose3d
from .conv_transpose import LazyConvTranspose1d as LazyConvTranspose1d
from .conv_transpose import LazyConvTranspose2d as LazyConvTranspose2d
from .conv_transpose import LazyConvTranspose3d as LazyConvTranspose3d
