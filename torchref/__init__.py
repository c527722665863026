"""PyTorch as an nnspec backend: the reference."""

from .backend import TorchBackend as TorchBackend
