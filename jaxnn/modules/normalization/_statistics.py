"""What normalisation layers with running statistics share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..._checks import check_array, check_int
from .._lazy import LazyModule
from .._module import Module, name_of, parameter_dtype


class NormWithStatistics(Module):
    """Parameters and running statistics of each channel, for inputs of the ranks `_ranks`."""

    _ranks: tuple[int, ...]
    running_mean: Any
    running_var: Any
    num_batches_tracked: Any

    def _init_statistics(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        bias: bool,
        dtype: DTypeLike,
    ) -> None:
        name = name_of(self)
        self.num_features = check_int(num_features, "num_features", name, minimum=0)
        self.eps = check_number(eps, "eps", name)
        self.momentum = None if momentum is None else check_number(momentum, "momentum", name)
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.use_running_average = False
        shape, resolved = (self.num_features,), parameter_dtype(self, dtype)
        self.weight = nnx.Param(jnp.ones(shape, resolved)) if affine else nnx.data(None)
        self.bias = nnx.Param(jnp.zeros(shape, resolved)) if affine and bias else nnx.data(None)
        buffers: dict[str, Any] = {
            "running_mean": jnp.zeros(shape, resolved),
            "running_var": jnp.ones(shape, resolved),
            "num_batches_tracked": jnp.zeros((), int),
        }
        for buffer, value in buffers.items():
            setattr(self, buffer, nnx.BatchStat(value) if track_running_stats else nnx.data(None))

    def _check_rank(self, input: jax.Array, dims: str = "(N, C, ...)") -> jax.Array:
        input = check_array(input, "input", name_of(self))
        if input.ndim not in self._ranks:
            ranks = " or ".join(map(str, self._ranks))
            raise ValueError(
                f"{name_of(self)}: `input` must have {ranks} dimensions {dims}, got "
                f"shape {input.shape}"
            )
        return input

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Set the mode of this layer's view; used by `nnx.view`.

        Args:
          use_running_average: if True, the running statistics are used and not updated, as in
            evaluation mode.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class LazyNorm(LazyModule, NormWithStatistics):
    """A normalisation of as many channels as dimension 1 of the first input has."""

    channels_argument = "num_features"

    def channels_of_input(self, input: jax.Array) -> int:
        """Return the size of dimension 1, also where that is no channel, as torch does."""
        return self._check_rank(input).shape[1]

    def channels_of_state(self, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
        """Return the size of any of the vectors."""
        vectors = (shapes.get(name) for name in ("weight", "bias", "running_mean", "running_var"))
        return next((shape[0] for shape in vectors if shape), None)


def check_number(value: Any, name: str, layer: str) -> Any:
    """Return `value`, refusing what is no number."""
    if not isinstance(value, (int, float)):
        raise TypeError(f"{layer}: `{name}` must be a number, got {value!r}")
    return value
