"""The forward passes of a model in both modes, as far as these can be captured."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax

from .capture import Captured, capture, is_valid_for
from .decisions import Decisions, decide
from .functionalising import is_composite
from .gradients import Refused
from .layers import layer_name
from .lowering.lower import Lowered, UnsupportedOperators, lower
from .lowering.nodes import operator_name
from .naming import all_names
from .operators import OPERATORS
from .probing import probe, steady_seeds
from .program import Program
from .structures import NotDescribable
from .training_modes import modes_put_back, own_modes, set_mode, with_switched
from .tree import ModelPrograms

if TYPE_CHECKING:
    import torch

MODES = {False: "evaluation", True: "training"}


class Capturing:
    """A model whose forward passes are captured.

    Args:
        model: the original, which is left as it was.
        args: the positional arguments of the example, tensors or what is made of them.
        kwargs: those by name.
        dynamic_batch: whether leading dimensions may differ, where the model allows it.

    Attributes:
        notes: what the user is to be warned of.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        dynamic_batch: bool,
    ) -> None:
        self.model, self.args, self.kwargs = model, args, kwargs
        self.dynamic_batch = dynamic_batch
        self.name = type(model).__name__
        self.paths = all_names(model)
        self.notes: list[str] = []
        self._found = ModelPrograms()
        # Equal programs, of both modes or of blocks that repeat, are one object.
        self._known: dict[str, Program] = {}
        # By mode, whether each layer is in training mode: as `train` leaves it, and when called.
        self._set_to: dict[bool, dict[str, bool]] = {}
        self._called_in: dict[bool, dict[str, bool]] = {}

    def run(self) -> ModelPrograms:
        """Return the programs of the model's modules.

        Raises:
            UnsupportedOperators: if the model uses operators that have no counterpart.
            NotDescribable: if it returns what is neither made of tensors nor a constant.
            ValueError: if it cannot be captured in the mode that it is in, or in neither.
        """
        failures: dict[bool, Exception] = {}
        with modes_put_back(self.model):
            for training in (False, True):
                self._set_to[training] = set_mode(self.model, training)
                try:
                    self._capture_mode(training)
                except UnsupportedOperators:
                    raise
                except Exception as error:
                    failures[training] = error
                    self._found.programs[training] = reason_of(error)
        self._refuse(failures)
        self._found.own_modes = with_switched(own_modes(self.model), self._set_to, self._called_in)
        return self._found

    def _refuse(self, failures: dict[bool, Exception]) -> None:
        """Raise what keeps the model from being imported in the mode it is in, or in both."""
        refused = failures.get(self.model.training)
        if isinstance(refused, Refused):
            raise Refused(f"jaxnn.from_torch: {self.name}: {refused}") from refused
        if len(failures) == len(MODES):
            first = failures[False]
            if isinstance(first, NotDescribable):
                raise first
            raise ValueError(
                f"jaxnn.from_torch: torch.export cannot capture {self.name}: {reason_of(first)}"
            ) from first

    def _capture_mode(self, training: bool) -> None:
        """Keep the programs of the mode that the model is in."""
        has_wide_integers = bool(jax.config.read("jax_enable_x64"))
        found = probe(self.model, (self.args, self.kwargs), has_wide_integers)
        self.notes += [f"{self.name}: {note}" for note in found]
        captured = self._captured()
        self.notes += [f"{self.name}: {note}" for note in captured.notes]
        self._called_in[training] = captured.modes
        self._keep(training, lower(captured, self.paths, OPERATORS))

    def _keep(self, training: bool, lowered: Lowered) -> None:
        self._found.constants |= lowered.constants
        self._found.sizes |= lowered.sizes
        self._found.programs[training] = {
            path: tuple(self._known.setdefault(repr(body), Program(body)) for body in bodies)
            for path, bodies in lowered.bodies.items()
        }

    # --- the ways to capture ---------------------------------------------------------------------

    def _captured(self) -> Captured:
        try:
            return self._with_free_batch()
        except Exception as error:
            if "data-dependent" not in str(error):
                raise
            return self._as_decided(error)

    def _as_decided(self, reason: Exception) -> Captured:
        """Capture a model that branches on values: it goes the way of the example, and says so."""
        try:
            decisions = decide(self.model, self.args, self.kwargs)
            captured = self._with_free_batch(decisions)
        except Refused:
            raise
        except Exception:
            raise reason from None
        lines = ", ".join(decisions.lines)
        self.notes.append(
            f"{self.name} branches on the values of tensors, at {lines}; the imported model always "
            "takes the branches that the example takes"
        )
        return captured

    def _with_free_batch(self, decisions: Decisions | None = None) -> Captured:
        """Capture with a batch that may differ, where the model allows it."""
        if self.dynamic_batch:
            # A batch of one would be fixed where a kernel treats it apart, so two come first.
            example, doubled = (self.args, self.kwargs), self._doubled()
            ways = [(doubled, True), (example, True), (doubled, False)]
            for (args, kwargs), size_one in ways[doubled[0] is self.args :]:
                try:
                    captured = self._export(args, kwargs, True, decisions, size_one)
                except (NotDescribable, Refused, MemoryError):
                    raise
                except Exception:
                    continue
                if is_valid_for(captured, *example):
                    return captured
        return self._export(self.args, self.kwargs, False, decisions)

    def _export(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        dynamic: bool,
        decisions: Decisions | None,
        size_one: bool = False,
    ) -> Captured:
        def is_layer(module: torch.nn.Module) -> bool:
            return layer_name(module) is not None

        with warnings.catch_warnings(), steady_seeds():
            warnings.simplefilter("ignore")
            return _decomposed(
                capture(self.model, args, kwargs, is_layer, dynamic, decisions, size_one)
            )

    def _doubled(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the example with a batch of two for one of one, which the exporter would fix."""
        import torch

        tensors = [v for v in (*self.args, *self.kwargs.values()) if isinstance(v, torch.Tensor)]
        one = all(t.shape[0] == 1 for t in tensors if t.ndim) and any(t.ndim for t in tensors)
        if not one:
            return self.args, self.kwargs

        def double(value: Any) -> Any:
            is_batch = isinstance(value, torch.Tensor) and value.ndim
            return torch.cat([value, value]) if is_batch else value

        return (
            tuple(double(v) for v in self.args),
            {n: double(v) for n, v in self.kwargs.items()},
        )


def _decomposed(captured: Captured) -> Captured:
    """Let torch decompose the operators that are not in the table, where it can."""
    import torch

    unknown = {
        node.target
        for node in captured.program.graph_module.graph.nodes
        if node.op == "call_function"
        and hasattr(node.target, "_schema")
        and node.target.namespace != "jaxnn_import"
        and operator_name(node) not in OPERATORS
    }
    if not unknown:
        return captured
    table = torch.export.default_decompositions()
    chosen = {}
    for target in unknown:
        found = torch._decomp.decomposition_table.get(target)
        if found is None and target in table:
            found = table[target]
        if found is not None:
            chosen[target] = found
    if chosen or any(map(is_composite, unknown)):
        captured.program = captured.program.run_decompositions(chosen)
    return captured


def reason_of(error: Exception, lines: int = 6) -> str:
    """Return what an error is and says, on one line."""
    text = str(error).strip() or type(error).__name__
    written = [line for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__}: " + " ".join(written[:lines])[:600]
