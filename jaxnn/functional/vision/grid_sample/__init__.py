"""Grids: what a point looks at, its weighted sums, and the functions over both."""

from .functions import affine_grid as affine_grid
from .functions import grid_sample as grid_sample
