"""Embeddings: rows of a table, alone and in bags, and one-hot rows."""

from .bags import check_bags as check_bags
from .bags import embedding_bag as embedding_bag
from .bags import in_order as in_order
from .bags import lookup_bags as lookup_bags
from .bags import pool_bags as pool_bags
from .definition import lookup as lookup
from .one_hot import one_hot as one_hot
from .table import check_ids as check_ids
from .table import check_norms as check_norms
from .table import check_padding_idx as check_padding_idx
from .table import checked_table as checked_table
from .table import embedding as embedding
from .table import embedding_with_weight as embedding_with_weight
