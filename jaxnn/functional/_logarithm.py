"""The logarithm of 1 + exp(x), which softplus and the logistic losses share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


@jax.custom_jvp
def log_one_plus_exp(x: jax.Array) -> jax.Array:
    """log(1 + exp(x)), without overflow; its derivative is the sigmoid."""
    return jnp.maximum(x, jnp.zeros_like(x)) + jnp.log1p(jnp.exp(-jnp.abs(x)))


log_one_plus_exp.defjvps(lambda d_x, _, x: d_x * lax.logistic(x))
