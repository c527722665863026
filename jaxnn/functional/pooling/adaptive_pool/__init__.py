"""Adaptive pooling: the definition, its formulation for a CPU, and the functions over both."""

from .functions import adaptive_avg_pool1d as adaptive_avg_pool1d
from .functions import adaptive_avg_pool2d as adaptive_avg_pool2d
from .functions import adaptive_avg_pool3d as adaptive_avg_pool3d
from .functions import adaptive_max_pool1d as adaptive_max_pool1d
from .functions import adaptive_max_pool1d_with_indices as adaptive_max_pool1d_with_indices
from .functions import adaptive_max_pool2d as adaptive_max_pool2d
from .functions import adaptive_max_pool2d_with_indices as adaptive_max_pool2d_with_indices
from .functions import adaptive_max_pool3d as adaptive_max_pool3d
from .functions import adaptive_max_pool3d_with_indices as adaptive_max_pool3d_with_indices
from .functions import check_output_size as check_output_size
