"""The functions of torch.nn.functional, pure, one file a family."""

from .activation import prelu as prelu
from .activation import relu as relu
from .activation import softmax as softmax
from .container import flatten as flatten
from .container import unflatten as unflatten
from .convolution import conv1d as conv1d
from .convolution import conv2d as conv2d
from .convolution import conv3d as conv3d
from .dropout import dropout as dropout
from .embedding import embedding as embedding
from .embedding import embedding_with_weight as embedding_with_weight
from .linear import linear as linear
from .normalization import batch_norm as batch_norm
from .normalization import batch_norm_with_stats as batch_norm_with_stats
from .pooling import max_pool1d as max_pool1d
from .pooling import max_pool1d_with_indices as max_pool1d_with_indices
from .pooling import max_pool2d as max_pool2d
from .pooling import max_pool2d_with_indices as max_pool2d_with_indices
from .pooling import max_pool3d as max_pool3d
from .pooling import max_pool3d_with_indices as max_pool3d_with_indices
