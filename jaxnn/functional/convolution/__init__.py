"""Convolutions: the definition, its formulations for a CPU, and the functions over both."""

from .functions import conv1d as conv1d
from .functions import conv2d as conv2d
from .functions import conv3d as conv3d
from .functions import conv_tbc as conv_tbc
from .functions import conv_transpose1d as conv_transpose1d
from .functions import conv_transpose2d as conv_transpose2d
from .functions import conv_transpose3d as conv_transpose3d
from .functions import same_padding as same_padding
