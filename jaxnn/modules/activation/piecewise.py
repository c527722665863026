"""Activations that are made of straight pieces. All but `PReLU` take arrays of any shape."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Real

from ... import functional as F
from ..._checks import check_int
from ...functional.activation._elementwise import check_number
from ...functional.activation.piecewise import check_slopes
from .._module import Module, RandomModule, RandomSource, parameter_dtype
from ._base import Inplace


class ReLU(Inplace):
    """Replace negative values by zero: see `jaxnn.functional.relu`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ReLU()(jnp.array([-1.0, 2.0]))
        Array([0., 2.], dtype=float32)
    """

    _function = staticmethod(F.relu)


class ReLU6(Inplace):
    """Clip to the range from 0 to 6: see `jaxnn.functional.relu6`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ReLU6()(jnp.array([-1.0, 2.0, 8.0]))
        Array([0., 2., 6.], dtype=float32)
    """

    _function = staticmethod(F.relu6)


class Hardtanh(Inplace):
    """Clip to a range: see `jaxnn.functional.hardtanh`.

    Args:
        min_val: the lower end.
        max_val: the upper end, which must exceed it.
        inplace: accepted, without effect.
        min_value: the deprecated name of `min_val`.
        max_value: the deprecated name of `max_val`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Hardtanh(-2.0, 2.0)(jnp.array([-3.0, 0.5, 2.0]))
        Array([-2. ,  0.5,  2. ], dtype=float32)
    """

    _shown = ("min_val", "max_val")

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        for name, value in {"min_val": min_value, "max_val": max_value}.items():
            if value is not None:
                warnings.warn(
                    f"jaxnn.Hardtanh: `{name}ue` is deprecated: pass {name}={value}",
                    FutureWarning,
                    stacklevel=2,
                )
        min_val = min_val if min_value is None else min_value
        max_val = max_val if max_value is None else max_value
        self.min_val = check_number(min_val, "min_val", "jaxnn.Hardtanh")
        self.max_val = check_number(max_val, "max_val", "jaxnn.Hardtanh")
        if not self.max_val > self.min_val:
            raise ValueError(
                f"jaxnn.Hardtanh: `max_val` must exceed `min_val`, got {max_val} and {min_val}"
            )
        self.inplace = inplace

    def __call__(self, input: Real[Array, "..."]) -> Real[Array, "..."]:
        return F.hardtanh(input, self.min_val, self.max_val)


class Threshold(Inplace):
    """Replace the values that do not exceed a threshold: see `jaxnn.functional.threshold`.

    Args:
        threshold: the threshold.
        value: what takes the place.
        inplace: accepted, without effect.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Threshold(1.0, -9.0)(jnp.array([0.5, 1.0, 2.0]))
        Array([-9., -9.,  2.], dtype=float32)
    """

    _shown = ("threshold", "value")

    def __init__(
        self, threshold: float, value: float, inplace: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> None:
        self.threshold = check_number(threshold, "threshold", "jaxnn.Threshold")
        self.value = check_number(value, "value", "jaxnn.Threshold")
        self.inplace = inplace

    def __call__(self, input: Real[Array, "..."]) -> Real[Array, "..."]:
        return F.threshold(input, self.threshold, self.value)


class Hardsigmoid(Inplace):
    """Approximate the sigmoid by three straight lines: see `jaxnn.functional.hardsigmoid`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Hardsigmoid()(jnp.array([-4.0, 0.0, 1.5]))
        Array([0.  , 0.5 , 0.75], dtype=float32)
    """

    _function = staticmethod(F.hardsigmoid)


class Hardswish(Inplace):
    """Scale each value by its hard sigmoid: see `jaxnn.functional.hardswish`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Hardswish()(jnp.array([-4.0, 1.5, 3.0]))
        Array([-0.   ,  1.125,  3.   ], dtype=float32)
    """

    _function = staticmethod(F.hardswish)


class LeakyReLU(Inplace):
    """Scale the values that are not positive by a small slope.

    See `jaxnn.functional.leaky_relu`.

    Args:
        negative_slope: the slope.
        inplace: accepted, without effect.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.LeakyReLU(0.25)(jnp.array([-2.0, 2.0]))
        Array([-0.5,  2. ], dtype=float32)
    """

    _shown = ("negative_slope",)

    def __init__(
        self, negative_slope: float = 0.01, inplace: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> None:
        self.negative_slope = check_number(negative_slope, "negative_slope", "jaxnn.LeakyReLU")
        self.inplace = inplace

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        return F.leaky_relu(input, self.negative_slope)


class PReLU(Module):
    """Scale negative values by a learnt slope, one for all channels or one for each.

    See `jaxnn.functional.prelu`.

    Shapes: any, kept; the second dimension is that of the channels.

    Args:
        num_parameters: the number of slopes: 1, or the number of channels.
        init: their first value.
        dtype: their dtype, which the input must have too.

    Attributes:
        weight: the slopes, of shape (num_parameters).

    Source: He et al., 2015; torch.nn.PReLU.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.PReLU()(jnp.array([-1.0, 2.0]))
        Array([-0.25,  2.  ], dtype=float32)
    """

    _shown = ("num_parameters",)

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.num_parameters = check_int(num_parameters, "num_parameters", "jaxnn.PReLU", minimum=0)
        self.init = init
        self.weight = nnx.Param(
            jnp.full((self.num_parameters,), init, parameter_dtype(self, dtype))
        )

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        return F.prelu(input, self.weight[...])


class RReLU(Inplace, RandomModule):
    """Scale the values that are not positive by a slope, in training a random one for each.

    See `jaxnn.functional.rrelu`.

    Args:
        lower: the least slope.
        upper: the largest slope.
        inplace: accepted, without effect.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.RReLU(0.25, 0.75).eval()(jnp.array([-2.0, 2.0]))
        Array([-1.,  2.], dtype=float32)
    """

    _shown = ("lower", "upper")

    def __init__(
        self,
        lower: float = 1.0 / 8,
        upper: float = 1.0 / 3,
        inplace: bool = False,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.lower = check_number(lower, "lower", "jaxnn.RReLU")
        self.upper = check_number(upper, "upper", "jaxnn.RReLU")
        check_slopes(self.lower, self.upper, "jaxnn.RReLU")
        self.inplace = inplace
        self._init_random(rngs)

    def __call__(
        self, input: Float[Array, "..."], *, rngs: RandomSource | None = None
    ) -> Float[Array, "..."]:
        training = not self.deterministic
        key = self._draw_key(rngs) if training else None
        return F.rrelu(input, self.lower, self.upper, training, rng=key)


class Hardshrink(Module):
    """Set values near zero to zero: see `jaxnn.functional.hardshrink`.

    Args:
        lambd: how near. A negative one changes nothing.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Hardshrink()(jnp.array([-2.0, 0.5, 1.0]))
        Array([-2.,  0.,  1.], dtype=float32)
    """

    def __init__(self, lambd: float = 0.5, *, rngs: nnx.Rngs | None = None) -> None:
        self.lambd = check_number(lambd, "lambd", "jaxnn.Hardshrink")

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        return F.hardshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Softshrink(Module):
    """Move each value towards zero, and no further: see `jaxnn.functional.softshrink`.

    Args:
        lambd: how far, not negative.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Softshrink()(jnp.array([-2.0, 0.5, 1.0]))
        Array([-1.5,  0. ,  0.5], dtype=float32)
    """

    def __init__(self, lambd: float = 0.5, *, rngs: nnx.Rngs | None = None) -> None:
        self.lambd = check_number(lambd, "lambd", "jaxnn.Softshrink")
        if not self.lambd >= 0:
            raise ValueError(f"jaxnn.Softshrink: `lambd` must not be negative, got {lambd}")

    def __call__(self, input: Float[Array, "..."]) -> Float[Array, "..."]:
        return F.softshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)
