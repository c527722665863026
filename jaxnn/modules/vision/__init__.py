"""Layers of images: blocks, shuffles, other sizes."""

from .fold import Fold as Fold
from .fold import Unfold as Unfold
from .interpolate import Upsample as Upsample
from .interpolate import UpsamplingBilinear2d as UpsamplingBilinear2d
from .interpolate import UpsamplingNearest2d as UpsamplingNearest2d
from .shuffle import ChannelShuffle as ChannelShuffle
from .shuffle import PixelShuffle as PixelShuffle
from .shuffle import PixelUnshuffle as PixelUnshuffle
