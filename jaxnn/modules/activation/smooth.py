"""Smooth activations. All but `GLU` take arrays of any shape, which they keep."""

from __future__ import annotations

from flax import nnx
from jaxtyping import Array, Float

from ... import functional as F
from ..._checks import check_int
from ...functional.activation._elementwise import check_number
from ...functional.activation.smooth import check_approximation
from .._module import Module
from ._base import Inplace, Plain


class ELU(Inplace):
    """Replace negative values by an exponential that tends to -alpha.

    See `jaxnn.functional.elu`.

    Args:
        alpha: the scale of the exponential.
        inplace: accepted, without effect.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ELU(0.5)(jnp.array([-100.0, 0.0, 2.0]))
        Array([-0.5,  0. ,  2. ], dtype=float32)
    """

    _shown = ("alpha",)

    def __init__(
        self, alpha: float = 1.0, inplace: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> None:
        self.alpha = check_number(alpha, "alpha", "jaxnn.ELU")
        self.inplace = inplace

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        return F.elu(input, self.alpha)


class CELU(Inplace):
    """Replace negative values by an exponential, with a continuous derivative.

    See `jaxnn.functional.celu`.

    Args:
        alpha: what the exponential tends to, negated; not 0.
        inplace: accepted, without effect.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.CELU(0.5)(jnp.array([-100.0, 0.0, 2.0]))
        Array([-0.5,  0. ,  2. ], dtype=float32)
    """

    _shown = ("alpha",)

    def __init__(
        self, alpha: float = 1.0, inplace: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> None:
        self.alpha = check_number(alpha, "alpha", "jaxnn.CELU")
        if self.alpha == 0:
            raise ValueError("jaxnn.CELU: `alpha` must not be 0, by which the input is divided")
        self.inplace = inplace

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        return F.celu(input, self.alpha)


class SELU(Inplace):
    """The scaled `ELU` with which activations keep zero mean and unit variance.

    See `jaxnn.functional.selu`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.SELU()(jnp.array([-100.0, 0.0, 1.0]))
        Array([-1.7580993,  0.       ,  1.050701 ], dtype=float32)
    """

    _function = staticmethod(F.selu)


class GELU(Module):
    """Scale each value by the standard normal distribution function at it.

    See `jaxnn.functional.gelu`.

    Args:
        approximate: "none", or "tanh" for the approximation.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.GELU()(jnp.array([-20.0, 0.0, 20.0]))
        Array([-0.,  0., 20.], dtype=float32)
    """

    _shown = ("approximate",)

    def __init__(self, approximate: str = "none", *, rngs: nnx.Rngs | None = None) -> None:
        check_approximation(approximate, "jaxnn.GELU")
        self.approximate = approximate

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        return F.gelu(input, self.approximate)


class Sigmoid(Plain):
    """Map to the range from 0 to 1 by the logistic function: see `jaxnn.functional.sigmoid`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Sigmoid()(jnp.array([-200.0, 0.0, 200.0]))
        Array([0. , 0.5, 1. ], dtype=float32)
    """

    _function = staticmethod(F.sigmoid)


class LogSigmoid(Plain):
    """Take the logarithm of the sigmoid, without overflow: see `jaxnn.functional.logsigmoid`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.LogSigmoid()(jnp.array([-200.0, 200.0]))
        Array([-200.,    0.], dtype=float32)
    """

    _function = staticmethod(F.logsigmoid)


class Softplus(Module):
    """Smooth the positive part: see `jaxnn.functional.softplus`.

    Args:
        beta: how sharp the bend is.
        threshold: the value of beta * x above which x is returned as it is.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Softplus()(jnp.array([-200.0, 200.0]))
        Array([  0., 200.], dtype=float32)
    """

    _shown = ("beta", "threshold")

    def __init__(
        self, beta: float = 1.0, threshold: float = 20.0, *, rngs: nnx.Rngs | None = None
    ) -> None:
        self.beta = check_number(beta, "beta", "jaxnn.Softplus")
        self.threshold = check_number(threshold, "threshold", "jaxnn.Softplus")

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        return F.softplus(input, self.beta, self.threshold)


class Mish(Inplace):
    """Scale each value by the tanh of its softplus: see `jaxnn.functional.mish`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Mish()(jnp.array([-200.0, 0.0, 200.0]))
        Array([ -0.,   0., 200.], dtype=float32)
    """

    _function = staticmethod(F.mish)


class SiLU(Inplace):
    """Scale each value by its sigmoid: see `jaxnn.functional.silu`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.SiLU()(jnp.array([-200.0, 0.0, 200.0]))
        Array([ -0.,   0., 200.], dtype=float32)
    """

    _function = staticmethod(F.silu)


class Softsign(Plain):
    """Divide by one more than the absolute value: see `jaxnn.functional.softsign`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Softsign()(jnp.array([-1.0, 0.0, 3.0]))
        Array([-0.5 ,  0.  ,  0.75], dtype=float32)
    """

    _function = staticmethod(F.softsign)


class Tanh(Plain):
    """Take the hyperbolic tangent: see `jaxnn.functional.tanh`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Tanh()(jnp.array([-200.0, 0.0, 200.0]))
        Array([-1.,  0.,  1.], dtype=float32)
    """

    _function = staticmethod(F.tanh)


class Tanhshrink(Plain):
    """Subtract the hyperbolic tangent: see `jaxnn.functional.tanhshrink`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Tanhshrink()(jnp.array([-100.0, 0.0, 100.0]))
        Array([-99.,   0.,  99.], dtype=float32)
    """

    _function = staticmethod(F.tanhshrink)


class GLU(Module):
    """Scale the first half of a dimension by the sigmoid of its second half.

    See `jaxnn.functional.glu`.

    Shapes: (..., 2 * N, ...) -> (..., N, ...).

    Args:
        dim: the dimension that is halved.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.GLU()(jnp.array([4.0, 2.0, 0.0, 100.0]))
        Array([2., 2.], dtype=float32)
    """

    _shown = ("dim",)

    def __init__(self, dim: int = -1, *, rngs: nnx.Rngs | None = None) -> None:
        self.dim = check_int(dim, "dim", "jaxnn.GLU")

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        return F.glu(input, self.dim)
