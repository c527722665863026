"""Pooling layers: an N-dimensional class for each kind, and its one, two and three dimensions."""

from .adaptive_pool import AdaptiveAvgPool1d as AdaptiveAvgPool1d
from .adaptive_pool import AdaptiveAvgPool2d as AdaptiveAvgPool2d
from .adaptive_pool import AdaptiveAvgPool3d as AdaptiveAvgPool3d
from .adaptive_pool import AdaptiveMaxPool1d as AdaptiveMaxPool1d
from .adaptive_pool import AdaptiveMaxPool2d as AdaptiveMaxPool2d
from .adaptive_pool import AdaptiveMaxPool3d as AdaptiveMaxPool3d
from .average_pool import AvgPool1d as AvgPool1d
from .average_pool import AvgPool2d as AvgPool2d
from .average_pool import AvgPool3d as AvgPool3d
from .fractional_max_pool import FractionalMaxPool2d as FractionalMaxPool2d
from .fractional_max_pool import FractionalMaxPool3d as FractionalMaxPool3d
from .lp_pool import LPPool1d as LPPool1d
from .lp_pool import LPPool2d as LPPool2d
from .lp_pool import LPPool3d as LPPool3d
from .max_pool import MaxPool1d as MaxPool1d
from .max_pool import MaxPool2d as MaxPool2d
from .max_pool import MaxPool3d as MaxPool3d
from .max_unpool import MaxUnpool1d as MaxUnpool1d
from .max_unpool import MaxUnpool2d as MaxUnpool2d
from .max_unpool import MaxUnpool3d as MaxUnpool3d
