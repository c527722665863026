"""Normalisation layers: of channels, of groups and last dimensions, by neighbours."""

from .batch import BatchNorm1d as BatchNorm1d
from .batch import BatchNorm2d as BatchNorm2d
from .batch import BatchNorm3d as BatchNorm3d
from .batch import InstanceNorm1d as InstanceNorm1d
from .batch import InstanceNorm2d as InstanceNorm2d
from .batch import InstanceNorm3d as InstanceNorm3d
from .batch import LazyBatchNorm1d as LazyBatchNorm1d
from .batch import LazyBatchNorm2d as LazyBatchNorm2d
from .batch import LazyBatchNorm3d as LazyBatchNorm3d
from .batch import LazyInstanceNorm1d as LazyInstanceNorm1d
from .batch import LazyInstanceNorm2d as LazyInstanceNorm2d
from .batch import LazyInstanceNorm3d as LazyInstanceNorm3d
from .group import GroupNorm as GroupNorm
from .group import LayerNorm as LayerNorm
from .group import RMSNorm as RMSNorm
from .response import CrossMapLRN2d as CrossMapLRN2d
from .response import LocalResponseNorm as LocalResponseNorm
from .sync_batch import SyncBatchNorm as SyncBatchNorm
