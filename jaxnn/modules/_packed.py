"""Packed sequences, and the arithmetic of their order; `jaxnn.utils.rnn` makes and unmakes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped

from .._checks import check_array


@jax.tree_util.register_pytree_with_keys_class
class PackedSequence:
    """A batch of sequences without padding: all first steps, then all second steps, and so on.

    It is made by `pack_padded_sequence` or `pack_sequence`, longest sequence first, and is a
    pytree whose `batch_sizes` are static: under `jax.jit`, other lengths are another program.

    Args:
        data: the steps, of shape (sum of all lengths, *).
        batch_sizes: for each step, how many sequences have it: numbers that do not grow.
        sorted_indices: which sequence of the batch is the longest, the second longest and so on;
            None where they already are in this order.
        unsorted_indices: the inverse permutation, by default made from `sorted_indices`.

    Attributes: as the arguments; `batch_sizes` is a NumPy array of int64.

    Source: torch.nn.utils.rnn.PackedSequence.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.utils.rnn import pack_sequence
        >>> packed = pack_sequence([jnp.array([1, 2, 3]), jnp.array([4, 5]), jnp.array([6])])
        >>> packed.data, packed.batch_sizes
        (Array([1, 4, 6, 2, 5, 3], dtype=int32), array([3, 2, 1]))
    """

    def __init__(
        self,
        data: Shaped[Array, "total *rest"],
        batch_sizes: Sequence[int] | Int[np.ndarray, " steps"],
        sorted_indices: Int[Array, " N"] | None = None,
        unsorted_indices: Int[Array, " N"] | None = None,
    ) -> None:
        self.data = data
        self.batch_sizes = np.asarray(batch_sizes, np.int64)
        self.sorted_indices = sorted_indices
        self.unsorted_indices = (
            invert_permutation(sorted_indices) if unsorted_indices is None else unsorted_indices
        )

    def __iter__(self) -> Iterator[Any]:
        """Yield the four attributes, as the named tuple of torch does."""
        return iter((self.data, self.batch_sizes, self.sorted_indices, self.unsorted_indices))

    def __repr__(self) -> str:
        return (
            f"PackedSequence(data={self.data!r}, batch_sizes={self.batch_sizes!r}, "
            f"sorted_indices={self.sorted_indices!r}, unsorted_indices={self.unsorted_indices!r})"
        )

    def replace_data(self, data: Shaped[Array, "total *rest"]) -> PackedSequence:
        """Return a packed sequence of the same lengths and order, with other data."""
        return PackedSequence(data, self.batch_sizes, self.sorted_indices, self.unsorted_indices)

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[Any, Any], ...], tuple[int, ...]]:
        """Return the arrays, and the static batch sizes."""
        names = ("data", "sorted_indices", "unsorted_indices")
        leaves = tuple((jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names)
        return leaves, tuple(self.batch_sizes.tolist())

    @classmethod
    def tree_unflatten(cls, batch_sizes: tuple[int, ...], leaves: Any) -> PackedSequence:
        """Rebuild from what `tree_flatten_with_keys` gives; the leaves may be anything."""
        packed = object.__new__(cls)
        packed.data, packed.sorted_indices, packed.unsorted_indices = leaves
        packed.batch_sizes = np.asarray(batch_sizes, np.int64)
        return packed


def invert_permutation(permutation: Int[Array, " N"] | None) -> Int[Array, " N"] | None:
    """Return the inverse of a permutation, or None of None.

    Raises:
        ValueError: if `permutation` has not one dimension.
        TypeError: if it is no array of integers.

    Source: torch.nn.utils.rnn.invert_permutation.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.utils.rnn import invert_permutation
        >>> invert_permutation(jnp.array([2, 0, 1]))
        Array([1, 2, 0], dtype=int32)
    """
    if permutation is None:
        return None
    permutation = check_array(permutation, "permutation", "invert_permutation")
    if not jnp.issubdtype(permutation.dtype, jnp.integer):
        raise TypeError(
            f"invert_permutation: `permutation` must be integers, got {permutation.dtype}"
        )
    if permutation.ndim != 1:
        raise ValueError(
            f"invert_permutation: `permutation` must have one dimension, got {permutation.shape}"
        )
    places = jnp.arange(permutation.shape[0], dtype=permutation.dtype)
    return jnp.zeros_like(permutation).at[permutation].set(places)


def lengths_in_order(sequence: PackedSequence) -> Int[np.ndarray, " N"]:
    """Return the lengths, the longest first."""
    first = sequence.batch_sizes[:1].sum()
    return (sequence.batch_sizes[:, None] > np.arange(first)).sum(0)


def pad_in_order(
    sequence: PackedSequence, steps: int, padding_value: float = 0.0
) -> Shaped[Array, "steps N *rest"]:
    """Return the padded sequences, the longest first."""
    sizes = np.pad(sequence.batch_sizes, (0, steps - len(sequence.batch_sizes)))
    places = np.arange(sizes[:1].sum())
    rows = (np.cumsum(sizes) - sizes)[:, None] + places
    rows = np.where(places < sizes[:, None], rows, sizes.sum())
    return sequence.data.at[rows].get(mode="fill", fill_value=padding_value)


def pack_in_order(
    padded: Shaped[Array, "steps N *rest"], sequence: PackedSequence
) -> PackedSequence:
    """Pack what is padded as `pad_in_order` does, with the lengths and order of `sequence`."""
    batch = padded.shape[1]
    sizes = sequence.batch_sizes
    rows = np.concatenate([t * batch + np.arange(n) for t, n in enumerate(sizes)])
    return sequence.replace_data(padded.reshape(-1, *padded.shape[2:])[rows])
