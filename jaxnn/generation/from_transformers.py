"""The way of a causal language model of transformers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flax import nnx

from ..interop.importer.importation import import_model
from ..interop.proof.comparing import Check, check_import
from .cached import calls_of, free_sizes, layout_of, takes_labels, with_plain_cache
from .decoder import Decoder


def from_transformers(
    model: Any,
    *,
    rngs: nnx.Rngs | None = None,
    check: Check = True,
) -> Decoder:
    """Return a causal language model of transformers as one in JAX, which `generate` goes on from.

    It is imported once, for batches, lengths and caches of any size. Dropout, the mode and the
    names of the weights are the original's.

    Args:
        model: the model, as `LlamaForCausalLM`; or a folder with its config.json and safetensors,
            which is read without asking any network.
        rngs: where dropout forks its streams of random numbers from.
        check: whether the import proves itself before it is returned; see `from_torch`.

    Raises:
        FileNotFoundError: if the folder has no config.json, or lacks a file of weights.
        TypeError: if it is no causal language model.
        NotImplementedError: if it keeps more of the tokens before than keys and values, by name.
        ValueError: if the import departs from the original, as in `from_torch`.

    Source: transformers' AutoModelForCausalLM.
    """
    if isinstance(model, (str, os.PathLike)):
        model = _read(Path(model))
    name = type(model).__name__
    if not hasattr(model, "generation_config") or not hasattr(model, "config"):
        raise TypeError(
            f"jaxnn.from_transformers: {name} is no causal language model of transformers, such as "
            "LlamaForCausalLM; import other models by jaxnn.from_torch"
        )
    if model.config.is_encoder_decoder:
        raise NotImplementedError(
            f"jaxnn.from_transformers: {name} has an encoder, which cannot be had yet; import it "
            "by jaxnn.from_torch"
        )
    layout = layout_of(model)
    twin = with_plain_cache(model)
    calls = [((), call) for call in calls_of(layout)]
    made = import_model(twin, calls, rngs, free_sizes(layout), root=Decoder)
    net = check_import(made.net, twin, made.calls, check)
    assert isinstance(net, Decoder)
    net.layout = layout
    net.takes_labels = takes_labels(model)
    net.eos_token_id = _as_tuple(model.generation_config.eos_token_id)
    net.pad_token_id = model.generation_config.pad_token_id
    return net


def _as_tuple(tokens: int | Sequence[int] | None) -> tuple[int, ...]:
    if tokens is None:
        return ()
    return (tokens,) if isinstance(tokens, int) else tuple(tokens)


def _read(folder: Path) -> Any:
    import transformers

    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"jaxnn.from_transformers: {folder} has no config.json; give a folder that "
            "model.save_pretrained has written"
        )
    return transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
