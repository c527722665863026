"""What every layer shares: its base class, and how it draws random numbers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from ._state import named_children, refuse_abstract

RandomSource = nnx.Rngs | nnx.RngStream | jax.Array


class Module(nnx.Module):
    """Base class of every layer: an `nnx.Module` that is constructed and printed as in torch.

    A layer holds options and state, and calls a function of the same family in `jaxnn.functional`,
    whose docstring has the formula, the dtypes and the errors. What all layers share is said here:

    Args:
        rngs: an `nnx.Rngs`. A layer whose parameters are drawn needs it; a layer that draws when
            it is called, as dropout does, forks a stream of its own from it, and also takes `rngs`
            (or a key) at the call; all others accept it and draw nothing.
        dtype: the dtype of the parameters, float32 by default.
        inplace: accepted as in torch, without effect.

    Raises:
        TypeError: if an option is not of its type, or if there is a `device`, which JAX chooses
            elsewhere; at the call, if a dtype does not fit.
        ValueError: if an option is out of range, or the parameters are drawn and there is no
            `rngs`; at the call, if a shape does not fit, or the module is abstract.

    Example:
        >>> import jaxnn
        >>> class Scale(jaxnn.Module):
        ...     def __init__(self, factor):
        ...         self.factor = factor
        ...
        ...     def extra_repr(self):
        ...         return f"factor={self.factor}"
        ...
        ...     def __call__(self, input):
        ...         return self.factor * input
        >>> Scale(2.0)
        Scale(factor=2.0)
    """

    __signature__: ClassVar[inspect.Signature]
    _shown: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # NNX constructs through its metaclass, which would show as (*args, **kwargs).
        _, *parameters = inspect.signature(cls.__init__).parameters.values()
        cls.__signature__ = inspect.Signature(parameters)
        if "__call__" in vars(cls):
            setattr(cls, "__call__", _refusing_shapes(vars(cls)["__call__"]))  # noqa: B010 (typed)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if "device" in kwargs and "device" not in inspect.signature(cls.__init__).parameters:
            raise TypeError(
                f"jaxnn.{cls.__name__} takes no `device` (got {kwargs['device']!r}): place the "
                "module's arrays with jax.device_put, or construct it under "
                "jax.default_device(device)"
            )
        return super().__new__(cls)

    def train(self, **attributes: Any) -> Self:
        """Set this module and all modules in it to training mode, and return it."""
        return self._set_mode(evaluation=False, **attributes)

    def eval(self, **attributes: Any) -> Self:
        """Set this module and all modules in it to evaluation mode, and return it."""
        return self._set_mode(evaluation=True, **attributes)

    def _set_mode(self, evaluation: bool, **attributes: Any) -> Self:
        # Called on the class, since a child may be named set_attributes.
        nnx.Module.set_attributes(
            self,
            deterministic=evaluation,
            use_running_average=evaluation,
            raise_if_not_found=False,
            **attributes,
        )
        return self

    def extra_repr(self) -> str:
        """Return what stands between the parentheses when this module is printed.

        By default these are the attributes that the class names in `_shown`.
        """
        values = [(name, getattr(self, name)) for name in self._shown]
        return ", ".join(
            f"{name}={value!r}" if isinstance(value, str) else f"{name}={value}"
            for name, value in values
        )

    def __repr__(self) -> str:
        children = [f"({name}): {child!r}" for name, child in named_children(self)]
        if not children:
            return f"{type(self).__name__}({self.extra_repr()})"
        lines = [*filter(None, [self.extra_repr()]), *children]
        body = "\n".join(lines).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {body}\n)"

    __str__ = __repr__


def _refusing_shapes(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call that says so where it fails for want of values, and costs nothing otherwise."""

    @wraps(call)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return call(self, *args, **kwargs)
        except Exception as error:
            try:
                refuse_abstract(self)
            except ValueError as refusal:
                raise refusal from error
            raise

    return called


# What Flax's views set: whether a layer draws nothing, and which statistics it normalises by.
MODE_FLAGS = ("deterministic", "use_running_average")


class RandomModule(Module):
    """Base class of the layers that draw random numbers when they are called in training mode.

    Each layer forks a stream of its own, so two layers built from one `nnx.Rngs` draw different
    numbers, and a layer draws the same whatever else draws from that `nnx.Rngs` later.

    Attributes:
        deterministic: nothing is drawn where it is True (evaluation mode).
        rngs: the layer's own stream, or None where it was constructed without `rngs`.
    """

    deterministic: bool
    rngs: nnx.RngStream | None

    def _init_random(self, rngs: RandomSource | None) -> None:
        self.deterministic = False
        self.rngs = nnx.data(fork_stream(type(self).__name__, rngs, "dropout"))

    def _draw_key(self, rngs: RandomSource | None) -> jax.Array:
        """Return the key of this call: from `rngs`, or else from the layer's own stream."""
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise ValueError(
                f"{name_of(self)} draws random numbers in training mode: construct it "
                "with rngs=nnx.Rngs(0), pass rngs= (an nnx.Rngs or a key) at the call, or call "
                "eval() on the module"
            )
        return key_from(source, "dropout", type(self).__name__)

    def set_view(self, deterministic: bool | None = None) -> None:
        """Set the mode of this layer's view; used by `nnx.view`.

        Args:
          deterministic: if True, nothing is drawn, as in evaluation mode.
        """
        if deterministic is not None:
            self.deterministic = deterministic


def name_of(module: nnx.Module) -> str:
    """Return the layer's name as messages have it, such as "jaxnn.Linear"."""
    return f"jaxnn.{type(module).__name__}"


def parameter_key(module: nnx.Module, rngs: RandomSource | None) -> jax.Array:
    """Return a fresh key for one drawn parameter of `module`.

    Raises:
        ValueError: if there is no `rngs`.
        TypeError: if `rngs` is neither an nnx.Rngs nor a key.
    """
    layer = type(module).__name__
    if rngs is None:
        raise ValueError(f"jaxnn.{layer} draws its parameters: pass rngs=nnx.Rngs(0)")
    return key_from(rngs, "params", layer)


def key_from(rngs: RandomSource, stream: str, layer: str) -> jax.Array:
    """Return the next key of the named stream of `rngs`, which may be a stream or a key itself."""
    if isinstance(rngs, nnx.Rngs):
        return _stream_of(rngs, stream, layer)()
    if isinstance(rngs, nnx.RngStream):
        return rngs()
    if _is_key(rngs):
        return rngs
    raise TypeError(
        f"jaxnn.{layer}: `rngs` must be an nnx.Rngs or a jax.random.key, got "
        f"{type(rngs).__name__}; pass rngs=nnx.Rngs(0)"
    )


def keys_for_parts(rngs: RandomSource | None) -> RandomSource | None:
    """Return `rngs` so that several parts can draw from it: one key would give all the same."""
    return rngs if rngs is None or isinstance(rngs, nnx.Pytree) else nnx.Rngs(rngs)


def takes_rngs(module: nnx.Module) -> bool:
    """Whether a call of a module takes a key, or streams, from outside."""
    return _takes_rngs(type(module))


@cache
def _takes_rngs(kind: type[nnx.Module]) -> bool:
    return "rngs" in inspect.signature(kind.__call__).parameters  # type: ignore[operator]


def parameter_dtype(
    module: nnx.Module, dtype: DTypeLike | None, *, complex_too: bool = False
) -> np.dtype[Any]:
    """Return `dtype` as a NumPy dtype, float32 for None.

    Raises:
        TypeError: if it is no floating-point dtype, nor a complex one where that is allowed.
        ValueError: if it needs 64 bits and JAX's 64-bit mode is off.
    """
    layer = type(module).__name__
    try:
        resolved = np.dtype(jnp.float32 if dtype is None else dtype)
    except TypeError:
        raise TypeError(
            f"jaxnn.{layer}: `dtype` must be a NumPy or JAX dtype such as jnp.float32, got "
            f"{dtype!r}"
        ) from None
    if not jnp.issubdtype(resolved, jnp.inexact if complex_too else jnp.floating):
        raise TypeError(
            f"jaxnn.{layer}: `dtype` must be a floating-point dtype such as jnp.float32, got "
            f"{resolved}"
        )
    if jax.dtypes.canonicalize_dtype(resolved) != resolved:
        raise ValueError(
            f"jaxnn.{layer}: `dtype` {resolved} needs JAX's 64-bit mode; switch it on with "
            'jax.config.update("jax_enable_x64", True)'
        )
    return resolved


def fork_stream(layer: str, rngs: RandomSource | None, stream: str) -> nnx.RngStream | None:
    """Return a stream of a layer's own, forked from the named one; None where there is none."""
    if rngs is None:
        return None
    if isinstance(rngs, nnx.Rngs):
        # An nnx.Rngs may hold the params stream alone, as Linen's init passes it.
        return rngs[stream].fork() if {stream, "default"} & set(rngs) else None
    if isinstance(rngs, nnx.RngStream):
        return rngs.fork()
    return nnx.RngStream(key_from(rngs, stream, layer), tag=stream)


def _stream_of(rngs: nnx.Rngs, stream: str, layer: str) -> nnx.RngStream:
    try:
        return rngs[stream]
    except KeyError:
        raise ValueError(
            f"jaxnn.{layer} needs a {stream!r} or 'default' stream in `rngs`, which has "
            f"{list(rngs)}: pass nnx.Rngs(0, ...) or nnx.Rngs({stream}=0, ...)"
        ) from None


def _is_key(value: Any) -> bool:
    if not isinstance(value, jax.Array):
        return False
    is_typed = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    return bool(is_typed) or (value.dtype == jnp.uint32 and value.shape[-1:] == (2,))
