"""Pooling: an N-d core for each kind, and thin 1d, 2d and 3d functions over it.

The full account is at the function of two dimensions; the others say what differs.
"""

from ._windows import windows_of as windows_of
from .adaptive_pool import adaptive_avg_pool1d as adaptive_avg_pool1d
from .adaptive_pool import adaptive_avg_pool2d as adaptive_avg_pool2d
from .adaptive_pool import adaptive_avg_pool3d as adaptive_avg_pool3d
from .adaptive_pool import adaptive_max_pool1d as adaptive_max_pool1d
from .adaptive_pool import adaptive_max_pool1d_with_indices as adaptive_max_pool1d_with_indices
from .adaptive_pool import adaptive_max_pool2d as adaptive_max_pool2d
from .adaptive_pool import adaptive_max_pool2d_with_indices as adaptive_max_pool2d_with_indices
from .adaptive_pool import adaptive_max_pool3d as adaptive_max_pool3d
from .adaptive_pool import adaptive_max_pool3d_with_indices as adaptive_max_pool3d_with_indices
from .adaptive_pool import check_output_size as check_output_size
from .average_pool import average_windows_of as average_windows_of
from .average_pool import avg_pool1d as avg_pool1d
from .average_pool import avg_pool2d as avg_pool2d
from .average_pool import avg_pool3d as avg_pool3d
from .fractional_max_pool import fractional_max_pool2d as fractional_max_pool2d
from .fractional_max_pool import (
    fractional_max_pool2d_with_indices as fractional_max_pool2d_with_indices,
)
from .fractional_max_pool import fractional_max_pool3d as fractional_max_pool3d
from .fractional_max_pool import (
    fractional_max_pool3d_with_indices as fractional_max_pool3d_with_indices,
)
from .fractional_max_pool import fractional_options as fractional_options
from .lp_pool import lp_pool1d as lp_pool1d
from .lp_pool import lp_pool2d as lp_pool2d
from .lp_pool import lp_pool3d as lp_pool3d
from .lp_pool import lp_windows_of as lp_windows_of
from .max_pool import max_pool1d as max_pool1d
from .max_pool import max_pool1d_with_indices as max_pool1d_with_indices
from .max_pool import max_pool2d as max_pool2d
from .max_pool import max_pool2d_with_indices as max_pool2d_with_indices
from .max_pool import max_pool3d as max_pool3d
from .max_pool import max_pool3d_with_indices as max_pool3d_with_indices
from .max_unpool import max_unpool1d as max_unpool1d
from .max_unpool import max_unpool2d as max_unpool2d
from .max_unpool import max_unpool3d as max_unpool3d
from .max_unpool import unpool_options as unpool_options
