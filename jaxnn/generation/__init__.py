"""Text, token by token: causal language models with a cache, and what is drawn from them.

`from_transformers` imports a model, `generate` goes on from a prompt. `sampling` has what changes
the logits before a token is chosen, as pure functions.
"""

from . import sampling as sampling
from .cache import Cache as Cache
from .cache import DecoderOutput as DecoderOutput
from .decoder import Decoder as Decoder
from .from_transformers import from_transformers as from_transformers
from .generate import Generated as Generated
from .generate import generate as generate
