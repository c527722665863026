"""Settings that hold for the whole library: the mode of differentiation, and the check of ids."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

import jax

# A user context is part of the key of every tracing cache. So a function that was traced outside
# `forward_mode` is traced again inside it, the caller's own jitted functions included.
_forward_mode = jax.make_user_context(False)


def forward_mode() -> AbstractContextManager[None]:
    """Context in which every layer can be differentiated forwards: jvp, jacfwd, hessian, linearize.

    Most layers need no such context. A few have a fast derivative that works only backwards
    (`jax.custom_vjp`); inside this context they trace the plain formulation, which has the same
    values and both derivatives. Compilation caches tell the two apart.

    Returns:
        The context manager.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxnn
        >>> with jaxnn.forward_mode():
        ...     y, dy = jax.jvp(jaxnn.functional.relu, (jnp.ones(2),), (jnp.ones(2),))
        >>> dy
        Array([1., 1.], dtype=float32)
    """
    return _forward_mode(True)


def in_forward_mode() -> bool:
    """Whether the code being traced stands inside `forward_mode`."""
    return bool(_forward_mode.value)


class check_indices:  # noqa: N801 (called like a function)
    """Switch the check of ids on or off: for good, or for the length of a `with` block.

    Ids that are concrete (not traced) are read by the host and an id out of range is an IndexError.
    The read waits for the device; where that costs too much, switch it off. An id out of range then
    acts as it does under `jax.jit`: its row is NaN, and nothing is written.

    Args:
        flag: whether to check. The default of the library is True.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> with jaxnn.check_indices(False):
        ...     jaxnn.functional.embedding(jnp.array([7]), jnp.ones((2, 3)))
        Array([[nan, nan, nan]], dtype=float32)
    """

    enabled = True

    def __init__(self, flag: bool) -> None:
        if not isinstance(flag, bool):
            raise TypeError(f"check_indices: flag must be True or False, got {flag!r}")
        self._before = check_indices.enabled
        check_indices.enabled = flag

    def __enter__(self) -> check_indices:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        check_indices.enabled = self._before
