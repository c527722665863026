"""Images and their like: blocks, shuffles, other sizes."""

from .fold import fold as fold
from .fold import pair as pair
from .fold import unfold as unfold
from .fold import window as window
from .grid_sample import affine_grid as affine_grid
from .grid_sample import grid_sample as grid_sample
from .interpolate import check_resampling as check_resampling
from .interpolate import interpolate as interpolate
from .interpolate import upsample as upsample
from .interpolate import upsample_bilinear as upsample_bilinear
from .interpolate import upsample_nearest as upsample_nearest
from .shuffle import channel_shuffle as channel_shuffle
from .shuffle import pixel_shuffle as pixel_shuffle
from .shuffle import pixel_unshuffle as pixel_unshuffle
