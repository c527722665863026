"""The public functions: they check options and choose what the mode takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.export import is_symbolic_dim
from jaxtyping import Array, Num

from ...._checks import check_array, check_floating, check_int
from ...pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from .definition import nearest
from .sums import take, weighed, weighed_bytes
from .symbolic import are_symbols, take_by_program, weighed_by_program

# The number of spatial dimensions that each mode is for.
_RANKS = {
    "nearest": (1, 2, 3),
    "nearest-exact": (1, 2, 3),
    "linear": (1,),
    "bilinear": (2,),
    "bicubic": (2,),
    "lanczos": (2,),
    "trilinear": (3,),
    "area": (1, 2, 3),
}
_LINEAR = ("linear", "bilinear", "trilinear")
_ANTIALIASED = ("bilinear", "bicubic", "lanczos")


def interpolate(
    input: Num[Array, "N C *spatial"],
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Num[Array, "N C *out"]:
    """Resample to another size.

    An output at position i of a dimension looks at the input's position
    s (i + 1/2) - 1/2, with s = in / out, or s = 1 / scale_factor where that is given and not
    recomputed; with `align_corners` at i (in - 1) / (out - 1). "nearest" takes the input at
    floor(s i), "nearest-exact" at floor(s (i + 1/2)); "linear", "bilinear" and "trilinear" weigh
    the two neighbours in each dimension, "bicubic" the four, by Keys' kernel with a = -3/4; "area"
    takes the mean of all that the output covers. With `antialias` the kernels (cubic: a = -1/2)
    are stretched to cover what an output stands for; "lanczos", sinc(x) sinc(x / 3) for |x| < 3, is
    there only with it.

    Shapes: (N, C, *spatial) with one to three spatial dimensions -> (N, C, *out), where out is
    `size`, or floor(spatial * scale_factor).

    Dtypes: any floating point; also uint8, except for "linear", "trilinear" and "area", which is
    weighed by whole numbers and rounded after each dimension. Half precision is
    computed in float32.

    Args:
        input: the images.
        size: the new spatial sizes; one number for all.
        scale_factor: their ratio to the old ones, likewise; one of the two must be given.
        mode: "nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area" or
            "lanczos".
        align_corners: whether the first and last elements keep their places; for the linear and
            cubic modes.
        recompute_scale_factor: whether the ratio of the sizes takes the place of `scale_factor`.
        antialias: whether to average where the image shrinks; for "bilinear", "bicubic" and
            "lanczos", which needs it.

    Raises:
        TypeError: if the dtype is none of those, or an option is of the wrong type.
        ValueError: if the options do not go together, or not with the input's dimensions; if a
            size is not positive.

    Source: torch.nn.functional.interpolate; Keys, 1981.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x = jnp.array([[[1.0, 2.0]]])
        >>> jaxnn.functional.interpolate(x, scale_factor=2)
        Array([[[1., 1., 2., 2.]]], dtype=float32)
        >>> jaxnn.functional.interpolate(x, 4, mode="linear")
        Array([[[1.  , 1.25, 1.75, 2.  ]]], dtype=float32)
    """
    input = check_array(input, "input", "interpolate")
    check_resampling(
        size, scale_factor, mode, align_corners, recompute_scale_factor, "interpolate", antialias
    )
    _check_rank(input, mode, antialias)
    sizes, scales = _sizes_and_scales(input, size, scale_factor, recompute_scale_factor)
    is_symbolic = are_symbols((*input.shape[2:], *sizes))
    if mode == "area":
        pools: list[Any] = [adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d]
        return pools[len(sizes) - 1](input, sizes)  # type: ignore[no-any-return]
    if any(n == 0 for n in input.shape[1:]) or any(size < 1 for size in sizes):
        raise ValueError(
            "interpolate: channels and sizes must be positive, got input of shape "
            f"{input.shape} and the size {sizes}"
        )
    if mode.startswith("nearest"):
        if input.dtype != jnp.uint8:
            check_floating(input, "input", "interpolate")
        if is_symbolic:
            return take_by_program(input, sizes, scales, mode == "nearest-exact")
        indices = (
            nearest(old, new, scale, mode == "nearest-exact")
            for old, new, scale in zip(input.shape[2:], sizes, scales, strict=True)
        )
        return take(input, tuple(indices))
    kernel = "linear" if mode in _LINEAR else mode.removeprefix("bi")
    if is_symbolic and (antialias or input.dtype == jnp.uint8):
        raise ValueError(
            "interpolate: with `antialias`, and of uint8, sizes must be numbers, got input of "
            f"shape {input.shape} and the size {sizes}: leave them as they are in the example"
        )
    if is_symbolic:
        check_floating(input, "input", "interpolate")
        return weighed_by_program(input, sizes, scales, kernel, bool(align_corners))
    if input.dtype == jnp.uint8 and input.ndim == 4:
        return weighed_bytes(input, sizes, scales, kernel, bool(align_corners), antialias)
    check_floating(input, "input", "interpolate")
    return weighed(input, sizes, scales, kernel, bool(align_corners), antialias)


def upsample(
    input: Num[Array, "N C *spatial"],
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Num[Array, "N C *out"]:
    """`interpolate`, under the name that torch had for it before.

    Shapes, dtypes, raises: as `interpolate`.

    Source: torch.nn.functional.upsample.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.upsample(jnp.ones((1, 1, 2)), 4).shape
        (1, 1, 4)
    """
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(
    input: Num[Array, "N C *spatial"],
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
) -> Num[Array, "N C *out"]:
    """`interpolate` to the nearest neighbour.

    Shapes, dtypes, raises: as `interpolate`.

    Source: torch.nn.functional.upsample_nearest.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.upsample_nearest(jnp.ones((1, 1, 2)), 4).shape
        (1, 1, 4)
    """
    return interpolate(input, size, scale_factor)


def upsample_bilinear(
    input: Num[Array, "N C H W"],
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
) -> Num[Array, "N C H_out W_out"]:
    """`interpolate` bilinearly with aligned corners.

    Shapes, dtypes, raises: as `interpolate`.

    Source: torch.nn.functional.upsample_bilinear.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.upsample_bilinear(jnp.ones((1, 1, 2, 2)), 4).shape
        (1, 1, 4, 4)
    """
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)


def check_resampling(
    size: Any,
    scale_factor: Any,
    mode: str,
    align_corners: bool | None,
    recompute_scale_factor: bool | None,
    layer: str,
    antialias: bool = False,
) -> None:
    """Refuse options that do not go together, whatever the input."""
    if mode not in _RANKS:
        raise ValueError(f"{layer}: `mode` must be one of {tuple(_RANKS)}, got {mode!r}")
    if align_corners is not None and mode in ("nearest", "nearest-exact", "area"):
        raise ValueError(
            f"{layer}: `align_corners` has no meaning for mode {mode!r}; leave it None"
        )
    if mode == "lanczos" and (align_corners or not antialias):
        raise ValueError(
            f"{layer}: mode 'lanczos' needs `antialias`, which `interpolate` has, and "
            f"`align_corners` None or False, got {antialias} and {align_corners}"
        )
    if (size is None) == (scale_factor is None):
        raise ValueError(
            f"{layer}: give one of `size` and `scale_factor`, got {size} and {scale_factor}"
        )
    if recompute_scale_factor and size is not None:
        raise ValueError(f"{layer}: `recompute_scale_factor` has no meaning with `size`")


def _check_rank(input: jax.Array, mode: str, antialias: bool) -> None:
    if input.ndim - 2 not in _RANKS[mode]:
        ranks = " or ".join(str(rank + 2) for rank in _RANKS[mode])
        raise ValueError(
            f"interpolate: `input` must have {ranks} dimensions (N, C, positions, ...) for mode "
            f"{mode!r}, got shape {input.shape}"
        )
    if antialias and mode not in _ANTIALIASED:
        raise ValueError(f"interpolate: `antialias` is for modes {_ANTIALIASED}, got {mode!r}")


def _sizes_and_scales(
    input: jax.Array,
    size: int | Sequence[int] | None,
    scale_factor: float | Sequence[float] | None,
    recompute: bool | None,
) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """Return the new sizes, and the factors that the positions are computed by; None for in/out."""
    spatial = input.shape[2:]
    if size is not None:
        sizes = _for_each(size, len(spatial), "size")
        checked: tuple[Any, ...] = tuple(
            value if is_symbolic_dim(value) else check_int(value, "size", "interpolate")
            for value in sizes
        )
        return checked, (None,) * len(spatial)
    factors = _for_each(scale_factor, len(spatial), "scale_factor")
    for factor in factors:
        if isinstance(factor, bool) or not isinstance(factor, (int, float)):
            raise TypeError(f"interpolate: `scale_factor` must be numbers, got {scale_factor!r}")
    new = tuple(_scaled(old, float(f)) for old, f in zip(spatial, factors, strict=True))
    return new, (None,) * len(spatial) if recompute else tuple(float(f) for f in factors)


def _scaled(old: Any, factor: float) -> Any:
    if isinstance(old, int):
        return math.floor(old * factor)
    numerator, denominator = factor.as_integer_ratio()
    if denominator > _LARGEST_DENOMINATOR:
        raise ValueError(
            f"interpolate: of a size that is a symbol ({old}), `scale_factor` must be a whole "
            f"number, or one over a power of two, got {factor}; give `size`"
        )
    return old * numerator // denominator


# Up to which the product of a size and a ratio has no rounding in double precision.
_LARGEST_DENOMINATOR = 2**16


def _for_each(value: Any, count: int, name: str) -> tuple[Any, ...]:
    if not isinstance(value, Sequence):
        return (value,) * count
    if len(value) != count:
        raise ValueError(
            f"interpolate: `{name}` must have one number for each of the {count} spatial "
            f"dimensions, got {tuple(value)}"
        )
    return tuple(value)
