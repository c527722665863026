"""How `jaxnn.sparse` has the gradient of looked-up rows without differentiating their table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import jax
import jax.extend
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ..functional._gradients import straight_through

_active: ContextVar[RowTape | None] = ContextVar("_active", default=None)


class RowTape:
    """Records the lookups in some tables, and hangs a tap on the rows of each.

    A tap is an array of zeros: the derivative with respect to it is that with respect to the rows.

    Args:
        tables: the tables to record.
        taps: for each table, a tap for each of its lookups, in their order. Where it is None, new
            ones are made: enough to learn how many lookups there are, and of what shapes.

    Attributes:
        ids: for each table, the ids of each lookup; those without a gradient are the number of
            rows, which is no row.
        shapes: for each table, the shape and dtype of each lookup's rows.
    """

    def __init__(
        self, tables: Sequence[nnx.Variable[Array]], taps: Sequence[Sequence[Array]] | None
    ) -> None:
        self.ids: list[list[Array]] = [[] for _ in tables]
        self.shapes: list[list[jax.ShapeDtypeStruct]] = [[] for _ in tables]
        self._tables = tables
        self._taps = taps
        self._trace = jax.extend.core.get_opaque_trace_state(convention="nnx")

    @contextmanager
    def recording(self) -> Iterator[RowTape]:
        """Record what is looked up in this context."""
        token = _active.set(self)
        try:
            yield self
        finally:
            _active.reset(token)

    def _record(
        self,
        table: int,
        ids: Int[Array, "*ids"],
        rows: Float[Array, "*ids D"],
        padding_idx: int | None,
    ) -> Float[Array, "*ids D"]:
        number_of_rows = self._tables[table].shape[0]
        has_gradient = (ids >= 0) & (ids < number_of_rows)
        if padding_idx is not None:
            has_gradient &= ids != padding_idx
        lookup = len(self.ids[table])
        self.ids[table].append(jnp.where(has_gradient, ids, number_of_rows))
        self.shapes[table].append(jax.ShapeDtypeStruct(rows.shape, rows.dtype))
        tap = jnp.zeros_like(rows) if self._taps is None else self._taps[table][lookup]
        return straight_through(tap, rows)

    def _table(self, weight: nnx.Variable[Array]) -> int | None:
        # What is looked up inside another transformation (vmap, scan, remat) has ids that mean
        # nothing out here.
        if self._trace != jax.extend.core.get_opaque_trace_state(convention="nnx"):
            return None
        return next((i for i, table in enumerate(self._tables) if table is weight), None)


def tap_rows(
    weight: nnx.Variable[Array],
    ids: Int[Array, "*ids"],
    rows: Float[Array, "*ids D"],
    padding_idx: int | None,
    scale_grad_by_freq: bool,
) -> Float[Array, "*ids D"]:
    """Return `rows`, looked up in `weight`, with the active tape's tap where it records `weight`.

    Raises:
        ValueError: if the lookup is recorded, and its gradient is to be scaled by frequency.
    """
    tape = _active.get()
    table = None if tape is None else tape._table(weight)
    if tape is None or table is None:
        return rows
    if scale_grad_by_freq:
        raise ValueError(
            "jaxnn.Embedding: `scale_grad_by_freq` has no sparse gradient, as in torch: set "
            "sparse=False, or scale_grad_by_freq=False"
        )
    return tape._record(table, ids, rows, padding_idx)
