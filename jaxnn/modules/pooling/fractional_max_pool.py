"""Maximum pooling whose windows stand at random steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Float

from ... import functional as F
from ..._checks import check_array
from ..._types import FloatOrFloats, IntOrInts
from ...functional.pooling import fractional_options
from .._module import RandomModule, RandomSource, name_of
from .._options import check_return_indices


class _FractionalMaxPool(RandomModule):
    _n: ClassVar[int]
    _function: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: IntOrInts,
        output_size: IntOrInts | None = None,
        output_ratio: FloatOrFloats | None = None,
        return_indices: bool = False,
        _random_samples: Float[Array, "N C n"] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        layer = name_of(self)
        if output_size is not None and output_ratio is not None:
            raise ValueError(f"{layer}: `output_size` and `output_ratio` exclude each other")
        options = fractional_options(self._n, layer, kernel_size, output_size, output_ratio)
        self.kernel_size, self.output_size, self.output_ratio = options
        if self.output_ratio is not None and not all(0 < r < 1 for r in self.output_ratio):
            raise ValueError(
                f"{layer}: `output_ratio` must lie between 0 and 1, both excluded, got "
                f"{output_ratio!r}"
            )
        self.return_indices = check_return_indices(return_indices, layer)
        self._init_random(rngs)
        given = None
        if _random_samples is not None:
            given = nnx.BatchStat(check_array(_random_samples, "_random_samples", layer))
        self._random_samples = nnx.data(given)

    def __call__(
        self, input: Float[Array, "*N C *spatial"], *, rngs: RandomSource | None = None
    ) -> Any:
        samples, key = None, None
        if self._random_samples is not None:
            samples = self._random_samples[...].astype(input.dtype)
        else:
            key = self._draw_key(rngs)
        sizes = self.kernel_size, self.output_size, self.output_ratio
        return type(self)._function(input, *sizes, self.return_indices, samples, rng=key)


class FractionalMaxPool2d(_FractionalMaxPool):
    """Maximum of each window over the last two axes, the windows at pseudo-random steps.

    See `jaxnn.functional.fractional_max_pool2d`. Each sample and channel has random numbers of its
    own, drawn at every call, in evaluation mode too, as in torch.

    Shapes: (N, C, H, W) -> (N, C, H_out, W_out), or the same without N.

    Args:
        kernel_size: positions in a window; one number or one an axis.
        output_size: the sizes of the output, or one number for all.
        output_ratio: in place of `output_size`, its ratio to the input's size, between 0 and 1; the
            product is rounded down.
        return_indices: whether the call returns the maxima's positions too, as the function does.
        _random_samples: the random numbers, one an axis for each sample and channel, from 0 up to
            but without 1; a buffer of shape (N, C, 2). None to draw them.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.FractionalMaxPool2d(2, output_ratio=0.5, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((1, 3, 9, 7))).shape
        (1, 3, 4, 3)
    """

    _n = 2
    _function = staticmethod(F.fractional_max_pool2d)


class FractionalMaxPool3d(_FractionalMaxPool):
    """Maximum of each window over the last three axes, the windows at pseudo-random steps.

    See `FractionalMaxPool2d` and `jaxnn.functional.fractional_max_pool3d`.

    Shapes: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out), or the same without N;
    `_random_samples` (N, C, 3).

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.FractionalMaxPool3d(2, output_ratio=0.5, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((1, 3, 9, 7, 8))).shape
        (1, 3, 4, 3, 4)
    """

    _n = 3
    _function = staticmethod(F.fractional_max_pool3d)
