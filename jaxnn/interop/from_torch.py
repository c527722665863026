"""`from_torch`: a PyTorch model becomes a tree of Flax NNX modules."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from .call import Call
from .checkpoint import as_tensor
from .importer.free_sizes import CallOfTorch, Dynamic
from .importer.importation import import_model
from .importer.imported import Imported
from .importer.tree import ModelPrograms
from .proof.comparing import Check, check_import
from .recapturing import Recapturing

if TYPE_CHECKING:
    import torch


def from_torch(
    module: torch.nn.Module,
    example_args: Any = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    examples: Sequence[Call] = (),
    rngs: nnx.Rngs | None = None,
    dynamic: Dynamic = "auto",
    recapture: bool = False,
    check: Check = True,
    **removed: Any,
) -> nnx.Module:
    """Return a PyTorch model as a Flax NNX module.

    Its parts have the original's names, and its parameters and buffers the original's keys. Layers
    of torch.nn become those of jaxnn; the code between them is captured by torch.export, in
    training and in evaluation mode, and runs as JAX operations. The result runs without torch.

    A capture holds for calls of the example's structure, with its constants (flags, None), and for
    the sizes under which the model does the same: its conditions. What a call is for is decided
    while it is traced. `jaxnn.interop.programs(net)` lists what there is.

    Args:
        module: the model. It is not changed.
        example_args: the positional arguments of a call, as a tuple, or one tensor. The model is
            run on them.
        example_kwargs: the keyword arguments of that call.
        examples: calls of several kinds, by `jaxnn.call`, in place of `example_args`: with a cache
            and without, with a flag and without. All share the parameters.
        rngs: where dropout and other random parts fork their streams from. Without it, a call that
            draws random numbers needs `rngs` itself.
        dynamic: which sizes may differ from those of the examples. "auto": all for which the model
            allows it; "batch": the leading ones; False: none; or names of dimensions by argument,
            as `{"input_ids": {1: "length"}}`: these alone, each refused if the model fixes it, and
            those of one name are one size. An argument that holds several arrays is named with
            their places, as in `"batch['image']"` or `"features[0]"`.
        recapture: whether a call that no program fits captures the original once more. The result
            keeps the original for that, but a pickle of it does not.
        check: whether the import proves itself before it is returned: outputs, gradients and
            buffers are compared with the original's, in both modes, on the example and on another
            input. "report" warns where True raises. `jaxnn.interop.evidence(net)` says what was
            compared.
        **removed: none; for an error that says what `dynamic_batch` is called now.

    Returns:
        A module that is called like the original, in the original's mode. A layer of torch.nn
        becomes jaxnn's layer itself.

    Raises:
        TypeError: if `module` is not a torch.nn.Module with Python code, or an argument is not a
            tensor, a container or a constant; within a function that JAX traces.
        NotImplementedError: if the model uses operators that have no counterpart in JAX: all are
            listed, each with the line of the model that calls it; or if it cannot run as a program.
        ValueError: if torch.export cannot capture the model, with its reason; if it depends on what
            an import cannot keep, such as state in plain attributes, with line and remedy.
            `jaxnn.interop.ImportDeparts`, a ValueError, if the import departs from the original.

    Warns:
        UserWarning: of what only a person can judge, by name: branches on values, random numbers
            that are not torch's, arguments that are written in place.

    Source: torch.export.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Conv1d(3, 2, 5), torch.nn.ReLU()).eval()
        >>> imported = jaxnn.from_torch(net, torch.ones(1, 3, 8))
        >>> imported(jnp.ones((5, 3, 20))).shape
        (5, 2, 16)
    """
    _refuse_removed(removed)
    check_module(module, "jaxnn.from_torch")
    if isinstance(jnp.zeros(()), jax.core.Tracer):
        raise TypeError(
            "jaxnn.from_torch is called within a function that JAX traces; call it outside. For "
            "shapes without values, make the model under jaxnn.interop.abstract_parameters(), or "
            "take nnx.eval_shape(lambda: nnx.clone(net)) of its import"
        )
    calls = calls_of(module, example_args, example_kwargs, examples)
    made = import_model(module, calls, rngs, dynamic, ModelPrograms(may_grow=recapture))
    net = check_import(made.net, module, made.calls, check)
    if recapture and isinstance(net, Imported):
        vars(net)["_recapturing"] = Recapturing(module, made, dynamic, check)
    return net


def _refuse_removed(given: Mapping[str, Any]) -> None:
    """Refuse arguments that there are not, or no more.

    Raises:
        TypeError: if there are any.
    """
    if "dynamic_batch" in given:
        spelling = '"batch"' if given["dynamic_batch"] else "False"
        raise TypeError(
            f"jaxnn.from_torch: dynamic_batch={given['dynamic_batch']} is now dynamic={spelling}; "
            'the default, dynamic="auto", lets every size differ for which the model allows it'
        )
    for name in given:
        raise TypeError(f"jaxnn.from_torch: unknown argument {name!r}")


def calls_of(
    module: torch.nn.Module,
    example_args: Any,
    example_kwargs: Mapping[str, Any] | None,
    examples: Sequence[Call],
) -> list[CallOfTorch]:
    """Return the examples of an import as calls of the original.

    Raises:
        TypeError: if there is none, if both forms are given, or if one does not fit the model.
    """
    if not examples:
        if example_args is None and not example_kwargs:
            example_args = () if not _takes_arguments(module) else _no_example()
        return [example_of(module, () if example_args is None else example_args, example_kwargs)]
    if example_args is not None or example_kwargs:
        raise TypeError(
            "jaxnn.from_torch: give one example as `example_args` and `example_kwargs`, or several "
            "as `examples`, not both"
        )
    for example in examples:
        if not isinstance(example, Call):
            raise TypeError(
                "jaxnn.from_torch: `examples` takes calls, each made by jaxnn.call(...); got "
                f"{type(example).__name__}"
            )
    return [example_of(module, tuple(call.args), call.kwargs) for call in examples]


def _takes_arguments(module: torch.nn.Module) -> bool:
    parameters = inspect.signature(module.forward).parameters.values()
    return any(
        p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters
    )


def _no_example() -> Any:
    raise TypeError(
        "jaxnn.from_torch: give an example of a call: its positional arguments as `example_args`, "
        "its named ones as `example_kwargs`, or several calls as `examples`"
    )


def example_of(
    module: torch.nn.Module, example_args: Any, example_kwargs: Mapping[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return an example as positional and keyword arguments of tensors.

    Raises:
        TypeError: if the model has no Python code, or its forward does not take them.
    """
    import torch

    name = type(module).__name__
    is_tuple = isinstance(example_args, (tuple, list)) and not hasattr(example_args, "_fields")
    args = tuple(_tensor_of(v) for v in (example_args if is_tuple else (example_args,)))
    kwargs = {name: _tensor_of(value) for name, value in (example_kwargs or {}).items()}
    for path, part in module.named_modules():
        place = f"its part {path}" if path else "it"
        if isinstance(part, torch.jit.ScriptModule):
            raise TypeError(
                f"jaxnn.from_torch: {name} cannot be imported: {place} is a TorchScript module, "
                "whose Python code is not there; import the module that it was scripted from, and "
                "load its state dict"
            )
        if ".quantized" in type(part).__module__:
            raise TypeError(
                f"jaxnn.from_torch: {name} cannot be imported: {place} is quantized "
                f"({type(part).__name__}); import the model of floating-point layers, and quantize "
                "in JAX"
            )
    if any(isinstance(v, torch.nn.utils.rnn.PackedSequence) for v in (*args, *kwargs.values())):
        raise TypeError(
            f"jaxnn.from_torch: an argument of {name} is a PackedSequence; pass the padded tensor, "
            "and pack it inside of the model or give jaxnn's layer `lengths`"
        )
    try:
        inspect.signature(module.forward).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(
            f"jaxnn.from_torch: the example does not fit {name}.forward"
            f"{inspect.signature(module.forward)}: {error}"
        ) from None
    return args, kwargs


def check_module(module: Any, function: str) -> None:
    """Refuse what is not a model of PyTorch.

    Args:
        module: what was given as one.
        function: the function that it was given to.

    Raises:
        ImportError: if PyTorch is not installed.
        TypeError: if `module` is not a torch.nn.Module.
    """
    try:
        import torch
    except ImportError:
        raise ImportError(
            f"{function} reads a PyTorch model and needs torch: pip install 'jaxnn[torch]'"
        ) from None
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            f"{function}: `module` must be a torch.nn.Module, got {type(module).__name__}"
        )


def _tensor_of(value: Any) -> Any:
    """Return arrays of JAX and NumPy as tensors, for convenience; anything else as it is."""
    return as_tensor(value) if isinstance(value, (np.ndarray, jax.Array)) else value
