"""Wrong distances."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from . import mutant, reconfigured

fixed = jax.lax.stop_gradient


def norms(self: Any, x: Array) -> Array:
    return jnp.sqrt((x * x).sum(self.dim, keepdims=True))


def least_norms(self: Any, x1: Array, x2: Array) -> Array:
    return jnp.maximum(norms(self, x1), self.eps) * jnp.maximum(norms(self, x2), self.eps)


@mutant("CosineSimilarity.M01")
def least_product(layer: Any) -> Any:
    class Mutant(layer):
        def __call__(self, x1: Array, x2: Array) -> Array:
            product = jnp.maximum(norms(self, x1) * norms(self, x2), self.eps)
            return (x1 * x2 / product).sum(self.dim)

    return Mutant


@mutant("CosineSimilarity.M02")
def constant_norms(layer: Any) -> Any:
    class Mutant(layer):
        def __call__(self, x1: Array, x2: Array) -> Array:
            product = jnp.maximum(norms(self, x1), self.eps) * jnp.maximum(
                norms(self, x2), self.eps
            )
            return (x1 * x2 / fixed(product)).sum(self.dim)

    return Mutant


@mutant("CosineSimilarity.M03")
def last_dimension(layer: Any) -> Any:
    return reconfigured(layer, dim=lambda given: -1 if given == 1 else given)


@mutant("CosineSimilarity.M04")
def stopped_by_eps(layer: Any) -> Any:
    class Mutant(layer):
        def __call__(self, x1: Array, x2: Array) -> Array:
            product = jnp.maximum(norms(self, x1), self.eps) * jnp.maximum(
                norms(self, x2), self.eps
            )
            return (x1 * x2 / product).sum(self.dim)

    return Mutant


@mutant("PairwiseDistance.M01")
def without_eps(layer: Any) -> Any:
    return reconfigured(layer, eps=0.0)


@mutant("PairwiseDistance.M02")
def always_euclidean(layer: Any) -> Any:
    return reconfigured(layer, p=2.0)


@mutant("PairwiseDistance.M03")
def dimension_gone(layer: Any) -> Any:
    return reconfigured(layer, keepdim=False)


@mutant("PairwiseDistance.M04")
def least_distance(layer: Any) -> Any:
    class Mutant(layer):
        def __call__(self, x1: Array, x2: Array) -> Array:
            eps, self.eps = self.eps, 0.0
            distance = super().__call__(x1, x2)
            return jnp.where(distance == 0, distance + eps + 1e-3, distance)

    return Mutant


@mutant("pdist.M01")
def euclidean(function: Any) -> Any:
    return lambda input, p=2.0: function(input, 2.0 if p >= 0 else p)


@mutant("pdist.M02")
def by_second_row(function: Any) -> Any:
    def wrong(input: Array, p: float = 2.0) -> Array:
        first, second = jnp.triu_indices(input.shape[0], 1)
        return function(input, p)[jnp.lexsort((first, second))]

    return wrong


@mutant("pdist.M03")
def both_orders(function: Any) -> Any:
    return lambda input, p=2.0: jnp.concatenate([function(input, p), function(input, p)])


@mutant("pdist.M04")
def shared_among_equals(function: Any) -> Any:
    def wrong(input: Array, p: float = 2.0) -> Array:
        if p != jnp.inf:
            return function(input, p)
        first, second = jnp.triu_indices(input.shape[0], 1)
        return jnp.abs(input[first] - input[second]).max(1)

    return wrong
