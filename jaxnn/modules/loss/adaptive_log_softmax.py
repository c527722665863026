"""A softmax over many classes, in clusters by their frequency, and its loss."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from ..._checks import check_array, check_floating, check_same_dtype
from ...functional.loss._classes import check_targets
from ...functional.loss.adaptive_log_softmax import (
    Cluster,
    all_log_probabilities,
    target_log_probability,
)
from .._module import Module
from ..container import ModuleList, Sequential
from ..linear import Linear


class AdaptiveLogSoftmaxOutput(NamedTuple):
    """What `AdaptiveLogSoftmaxWithLoss` returns.

    Attributes:
        output: the logarithm of each target's probability.
        loss: the mean of what is lost, -output.
    """

    output: Float[Array, "*N"]
    loss: Float[Array, ""]


class AdaptiveLogSoftmaxWithLoss(Module):
    """A softmax over many classes: a head for the frequent ones, clusters for the others.

    log p(t) = log_softmax(head(x))[t] for t < cutoffs[0], else that of the cluster i with
    cutoffs[i] <= t < cutoffs[i + 1], log_softmax(head(x))[cutoffs[0] + i], plus
    log_softmax(tail[i](x))[t - cutoffs[i]]. tail[i] is two linear maps without bias, over
    in_features // div_value^(i + 1) dimensions.

    Shapes: input_ (N, in_features), target_ (N) -> output (N), loss (); or (in_features), ().

    Args:
        in_features: size of the input's last dimension.
        n_classes: the number of classes, sorted by falling frequency.
        cutoffs: the first class of each cluster: increasing ints between 1 and n_classes - 1, at
            least one.
        div_value: by how much each cluster has fewer dimensions than the one before.
        head_bias: whether the head has a bias.
        dtype: the parameters' dtype, which the input must have too.
        rngs: where the parameters are drawn from.

    Attributes:
        head: the linear layer of the frequent classes and the clusters.
        tail: the pairs of linear layers of the clusters.

    Raises:
        IndexError: at the call, if a concrete target is no class; under `jax.jit` its output is
            NaN.

    Source: Grave et al., 2017; torch.nn.AdaptiveLogSoftmaxWithLoss.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> softmax = jaxnn.AdaptiveLogSoftmaxWithLoss(4, 6, [2], rngs=nnx.Rngs(0))
        >>> softmax(jnp.zeros((2, 4)), jnp.array([0, 5])).output
        Array([-1.0986123, -2.4849067], dtype=float32)
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        first = [int(cutoff) for cutoff in cutoffs]
        bounds = [0, *first, n_classes]
        if not first or list(cutoffs) != first or any(a >= b for a, b in pairwise(bounds)):
            raise ValueError(
                "jaxnn.AdaptiveLogSoftmaxWithLoss: `cutoffs` must be increasing ints between 1 and "
                f"n_classes - 1 = {n_classes - 1}, at least one, got {cutoffs!r}"
            )
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = (*first, n_classes)
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = first[0]
        self.n_clusters = len(first)
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, bias=head_bias, dtype=dtype, rngs=rngs)
        pairs = []
        for number in range(self.n_clusters):
            hidden = int(in_features // div_value ** (number + 1))
            size = self.cutoffs[number + 1] - self.cutoffs[number]
            narrow = Linear(in_features, hidden, bias=False, dtype=dtype, rngs=rngs)
            wide = Linear(hidden, size, bias=False, dtype=dtype, rngs=rngs)
            pairs.append(Sequential(narrow, wide))
        self.tail = ModuleList(pairs)

    def __call__(
        self, input_: Float[Array, "*N in_features"], target_: Int[Array, "*N"]
    ) -> AdaptiveLogSoftmaxOutput:
        target = check_targets(target_, self.n_classes, "jaxnn.AdaptiveLogSoftmaxWithLoss")
        input = self._checked(input_, target.ndim + 1)
        if target.ndim > 1 or input.shape[:-1] != target.shape:
            raise ValueError(
                "jaxnn.AdaptiveLogSoftmaxWithLoss: `target_` must have shape (N) or (), as the "
                f"input (N, in_features) or (in_features), got {target.shape} and {input.shape}"
            )
        rows = input.reshape(-1, self.in_features) if input.ndim == 1 else input
        output = target_log_probability(
            rows, jnp.atleast_1d(target), self.head(rows), self._clusters(), self.cutoffs
        )
        return AdaptiveLogSoftmaxOutput(output.reshape(target.shape), (0 - output).mean())

    def log_prob(self, input: Float[Array, "N in_features"]) -> Float[Array, "N n_classes"]:
        """Return the logarithms of the probabilities of all classes."""
        input = self._checked(input, 2)
        return all_log_probabilities(input, self.head(input), self._clusters(), self.cutoffs)

    def predict(self, input: Float[Array, "N in_features"]) -> Int[Array, "N"]:
        """Return the most probable class: the head's, or of all where the head names a cluster."""
        input = self._checked(input, 2)
        head = self.head(input)
        frequent = head.argmax(1)
        of_all = all_log_probabilities(input, head, self._clusters(), self.cutoffs).argmax(1)
        return jnp.where(frequent < self.shortlist_size, frequent, of_all)

    def _checked(self, input: Any, ndim: int) -> jax.Array:
        layer = "jaxnn.AdaptiveLogSoftmaxWithLoss"
        input = check_array(input, "input", layer)
        check_floating(input, "input", layer)
        check_same_dtype({"input": input, "head.weight": self.head.weight[...]}, layer)
        if input.ndim != ndim or input.shape[-1] != self.in_features:
            raise ValueError(
                f"{layer}: `input` must have {ndim} dimensions, the last of size "
                f"{self.in_features}, got shape {input.shape}"
            )
        return input

    def _clusters(self) -> list[Cluster]:
        return [(pair[0].weight[...], pair[1].weight[...]) for pair in self.tail]
