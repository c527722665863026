"""Sampling at the points of a grid, and the grids of affine maps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..._checks import check_array, check_floating, check_int, check_same_dtype
from ..._dtypes import accumulation_dtype

_MODES = ("bilinear", "nearest", "bicubic")
_PADDING_MODES = ("zeros", "border", "reflection")
# Where, as in torch, what has no place in a volume lies: none of its neighbours is inside.
_OUTSIDE = -100


def grid_sample(
    input: Float[Array, "N C *spatial"],
    grid: Float[Array, "N *out n"],
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Float[Array, "N C *out"]:
    """Sample images at the points of a grid.

    A point g of the grid, the last dimension's coordinate first, lies at the input's position
    p = ((g + 1) size - 1) / 2, so that -1 and 1 are the edges of the outer pixels; with
    `align_corners` at p = (g + 1) (size - 1) / 2, so that they are their centres. "bilinear" weighs
    the two neighbours of p in each dimension, "nearest" takes the one (of two equally near, the
    even), "bicubic" weighs four by Keys' kernel with a = -3/4.

    Shapes: input (N, C, H, W) or (N, C, D, H, W), grid (N, *out, 2) or (N, *out, 3) with as many
    dimensions -> (N, C, *out). Dtypes: any floating point, of both the same; half precision is
    computed in float32.

    Args:
        input: the images.
        grid: the points, from -1 to 1 inside the images.
        mode: "bilinear" (trilinear in three dimensions), "nearest" or "bicubic" (in two).
        padding_mode: what lies outside: "zeros", the nearest of the "border", or the "reflection"
            about the edges.
        align_corners: whether -1 and 1 are the centres of the outer pixels; None means False.

    Raises:
        TypeError: if the dtypes differ or are not floating-point.
        ValueError: if an option is unknown or the shapes do not fit.

    Source: Jaderberg et al., 2015; torch.nn.functional.grid_sample.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.array([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> points = jnp.array([[[[-0.5, -0.5], [0.0, 0.0], [1.0, 0.0]]]])
        >>> jaxnn.functional.grid_sample(x, points)
        Array([[[[1. , 2.5, 1.5]]]], dtype=float32)
    """
    input = check_array(input, "input", "grid_sample")
    grid = check_array(grid, "grid", "grid_sample")
    if mode not in _MODES:
        raise ValueError(f"grid_sample: `mode` must be one of {_MODES}, got {mode!r}")
    if padding_mode not in _PADDING_MODES:
        raise ValueError(
            f"grid_sample: `padding_mode` must be one of {_PADDING_MODES}, got {padding_mode!r}"
        )
    check_floating(input, "input", "grid_sample")
    check_same_dtype({"input": input, "grid": grid}, "grid_sample")
    _check_shapes(input, grid, mode)
    return _grid_sample(input, grid, mode, padding_mode, bool(align_corners))


def affine_grid(
    theta: Float[Array, "N n n+1"], size: Sequence[int], align_corners: bool | None = None
) -> Float[Array, "N *out n"]:
    """Return the points that affine maps make of a regular grid, for `grid_sample`.

    grid[i] = theta (p_i, 1), where p_i, the last dimension's coordinate first, are the centres
    of the pixels of an image whose edges are at -1 and 1; with `align_corners` the centres of the
    outer pixels are.

    Shapes: (N, 2, 3) -> (N, H, W, 2), or (N, 3, 4) -> (N, D, H, W, 3). Dtypes: any floating point;
    half precision is computed in float32.

    Args:
        theta: the maps.
        size: the shape of the images, (N, C, H, W) or (N, C, D, H, W).
        align_corners: whether -1 and 1 are the centres of the outer pixels; None means False.

    Raises:
        TypeError: if the dtype is not floating-point, or a size no int.
        ValueError: if the shape does not fit the size, or a size is not positive.

    Source: Jaderberg et al., 2015; torch.nn.functional.affine_grid.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> shift = jnp.array([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]])
        >>> jaxnn.functional.affine_grid(shift, (1, 1, 1, 2))
        Array([[[[0., 0.],
                 [1., 0.]]]], dtype=float32)
    """
    theta = check_array(theta, "theta", "affine_grid")
    check_floating(theta, "theta", "affine_grid")
    batch, *sizes = size
    spatial = tuple(check_int(each, "size", "affine_grid", minimum=1) for each in sizes)[1:]
    n = len(spatial)
    if batch == 0:
        raise ValueError(f"affine_grid: `size` must be positive, got {tuple(size)}")
    if n not in (2, 3) or theta.shape != (batch, n, n + 1):
        raise ValueError(
            "affine_grid: `theta` must have shape (N, 2, 3) for a size (N, C, H, W), or (N, 3, 4) "
            f"for (N, C, D, H, W), got shape {theta.shape} and the size {tuple(size)}"
        )
    return _affine_grid(theta, spatial, bool(align_corners))


def _check_shapes(input: jax.Array, grid: jax.Array, mode: str) -> None:
    n = input.ndim - 2
    if n not in (2, 3) or grid.ndim != input.ndim or (mode == "bicubic" and n != 2):
        raise ValueError(
            "grid_sample: `input` must have the dimensions (N, C, H, W), or (N, C, D, H, W) except "
            f"for mode 'bicubic', and `grid` as many, got shapes {input.shape} and {grid.shape} "
            f"for mode {mode!r}"
        )
    if grid.shape[0] != input.shape[0] or grid.shape[-1] != n:
        raise ValueError(
            f"grid_sample: `grid` must have shape (N, ..., {n}) with the batch size N of `input`, "
            f"got {grid.shape} for an input of shape {input.shape}"
        )
    if 0 in input.shape[2:]:
        raise ValueError(
            f"grid_sample: the spatial dimensions of `input` must not be empty, got {input.shape}"
        )


class _Tap(NamedTuple):
    """An element in one dimension that a point looks at."""

    place: jax.Array
    weight: jax.Array
    is_inside: jax.Array


@partial(jax.jit, static_argnums=(2, 3, 4), inline=True)
def _grid_sample(
    input: jax.Array, grid: jax.Array, mode: str, padding_mode: str, align_corners: bool
) -> jax.Array:
    batch, channels, *sizes = input.shape
    dtype = accumulation_dtype(input.dtype)
    out = grid.shape[1:-1]
    points = grid.astype(dtype).reshape(batch, math.prod(out), len(sizes))
    taps = [
        _taps(points[..., -1 - axis], size, len(sizes), mode, padding_mode, align_corners)
        for axis, size in enumerate(sizes)
    ]
    met = [_meet(each, sizes) for each in itertools.product(*taps)]
    index, weight, is_inside = (jnp.stack(parts, axis=1) for parts in zip(*met, strict=True))
    image = input.astype(dtype).reshape(batch, channels, math.prod(sizes))
    output = _weighted_sums(image, weight, index, is_inside)
    return output.reshape(batch, channels, *out).astype(input.dtype)


@jax.custom_jvp
def _weighted_sums(
    image: jax.Array, weight: jax.Array, index: jax.Array, is_inside: jax.Array
) -> jax.Array:
    """Sum the elements that each point looks at, each times its weight.

    Shapes: image (N, C, elements), the others (N, taps, points) -> (N, C, points).
    """
    return _by_channels(image, weight, index, is_inside)


@_weighted_sums.defjvp
def _weighted_sums_jvp(
    primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    image, weight, index, is_inside = primals
    d_image, d_weight, *_ = tangents
    # Checkpointed, since the elements that the points look at are as many images as there are taps.
    through_weight = jax.checkpoint(_by_channels)
    d_output = _by_rows(d_image, weight, index, is_inside)
    d_output += through_weight(image, d_weight, index, is_inside)
    return _weighted_sums(image, weight, index, is_inside), d_output


# The two ways to the same sums. Channel by channel a tap is a gather that fuses with the product,
# and its transpose through the weight with the sum over the channels. The transpose through the
# image is a scatter, which for all channels of a point at once is 4 times as fast. Without the
# barriers, XLA computes the places anew for each channel, which is 4 times as slow.


def _by_channels(
    image: jax.Array, weight: jax.Array, index: jax.Array, is_inside: jax.Array
) -> jax.Array:
    index, is_inside = lax.optimization_barrier((index, is_inside))
    weight = lax.optimization_barrier(weight)
    take = jax.vmap(lambda image, at: image.at[:, at].get(mode="promise_in_bounds"))
    total = jnp.zeros((*image.shape[:2], index.shape[2]), image.dtype)
    for k in range(index.shape[1]):
        values = take(image, index[:, k])
        values = jnp.where(is_inside[:, None, k], values, jnp.zeros((), image.dtype))
        total = total + values * weight[:, None, k]
    return total


def _by_rows(
    image: jax.Array, weight: jax.Array, index: jax.Array, is_inside: jax.Array
) -> jax.Array:
    weight, index, is_inside = lax.optimization_barrier((weight, index, is_inside))
    batch, channels, size = image.shape
    rows = lax.optimization_barrier(image.swapaxes(1, 2)).reshape(batch * size, channels)
    start = lax.broadcasted_iota(index.dtype, index.shape, 0) * size
    values = rows.at[(start + index).swapaxes(1, 2)].get(mode="promise_in_bounds")
    inside = lax.broadcast_in_dim(is_inside.swapaxes(1, 2), values.shape, (0, 1, 2))
    values = jnp.where(inside, values, jnp.zeros((), values.dtype))
    output = (values * weight.swapaxes(1, 2)[..., None]).sum(axis=2)
    return lax.optimization_barrier(output).swapaxes(1, 2)


def _meet(taps: tuple[_Tap, ...], sizes: Sequence[int]) -> _Tap:
    """Return one tap of the flattened image for one of each dimension."""
    index, weight, is_inside = taps[0]
    for tap, size in zip(taps[1:], sizes[1:], strict=True):
        index = index * size + tap.place
        weight = weight * tap.weight
        is_inside = is_inside & tap.is_inside
    return _Tap(index, weight, is_inside)


def _taps(
    point: jax.Array, size: int, n: int, mode: str, padding_mode: str, align_corners: bool
) -> list[_Tap]:
    """Return what a point looks at in a dimension of the given size, one of `n`."""
    place = (point + 1) / 2 * (size - 1) if align_corners else ((point + 1) * size - 1) / 2
    if mode == "bicubic":
        first = jnp.floor(place)
        return [
            _tap(_placed(first + i, size, 0, padding_mode, align_corners), weight, size)
            for i, weight in zip((-1, 0, 1, 2), _cubic_weights(place - first), strict=True)
        ]
    if n == 3:
        place = _placed(place, size, size - 1, padding_mode, align_corners)
        place = jnp.where(jnp.isfinite(place), place, jnp.full_like(place, _OUTSIDE))
    elif mode == "nearest":
        place = _placed(place, size, 0, padding_mode, align_corners)
    else:
        place = _padded(place, size, padding_mode, align_corners)
    if mode == "nearest":
        return [_tap(jnp.round(place), jnp.ones_like(place), size)]
    first = jnp.floor(place)
    fraction = place - first
    return [_tap(first, 1 - fraction, size), _tap(first + 1, fraction, size)]


def _tap(place: jax.Array, weight: jax.Array, size: int) -> _Tap:
    index = jnp.clip(lax.stop_gradient(place), 0, size - 1).astype(jnp.int32)
    return _Tap(index, weight, (place >= 0) & (place <= size - 1))


def _placed(
    place: jax.Array, size: int, otherwise: int, padding_mode: str, align_corners: bool
) -> jax.Array:
    """As `_padded`, and `otherwise`, where torch has it, for what is no number."""
    place = _padded(place, size, padding_mode, align_corners)
    if padding_mode == "zeros":
        return place
    return jnp.where(jnp.isnan(place), jnp.full_like(place, otherwise), place)


def _padded(place: jax.Array, size: int, padding_mode: str, align_corners: bool) -> jax.Array:
    """Return the place inside that stands for one outside."""
    if padding_mode == "zeros":
        return place
    if padding_mode == "reflection":
        place = _reflected(place, size, align_corners)
    # At the bounds, too, the derivative is 0.
    inside = jnp.where(place >= size - 1, jnp.full_like(place, size - 1), place)
    return jnp.where(place <= 0, jnp.zeros_like(place), inside)


def _reflected(place: jax.Array, size: int, align_corners: bool) -> jax.Array:
    """Return the place, reflected at the edges until it lies between them."""
    low, span = (0.0, size - 1) if align_corners else (-0.5, size)
    if span == 0:
        return jnp.zeros_like(place)
    distance = jnp.where(place < low, low - place, place - low)
    rest = lax.rem(distance, jnp.full_like(distance, span))
    is_turned = lax.rem(jnp.floor(distance / span), jnp.full_like(distance, 2)) == 1
    return jnp.where(is_turned, span - rest, rest) + low


def _cubic_weights(fraction: jax.Array) -> list[jax.Array]:
    """Return the cubic convolution kernel at the distances of the four neighbours."""
    a = -0.75

    def near(x: jax.Array) -> jax.Array:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: jax.Array) -> jax.Array:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(fraction + 1), near(fraction), near(1 - fraction), far(2 - fraction)]


@partial(jax.jit, static_argnums=(1, 2), inline=True)
def _affine_grid(theta: jax.Array, spatial: tuple[int, ...], align_corners: bool) -> jax.Array:
    dtype: Any = accumulation_dtype(theta.dtype)
    maps = theta.astype(dtype)
    n = len(spatial)
    to_points = (slice(None), *(None,) * n)
    points = maps[(*to_points, slice(None), n)]
    for axis, size in enumerate(spatial):
        span = max(size - 1, 1) if align_corners else size
        centre = (2 * jnp.arange(size, dtype=dtype) - (size - 1)) / span
        centre = lax.broadcast_in_dim(centre, (1, *spatial, 1), (axis + 1,))
        points = points + maps[(*to_points, slice(None), n - 1 - axis)] * centre
    return points.astype(theta.dtype)
