"""What stands under one name in a state dict, and how a model's variables hold it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import nnx


@dataclass(frozen=True)
class Layout:
    """How an array lies in torch, and how in the model.

    Attributes:
        to_torch: from the model's array to torch's, a view where possible.
        from_torch: from torch's array, and the shape in the model, to the model's.
    """

    to_torch: Callable[[np.ndarray], np.ndarray]
    from_torch: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Join:
    """How several arrays of torch are one in the model, as the two biases of a recurrent cell.

    Attributes:
        join: from torch's arrays to the one; a ValueError says that they cannot be joined.
        part: from the one to arrays of torch that mean the same.
    """

    join: Callable[[Sequence[np.ndarray]], np.ndarray]
    part: Callable[[np.ndarray], list[np.ndarray]]


SAME = Layout(lambda array: array, lambda array, shape: array)
ALONE = Join(lambda arrays: arrays[0], lambda array: [array])


@dataclass(frozen=True)
class Entry:
    """Some keys of a state dict, and the variables that hold their arrays.

    The arrays of the keys are joined, parted along their first dimension among the variables, and
    brought into the variables' layout.

    Attributes:
        keys: the names in the state dict.
        variables: the variables by their names in the tree; none where Flax has no counterpart.
        layout: how each variable lies beside torch's array.
        join: how the arrays of several keys become one.
    """

    keys: tuple[str, ...]
    variables: Mapping[str, nnx.Variable[Any]]
    layout: Layout = SAME
    join: Join = ALONE

    @property
    def is_plain(self) -> bool:
        """Whether the array is the same in torch and in the model."""
        return self.layout is SAME and self.join is ALONE and len(self.variables) <= 1

    def shapes(self) -> list[tuple[int, ...]]:
        """Return the shape of each key's array in torch."""
        parts = [self.layout.to_torch(_without_memory(v)).shape for v in self.variables.values()]
        # An array of one repeated element takes the shape of a large one, but not its memory.
        stacked = np.broadcast_to(np.False_, _stacked_shape(parts))
        return [array.shape for array in self.join.part(stacked)]

    def from_torch(self, arrays: Sequence[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the arrays of the variables, by their names; views where possible."""
        joined = self.join.join(arrays)
        start = 0
        for name, variable in self.variables.items():
            piece = joined
            if len(self.variables) > 1:
                stop = start + self.layout.to_torch(_without_memory(variable)).shape[0]
                piece, start = joined[start:stop], stop
            yield name, self.layout.from_torch(piece, shape_of(variable))

    def to_torch(self, values: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Return the arrays of the keys, given those of the variables."""
        if not values:
            return {key: np.zeros((), np.int64) for key in self.keys}
        parts = [self.layout.to_torch(value) for value in values]
        stacked = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return dict(zip(self.keys, self.join.part(stacked), strict=True))


def shape_of(variable: nnx.Variable[Any]) -> tuple[int, ...]:
    """Return the shape of a variable's value, also of an abstract one."""
    return tuple(variable.get_value().shape)


def _without_memory(variable: nnx.Variable[Any]) -> np.ndarray:
    return np.broadcast_to(np.False_, shape_of(variable))


def _stacked_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    if not shapes:
        return ()
    if len(shapes) == 1:
        return shapes[0]
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def dense(inputs: int = 1) -> Layout:
    """Return the layout of a kernel (in..., out...), which is torch's weight (out, in).

    Args:
        inputs: how many of the kernel's dimensions are the input's.
    """
    return Layout(
        lambda kernel: kernel.reshape(math.prod(kernel.shape[:inputs]), -1).T,
        lambda weight, shape: weight.T.reshape(shape),
    )


FLAT = Layout(lambda array: array.reshape(-1), lambda array, shape: array.reshape(shape))

# A kernel (k..., in / groups, out) is torch's weight (out, in / groups, k...).
CONVOLUTION = Layout(
    lambda kernel: np.moveaxis(kernel, (-1, -2), (0, 1)),
    lambda weight, shape: np.moveaxis(weight, (0, 1), (-1, -2)),
)


def _flip_space(kernel: np.ndarray) -> np.ndarray:
    return np.flip(kernel, tuple(range(kernel.ndim - 2)))


# A kernel (k..., in, out) that is correlated with the dilated input, where torch convolves it with
# its weight (in, out, k...).
TRANSPOSED_CONVOLUTION = Layout(
    lambda kernel: np.moveaxis(_flip_space(kernel), (-2, -1), (0, 1)),
    lambda weight, shape: _flip_space(np.moveaxis(weight, (0, 1), (-2, -1))),
)
