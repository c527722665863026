"""Linear and bilinear layers, and the layer that does nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

from .. import functional as F
from .. import init
from .._checks import check_int
from ._lazy import LazyModule
from ._module import Module, parameter_dtype, parameter_key
from ._state import value_of


class Identity(Module):
    """Return the input; any arguments are accepted and have no effect.

    Example:
        >>> import jaxnn
        >>> jaxnn.Identity(54, unused=True)(1.0)
        1.0
    """

    def __init__(self, *args: Any, rngs: nnx.Rngs | None = None, **kwargs: Any) -> None:
        pass

    def __call__(self, input: Any) -> Any:
        return input


class Linear(Module):
    """Apply a linear map to the last dimension: see `jaxnn.functional.linear`.

    Shapes: (*batch, in_features) -> (*batch, out_features).

    Args:
        in_features: size of the input's last dimension.
        out_features: size of the output's last dimension.
        bias: whether there is a bias.
        dtype: the parameters' dtype, real or complex, which the input must have too.
        rngs: where the parameters are drawn from.

    Attributes:
        weight: of shape (out_features, in_features), drawn from U(-k, k) with
            k = 1 / sqrt(in_features).
        bias: of shape (out_features), drawn likewise; or None.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Linear(20, 30, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((128, 20))).shape
        (128, 30)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.in_features = check_int(in_features, "in_features", "jaxnn.Linear", minimum=0)
        self.out_features = check_int(out_features, "out_features", "jaxnn.Linear", minimum=0)
        self.weight, self.bias = draw_weight_and_bias(
            self, (self.out_features, self.in_features), bool(bias), dtype, rngs
        )

    def __call__(self, input: Num[Array, "*batch in_features"]) -> Num[Array, "*batch out"]:
        return F.linear(input, self.weight[...], value_of(self.bias))

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Bilinear(Module):
    """Apply a bilinear form to the last dimensions of two inputs: see `jaxnn.functional.bilinear`.

    Shapes: (*batch, in1_features), (*batch, in2_features) -> (*batch, out_features).

    Args:
        in1_features: size of the first input's last dimension.
        in2_features: size of the second input's last dimension.
        out_features: size of the output's last dimension.
        bias: whether there is a bias.
        dtype: the parameters' dtype, real or complex, which the inputs must have too.
        rngs: where the parameters are drawn from.

    Attributes:
        weight: of shape (out_features, in1_features, in2_features), drawn from U(-k, k) with
            k = 1 / sqrt(in1_features).
        bias: of shape (out_features), drawn likewise; or None.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Bilinear(20, 30, 40, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((128, 20)), jnp.ones((128, 30))).shape
        (128, 40)
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.in1_features = check_int(in1_features, "in1_features", "jaxnn.Bilinear", minimum=1)
        self.in2_features = check_int(in2_features, "in2_features", "jaxnn.Bilinear", minimum=1)
        self.out_features = check_int(out_features, "out_features", "jaxnn.Bilinear", minimum=0)
        resolved = parameter_dtype(self, dtype, complex_too=True)
        weight_key, bias_key = jax.random.split(parameter_key(self, rngs))
        k = 1 / math.sqrt(self.in1_features)
        shape = (self.out_features, self.in1_features, self.in2_features)
        self.weight = nnx.Param(init.uniform(weight_key, shape, resolved, a=-k, b=k))
        self.bias = (
            nnx.Param(init.uniform(bias_key, shape[:1], resolved, a=-k, b=k))
            if bias
            else nnx.data(None)
        )

    def __call__(
        self,
        input1: Float[Array, "*batch in1_features"],
        input2: Float[Array, "*batch in2_features"],
    ) -> Float[Array, "*batch out_features"]:
        return F.bilinear(input1, input2, self.weight[...], value_of(self.bias))

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )


class LazyLinear(LazyModule, Linear):
    """`Linear`, whose `in_features` is the size of the last dimension of its first input.

    It becomes one at its first call, which must be eager, or when a state dict is loaded.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.LazyLinear(3, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 5))).shape
        (2, 3)
        >>> layer
        Linear(in_features=5, out_features=3, bias=True)
    """

    cls_to_become = Linear
    channels_argument = "in_features"

    def __init__(
        self,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_lazy(rngs, out_features=out_features, bias=bias, dtype=dtype)

    def channels_of_input(self, input: jax.Array) -> int:
        """Return the size of the last dimension."""
        if input.ndim == 0:
            raise ValueError("jaxnn.LazyLinear: `input` must have a last dimension, got a scalar")
        return input.shape[-1]

    def channels_of_state(self, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
        """Return the weight's second dimension."""
        weight = shapes.get("weight", ())
        return weight[1] if len(weight) == 2 else None


def draw_weight_and_bias(
    module: Module,
    weight_shape: tuple[int, ...],
    has_bias: bool,
    dtype: DTypeLike,
    rngs: nnx.Rngs | None,
    bias_size: int | None = None,
) -> tuple[nnx.Param[Array], Any]:
    """Draw the parameters of a linear map or a convolution, from U(-k, k), k = 1 / sqrt(fan_in).

    Returns the weight and the bias (of the weight's first size, unless `bias_size` is given), the
    latter as nnx.data(None) where there is none, to be assigned as they are.
    """
    resolved = parameter_dtype(module, dtype, complex_too=True)
    weight_key, bias_key = jax.random.split(parameter_key(module, rngs))
    weight = nnx.Param(init.kaiming_uniform(weight_key, weight_shape, resolved, a=math.sqrt(5)))
    if not has_bias:
        return weight, nnx.data(None)
    fan_in, _ = init.calculate_fan_in_and_fan_out(weight_shape)
    bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0.0
    shape = (weight_shape[0] if bias_size is None else bias_size,)
    return weight, nnx.Param(init.uniform(bias_key, shape, resolved, a=-bound, b=bound))
