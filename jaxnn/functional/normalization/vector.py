"""Vectors of norm one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._checks import check_array, check_dim, check_floating
from ..._dtypes import accumulation_dtype
from ..._types import Scalar
from .._division import quotient
from .._vector_norm import vector_norm


def normalize(
    input: Float[Array, "..."],
    p: float = 2.0,
    dim: int | Sequence[int] | None = 1,
    eps: Scalar = 1e-12,
) -> Float[Array, "..."]:
    """Divide by the p-norm along a dimension, or by eps where that is larger.

    y = x / max(||x||_p, eps), with ||x||_p = (sum |x|^p)^(1/p); for p = inf (-inf) the largest
    (smallest) absolute value, for p = 0 the number of elements that are not zero.

    Shapes: any, kept. Half precision: the norm is computed in float32 and rounded, and so is eps.

    Args:
        input: the array.
        p: the order of the norm.
        dim: the dimension of the vectors; several for vectors that extend over them; None for all.
        eps: the least divisor.

    Raises:
        TypeError: if the input is not floating-point, or p is not a number.
        ValueError: if the input has no such dimension, or one of size 0 for an infinite or negative
            p.

    Source: torch.nn.functional.normalize.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.normalize(jnp.array([[3.0, 4.0]]))
        Array([[0.6, 0.8]], dtype=float32)
    """
    input = check_array(input, "input", "normalize")
    check_floating(input, "input", "normalize")
    if isinstance(p, bool) or not isinstance(p, (int, float)):
        raise TypeError(f"normalize: `p` must be a number, got {p!r}")
    if dim is None:
        axes = tuple(range(input.ndim))
    else:
        dims = dim if isinstance(dim, Sequence) else (dim,)
        axes = tuple(check_dim(d, input.ndim, "dim", "normalize") for d in dims)
    axes = axes if input.ndim else ()
    if (p < 0 or p == float("inf")) and any(input.shape[axis] == 0 for axis in axes):
        raise ValueError(
            f"normalize: the norm of order {p} of no elements does not exist, got input of shape "
            f"{input.shape}"
        )
    return _normalize(input, float(p), axes, jnp.asarray(eps, input.dtype))


@partial(jax.jit, static_argnums=(1, 2), inline=True)
def _normalize(input: jax.Array, p: float, axes: tuple[int, ...], eps: jax.Array) -> jax.Array:
    norm = vector_norm(input, p, axes)
    # Not jnp.maximum, which would halve the gradient where both are equal.
    divisor = jnp.where(norm < eps, eps, norm)
    # In half precision XLA would multiply by the reciprocal, which may be infinite, and the
    # derivative would be a difference of rounded products.
    wide = accumulation_dtype(input.dtype)
    y = quotient(input.astype(wide), jnp.broadcast_to(divisor.astype(wide), input.shape))
    return y.astype(input.dtype)
