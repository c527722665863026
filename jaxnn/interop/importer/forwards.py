"""The forward passes of one imported module: the programs, and which of them a call is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .binding import Misfit, bind, check_sizes
from .program import Body, Program, Sizes

Programs = tuple[Program, ...]


class Forwards:
    """The programs of a module, by mode: each for calls of one structure, under its conditions.

    It is compared and hashed by identity, which NNX does at every call, and shared by copies of the
    module. Programs may be added at the end: a call goes to the first that fits, so that what was
    chosen before stays chosen.

    Args:
        source: the name of the original class.
        training: the programs in training mode, or why there are none.
        evaluation: those in evaluation mode.
        sizes: those that the model around the module calls each program with.
    """

    def __init__(
        self,
        source: str,
        training: Programs | str,
        evaluation: Programs | str,
        sizes: Sequence[Sizes] = (),
    ) -> None:
        self.source = source
        self._by_mode = {True: training, False: evaluation}
        self.sizes = tuple(sizes)

    def of(self, training: bool) -> Programs | str:
        """Return the programs in a mode, or why there are none."""
        return self._by_mode[training]

    def body(self, training: bool, number: int) -> Body:
        """Return one of the programs.

        Raises:
            ValueError: if there is none in that mode, with the reason.
        """
        programs = self._some(training)
        return programs[min(number, len(programs) - 1)].body

    def _some(self, training: bool) -> Programs:
        programs = self.of(training)
        if isinstance(programs, str):
            mode = "training" if training else "evaluation"
            raise ValueError(f"{self.source} cannot run in {mode} mode: {programs}")
        if not programs:
            raise ValueError(
                f"{self.source} is not called by the model it was imported with, so its forward "
                "pass is not known; import it by itself"
            )
        return programs

    def fitting(self, training: bool, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Body:
        """Return the first program that a call from outside fits.

        Raises:
            TypeError: if it has arguments that no program takes.
            ValueError: if no program fits it: what of the nearest does not hold.
        """
        refused: list[Exception] = []
        candidates = list(self._entries(self._some(training)))
        for body, sizes in candidates:
            try:
                if body.captured:
                    raise Misfit(
                        f"{self.source} uses values that only the module around it has "
                        f"({', '.join(body.captured)}), so it runs as a part of that alone",
                        0,
                    )
                values: dict[str, Any] = {}
                bind(self.source, body, args, kwargs, values)
                check_sizes(self.source, body.shapes, body.guards, values)
                check_sizes(self.source, sizes.shapes, sizes.guards, values)
            except (TypeError, ValueError) as error:
                refused.append(error)
            else:
                return body
        nearest = max(refused, key=lambda error: getattr(error, "stage", 0))
        if len(candidates) > 1:
            nearest.add_note(
                f"that is the nearest of {len(candidates)} programs, which "
                "jaxnn.interop.programs(net) lists"
            )
        raise nearest

    def _entries(self, programs: Programs) -> Iterator[tuple[Body, Sizes]]:
        """Yield the programs, with the sizes that each is for."""
        for program in programs:
            found = [sizes for sizes in self.sizes if sizes.program is program]
            for sizes in found or [Sizes()]:
                yield program.body, sizes

    def add(self, training: bool, programs: Programs, sizes: Sequence[Sizes]) -> None:
        """Add programs behind those that are known."""
        known = self.of(training)
        known = () if isinstance(known, str) else known
        new = tuple(program for program in programs if program not in known)
        self._by_mode[training] = known + new
        self.sizes += tuple(item for item in sizes if item not in self.sizes)

    def refuse(self, training: bool, reason: str) -> None:
        """Refuse to run in a mode, with the reason."""
        self._by_mode[training] = reason

    def changed(self, change: Callable[[Program], Program]) -> Forwards:
        """Return the forward passes with what `change` makes of each program."""
        made: dict[Program, Program] = {}

        def of(program: Program) -> Program:
            return made.setdefault(program, change(program))

        def each(programs: Programs | str) -> Programs | str:
            return programs if isinstance(programs, str) else tuple(map(of, programs))

        sizes = [
            Sizes(None if item.program is None else of(item.program), item.shapes, item.guards)
            for item in self.sizes
        ]
        return Forwards(self.source, each(self.of(True)), each(self.of(False)), sizes)

    def __deepcopy__(self, memo: dict[int, Any]) -> Forwards:
        return self

    def __copy__(self) -> Forwards:
        return self
