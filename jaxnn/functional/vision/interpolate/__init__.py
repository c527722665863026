"""Other sizes: what an output looks at, its weighted sums, and the functions over both."""

from .functions import check_resampling as check_resampling
from .functions import interpolate as interpolate
from .functions import upsample as upsample
from .functions import upsample_bilinear as upsample_bilinear
from .functions import upsample_nearest as upsample_nearest
