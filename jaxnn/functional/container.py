"""Changes of shape: flatten and unflatten."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Array, Shaped

from .._checks import check_array, check_dim, check_int


def flatten(
    input: Shaped[Array, "..."], start_dim: int = 0, end_dim: int = -1
) -> Shaped[Array, "..."]:
    """Join dimensions `start_dim` to `end_dim` into one; an array without dimensions gets one.

    Shapes: (*before, S_start, ..., S_end, *after) -> (*before, S_start * ... * S_end, *after).

    Raises:
        ValueError: if the input lacks a dimension, or the range ends before it starts.

    Source: torch.flatten.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.flatten(jnp.ones((2, 3, 4)), 1).shape
        (2, 12)
    """
    input = check_array(input, "input", "flatten")
    start = check_dim(start_dim, input.ndim, "start_dim", "flatten")
    end = check_dim(end_dim, input.ndim, "end_dim", "flatten")
    if start > end:
        raise ValueError(
            f"flatten: `start_dim` must not come after `end_dim`, got {start_dim} and {end_dim} "
            f"for an input with {input.ndim} dimensions"
        )
    shape = input.shape
    joined = math.prod(shape[start : end + 1])
    return input.reshape((*shape[:start], joined, *shape[end + 1 :]))


def unflatten(
    input: Shaped[Array, "..."], dim: int, unflattened_size: Sequence[int]
) -> Shaped[Array, "..."]:
    """Split dimension `dim` into several, of which one may be -1: what remains.

    Shapes: (*before, S, *after) -> (*before, U_1, ..., U_n, *after), with S = U_1 * ... * U_n.

    Raises:
        ValueError: if the input lacks the dimension, or the sizes do not multiply to it.

    Source: torch.Tensor.unflatten.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.unflatten(jnp.ones((2, 12)), 1, (3, -1)).shape
        (2, 3, 4)
    """
    input = check_array(input, "input", "unflatten")
    axis = check_dim(dim, input.ndim, "dim", "unflatten")
    sizes = tuple(check_int(size, "unflattened_size", "unflatten") for size in unflattened_size)
    if not sizes or min(sizes) < -1 or sizes.count(-1) > 1:
        raise ValueError(
            "unflatten: `unflattened_size` must hold sizes that are not negative, and at most one "
            f"-1, got {sizes}"
        )
    before, size, after = input.shape[:axis], input.shape[axis], input.shape[axis + 1 :]
    known = math.prod(s for s in sizes if s != -1)
    fits = size == known if -1 not in sizes else known != 0 and size % known == 0
    if not fits:
        raise ValueError(
            f"unflatten: `unflattened_size` {sizes} does not multiply to the input's size {size} "
            f"in dimension {dim}"
        )
    sizes = tuple(size // known if s == -1 else s for s in sizes)
    return input.reshape((*before, *sizes, *after))
