"""The gradient of a table of which few rows have one."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from types import EllipsisType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["ids", "rows"],
    meta_fields=["shape", "is_coalesced"],
)
@dataclass(frozen=True)
class RowGrad:
    """The gradient of a table of which few rows have one.

    Formula:
        dense[v, :] = sum over k with ids[k] = v of rows[k, :]

    It is a pytree of `ids` and `rows`. Adding it to an array of shape `shape` adds the rows in
    place, so `optax.apply_updates` takes it as an update. Ids are leaves too: a transformation that
    computes with every leaf (clipping, weight decay) must not see it; use `optax.partition`.

    Attributes:
        ids: shape (K,), int; a row whose id is not between 0 and V - 1 counts for nothing.
        rows: shape (K, D).
        shape: the table's shape, (V, D).
        is_coalesced: whether no id between 0 and V - 1 occurs twice.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> rows = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> grad = jaxnn.sparse.RowGrad(jnp.array([2, 0, 2]), rows, (3, 2))
        >>> grad.to_dense()
        Array([[3., 4.],
               [0., 0.],
               [6., 8.]], dtype=float32)
        >>> jnp.ones((3, 2)) + grad
        Array([[4., 5.],
               [1., 1.],
               [7., 9.]], dtype=float32)
    """

    ids: Int[Array, "K"]
    rows: Float[Array, "K D"]
    shape: tuple[int, ...]
    is_coalesced: bool = field(default=False, kw_only=True)

    # NumPy's arrays leave the addition to this class.
    __array_ufunc__ = None

    def to_dense(self) -> Float[Array, "V D"]:
        """Return the gradient as an array of the table's shape."""
        return jnp.zeros(self.shape, self.rows.dtype) + self

    def coalesce(self) -> RowGrad:
        """Return the same gradient with every id once, in ascending order, and its rows summed.

        There are as many slots as before: the id of an unused one is V, and its row is zero.
        """
        if self.is_coalesced:
            return self
        number_of_rows, number_of_ids = self.shape[0], self.ids.shape[0]
        used = (self.ids >= 0) & (self.ids < number_of_rows)
        ids = jnp.where(used, self.ids, number_of_rows)
        order = jnp.argsort(ids)
        ascending = ids[order]
        is_new = jnp.concatenate([jnp.ones_like(used[:1]), ascending[1:] != ascending[:-1]])
        slot = jnp.cumsum(is_new, dtype=ids.dtype) - 1
        slot_of_id = jnp.zeros_like(ids).at[order].set(slot)
        return RowGrad(
            jnp.full((number_of_ids,), number_of_rows, ids.dtype).at[slot].set(ascending),
            jnp.zeros_like(self.rows).at[slot_of_id].add(jnp.where(used[:, None], self.rows, 0)),
            self.shape,
            is_coalesced=True,
        )

    def __add__(self, other: Any) -> Any:
        if isinstance(other, RowGrad):
            self._check_shape(other.shape)
            return RowGrad(
                jnp.concatenate([self.ids, other.ids]),
                jnp.concatenate([self.rows, other.rows]),
                self.shape,
            )
        table = jnp.asarray(other)
        self._check_shape(table.shape)
        if not jnp.issubdtype(self.ids.dtype, jnp.integer):
            raise TypeError(
                f"RowGrad: `ids` must be integers, got {self.ids.dtype}: a transformation computed "
                "with them as with a gradient; give it the dense leaves alone, by optax.partition "
                "with jaxnn.sparse.labels(model)"
            )
        return table.at[self.ids].add(
            self.rows.astype(table.dtype), mode="drop", wrap_negative_indices=False
        )

    __radd__ = __add__

    def __getitem__(self, index: EllipsisType) -> RowGrad:
        # `variable[...]` asks the value for all of itself.
        if index is not ...:
            raise TypeError(
                f"RowGrad: only [...] is supported, got [{index!r}]; use to_dense() first, or "
                "`ids` and `rows`"
            )
        return self

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if shape != self.shape:
            raise ValueError(f"RowGrad: its table has shape {self.shape}, but got shape {shape}")


def is_row_grad(node: Any) -> bool:
    """Whether a node of a tree of gradients is a `RowGrad`."""
    return isinstance(node, RowGrad)


def with_rows(grad: RowGrad, rows: Float[Array, "K D"]) -> RowGrad:
    """Return a `RowGrad` of the same ids with other rows."""
    return RowGrad(grad.ids, rows, grad.shape, is_coalesced=grad.is_coalesced)


def rows_of(table: Float[Array, "V D"], grad: RowGrad) -> Float[Array, "K D"]:
    """Return the rows of a table that a `RowGrad` has, zeros for ids out of range."""
    return table.at[grad.ids].get(mode="fill", fill_value=0, wrap_negative_indices=False)
