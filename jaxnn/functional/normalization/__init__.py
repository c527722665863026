"""Normalisation: by statistics of a batch, of a sample, of neighbouring channels, of a vector.

definition.py says what statistics are and what is done with them; own_statistics.py has the
derivative through them; cpu.py has layer normalisation of many rows.
"""

from .batch import batch_norm as batch_norm
from .batch import batch_norm_with_stats as batch_norm_with_stats
from .batch import instance_norm as instance_norm
from .batch import instance_norm_with_stats as instance_norm_with_stats
from .group import group_norm as group_norm
from .group import layer_norm as layer_norm
from .group import rms_norm as rms_norm
from .response import cross_map_lrn2d as cross_map_lrn2d
from .response import local_response_norm as local_response_norm
from .vector import normalize as normalize
