"""Max pooling: the definition, its derivative, and the functions over both."""

from .functions import max_pool1d as max_pool1d
from .functions import max_pool1d_with_indices as max_pool1d_with_indices
from .functions import max_pool2d as max_pool2d
from .functions import max_pool2d_with_indices as max_pool2d_with_indices
from .functions import max_pool3d as max_pool3d
from .functions import max_pool3d_with_indices as max_pool3d_with_indices
