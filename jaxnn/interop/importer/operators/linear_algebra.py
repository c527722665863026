"""Operators of matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .... import functional as F
from ....functional._vector_norm import vector_norm
from ._register import operator, same_rank


@operator("linear")
def _linear(input: jax.Array, weight: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    return F.linear(input, weight, bias)


@operator("matmul", "mm", "bmm", "linalg_matmul", "mv", "dot", "vdot", "inner", "_grouped")
def _matmul(
    self: jax.Array, other: Any = None, mat2: Any = None, vec: Any = None, tensor: Any = None
) -> jax.Array:
    second = next(x for x in (other, mat2, vec, tensor) if x is not None)
    return jnp.matmul(self, second)


def _scaled(scale: float, x: jax.Array) -> jax.Array:
    return x if scale == 1 else jnp.asarray(scale, x.dtype) * x


def _plus(self: jax.Array, product: jax.Array, beta: float, alpha: float) -> jax.Array:
    # With beta 0 torch ignores self, NaN or not.
    if beta == 0:
        return _scaled(alpha, product)
    x, y = same_rank(_scaled(beta, self), _scaled(alpha, product))
    return x + y


@operator("addmm", "addmv")
def _addmm(
    self: jax.Array, mat1: Any = None, mat2: Any = None, beta: float = 1, alpha: float = 1,
    mat: Any = None, vec: Any = None,
) -> jax.Array:  # fmt: skip
    first, second = (mat1, mat2) if mat is None else (mat, vec)
    return _plus(self, jnp.matmul(first, second), beta, alpha)


@operator("baddbmm")
def _baddbmm(
    self: jax.Array, batch1: jax.Array, batch2: jax.Array, beta: float = 1, alpha: float = 1
) -> jax.Array:
    return _plus(self, jnp.matmul(batch1, batch2), beta, alpha)


@operator("addbmm")
def _addbmm(
    self: jax.Array, batch1: jax.Array, batch2: jax.Array, beta: float = 1, alpha: float = 1
) -> jax.Array:
    return _plus(self, jnp.matmul(batch1, batch2).sum(0), beta, alpha)


@operator("addr")
def _addr(
    self: jax.Array, vec1: jax.Array, vec2: jax.Array, beta: float = 1, alpha: float = 1
) -> jax.Array:
    return _plus(self, jnp.outer(vec1, vec2), beta, alpha)


@operator("outer", "ger")
def _outer(self: jax.Array, vec2: jax.Array) -> jax.Array:
    return jnp.outer(self, vec2)


@operator("kron")
def _kron(self: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.kron(self, other)


@operator("einsum")
def _einsum(equation: str, tensors: Sequence[jax.Array], path: Any = None) -> jax.Array:
    return jnp.einsum(equation.replace(" ", ""), *tensors)


@operator("tensordot")
def _tensordot(
    self: jax.Array, other: jax.Array, dims_self: Sequence[int], dims_other: Sequence[int]
) -> jax.Array:
    return jnp.tensordot(self, other, (tuple(dims_self), tuple(dims_other)))


@operator("bilinear")
def _bilinear(
    input1: jax.Array, input2: jax.Array, weight: jax.Array, bias: jax.Array | None = None
) -> jax.Array:
    return F.bilinear(input1, input2, weight, bias)


@operator("linalg_cross")
def _cross(self: jax.Array, other: jax.Array, dim: int = -1) -> jax.Array:
    x, y = jnp.broadcast_arrays(self, other)
    return jnp.cross(x, y, axis=dim)


@operator("trace")
def _trace(self: jax.Array) -> jax.Array:
    return jnp.trace(self)


@operator("linalg_inv", "inverse")
def _inverse(self: jax.Array | None = None, A: jax.Array | None = None) -> jax.Array:
    return jnp.linalg.inv(self if A is None else A)


@operator("linalg_det", "det")
def _determinant(self: jax.Array | None = None, A: jax.Array | None = None) -> jax.Array:
    return jnp.linalg.det(self if A is None else A)


@operator("linalg_solve")
def _solve(A: jax.Array, B: jax.Array, left: bool = True) -> jax.Array:
    return jnp.linalg.solve(A, B)


@operator("linalg_cholesky", "cholesky")
def _cholesky(self: jax.Array, upper: bool = False) -> jax.Array:
    factor = jnp.linalg.cholesky(self)
    return factor.swapaxes(-1, -2) if upper else factor


@operator("linalg_matrix_exp", "matrix_exp")
def _matrix_exp(self: jax.Array) -> jax.Array:
    return jax.scipy.linalg.expm(self)


@operator("cdist", "_cdist_forward")
def _cdist(x1: jax.Array, x2: jax.Array, p: float = 2, compute_mode: Any = None) -> jax.Array:
    difference = x1[..., :, None, :] - x2[..., None, :, :]
    return vector_norm(difference, float(p), (difference.ndim - 1,))[..., 0]


# --- transforms ---------------------------------------------------------------------------------

_NORMS = {0: "backward", 1: "ortho", 2: "forward"}
_INVERSE_NORMS = {2: "backward", 1: "ortho", 0: "forward"}


@operator("_fft_r2c")
def _fft_r2c(self: jax.Array, dim: Sequence[int], normalization: int, onesided: bool) -> jax.Array:
    function = jnp.fft.rfftn if onesided else jnp.fft.fftn
    return function(self, axes=tuple(dim), norm=_NORMS[normalization])


@operator("_fft_c2r")
def _fft_c2r(
    self: jax.Array, dim: Sequence[int], normalization: int, last_dim_size: int
) -> jax.Array:
    sizes = [self.shape[d] for d in dim[:-1]] + [last_dim_size]
    return jnp.fft.irfftn(self, sizes, tuple(dim), norm=_INVERSE_NORMS[normalization])


@operator("_fft_c2c")
def _fft_c2c(self: jax.Array, dim: Sequence[int], normalization: int, forward: bool) -> jax.Array:
    if forward:
        return jnp.fft.fftn(self, axes=tuple(dim), norm=_NORMS[normalization])
    return jnp.fft.ifftn(self, axes=tuple(dim), norm=_INVERSE_NORMS[normalization])


def _transform(name: str) -> Callable[..., jax.Array]:
    """The transform over one dimension, two, or those that are given."""
    function: Callable[..., jax.Array] = getattr(jnp.fft, name)
    default = {"2": (-2, -1), "n": None}.get(name[-1], -1)

    def transform(
        self: jax.Array, n: Any = None, s: Any = None, dim: Any = default, norm: str | None = None
    ) -> jax.Array:
        axes = tuple(dim) if isinstance(dim, (list, tuple)) else dim
        return function(self, n if s is None else s, axes, norm or "backward")

    return transform


for _one in ("fft", "ifft", "rfft", "irfft"):
    for _dims in ("", "2", "n"):
        operator(f"fft_{_one}{_dims}")(_transform(f"{_one}{_dims}"))
operator("fft_hfft")(_transform("hfft"))
operator("fft_ihfft")(_transform("ihfft"))


@operator("fft_fftshift")
def _fftshift(self: jax.Array, dim: Any = None) -> jax.Array:
    return jnp.fft.fftshift(self, dim)


@operator("fft_ifftshift")
def _ifftshift(self: jax.Array, dim: Any = None) -> jax.Array:
    return jnp.fft.ifftshift(self, dim)
