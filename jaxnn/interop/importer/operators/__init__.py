"""One table from the operators of torch (ATen) to functions of JAX.

Each entry is a function whose arguments have the names of torch's schema, under the operator's
name without its overload. The files group them by kind; `operator` enters one.
"""

from . import creation, elementwise, indexing, linear_algebra, neural, reductions, shapes
from ._register import DRAWING, OPERATORS, dtype_of, operator, result_dtype

__all__ = [
    "DRAWING", "OPERATORS", "creation", "dtype_of", "elementwise", "indexing", "linear_algebra",
    "neural", "operator", "reductions", "result_dtype", "shapes",
]  # fmt: skip
