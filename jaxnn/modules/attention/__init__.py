"""Attention with several heads, and the transformer layers that are built of it."""

from .multi_head import MultiheadAttention as MultiheadAttention
from .transformer import Transformer as Transformer
from .transformer import TransformerDecoder as TransformerDecoder
from .transformer import TransformerEncoder as TransformerEncoder
from .transformer_layer import TransformerDecoderLayer as TransformerDecoderLayer
from .transformer_layer import TransformerEncoderLayer as TransformerEncoderLayer
