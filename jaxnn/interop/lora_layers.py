"""Low-rank adapters, and the layers that one is added to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from .. import functional as F
from .. import init
from ..modules import Conv2d, Embedding, Linear
from ..modules._module import Module, RandomModule, RandomSource, key_from
from ..modules._state import AdapterParam
from .importer.imported import Imported
from .importer.program import Body

Shape = tuple[int, ...]


class LoRA(RandomModule):
    """The adapter of a linear layer: B A dropout(x) * scaling is added to what the layer gives.

    Args:
        lora_A: A, of shape (rank, in_features).
        lora_B: B, of shape (out_features, rank).
        alpha: scaling is alpha / rank.
        dropout: the probability with which an element of x is dropped, in training mode.
        rslora: whether scaling is alpha / sqrt(rank) instead.
        rngs: where the stream of the dropout is forked from.

    Source: Hu et al., 2021; Kalajdzievski, 2023 (rsLoRA); peft.tuners.lora.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.Linear(3, 2, rngs=nnx.Rngs(0))
        >>> adapter = LoRA(jnp.ones((1, 3)), jnp.ones((2, 1)), alpha=2)
        >>> adapter(layer, jnp.ones(3))
        Array([6., 6.], dtype=float32)
    """

    names = "lora_A.weight", "lora_B.weight"
    """What PEFT calls A and B in a file."""
    _shown = ("rank", "alpha", "dropout", "rslora")

    def __init__(
        self,
        lora_A: Num[Array, "..."],
        lora_B: Num[Array, "..."],
        *,
        alpha: float,
        dropout: float = 0.0,
        rslora: bool = False,
        rngs: RandomSource | None = None,
    ) -> None:
        self.lora_A, self.lora_B = AdapterParam(lora_A), AdapterParam(lora_B)
        self.rank, self.alpha = lora_A.shape[0], alpha
        self.dropout, self.rslora = dropout, rslora
        self._init_random(rngs if dropout else None)

    @property
    def scaling(self) -> float:
        """What the product is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    @staticmethod
    def shapes(weight: Shape, rank: int) -> tuple[Shape, Shape]:
        """Return the shapes of A and B, for a layer with a weight of this shape."""
        return (rank, weight[1]), (weight[0], rank)

    @classmethod
    def drawn(cls, weight: Shape, rank: int, dtype: Any, rngs: RandomSource) -> tuple[Array, Array]:
        """Return A as a layer of its shape would be drawn, and B = 0."""
        shape_A, shape_B = cls.shapes(weight, rank)
        key = key_from(rngs, "params", cls.__name__)
        return init.kaiming_uniform(key, shape_A, dtype, a=math.sqrt(5)), jnp.zeros(shape_B, dtype)

    def __call__(
        self, layer: Any, input: Num[Array, "..."], *, rngs: RandomSource | None = None
    ) -> Num[Array, "..."]:
        """Return what is added to `layer(input)`."""
        return self.product(layer, self._dropped(input, rngs)) * self.scaling

    def _dropped(self, input: Array, rngs: RandomSource | None) -> Array:
        input = input.astype(self.lora_A.dtype)
        if self.deterministic or not self.dropout:
            return input
        return F.dropout(input, self.dropout, rng=self._draw_key(rngs))

    def product(self, layer: Any, input: Num[Array, "..."]) -> Num[Array, "..."]:
        """Return B A x."""
        return F.linear(F.linear(input, self.lora_A[...]), self.lora_B[...])

    def added_weight(self) -> Num[Array, "..."]:
        """Return what, added to the layer's weight, does what this does."""
        return self._matrix() * self.scaling

    def _matrix(self) -> Num[Array, "out in"]:
        return jnp.matmul(self.lora_B[...], self.lora_A[...], precision="highest")


class Conv1DLoRA(LoRA):
    """The adapter of a linear layer with a weight of shape (in_features, out_features)."""

    @staticmethod
    def shapes(weight: Shape, rank: int) -> tuple[Shape, Shape]:
        """Return the shapes of A and B, for a layer with a weight of this shape."""
        return (rank, weight[0]), (weight[1], rank)

    def added_weight(self) -> Num[Array, "in out"]:
        """Return what, added to the layer's weight, does what this does."""
        return super().added_weight().T


class EmbeddingLoRA(Conv1DLoRA):
    """The adapter of a table: B A[:, id] * scaling, from A = 0 on, without dropout.

    A is of shape (rank, num_embeddings), B of (embedding_dim, rank).
    """

    names = "lora_embedding_A", "lora_embedding_B"

    @classmethod
    def drawn(cls, weight: Shape, rank: int, dtype: Any, rngs: RandomSource) -> tuple[Array, Array]:
        """Return A = 0, and B drawn from N(0, 1)."""
        shape_A, shape_B = cls.shapes(weight, rank)
        return jnp.zeros(shape_A, dtype), init.normal(
            key_from(rngs, "params", cls.__name__), shape_B, dtype
        )

    def _dropped(self, input: Array, rngs: RandomSource | None) -> Array:
        return input

    def product(self, layer: Embedding, input: Int[Array, "..."]) -> Float[Array, "..."]:
        """Return B A[:, id]."""
        rows = F.embedding(
            input, self.lora_A[...].T, layer.padding_idx,
            scale_grad_by_freq=layer.scale_grad_by_freq,
        )  # fmt: skip
        return F.linear(rows, self.lora_B[...])


class Conv2dLoRA(LoRA):
    """The adapter of a convolution: A is one of `rank` channels, B a 1 x 1 convolution of them."""

    @staticmethod
    def shapes(weight: Shape, rank: int) -> tuple[Shape, Shape]:
        """Return the shapes of A and B, for a layer with a weight of this shape."""
        return (rank, *weight[1:]), (weight[0], rank, 1, 1)

    def product(self, layer: Conv2d, input: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return B * A * x."""
        inner = F.conv2d(input, self.lora_A[...], None, layer.stride, layer.padding)
        return F.conv2d(inner, self.lora_B[...])

    def _matrix(self) -> Float[Array, "out in height width"]:
        outer, inner = self.lora_B[...][:, :, 0, 0], self.lora_A[...]
        return jnp.einsum("or,rihw->oihw", outer, inner, precision="highest")


# --- layers with an adapter -----------------------------------------------------------------------


class _Adapted(Module):
    """A layer of another class, that an adapter is added to."""

    lora: LoRA

    def __call__(self, input: Any, *, rngs: RandomSource | None = None) -> Any:
        return _sum(super().__call__(input), self.lora(self, input, rngs=rngs))  # type: ignore[misc]


class LoRALinear(_Adapted, Linear):
    """A `Linear` with a `LoRA`."""


class LoRAEmbedding(_Adapted, Embedding):
    """An `Embedding` with an `EmbeddingLoRA`."""


class LoRAConv2d(_Adapted, Conv2d):
    """A `Conv2d` with a `Conv2dLoRA`."""


class LoRAConv1D(Imported):
    """The Conv1D of transformers, a linear layer, as it is imported, with a `Conv1DLoRA`."""

    lora: Conv1DLoRA

    def _run_once(
        self,
        body: Body,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        captured: Sequence[Any],
        rngs: RandomSource | None,
    ) -> tuple[Any, tuple[Any, ...]]:
        output, extra = super()._run_once(body, args, kwargs, captured, rngs)
        (input,) = [*args, *kwargs.values()]
        return _sum(output, self.lora(self, input, rngs=rngs)), extra


def _sum(output: Array, added: Array) -> Array:
    """Return the sum in the dtype of the layer; the adapter may be wider."""
    return (output.astype(added.dtype) + added).astype(output.dtype)


@dataclass(frozen=True)
class Kind:
    """What a layer becomes, and its adapter."""

    plain: type[Module]
    adapted: type[Module]
    adapter: type[LoRA]


KINDS = (
    Kind(Linear, LoRALinear, LoRA),
    Kind(Embedding, LoRAEmbedding, EmbeddingLoRA),
    Kind(Conv2d, LoRAConv2d, Conv2dLoRA),
    Kind(Imported, LoRAConv1D, Conv1DLoRA),
)
ADAPTED = tuple(kind.adapted for kind in KINDS)
