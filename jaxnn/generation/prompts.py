"""Prompts as a program takes them: padded at the left to a bucket, and looked at before."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from .decoder import Decoder

# The shortest bucket of prompts, and what the slots behind them are a multiple of.
_SHORTEST, _NEW_SLOTS = 16, 64


class Prompts(NamedTuple):
    """Prompts, and the room behind them.

    Attributes:
        given: as they were given, `(batch, length)`.
        ids: padded at the left to the next power of two.
        mask: which of `ids` are tokens.
        new_slots: how many slots the cache has behind.
    """

    given: Int[Array, "batch length"]
    ids: Int[Array, "batch bucket"]
    mask: Bool[Array, "batch bucket"]
    new_slots: int


def prompts_of(lm: Any, input_ids: Any, attention_mask: Any, max_new_tokens: int) -> Prompts:
    """Return prompts padded to a bucket.

    Raises:
        TypeError: if an argument is of another kind than it should be.
        ValueError: if a prompt cannot be gone on from, with the reason.
    """
    if not isinstance(lm, Decoder):
        raise TypeError(
            f"jaxnn.generate: `lm` must come from jaxnn.from_transformers, got {type(lm).__name__}"
        )
    if not isinstance(max_new_tokens, int) or max_new_tokens < 1:
        raise ValueError(
            f"jaxnn.generate: `max_new_tokens` must be an int of 1 or more, got {max_new_tokens!r}"
        )
    ids = jnp.asarray(input_ids)
    if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(
            "jaxnn.generate: `input_ids` must be integers of shape (batch, length), got "
            f"{ids.dtype.name}{list(ids.shape)}"
        )
    if not ids.size:
        raise ValueError(
            f"jaxnn.generate: `input_ids` of shape {list(ids.shape)} holds no token; begin with "
            "the token that starts a text (tokenizer.bos_token_id)"
        )
    mask = jnp.ones(ids.shape, bool) if attention_mask is None else jnp.asarray(attention_mask)
    if mask.shape != ids.shape:
        raise ValueError(
            f"jaxnn.generate: `attention_mask` must be of the shape of `input_ids`, "
            f"{list(ids.shape)}, got {list(mask.shape)}"
        )
    mask = mask.astype(bool)
    if not isinstance(ids, jax.core.Tracer) and not isinstance(mask, jax.core.Tracer):
        _look_at(lm, np.asarray(ids), np.asarray(mask), max_new_tokens)
    length = ids.shape[1]
    padding = ((0, 0), (max(_SHORTEST, 1 << (length - 1).bit_length()) - length, 0))
    new_slots = -(-max_new_tokens // _NEW_SLOTS) * _NEW_SLOTS
    ids = ids.astype(jnp.int32)
    return Prompts(ids, jnp.pad(ids, padding), jnp.pad(mask, padding), new_slots)


def _look_at(lm: Decoder, ids: np.ndarray, mask: np.ndarray, max_new_tokens: int) -> None:
    """Refuse what has no sense, by the values."""
    most = lm.layout.vocabulary
    if (ids[mask] < 0).any() or (ids[mask] >= most).any():
        wrong = ids[mask][(ids[mask] < 0) | (ids[mask] >= most)][0]
        raise ValueError(
            f"jaxnn.generate: `input_ids` has the token {wrong}, but the model has {most}, from 0 "
            f"to {most - 1}; take the tokenizer that belongs to it"
        )
    if not mask.any(1).all():
        row = int(np.flatnonzero(~mask.any(1))[0])
        raise ValueError(
            f"jaxnn.generate: prompt {row} is padding alone; leave it out, or begin it with the "
            "token that starts a text (tokenizer.bos_token_id)"
        )
    if (mask[:, :-1] & ~mask[:, 1:]).any():
        row = int(np.flatnonzero((mask[:, :-1] & ~mask[:, 1:]).any(1))[0])
        raise ValueError(
            f"jaxnn.generate: prompt {row} has padding behind or between its tokens, where the "
            'next one belongs; pad at the left (a tokenizer does with padding_side="left")'
        )
    length = int(mask.sum(1).max())
    positions = lm.layout.most
    if positions is not None and length + max_new_tokens > positions:
        raise ValueError(
            f"jaxnn.generate: a prompt of {length} tokens with max_new_tokens={max_new_tokens} "
            f"needs {length + max_new_tokens} positions, but the model has {positions}; shorten one"
        )
