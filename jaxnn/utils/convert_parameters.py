"""All parameters of a module as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ..modules._state import Frozen, named_variables


def parameters_to_vector(parameters: nnx.Module | Iterable[Any]) -> Float[Array, "size"]:
    """Return the numbers of all parameters, one after the other.

    Args:
        parameters: a module, whose parameters are taken in torch's order; or arrays or variables.

    Raises:
        ValueError: if there are none.

    Source: torch.nn.utils.parameters_to_vector.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> jaxnn.utils.parameters_to_vector(jaxnn.Linear(2, 3, rngs=nnx.Rngs(0))).shape
        (9,)
    """
    arrays = [_value(parameter).reshape(-1) for parameter in _listed(parameters)]
    if not arrays:
        raise ValueError("parameters_to_vector: there are no parameters")
    return jnp.concatenate(arrays)


def vector_to_parameters(
    vec: Float[Array, "size"], parameters: nnx.Module | Iterable[Any]
) -> list[Float[Array, "..."]]:
    """Cut a vector into the parameters' shapes, and write the parts to those that are variables.

    Args:
        vec: the numbers, in the order of `parameters_to_vector`; more than needed are ignored.
        parameters: a module, or arrays or variables.

    Returns:
        The parts.

    Raises:
        ValueError: if the vector is too short, or no vector.

    Source: torch.nn.utils.vector_to_parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> _ = jaxnn.utils.vector_to_parameters(jnp.arange(3.0), layer)
        >>> layer.weight[...], layer.bias[...]
        (Array([[0., 1.]], dtype=float32), Array([2.], dtype=float32))
    """
    listed = _listed(parameters)
    sizes = [math.prod(_value(parameter).shape) for parameter in listed]
    if vec.ndim != 1 or vec.shape[0] < sum(sizes):
        raise ValueError(
            f"vector_to_parameters: `vec` must be a vector of at least {sum(sizes)} numbers, got "
            f"shape {vec.shape}"
        )
    parts, start = [], 0
    for parameter, size in zip(listed, sizes, strict=True):
        old = _value(parameter)
        parts.append(vec[start : start + size].reshape(old.shape).astype(old.dtype))
        start += size
        if isinstance(parameter, nnx.Variable):
            parameter[...] = parts[-1]
    return parts


def _listed(parameters: nnx.Module | Iterable[Any]) -> list[Any]:
    if not isinstance(parameters, nnx.Module):
        return list(parameters)
    kinds = (nnx.Param, Frozen)
    found = (v for _, v in named_variables(parameters) if isinstance(v, kinds))
    return list({id(variable): variable for variable in found}.values())


def _value(parameter: Any) -> jax.Array:
    return parameter[...] if isinstance(parameter, nnx.Variable) else jnp.asarray(parameter)
