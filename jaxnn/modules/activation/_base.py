"""What the activations share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Num

from .._module import Module


class Plain(Module):
    """An activation without options: its function of the input."""

    _function: ClassVar[Callable[..., Any]]

    def __init__(self, *, rngs: nnx.Rngs | None = None) -> None:
        pass

    def __call__(self, input: Num[Array, "..."]) -> Num[Array, "..."]:
        return type(self)._function(input)


class Inplace(Plain):
    """An activation that takes `inplace`, which has no effect and is shown where it is set."""

    def __init__(self, inplace: bool = False, *, rngs: nnx.Rngs | None = None) -> None:
        self.inplace = inplace

    def extra_repr(self) -> str:
        inplace = "inplace=True" if self.inplace else ""
        return ", ".join(filter(None, [super().extra_repr(), inplace]))
