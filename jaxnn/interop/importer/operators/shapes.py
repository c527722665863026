"""Operators that change shapes, and that join and split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .... import functional as F
from ._register import axes_of, dtype_of, operator, result_dtype

Sizes = Sequence[Any]


def _completed(shape: Sizes, count: Any) -> tuple[Any, ...]:
    """Return the shape with a size in place of -1."""
    sizes = list(shape)
    if any(isinstance(n, int) and n == -1 for n in sizes):
        place = next(i for i, n in enumerate(sizes) if isinstance(n, int) and n == -1)
        known = math.prod(n for i, n in enumerate(sizes) if i != place)
        # Nothing to divide by, as in torch, which takes 0 then.
        sizes[place] = count // known if not isinstance(known, int) or known else 0
    return tuple(sizes)


@operator("view", "reshape", "_unsafe_view", "_reshape_copy", "view_copy")
def _reshape(
    self: jax.Array, size: Sizes = (), shape: Sizes = (), dtype: str | None = None
) -> jax.Array:
    wanted = dtype_of(dtype)
    if wanted is not None:
        return lax.bitcast_convert_type(self, wanted)
    return self.reshape(_completed(size or shape, math.prod(self.shape)))


@operator("view_as", "reshape_as")
def _reshape_as(self: jax.Array, other: jax.Array) -> jax.Array:
    return self.reshape(other.shape)


@operator("flatten")
def _flatten(self: jax.Array, start_dim: int = 0, end_dim: int = -1) -> jax.Array:
    return F.flatten(self, start_dim, end_dim) if self.ndim else self.reshape(1)


@operator("unflatten")
def _unflatten(self: jax.Array, dim: int, sizes: Sizes) -> jax.Array:
    axis = dim % self.ndim
    return self.reshape(
        self.shape[:axis] + _completed(sizes, self.shape[axis]) + self.shape[axis + 1 :]
    )


@operator("ravel")
def _ravel(self: jax.Array) -> jax.Array:
    return self.reshape(-1)


@operator("permute", "permute_copy")
def _permute(self: jax.Array, dims: Sizes) -> jax.Array:
    return self.transpose([d % self.ndim for d in dims]) if self.ndim else self


@operator("transpose", "swapaxes", "swapdims", "transpose_copy")
def _transpose(
    self: jax.Array, dim0: int = 0, dim1: int = 0, axis0: int = 0, axis1: int = 0
) -> jax.Array:
    return self.swapaxes(dim0 or axis0, dim1 or axis1) if self.ndim else self


@operator("t", "mT", "t_copy")
def _t(self: jax.Array) -> jax.Array:
    return self.swapaxes(-1, -2) if self.ndim > 1 else self


@operator("mH", "adjoint")
def _adjoint(self: jax.Array) -> jax.Array:
    return _t(self).conj()  # type: ignore[no-any-return]


@operator("numpy_T")
def _numpy_t(self: jax.Array) -> jax.Array:
    return self.T


@operator("movedim", "moveaxis")
def _movedim(self: jax.Array, source: Any, destination: Any) -> jax.Array:
    return jnp.moveaxis(self, source, destination)


@operator("unsqueeze", "unsqueeze_copy")
def _unsqueeze(self: jax.Array, dim: int) -> jax.Array:
    return jnp.expand_dims(self, dim)


@operator("squeeze", "squeeze_copy")
def _squeeze(self: jax.Array, dim: Any = None) -> jax.Array:
    axes = axes_of(dim, self.ndim)
    chosen = tuple(a for a in axes if isinstance(self.shape[a], int) and self.shape[a] == 1)
    return jnp.squeeze(self, chosen)


@operator("expand", "broadcast_to", "expand_copy")
def _expand(self: jax.Array, size: Sizes, implicit: bool = False) -> jax.Array:
    missing = len(size) - self.ndim
    kept = (*(1,) * missing, *self.shape)
    shape = [
        have if isinstance(n, int) and n == -1 else n for n, have in zip(size, kept, strict=True)
    ]
    return jnp.broadcast_to(self.reshape(kept), shape)


@operator("expand_as")
def _expand_as(self: jax.Array, other: jax.Array) -> jax.Array:
    return _expand(self, other.shape)  # type: ignore[no-any-return]


@operator("repeat", "tile")
def _repeat(self: jax.Array, repeats: Sizes = (), dims: Sizes = ()) -> jax.Array:
    return jnp.tile(self, tuple(repeats or dims))


@operator("repeat_interleave")
def _repeat_interleave(
    self: jax.Array | None = None, repeats: Any = None, dim: int | None = None,
    output_size: int | None = None,
) -> jax.Array:  # fmt: skip
    if self is None:
        raise NotImplementedError("repeat_interleave has a size that depends on its values")
    if dim is None:
        self, dim = self.reshape(-1), 0
    if hasattr(repeats, "dtype") and repeats.size != 1:
        if output_size is None:
            raise NotImplementedError("repeat_interleave has a size that depends on its values")
        return jnp.repeat(self, repeats, dim, total_repeat_length=output_size)
    axis = dim % self.ndim
    spread = jnp.broadcast_to(
        jnp.expand_dims(self, axis + 1),
        (*self.shape[: axis + 1], repeats, *self.shape[axis + 1 :]),
    )
    return spread.reshape(*self.shape[:axis], self.shape[axis] * repeats, *self.shape[axis + 1 :])


@operator("flip")
def _flip(self: jax.Array, dims: Sizes) -> jax.Array:
    return jnp.flip(self, tuple(dims))


@operator("roll")
def _roll(self: jax.Array, shifts: Any, dims: Any = ()) -> jax.Array:
    if not isinstance(shifts, (list, tuple)):
        shifts = [shifts]
    if dims in ((), [], None):
        return jnp.roll(self, shifts[0])
    return jnp.roll(self, tuple(shifts), tuple(dims))


@operator("rot90")
def _rot90(self: jax.Array, k: int = 1, dims: Sizes = (0, 1)) -> jax.Array:
    return jnp.rot90(self, k, tuple(dims))


@operator("diagonal", "diagonal_copy")
def _diagonal(self: jax.Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> jax.Array:
    return jnp.diagonal(self, offset, dim1, dim2)


@operator("diag_embed")
def _diag_embed(self: jax.Array, offset: int = 0, dim1: int = -2, dim2: int = -1) -> jax.Array:
    size = self.shape[-1] + abs(offset)
    i = jnp.arange(self.shape[-1])
    matrix = jnp.zeros((*self.shape[:-1], size, size), self.dtype)
    matrix = matrix.at[..., i + max(-offset, 0), i + max(offset, 0)].set(self)
    return jnp.moveaxis(matrix, (-2, -1), (dim1, dim2))


@operator("diag")
def _diag(self: jax.Array, diagonal: int = 0) -> jax.Array:
    return jnp.diag(self, diagonal)


@operator("tril")
def _tril(self: jax.Array, diagonal: int = 0) -> jax.Array:
    return jnp.tril(self, diagonal)


@operator("triu")
def _triu(self: jax.Array, diagonal: int = 0) -> jax.Array:
    return jnp.triu(self, diagonal)


# --- joining and splitting ----------------------------------------------------------------------


@operator("cat", "concat", "concatenate")
def _cat(tensors: Sequence[jax.Array], dim: int = 0) -> jax.Array:
    dtype = result_dtype(*tensors)
    # torch leaves out an empty vector, whatever the rank of the others.
    legacy = [t for t in tensors if t.ndim != 1 or not _is_empty(t)] or tensors[:1]
    return jnp.concatenate([t.astype(dtype) for t in legacy], dim)


def _is_empty(x: jax.Array) -> bool:
    return isinstance(x.shape[0], int) and x.shape[0] == 0


@operator("stack")
def _stack(tensors: Sequence[jax.Array], dim: int = 0) -> jax.Array:
    dtype = result_dtype(*tensors)
    return jnp.stack([t.astype(dtype) for t in tensors], dim)


@operator("hstack")
def _hstack(tensors: Sequence[jax.Array]) -> jax.Array:
    return jnp.hstack(tensors)


@operator("vstack")
def _vstack(tensors: Sequence[jax.Array]) -> jax.Array:
    return jnp.vstack(tensors)


@operator("unbind", "unbind_copy")
def _unbind(self: jax.Array, dim: int = 0) -> list[jax.Array]:
    axis = dim % self.ndim
    return [lax.index_in_dim(self, i, axis, keepdims=False) for i in range(self.shape[axis])]


@operator("split", "split_copy", "tensor_split")
def _split(
    self: jax.Array, split_size: Any = None, dim: int = 0, split_sizes: Any = None,
    sections: Any = None, indices: Any = None,
) -> list[jax.Array]:  # fmt: skip
    axis = dim % self.ndim
    length = self.shape[axis]
    if sections is not None or indices is not None:
        return list(jnp.array_split(self, sections or indices, axis))
    if split_sizes is None and not isinstance(split_size, (list, tuple)):
        if length == split_size:
            return [self]
        split_sizes = [min(split_size, length - at) for at in range(0, max(length, 1), split_size)]
    return _split_with_sizes(self, split_sizes or split_size, dim)  # type: ignore[no-any-return]


@operator("split_with_sizes", "split_with_sizes_copy")
def _split_with_sizes(self: jax.Array, split_sizes: Sizes, dim: int = 0) -> list[jax.Array]:
    parts, at = [], 0
    for size in split_sizes:
        parts.append(lax.slice_in_dim(self, at, at + size, axis=dim % self.ndim))
        at += size
    return parts


@operator("chunk", "unsafe_chunk")
def _chunk(self: jax.Array, chunks: int, dim: int = 0) -> list[jax.Array]:
    length = self.shape[dim]
    size = -(-length // chunks)
    return _split(self, size, dim)  # type: ignore[no-any-return]


@operator("meshgrid")
def _meshgrid(tensors: Sequence[jax.Array], indexing: str | None = None) -> list[jax.Array]:
    return list(jnp.meshgrid(*(t.reshape(-1) for t in tensors), indexing=indexing or "ij"))


@operator("unfold", "unfold_copy")
def _unfold(self: jax.Array, dimension: int, size: int, step: int) -> jax.Array:
    if self.ndim == 0:
        return self.reshape(1)
    axis = dimension % self.ndim
    count = (self.shape[axis] - size) // step + 1
    windows = [
        lax.slice_in_dim(self, i, i + (count - 1) * step + 1, stride=step, axis=axis)
        for i in range(size)
    ]
    return jnp.stack(windows, -1)


@operator("pad", "_pad_enum")
def _pad(
    self: jax.Array, pad: Sizes, mode: Any = "constant", value: float | None = None
) -> jax.Array:
    return F.pad(self, list(pad), mode, 0.0 if value is None else value)


@operator("constant_pad_nd")
def _constant_pad_nd(self: jax.Array, pad: Sizes, value: float = 0.0) -> jax.Array:
    return F.pad(self, list(pad), "constant", value)


for _dims in (1, 2, 3):
    for _mode, _name in (("reflect", "reflection"), ("replicate", "replication")):
        operator(f"{_name}_pad{_dims}d")(
            lambda self, padding, mode=_mode: F.pad(self, list(padding), mode)
        )


@operator("pixel_shuffle")
def _pixel_shuffle(self: jax.Array, upscale_factor: int) -> jax.Array:
    return F.pixel_shuffle(self, upscale_factor)


@operator("pixel_unshuffle")
def _pixel_unshuffle(self: jax.Array, downscale_factor: int) -> jax.Array:
    return F.pixel_unshuffle(self, downscale_factor)


@operator("channel_shuffle")
def _channel_shuffle(self: jax.Array, groups: int) -> jax.Array:
    return F.channel_shuffle(self, groups)


@operator("as_strided", "as_strided_copy")
def _as_strided(
    self: jax.Array, size: Sizes, stride: Sizes, storage_offset: int | None = None
) -> jax.Array:
    # Of a contiguous array, as those are that have just been computed.
    index = jnp.full((), storage_offset or 0)
    for n, step in zip(size, stride, strict=True):
        index = index[..., None] + jnp.arange(n).reshape((1,) * index.ndim + (n,)) * step
    return self.reshape(-1)[index]
