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
from ..functional.embedding import check_norms, check_padding_idx
from ._module import Frozen, Module, parameter_dtype, parameter_key
from ._row_tape import tap_rows


class Embedding(Module):
    """Look up rows of a table by their ids.

    Formula:
        out[..., :] = weight[input[...], :]

    Shapes: (*) -> (*, embedding_dim), of the dtype of `weight`.

    Args:
        num_embeddings: number of rows of the table.
        embedding_dim: length of a row.
        padding_idx: the row, counted from the end if negative, that starts at zero and gets no
            gradient. What is loaded or assigned later stays as it is.
        max_norm: the largest norm of a row. In a call, in training and in evaluation mode, every
            row that `input` names and whose norm exceeds it is multiplied in `weight` by
            max_norm / (norm + 1e-7) before the lookup. The gradient does not see the scaling.
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

    Raises:
        TypeError: if an option is not of its type; at the call, if `input` is not int32 or int64.
        ValueError: if an option is out of range, or there is no `rngs`; at differentiation, if both
            `sparse` and `scale_grad_by_freq` are set.
        IndexError: at the call, if an id is out of range and `input` is concrete (see
            `jaxnn.check_indices`). Under `jax.jit` the id's row is NaN, and has no gradient.

    Source: torch.nn.Embedding.

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
        table = self._drawn(dtype, rngs) if _weight is None else self._given(_weight, _freeze)
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
            padding_idx: as for the class; so are the following.
            max_norm: rewrites rows of a frozen table too.
            norm_type: p of the p-norm.
            scale_grad_by_freq: whether to divide gradients by frequency.
            sparse: whether `jaxnn.sparse.value_and_grad` gives gradients of rows.

        Raises:
            TypeError: if `embeddings` is no array.
            ValueError: if it is no matrix, or `padding_idx` is out of range.

        Source: torch.nn.Embedding.from_pretrained.

        Example:
            >>> import jax.numpy as jnp
            >>> import jaxnn
            >>> table = jnp.array([[1.0, 2.3, 3.0], [4.0, 5.1, 6.3]])
            >>> layer = jaxnn.Embedding.from_pretrained(table)
            >>> layer(jnp.array([1]))
            Array([[4. , 5.1, 6.3]], dtype=float32)
        """
        table = check_array(embeddings, "embeddings", "jaxnn.Embedding.from_pretrained")
        if table.ndim != 2:
            raise ValueError(
                "jaxnn.Embedding.from_pretrained: `embeddings` must have shape (num_embeddings, "
                f"embedding_dim), got shape {table.shape}; reshape it"
            )
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
        """Return the rows that `input` names."""
        rows, table = F.embedding_with_weight(
            input,
            self.weight[...],
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )
        if self.max_norm is not None:
            self.weight[...] = table
        if self.sparse:
            ids = jnp.asarray(input)
            rows = tap_rows(self.weight, ids, rows, self.padding_idx, self.scale_grad_by_freq)
        return rows

    def extra_repr(self) -> str:
        """Return the sizes, and the options that are set."""
        shown = f"{self.num_embeddings}, {self.embedding_dim}"
        defaults: dict[str, Any] = {
            "padding_idx": None,
            "max_norm": None,
            "norm_type": 2,
            "scale_grad_by_freq": False,
            "sparse": False,
        }
        for name, default in defaults.items():
            if getattr(self, name) != default:
                shown += f", {name}={getattr(self, name)}"
        return shown

    def _drawn(self, dtype: DTypeLike, rngs: nnx.Rngs | None) -> Float[Array, "V D"]:
        shape = (self.num_embeddings, self.embedding_dim)
        table = init.normal(parameter_key(self, rngs), shape, parameter_dtype(self, dtype))
        return table if self.padding_idx is None else table.at[self.padding_idx].set(0)

    def _given(self, weight: Any, freeze: bool) -> Float[Array, "V D"]:
        table = check_array(weight, "_weight", "jaxnn.Embedding")
        shape = (self.num_embeddings, self.embedding_dim)
        if table.shape != shape:
            raise ValueError(
                "jaxnn.Embedding: `_weight` must have shape (num_embeddings, embedding_dim) = "
                f"{shape}, got shape {table.shape}"
            )
        if not freeze:
            check_floating(table, "_weight", "jaxnn.Embedding", complex_too=True)
        return table
