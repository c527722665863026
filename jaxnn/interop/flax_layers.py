"""Flax's own layers under torch's names: one rule for each kind of layer.

A rule says which variables of a layer hold which arrays of torch. What a rule does not speak of,
such as an adapter that a subclass of `nnx.Linear` adds, keeps its own name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import nnx

from .layout import (
    ALONE,
    CONVOLUTION,
    FLAT,
    SAME,
    TRANSPOSED_CONVOLUTION,
    Entry,
    Join,
    Layout,
    dense,
    shape_of,
)


@dataclass(frozen=True)
class Slot:
    """An entry of a kind of layer, by the names of its variables in the layer."""

    keys: tuple[str, ...]
    paths: tuple[str, ...]
    layout: Layout = SAME
    join: Join = ALONE


Rule = Callable[[Any], Sequence[Slot]]


def entries_of(layer: Any, prefix: str = "") -> Iterator[Entry]:
    """Yield the entries of one of Flax's layers, in torch's order; nothing for any other object.

    Args:
        layer: any object.
        prefix: what stands before the names, with its dot.
    """
    rule = next((RULES[kind] for kind in type(layer).__mro__ if kind in RULES), None)
    for slot in rule(layer) if rule else ():
        found = {prefix + path: variable_at(layer, path) for path in slot.paths}
        variables = {name: variable for name, variable in found.items() if variable is not None}
        if len(variables) == len(found):
            keys = tuple(prefix + key for key in slot.keys)
            yield Entry(keys, variables, slot.layout, slot.join)


def variable_at(layer: Any, path: str) -> nnx.Variable[Any] | None:
    """Return the variable at a path such as "query.kernel", or None where there is none."""
    for name in path.split("."):
        layer = getattr(layer, name, None)
    return layer if isinstance(layer, nnx.Variable) else None


def linear(layer: Any) -> list[Slot]:
    """nnx.Linear, nnx.LinearGeneral: torch.nn.Linear of as many features, flattened."""
    if getattr(layer, "batch_axis", None):
        return []
    features = getattr(layer, "in_features", 1)
    if not isinstance(features, tuple):
        return [Slot(("weight",), ("kernel",), dense()), Slot(("bias",), ("bias",))]
    return [Slot(("weight",), ("kernel",), dense(len(features))), Slot(("bias",), ("bias",), FLAT)]


def convolution(layer: Any) -> list[Slot]:
    """nnx.Conv: torch.nn.Conv1d, Conv2d and Conv3d."""
    return [Slot(("weight",), ("kernel",), CONVOLUTION), Slot(("bias",), ("bias",))]


def transposed_convolution(layer: Any) -> list[Slot]:
    """nnx.ConvTranspose: torch.nn.ConvTranspose1d, 2d and 3d, of one group."""
    # With transpose_kernel, Flax swaps and flips as torch does, at the call.
    is_swapped = getattr(layer, "transpose_kernel", False)
    layout = CONVOLUTION if is_swapped else TRANSPOSED_CONVOLUTION
    return [Slot(("weight",), ("kernel",), layout), Slot(("bias",), ("bias",))]


def normalization(layer: Any) -> list[Slot]:
    """nnx.LayerNorm, RMSNorm, GroupNorm and InstanceNorm."""
    return [Slot(("weight",), ("scale",)), Slot(("bias",), ("bias",))]


def batch_normalization(layer: Any) -> list[Slot]:
    """nnx.BatchNorm, which does not count the batches."""
    statistics = [Slot(("running_mean",), ("mean",)), Slot(("running_var",), ("var",))]
    return [*normalization(layer), *statistics, Slot(("num_batches_tracked",), ())]


def embedding(layer: Any) -> list[Slot]:
    """nnx.Embed: torch.nn.Embedding."""
    return [Slot(("weight",), ("embedding",))]


def parametric_relu(layer: Any) -> list[Slot]:
    """nnx.PReLU: torch.nn.PReLU of one slope."""
    return [Slot(("weight",), ("negative_slope",), FLAT)]


def attention(layer: Any) -> list[Slot]:
    """nnx.MultiHeadAttention: torch.nn.MultiheadAttention with batch_first.

    As in torch, the three projections are one array where their inputs have equally many features.
    """
    names = ("query", "key", "value")
    kernels, biases = tuple(f"{n}.kernel" for n in names), tuple(f"{n}.bias" for n in names)
    inputs = {shape_of(v)[0] for path in kernels if (v := variable_at(layer, path)) is not None}
    weights = [Slot(("in_proj_weight",), kernels, dense())]
    if len(inputs) > 1:
        parted = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        weights = [
            Slot((key,), (path,), dense()) for key, path in zip(parted, kernels, strict=True)
        ]
    return [
        *weights,
        Slot(("in_proj_bias",), biases, FLAT),
        Slot(("out_proj.weight",), ("out.kernel",), dense(2)),
        Slot(("out_proj.bias",), ("out.bias",)),
    ]


_BIASES = ("bias_ih", "bias_hh")


def _sum(arrays: Sequence[np.ndarray]) -> np.ndarray:
    # In float64, so that the model's dtype rounds once.
    return np.asarray(sum(array.astype(np.float64) for array in arrays))


_ADDED = Join(_sum, lambda bias: [bias, np.zeros_like(bias)])


def _join_gru(biases: Sequence[np.ndarray]) -> np.ndarray:
    if np.any(biases[1][2 * len(biases[1]) // 3 :] != 0):
        raise ValueError(
            "the last third of bias_hh, torch's b_hn, is not zero, and nnx.GRUCell has no such "
            "bias; use jaxnn.GRUCell"
        )
    return _sum(biases)


_ADDED_WITHOUT_B_HN = Join(_join_gru, _ADDED.part)


def recurrent(input: tuple[str, ...], hidden: tuple[str, ...], bias: str, join: Join) -> Rule:
    """Return the rule of a recurrent cell, one of whose two biases Flax leaves out.

    Args:
        input: the layers that take the input, in the order of torch's gates.
        hidden: those that take the hidden state.
        bias: which of the two have a bias, "input" or "hidden".
        join: how torch's two biases become the one.
    """
    biased = {"input": input, "hidden": hidden}[bias]
    slots = [
        Slot(("weight_ih",), tuple(f"{name}.kernel" for name in input), dense()),
        Slot(("weight_hh",), tuple(f"{name}.kernel" for name in hidden), dense()),
        Slot(_BIASES, tuple(f"{name}.bias" for name in biased), SAME, join),
    ]
    return lambda layer: slots


def lstm(forget: str) -> Rule:
    """Return the rule of a cell with a layer for each gate, given the forget gate's name."""
    hidden = ("hi", "hf", "hg", "ho")
    return recurrent(("ii", forget, "ig", "io"), hidden, "hidden", _ADDED)


simple_cell = recurrent(("i",), ("h",), "input", _ADDED)


def _join_linen_gru(biases: Sequence[np.ndarray]) -> np.ndarray:
    input, hidden = (bias.astype(np.float64) for bias in biases)
    gates = 2 * len(input) // 3
    return np.concatenate([input[:gates] + hidden[:gates], input[gates:], hidden[gates:]])


def _part_linen_gru(bias: np.ndarray) -> list[np.ndarray]:
    new = 3 * len(bias) // 4
    return [bias[:new], np.concatenate([np.zeros_like(bias[: new * 2 // 3]), bias[new:]])]


def linen_gru(layer: Any) -> list[Slot]:
    """flax.linen.GRUCell, which has torch's b_hn beside one bias for each gate."""
    input, hidden = ("ir", "iz", "in"), ("hr", "hz", "hn")
    weights = recurrent(input, hidden, "input", _ADDED)(layer)[:2]
    biases = (*(f"{name}.bias" for name in input), "hn.bias")
    return [*weights, Slot(_BIASES, biases, SAME, Join(_join_linen_gru, _part_linen_gru))]


RULES: dict[type, Rule] = {
    nnx.Linear: linear,
    nnx.LinearGeneral: linear,
    nnx.Conv: convolution,
    nnx.ConvTranspose: transposed_convolution,
    nnx.BatchNorm: batch_normalization,
    nnx.LayerNorm: normalization,
    nnx.RMSNorm: normalization,
    nnx.GroupNorm: normalization,
    nnx.InstanceNorm: normalization,
    nnx.Embed: embedding,
    nnx.PReLU: parametric_relu,
    nnx.MultiHeadAttention: attention,
    nnx.LSTMCell: lstm("if_"),
    nnx.OptimizedLSTMCell: recurrent(("dense_i",), ("dense_h",), "hidden", _ADDED),
    nnx.GRUCell: recurrent(("dense_i",), ("dense_h",), "input", _ADDED_WITHOUT_B_HN),
    nnx.SimpleCell: recurrent(("dense_i",), ("dense_h",), "input", _ADDED),
}
"""The rule of each kind of layer; a subclass has that of its nearest base."""
