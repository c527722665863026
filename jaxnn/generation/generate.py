"""Tokens behind a prompt, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Int

from .._types import Float, Scalar
from ..modules._module import RandomSource, key_from
from .cache import Cache
from .decoder import Decoder
from .prompts import Prompts, prompts_of
from .sampling import process, sample

LogitsProcessor = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


class Generated(NamedTuple):
    """What `generate` returns.

    Attributes:
        sequences: the prompts with the new tokens behind, `(batch, length + max_new_tokens)`; what
            stands behind the end of a text is `pad_token_id`.
        lengths: how many new tokens each text has, that which ends it included.
        logprobs: of each new token, the logarithm of its probability among those that could be
            chosen, `(batch, max_new_tokens)`, 0 behind the end; None unless asked for.
    """

    sequences: Int[Array, "batch length"]
    lengths: Int[Array, "batch"]
    logprobs: Float[Array, "batch new"] | None = None


@dataclass(frozen=True)
class Options:
    """What a program of generation is made for.

    Attributes:
        eos: the tokens that end a text.
        pad: what stands behind them.
        top_k: how many tokens may be chosen.
        draws: whether they are drawn.
        processor: what changes the logits besides.
        logprobs: whether probabilities are kept.
    """

    eos: tuple[int, ...]
    pad: int
    top_k: int | None
    draws: bool
    processor: LogitsProcessor | None
    logprobs: bool


class _State(NamedTuple):
    """A generation on its way; `made` is how many new tokens there are."""

    made: Int[Array, ""]
    token: Int[Array, "batch"]
    is_done: Bool[Array, "batch"]
    lengths: Int[Array, "batch"]
    tokens: Int[Array, "batch slots"]
    logprobs: Float[Array, "batch slots"] | None
    cache: Cache
    key: Array | None


def generate(
    lm: Decoder,
    input_ids: Any,
    attention_mask: Any = None,
    *,
    max_new_tokens: int = 20,
    rngs: RandomSource | None = None,
    temperature: Scalar | None = None,
    top_k: int | None = None,
    top_p: Scalar | None = None,
    min_p: Scalar | None = None,
    repetition_penalty: Scalar | None = None,
    logits_processor: LogitsProcessor | None = None,
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int | None = None,
    logprobs: bool = False,
    stream: bool = False,
) -> Any:
    """Go on from prompts, token by token, until each text ends or has `max_new_tokens` more.

    Without `rngs` the most likely token is chosen, as by transformers' `generate(do_sample=False)`;
    with it one is drawn. The model is in evaluation mode. The whole loop is one program, compiled
    once for a batch, a bucket of prompts' lengths and a cache: prompts are padded at the left to
    the next power of two, at least 16, and the cache has a multiple of 64 slots behind. How many
    tokens are asked for, and all options that are numbers but `top_k`, compile nothing anew.

    Returns a `Generated`, or with `stream=True` an iterator over arrays.

    Args:
        lm: the model, from `from_transformers`.
        input_ids: the prompts, `(batch, length)`.
        attention_mask: True or 1 for tokens, False or 0 for padding, which stands at the left.
        max_new_tokens: how many more tokens each text has at most.
        rngs: an `nnx.Rngs` or a key, of which tokens are drawn. The same key gives the same tokens.
        temperature: by what logits are divided; with `rngs` alone, as the next three.
        top_k: how many tokens may be drawn.
        top_p: up to what sum of probabilities.
        min_p: from what share of the largest probability on.
        repetition_penalty: by what the logits of the tokens so far are divided.
        logits_processor: a function of JAX, `f(tokens, mask, logits)`, that returns logits: of the
            tokens so far, `(batch, slots)`, of which of them count, and of the next token's logits,
            `(batch, vocabulary)`, before anything else has changed them.
        eos_token_id: what ends a text; the model's own if None, `()` for nothing.
        pad_token_id: what stands behind the end; the model's own if None, and where that has none,
            the first that ends a text.
        logprobs: whether to return the tokens' probabilities too.
        stream: whether to return an iterator instead, over the next token of each text,
            `(batch,)`, as soon as it is there.

    Raises:
        ValueError: if a prompt is empty, is padded at the right, has tokens that the model has not,
            or is too long for the model's positions; if an option is out of its range; if tokens
            are to be drawn without `rngs`.
        TypeError: if `lm` is no `Decoder`, or an option of another kind.

    Source: transformers.GenerationMixin.generate.
    """
    prompts = prompts_of(lm, input_ids, attention_mask, max_new_tokens)
    drawn = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    meant = [name for name, value in drawn.items() if value is not None]
    if meant and rngs is None:
        raise ValueError(
            f"jaxnn.generate: {meant[0]}= is for tokens that are drawn; pass rngs=nnx.Rngs(0) or a "
            "key as well, or leave it out for the most likely ones"
        )
    eos = lm.eos_token_id if eos_token_id is None else tuple(np.atleast_1d(eos_token_id).tolist())
    pad = lm.pad_token_id if pad_token_id is None else pad_token_id
    options = Options(
        eos, pad if pad is not None else next(iter(eos), 0), top_k, rngs is not None,
        logits_processor, logprobs,
    )  # fmt: skip
    numbers: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "min_p": min_p}
    numbers["repetition_penalty"] = repetition_penalty
    numbers = {name: value for name, value in numbers.items() if value is not None}
    # What is out of its range is refused before it is traced, where it has no value.
    process(jnp.zeros((1, 2)), jnp.zeros((1, 1), jnp.int32), top_k=top_k, **numbers)
    key = None if rngs is None else key_from(rngs, "sample", "jaxnn.generate")
    graph, state = nnx.split(
        nnx.view(lm, deterministic=True, use_running_average=True, raise_if_not_found=False)
    )
    given = (state, prompts.ids, prompts.mask, numbers, key)
    if stream:
        first = _begin(graph, options, prompts.new_slots, *given)
        return _stream(graph, options, state, numbers, first, max_new_tokens)
    most = jnp.asarray(max_new_tokens, jnp.int32)
    found = _whole(graph, options, prompts.new_slots, *given, most)
    return _result(prompts, found, max_new_tokens)


def _result(prompts: Prompts, found: _State, max_new_tokens: int) -> Generated:
    behind = prompts.ids.shape[1]
    new = found.tokens[:, behind : behind + max_new_tokens]
    logprobs = None if found.logprobs is None else found.logprobs[:, :max_new_tokens]
    return Generated(jnp.concatenate([prompts.given, new], 1), found.lengths, logprobs)


def _stream(
    graph: Any, options: Options, state: Any, numbers: Any, first: _State, most: int
) -> Iterator[np.ndarray]:
    found = first
    for count in range(most):
        if count:
            found = _advance(graph, options, state, numbers, found)
        yield np.asarray(found.token)
        if bool(found.is_done.all()):
            return


@partial(jax.jit, static_argnums=(0, 1, 2))
def _whole(
    graph: Any, options: Options, new_slots: int, state: Any, ids: Any, mask: Any, numbers: Any,
    key: Any, most: Any,
) -> _State:  # fmt: skip
    """Generate from prompts in one program."""

    def goes_on(found: _State) -> Any:
        return (found.made < most) & ~found.is_done.all()

    first = _begin(graph, options, new_slots, state, ids, mask, numbers, key)
    return jax.lax.while_loop(goes_on, partial(_advance, graph, options, state, numbers), first)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _begin(
    graph: Any, options: Options, new_slots: int, state: Any, ids: Any, mask: Any, numbers: Any,
    key: Any,
) -> _State:  # fmt: skip
    """Read the prompts, and choose the first token."""
    lm = nnx.merge(graph, state)
    batch, length = ids.shape
    out = lm(ids, mask, lm.init_cache(batch, length + new_slots), logits_to_keep=1)
    tokens = jnp.full((batch, length + new_slots), options.pad, jnp.int32).at[:, :length].set(ids)
    none = jnp.zeros((batch, new_slots), jnp.float32) if options.logprobs else None
    zeros, no = jnp.zeros(batch, jnp.int32), jnp.zeros(batch, bool)
    start = _State(jnp.asarray(0, jnp.int32), zeros, no, zeros, tokens, none, out.cache, key)
    return _chosen(options, numbers, start, out.logits[:, -1])


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=4)
def _advance(graph: Any, options: Options, state: Any, numbers: Any, found: _State) -> _State:
    """Read the last token, and choose the next."""
    out = nnx.merge(graph, state)(found.token[:, None], cache=found.cache)
    return _chosen(options, numbers, found._replace(cache=out.cache), out.logits[:, 0])


def _chosen(options: Options, numbers: Any, found: _State, logits: jax.Array) -> _State:
    """Choose a token from logits, and keep it."""
    made, cache = found.made, found.cache
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    is_token = cache.mask & (jnp.arange(cache.mask.shape[1]) < cache.length)[None]
    if options.processor is not None:
        logits = options.processor(found.tokens, is_token, logits)
    logits = process(logits, found.tokens, is_token, top_k=options.top_k, **numbers)
    key = found.key
    if key is not None:
        key, own = jax.random.split(key)
        token = sample(own, logits).astype(jnp.int32)
    else:
        token = jnp.argmax(logits, -1).astype(jnp.int32)
    token = jnp.where(found.is_done, options.pad, token)
    place = cache.length  # the slot that the token will have
    tokens = jax.lax.dynamic_update_slice_in_dim(found.tokens, token[:, None], place, 1)
    logprobs = found.logprobs
    if logprobs is not None:
        of_all = jax.nn.log_softmax(logits, -1)
        own_logprob = jnp.take_along_axis(of_all, token[:, None], -1)
        own_logprob = jnp.where(found.is_done[:, None], 0, own_logprob).astype(logprobs.dtype)
        logprobs = jax.lax.dynamic_update_slice_in_dim(logprobs, own_logprob, made, 1)
    ends = jnp.isin(token, jnp.asarray(options.eos, jnp.int32)) if options.eos else found.is_done
    lengths = found.lengths + (~found.is_done).astype(jnp.int32)
    return _State(
        made + 1, token, found.is_done | ends, lengths, tokens, logprobs,
        cache, key,
    )  # fmt: skip
