"""What an import has been proved by: which calls were compared, and how close they came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from flax import nnx
from rich.console import Console
from rich.table import Table


class ImportDeparts(ValueError):
    """An imported model that gives something else than the original.

    Attributes:
        evidence: what was compared, and what of it departs.
    """

    def __init__(self, message: str, evidence: Evidence) -> None:
        super().__init__(message)
        self.evidence = evidence

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.evidence)


@dataclass(frozen=True)
class Compared:
    """One call, in the original and in the import.

    Attributes:
        mode: "evaluation" or "training".
        input: which: the example, or another and how it differs.
        outputs: how many arrays the results hold.
        gradients: how many gradients were compared, of parameters and inputs.
        buffers: how many buffers the call changed.
        relative: by kind ("output", "gradient", "buffer") the largest relative difference.
        departs: the names of what departs, with the kind of each.
        judged: the names of what was judged in float64, where float32 differed by rounding.
        why_not: why nothing was compared, in words; "" if it was.
    """

    mode: str
    input: str
    outputs: int = 0
    gradients: int = 0
    buffers: int = 0
    relative: Mapping[str, float] = field(default_factory=dict)
    departs: tuple[tuple[str, str], ...] = ()
    judged: tuple[str, ...] = ()
    why_not: str = ""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What of an import was compared with the original, and how close it came.

    It prints as a table. It is compared and hashed by identity, so that it costs nothing where NNX
    compares modules.

    Attributes:
        rows: the calls that were compared.
        notes: what could not be compared, or was compared in a way of its own, and why.
    """

    rows: tuple[Compared, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing departs."""
        return not any(row.departs for row in self.rows)

    def __deepcopy__(self, memo: dict[int, Any]) -> Evidence:
        return self

    def __copy__(self) -> Evidence:
        return self

    def table(self) -> Table:
        """Return the calls as a table of rich."""
        table = Table("mode", "input", "outputs", "gradients", "state", "")
        for row in self.rows:
            cells = [
                _cell(count, row.relative.get(kind))
                for count, kind in (
                    (row.outputs, "output"), (row.gradients, "gradient"), (row.buffers, "buffer"),
                )
            ]  # fmt: skip
            verdict = "[red]departs[/red]" if row.departs else "ok"
            table.add_row(row.mode, row.input, *cells, "not compared" if row.why_not else verdict)
        return table

    def lines(self) -> list[str]:
        """Return in words what the table does not say."""
        reasons = [f"{row.mode}, {row.input}: {row.why_not}" for row in self.rows if row.why_not]
        judged = sorted({name for row in self.rows for name in row.judged})
        if judged:
            reasons.append(f"judged in float64, since float32 rounds them: {_some(judged)}")
        return [*reasons, *self.notes]

    def __str__(self) -> str:
        console = Console(width=100, color_system=None)
        with console.capture() as capture:
            console.print(self.table())
            for line in self.lines():
                console.print(line, markup=False, highlight=False)
        return capture.get()

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON, for `from_json`."""
        return {"rows": [asdict(row) for row in self.rows], "notes": list(self.notes)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Evidence:
        """Return what `as_json` wrote.

        Raises:
            KeyError: if it is damaged.
            TypeError: if it is damaged.
        """
        rows = [
            Compared(**{
                **row,
                "departs": tuple((name, kind) for name, kind in row["departs"]),
                "judged": tuple(row["judged"]),
            })
            for row in value["rows"]
        ]  # fmt: skip
        return Evidence(tuple(rows), tuple(value["notes"]))


def _cell(count: int, relative: float | None) -> str:
    return f"{count} within {relative:.0e}" if count and relative is not None else str(count or "")


def _some(names: Sequence[str], limit: int = 6) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def attach(net: nnx.Module, found: Evidence) -> None:
    """Let a module carry its evidence; see `evidence`."""
    net._evidence = found  # type: ignore[attr-defined]


def evidence(net: nnx.Module) -> Evidence:
    """Return what of an imported model was compared with the original.

    Args:
        net: what `from_torch` or `load_port` returned, or a copy of it.

    Returns:
        The evidence; print it to see a table.

    Raises:
        ValueError: if there is none.

    Source: jaxnn.

    Example:
        >>> import jaxnn
        >>> import torch
        >>> net = jaxnn.from_torch(torch.nn.Linear(3, 2), torch.ones(1, 3))
        >>> evidence = jaxnn.interop.evidence(net)
        >>> evidence.ok, [(row.mode, row.gradients) for row in evidence.rows]
        (True, [('evaluation', 3), ('training', 3), ('evaluation', 3), ('training', 3)])
    """
    found = getattr(net, "_evidence", None)
    if not isinstance(found, Evidence):
        raise ValueError(
            f"{type(net).__name__} carries no evidence: it was not imported by jaxnn.from_torch, "
            "or with check=False"
        )
    return found
