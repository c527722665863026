"""Attention: the formula, its formulation for a CPU, and the functions over both."""

from .multi_head import multi_head_attention_forward as multi_head_attention_forward
from .scaled_dot_product import scaled_dot_product_attention as scaled_dot_product_attention
