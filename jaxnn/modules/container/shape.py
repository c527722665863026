"""Layers that only change the shape."""

from __future__ import annotations

from flax import nnx
from jaxtyping import Array, Shaped

from ... import functional as F
from ..._checks import check_int
from .._module import Module


class Flatten(Module):
    """Join a range of dimensions into one: see `jaxnn.functional.flatten`.

    Shapes: (*before, S_start, ..., S_end, *after) -> (*before, S_start * ... * S_end, *after).

    Args:
        start_dim: the first dimension of the range.
        end_dim: the last dimension of the range.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Flatten()(jnp.ones((2, 3, 4))).shape
        (2, 12)
    """

    _shown = ("start_dim", "end_dim")

    def __init__(
        self, start_dim: int = 1, end_dim: int = -1, *, rngs: nnx.Rngs | None = None
    ) -> None:
        self.start_dim = check_int(start_dim, "start_dim", "jaxnn.Flatten")
        self.end_dim = check_int(end_dim, "end_dim", "jaxnn.Flatten")

    def __call__(self, input: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        return F.flatten(input, self.start_dim, self.end_dim)


class Unflatten(Module):
    """Split one dimension into several: see `jaxnn.functional.unflatten`.

    Shapes: (*before, S, *after) -> (*before, U_1, ..., U_n, *after), with S = U_1 * ... * U_n.

    Args:
        dim: the dimension to split.
        unflattened_size: its new sizes, as a tuple or list; one of them may be -1.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Unflatten(1, (3, 4))(jnp.ones((2, 12))).shape
        (2, 3, 4)
    """

    _shown = ("dim", "unflattened_size")

    def __init__(
        self,
        dim: int,
        unflattened_size: tuple[int, ...] | list[int],
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        if not isinstance(unflattened_size, (tuple, list)):
            raise TypeError(
                "jaxnn.Unflatten: `unflattened_size` must be a tuple or list of ints, got "
                f"{unflattened_size!r}"
            )
        self.dim = check_int(dim, "dim", "jaxnn.Unflatten")
        self.unflattened_size = tuple(
            check_int(size, "unflattened_size", "jaxnn.Unflatten") for size in unflattened_size
        )

    def __call__(self, input: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        return F.unflatten(input, self.dim, self.unflattened_size)
