"""Images sampled at the points of a grid, and grids of affine maps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ...._checks import check_array, check_floating, check_int, check_same_dtype
from ...._dtypes import accumulation_dtype
from .definition import meet, taps_of
from .sums import weighted_sums

_MODES = ("bilinear", "nearest", "bicubic")
_PADDING_MODES = ("zeros", "border", "reflection")


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


@partial(jax.jit, static_argnums=(2, 3, 4), inline=True)
def _grid_sample(
    input: jax.Array, grid: jax.Array, mode: str, padding_mode: str, align_corners: bool
) -> jax.Array:
    batch, channels, *sizes = input.shape
    dtype = accumulation_dtype(input.dtype)
    out = grid.shape[1:-1]
    points = grid.astype(dtype).reshape(batch, math.prod(out), len(sizes))
    taps = [
        taps_of(points[..., -1 - axis], size, len(sizes), mode, padding_mode, align_corners)
        for axis, size in enumerate(sizes)
    ]
    met = [meet(each, sizes) for each in itertools.product(*taps)]
    index, weight, is_inside = (jnp.stack(parts, axis=1) for parts in zip(*met, strict=True))
    image = input.astype(dtype).reshape(batch, channels, math.prod(sizes))
    output = weighted_sums(image, weight, index, is_inside)
    return output.reshape(batch, channels, *out).astype(input.dtype)


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
        TypeError: if the dtype is not floating-point, or a size is not an int.
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
