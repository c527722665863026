"""A causal language model that was imported, called with and without a cache."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from .. import functional as F
from ..interop.importer.imported import Imported
from ..modules._module import RandomSource
from .cache import Cache, DecoderOutput, Layout


class Decoder(Imported):
    """A causal language model, as `jaxnn.from_transformers` makes it.

    Its parts and its state dict are those of the original. It is called with all tokens at once, or
    with a cache, part by part.

    Attributes:
        layout: the sizes of its cache.
        eos_token_id: the tokens that end a text, by the original's own configuration.
        pad_token_id: what stands behind them, likewise.
        takes_labels: whether the original's loss is the one that `labels` gives.

    Raises:
        ValueError: at a call that it is not for, with what does not hold.

    Source: transformers.

    Example:
        >>> from jaxnn.generation import Decoder
        >>> Decoder("Nothing", (), ())
        Nothing()
    """

    layout: Layout
    eos_token_id: tuple[int, ...] = ()
    pad_token_id: int | None = None
    takes_labels: bool = True

    def init_cache(
        self, batch_size: int, max_length: int, *, dtype: Any = None, sharding: Any = None
    ) -> Cache:
        """Return a cache that holds nothing: a pytree of arrays, that is no part of the model.

        Args:
            batch_size: how many texts.
            max_length: how many tokens each may have, padding and prompt included.
            dtype: of keys and values; the model's own if None.
            sharding: of keys and values, `(batch, heads, slots, size)`.
        """
        return self.layout.empty(batch_size, max_length, dtype, sharding)

    def __call__(  # type: ignore[override]
        self,
        input_ids: Int[Array, "batch length"],
        attention_mask: Any = None,
        cache: Cache | None = None,
        labels: Int[Array, "batch length"] | None = None,
        position_ids: Any = None,
        logits_to_keep: int | Int[Array, "kept"] = 0,
        *,
        rngs: RandomSource | None = None,
    ) -> DecoderOutput:
        """Return the logits of the next token at each position, and the cache with these tokens.

        Args:
            input_ids: the tokens; with a cache those behind the ones that it holds.
            attention_mask: True or 1 for tokens, False or 0 for padding, which stands at the left;
                of the shape of `input_ids`.
            cache: from `init_cache`, or of the call before. Logits are NaN where it is full.
            labels: the tokens themselves, -100 where one does not count: `loss` is the mean cross
                entropy of each token and the logits before it, in float32, as in transformers.
            position_ids: the tokens' positions; by default they are counted, padding left out.
            logits_to_keep: of how many of the last positions logits are wanted, all if 0; or of
                which positions, `(kept,)`. With a cache no others are computed.
            rngs: where what draws takes its keys from.
        """
        if labels is not None and not self.takes_labels:
            raise ValueError(
                f"{self._source} has a loss of its own, which labels= can't give: compute it from "
                "the logits"
            )
        positions = jnp.arange(input_ids.shape[1])
        is_count = isinstance(logits_to_keep, int)
        kept = positions[-logits_to_keep:] if is_count else jnp.asarray(logits_to_keep)
        # With a cache the mask tells which slots hold tokens.
        if cache is not None and attention_mask is None:
            attention_mask = jnp.ones(input_ids.shape, bool)
        if attention_mask is not None:
            attention_mask = jnp.asarray(attention_mask).astype(bool)
        given = {"attention_mask": attention_mask, "cache": cache, "position_ids": position_ids}
        given["logits_to_keep"] = None if cache is None else kept
        found: Any = super().__call__(
            input_ids, rngs=rngs, **{name: x for name, x in given.items() if x is not None}
        )
        loss = None if labels is None else next_token_loss(found.logits, labels)
        if cache is None:
            logits = found.logits if is_count and not logits_to_keep else found.logits[:, kept]
            return DecoderOutput(logits, None, loss)
        return DecoderOutput(found.logits, Cache(*found.cache), loss)


def next_token_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross entropy of each label and the logits of the position before it.

    Labels of -100 do not count.
    """
    before, after = logits[:, :-1].astype(jnp.float32), labels[:, 1:]
    flat = before.reshape(-1, before.shape[-1]), after.reshape(-1)
    return cast(jax.Array, F.cross_entropy(*flat))
