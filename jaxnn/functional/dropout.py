"""Dropout."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from .._checks import accumulation_dtype, check_array, check_floating


def dropout(
    input: Shaped[Array, "..."],
    p: float | Float[Array, ""] = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rng: jax.Array | None = None,
) -> Shaped[Array, "..."]:
    """Set each element to zero with probability `p`, and scale the others by 1 / (1 - p).

    y = x * m / (1 - p), with m drawn from Bernoulli(1 - p)

    Shapes: any, kept. Dtypes: floating point; any, where nothing is drawn.

    Args:
        input: the array.
        p: the probability, which may be traced. 0 gives the input, 1 gives x * 0.
        training: whether to draw at all; else the input is returned.
        inplace: accepted, without effect.
        rng: the key, needed where something is drawn.

    Raises:
        ValueError: if p is not between 0 and 1, or `rng` is needed and absent.
        TypeError: if the input is of no floating-point dtype.

    Source: Hinton et al., 2012; torch.nn.functional.dropout.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.dropout(jnp.ones(6), 0.5, rng=jax.random.key(1))
        Array([2., 0., 2., 2., 0., 0.], dtype=float32)
    """
    input = check_array(input, "input", "dropout")
    check_probability(p, "dropout")
    known = not isinstance(p, jax.core.Tracer)
    if not training or (known and p == 0):
        return input
    if known and p == 1:
        return input * jnp.zeros((), input.dtype)
    check_floating(input, "input", "dropout")
    if rng is None:
        raise ValueError("dropout: `rng` is needed to draw: pass rng=jax.random.key(0)")
    # 1 - p is taken in Python's precision where p is known.
    return _dropout(input, jnp.asarray(1 - p, accumulation_dtype(input.dtype)), rng)


def check_probability(p: Any, layer: str) -> None:
    """Refuse a known `p` that is no probability."""
    if isinstance(p, jax.core.Tracer):
        return
    if isinstance(p, (str, bytes)) or not 0 <= p <= 1:
        raise ValueError(f"{layer}: `p` must be a probability, from 0 to 1, got {p!r}")


@partial(jax.jit, inline=True)
def _dropout(input: jax.Array, keep: jax.Array, rng: jax.Array) -> jax.Array:
    kept = jax.random.bernoulli(rng, keep, input.shape)
    # A traced p may be 1, where nothing is kept and the scale must not be infinite.
    scale = jnp.where(keep > 0, 1 / jnp.where(keep > 0, keep, jnp.ones_like(keep)), 0 * keep)
    # A product and no selection: like torch, so that NaN and infinity are not hidden.
    return input * jnp.where(kept, scale.astype(input.dtype), jnp.zeros((), input.dtype))
