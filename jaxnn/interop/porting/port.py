"""`port`: a PyTorch model becomes a Python file."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flax import nnx

from ..from_torch import check_module, example_of
from ..importer.importation import import_model
from ..importer.program import leaves
from ..importer.training_modes import set_mode
from ..importer.tree import Node
from ..proof.comparing import Check, check_import
from ..proof.copies import as_wide_as
from ..proof.evidence import evidence
from .as_json import arguments_as_json
from .examples import examples_of
from .parity import (
    MODEL,
    PARITY,
    WEIGHTS,
    ParityReport,
    check_port,
    record,
    save_weights,
)
from .source import source_of

if TYPE_CHECKING:
    import torch


def port(
    module: torch.nn.Module,
    example_args: Any = (),
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    folder: str | Path,
    force: bool = False,
    check: Check = True,
) -> ParityReport:
    """Write a PyTorch model as a Python file of NNX classes, with its weights and a proof.

    The folder gets `model.py`, which imports jax, flax and jaxnn alone: one class for each distinct
    class of the original, under its name, with its attributes; `weights.safetensors`; and
    `parity.json`, the example with the outputs and gradients of the original in evaluation mode,
    by which `jaxnn verify FOLDER` proves the port on any machine, without torch.

    Arguments that are not arrays become part of the program; the port does not take them.

    Args:
        module: the model. It is not changed.
        example_args: the positional arguments of a call, as a tuple, or one tensor.
        example_kwargs: the keyword arguments of that call.
        folder: where to write.
        force: whether files that are there may be replaced.
        check: whether the import proves itself first, as in `from_torch`; the evidence goes into
            `parity.json`.

    Returns:
        How the port, once read back, compares with the original.

    Raises:
        FileExistsError: if the folder holds files, and `force` is not set.
        TypeError: as `from_torch`.
        NotImplementedError: as `from_torch`.
        ValueError: as `from_torch`.

    Source: jaxnn.from_torch.

    Example:
        >>> import pathlib
        >>> import tempfile
        >>> import jaxnn
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
        >>> folder = tempfile.mkdtemp()
        >>> jaxnn.interop.port(net, torch.ones(1, 3), folder=folder).ok
        True
        >>> text = (pathlib.Path(folder) / "model.py").read_text()
        >>> print(text.splitlines()[-1].strip())
        return jaxnn.Sequential(jaxnn.Linear(3, 2, rngs=rngs), jaxnn.ReLU())
    """
    check_module(module, "port")
    folder = Path(folder)
    check_folder(folder, force)
    args, kwargs = example_of(module, example_args, example_kwargs)
    tensors = [*module.parameters(), *module.buffers(), *args, *kwargs.values()]
    with as_wide_as(tensors):
        files = _files(module, args, kwargs, check)
        folder.mkdir(parents=True, exist_ok=True)
        net, source, parity = files
        (folder / MODEL).write_text(source)
        save_weights(net, folder / WEIGHTS)
        (folder / PARITY).write_text(json.dumps(parity) + "\n")
    return check_port(folder)


def check_folder(folder: Path, force: bool) -> None:
    """Refuse a folder that holds files, unless they may be replaced.

    Raises:
        FileExistsError: if it does.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not force):
        raise FileExistsError(
            f"{folder} holds files already: name another folder, or replace them (--force)"
        )


def _files(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], check: Check
) -> tuple[nnx.Module, str, dict[str, Any]]:
    """Return the imported model, the source, and what the original returns."""
    made = import_model(module, [(args, kwargs)], nnx.Rngs(0), "auto")
    net, tree = check_import(made, module, check), made.tree
    examples = examples_of(net, made.calls)
    source = source_of(tree, net, [call for example in examples for call in example.in_jax()])
    evaluates = not isinstance(tree.root.evaluation, str)
    original = copy.deepcopy(module)
    set_mode(original, not evaluates)
    parity = record(original, args, kwargs, "evaluation" if evaluates else "training")
    taken, named = _taken(tree.root, evaluates, args, kwargs)
    parity |= {"args": arguments_as_json(taken), "kwargs": arguments_as_json(named)}
    if check is not False:
        parity["evidence"] = evidence(net).as_json()
    return net, source, parity


def _taken(
    root: Node, evaluates: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments that the port takes: those that hold arrays."""
    programs: Any = root.evaluation if evaluates else root.training
    if not programs:
        return args, kwargs
    model: Any = root.module
    bound = inspect.signature(model.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    taken: list[Any] = []
    named: dict[str, Any] = {}
    for item in programs[0].body.inputs:
        if not leaves(item.structure):
            continue
        value = bound.arguments[item.name]
        if item.variadic == "*":
            taken += value
        elif item.variadic == "**":
            named |= value
        elif item.keyword_only:
            named[item.name] = value
        else:
            taken.append(value)
    return tuple(taken), named
