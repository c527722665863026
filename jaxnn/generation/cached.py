"""A causal model of transformers, whose cache is made of plain tensors that come and go."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from functools import cache as once
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ..interop.importer.operators import operator
from .cache import Cache, DecoderOutput, Layout

if TYPE_CHECKING:
    import torch


def with_plain_cache(model: Any) -> Any:
    """Return the model with the same parts and parameters, called as a `Decoder` is.

    Raises:
        NotImplementedError: if it has no cache, or one of another kind than keys and values.
    """
    _library()
    twin = copy.copy(model)
    original: Any = type(model)
    twin.__class__ = _forward_of(original)
    return twin


def layout_of(model: Any) -> Layout:
    """Return the sizes of the model's cache, as a call of it with one token fills it.

    Raises:
        NotImplementedError: if it has no cache, or one of another kind than keys and values.
    """
    import torch
    from transformers import cache_utils

    name = type(model).__name__
    ids = torch.zeros((1, 2), dtype=torch.int64, device=model.device)
    with torch.no_grad():
        found = getattr(model(input_ids=ids, use_cache=True), _name_of_cache(model), None)
    if found is None or not getattr(found, "layers", None):
        raise NotImplementedError(
            f"jaxnn.from_transformers: {name} returns no cache of keys and values, so it cannot go "
            "on from the tokens before; import it by jaxnn.from_torch, and run it on all tokens"
        )
    known = (cache_utils.DynamicLayer, cache_utils.DynamicSlidingWindowLayer)
    for number, layer in enumerate(found.layers):
        if type(layer) not in known:
            raise NotImplementedError(
                f"jaxnn.from_transformers: layer {number} of {name} keeps a {type(layer).__name__},"
                " which is more than keys and values; such models cannot be had yet"
            )
    keys, values = zip(*((layer.keys, layer.values) for layer in found.layers), strict=True)
    return Layout(
        tuple((t.shape[1], t.shape[3]) for t in keys),
        tuple((t.shape[1], t.shape[3]) for t in values),
        str(keys[0].dtype).removeprefix("torch."), int(model.config.get_text_config().vocab_size),
        _most_positions(model),
    )  # fmt: skip


def calls_of(layout: Layout) -> Iterator[dict[str, Any]]:
    """Yield a call of each kind: without a cache, with one, and of a single token."""
    import torch

    def ids(*shape: int) -> torch.Tensor:
        count = shape[0] * shape[1]
        return (torch.arange(count) * 7 % layout.vocabulary).reshape(shape)

    yield {"input_ids": ids(2, 5), "attention_mask": _left_padded(2, 5)}
    yield {"input_ids": ids(2, 5)}
    for length in (5, 1):
        yield {
            "input_ids": ids(2, length), "attention_mask": _left_padded(2, length),
            "cache": _example_of_cache(layout), "logits_to_keep": torch.arange(length)[-3:],
        }  # fmt: skip


def takes_labels(model: Any) -> bool:
    """Whether the model's loss is the cross entropy of each token and the logits before it."""
    import torch
    from torch.nn.functional import cross_entropy

    if next(model.parameters()).is_meta:
        return True
    ids = torch.arange(12).reshape(2, 6) % 5
    labels = ids.clone()
    labels[1, 3:] = -100
    with torch.no_grad():
        found = model(input_ids=ids, labels=labels)
    wanted = cross_entropy(found.logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
    return found.loss is not None and bool(torch.allclose(found.loss, wanted, rtol=1e-4))


def free_sizes(layout: Layout) -> dict[str, dict[int, str]]:
    """Return the sizes of these calls that may differ, by name."""
    ids, kept = {0: "batch", 1: "length"}, {0: "batch", 2: "slots"}
    found = {"input_ids": ids, "attention_mask": ids, "logits_to_keep": {0: "kept"}}
    found["cache['mask']"] = {0: "batch", 1: "slots"}
    for name in ("keys", "values"):
        for layer in range(len(layout.keys)):
            found[f"cache[{name!r}][{layer}]"] = kept
    return found


def _left_padded(batch: int, length: int) -> torch.Tensor:
    import torch

    mask = torch.ones((batch, length), dtype=torch.bool)
    if length > 1:
        mask[1, :2] = False
    return mask


def _example_of_cache(layout: Layout, slots: int = 11, taken: int = 3) -> Any:
    import torch

    dtype = getattr(torch, layout.dtype)
    generator = torch.Generator().manual_seed(0)

    def drawn(heads: int, size: int) -> Any:
        made = torch.randn((2, heads, slots, size), generator=generator)
        made[:, :, taken:] = 0
        return made.to(dtype)

    mask: Any = torch.zeros((2, slots), dtype=torch.bool)
    mask[:, :taken] = True
    length: Any = torch.tensor(taken)
    return Cache(
        tuple(drawn(*sizes) for sizes in layout.keys),
        tuple(drawn(*sizes) for sizes in layout.values), mask, length,
    )  # fmt: skip


def _name_of_cache(model: Any) -> str:
    named = inspect.signature(type(model).forward).parameters
    return "cache" if "cache" in named else "past_key_values"


def _most_positions(model: Any) -> int | None:
    """Return how many positions a model with a table of them has; None for others."""
    import torch

    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    tables = [
        name.rpartition(".")[2]
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Embedding)
    ]
    has_table = any("position" in name or name == "wpe" for name in tables)
    return int(most) if most is not None and has_table else None


@once
def _forward_of(original: Any) -> type[Any]:
    """Return a class whose forward pass takes and returns the cache as plain tensors."""
    import torch

    named = inspect.signature(original.forward).parameters
    of_cache = "cache" if "cache" in named else "past_key_values"

    class WithPlainCache(original):  # type: ignore[misc, valid-type]
        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor | None = None,
            cache: Any = None,
            position_ids: torch.Tensor | None = None,
            logits_to_keep: torch.Tensor | None = None,
        ) -> DecoderOutput:
            given: dict[str, Any] = {"input_ids": input_ids, "return_dict": True}
            if cache is None:
                given |= {"attention_mask": attention_mask, "use_cache": False}
                given |= {} if position_ids is None else {"position_ids": position_ids}
                return DecoderOutput(super().forward(**given).logits)
            is_token = torch.ones_like(input_ids, dtype=torch.bool)
            if attention_mask is not None:
                is_token = attention_mask.bool()
            slots = cache.mask.shape[1]
            write = torch.ops.jaxnn_decoder.write_slots
            mask = write(cache.mask, is_token, cache.length, 1)
            if position_ids is None:
                taken = torch.arange(slots, device=mask.device) < cache.length
                seen = (cache.mask & taken).sum(1, keepdim=True)
                position_ids = (seen + is_token.cumsum(1) - 1).clamp(min=0)
            if "position_ids" in named:
                given["position_ids"] = position_ids
            layers = [
                _slots(*pair, cache.length) for pair in zip(cache.keys, cache.values, strict=True)
            ]
            given |= {"attention_mask": mask, "use_cache": True, of_cache: _cache_of(layers)}
            if "logits_to_keep" in named:
                given["logits_to_keep"] = logits_to_keep
            logits = super().forward(**given).logits
            if "logits_to_keep" not in named:
                logits = logits[:, logits_to_keep]
            length = cache.length + input_ids.shape[1]
            # What does not fit is no number, since a program can't refuse it.
            logits = torch.where(length <= slots, logits, torch.nan)
            kept = Cache(
                tuple(x.keys for x in layers), tuple(x.values for x in layers), mask, length
            )
            return DecoderOutput(logits, kept)

    WithPlainCache.__name__ = original.__name__
    return WithPlainCache


@once
def _classes() -> tuple[type[Any], type[Any]]:
    import torch
    from transformers.cache_utils import Cache as TheirCache
    from transformers.cache_utils import CacheLayerMixin

    class Slots(CacheLayerMixin):  # type: ignore[misc]
        """A layer's keys and values, with those of the new tokens in the slots behind."""

        is_sliding, is_compileable = False, True
        keys: Any
        values: Any

        def __init__(self, keys: Any, values: Any, length: Any) -> None:
            super().__init__()
            self.keys, self.values, self.length = keys, values, length
            self.is_initialized = True

        def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
            pass

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> Any:
            write = torch.ops.jaxnn_decoder.write_slots
            self.keys = write(self.keys, key_states, self.length, 2)
            self.values = write(self.values, value_states, self.length, 2)
            return self.keys.to(key_states.dtype), self.values.to(value_states.dtype)

        def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
            return self.keys.shape[2], 0

        def get_seq_length(self) -> Any:
            return self.length

        def get_max_length(self) -> int:
            return int(self.keys.shape[2])

    return Slots, TheirCache


def _slots(keys: Any, values: Any, length: Any) -> Any:
    return _classes()[0](keys, values, length)


def _cache_of(layers: list[Any]) -> Any:
    return _classes()[1](layers=layers)


# --- an operator of its own: none of torch's writes at a place that is a tensor -------------------


@once
def _library() -> Any:
    import torch

    def slots(whole: torch.Tensor, start: torch.Tensor, dim: int, count: int) -> torch.Tensor:
        begin = start.clamp(0, whole.shape[dim] - count)
        return torch.arange(count, device=whole.device) + begin

    def write_slots(
        self: torch.Tensor, new: torch.Tensor, start: torch.Tensor, dim: int
    ) -> torch.Tensor:
        index = slots(self, start, dim, new.shape[dim])
        return self.index_copy(dim, index, new.to(self.dtype))

    def keep(ctx: Any, inputs: Any, output: Any) -> None:
        _, new, start, dim = inputs
        ctx.save_for_backward(start)
        ctx.dim, ctx.count, ctx.dtype = dim, new.shape[dim], new.dtype

    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        index = slots(gradient, ctx.saved_tensors[0], ctx.dim, ctx.count)
        of_new = gradient.index_select(ctx.dim, index).to(ctx.dtype)
        return gradient.index_fill(ctx.dim, index, 0), of_new, None, None

    library = torch.library.Library("jaxnn_decoder", "DEF")
    library.define("write_slots(Tensor self, Tensor new, Tensor start, int dim) -> Tensor")
    library.impl("write_slots", write_slots, "CompositeExplicitAutograd")
    name = "jaxnn_decoder::write_slots"
    torch.library.register_fake(name, lambda self, new, start, dim: torch.empty_like(self))
    torch.library.register_autograd(name, backward, setup_context=keep)
    return library


@operator("write_slots")
def _write_slots(self: jax.Array, new: jax.Array, start: jax.Array, dim: int) -> jax.Array:
    begin = jnp.asarray(start, jnp.int32)
    return jax.lax.dynamic_update_slice_in_dim(self, new.astype(self.dtype), begin, dim)
