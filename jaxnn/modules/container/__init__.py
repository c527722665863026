"""Containers of modules and of parameters, and the layers that only change the shape."""

from ._container import Container as Container
from .modules import ModuleDict as ModuleDict
from .modules import ModuleList as ModuleList
from .modules import Sequential as Sequential
from .parameters import ParameterDict as ParameterDict
from .parameters import ParameterList as ParameterList
from .shape import Flatten as Flatten
from .shape import Unflatten as Unflatten
