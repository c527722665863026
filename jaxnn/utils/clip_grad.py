"""Clipping of gradients: pure functions of any tree of them."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..functional._vector_norm import vector_norm

Tree = TypeVar("Tree")


def get_total_norm(
    tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Float[Array, ""]:
    """Return the norm of all the numbers of a tree, taken for one vector.

    Dtypes: any floating point. Half precision is summed in float32; the norm of each array is
    rounded to its dtype, and so is that of these norms.

    Args:
        tensors: arrays in any tree, such as the gradient that `nnx.grad` gives.
        norm_type: p of the p-norm; infinity for the largest absolute value.
        error_if_nonfinite: whether a norm that is NaN or infinite is refused.

    Returns:
        The norm, 0 of an empty tree.

    Raises:
        ValueError: if the norm is not finite, or not known (under jit), and `error_if_nonfinite`
            is set.

    Source: torch.nn.utils.get_total_norm.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.utils.get_total_norm({"a": jnp.array([3.0]), "b": jnp.array([[4.0]])})
        Array(5., dtype=float32)
    """
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tensors)]
    if not leaves:
        return jnp.zeros(())
    norms = [_norm(leaf.reshape(-1), norm_type) for leaf in leaves]
    dtype = jnp.result_type(*[norm.dtype for norm in norms]) if _same(norms) else _widest(norms)
    total = _norm(jnp.stack([norm.astype(dtype) for norm in norms]), norm_type)
    if error_if_nonfinite:
        if isinstance(total, jax.core.Tracer):
            raise ValueError(
                "get_total_norm: under a transformation the norm is not known; pass "
                "error_if_nonfinite=False and look at the norm outside"
            )
        if not jnp.isfinite(total):
            raise ValueError(
                f"get_total_norm: the norm of order {norm_type} is {total}; pass "
                "error_if_nonfinite=False to scale by it all the same"
            )
    return total


def clip_grads_with_norm(grads: Tree, max_norm: float, total_norm: Float[Array, ""]) -> Tree:
    """Scale gradients, whose norm is known, to at most `max_norm`.

    g min(1, max_norm / (total_norm + 1e-6))

    Source: torch.nn.utils.clip_grads_with_norm_.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.utils.clip_grads_with_norm(jnp.array([3.0, 4.0]), 10.0, jnp.array(5.0))
        Array([3., 4.], dtype=float32)
    """
    factor = jnp.minimum(max_norm / (jnp.asarray(total_norm) + 1e-6), 1.0)
    return jax.tree.map(lambda g: g * factor.astype(g.dtype), grads)


def clip_grad_norm(
    grads: Tree, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> tuple[Tree, Float[Array, ""]]:
    """Scale gradients to a norm of at most `max_norm`.

    Args:
        grads: arrays in any tree, such as the gradient that `nnx.grad` gives.
        max_norm: the largest norm.
        norm_type: p of the p-norm; infinity for the largest absolute value.
        error_if_nonfinite: whether a norm that is NaN or infinite is refused.

    Returns:
        The gradients, scaled, and the norm that they had.

    Raises:
        ValueError: as `get_total_norm` does.

    Source: torch.nn.utils.clip_grad_norm_, which writes to the gradients.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.utils.clip_grad_norm([jnp.array([3.0]), jnp.array([4.0])], 1.0)[1]
        Array(5., dtype=float32)
    """
    total = get_total_norm(grads, norm_type, error_if_nonfinite)
    return clip_grads_with_norm(grads, max_norm, total), total


def clip_grad_value(grads: Tree, clip_value: float) -> Tree:
    """Return gradients, each number of which is moved into [-clip_value, clip_value].

    Source: torch.nn.utils.clip_grad_value_, which writes to the gradients.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.utils.clip_grad_value(jnp.array([3.0, -0.5]), 1.0)
        Array([ 1. , -0.5], dtype=float32)
    """
    return jax.tree.map(lambda g: jnp.clip(g, -clip_value, clip_value), grads)


def _norm(vector: jax.Array, order: float) -> jax.Array:
    if vector.size == 0:
        return jnp.zeros((), vector.dtype)
    return vector_norm(vector, float(order), (0,)).reshape(())


def _same(norms: list[jax.Array]) -> bool:
    return len({norm.dtype for norm in norms}) == 1


def _widest(norms: list[jax.Array]) -> Any:
    return max((norm.dtype for norm in norms), key=lambda dtype: jnp.finfo(dtype).bits)
