"""Local response normalisation."""

from __future__ import annotations

from flax import nnx
from jaxtyping import Array, Float

from ... import functional as F
from ..._checks import check_int
from ...functional.normalization import cross_map_lrn2d
from .._module import Module, name_of
from ._statistics import check_number


class _ResponseNorm(Module):
    def _init_options(self, size: int, alpha: float, beta: float, k: float) -> None:
        name = name_of(self)
        self.size = check_int(size, "size", name, minimum=1)
        self.alpha = check_number(alpha, "alpha", name)
        self.beta = check_number(beta, "beta", name)
        self.k = check_number(k, "k", name)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class LocalResponseNorm(_ResponseNorm):
    """Divide by a power of the mean square over neighbouring channels.

    See `jaxnn.functional.local_response_norm`.

    Shapes: (N, C, *spatial), with one spatial dimension at least; kept.

    Args:
        size: the number of channels in the mean.
        alpha: the factor of the mean.
        beta: the exponent.
        k: what is added.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.LocalResponseNorm(2, alpha=2.0, beta=1.0)(jnp.ones((1, 3, 1))).ravel()
        Array([0.5       , 0.33333334, 0.33333334], dtype=float32)
    """

    def __init__(
        self,
        size: int,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_options(size, alpha, beta, k)

    def __call__(self, input: Float[Array, "N C *spatial"]) -> Float[Array, "N C *spatial"]:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)


class CrossMapLRN2d(_ResponseNorm):
    """Local response normalisation over a window of its own, which torch keeps for old models.

    y_c = x_c * (k + alpha / size * sum_j x_j^2)^-beta,
    j from c - h to c + h with h = (size - 1) // 2, and j = 0 always. The derivative is torch's too,
    which is not quite that of the formula. New models should use `LocalResponseNorm`.

    Shapes: (N, C, H, W), kept; there must be a channel.

    Args:
        size: the number of channels that the sum is divided by.
        alpha: the factor of the sum.
        beta: the exponent.
        k: what is added.

    Raises:
        ValueError: where it is differentiated, if `size` is 1.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.CrossMapLRN2d(3, alpha=3.0, beta=1.0)(jnp.ones((1, 3, 1, 1))).ravel()
        Array([0.33333334, 0.25      , 0.25      ], dtype=float32)
    """

    def __init__(
        self,
        size: int,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_options(size, alpha, beta, k)

    def __call__(self, input: Float[Array, "N C H W"]) -> Float[Array, "N C H W"]:
        return cross_map_lrn2d(input, self.size, self.alpha, self.beta, self.k)
