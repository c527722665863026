"""Interpolation to another size, each spatial dimension by a linear map of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Num

from ..._checks import check_array, check_floating, check_int
from ..._dtypes import accumulation_dtype
from ..._xla import by_platform, is_sharded, out_of_line
from .._gradients import with_derivative_of, with_transpose_of
from ..pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

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
# How far the kernels reach, in elements of the larger image.
_REACHES = {"linear": 1, "cubic": 2, "lanczos": 3}
# Up to so many times, a repetition's gradient is a sum that is written out.
_MOST_TERMS = 8


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
    if mode == "area":
        pools: list[Any] = [adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d]
        return pools[len(sizes) - 1](input, sizes)  # type: ignore[no-any-return]
    if 0 in input.shape[1:] or min(sizes) < 1:
        raise ValueError(
            "interpolate: channels and sizes must be positive, got input of shape "
            f"{input.shape} and the size {sizes}"
        )
    if mode.startswith("nearest"):
        if input.dtype != jnp.uint8:
            check_floating(input, "input", "interpolate")
        indices = (
            _nearest(old, new, scale, mode == "nearest-exact")
            for old, new, scale in zip(input.shape[2:], sizes, scales, strict=True)
        )
        return _take(input, tuple(indices))
    kernel = "linear" if mode in _LINEAR else mode.removeprefix("bi")
    if input.dtype == jnp.uint8 and input.ndim == 4:
        return _weighed_bytes(input, sizes, scales, kernel, bool(align_corners), antialias)
    check_floating(input, "input", "interpolate")
    return _weighed(input, sizes, scales, kernel, bool(align_corners), antialias)


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
        checked = tuple(check_int(value, "size", "interpolate") for value in sizes)
        return checked, (None,) * len(spatial)
    factors = _for_each(scale_factor, len(spatial), "scale_factor")
    for factor in factors:
        if isinstance(factor, bool) or not isinstance(factor, (int, float)):
            raise TypeError(f"interpolate: `scale_factor` must be numbers, got {scale_factor!r}")
    new = tuple(math.floor(old * float(f)) for old, f in zip(spatial, factors, strict=True))
    return new, (None,) * len(spatial) if recompute else tuple(float(f) for f in factors)


def _for_each(value: Any, count: int, name: str) -> tuple[Any, ...]:
    if not isinstance(value, Sequence):
        return (value,) * count
    if len(value) != count:
        raise ValueError(
            f"interpolate: `{name}` must have one number for each of the {count} spatial "
            f"dimensions, got {tuple(value)}"
        )
    return tuple(value)


@lru_cache(maxsize=256)
def _nearest(old: int, new: int, scale: float | None, exact: bool) -> tuple[int, ...]:
    """The input's index for each output, computed in float32 as torch does."""
    if not exact and new in (old, 2 * old):
        return tuple(i * old // new for i in range(new))
    step = np.float32(old) / np.float32(new) if scale is None else np.float32(1 / scale)
    position = np.arange(new, dtype=np.float32) + np.float32(0.5 if exact else 0)
    return tuple(np.minimum(np.floor(position * step).astype(int), old - 1).tolist())


@partial(jax.jit, static_argnums=1, inline=True)
def _take(input: jax.Array, indices: tuple[tuple[int, ...], ...]) -> jax.Array:
    for axis, index in enumerate(indices, 2):
        input = _taken(input, index, axis)
    return input


def _taken(input: jax.Array, index: tuple[int, ...], axis: int) -> jax.Array:
    old, new = input.shape[axis], len(index)
    if new % old == 0 and index == tuple(i * old // new for i in range(new)):
        # A broadcast, whose gradient is a sum; that of a gather would be a scatter.
        times = new // old
        repeat = partial(_repeated, times=times, axis=axis)
        if times > _MOST_TERMS or input.dtype not in (jnp.float32, jnp.float64):
            return repeat(input)
        return with_derivative_of(repeat, partial(_spread, times=times, axis=axis), input)
    if old % new == 0 and index == tuple(i * old // new for i in range(new)):
        return lax.slice_in_dim(input, 0, old, old // new, axis)
    return jnp.take(input, np.array(index), axis, mode="clip")


def _repeated(input: jax.Array, times: int, axis: int) -> jax.Array:
    """Repeat each element, as a broadcast."""
    shape = input.shape
    wider = jnp.broadcast_to(
        jnp.expand_dims(input, axis + 1), (*shape[: axis + 1], times, *shape[axis + 1 :])
    )
    return wider.reshape(*shape[:axis], shape[axis] * times, *shape[axis + 1 :])


def _spread(input: jax.Array, times: int, axis: int) -> jax.Array:
    """Repeat each element, as a sum whose transpose is one of strided slices.

    That of a broadcast is a sum over a short dimension, which takes XLA on a CPU 15 times as long.
    """
    zero = jnp.zeros((), input.dtype)

    def at(place: int) -> jax.Array:
        widths = [(0, 0, 0)] * input.ndim
        widths[axis] = (place, times - 1 - place, times - 1)
        return lax.pad(input, zero, widths)

    return sum(map(at, range(1, times)), start=at(0))


@partial(jax.jit, static_argnums=(1, 2, 3, 4, 5), inline=True)
def _weighed(
    input: jax.Array,
    sizes: tuple[int, ...],
    scales: tuple[float | None, ...],
    kernel: str,
    align_corners: bool,
    antialias: bool,
) -> jax.Array:
    x = input.astype(accumulation_dtype(input.dtype))
    find_taps = _antialiased_taps if antialias else _taps
    taps = [
        find_taps(old, new, scale, kernel, align_corners, x.dtype.name)
        for old, new, scale in zip(x.shape[2:], sizes, scales, strict=True)
    ]
    users = [_turned(of, old) for of, old in zip(taps, x.shape[2:], strict=True)]
    kept = [new == old for old, new in zip(x.shape[2:], sizes, strict=True)]
    value, gradient = partial(_gather, taps=taps), partial(_gather, taps=users)
    if antialias and any(kept):
        # Torch leaves out a dimension that keeps its size, but not in the gradient.
        shorter = [None if keep else of for of, keep in zip(taps, kept, strict=True)]
        linear = partial(with_transpose_of, value, gradient)
        x = with_derivative_of(partial(_gather, taps=shorter), linear, x)
    elif kernel == "cubic" and all(kept):
        # Torch's gradient is the cotangent itself where no size changes.
        x = with_derivative_of(value, lambda tangent: tangent, x)
    else:
        x = with_transpose_of(value, gradient, x)
    return x.astype(input.dtype)


@partial(jax.jit, static_argnums=(1, 2, 3, 4, 5), inline=True)
def _weighed_bytes(
    input: jax.Array,
    sizes: tuple[int, ...],
    scales: tuple[float | None, ...],
    kernel: str,
    align_corners: bool,
    antialias: bool,
) -> jax.Array:
    """Weigh by whole numbers, as torch and Pillow do, and round after each dimension."""
    find_taps = _antialiased_taps if antialias else _taps
    x = input
    for axis in (3, 2):
        old, new, scale = x.shape[axis], sizes[axis - 2], scales[axis - 2]
        if new == old:
            continue
        taps = find_taps(old, new, scale, kernel, align_corners, "float64")
        whole, bits = _whole_taps(taps, old)
        total = _gather_along(x.astype(jnp.int32), axis, whole)
        rounded = lax.shift_right_arithmetic(total + (1 << (bits - 1)), jnp.int32(bits))
        x = jnp.clip(rounded, 0, 255).astype(jnp.uint8)
    return x


def _whole_taps(taps: _Taps, old: int) -> tuple[_Taps, int]:
    """Return the weights times 2**bits as whole numbers, with as many bits as 16 can hold."""
    output, number = np.nonzero(taps.is_there)
    matrix = np.zeros((len(taps.element), old))
    # What stands for an element beyond the edge is one with the edge's own.
    np.add.at(matrix, (output, taps.element[output, number]), taps.weight[output, number])
    bits = next(b for b in range(23) if b == 22 or int(0.5 + matrix.max() * 2 ** (b + 1)) >= 2**15)
    weight = np.trunc(matrix * 2**bits + np.copysign(0.5, matrix)).astype(np.int32)
    element = np.broadcast_to(taps.element, taps.weight.shape)
    first = np.arange(element.shape[1])
    is_new = taps.is_there & ~np.array(
        [[any(row[:k] == row[k]) for k in first] for row in np.where(taps.is_there, element, -1)]
    )
    return _Taps(element, np.take_along_axis(weight, element, 1), is_new), bits


_Place = Callable[[jax.Array], tuple[Any, ...]]


class _Taps(NamedTuple):
    """What each output of a dimension weighs: arrays of shape (outputs, the most taps of one)."""

    element: np.ndarray
    weight: np.ndarray
    is_there: np.ndarray


# Each output gathers what it weighs, and nothing else: a product with the matrix of the weights
# would multiply all the others by zero, which a NaN or an infinity survives. The transpose gathers
# too, for each element from the outputs that weigh it: a scatter is slow on a CPU.


def _gather(x: jax.Array, taps: Sequence[_Taps | None]) -> jax.Array:
    steps = [
        partial(_gather_along, axis=axis, taps=of)
        for axis, of in enumerate(taps, 2)
        if of is not None
    ]
    for i, step in enumerate(steps, 1):
        x = (out_of_line(step) if i < len(steps) else step)(x)
    return x


def _gather_along(x: jax.Array, axis: int, taps: _Taps) -> jax.Array:
    before, size, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    outputs = len(taps.element)

    def default(x: jax.Array) -> jax.Array:
        return _gathered(x, taps, axis, lambda index: (*(slice(None),) * axis, index))

    def cpu(x: jax.Array) -> jax.Array:
        rows = x.reshape(math.prod(before) * size, *after)
        output = _gathered(rows, taps, 1, _rows(math.prod(before), size))
        return output.reshape(*before, outputs, *after)

    # On a CPU, XLA puts the dimension that it gathers along first, and copies what it gets.
    if is_sharded(x):
        return default(x)
    output: jax.Array = by_platform(cpu, default)(x)
    return output


def _rows(count: int, size: int) -> _Place:
    """Return where an index lies in each of `count` rows that follow one another."""

    def place(index: jax.Array) -> tuple[jax.Array]:
        start = lax.broadcasted_iota(index.dtype, (count, index.shape[0]), 0) * size
        return (start + index[None],)

    return place


def _gathered(x: jax.Array, taps: _Taps, axis: int, place: _Place) -> jax.Array:
    def tap(index: np.ndarray, weight: np.ndarray, is_there: np.ndarray) -> jax.Array:
        values = x.at[place(jnp.asarray(index))].get(mode="promise_in_bounds")
        return _weighted(values, weight, is_there, axis)

    return reduce(jnp.add, map(tap, *(part.T for part in taps)))


def _weighted(x: jax.Array, weight: np.ndarray, is_there: np.ndarray, axis: int) -> jax.Array:
    """Multiply along an axis, where something is there; elsewhere it is zero."""
    if not is_there.all():
        others = tuple(i for i in range(x.ndim) if i != axis)
        mask = jnp.asarray(np.expand_dims(is_there, others))
        x = jnp.where(mask, x, jnp.zeros((), x.dtype))
    return x * lax.broadcast_in_dim(jnp.asarray(weight), x.shape, (axis,))


def _step(old: int, new: int, scale: float | None, align_corners: bool, real: Any) -> Any:
    """The input's distance from one output to the next, computed in the given precision."""
    if align_corners:
        return real(old - 1) / real(new - 1) if new > 1 else real(0)
    return real(old) / real(new) if scale is None else real(1 / scale)


@lru_cache(maxsize=256)
def _taps(
    old: int, new: int, scale: float | None, kernel: str, align_corners: bool, dtype: str
) -> _Taps:
    """What linear or cubic interpolation weighs, some with a weight of zero, as torch does."""
    real = np.dtype(dtype).type
    step = _step(old, new, scale, align_corners, real)
    position = np.arange(new).astype(dtype)
    place = position * step if align_corners else step * (position + real(0.5)) - real(0.5)
    if kernel == "linear":
        place = position if new == old else np.maximum(place, real(0))
        first = np.minimum(np.floor(place).astype(int), old - 1)
        fraction = np.clip(place - first.astype(dtype), real(0), real(1))
        index = np.stack([first, first + (new != old)], axis=1)
        weight = np.stack([1 - fraction, fraction], axis=1)
    else:
        first = np.floor(place).astype(int)
        fraction = place - first.astype(dtype)
        index = np.stack([first + i for i in (-1, 0, 1, 2)], axis=1)
        weight = np.stack([_keys(fraction - i, real(-0.75)) for i in (-1, 0, 1, 2)], axis=1)
    index = np.clip(index, 0, old - 1).astype(np.int32)
    return _Taps(index, weight.astype(dtype), np.ones(index.shape, bool))


def _keys(x: np.ndarray, a: Any) -> np.ndarray:
    """The cubic convolution kernel."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, np.zeros_like(x)))


@lru_cache(maxsize=256)
def _antialiased_taps(
    old: int, new: int, scale: float | None, kernel: str, align_corners: bool, dtype: str
) -> _Taps:
    """What a kernel weighs that is stretched where the image shrinks."""
    real = np.dtype(dtype).type
    step = _step(old, new, scale, align_corners, real)
    stretch = np.maximum(step, real(1))
    reach = real(_REACHES[kernel]) * stretch
    centre = step * (np.arange(new).astype(dtype) + real(0.5))
    first = np.maximum((centre - reach + real(0.5)).astype(int), 0)
    last = np.minimum((centre + reach + real(0.5)).astype(int), old)
    index = first[:, None] + np.arange((last - first).max())
    is_there = index < last[:, None]
    distance = (index.astype(dtype) - centre[:, None] + real(0.5)) / stretch
    if kernel == "linear":
        weight = np.maximum(1 - np.abs(distance), 0)
    elif kernel == "cubic":
        weight = _keys(distance, real(-0.5))
    else:
        near = np.abs(distance) < 3
        weight = np.where(near, np.sinc(distance) * np.sinc(distance / 3), real(0))
    weight = np.where(is_there, weight, real(0))
    total = weight.sum(axis=1, keepdims=True)
    weight = weight / np.where(total == 0, real(1), total)
    return _Taps(np.clip(index, 0, old - 1).astype(np.int32), weight.astype(dtype), is_there)


def _turned(taps: _Taps, old: int) -> _Taps:
    """Return the same from the other side: for each element, which outputs weigh it."""
    output, number = np.nonzero(taps.is_there)
    element = taps.element[output, number]
    order = np.argsort(element, kind="stable")
    element, output, weight = element[order], output[order], taps.weight[output, number][order]
    counts = np.bincount(element, minlength=old)
    place = np.arange(len(element)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (old, counts.max())
    turned = _Taps(np.zeros(shape, np.int32), np.zeros(shape, weight.dtype), np.zeros(shape, bool))
    for part, values in zip(turned, (output, weight, True), strict=True):
        part[element, place] = values
    return turned
