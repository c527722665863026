"""`call`: the arguments of a call, kept to be made later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False, repr=False)
class Call:
    """The arguments of a call; prints as the call, with an array's dtype and shape for its values.

    Attributes:
        args: the positional arguments.
        kwargs: those by name.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        given = [*map(_told, self.args), *(f"{n}={_told(v)}" for n, v in self.kwargs.items())]
        return f"call({', '.join(given)})"


def call(*args: Any, **kwargs: Any) -> Call:
    """Return the arguments of a call, for what takes several calls of a model as examples.

    Args:
        *args: the positional arguments of the call.
        **kwargs: those by name.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> ids = jnp.zeros((2, 7), int)
        >>> jaxnn.call(ids, cache=[ids, None], use_cache=True)
        call(int32[2, 7], cache=[int32[2, 7], None], use_cache=True)
    """
    return Call(args, dict(kwargs))


def _told(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{dtype}[{', '.join(map(str, value.shape))}]"
    if type(value) is dict:
        return f"{{{', '.join(f'{name!r}: {_told(item)}' for name, item in value.items())}}}"
    if type(value) in (tuple, list):
        items = ", ".join(map(_told, value))
        if type(value) is list:
            return f"[{items}]"
        return f"({items},)" if len(value) == 1 else f"({items})"
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None))):
        return repr(value)
    return type(value).__name__
