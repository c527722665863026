"""`add_lora`: low-rank adapters, which are trained in place of a model's own weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from .._checks import check_int
from .._dtypes import accumulation_dtype
from ..modules import AdaptiveLogSoftmaxWithLoss, Conv2d, Embedding, MultiheadAttention
from ..modules._module import RandomSource, keys_for_parts
from ..modules._state import check_module, nodes_of, refuse_abstract, title
from .importer.imported import Imported, programs_of, source_of
from .importer.program import Body, Operation, State, leaves
from .importer.tying import tied_in_place
from .lora_layers import ADAPTED, KINDS, Kind

_ADD = "jaxnn.interop.add_lora"
# Layers that use the weights of layers inside of them.
_READS_WEIGHTS = (MultiheadAttention, AdaptiveLogSoftmaxWithLoss)


def add_lora(
    net: nnx.Module,
    pattern: str | Sequence[str],
    rank: int = 8,
    alpha: float = 8,
    *,
    dropout: float = 0.0,
    rslora: bool = False,
    rngs: RandomSource,
) -> tuple[str, ...]:
    r"""Add low-rank adapters to layers of a model, in place.

    Such a layer gives f(x) + B A dropout(x) * scaling, with A of `rank` rows, drawn as a linear
    layer is, and B = 0: at first the model computes what it computed. A and B are
    `nnx.LoRAParam`, in float32 where the weights are narrower, and are trained alone by an
    `nnx.Optimizer(net, tx, wrt=nnx.LoRAParam)`. They are under `lora.lora_A` and `lora.lora_B`
    of the layer, and in no `jaxnn.state_dict`.

    A `Linear`, an `Embedding` (drawn the other way round: A = 0), a `Conv2d`, and what the Conv1D
    of transformers has become take one.

    Args:
        net: the whole model, imported or made of jaxnn's layers. A part of one does not know with
            whom outside of it a layer shares its weight.
        pattern: as PEFT's `target_modules`: a regular expression for the whole path of a layer,
            such as r"model\.layers\.\d+\.self_attn\.(q|v)_proj", or a list of paths or of how
            they end, such as ["q_proj", "v_proj"].
        rank: the number of rows of A and of columns of B.
        alpha: scaling is alpha / rank.
        dropout: the probability with which an element of x is dropped, in training mode.
        rslora: whether scaling is alpha / sqrt(rank) instead.
        rngs: where A is drawn from, and the streams of the dropout are forked.

    Returns:
        The paths of the layers.

    Raises:
        ValueError: if no part has such a path; if one takes no adapter, has one already, or shares
            its weight with another part; if an option is out of range. The model is unchanged.
        TypeError: if an option is not of its type.

    Source: Hu et al., 2021; peft.LoraConfig.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> net = jaxnn.Sequential(jaxnn.Linear(4, 3, rngs=nnx.Rngs(0)), jaxnn.ReLU())
        >>> jaxnn.interop.add_lora(net, "0", rank=2, alpha=4, rngs=nnx.Rngs(1))
        ('0',)
        >>> net
        Sequential(
          (0): LoRALinear(
            in_features=4, out_features=3, bias=True
            (lora): LoRA(rank=2, alpha=4, dropout=0.0, rslora=False)
          )
          (1): ReLU()
        )
        >>> list(jaxnn.state_dict(net))
        ['0.weight', '0.bias']
    """
    rank = check_int(rank, "rank", _ADD, minimum=1)
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)):
        raise TypeError(f"{_ADD}: `alpha` must be a number, got {alpha!r}")
    if not 0 <= dropout <= 1:
        raise ValueError(f"{_ADD}: `dropout` must be a probability, from 0 to 1, got {dropout!r}")
    chosen = places(net, _named(net, pattern), "add_lora")
    streams: Any = keys_for_parts(rngs)
    for place in chosen:
        weight: Any = place.weight
        dtype = accumulation_dtype(weight.dtype)
        lora_A, lora_B = place.kind.adapter.drawn(weight.shape, rank, dtype, streams)
        place.attach(lora_A, lora_B, alpha=alpha, dropout=dropout, rslora=rslora, rngs=streams)
    return tuple(place.path for place in chosen)


def merge_lora(net: nnx.Module) -> tuple[str, ...]:
    """Add what the adapters of a model do to its weights, and take them out, in place.

    weight + B A * scaling, computed in the dtype of the adapter.

    Args:
        net: a model with adapters.

    Returns:
        The paths of the layers that had one.

    Raises:
        ValueError: if there is no adapter, or the model is abstract.

    Source: peft.LoraModel.merge_and_unload.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> net = jaxnn.Sequential(jaxnn.Linear(4, 3, rngs=nnx.Rngs(0)))
        >>> paths = jaxnn.interop.add_lora(net, "0", rngs=nnx.Rngs(1))
        >>> jaxnn.interop.merge_lora(net)
        ('0',)
        >>> net
        Sequential(
          (0): Linear(in_features=4, out_features=3, bias=True)
        )
    """
    found = adapted_layers(net, "merge_lora")
    refuse_abstract(net)
    for layer in found.values():
        value, added = layer.weight.get_value(), layer.lora.added_weight()
        merged = (value.astype(added.dtype) + added).astype(value.dtype)
        layer.weight.set_value(jax.device_put(merged, value.sharding))
        layer.__class__ = next(kind.plain for kind in KINDS if type(layer) is kind.adapted)
        del layer.lora
    return tuple(found)


def adapted_layers(net: nnx.Module, function: str) -> dict[str, Any]:
    """Return the layers of a model that have an adapter, by path.

    Raises:
        ValueError: if there are none.
    """
    found = {path: node for path, node in parts_of(net).items() if isinstance(node, ADAPTED)}
    if not found:
        raise ValueError(
            f"jaxnn.interop.{function}: {title(net)} has no adapters; jaxnn.interop.add_lora or "
            "load_lora adds them"
        )
    return found


# --- which layers -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A layer that is to have an adapter.

    Attributes:
        path: where it is.
        layer: the layer.
        kind: what it becomes.
        evaluates: whether it is in evaluation mode.
    """

    path: str
    layer: Any
    kind: Kind
    evaluates: bool

    @property
    def weight(self) -> Any:
        """The array of its weight, or its shape and dtype."""
        return self.layer.weight.get_value()

    def attach(self, lora_A: jax.Array, lora_B: jax.Array, **options: Any) -> None:
        """Let the layer have an adapter."""
        adapter = self.kind.adapter(lora_A, lora_B, **options)
        adapter.deterministic = self.evaluates
        self.layer.lora = adapter
        self.layer.__class__ = self.kind.adapted


def parts_of(net: nnx.Module) -> dict[str, nnx.Module]:
    """Return the modules of a model by path, each under its first."""
    check_module(net)
    found: dict[int, tuple[str, nnx.Module]] = {}
    for prefix, node in nodes_of(net, "", ()):
        if isinstance(node, nnx.Module):
            found.setdefault(id(node), (prefix[:-1], node))
    return dict(found.values())


def places(net: nnx.Module, paths: Sequence[str], function: str) -> list[Place]:
    """Return the layers at some paths of a model, that are to have adapters.

    Args:
        net: the model.
        paths: the paths, which there are.
        function: who asks.

    Raises:
        ValueError: if one takes no adapter, with the reason for each.
    """
    whole: Any = net
    while inside := getattr(whole, "_transparent", None):
        whole = getattr(whole, inside)
    with tied_in_place(whole) if isinstance(whole, Imported) else nullcontext():
        parts = parts_of(net)
        reads = _weights_read(parts)
        found, problems = [], []
        for path in paths:
            kind, reason = _kind_of(parts[path]), _refusal(path, parts, reads)
            if kind is None or reason:
                problems.append(f"{path} {reason}")
            else:
                found.append(Place(path, parts[path], kind, _evaluates(path, parts)))
    if problems:
        raise ValueError(
            f"jaxnn.interop.{function}: {title(net)} is unchanged:\n  " + "\n  ".join(problems)
        )
    return found


def _named(net: nnx.Module, pattern: str | Sequence[str]) -> list[str]:
    """Return the paths that a pattern means.

    Raises:
        ValueError: if there are none.
    """
    parts = parts_of(net)
    paths = [path for path in parts if path and _is_meant(path, pattern)]
    if paths:
        return paths
    able = [path for path, node in parts.items() if path and _kind_of(node)]
    ends = ", ".join(sorted({path.rpartition(".")[2] for path in able}))
    raise ValueError(
        f"{_ADD}: no part of {title(net)} is named by {pattern!r}; "
        + (
            f"those that take an adapter end in {ends}, and the first is {able[0]}; a regular "
            "expression is for the whole path, a list for how paths end"
            if able
            else "it has no layer that takes an adapter"
        )
    )


def _is_meant(path: str, pattern: str | Sequence[str]) -> bool:
    if isinstance(pattern, str):
        return re.fullmatch(pattern, path) is not None
    return any(path == name or path.endswith(f".{name}") for name in pattern)


def _kind_of(node: nnx.Module) -> Kind | None:
    for kind in KINDS:
        if type(node) is kind.plain and (not isinstance(node, Imported) or _is_conv1d(node)):
            return kind
    return None


def _is_conv1d(node: Imported) -> bool:
    """Whether an imported module computes x W + b, as the Conv1D of transformers does."""
    steps = [step for body in _bodies(node) for step in body.steps]
    products = [
        dict(step.arguments) for step in steps
        if isinstance(step, Operation) and step.operator == "addmm"
    ]  # fmt: skip
    return source_of(node) == "Conv1D" and any(
        product["self"] == State("bias") and product["mat2"] == State("weight")
        for product in products
    )


def _refusal(path: str, parts: Mapping[str, Any], reads: Mapping[str, set[str]]) -> str | None:
    """Return why a part takes no adapter, or None where it does."""
    node = parts[path]
    if isinstance(node, ADAPTED):
        return "has an adapter; jaxnn.interop.merge_lora(net) takes it into the weights"
    if _kind_of(node) is None:
        return (
            f"is a {title(node)}, which takes no adapter: Linear, Embedding, Conv2d and the Conv1D "
            "of transformers do"
        )
    if isinstance(node, Embedding) and node.max_norm is not None:
        return "has a max_norm, which a sum of two tables cannot keep"
    if isinstance(node, Conv2d) and not _is_plain(node):
        return "has groups, a dilation or another padding than zeros, which PEFT has no adapter for"
    owners = [other for other, part in parts.items() if _has(part, node.weight)]
    if len(owners) > 1:
        others = ", ".join(owner for owner in owners if owner != path)
        return (
            f"shares its weight with {others}: what is merged into one would change the other; "
            "untie them before the import (tie_word_embeddings=False)"
        )
    readers = reads.get(path, set()) - {path} | {
        above for above in parts
        if path.startswith(f"{above}.") and isinstance(parts[above], _READS_WEIGHTS)
    }  # fmt: skip
    if readers:
        reader = title(parts[min(readers)])
        return f"is not called: {reader} reads its weight itself, so that an adapter had no effect"
    return None


def _is_plain(layer: Conv2d) -> bool:
    return layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros"


def _has(node: nnx.Module, variable: nnx.Variable[Any]) -> bool:
    return any(value is variable for value in vars(node).values())


def _weights_read(parts: Mapping[str, nnx.Module]) -> dict[str, set[str]]:
    """Return the modules whose programs read the parameters of a part, by the path of the part."""
    found: dict[str, set[str]] = {}
    for path, node in parts.items():
        for body in _bodies(node) if isinstance(node, Imported) else ():
            for leaf in leaves((body.output, *(tuple(vars(step).values()) for step in body.steps))):
                if isinstance(leaf, State):
                    owner = f"{path}.{leaf.path}".lstrip(".").rpartition(".")[0]
                    found.setdefault(owner, set()).add(path)
    return found


def _bodies(node: Imported) -> Iterator[Body]:
    for training in (True, False):
        programs = programs_of(node, training)
        yield from () if isinstance(programs, str) else (program.body for program in programs)


def _evaluates(path: str, parts: Mapping[str, Any]) -> bool:
    """Whether a layer is in evaluation mode: as what is around it, or else as all of the model."""
    names = path.split(".")
    around = [".".join(names[:count]) for count in reversed(range(len(names)))]
    modes = [
        parts[above].deterministic for above in around if hasattr(parts.get(above), "deterministic")
    ]
    every = [part.deterministic for part in parts.values() if hasattr(part, "deterministic")]
    return bool(modes[0] if modes else every and all(every))
