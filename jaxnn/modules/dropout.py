"""Dropout layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Shaped

from .. import functional as F
from ..functional.dropout import check_probability
from ._module import RandomModule, RandomSource, name_of


class _Dropout(RandomModule):
    """What is dropped, and what takes its place, is the function's."""

    _function: ClassVar[Callable[..., Any]]

    _shown = ("p", "inplace")

    def __init__(
        self, p: float = 0.5, inplace: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> None:
        check_probability(p, name_of(self))
        self.p = p
        self.inplace = inplace
        self._init_random(rngs)

    def __call__(
        self, input: Shaped[Array, "..."], *, rngs: RandomSource | None = None
    ) -> Shaped[Array, "..."]:
        draws = not self.deterministic and 0 < self.p < 1
        key = self._draw_key(rngs) if draws else None
        return type(self)._function(input, self.p, training=not self.deterministic, rng=key)


class Dropout(_Dropout):
    """Set each element to zero with probability `p`, and scale the others by 1 / (1 - p).

    In training mode only; see `jaxnn.functional.dropout`.

    Shapes: any, kept.

    Args:
        p: the probability.
        inplace: accepted, without effect.
        rngs: where the layer's own stream is forked from. Without it, a call in training mode
            needs `rngs`.

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

    _function = staticmethod(F.dropout)


class Dropout1d(_Dropout):
    """Set each channel to zero with probability `p`.

    See `Dropout` and `jaxnn.functional.dropout1d`.

    Shapes: (N, C, L) or (C, L), kept.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Dropout1d(0.5, rngs=nnx.Rngs(0))
        >>> sorted(set(layer(jnp.ones((1, 50, 2))).sum((2,))[0].tolist()))
        [0.0, 4.0]
    """

    _function = staticmethod(F.dropout1d)


class Dropout2d(_Dropout):
    """Set each channel of images to zero with probability `p`.

    See `Dropout` and `jaxnn.functional.dropout2d`.

    Shapes: (N, C, H, W), kept; with a warning (N, C, ...).

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Dropout2d(0.5, rngs=nnx.Rngs(0))
        >>> sorted(set(layer(jnp.ones((1, 50, 2, 2))).sum((2, 3))[0].tolist()))
        [0.0, 8.0]
    """

    _function = staticmethod(F.dropout2d)


class Dropout3d(_Dropout):
    """Set each channel of volumes to zero with probability `p`.

    See `Dropout` and `jaxnn.functional.dropout3d`.

    Shapes: (N, C, D, H, W) or (C, D, H, W), kept; with a warning (C, ...).

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Dropout3d(0.5, rngs=nnx.Rngs(0))
        >>> sorted(set(layer(jnp.ones((1, 50, 2, 2, 2))).sum((2, 3, 4))[0].tolist()))
        [0.0, 16.0]
    """

    _function = staticmethod(F.dropout3d)


class AlphaDropout(_Dropout):
    """Set each element to the least value of SELU with probability `p`, keeping mean and variance.

    See `Dropout` and `jaxnn.functional.alpha_dropout`.

    Shapes: any, kept.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.AlphaDropout(0.5, rngs=nnx.Rngs(0))
        >>> jnp.unique(layer(jnp.ones(100)))
        Array([-0.7791939,  1.6655988], dtype=float32)
    """

    _function = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """Set each channel to the least value of SELU with probability `p`, keeping mean and variance.

    See `Dropout` and `jaxnn.functional.feature_alpha_dropout`.

    Shapes: (N, C, ...), kept.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.FeatureAlphaDropout(0.5, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((1, 3, 2))).shape
        (1, 3, 2)
    """

    _function = staticmethod(F.feature_alpha_dropout)
