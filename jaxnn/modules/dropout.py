"""Dropout layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Shaped

from .. import functional as F
from ..functional.dropout import check_probability
from ._module import RandomModule, RandomSource


class _Dropout(RandomModule):
    """What is dropped, and what takes its place, is the function's."""

    _function: ClassVar[Callable[..., Any]]

    def __init__(
        self, p: float = 0.5, inplace: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> None:
        check_probability(p, f"jaxnn.{type(self).__name__}")
        self.p = p
        self.inplace = inplace
        self._init_random(rngs)

    def __call__(
        self, input: Shaped[Array, "..."], *, rngs: RandomSource | None = None
    ) -> Shaped[Array, "..."]:
        """Return the input with parts dropped; `rngs` takes the place of the layer's stream."""
        draws = not self.deterministic and 0 < self.p < 1
        key = self._draw_key(rngs) if draws else None
        return type(self)._function(input, self.p, training=not self.deterministic, rng=key)

    def extra_repr(self) -> str:
        """Return p and `inplace`."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
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

    _function = staticmethod(F.dropout)


class Dropout1d(_Dropout):
    """Set each channel to zero with probability `p`, and scale the others by 1 / (1 - p).

    y = x * m / (1 - p), with one m for each channel, drawn from Bernoulli(1 - p); in evaluation
    mode, y = x.

    Shapes: (N, C, L) or (C, L), kept.

    Args:
        p: the probability.
        inplace: accepted, without effect.
        rngs: where the layer's own stream is forked from. Without it, a call in training mode
            needs `rngs`.

    Raises:
        ValueError: if p is not between 0 and 1; at a call, if the input has neither
            two nor three dimensions; at a call in training mode without any `rngs`.
        TypeError: at a call in training mode, if the input is of no floating-point dtype.

    Source: Tompson et al., 2015; torch.nn.Dropout1d.

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
    """Set each channel to zero with probability `p`, and scale the others by 1 / (1 - p).

    y = x * m / (1 - p), with one m for each channel, drawn from Bernoulli(1 - p); in evaluation
    mode, y = x.

    Shapes: (N, C, H, W), kept; with a warning (N, C, ...).

    Args:
        p: the probability.
        inplace: accepted, without effect.
        rngs: where the layer's own stream is forked from. Without it, a call in training mode
            needs `rngs`.

    Raises:
        ValueError: if p is not between 0 and 1; at a call in training mode, if the
            input has less than two dimensions; at a call in training mode without any `rngs`.
        TypeError: at a call in training mode, if the input is of no floating-point dtype.

    Source: Tompson et al., 2015; torch.nn.Dropout2d.

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
    """Set each channel to zero with probability `p`, and scale the others by 1 / (1 - p).

    y = x * m / (1 - p), with one m for each channel, drawn from Bernoulli(1 - p); in evaluation
    mode, y = x.

    Shapes: (N, C, D, H, W) or (C, D, H, W), kept; with a warning (C, ...).

    Args:
        p: the probability.
        inplace: accepted, without effect.
        rngs: where the layer's own stream is forked from. Without it, a call in training mode
            needs `rngs`.

    Raises:
        ValueError: if p is not between 0 and 1; at a call in training mode, if the
            input has no dimensions; at a call in training mode without any `rngs`.
        TypeError: at a call in training mode, if the input is of no floating-point dtype.

    Source: Tompson et al., 2015; torch.nn.Dropout3d.

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

    y = a * (m * x + (1 - m) * e) + b, with m drawn from Bernoulli(1 - p),
    e = -1.7580993... (where SELU ends), a = 1 / sqrt((1 - p) * (1 + p * e**2)), b = -a * p * e; in
    evaluation mode, y = x.

    Shapes: any, kept.

    Args:
        p: the probability.
        inplace: accepted, without effect.
        rngs: where the layer's own stream is forked from. Without it, a call in training mode
            needs `rngs`.

    Raises:
        ValueError: if p is not between 0 and 1; at a call in training mode without any `rngs`.
        TypeError: at a call in training mode, if the input is of no floating-point dtype.

    Source: Klambauer et al., 2017; torch.nn.AlphaDropout.

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

    y = a * (m * x + (1 - m) * e) + b, with one m for each channel, drawn from Bernoulli(1 - p),
    e = -1.7580993... (where SELU ends), a = 1 / sqrt((1 - p) * (1 + p * e**2)), b = -a * p * e; in
    evaluation mode, y = x.

    Shapes: (N, C, ...), kept.

    Args:
        p: the probability.
        inplace: accepted, without effect.
        rngs: where the layer's own stream is forked from. Without it, a call in training mode
            needs `rngs`.

    Raises:
        ValueError: if p is not between 0 and 1; at a call in training mode, if the
            input has less than two dimensions; at a call in training mode without any `rngs`.
        TypeError: at a call in training mode, if the input is of no floating-point dtype.

    Source: Klambauer et al., 2017; torch.nn.FeatureAlphaDropout.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.FeatureAlphaDropout(0.5, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((1, 3, 2))).shape
        (1, 3, 2)
    """

    _function = staticmethod(F.feature_alpha_dropout)
