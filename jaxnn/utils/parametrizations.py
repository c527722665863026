"""Parametrizations: weight normalisation, spectral normalisation, orthogonal matrices."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from .. import functional as F
from ..functional._division import divide
from ..modules import Module
from ..modules._module import RandomSource, fork_stream
from ._norms import (
    as_matrix,
    draw_vectors,
    largest_singular_value,
    norm_except_dim,
    spectral_dim,
    weight_from,
)
from .parametrize import register_parametrization

_MAPS = ("matrix_exp", "cayley", "householder")


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """Compute a parameter from its norm g and its direction v.

    w = g v / |v|, with the norm over all dimensions but `dim`

    Args:
        module: the module; it is changed.
        name: the parameter's name.
        dim: the dimension that has a norm for each index; None for a single norm.

    Returns:
        The module; `parametrizations.weight.original0` is g, `original1` is v.

    Raises:
        ValueError: if there is no such parameter.

    Source: Salimans and Kingma, 2016; torch.nn.utils.parametrizations.weight_norm.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Linear(2, 3, rngs=nnx.Rngs(0))
        >>> list(jaxnn.state_dict(jaxnn.utils.parametrizations.weight_norm(layer)))
        ['bias', 'parametrizations.weight.original0', 'parametrizations.weight.original1']
    """
    return register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


def spectral_norm(
    module: Any,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
    *,
    rngs: RandomSource | None = None,
) -> Any:
    """Divide a parameter by its largest singular value.

    w = original / (u^T original v), where u and v follow the singular vectors by power iteration,
    in training whenever the parameter is read

    A vector is divided by its norm.

    Args:
        module: the module; it is changed.
        name: the parameter's name.
        n_power_iterations: the iterations of a call in training.
        eps: the least norm that a vector is divided by.
        dim: the dimension of the outputs, by default 1 for transposed convolutions, else 0.
        rngs: where u and v are drawn from.

    Returns:
        The module; `parametrizations.weight.0._u` and `._v` are the vectors.

    Raises:
        ValueError: if there is no such parameter or no `rngs`, or an option is not allowed.

    Source: Miyato et al., 2018; torch.nn.utils.parametrizations.spectral_norm.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> rngs = nnx.Rngs(0)
        >>> layer = jaxnn.Linear(4, 3, rngs=rngs)
        >>> layer = jaxnn.utils.parametrizations.spectral_norm(layer, rngs=rngs)
        >>> bool(jnp.abs(jnp.linalg.norm(layer.weight[...], 2) - 1) < 1e-2)
        True
    """
    weight = _tensor(module, name)
    if not isinstance(n_power_iterations, int) or n_power_iterations <= 0:
        raise ValueError(f"`n_power_iterations` must be positive, got {n_power_iterations}")
    axis = spectral_dim(module, dim)
    if not -weight.ndim <= axis < weight.ndim:
        raise ValueError(f"`dim` must lie between {-weight.ndim} and {weight.ndim - 1}, got {axis}")
    parametrization = _SpectralNorm(weight, n_power_iterations, axis % weight.ndim, eps, rngs=rngs)
    return register_parametrization(module, name, parametrization)


def orthogonal(
    module: Any,
    name: str = "weight",
    orthogonal_map: str | None = None,
    *,
    use_trivialization: bool = True,
    rngs: RandomSource | None = None,
) -> Any:
    """Keep a matrix, or a batch of matrices, orthogonal.

    Q^T Q = 1 for a tall matrix, Q Q^T = 1 for a wide one. "matrix_exp" is exp(A), "cayley"
    (1 - A/2)^-1 (1 + A/2), with the skew matrix A of the original's lower triangle; "householder"
    is a product of reflections.

    Args:
        module: the module; it is changed.
        name: the parameter's name.
        orthogonal_map: one of the three; by default "matrix_exp" for square matrices, else
            "householder".
        use_trivialization: whether an orthogonal matrix `base` is stored, which the map's value is
            multiplied by, so that the original starts where the map is the identity.
        rngs: what completes a matrix that is not square to a square `base`.

    Returns:
        The module.

    Raises:
        ValueError: if there is no such parameter, it is no matrix, the map is unknown, or `rngs`
            is needed and absent.

    Source: Lezcano-Casado, 2019; torch.nn.utils.parametrizations.orthogonal.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Linear(3, 3, rngs=nnx.Rngs(0))
        >>> q = jaxnn.utils.parametrizations.orthogonal(layer).weight[...]
        >>> bool(jnp.allclose(q @ q.T, jnp.eye(3), atol=1e-5))
        True
    """
    weight = _tensor(module, name)
    if weight.ndim < 2:
        raise ValueError(f"`{name}` must be a matrix or a batch of matrices, got {weight.shape}")
    if orthogonal_map is None:
        is_square = weight.shape[-1] == weight.shape[-2]
        orthogonal_map = "matrix_exp" if is_square else "householder"
    if orthogonal_map not in _MAPS:
        raise ValueError(f"`orthogonal_map` must be one of {_MAPS}, got {orthogonal_map!r}")
    parametrization = _Orthogonal(orthogonal_map, use_trivialization, rngs=rngs)
    return register_parametrization(module, name, parametrization, unsafe=True)


def _tensor(module: Any, name: str) -> jax.Array:
    variable = getattr(module, name, None)
    if not isinstance(variable, nnx.Variable):
        raise ValueError(f"{type(module).__name__} has no parameter or buffer {name!r}")
    return variable[...]


class _WeightNorm(Module):
    def __init__(self, dim: int | None, *, rngs: nnx.Rngs | None = None) -> None:
        self.dim = -1 if dim is None else dim

    def __call__(self, g: Float[Array, "..."], v: Float[Array, "..."]) -> Float[Array, "..."]:
        return weight_from(g, v, self.dim)

    def right_inverse(
        self, weight: Float[Array, "..."]
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        return norm_except_dim(weight, self.dim), weight


class _SpectralNorm(Module):
    def __init__(
        self,
        weight: jax.Array,
        n_power_iterations: int,
        dim: int,
        eps: float,
        *,
        rngs: RandomSource | None = None,
    ) -> None:
        self.n_power_iterations = n_power_iterations
        self.dim = dim
        self.eps = eps
        self.use_running_average = False
        if weight.ndim > 1:
            u, v = draw_vectors(weight, dim, eps, rngs, "spectral_norm")
            self._u, self._v = nnx.BatchStat(u), nnx.BatchStat(v)
            self._iterate(as_matrix(weight, dim), 15)

    def __call__(self, weight: Float[Array, "..."]) -> Float[Array, "..."]:
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if not self.use_running_average:
            self._iterate(lax.stop_gradient(matrix), self.n_power_iterations)
        return divide(weight, largest_singular_value(matrix, self._u[...], self._v[...]))

    def right_inverse(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        return value

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Set the mode of this parametrization's view; used by `nnx.view`.

        Args:
          use_running_average: if True, the vectors stay as they are, as in evaluation mode.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def _iterate(self, matrix: jax.Array, count: int) -> None:
        u, v = self._u[...], self._v[...]
        for _ in range(count):
            u = F.normalize(matrix @ v, dim=0, eps=self.eps)
            v = F.normalize(matrix.T @ u, dim=0, eps=self.eps)
        self._u[...], self._v[...] = u, v


class _Orthogonal(Module):
    def __init__(
        self,
        orthogonal_map: str,
        use_trivialization: bool,
        *,
        rngs: RandomSource | None = None,
    ) -> None:
        self.orthogonal_map = orthogonal_map
        self.use_trivialization = use_trivialization
        self.rngs = nnx.data(fork_stream("orthogonal", rngs, "params"))
        self.base: Any = nnx.data(None)

    def __call__(self, weight: Float[Array, "*batch m n"]) -> Float[Array, "*batch m n"]:
        is_wide = weight.shape[-2] < weight.shape[-1]
        tall = weight.mT if is_wide else weight
        q = _reflections(tall) if self.orthogonal_map == "householder" else self._of_skew(tall)
        if self.base is not None:
            q = self.base[...] @ q
        return q.mT if is_wide else q

    def _of_skew(self, tall: jax.Array) -> jax.Array:
        n, k = tall.shape[-2:]
        lower = jnp.pad(jnp.tril(tall), [(0, 0)] * (tall.ndim - 1) + [(0, n - k)])
        skew = lower - lower.mT
        if self.orthogonal_map == "matrix_exp":
            return jax.scipy.linalg.expm(skew)[..., :k]
        one = jnp.broadcast_to(jnp.eye(n, dtype=skew.dtype), skew.shape)
        return jnp.linalg.solve(one - 0.5 * skew, one + 0.5 * skew)[..., :k]

    def right_inverse(self, value: Float[Array, "*batch m n"]) -> Float[Array, "*batch m n"]:
        is_wide = value.shape[-2] < value.shape[-1]
        tall = value.mT if is_wide else value
        if self.use_trivialization:
            base = self._base(tall)
            if self.base is None:
                self.base = nnx.BatchStat(base)
            else:
                self.base[...] = base
            eye = jnp.eye(value.shape[-2], value.shape[-1], dtype=value.dtype)
            return jnp.broadcast_to(-eye, value.shape)
        if self.orthogonal_map != "householder":
            raise NotImplementedError(
                f"a value cannot be assigned to the map {self.orthogonal_map!r} without "
                "trivialization: pass use_trivialization=True"
            )
        columns, tau = jnp.linalg.qr(tall, mode="raw")
        reflectors = columns.mT
        signs = jnp.sign(jnp.diagonal(reflectors, axis1=-2, axis2=-1))
        signs = jnp.where(tau == 0, -signs, signs)
        eye = jnp.eye(tall.shape[-2], tall.shape[-1], dtype=bool)
        result = jnp.where(eye, signs[..., None, :], reflectors)
        return result.mT if is_wide else result

    def _base(self, tall: jax.Array) -> jax.Array:
        """Return an orthogonal square matrix that begins with the columns of a tall one."""
        n, k = tall.shape[-2:]
        if n == k:
            gap = tall.mT @ tall - jnp.eye(n, dtype=tall.dtype)
            is_orthogonal = (abs(gap) < 10 * n * jnp.finfo(tall.dtype).eps).all()
            return jnp.where(is_orthogonal, tall, _orthogonalised(tall))
        if self.rngs is None:
            raise ValueError(
                "orthogonal completes a matrix that is not square by random columns: pass "
                "rngs=nnx.Rngs(0)"
            )
        more = jax.random.normal(self.rngs(), (*tall.shape[:-1], n - k), tall.dtype)
        return _orthogonalised(jnp.concatenate([tall, more], -1))


def _orthogonalised(matrix: jax.Array) -> jax.Array:
    """Return Q of the matrix QR, where R has a positive diagonal."""
    q, r = jnp.linalg.qr(matrix)
    return q * jnp.sign(jnp.diagonal(r, axis1=-2, axis2=-1))[..., None, :]


def _reflections(tall: jax.Array) -> jax.Array:
    """Return the product of the Householder reflections that the columns below the diagonal give.

    Its columns have the signs that stand on the diagonal.
    """
    n, k = tall.shape[-2:]
    below = jnp.tril(tall, -1)
    one = jnp.broadcast_to(jnp.eye(n, k, dtype=tall.dtype), tall.shape)
    tau = 2 / (1 + (below * below).sum(-2))

    def reflect(product: jax.Array, reflection: tuple[jax.Array, jax.Array]) -> Any:
        vector, factor = reflection
        projected = (vector[..., :, None] * product).sum(-2, keepdims=True)
        return product - factor[..., None, None] * vector[..., :, None] * projected, None

    vectors = jnp.moveaxis(below + one, -1, 0), jnp.moveaxis(tau, -1, 0)
    product, _ = lax.scan(reflect, one, vectors, reverse=True)
    signs = lax.stop_gradient(jnp.trunc(jnp.diagonal(tall, axis1=-2, axis2=-1)))
    return product * signs[..., None, :]
