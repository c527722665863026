"""The keys and values of the tokens so far, as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from .._types import Float


class Cache(NamedTuple):
    """What a decoder keeps of the tokens that it has seen.

    It is a pytree of arrays, no part of the model: a loop carries it, `jax.jit` donates it, a mesh
    shards it, and no state dict or checkpoint has it. Each layer has a slot for each token.

    Attributes:
        keys: of each layer, `(batch, heads, slots, size)`.
        values: of each layer, likewise.
        mask: which slots hold a token, and no padding, `(batch, slots)`.
        length: how many slots are taken, for all rows alike.
    """

    keys: Sequence[Float[Array, "batch heads slots size"]]
    values: Sequence[Float[Array, "batch heads slots size"]]
    mask: Bool[Array, "batch slots"]
    length: Int[Array, ""]


class DecoderOutput(NamedTuple):
    """What a decoder returns.

    Attributes:
        logits: of the next token at each position, `(batch, length, vocabulary)`.
        cache: the one that was given, with these tokens; None where none was given.
        loss: of `labels`; None where there are none.
    """

    logits: Any
    cache: Any = None
    loss: Any = None


class Layout(NamedTuple):
    """The sizes of a decoder's cache.

    Attributes:
        keys: of each layer, the number of heads and the size of a key.
        values: of each layer, the number of heads and the size of a value.
        dtype: of both.
        vocabulary: how many tokens there are.
        most: the largest number of positions, where the model has one.
    """

    keys: tuple[tuple[int, int], ...]
    values: tuple[tuple[int, int], ...]
    dtype: str
    vocabulary: int
    most: int | None = None

    def empty(self, batch: int, slots: int, dtype: Any = None, sharding: Any = None) -> Cache:
        """Return a cache that holds nothing.

        Args:
            batch: how many rows.
            slots: how many tokens it takes at most.
            dtype: of keys and values; the model's own if None.
            sharding: of keys and values.
        """
        kept = jnp.dtype(self.dtype if dtype is None else dtype)

        def zeros(heads: int, size: int) -> jax.Array:
            return jnp.zeros((batch, heads, slots, size), kept, device=sharding)

        return Cache(
            tuple(zeros(*sizes) for sizes in self.keys),
            tuple(zeros(*sizes) for sizes in self.values),
            jnp.zeros((batch, slots), bool), jnp.zeros((), jnp.int32),
        )  # fmt: skip
