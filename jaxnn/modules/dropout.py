"""Dropout layers."""

from __future__ import annotations

from flax import nnx
from jaxtyping import Array, Shaped

from .. import functional as F
from ..functional.dropout import check_probability
from ._module import RandomModule, RandomSource


class Dropout(RandomModule):
    """Set each element to zero with probability `p`, and scale the others by 1 / (1 - p).

    y = x * m / (1 - p), with m drawn from Bernoulli(1 - p); in evaluation mode, y = x.

    Shapes: any, kept.

    Args:
        p: the probability.
        inplace: accepted, without effect.
        rngs: where the layer's own stream is forked from. Without it, a call in training mode
            needs `rngs`.

    Raises:
        ValueError: if p is not between 0 and 1; at a call in training mode without any `rngs`.
        TypeError: at a call in training mode, if the input is of no floating-point dtype.

    Source: Hinton et al., 2012; torch.nn.Dropout.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Dropout(0.5, rngs=nnx.Rngs(0))
        >>> sorted(set(layer(jnp.ones(100)).tolist()))
        [0.0, 2.0]
        >>> layer.eval()(jnp.ones(3))
        Array([1., 1., 1.], dtype=float32)
    """

    def __init__(
        self, p: float = 0.5, inplace: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> None:
        check_probability(p, "jaxnn.Dropout")
        self.p = p
        self.inplace = inplace
        self._init_random(rngs)

    def __call__(
        self, input: Shaped[Array, "..."], *, rngs: RandomSource | None = None
    ) -> Shaped[Array, "..."]:
        """Return the input with elements dropped; `rngs` takes the place of the layer's stream."""
        draws = not self.deterministic and 0 < self.p < 1
        key = self._draw_key(rngs) if draws else None
        return F.dropout(input, self.p, training=not self.deterministic, rng=key)

    def extra_repr(self) -> str:
        """Return p and `inplace`."""
        return f"p={self.p}, inplace={self.inplace}"
