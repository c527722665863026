"""The layers, one file a family."""

from ._module import Frozen, Module, NonPersistent
from .activation import PReLU, ReLU, Softmax
from .container import Flatten, ModuleDict, ModuleList, Sequential, Unflatten
from .convolution import Conv1d, Conv2d, Conv3d
from .dropout import Dropout
from .embedding import Embedding
from .linear import Identity, Linear
from .normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .pooling import MaxPool1d, MaxPool2d, MaxPool3d

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "Dropout",
    "Embedding",
    "Flatten",
    "Frozen",
    "Identity",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NonPersistent",
    "PReLU",
    "ReLU",
    "Sequential",
    "Softmax",
    "Unflatten",
]
