"""An import that keeps its original: a call that no program fits captures one more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from .checkpoint import as_tensor
from .importer.binding import match
from .importer.free_sizes import CallOfTorch, Dynamic, with_tensors
from .importer.importation import Importation, import_model
from .importer.imported import Imported, forwards_of
from .importer.record import Record
from .importer.structures import described_call
from .proof.calls import drawn_like
from .proof.comparing import Check, check_import

if TYPE_CHECKING:
    import torch


class Recapturing:
    """The original of an import, with the programs that have been captured of it.

    It is compared by identity, and shared by copies of the import. It is no part of a pickle, since
    the original is not: what was captured is kept, further calls are refused.

    Args:
        model: the original.
        made: its import.
        dynamic: which sizes may differ.
        check: whether each capture proves itself.
    """

    def __init__(
        self, model: torch.nn.Module, made: Importation, dynamic: Dynamic, check: Check
    ) -> None:
        self.model: torch.nn.Module | None = model
        self.calls = list(made.calls)
        self.programs, self.kinds = made.programs, dict(made.tree.kinds())
        self.dynamic, self.check = dynamic, check
        self.forwards = {
            ".".join(map(str, path)): forwards_of(node)
            for path, node in nnx.iter_modules(made.net)
            if isinstance(node, Imported)
        }

    def capture(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Capture the original for a call of the import, which may be one that is being traced.

        Raises:
            ValueError: if it cannot be captured, or departs from the original.
        """
        if self.model is None:
            return
        call = self._in_torch(tuple(args), dict(kwargs))
        # In a thread of its own, which is not tracing.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(self._capture, self.model, call).result()

    def _capture(self, model: torch.nn.Module, call: CallOfTorch) -> None:
        made = import_model(model, [call], None, self.dynamic, self.programs.copy())
        check_import(made.net, model, made.calls, self.check)
        kinds = dict(made.tree.kinds())
        changed = [path for path, kind in kinds.items() if self.kinds.get(path) != kind]
        if changed:
            raise ValueError(
                f"{type(model).__name__}: its part {changed[0] or 'itself'} is called otherwise "
                "here than in the calls that the import was made for; give this call among "
                "examples= at the import"
            )
        for path, forwards in self.forwards.items():
            for training in (True, False):
                programs = made.programs.of(path, training)
                if not isinstance(programs, str):
                    forwards.add(training, programs, made.programs.sizes.get(path, ()))
        self.programs = made.programs
        self.calls.append(call)

    def _in_torch(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> CallOfTorch:
        """Return a call of the original that is like a call of the import."""
        for known in self.calls:
            structure, named, tensors, _ = described_call(*known)
            values: dict[str, Any] = {}
            with suppress(ValueError, KeyError):
                if len(structure) == len(args) and named.keys() == kwargs.keys():
                    match(structure, args, values, "args")
                    for name, item in named.items():
                        match(item, kwargs[name], values, name)
                    made = [_tensor(values[str(i)], t) for i, t in enumerate(tensors)]
                    return with_tensors(known, made)
        return _plain(args), {name: _plain(value) for name, value in kwargs.items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> Recapturing:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "model": None, "calls": []}


def _tensor(value: Any, like: torch.Tensor | None = None) -> torch.Tensor:
    """Return an array as a tensor of the original's dtype; one without values gets some."""
    import torch

    shape = tuple(np.shape(value))
    if isinstance(value, jax.core.Tracer):
        example = like
        if example is None:
            zeros = np.zeros(shape, value.dtype)
            example = torch.randn(shape) if zeros.dtype.kind == "f" else as_tensor(zeros)
        return drawn_like(example, shape)
    made = as_tensor(np.asarray(value))
    is_same_kind = like is not None and made.is_floating_point() == like.is_floating_point()
    return made.to(like.dtype) if like is not None and is_same_kind else made


def _plain(value: Any) -> Any:
    """Return containers of arrays as containers of tensors."""
    if isinstance(value, Record):
        raise ValueError(
            "jaxnn.from_torch: a record among the arguments can be made by the original's own "
            "class alone; give such a call among examples= at the import"
        )
    if isinstance(value, (jax.Array, np.ndarray)):
        return _tensor(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_plain, value))
    if isinstance(value, (tuple, list)):
        return type(value)(map(_plain, value))
    return value
