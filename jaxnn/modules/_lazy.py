"""Layers that learn the number of their input's channels from their first call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
from flax import nnx
from flax.nnx import tracers

from .._checks import check_array
from ._module import Module, RandomSource, fork_stream

_OUTSIDE = tracers.current_jax_trace()
"""What Flax calls the trace where no transformation is under way, as when this is imported."""


class LazyModule(Module):
    """A layer without parameters yet, which becomes another class when it gets them.

    They appear at the first call, which must be eager, or when a state dict is loaded; from then
    on this is an instance of `cls_to_become`. A subclass is also one of `cls_to_become`, whose
    constructor it calls, and so has its options; only the number of channels is still to come.

    Attributes:
        cls_to_become: what this is once its parameters are there.
        rngs: the stream that the parameters will be drawn from; or None.
    """

    cls_to_become: ClassVar[type[Module]]
    channels_argument: ClassVar[str]
    """The argument of `cls_to_become` that is not known yet, which is an attribute, too."""

    rngs: nnx.RngStream | None

    def _init_lazy(self, rngs: RandomSource | None, channels: int = 1, **options: Any) -> None:
        """Take the attributes of a `cls_to_become` of some number of channels, but its arrays."""
        stream = fork_stream(type(self).__name__, rngs, "params")
        drawn = {} if stream is None else {"rngs": stream.fork()}
        vars(self).update(vars(self.cls_to_become(channels, **options, **drawn)))
        self.rngs = nnx.data(stream)
        frozen = {n: tuple(v) if isinstance(v, list) else v for n, v in options.items()}
        self._options = tuple(frozen.items())
        for name in self._lazy_names():
            setattr(self, name, nnx.data(None))
        setattr(self, self.channels_argument, 0)

    def _lazy_names(self) -> list[str]:
        """Return the names of the arrays whose shapes are not known yet."""
        return [
            name
            for name, value in vars(self).items()
            if isinstance(value, (nnx.Param, nnx.BatchStat)) and value.ndim > 0
        ]

    def __call__(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """Take the number of channels from the input, and call the layer that this becomes."""
        self.initialize_parameters(input)
        return self(input, *args, **kwargs)

    def initialize_parameters(self, input: Any) -> None:
        """Draw the parameters for an input of this shape, without a call.

        Raises:
            ValueError: under a transformation such as jax.jit, where they would be lost; or if the
                input has no such dimension.
        """
        name = type(self).__name__
        if tracers.current_jax_trace() != _OUTSIDE:
            raise ValueError(
                f"jaxnn.{name} has no parameters yet, and those that it drew inside a "
                "transformation (jit, grad, vmap ...) would be lost: call it once outside, or "
                "load a state dict"
            )
        self.become(self.build(self.channels_of_input(check_array(input, "input", name))))

    def build(self, channels: int) -> Module:
        """Return a `cls_to_become` of this many channels, with this module's options and mode."""
        drawn = {} if self.rngs is None else {"rngs": self.rngs.fork()}
        built = self.cls_to_become(channels, **dict(self._options), **drawn)
        modes = {"use_running_average": getattr(self, "use_running_average", False)}
        built.set_attributes(**modes, raise_if_not_found=False)
        return built

    def become(self, built: Module) -> None:
        """Become what `build` returned, in its class and in every attribute."""
        self.__class__ = self.cls_to_become  # type: ignore[assignment]
        vars(self).clear()
        vars(self).update(vars(built))

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self._options if name != "dtype")

    def channels_of_input(self, input: jax.Array) -> int:
        """Return the number of channels of an input."""
        raise NotImplementedError

    def channels_of_state(self, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
        """Return the number of channels of a state dict's arrays, or None if they do not tell."""
        raise NotImplementedError
