"""Text, token by token: causal language models with a cache, and what is drawn from them."""

from .cache import Cache as Cache
from .cache import DecoderOutput as DecoderOutput
from .decoder import Decoder as Decoder
from .from_transformers import from_transformers as from_transformers
