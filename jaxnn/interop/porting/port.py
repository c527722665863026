"""`port`: a PyTorch model becomes a Python file."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flax import nnx

from ..call import Call
from ..from_torch import calls_of, check_module
from ..importer.free_sizes import CallOfTorch, Dynamic
from ..importer.importation import import_model
from ..importer.program import Input
from ..importer.training_modes import set_mode
from ..proof.calls import Call as ProvedCall
from ..proof.comparing import Check, check_import
from ..proof.copies import as_wide_as, copied
from ..proof.evidence import evidence
from .as_json import arguments_as_json, array_from_json
from .branches import arguments_of
from .entries import EVALUATION, TRAINING, entries_of
from .examples import Example, examples_of
from .parity import (
    FORMAT,
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
    example_args: Any = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    folder: str | Path,
    examples: Sequence[Call] = (),
    dynamic: Dynamic = "auto",
    force: bool = False,
    check: Check = True,
) -> ParityReport:
    """Write a PyTorch model as a Python file of NNX classes, with its weights and a proof.

    The folder gets `model.py`, which imports jax, flax and jaxnn alone: one class for each distinct
    class of the original, under its name, with its attributes; `weights.safetensors`; and
    `parity.json`, the examples, and calls of other sizes where these may differ, with the outputs
    and gradients of the original in evaluation mode, by which `jaxnn verify FOLDER` proves the port
    on any machine, without torch.

    The source holds for every size that the model lets differ. Arguments that are no arrays become
    part of the program, and the port does not take them, unless the examples differ in them: it
    asks for them then, and runs what the original does.

    Args:
        module: the model. It is not changed.
        example_args: the positional arguments of a call, as a tuple, or one tensor.
        example_kwargs: the keyword arguments of that call.
        folder: where to write.
        examples: calls of several kinds, as in `from_torch`.
        dynamic: which sizes may differ, as in `from_torch`.
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
    calls = calls_of(module, example_args, example_kwargs, examples)
    given = [value for args, kwargs in calls for value in (*args, *kwargs.values())]
    with as_wide_as([*module.parameters(), *module.buffers(), *given]):
        files = _files(module, calls, dynamic, check)
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
    module: torch.nn.Module, calls: Sequence[CallOfTorch], dynamic: Dynamic, check: Check
) -> tuple[nnx.Module, str, dict[str, Any]]:
    """Return the imported model, the source, and what the original returns."""
    made = import_model(module, calls, nnx.Rngs(0), dynamic)
    net, tree = check_import(made.net, module, made.calls, check), made.tree
    examples = examples_of(net, made.calls)
    entries = entries_of(net, tree.root, examples)
    source = source_of(tree, net, entries)
    mode = TRAINING if isinstance(tree.root.evaluation, str) else EVALUATION
    taken = arguments_of(entries, module.forward) if entries else None
    records = [
        found
        for example in examples
        if not entries or any(mode in e.programs and example in e.examples for e in entries)
        for found in _records(module, example, mode, taken)
    ]
    parity: dict[str, Any] = {"format": FORMAT, "mode": mode, "calls": records}
    if check is not False:
        parity["evidence"] = evidence(net).as_json()
    return net, source, parity


def _records(
    module: torch.nn.Module, example: Example, mode: str, taken: Sequence[Input] | None
) -> Iterator[dict[str, Any]]:
    """Yield what the original returns at an example, and at a call of other sizes."""

    def recorded(name: str, call: ProvedCall) -> dict[str, Any]:
        args, kwargs = call.in_torch(call.tensors)
        model = copied(module)
        set_mode(model, mode == TRAINING)
        kept = record(model, args, kwargs)
        given = (args, kwargs) if taken is None else _taken(module, taken, args, kwargs)
        told = {"args": arguments_as_json(given[0]), "kwargs": arguments_as_json(given[1])}
        return {"input": name, **told, **kept}

    yield recorded(example.name, example.call)
    for name, others in example.others:
        for call in others:
            with suppress(Exception):  # a call that the original refuses, as it may
                kept = recorded(f"{example.prefix}{name}", call)
                if all(np.isfinite(array_from_json(a)).all() for a in kept["outputs"]):
                    yield kept
                    return


def _taken(
    model: Any, taken: Sequence[Input], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments that the port takes."""
    bound = inspect.signature(model.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for item in taken:
        value = bound.arguments[item.name]
        if item.variadic == "*":
            positional += value
        elif item.variadic == "**":
            named |= value
        elif item.keyword_only:
            named[item.name] = value
        else:
            positional.append(value)
    return tuple(positional), named
