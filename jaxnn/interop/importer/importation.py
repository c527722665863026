"""The way of a model: captured in both modes, made of NNX modules, and traced once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from ...modules._module import takes_rngs
from ..checkpoint import as_numpy_or_shape
from .abstract import abstract_as_a_whole, as_meta, is_abstract
from .capturing import MODES, Capturing, reason_of
from .free_sizes import CallOfTorch, Dynamic
from .gradients import refuse_hooks_of_gradients
from .imported import NEEDS_VALUES, Imported, refuse_mode
from .layers import layer_name
from .making import make
from .naming import second_names, sharing_memory
from .probing import runs_in_mode
from .structures import call_in_jax, copied_call
from .tree import ModelPrograms, ModelTree, tree_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Importation:
    """A model's import.

    Attributes:
        net: the model as a tree of NNX modules.
        tree: the tree of the original that it is made from.
        calls: the examples, and calls of other sizes that have a program of their own.
        programs: what the model's modules do.
    """

    net: nnx.Module
    tree: ModelTree
    calls: tuple[CallOfTorch, ...]
    programs: ModelPrograms


def import_model(
    model: torch.nn.Module,
    examples: Sequence[CallOfTorch],
    rngs: nnx.Rngs | None,
    dynamic: Dynamic,
    known: ModelPrograms | None = None,
    root: type[Imported] = Imported,
) -> Importation:
    """Return a model as a tree of NNX modules.

    Args:
        model: the original, which is left as it was.
        examples: the positional and keyword arguments of calls, one of each kind.
        rngs: where what draws forks its streams from.
        dynamic: which sizes may differ, where the model allows it; see `from_torch`.
        known: the programs that there are already, to which those of the examples come.
        root: the class of the whole.

    Raises:
        NotImplementedError: if it uses unknown operators, or cannot run as a program.
        ValueError: if it cannot be captured, or depends on what an import cannot keep.
    """
    refuse_hooks_of_gradients(model)
    if is_abstract(model):
        examples = [copied_call(*call, as_meta) for call in examples]
    for one, other in sharing_memory(model):
        warnings.warn(
            f"jaxnn.from_torch: {one} and {other} share memory, so that a change of one changes "
            "the other; the import has each by itself: use one Parameter under both names, or "
            "compute one from the other",
            stacklevel=3,
        )
    programmed = ModelPrograms()
    calls = tuple(examples)
    if layer_name(model) is None:
        capturing = Capturing(model, examples, dynamic, known)
        with abstract_as_a_whole(model):
            programmed = capturing.run()
        calls += tuple(capturing.beside)
        for note in dict.fromkeys(capturing.notes):
            warnings.warn(f"jaxnn.from_torch: {note}", stacklevel=3)
    tree = tree_of(model, programmed, second_names(model))
    net = make(tree, rngs, root)
    for training, programs in programmed.programs.items():
        if isinstance(net, Imported) and isinstance(programs, str):
            told = f"{type(model).__name__} has no {MODES[training]} mode: {programs}"
            warnings.warn(f"jaxnn.from_torch: {told}", stacklevel=3)
    for call in examples:
        _try(net, tree, *call)
    return Importation(net, tree, calls, programmed)


def _try(net: Any, tree: ModelTree, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Trace the net on the example in both modes, so that what cannot run is said now."""
    model: Any = tree.root.module
    for training, programs in ((True, tree.root.training), (False, tree.root.evaluation)):
        if isinstance(programs, str):
            continue
        reason = _reason_not_to_run(net, training, args, kwargs)
        if reason is None or not (
            is_abstract(model) or runs_in_mode(model, (args, dict(kwargs)), training)
        ):
            continue
        text = f"{type(model).__name__} cannot run in {MODES[training]} mode: {reason}"
        if training == model.training or not isinstance(net, Imported):
            raise NotImplementedError(f"jaxnn.from_torch: {text}")
        refuse_mode(net, training, reason)
        warnings.warn(f"jaxnn.from_torch: {text}", stacklevel=4)


def _reason_not_to_run(
    net: nnx.Module, training: bool, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str | None:
    view = nnx.view(
        net, deterministic=not training, use_running_average=not training,
        raise_if_not_found=False,
    )  # fmt: skip
    graph, state = nnx.split(view)
    leaves, structure = jax.tree.flatten(call_in_jax(args, kwargs, _array))
    arrays = [leaf for leaf in leaves if _is_given(leaf)]

    def run(state: Any, arrays: list[Any]) -> Any:
        given = iter(arrays)
        values = [next(given) if _is_given(leaf) else leaf for leaf in leaves]
        args, kwargs = jax.tree.unflatten(structure, values)
        if takes_rngs(net):
            kwargs = {**kwargs, "rngs": jax.random.key(0)}
        found = nnx.merge(graph, state)(*args, **kwargs)
        return [leaf for leaf in jax.tree.leaves(found) if isinstance(leaf, jax.Array)]

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jax.eval_shape(run, state, arrays)
    except Exception as error:
        where = "; ".join(getattr(error, "__notes__", [])[:1])
        reason = reason_of(error, 2)
        if isinstance(error, NEEDS_VALUES):
            reason = "a size or a branch depends on a tensor's values, which a program has not"
        return f"{reason}{f' ({where})' if where else ''}"
    return None


def _array(tensor: torch.Tensor) -> jax.Array | jax.ShapeDtypeStruct:
    found = as_numpy_or_shape(tensor)
    return found if isinstance(found, jax.ShapeDtypeStruct) else jnp.asarray(found)


def _is_given(leaf: Any) -> bool:
    """Whether a leaf of the example is an array, or stands for one on torch's meta device."""
    return isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct))
