"""Batches of sequences of different lengths: padded, and packed without padding.

A packed sequence has concrete lengths, so it is made outside of `jax.jit` (and may then be passed
into it). Where lengths are traced, call a recurrent layer on the padded batch with `lengths=`: it
computes the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped

from .._checks import check_array, check_int
from ..modules._packed import (
    PackedSequence,
    invert_permutation,
    lengths_in_order,
    pad_in_order,
)

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


def pack_padded_sequence(
    input: Shaped[Array, "L N *rest"],
    lengths: Sequence[int] | Int[Array, " N"],
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> PackedSequence:
    """Pack a padded batch: leave out what lies beyond the end of each sequence.

    Shapes: input (L, N, *), or (N, L, *) with `batch_first`; lengths (N,).

    Args:
        input: the padded sequences, of any dtype.
        lengths: how long each is, from 1 to L.
        batch_first: whether N comes first.
        enforce_sorted: whether to refuse sequences that are not in the order of falling length;
            else they are sorted (the layers and `pad_packed_sequence` put results back in order).

    Raises:
        ValueError: if the lengths do not fit the input, or are not in order as demanded.
        TypeError: if the lengths are traced: under `jax.jit`, call the recurrent layer on the
            padded batch with lengths=.

    Source: torch.nn.utils.rnn.pack_padded_sequence.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.utils.rnn import pack_padded_sequence
        >>> padded = jnp.array([[1, 2, 0], [3, 0, 0], [4, 5, 6]])
        >>> pack_padded_sequence(padded, [2, 1, 3], batch_first=True, enforce_sorted=False).data
        Array([4, 1, 3, 5, 2, 6], dtype=int32)
    """
    name = "pack_padded_sequence"
    input = check_array(input, "input", name)
    known = _concrete_lengths(lengths, name)
    if input.ndim < 2:
        raise ValueError(
            f"{name}: `input` must have at least two dimensions, got shape {input.shape}"
        )
    steps_first = input.swapaxes(0, 1) if batch_first else input
    steps, batch = steps_first.shape[:2]
    if known.shape != (batch,):
        raise ValueError(
            f"{name}: `lengths` must have a number for each of the {batch} sequences, got "
            f"{known.shape}; is batch_first={batch_first} right?"
        )
    if batch == 0 or known.min() < 1 or known.max() > steps:
        raise ValueError(
            f"{name}: `lengths` must lie between 1 and the number of steps, {steps}, got "
            f"{known.tolist()}"
        )
    order = np.arange(batch)
    if not enforce_sorted:
        order = np.argsort(-known, kind="stable")
    elif (np.diff(known) > 0).any():
        raise ValueError(
            f"{name}: `lengths` must not grow where enforce_sorted=True, got {known.tolist()}; "
            "pass enforce_sorted=False"
        )
    batch_sizes = (known[:, None] > np.arange(known.max())).sum(0)
    rows = np.concatenate([t * batch + order[:n] for t, n in enumerate(batch_sizes)])
    data = steps_first.reshape(-1, *steps_first.shape[2:])[rows]
    return PackedSequence(data, batch_sizes, None if enforce_sorted else jnp.asarray(order))


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Shaped[Array, "L N *rest"], Int[Array, " N"]]:
    """Undo `pack_padded_sequence`.

    Args:
        sequence: what was packed.
        batch_first: whether N comes first in what is returned.
        padding_value: what stands beyond the end of each sequence.
        total_length: how many steps there are in what is returned, by default as many as the
            longest sequence has.

    Returns:
        The padded sequences, of shape (L, N, *), or (N, L, *) with `batch_first`, and their
        lengths, both in the order they were packed from.

    Raises:
        ValueError: if `total_length` is less than the longest sequence's.
        TypeError: if `sequence` is no PackedSequence.

    Source: torch.nn.utils.rnn.pad_packed_sequence.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.utils.rnn import pack_sequence, pad_packed_sequence
        >>> packed = pack_sequence([jnp.array([1, 2, 3]), jnp.array([4])])
        >>> pad_packed_sequence(packed, batch_first=True)
        (Array([[1, 2, 3],
               [4, 0, 0]], dtype=int32), Array([3, 1], dtype=int32))
    """
    _check_packed(sequence, "pad_packed_sequence")
    steps = len(sequence.batch_sizes)
    if total_length is not None:
        total_length = check_int(total_length, "total_length", "pad_packed_sequence")
        if total_length < steps:
            raise ValueError(
                "pad_packed_sequence: `total_length` must be at least the longest sequence's "
                f"length, {steps}, got {total_length}"
            )
    padded = pad_in_order(sequence, steps if total_length is None else total_length, padding_value)
    lengths = jnp.asarray(lengths_in_order(sequence))
    if sequence.unsorted_indices is not None:
        padded = padded[:, sequence.unsorted_indices]
        lengths = lengths[sequence.unsorted_indices]
    return (padded.swapaxes(0, 1) if batch_first else padded), lengths


def pad_sequence(
    sequences: Iterable[Shaped[Array, "_ *rest"]],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Shaped[Array, "L N *rest"]:
    """Stack sequences of different lengths, padded to the longest.

    Args:
        sequences: arrays of shapes (L_i, *), equal but for L_i; the first one's dtype is that of
            the result.
        batch_first: whether N comes first in what is returned.
        padding_value: what they are padded with.
        padding_side: "right", behind the sequence, or "left", before it.

    Returns:
        An array of shape (L, N, *), or (N, L, *) with `batch_first`.

    Raises:
        ValueError: if there are no sequences, their shapes differ beyond the first dimension, or
            `padding_side` is unknown.
        TypeError: if `sequences` is no iterable of arrays.

    Source: torch.nn.utils.rnn.pad_sequence.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.utils.rnn import pad_sequence
        >>> pad_sequence([jnp.array([1, 2, 3]), jnp.array([4])], True, padding_side="left")
        Array([[1, 2, 3],
               [0, 0, 4]], dtype=int32)
    """
    arrays = _arrays(sequences, "pad_sequence")
    if padding_side not in ("left", "right"):
        raise ValueError(
            f'pad_sequence: `padding_side` must be "left" or "right", got {padding_side!r}'
        )
    longest = max(len(array) for array in arrays)
    value = jnp.asarray(padding_value).astype(arrays[0].dtype)

    def pad(array: Array) -> Array:
        missing = longest - len(array)
        before, after = (missing, 0) if padding_side == "left" else (0, missing)
        array = array.astype(value.dtype)
        return jax.lax.pad(array, value, [(before, after, 0), *[(0, 0, 0)] * (array.ndim - 1)])

    return jnp.stack([pad(array) for array in arrays], axis=0 if batch_first else 1)


def unpad_sequence(
    padded_sequences: Shaped[Array, "L N *rest"],
    lengths: Sequence[int] | Int[Array, " N"],
    batch_first: bool = False,
) -> list[Shaped[Array, "_ *rest"]]:
    """Undo `pad_sequence`: return the first `lengths[i]` steps of each sequence.

    Args:
        padded_sequences: of shape (L, N, *), or (N, L, *) with `batch_first`.
        lengths: how long each is.
        batch_first: whether N comes first.

    Raises:
        ValueError: if there is not one length for each sequence.
        TypeError: if the lengths are traced.

    Source: torch.nn.utils.rnn.unpad_sequence.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.utils.rnn import unpad_sequence
        >>> unpad_sequence(jnp.array([[1, 2, 3], [4, 0, 0]]), [3, 1], batch_first=True)
        [Array([1, 2, 3], dtype=int32), Array([4], dtype=int32)]
    """
    padded = check_array(padded_sequences, "padded_sequences", "unpad_sequence")
    known = _concrete_lengths(lengths, "unpad_sequence")
    padded = padded if batch_first else padded.swapaxes(0, 1)
    if known.shape != padded.shape[:1]:
        raise ValueError(
            f"unpad_sequence: `lengths` must have a number for each of the {padded.shape[0]} "
            f"sequences, got {known.shape}; is batch_first={batch_first} right?"
        )
    return [row[: max(length, 0)] for row, length in zip(padded, known.tolist(), strict=True)]


def pack_sequence(
    sequences: Iterable[Shaped[Array, "_ *rest"]], enforce_sorted: bool = True
) -> PackedSequence:
    """Pack sequences of different lengths.

    Args:
        sequences: arrays of shapes (L_i, *), equal but for L_i.
        enforce_sorted: as for `pack_padded_sequence`.

    Raises: as `pad_sequence` and `pack_padded_sequence`.

    Source: torch.nn.utils.rnn.pack_sequence.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.utils.rnn import pack_sequence
        >>> pack_sequence([jnp.array([1]), jnp.array([2, 3])], enforce_sorted=False).data
        Array([2, 1, 3], dtype=int32)
    """
    arrays = _arrays(sequences, "pack_sequence")
    lengths = [len(array) for array in arrays]
    return pack_padded_sequence(pad_sequence(arrays), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Shaped[Array, "_ *rest"]]:
    """Undo `pack_sequence`.

    Raises:
        TypeError: if `packed_sequences` is no PackedSequence, or its order is traced.

    Source: torch.nn.utils.rnn.unpack_sequence.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.utils.rnn import pack_sequence, unpack_sequence
        >>> unpack_sequence(pack_sequence([jnp.array([1, 2]), jnp.array([3])]))
        [Array([1, 2], dtype=int32), Array([3], dtype=int32)]
    """
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


def _concrete_lengths(lengths: Any, name: str) -> Int[np.ndarray, " N"]:
    parts = lengths if isinstance(lengths, (list, tuple)) else [lengths]
    if any(isinstance(part, jax.core.Tracer) for part in parts):
        raise TypeError(
            f"{name}: `lengths` must be concrete, but they are traced: pack outside of jax.jit, "
            "or call the recurrent layer on the padded batch with lengths=, which may be traced"
        )
    known = np.asarray(lengths)
    if not np.issubdtype(known.dtype, np.number):
        raise TypeError(f"{name}: `lengths` must be integers, got {known.dtype}")
    return known.astype(np.int64)


def _arrays(sequences: Any, name: str) -> list[jax.Array]:
    if not isinstance(sequences, Iterable):
        raise TypeError(
            f"{name}: `sequences` must be an iterable of arrays, got {type(sequences).__name__}"
        )
    arrays = [check_array(array, "sequences", name) for array in sequences]
    if not arrays:
        raise ValueError(f"{name}: `sequences` must have at least one array, got none")
    shapes = [array.shape for array in arrays]
    if () in shapes or len({shape[1:] for shape in shapes}) > 1:
        raise ValueError(
            f"{name}: `sequences` must have shapes equal but for the first dimension, got {shapes}"
        )
    return arrays


def _check_packed(sequence: Any, name: str) -> None:
    if not isinstance(sequence, PackedSequence):
        raise TypeError(
            f"{name}: `sequence` must be a PackedSequence, got {type(sequence).__name__}; make "
            "one with pack_padded_sequence"
        )
