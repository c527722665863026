"""What the loss layers share: how they are reduced, and the weights that they hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
from flax import nnx
from jaxtyping import Array, Float, Num

from ..._checks import check_array
from ...functional.loss._reduction import check_reduction
from .._module import Module, name_of
from .._state import value_of


class Loss(Module):
    """Base class of the losses.

    Args:
        reduction: "none" for one loss an element or sample, "mean" or "sum" for a single number.
        size_average: refused: torch has replaced it by `reduction`.
        reduce: refused, likewise.

    Attributes:
        reduction: the same.
        checks_values: whether a call reads floats that are concrete, to refuse bad ones.
    """

    reduction: str
    checks_values: ClassVar[bool] = False

    def _init_reduction(
        self,
        reduction: Any,
        size_average: Any = None,
        reduce: Any = None,
        also: tuple[str, ...] = (),
    ) -> None:
        check_reduction(reduction, name_of(self), size_average, reduce, also=also)
        self.reduction = reduction

    def _buffer(self, value: Any, name: str) -> nnx.BatchStat[jax.Array] | None:
        """Return the array as a buffer, which is part of the state dict, or None."""
        if value is None:
            return nnx.data(None)
        return nnx.BatchStat(check_array(value, name, name_of(self)))


class PlainLoss(Loss):
    """A loss of two arrays whose only option is the reduction."""

    _function: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        size_average: None = None,
        reduce: None = None,
        reduction: str = "mean",
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_reduction(reduction, size_average, reduce)

    def __call__(self, input: Num[Array, "..."], target: Num[Array, "..."]) -> Float[Array, "..."]:
        return type(self)._function(input, target, reduction=self.reduction)


class WeightedLoss(Loss):
    """A loss of two arrays with a weight, held as a buffer, and the reduction."""

    _function: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        weight: Num[Array, "..."] | None = None,
        size_average: None = None,
        reduce: None = None,
        reduction: str = "mean",
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self._init_reduction(reduction, size_average, reduce)
        self.weight = self._buffer(weight, "weight")

    def __call__(self, input: Num[Array, "..."], target: Num[Array, "..."]) -> Float[Array, "..."]:
        weight = value_of(self.weight)
        return type(self)._function(input, target, weight=weight, reduction=self.reduction)
