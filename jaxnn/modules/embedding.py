"""Embedding layers."""

from __future__ import annotations

from typing import Any, Self

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from .. import functional as F
from .. import init
from .._checks import check_array, check_floating, check_int
from ..functional.embedding import (
    check_bags,
    check_norms,
    check_padding_idx,
    checked_table,
    lookup_bags,
    pool_bags,
)  # fmt: skip
from ._module import Module, parameter_dtype, parameter_key
from ._options import changed
from ._row_tape import tap_rows
from ._state import Frozen


class Embedding(Module):
    """Look up rows of a table by their ids: see `jaxnn.functional.embedding`.

    Shapes: (*) -> (*, embedding_dim), of the dtype of `weight`.

    Args:
        num_embeddings: number of rows of the table.
        embedding_dim: length of a row.
        padding_idx: the row, counted from the end if negative, that starts at zero and gets no
            gradient. What is loaded or assigned later stays as it is.
        max_norm: the largest norm of a row. A call, in training and in evaluation mode, writes the
            rows that it rescales to `weight`.
        norm_type: p of the p-norm.
        scale_grad_by_freq: whether each id's gradient is divided by how often `input` has the id.
        sparse: whether `jaxnn.sparse.value_and_grad` gives the rows that were looked up, in place
            of a gradient as large as the table. `nnx.grad` gives the latter in any case.
        _weight: the table, in place of a drawn one.
        _freeze: whether the table is a `jaxnn.Frozen`, which is not trained.
        dtype: the dtype of a drawn table.
        rngs: where the table is drawn from.

    Attributes:
        weight: the table, of shape (num_embeddings, embedding_dim), drawn from N(0, 1).

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Embedding(10, 3, padding_idx=0, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1, 2, 4, 5], [4, 3, 2, 0]])).shape
        (2, 4, 3)
        >>> layer(jnp.array(0))
        Array([0., 0., 0.], dtype=float32)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Float[Array, "num_embeddings embedding_dim"] | None = None,
        _freeze: bool = False,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        layer = "jaxnn.Embedding"
        self.num_embeddings = check_int(num_embeddings, "num_embeddings", layer, minimum=0)
        self.embedding_dim = check_int(embedding_dim, "embedding_dim", layer, minimum=0)
        self.padding_idx = check_padding_idx(padding_idx, self.num_embeddings, layer)
        if max_norm is not None:
            check_norms(max_norm, norm_type, layer)
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = bool(scale_grad_by_freq)
        self.sparse = bool(sparse)
        table = _drawn(self, dtype, rngs) if _weight is None else _given(self, _weight, _freeze)
        self.weight = Frozen(table) if _freeze else nnx.Param(table)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Float[Array, "num_embeddings embedding_dim"],
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Self:
        """Return a layer whose table is `embeddings`, of shape (num_embeddings, embedding_dim).

        Args:
            embeddings: the table; the row of `padding_idx` stays as it is.
            freeze: whether the table is a `jaxnn.Frozen`, which is not trained.
            max_norm: as for the class; it rewrites rows of a frozen table too.
            padding_idx, norm_type, scale_grad_by_freq, sparse: as for the class.

        Example:
            >>> import jax.numpy as jnp
            >>> import jaxnn
            >>> table = jnp.array([[1.0, 2.3, 3.0], [4.0, 5.1, 6.3]])
            >>> layer = jaxnn.Embedding.from_pretrained(table)
            >>> layer(jnp.array([1]))
            Array([[4. , 5.1, 6.3]], dtype=float32)
        """
        table = _matrix(embeddings, "jaxnn.Embedding.from_pretrained")
        num_embeddings, embedding_dim = table.shape
        return cls(
            num_embeddings,
            embedding_dim,
            padding_idx=padding_idx,
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            sparse=sparse,
            _weight=table,
            _freeze=freeze,
        )

    def __call__(self, input: Int[Array, "*ids"]) -> Float[Array, "*ids embedding_dim"]:
        return _rows(self, input)

    def extra_repr(self) -> str:
        defaults: dict[str, Any] = {
            "padding_idx": None,
            "max_norm": None,
            "norm_type": 2,
            "scale_grad_by_freq": False,
            "sparse": False,
        }
        sizes = f"{self.num_embeddings}, {self.embedding_dim}"
        return ", ".join([sizes, *changed(self, defaults)])


class EmbeddingBag(Module):
    """Sum, average or take the maximum of rows of a table, over bags of ids.

    A call takes input, offsets and per_sample_weights: see `jaxnn.functional.embedding_bag`.

    Shapes: input (B, n) for B bags of n ids, or (N) with offsets (B), where bag b begins at
    offsets[b] and ends where the next begins -> (B, embedding_dim), of the dtype of `weight`.

    Args:
        num_embeddings, embedding_dim, max_norm, norm_type, _weight, dtype, rngs: as for
            `Embedding`.
        scale_grad_by_freq: as for `Embedding`; not for maxima.
        mode: "sum", "mean" or "max".
        sparse: as for `Embedding`; not for maxima.
        include_last_offset: whether offsets has one number more, the end of the last bag.
        padding_idx: the row, counted from the end if negative, that starts at zero, counts in no
            bag and gets no gradient.

    Attributes:
        weight: the table, of shape (num_embeddings, embedding_dim), drawn from N(0, 1).

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.EmbeddingBag(10, 3, mode="sum", rngs=nnx.Rngs(0))
        >>> layer(jnp.array([1, 2, 4, 5, 4]), jnp.array([0, 3])).shape
        (2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Float[Array, "num_embeddings embedding_dim"] | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        layer = "jaxnn.EmbeddingBag"
        self.num_embeddings = check_int(num_embeddings, "num_embeddings", layer, minimum=0)
        self.embedding_dim = check_int(embedding_dim, "embedding_dim", layer, minimum=0)
        if max_norm is not None:
            check_norms(max_norm, norm_type, layer)
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = bool(scale_grad_by_freq)
        if mode not in ("sum", "mean", "max"):
            raise ValueError(f'{layer}: `mode` must be "sum", "mean" or "max", got {mode!r}')
        self.mode = mode
        self.sparse = bool(sparse)
        self.include_last_offset = bool(include_last_offset)
        self.padding_idx = check_padding_idx(padding_idx, self.num_embeddings, layer)
        table = _drawn(self, dtype, rngs) if _weight is None else _given(self, _weight, False)
        self.weight: nnx.Variable[Array] = nnx.Param(table)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Float[Array, "num_embeddings embedding_dim"],
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> Self:
        """Return a layer whose table is `embeddings`, of shape (num_embeddings, embedding_dim).

        Args:
            embeddings: the table; the row of `padding_idx` stays as it is.
            freeze: whether the table is a `jaxnn.Frozen`, which is not trained.
            max_norm, norm_type, scale_grad_by_freq, mode, sparse, include_last_offset, padding_idx:
                as for the class.

        Example:
            >>> import jax.numpy as jnp
            >>> import jaxnn
            >>> table = jnp.array([[1.0, 2.0], [3.0, 6.0]])
            >>> layer = jaxnn.EmbeddingBag.from_pretrained(table)
            >>> layer(jnp.array([[0, 1]]))
            Array([[2., 4.]], dtype=float32)
        """
        table = _matrix(embeddings, "jaxnn.EmbeddingBag.from_pretrained")
        num_embeddings, embedding_dim = table.shape
        layer = cls(
            num_embeddings,
            embedding_dim,
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            mode=mode,
            sparse=sparse,
            _weight=table,
            include_last_offset=include_last_offset,
            padding_idx=padding_idx,
        )
        if freeze:
            layer.weight = Frozen(table)
        return layer

    def __call__(
        self,
        input: Int[Array, "*ids"],
        offsets: Int[Array, " bags"] | None = None,
        per_sample_weights: Float[Array, "*ids"] | None = None,
    ) -> Float[Array, "bags embedding_dim"]:
        bags = check_bags(
            input,
            offsets,
            per_sample_weights,
            self.weight[...],
            self.include_last_offset,
            self.mode,
            self.scale_grad_by_freq,
            self.sparse,
        )
        if self.sparse:  # the rows are recorded
            rows, ids = _rows(self, input), jnp.asarray(input)
            return pool_bags(rows, ids, bags, per_sample_weights, self.mode, self.padding_idx)
        ids, table, _ = checked_table(
            input, self.weight[...], self.padding_idx, self.max_norm, self.norm_type
        )
        if self.max_norm is not None:
            self.weight[...] = table
        return lookup_bags(
            ids, table, bags, per_sample_weights, self.mode, self.padding_idx,
            self.scale_grad_by_freq, self.sparse,
        )  # fmt: skip

    def extra_repr(self) -> str:
        defaults = {"max_norm": None, "norm_type": 2, "scale_grad_by_freq": False}
        return ", ".join(
            [
                f"{self.num_embeddings}, {self.embedding_dim}",
                *changed(self, defaults),
                f"mode={self.mode!r}",
                *changed(self, {"padding_idx": None}),
            ]
        )


def _rows(layer: Embedding | EmbeddingBag, input: Int[Array, "*ids"]) -> Float[Array, "*ids D"]:
    """Look up the rows, write what `max_norm` changes, and tap them where they are recorded."""
    rows, table = F.embedding_with_weight(
        input,
        layer.weight[...],
        layer.padding_idx,
        layer.max_norm,
        layer.norm_type,
        layer.scale_grad_by_freq,
        layer.sparse,
    )
    if layer.max_norm is not None:
        layer.weight[...] = table
    if layer.sparse:
        ids = jnp.asarray(input)
        rows = tap_rows(layer.weight, ids, rows, layer.padding_idx, layer.scale_grad_by_freq)
    return rows


def _drawn(
    layer: Embedding | EmbeddingBag, dtype: DTypeLike, rngs: nnx.Rngs | None
) -> Float[Array, "V D"]:
    shape = (layer.num_embeddings, layer.embedding_dim)
    table = init.normal(parameter_key(layer, rngs), shape, parameter_dtype(layer, dtype))
    return table if layer.padding_idx is None else table.at[layer.padding_idx].set(0)


def _given(layer: Embedding | EmbeddingBag, weight: Any, freeze: bool) -> Float[Array, "V D"]:
    name = f"jaxnn.{type(layer).__name__}"
    table = check_array(weight, "_weight", name)
    shape = (layer.num_embeddings, layer.embedding_dim)
    if table.shape != shape:
        raise ValueError(
            f"{name}: `_weight` must have shape (num_embeddings, embedding_dim) = {shape}, got "
            f"shape {table.shape}"
        )
    if not freeze:
        check_floating(table, "_weight", name, complex_too=True)
    return table


def _matrix(embeddings: Any, name: str) -> Array:
    table = check_array(embeddings, "embeddings", name)
    if table.ndim != 2:
        raise ValueError(
            f"{name}: `embeddings` must have shape (num_embeddings, embedding_dim), got shape "
            f"{table.shape}; reshape it"
        )
    return table
