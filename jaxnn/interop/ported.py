"""What the classes that `jaxnn port` writes are built on, beside the layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from ..modules._module import RandomModule, RandomSource, keys_for_parts
from ..modules._state import Frozen, named_variables
from .importer.binding import misfit
from .importer.custom_vjp import with_gradient
from .importer.training_modes import WithOwnModes
from .importer.tying import descend, tied_in_place
from .importer.tying import tie as bind_names

__all__ = [
    "Module",
    "fits",
    "freeze",
    "function",
    "keys_for_parts",
    "require",
    "require_shape",
    "tie",
    "tied",
]

M = TypeVar("M", bound=nnx.Module)
P = ParamSpec("P")
T = TypeVar("T")


class Module(WithOwnModes, RandomModule):
    """A module whose forward pass depends on its mode, or draws random numbers.

    Args:
        rngs: where its own stream of random numbers is forked from.

    Attributes:
        deterministic: whether it is in evaluation mode.

    Raises:
        ValueError: where it draws, and there is neither a stream nor `rngs` at the call.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.interop import aten, ported
        >>> class Noisy(ported.Module):
        ...     def __call__(self, x, *, rngs=None):
        ...         return aten.dropout(self.draw(rngs), x, 0.5, not self.deterministic)
        >>> Noisy().eval()(jnp.ones(2)).tolist()
        [1.0, 1.0]
    """

    def __init__(self, rngs: RandomSource | None = None) -> None:
        self._own_modes = ()
        self._init_random(rngs)

    def draw(self, rngs: RandomSource | None) -> Callable[[], jax.Array]:
        """Return a function that gives a fresh key, from `rngs` or the module's own stream."""
        return partial(self._draw_key, rngs)


def function(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    *,
    inputs: int,
    saved: Sequence[int],
    outputs: Sequence[int],
) -> Callable[..., Any]:
    """Return `forward` with a gradient of its own, as a torch.autograd.Function has it.

    Args:
        forward: a function that returns a tuple.
        backward: a function of the gradients of some results, and of what is saved, that returns a
            tuple of the gradients of the first arguments, None for none.
        inputs: how many arguments have a gradient.
        saved: the places, among arguments and results, of what is saved.
        outputs: the places of the results whose gradients `backward` takes.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxnn.interop import ported
        >>> straight_through = ported.function(
        ...     lambda x: (jnp.round(x),), lambda g: (g,), inputs=1, saved=(), outputs=(0,)
        ... )
        >>> jax.value_and_grad(straight_through)(0.75)
        (Array(1., dtype=float32, weak_type=True), Array(1., dtype=float32, weak_type=True))
    """
    called = with_gradient(
        lambda given, beside: forward(*given, *beside),
        lambda cotangents, kept: backward(*cotangents, *kept),
        saved,
        outputs,
    )

    def function(*args: Any) -> Any:
        results = called(args[:inputs], args[inputs:])
        return results if len(results) > 1 else results[0]

    return function


def require(holds: bool, condition: str) -> None:
    """Refuse a call whose sizes are not those that the original was captured for.

    Args:
        holds: whether they are.
        condition: the condition, with the line that asks for it.

    Raises:
        ValueError: if it does not hold.
    """
    if not holds:
        raise ValueError(f"the model was ported for sizes with {condition}; port it for these too")


def require_shape(array: jax.Array, name: str, shape: Sequence[int | None]) -> None:
    """Refuse an array of other sizes than those that the original was captured for.

    What the original computes from a size, be it a slice, a loop or a branch, is a constant of the
    port. Where the code holds for every size, the line that calls this can go.

    Args:
        array: the argument.
        name: how the port reaches it.
        shape: the sizes, None for any.

    Raises:
        ValueError: if it has others.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.interop import ported
        >>> ported.require_shape(jnp.ones((8, 3)), "x", (None, 3))
    """
    if wrong := misfit(jnp.shape(array), shape, "ported"):
        raise ValueError(
            f"{name} {wrong}; port it with an example of that shape, or take the line out if the "
            "code below it holds for every size"
        )


def fits(value: Any, like: Any) -> bool:
    """Return whether an argument is made as a program takes it.

    Args:
        value: the argument.
        like: containers and constants, with `...` for each array.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.interop import ported
        >>> x = jnp.ones(2)
        >>> ported.fits([x, None], [..., None]), ported.fits([x], [..., None]), ported.fits(x, None)
        (True, False, False)
    """
    if like is ...:
        return hasattr(value, "shape")
    if isinstance(like, dict):
        if isinstance(value, Mapping):
            return value.keys() >= like.keys() and all(fits(value[n], like[n]) for n in like)
        return all(hasattr(value, n) and fits(getattr(value, n), like[n]) for n in like)
    if isinstance(like, (tuple, list)):
        is_alike = isinstance(value, (tuple, list)) and len(value) == len(like)
        return is_alike and all(map(fits, value, like))
    return not hasattr(value, "shape") and bool(value == like)


def freeze(module: M, *names: str) -> M:
    """Make parameters of `module` `jaxnn.Frozen`, so that they are not trained, and return it.

    Args:
        module: any module.
        names: the paths of the parameters.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> from jaxnn.interop import ported
        >>> layer = ported.freeze(jaxnn.Linear(2, 3, rngs=nnx.Rngs(0)), "weight")
        >>> list(nnx.state(layer, nnx.Param))
        ['bias']
    """
    for path in names:
        owner, _, name = path.rpartition(".")
        node = descend(module, owner)
        setattr(node, name, Frozen(getattr(node, name).get_value()))
    return module


def tie(module: Any, names: Mapping[str, str]) -> None:
    """Let a parameter, buffer or module have further names, as tied weights have in torch.

    It is stored once, under its first name, since NNX's tree mode forbids that two attributes
    share a variable. The state dict has all names. A call of `module` that is `tied` finds it
    under each.

    Args:
        module: the whole model.
        names: the further names, each with the first.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> from jaxnn.interop import ported
        >>> class Net(jaxnn.Module):
        ...     def __init__(self, rngs):
        ...         self.a = jaxnn.Linear(2, 2, bias=False, rngs=rngs)
        ...         self.b = jaxnn.Linear(2, 2, bias=False, rngs=rngs)
        ...         ported.tie(self, {"b.weight": "a.weight"})
        ...
        ...     @ported.tied
        ...     def __call__(self, x):
        ...         return self.b(self.a(x))
        >>> net = Net(nnx.Rngs(0))
        >>> list(jaxnn.state_dict(net)), net.b.weight
        (['a.weight', 'b.weight'], None)
    """
    bind_names(module, names, lambda: [key for key, _ in named_variables(module)])


def tied(call: Callable[P, T]) -> Callable[P, T]:
    """Let a method find what is tied under each of its names; see `tie`."""

    @wraps(call)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        with tied_in_place(args[0]):  # type: ignore[arg-type]
            return call(*args, **kwargs)

    return called
