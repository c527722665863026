"""Padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")

_NUMPY_MODES: dict[str, Any] = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}


def pad_spatial(
    input: Num[Array, "*N C *spatial"], padding: Sequence[tuple[int, int]], mode: str, layer: str
) -> Num[Array, "*N C *padded"]:
    """Pad the last dimensions as convolution layers do: one pair (before, after) a dimension.

    Raises:
        ValueError: if a "reflect" padding is not smaller than its dimension, or a "circular" one
            larger.
    """
    for dim, pads in zip(range(-len(padding), 0), padding, strict=True):
        _check_size(input, dim, max(pads), mode, layer)
    kept = [(0, 0)] * (input.ndim - len(padding))
    return jnp.pad(input, [*kept, *padding], mode=_NUMPY_MODES[mode])


def _check_size(input: jax.Array, dim: int, largest: int, mode: str, layer: str) -> None:
    size = input.shape[dim]
    # A symbolic size cannot be compared.
    if mode not in ("reflect", "circular") or not isinstance(size, int):
        return
    limit = size - 1 if mode == "reflect" else size
    if largest > limit:
        raise ValueError(
            f"{layer}: `padding` must be at most {limit} in dimension {dim} for a {mode} padding "
            f"of an input of shape {input.shape}, got {largest}"
        )
