"""The forward passes of a model in both modes, as far as these can be captured."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax

from .alike import Alike, Unlike
from .budget import OverBudget
from .capture import Captured, capture, is_valid_for
from .decisions import Decisions, decide
from .free_sizes import (
    CallOfTorch,
    Dynamic,
    FreeSizes,
    Way,
    beyond_one,
    check_names,
    shapes_of,
    with_batch_of_one,
)
from .functionalising import is_composite
from .gradients import Refused
from .layers import layer_name
from .looks import Group, groups_of
from .lowering.lower import Lowered, UnsupportedOperators, lower
from .lowering.nodes import operator_name
from .lowering.placeholders import LITERAL_SIZE
from .modes_read import train_alone_sets_modes
from .naming import all_names
from .operators import OPERATORS
from .probing import probe, steady_seeds
from .runs import Runs
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
        examples: the positional and keyword arguments of calls, one of each kind.
        dynamic: which sizes may differ, where the model allows it; see `from_torch`.
        found: the programs that are known of it, to which those of the examples come.

    Attributes:
        notes: what the user is to be warned of.
        beside: calls of other sizes that needed a program of their own, too.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        examples: Sequence[CallOfTorch],
        dynamic: Dynamic,
        found: ModelPrograms | None = None,
    ) -> None:
        self.model, self.examples = model, examples
        self.sizes = [FreeSizes.of(dynamic, model, *call) for call in examples]
        self.name = type(model).__name__
        self.paths = all_names(model)
        self.notes: list[str] = []
        self.beside: list[CallOfTorch] = []
        self._is_over = False  # the time that reasoning about sizes may take
        self._found = ModelPrograms() if found is None else found
        if not self._found.programs:  # a later call need not have what the first had
            check_names(dynamic, self.sizes)
        # A net that is made already takes no further arrays.
        self._largest_literal = sys.maxsize if self._found.programs else LITERAL_SIZE
        # Equal programs, of both modes or of blocks that repeat, are one object.
        self._known = {repr(program.body): program for program in self._found.each()}
        # By mode, whether each layer is in training mode: as `train` leaves it, and when called.
        self._set_to: dict[bool, dict[str, bool]] = {}
        self._called_in: dict[bool, dict[str, bool]] = {}
        # By example, what was captured in evaluation mode and holds for training as well.
        self._of_both: dict[int, list[tuple[Captured, Lowered]]] = {}
        # The blocks that look alike, but for those that turned out not to be.
        self._groups: list[Group] = []
        self._runs = Runs()
        self._is_plain = train_alone_sets_modes(model)

    def run(self) -> ModelPrograms:
        """Return the programs of the model's modules.

        Raises:
            UnsupportedOperators: if the model uses operators that have no counterpart.
            NotDescribable: if it returns what is neither made of tensors nor a constant.
            ValueError: if it cannot be captured in the mode that it is in, or in neither.
        """
        failures: dict[bool, Exception] = {}
        with modes_put_back(self.model):
            for training in MODES:
                self._set_to[training] = set_mode(self.model, training)
                self._groups = list(groups_of(self.model, _is_layer))
                for number, example in enumerate(self.examples):
                    try:
                        self._capture_call(training, number, example)
                    except UnsupportedOperators:
                        raise
                    except Exception as error:
                        failures.setdefault(training, error)
                        self._failed(training, number, error)
        self._refuse(failures)
        self._found.own_modes = with_switched(own_modes(self.model), self._set_to, self._called_in)
        return self._found

    def _failed(self, training: bool, number: int, error: Exception) -> None:
        """Note that an example has no program in a mode, unless none has."""
        if isinstance(self._found.programs.get(training), dict):
            self.notes.append(
                f"{self.name} has no program in {MODES[training]} mode for example {number + 1}: "
                f"{reason_of(error)}"
            )
        else:
            self._found.programs[training] = reason_of(error)

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

    def _capture_call(self, training: bool, number: int, example: CallOfTorch) -> None:
        """Keep the programs of a call, in the mode that the model is in."""
        has_wide_integers = bool(jax.config.read("jax_enable_x64"))
        self._runs = Runs(self._groups)
        found = probe(self.model, example, has_wide_integers, self._runs)
        self.notes += [f"{self.name}: {note}" for note in found]
        if self._found.fit(self.name, training, example):
            return
        lowered = self._of_both.pop(number, None)
        if lowered is None:
            lowered = self._lowered(example, self.sizes[number])
            if self._is_plain and not any(captured.asks_mode for captured, _ in lowered):
                self._of_both[number] = lowered
            modes = [captured.modes for captured, _ in lowered]
        else:
            modes = [dict.fromkeys(captured.modes, training) for captured, _ in lowered]
        called = self._called_in.setdefault(training, {})
        for (captured, programs), found_in in zip(lowered, modes, strict=True):
            self.notes += [f"{self.name}: {note}" for note in captured.notes]
            for layer, mode in found_in.items():
                if called.setdefault(layer, mode) != mode:
                    raise Refused(
                        f"{layer} is called in training and in evaluation mode, by calls of two "
                        "kinds; use two modules that share their parameters"
                    )
            self._found.add(training, programs, self.paths, self._known)

    def _lowered(self, example: CallOfTorch, sizes: FreeSizes) -> list[tuple[Captured, Lowered]]:
        """Capture a call, all blocks of those that turn out not to be alike."""
        while True:
            noted = len(self.notes), len(self.beside)
            captures = self._captured(example, sizes)
            try:
                return [
                    (captured, lower(captured, self.paths, OPERATORS, self._largest_literal))
                    for captured in captures
                ]
            except Unlike as error:
                self._groups = [group for group in self._groups if group not in error.groups]
                del self.notes[noted[0] :], self.beside[noted[1] :]

    # --- the ways to capture ---------------------------------------------------------------------

    def _captured(self, example: CallOfTorch, sizes: FreeSizes) -> list[Captured]:
        try:
            return self._with_free_sizes(example, sizes)
        except Exception as error:
            if "data-dependent" not in str(error):
                raise
            return self._as_decided(example, sizes, error)

    def _as_decided(
        self, example: CallOfTorch, sizes: FreeSizes, reason: Exception
    ) -> list[Captured]:
        """Capture a model that branches on values: it goes the way of the example, and says so."""
        try:
            decisions = decide(self.model, *example)
            captured = self._with_free_sizes(example, sizes, decisions)
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

    def _with_free_sizes(
        self, example: CallOfTorch, sizes: FreeSizes, decisions: Decisions | None = None
    ) -> list[Captured]:
        """Capture in the first way that can be, in which the most may differ.

        A batch of one may need a program of its own, which comes beside that of others.
        """
        *ways, last = sizes.ways(*example)
        beside: list[Captured] = []
        are_others_had = False
        for way in ways:
            if self._is_over and way.is_wide:
                continue
            is_other = way.args is not example[0] or way.kwargs is not example[1]
            are_others_had |= is_other and self._is_known(way.call)
            if is_other and are_others_had:
                continue
            try:
                captured = self._export(way, sizes, decisions)
            except (NotDescribable, Refused, MemoryError):
                raise
            except OverBudget as over:
                self.notes.append(f"{self.name}: {over}")
                self._is_over = True
                continue
            except Exception:
                continue
            if is_valid_for(captured, *example):
                if not are_others_had:
                    sizes.check(captured.shapes(), captured.guards())
                return [captured, *(beside or self._of_one(captured, example, way, sizes))]
            if is_valid_for(captured, *way.call):
                beside, are_others_had = [captured], True
                self._note_beside(way.call)
        try:
            captured = self._export(last, sizes, decisions)
        except Exception:
            if beside:  # the model takes no such batch of one
                return beside
            raise
        if not are_others_had:
            sizes.check(captured.shapes(), captured.guards())
        return [captured, *(beside or self._of_one(captured, example, last, sizes))]

    def _of_one(
        self, captured: Captured, example: CallOfTorch, way: Way, sizes: FreeSizes
    ) -> list[Captured]:
        """Capture a batch of one, where the program of more excludes that."""
        smaller = with_batch_of_one(example, way.free)
        if smaller is None or is_valid_for(captured, *smaller) or self._is_known(smaller):
            return []
        try:
            found = self._export(Way(*smaller, beyond_one(smaller)), sizes, None)
        except Exception:  # that the model takes no batch of one is met at such a call
            return []
        if not is_valid_for(found, *smaller):
            return []
        self._note_beside(smaller)
        return [found]

    def _is_known(self, call: CallOfTorch) -> bool:
        """Whether there is a program for a call, in the mode that the model is in."""
        return self._found.fit(self.name, self.model.training, call)

    def _note_beside(self, call: CallOfTorch) -> None:
        """Keep a call, which both modes may have."""
        if shapes_of(call) not in map(shapes_of, self.beside):
            self.beside.append(call)

    def _export(self, way: Way, sizes: FreeSizes, decisions: Decisions | None) -> Captured:
        while True:
            alike = Alike(self._groups if decisions is None else (), self._runs.of)
            try:
                with warnings.catch_warnings(), steady_seeds():
                    warnings.simplefilter("ignore")
                    captured = capture(
                        self.model, *way.call, _is_layer, way.free, decisions, way.size_one, alike,
                        limited=sizes.dynamic == "auto",
                    )  # fmt: skip
                    captured = _decomposed(captured)
            except OverBudget:
                raise
            except Exception:
                # It may be that the model asks a block for what it has not done.
                unlike = list(alike.standing)
                if not unlike:
                    raise
            else:
                unlike = alike.unlike()
                if not unlike:
                    break
            self._groups = [group for group in self._groups if group not in unlike]
        captured.equalities = tuple(sizes.equalities())
        return captured


def _is_layer(module: torch.nn.Module) -> bool:
    return layer_name(module) is not None


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
