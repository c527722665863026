"""The adaptive softmax: frequent classes in a head, the others in clusters of lower dimension."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._classes import pick

Cluster = tuple[Float[Array, "hidden F"], Float[Array, "size hidden"]]


@partial(jax.jit, static_argnums=4, inline=True)
def target_log_probability(
    input: Float[Array, "N F"],
    target: Int[Array, "N"],
    head: Float[Array, "N head"],
    clusters: Sequence[Cluster],
    cutoffs: tuple[int, ...],
) -> Float[Array, "N"]:
    """Return the logarithm of each target's probability, NaN where it is not a class.

    Every cluster is computed for every row, since the shapes may not depend on the targets.

    Args:
        input: the features.
        target: the classes.
        head: the logits of the first cutoffs[0] classes, then of the clusters.
        clusters: the two matrices of each cluster.
        cutoffs: the first class of each cluster, then the number of classes.
    """
    shortlist = cutoffs[0]
    entry = target
    output = jnp.zeros(target.shape, input.dtype)
    for number, (low, high) in enumerate(pairwise(cutoffs)):
        inside = (target >= low) & (target < high)
        entry = jnp.where(inside, shortlist + number, entry)
        local = jnp.where(inside, target - low, 0)
        # Rows of other clusters are selected away at every step, so that nothing in them, nor in a
        # cluster that has no rows, comes into a gradient.
        hidden, size = clusters[number]
        rows = _selected(inside, input)
        within = _selected(inside, jnp.matmul(rows, hidden.T))
        logits = _selected(inside, jnp.matmul(within, size.T))
        log_probability = jax.nn.log_softmax(logits, 1)
        output += jnp.where(inside, pick(log_probability, local, 1), 0)
    is_class = (target >= 0) & (target < cutoffs[-1])
    entry = jnp.where(is_class, entry, 0)
    output += pick(jax.nn.log_softmax(head, 1), entry, 1)
    return jnp.where(is_class, output, jnp.nan)


@partial(jax.jit, static_argnums=3, inline=True)
def all_log_probabilities(
    input: Float[Array, "N F"],
    head: Float[Array, "N head"],
    clusters: Sequence[Cluster],
    cutoffs: tuple[int, ...],
) -> Float[Array, "N C"]:
    """Return the logarithms of the probabilities of all classes; arguments as above."""
    head = jax.nn.log_softmax(head, 1)
    shortlist = cutoffs[0]
    parts = [head[:, :shortlist]]
    for number, cluster in enumerate(clusters):
        hidden, size = cluster
        within = jax.nn.log_softmax(jnp.matmul(jnp.matmul(input, hidden.T), size.T), 1)
        of_cluster = jnp.broadcast_to(head[:, shortlist + number, None], within.shape)
        parts.append(within + of_cluster)
    return jnp.concatenate(parts, 1)


def _selected(inside: jax.Array, rows: jax.Array) -> jax.Array:
    return jnp.where(inside[:, None], rows, 0)
