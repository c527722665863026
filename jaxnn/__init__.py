"""The layers of torch.nn as Flax NNX modules, and the way from a PyTorch model to a JAX one."""

from . import functional as functional
from . import generation as generation
from . import init as init
from . import interop as interop
from . import linen as linen
from . import sharding as sharding
from . import sparse as sparse
from . import utils as utils
from ._config import check_indices as check_indices
from ._config import forward_mode as forward_mode
from .generation import from_transformers as from_transformers
from .generation import generate as generate
from .interop import Call as Call
from .interop import LoadReport as LoadReport
from .interop import call as call
from .interop import from_torch as from_torch
from .interop import load_state_dict as load_state_dict
from .interop import state_dict as state_dict
from .interop import verify as verify
from .modules import *  # noqa: F403 (exactly what `modules.__all__` lists)
from .precision import mixed_precision as mixed_precision
from .rematerialisation import remat as remat

__version__ = "0.1.0"
