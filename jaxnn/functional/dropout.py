"""Dropout: of elements or of whole channels, to zero or to the value that SELU ends at."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

from .._checks import check_array, check_floating
from .._dtypes import accumulation_dtype

Probability = float | Float[Array, ""]

# What SELU tends to, for a large negative input.
_SELU_END = -1.7580993408473766


def dropout(
    input: Shaped[Array, "..."],
    p: Probability = 0.5,
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
        TypeError: if the input is not floating-point.

    Source: Hinton et al., 2012; torch.nn.functional.dropout.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.dropout(jnp.ones(6), 0.5, rng=jax.random.key(1))
        Array([2., 0., 2., 2., 0., 0.], dtype=float32)
    """
    return _drop(input, p, training, rng, "dropout")


def dropout1d(
    input: Shaped[Array, "..."],
    p: Probability = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rng: jax.Array | None = None,
) -> Shaped[Array, "..."]:
    """Set each channel to zero with probability `p`, and scale the others by 1 / (1 - p).

    y = x * m / (1 - p), with one m for each channel, drawn from Bernoulli(1 - p); arguments and
    dtypes are those of `dropout`.

    Shapes: (N, C, L) or (C, L), kept.

    Raises:
        TypeError, ValueError: as `dropout`; also if the input has neither two nor three dimensions.

    Source: Tompson et al., 2015; torch.nn.functional.dropout1d.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.dropout1d(jnp.ones((3, 2)), 0.5, rng=jax.random.key(0)).shape
        (3, 2)
    """
    input = check_array(input, "input", "dropout1d")
    check_probability(p, "dropout1d")
    if input.ndim not in (2, 3):
        raise ValueError(
            "dropout1d: `input` must have the dimensions (N, C, L) or (C, L), got shape "
            f"{input.shape}; dropout takes any shape"
        )
    return _drop_channels(input, 3, p, training, rng, "dropout1d")


def dropout2d(
    input: Shaped[Array, "..."],
    p: Probability = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rng: jax.Array | None = None,
) -> Shaped[Array, "..."]:
    """Set each channel of images to zero with probability `p`; see `dropout1d`.

    As in torch, an input of three dimensions is one of (N, C, L), which warns.

    Shapes: (N, C, H, W), kept; with a warning (N, C, ...).

    Raises:
        TypeError, ValueError: as `dropout`; also if the input has fewer than two dimensions.

    Source: Tompson et al., 2015; torch.nn.functional.dropout2d.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.dropout2d(jnp.ones((1, 3, 2, 2)), 0.5, rng=jax.random.key(0)).shape
        (1, 3, 2, 2)
    """
    input = check_array(input, "input", "dropout2d")
    check_probability(p, "dropout2d")
    if input.ndim != 4:
        warnings.warn(
            f"dropout2d: an input of shape {input.shape} is taken for one of the dimensions "
            "(N, C, ...), as in torch; pass (N, C, H, W), or use dropout1d or dropout3d",
            stacklevel=2,
        )
    return _drop(input, p, training, rng, "dropout2d", whole_channels=True)


def dropout3d(
    input: Shaped[Array, "..."],
    p: Probability = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rng: jax.Array | None = None,
) -> Shaped[Array, "..."]:
    """Set each channel of volumes to zero with probability `p`; see `dropout1d`.

    Shapes: (N, C, D, H, W) or (C, D, H, W), kept; with a warning (C, ...).

    Raises:
        TypeError, ValueError: as `dropout`; also if the input has no dimensions.

    Source: Tompson et al., 2015; torch.nn.functional.dropout3d.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.dropout3d(jnp.ones((3, 2, 2, 2)), 0.5, rng=jax.random.key(0)).shape
        (3, 2, 2, 2)
    """
    input = check_array(input, "input", "dropout3d")
    check_probability(p, "dropout3d")
    if input.ndim not in (4, 5):
        warnings.warn(
            f"dropout3d: an input of shape {input.shape} is taken for one of the dimensions "
            "(C, ...), as in torch; pass (N, C, D, H, W) or (C, D, H, W)",
            stacklevel=2,
        )
    return _drop_channels(input, 5, p, training, rng, "dropout3d")


def alpha_dropout(
    input: Shaped[Array, "..."],
    p: Probability = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    rng: jax.Array | None = None,
) -> Shaped[Array, "..."]:
    """Set each element to the least value of SELU with probability `p`, keeping mean and variance.

    y = a * (m * x + (1 - m) * e) + b, with m drawn from Bernoulli(1 - p),
    e = -1.7580993... (where SELU ends), a = 1 / sqrt((1 - p) * (1 + p * e**2)), b = -a * p * e

    Arguments, shapes, dtypes and errors: as for `dropout`.

    Source: Klambauer et al., 2017; torch.nn.functional.alpha_dropout.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.alpha_dropout(jnp.ones(3), 0.5, True, rng=jax.random.key(1))
        Array([ 1.6655988, -0.7791939,  1.6655988], dtype=float32)
    """
    return _drop(input, p, training, rng, "alpha_dropout", to_selu_end=True)


def feature_alpha_dropout(
    input: Shaped[Array, "..."],
    p: Probability = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    rng: jax.Array | None = None,
) -> Shaped[Array, "..."]:
    """Set each channel to the least value of SELU with probability `p`, keeping mean and variance.

    The formula is that of `alpha_dropout`, with one m for each channel.

    Shapes: (N, C, ...), kept.

    Raises:
        TypeError, ValueError: as `dropout`; also if the input has fewer than two dimensions.

    Source: Klambauer et al., 2017; torch.nn.functional.feature_alpha_dropout.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.feature_alpha_dropout(jnp.ones((2, 3, 4)), 0.5).shape
        (2, 3, 4)
    """
    layer = "feature_alpha_dropout"
    return _drop(input, p, training, rng, layer, whole_channels=True, to_selu_end=True)


def check_probability(p: Any, layer: str) -> None:
    """Refuse a known `p` that is not a probability."""
    if isinstance(p, jax.core.Tracer):
        return
    if isinstance(p, (str, bytes)) or p is None or not 0 <= p <= 1:
        raise ValueError(f"{layer}: `p` must be a probability, from 0 to 1, got {p!r}")


def _drop(
    input: Any,
    p: Any,
    training: bool,
    rng: jax.Array | None,
    layer: str,
    *,
    whole_channels: bool = False,
    to_selu_end: bool = False,
) -> jax.Array:
    input = check_array(input, "input", layer)
    check_probability(p, layer)
    known = not isinstance(p, jax.core.Tracer)
    if not training or (known and p == 0):
        return input
    if known and p == 1:
        return input * jnp.zeros((), input.dtype)
    check_floating(input, "input", layer)
    if whole_channels and input.ndim < 2 and 0 not in input.shape:
        raise ValueError(
            f"{layer}: `input` must have the dimensions (N, C, ...), got shape {input.shape}"
        )
    if rng is None:
        raise ValueError(f"{layer}: `rng` is needed to draw: pass rng=jax.random.key(0)")
    # 1 - p is taken in Python's precision where p is known.
    keep = jnp.asarray(1 - p, accumulation_dtype(input.dtype))
    core = _alpha_dropout if to_selu_end else _dropout
    return core(input, keep, rng, whole_channels)


def _drop_channels(input: jax.Array, ndim: int, *options: Any) -> jax.Array:
    """Drop whole channels; an input that has not `ndim` dimensions lacks that of the batch."""
    if input.ndim != ndim:
        return _drop(input[None], *options, whole_channels=True)[0]
    return _drop(input, *options, whole_channels=True)


def _draw(input: jax.Array, keep: jax.Array, rng: jax.Array, whole_channels: bool) -> jax.Array:
    """Return what is kept: an element for each of the input's, or for each of its channels."""
    shape = (*input.shape[:2], *[1] * (input.ndim - 2)) if whole_channels else input.shape
    return jax.random.bernoulli(rng, keep, shape)


def _or_zero(keep: jax.Array, inverse: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Return `inverse(keep)`, or 0 where a traced p is 1, as no element is kept that it scales."""
    return jnp.where(keep > 0, inverse(jnp.where(keep > 0, keep, jnp.ones_like(keep))), 0 * keep)


@partial(jax.jit, static_argnums=3, inline=True)
def _dropout(input: jax.Array, keep: jax.Array, rng: jax.Array, whole_channels: bool) -> jax.Array:
    kept = _draw(input, keep, rng, whole_channels)
    scale = _or_zero(keep, lambda keep: 1 / keep)
    # A product and no selection: like torch, so that NaN and infinity are not hidden.
    return input * jnp.where(kept, scale.astype(input.dtype), jnp.zeros((), input.dtype))


@partial(jax.jit, static_argnums=3, inline=True)
def _alpha_dropout(
    input: jax.Array, keep: jax.Array, rng: jax.Array, whole_channels: bool
) -> jax.Array:
    kept = _draw(input, keep, rng, whole_channels)
    p = 1 - keep
    scale = _or_zero(keep, lambda keep: lax.rsqrt(keep * (1 + p * _SELU_END**2)))
    # Minus the mean, which is p times the end; that of the end itself is (1 - p) times it.
    offset = jnp.where(kept, -p * _SELU_END * scale, keep * _SELU_END * scale)
    wide = input.astype(keep.dtype) * jnp.where(kept, scale, 0 * scale) + offset
    return wide.astype(input.dtype)
