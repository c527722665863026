"""What the loss layers share: how they are reduced, and the weights that they hold."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
from flax import nnx

from ..._checks import check_array
from ...functional.loss._reduction import check_reduction
from .._module import Module


class Loss(Module):
    """Base class of the losses.

    Attributes:
        reduction: "none", "mean" or "sum".
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
        check_reduction(reduction, f"jaxnn.{type(self).__name__}", size_average, reduce, also=also)
        self.reduction = reduction

    def _buffer(self, value: Any, name: str) -> nnx.BatchStat[jax.Array] | None:
        """Return the array as a buffer, which is part of the state dict, or None."""
        if value is None:
            return nnx.data(None)
        return nnx.BatchStat(check_array(value, name, f"jaxnn.{type(self).__name__}"))
