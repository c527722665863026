"""What torch.nn.utils has: sequences of different lengths, parametrizations, clipping, fusion."""

from . import parametrizations as parametrizations
from . import parametrize as parametrize
from . import rnn as rnn
from .clip_grad import clip_grad_norm as clip_grad_norm
from .clip_grad import clip_grad_value as clip_grad_value
from .clip_grad import clip_grads_with_norm as clip_grads_with_norm
from .clip_grad import get_total_norm as get_total_norm
from .convert_parameters import parameters_to_vector as parameters_to_vector
from .convert_parameters import vector_to_parameters as vector_to_parameters
from .fusion import fuse_conv_bn_eval as fuse_conv_bn_eval
from .fusion import fuse_conv_bn_weights as fuse_conv_bn_weights
from .fusion import fuse_linear_bn_eval as fuse_linear_bn_eval
from .fusion import fuse_linear_bn_weights as fuse_linear_bn_weights
from .normalizations import remove_spectral_norm as remove_spectral_norm
from .normalizations import remove_weight_norm as remove_weight_norm
from .normalizations import spectral_norm as spectral_norm
from .normalizations import weight_norm as weight_norm
