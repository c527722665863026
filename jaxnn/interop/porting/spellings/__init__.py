"""How torch's operators are written in JAX, where JAX has a plain way to say the same.

A spelling is taken only where its result has the dtype that torch's has, which the kinds of the
operands tell. What has no spelling is called by its ATen name. The files are those of the
importer's operators.
"""

from . import creation, elementwise, indexing, linear_algebra, neural, reductions, shapes
from ._register import Operands, spelled

__all__ = [
    "Operands", "creation", "elementwise", "indexing", "linear_algebra", "neural", "reductions",
    "shapes", "spelled",
]  # fmt: skip
