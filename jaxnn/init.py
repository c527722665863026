"""Initialisations: the functions of `torch.nn.init`, pure.

Each takes a key, a shape and a dtype, in this order, and returns a new array; the options keep
torch's names and defaults. Half-precision arrays are drawn in float32 and then rounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import ndtr, ndtri
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ._dtypes import accumulation_dtype

Shape = Sequence[int]

_LINEAR = {
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "sigmoid",
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor by which a nonlinearity's weights are scaled to keep the variance.

    1 for the linear functions and sigmoid, 5/3 for tanh, sqrt(2) for relu, 3/4 for selu, and
    sqrt(2 / (1 + slope^2)) for leaky_relu, whose slope is `param` (0.01 by default).

    Raises:
        ValueError: if `nonlinearity` is unknown or `param` is no number.

    Source: torch.nn.init.calculate_gain.

    Example:
        >>> import jaxnn
        >>> jaxnn.init.calculate_gain("leaky_relu", 1.0)
        1.0
    """
    if nonlinearity in _LINEAR:
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3.0
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "selu":
        return 3.0 / 4.0
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"`param` must be a number, the negative slope, got {param!r}")
        return math.sqrt(2.0 / (1.0 + slope**2))
    raise ValueError(
        f"`nonlinearity` must be one of {sorted(_LINEAR)}, 'tanh', 'relu', 'leaky_relu' or "
        f"'selu', got {nonlinearity!r}"
    )


def calculate_fan_in_and_fan_out(shape: Shape) -> tuple[int, int]:
    """Return how many inputs feed an output and how many outputs an input feeds.

    A weight is (out, in, *kernel): fan_in is in * prod(kernel), fan_out is out * prod(kernel).

    Raises:
        ValueError: if the shape has fewer than two dimensions.

    Example:
        >>> import jaxnn
        >>> jaxnn.init.calculate_fan_in_and_fan_out((8, 3, 5, 5))
        (75, 200)
    """
    if len(shape) < 2:
        raise ValueError(f"`shape` needs two dimensions or more to have a fan, got {tuple(shape)}")
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def uniform(
    key: jax.Array, shape: Shape, dtype: DTypeLike = jnp.float32, *, a: float = 0.0, b: float = 1.0
) -> Float[Array, "..."]:
    """Draw from the uniform distribution over [a, b), real and imaginary parts alike.

    Raises:
        ValueError: if a > b.

    Source: torch.nn.init.uniform_.

    Example:
        >>> import jax, jaxnn
        >>> bool((jaxnn.init.uniform(jax.random.key(0), (100,), a=2.0, b=3.0) >= 2.0).all())
        True
    """
    if a > b:
        raise ValueError(f"`a` must not exceed `b`, got a={a} and b={b}")
    if jnp.issubdtype(dtype, jnp.complexfloating):
        real = jnp.finfo(dtype).dtype
        parts = (uniform(each, shape, real, a=a, b=b) for each in jax.random.split(key))
        return lax.complex(*parts)
    return jax.random.uniform(key, shape, _drawn(dtype), a, b).astype(dtype)


def normal(
    key: jax.Array,
    shape: Shape,
    dtype: DTypeLike = jnp.float32,
    *,
    mean: float = 0.0,
    std: float = 1.0,
) -> Float[Array, "..."]:
    """Draw from the normal distribution N(mean, std^2).

    Raises:
        ValueError: if std < 0.

    Source: torch.nn.init.normal_.

    Example:
        >>> import jax, jaxnn
        >>> jaxnn.init.normal(jax.random.key(0), (2,), mean=3.0, std=0.0)
        Array([3., 3.], dtype=float32)
    """
    if std < 0:
        raise ValueError(f"`std` must not be negative, got {std}")
    return (mean + std * jax.random.normal(key, shape, _drawn(dtype))).astype(dtype)


def trunc_normal(
    key: jax.Array,
    shape: Shape,
    dtype: DTypeLike = jnp.float32,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
) -> Float[Array, "..."]:
    """Draw from N(mean, std^2) restricted to [a, b].

    Raises:
        ValueError: if std is not positive or a > b.

    Source: torch.nn.init.trunc_normal_.

    Example:
        >>> import jax, jaxnn
        >>> drawn = jaxnn.init.trunc_normal(jax.random.key(0), (1000,), a=-1.0, b=0.5)
        >>> bool(((drawn >= -1.0) & (drawn <= 0.5)).all())
        True
    """
    if std <= 0 or a > b:
        raise ValueError(f"`std` must be positive and a <= b, got std={std}, a={a}, b={b}")
    low, high = (a - mean) / std, (b - mean) / std
    # The distribution function has relative precision in its lower tail only.
    sign = -1.0 if low > 0 else 1.0
    tails = jnp.sort(ndtr(sign * jnp.asarray([low, high], _drawn(dtype))))
    probability = jax.random.uniform(key, shape, _drawn(dtype), tails[0], tails[1])
    drawn = mean + std * sign * ndtri(probability)
    return jnp.clip(drawn.astype(dtype), jnp.asarray(a, dtype), jnp.asarray(b, dtype))


def constant(
    key: jax.Array | None, shape: Shape, dtype: DTypeLike = jnp.float32, *, val: float
) -> Float[Array, "..."]:
    """Fill with `val`; the key is not used.

    Source: torch.nn.init.constant_.

    Example:
        >>> import jaxnn
        >>> jaxnn.init.constant(None, (2,), val=0.5)
        Array([0.5, 0.5], dtype=float32)
    """
    return jnp.full(shape, val, dtype)


def ones(
    key: jax.Array | None, shape: Shape, dtype: DTypeLike = jnp.float32
) -> Float[Array, "..."]:
    """Fill with one; the key is not used.

    Source: torch.nn.init.ones_.

    Example:
        >>> import jaxnn
        >>> jaxnn.init.ones(None, (2,))
        Array([1., 1.], dtype=float32)
    """
    return jnp.ones(shape, dtype)


def zeros(
    key: jax.Array | None, shape: Shape, dtype: DTypeLike = jnp.float32
) -> Float[Array, "..."]:
    """Fill with zero; the key is not used.

    Source: torch.nn.init.zeros_.

    Example:
        >>> import jaxnn
        >>> jaxnn.init.zeros(None, (2,))
        Array([0., 0.], dtype=float32)
    """
    return jnp.zeros(shape, dtype)


def eye(
    key: jax.Array | None, shape: Shape, dtype: DTypeLike = jnp.float32
) -> Float[Array, "rows columns"]:
    """Return the identity matrix; the key is not used.

    Raises:
        ValueError: if the shape has not two dimensions.

    Source: torch.nn.init.eye_.

    Example:
        >>> import jaxnn
        >>> jaxnn.init.eye(None, (1, 2))
        Array([[1., 0.]], dtype=float32)
    """
    _check_matrix(shape)
    rows, columns = shape
    return jnp.eye(rows, columns, dtype=dtype)


def dirac(
    key: jax.Array | None, shape: Shape, dtype: DTypeLike = jnp.float32, *, groups: int = 1
) -> Float[Array, "out in *kernel"]:
    """Return the convolution weight that preserves its input channels; the key is not used.

    In each group, weight[c, c, middle of the kernel] is one for every c below the channels of the
    group's input and output, and all else is zero.

    Raises:
        ValueError: if the shape has not three to five dimensions, or its first is no multiple of
            `groups`.

    Source: torch.nn.init.dirac_.

    Example:
        >>> import jaxnn
        >>> jaxnn.init.dirac(None, (1, 1, 3))
        Array([[[0., 1., 0.]]], dtype=float32)
    """
    if not 3 <= len(shape) <= 5:
        raise ValueError(f"`shape` must have three to five dimensions, got {tuple(shape)}")
    if shape[0] % groups:
        raise ValueError(f"`shape[0]` must be a multiple of groups={groups}, got {tuple(shape)}")
    channels = jnp.eye(shape[0] // groups, shape[1], dtype=dtype)
    middle = tuple(size // 2 for size in shape[2:])
    return jnp.zeros(shape, dtype).at[:, :, *middle].set(jnp.tile(channels, (groups, 1)))


def xavier_uniform(
    key: jax.Array, shape: Shape, dtype: DTypeLike = jnp.float32, *, gain: float = 1.0
) -> Float[Array, "out in *kernel"]:
    """Draw from the uniform distribution with std = gain * sqrt(2 / (fan_in + fan_out)).

    Raises:
        ValueError: if the shape has fewer than two dimensions.

    Source: Glorot and Bengio, 2010; torch.nn.init.xavier_uniform_.

    Example:
        >>> import jax, jaxnn
        >>> jaxnn.init.xavier_uniform(jax.random.key(0), (4, 2)).shape
        (4, 2)
    """
    bound = math.sqrt(3.0) * _xavier_std(shape, gain)
    return uniform(key, shape, dtype, a=-bound, b=bound)


def xavier_normal(
    key: jax.Array, shape: Shape, dtype: DTypeLike = jnp.float32, *, gain: float = 1.0
) -> Float[Array, "out in *kernel"]:
    """Draw from the normal distribution with std = gain * sqrt(2 / (fan_in + fan_out)).

    Raises:
        ValueError: if the shape has fewer than two dimensions.

    Source: Glorot and Bengio, 2010; torch.nn.init.xavier_normal_.

    Example:
        >>> import jax, jaxnn
        >>> jaxnn.init.xavier_normal(jax.random.key(0), (4, 2)).shape
        (4, 2)
    """
    return normal(key, shape, dtype, std=_xavier_std(shape, gain))


def kaiming_uniform(
    key: jax.Array,
    shape: Shape,
    dtype: DTypeLike = jnp.float32,
    *,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
) -> Float[Array, "out in *kernel"]:
    """Draw from the uniform distribution with std = gain / sqrt(fan).

    `a` is the negative slope of the leaky_relu that follows; `mode` says which fan is meant.

    Raises:
        ValueError: if the shape has fewer than two dimensions, or mode or nonlinearity is unknown.

    Source: He et al., 2015; torch.nn.init.kaiming_uniform_.

    Example:
        >>> import jax, jaxnn
        >>> jaxnn.init.kaiming_uniform(jax.random.key(0), (4, 2), nonlinearity="relu").shape
        (4, 2)
    """
    if 0 in shape:
        return jnp.zeros(shape, dtype)
    bound = math.sqrt(3.0) * _kaiming_std(shape, a, mode, nonlinearity)
    return uniform(key, shape, dtype, a=-bound, b=bound)


def kaiming_normal(
    key: jax.Array,
    shape: Shape,
    dtype: DTypeLike = jnp.float32,
    *,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
) -> Float[Array, "out in *kernel"]:
    """Draw from the normal distribution with std = gain / sqrt(fan).

    `a` is the negative slope of the leaky_relu that follows; `mode` says which fan is meant.

    Raises:
        ValueError: if the shape has fewer than two dimensions, or mode or nonlinearity is unknown.

    Source: He et al., 2015; torch.nn.init.kaiming_normal_.

    Example:
        >>> import jax, jaxnn
        >>> jaxnn.init.kaiming_normal(jax.random.key(0), (4, 2), mode="fan_out").shape
        (4, 2)
    """
    if 0 in shape:
        return jnp.zeros(shape, dtype)
    return normal(key, shape, dtype, std=_kaiming_std(shape, a, mode, nonlinearity))


def orthogonal(
    key: jax.Array, shape: Shape, dtype: DTypeLike = jnp.float32, *, gain: float = 1
) -> Float[Array, "rows *columns"]:
    """Draw a (semi-)orthogonal matrix, uniformly; trailing dimensions count as one.

    Raises:
        ValueError: if the shape has fewer than two dimensions.

    Source: Saxe et al., 2013; torch.nn.init.orthogonal_.

    Example:
        >>> import jax, jaxnn
        >>> w = jaxnn.init.orthogonal(jax.random.key(0), (2, 3))
        >>> bool(abs(w @ w.T - jaxnn.init.eye(None, (2, 2))).max() < 1e-6)
        True
    """
    if len(shape) < 2:
        raise ValueError(f"`shape` must have two dimensions or more, got {tuple(shape)}")
    if 0 in shape:
        return jnp.zeros(shape, dtype)
    rows, columns = shape[0], math.prod(shape[1:])
    drawn = jax.random.normal(key, (max(rows, columns), min(rows, columns)), _drawn(dtype))
    q, r = jnp.linalg.qr(drawn)
    # Without the signs of R's diagonal, Q would not be uniform over the orthogonal matrices.
    q = q * jnp.sign(jnp.diagonal(r))[None, :]
    return (gain * (q.T if rows < columns else q)).reshape(shape).astype(dtype)


def sparse(
    key: jax.Array,
    shape: Shape,
    dtype: DTypeLike = jnp.float32,
    *,
    sparsity: float,
    std: float = 0.01,
) -> Float[Array, "rows columns"]:
    """Draw from N(0, std^2) and set ceil(sparsity * rows) elements of each column to zero.

    Raises:
        ValueError: if the shape has not two dimensions.

    Source: Martens, 2010; torch.nn.init.sparse_.

    Example:
        >>> import jax, jaxnn
        >>> w = jaxnn.init.sparse(jax.random.key(0), (10, 4), sparsity=0.3)
        >>> (w == 0).sum(axis=0)
        Array([3, 3, 3, 3], dtype=int32)
    """
    _check_matrix(shape)
    value_key, order_key = jax.random.split(key)
    ranks = jax.random.permutation(
        order_key, jnp.broadcast_to(jnp.arange(shape[0])[:, None], shape), axis=0, independent=True
    )
    drawn = normal(value_key, shape, dtype, std=std)
    return jnp.where(ranks < math.ceil(sparsity * shape[0]), jnp.zeros((), dtype), drawn)


def _drawn(dtype: DTypeLike) -> Any:
    return accumulation_dtype(dtype)


def _check_matrix(shape: Shape) -> None:
    if len(shape) != 2:
        raise ValueError(f"`shape` must have two dimensions, got {tuple(shape)}")


def _xavier_std(shape: Shape, gain: float) -> float:
    fans = sum(calculate_fan_in_and_fan_out(shape))
    return gain * math.sqrt(2.0 / fans) if fans else 0.0


def _kaiming_std(shape: Shape, a: float, mode: str, nonlinearity: str) -> float:
    modes = ("fan_in", "fan_out")
    if mode.lower() not in modes:
        raise ValueError(f"`mode` must be one of {modes}, got {mode!r}")
    fan = calculate_fan_in_and_fan_out(shape)[modes.index(mode.lower())]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)
