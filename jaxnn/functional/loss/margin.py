"""Losses that ask for a margin, between scores, classes or pairs."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from ..._checks import check_array, check_floating
from ..._dtypes import accumulation_dtype, promoted_dtype
from ..._types import Scalar
from .._logarithm import log_one_plus_exp
from ..activation._elementwise import check_number
from ._classes import check_targets, check_weight, pick
from ._reduction import (
    Reduced,
    broadcast,
    check_reduction,
    check_same_rank,
    elementwise_loss,
    numbers,
    positive_part,
    reduced,
)


def hinge_embedding_loss(
    input: Num[Array, "..."],
    target: Num[Array, "..."],
    margin: Scalar = 1.0,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Reduced:
    """Distances of pairs: small for the like, beyond a margin for the unlike.

    loss = input where target = 1, max(0, margin - input) where target = -1, the sum of both
    elsewhere.

    Shapes: input and target broadcast to one shape, which the loss has, or () if it is reduced.
    Half precision is computed in float32 and rounded once.

    Args:
        input: the distances.
        target: 1 for like pairs, -1 for unlike ones.
        margin: the least distance of unlike pairs; may be traced.
        size_average: refused, since torch replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".

    Raises:
        ValueError: if the shapes do not broadcast, or the reduction is none of the three.
        TypeError: if the input is not floating-point.

    Source: Hadsell et al., 2006; torch.nn.functional.hinge_embedding_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> distances, like = jnp.array([0.25, 0.25]), jnp.array([1, -1])
        >>> jaxnn.functional.hinge_embedding_loss(distances, like)
        Array(0.5, dtype=float32)
    """
    layer = "hinge_embedding_loss"
    check_reduction(reduction, layer, size_average, reduce)
    input, target = check_array(input, "input", layer), check_array(target, "target", layer)
    check_floating(input, "input", layer)
    input, target = broadcast(layer, input=input, target=target.astype(input.dtype))
    return _hinge(reduction, (input, target), (check_number(margin, "margin", layer),))


@elementwise_loss
def _hinge(input: jax.Array, target: jax.Array, margin: jax.Array) -> jax.Array:
    zero = jnp.zeros_like(input)
    unlike = jnp.where(target != 1, positive_part(margin - input), zero)
    return unlike + jnp.where(target != -1, input, zero)


def margin_ranking_loss(
    input1: Num[Array, "..."],
    input2: Num[Array, "..."],
    target: Num[Array, "..."],
    margin: Scalar = 0,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Reduced:
    """Scores of pairs, of which one should be ranked above the other.

    loss = max(0, -target * (input1 - input2) + margin), with derivative 1 where that is 0

    Shapes: three arrays with as many dimensions, which broadcast to one shape; the loss has it, or
    () if it is reduced. Half precision is computed in float32 and rounded once.

    Args:
        input1: the scores of the first of each pair.
        input2: those of the second.
        target: 1 where the first should be ranked higher, -1 where the second should.
        margin: by how much; may be traced.
        size_average: refused, since torch replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".

    Raises:
        ValueError: if the shapes do not fit, or the reduction is none of the three.
        TypeError: if no array is of a floating-point dtype.

    Source: torch.nn.functional.margin_ranking_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> first, second = jnp.array([1.0, 1.0]), jnp.array([0.0, 3.0])
        >>> jaxnn.functional.margin_ranking_loss(first, second, jnp.array([1.0, 1.0]))
        Array(1., dtype=float32)
    """
    layer = "margin_ranking_loss"
    check_reduction(reduction, layer, size_average, reduce)
    arrays = numbers(layer, input1=input1, input2=input2, target=target)
    check_same_rank(layer, input1=arrays[0], input2=arrays[1], target=arrays[2])
    arrays = broadcast(layer, input1=arrays[0], input2=arrays[1], target=arrays[2])
    return _ranking(reduction, tuple(arrays), (check_number(margin, "margin", layer),))


@elementwise_loss
def _ranking(
    input1: jax.Array, input2: jax.Array, target: jax.Array, margin: jax.Array
) -> jax.Array:
    return positive_part(margin - target * (input1 - input2))


def soft_margin_loss(
    input: Float[Array, "..."],
    target: Num[Array, "..."],
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Reduced:
    """Logistic loss of two classes.

    loss = log(1 + exp(-target * input)), without overflow

    Shapes: the target broadcasts to the input's shape, which the loss has, or () if it is reduced.
    Half precision is computed in float32 and rounded once.

    Args:
        input: the scores.
        target: 1 or -1.
        size_average: refused, since torch replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".

    Raises:
        ValueError: if the shapes do not fit, or the reduction is none of the three.
        TypeError: if the input is not floating-point, or the target bool.

    Source: torch.nn.functional.soft_margin_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.soft_margin_loss(jnp.array([0.0, 200.0]), jnp.array([1, -1]))
        Array(100.34657, dtype=float32)
    """
    layer = "soft_margin_loss"
    check_reduction(reduction, layer, size_average, reduce)
    input, target = numbers(layer, input=input, target=target)
    check_floating(input, "input", layer)
    input, target = _broadcast_to_input(layer, input, target.astype(input.dtype))
    return _soft_margin(reduction, (input, target))


def _broadcast_to_input(layer: str, input: jax.Array, target: jax.Array) -> list[jax.Array]:
    pair = broadcast(layer, input=input, target=target)
    if pair[0].shape != input.shape:
        raise ValueError(
            f"{layer}: `target` must broadcast to the input's shape {input.shape}, got "
            f"{target.shape}"
        )
    return pair


@elementwise_loss
def _soft_margin(input: jax.Array, target: jax.Array) -> jax.Array:
    return log_one_plus_exp(0 - target * input)


def multilabel_soft_margin_loss(
    input: Float[Array, "*N C"],
    target: Num[Array, "*N C"],
    weight: Num[Array, "..."] | None = None,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Float[Array, "*N"]:
    """Logistic losses of several classes that may hold at once, averaged over the classes.

    loss_n = -mean_c(weight_c (target log(p) + (1 - target) log(1 - p))), p = sigmoid(input)

    Shapes: (*N, C), (*N, C) -> (*N), or () if it is reduced; input, target and weight broadcast.
    Half precision is computed in float32 and rounded once.

    Args:
        input: the logits.
        target: 1 where a class holds, 0 where not.
        weight: a factor for each class, or for each element.
        size_average: refused, since torch replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".

    Raises:
        ValueError: if the shapes do not fit, or the reduction is none of the three.
        TypeError: if the input is not floating-point, or the target bool.

    Source: torch.nn.functional.multilabel_soft_margin_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> logits, truth = jnp.array([[0.0, 200.0]]), jnp.array([[1, 1]])
        >>> jaxnn.functional.multilabel_soft_margin_loss(logits, truth)
        Array(0.3465736, dtype=float32)
    """
    layer = "multilabel_soft_margin_loss"
    check_reduction(reduction, layer, size_average, reduce)
    input, target = numbers(layer, input=input, target=target)
    check_floating(input, "input", layer)
    if input.ndim == 0:
        raise ValueError(f"{layer}: `input` must have a dimension of classes, got shape ()")
    given = {} if weight is None else {"weight": numbers(layer, input=input, weight=weight)[1]}
    arrays = broadcast(layer, input=input, target=target, **given)
    return _multilabel_soft(reduction, tuple(arrays), (), (input.ndim - 1, input.shape[-1]))


@elementwise_loss
def _multilabel_soft(input: jax.Array, target: jax.Array, *more: Any) -> jax.Array:
    *weight, axis, classes = more
    loss = log_one_plus_exp(input) - target * input
    loss = loss * weight[0] if weight else loss
    return loss.sum(axis) / classes


def multi_margin_loss(
    input: Float[Array, "*N C"],
    target: Int[Array, "*N"],
    p: int = 1,
    margin: Scalar = 1.0,
    weight: Float[Array, "C"] | None = None,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Reduced:
    """Scores of classes, of which the target's should exceed the others by a margin.

    loss_n = sum over c != t of weight_t max(0, margin - input[n, t] + input[n, c])^p, divided by C,
    with derivative 0 where the maximum is 0

    Shapes: input (N, C) or (C), target (N) or () -> (N) or (), or () if it is reduced.

    Args:
        input: the scores.
        target: the true classes t.
        p: the power, 1 or 2.
        margin: by how much; may be traced.
        weight: a factor for each class.
        size_average: refused, since torch replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".

    Raises:
        IndexError: if a concrete target is not a class; under `jax.jit` its loss is NaN.
        ValueError: if the shapes do not fit, there are no classes, p is neither 1 nor 2, or the
            reduction is none of the three.
        TypeError: if the targets are not integers, or input and weight not of one floating dtype.

    Source: Crammer and Singer, 2001; torch.nn.functional.multi_margin_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> scores = jnp.array([[1.0, 0.5, 0.0, 2.0]])
        >>> jaxnn.functional.multi_margin_loss(scores, jnp.array([0]))
        Array(0.625, dtype=float32)
    """
    layer = "multi_margin_loss"
    check_reduction(reduction, layer, size_average, reduce)
    check_power(p, layer)
    margin = check_number(margin, "margin", layer)
    input = _scores(input, layer)
    target = check_targets(target, input.shape[-1], layer)
    size = input.shape[0] if input.ndim == 2 else 1
    if target.shape != (size,) and not (target.ndim == 0 and size == 1):
        raise ValueError(
            f"{layer}: `target` must have shape ({size},) for an input of shape {input.shape}, got "
            f"{target.shape}"
        )
    weight = check_weight(weight, input, -1, layer)
    rows = input.reshape(size, input.shape[-1])
    loss = _multi_margin(rows, target.reshape(size), weight, margin, int(p), reduction)
    return loss.reshape(target.shape) if reduction == "none" and not target.ndim else loss


def check_power(p: Any, layer: str) -> None:
    """Refuse a power other than 1 and 2."""
    if p not in (1, 2):
        raise ValueError(f"{layer}: `p` must be 1 or 2, got {p!r}")


def _scores(input: Any, layer: str) -> jax.Array:
    input = check_array(input, "input", layer)
    check_floating(input, "input", layer)
    if input.ndim > 2 or (input.ndim and input.shape[-1] == 0):
        raise ValueError(
            f"{layer}: `input` must have shape (N, C) or (C) with C at least 1, got {input.shape}"
        )
    return input if input.ndim else input.reshape(1)


@partial(jax.jit, static_argnums=(4, 5), inline=True)
def _multi_margin(
    input: jax.Array,
    target: jax.Array,
    weight: jax.Array | None,
    margin: jax.Array,
    p: int,
    reduction: str,
) -> jax.Array:
    rows, classes = input.astype(accumulation_dtype(input.dtype)), input.shape[-1]
    is_class = (target >= 0) & (target < classes)
    target = jnp.where(is_class, target, 0)
    gap = jnp.asarray(margin).astype(rows.dtype) - pick(rows, target, 1)[:, None] + rows
    others = jax.lax.broadcasted_iota(target.dtype, rows.shape, 1) != target[:, None]
    counts = others & (gap > 0)
    loss = jnp.where(counts, gap, 0) ** p
    if weight is not None:
        loss = loss * weight.astype(rows.dtype)[target][:, None]
    loss = jnp.where(is_class, loss.sum(1) / classes, jnp.nan)
    return reduced(loss, reduction).astype(input.dtype)


def multilabel_margin_loss(
    input: Float[Array, "*N C"],
    target: Int[Array, "*N C"],
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Reduced:
    """Scores of classes, of which those that hold should exceed the others by 1.

    loss_n = sum over t in target_n, c not in target_n of max(0, 1 - input[n, t] + input[n, c]),
    divided by C. The targets of a row are those before its first -1.

    Shapes: input (N, C) or (C), target alike -> (N) or (), or () if it is reduced.

    Args:
        input: the scores.
        target: the classes that hold, filled up with -1.
        size_average: refused, since torch replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".

    Raises:
        IndexError: if a concrete target is neither a class nor -1; under `jax.jit` its loss is NaN.
        ValueError: if the shapes do not fit, there are no classes, or the reduction is none of the
            three.
        TypeError: if the targets are not integers, or the input is not floating-point.

    Source: torch.nn.functional.multilabel_margin_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> scores, truth = jnp.array([0.0, 0.25, 0.5, 1.0]), jnp.array([3, 0, -1, 1])
        >>> jaxnn.functional.multilabel_margin_loss(scores, truth)
        Array(0.875, dtype=float32)
    """
    layer = "multilabel_margin_loss"
    check_reduction(reduction, layer, size_average, reduce)
    rows = _scores(input, layer)
    target = check_targets(target, rows.shape[-1], layer, -1)
    if target.shape != rows.shape and not (rows.shape == (1,) and target.shape == ()):
        raise ValueError(
            f"{layer}: `target` must have the input's shape {rows.shape}, got {target.shape}"
        )
    if rows.ndim == 2:
        return _multilabel_margin(rows, target, reduction)
    loss = _multilabel_margin(rows[None], target.reshape(1, -1), reduction)
    return loss.reshape(())


@partial(jax.jit, static_argnums=2, inline=True)
def _multilabel_margin(input: jax.Array, target: jax.Array, reduction: str) -> jax.Array:
    rows, classes = input.astype(accumulation_dtype(input.dtype)), input.shape[-1]
    counts = jnp.cumsum((target == -1).astype(jnp.int32), 1) == 0
    inside = (target < classes) & (target >= -1)
    safe = jnp.where(counts & inside, target, 0)
    numbers_of_classes = jnp.arange(classes, dtype=target.dtype)
    chosen = (safe[:, :, None] == numbers_of_classes[None, None, :]) & counts[:, :, None]
    others = ~chosen.any(1)
    # Not a gather, whose gradient is a scatter: the pairs are made below anyway.
    scores = jnp.where(chosen, rows[:, None, :], 0).sum(2)
    gap = 1 - scores[:, :, None] + rows[:, None, :]
    pairs = counts[:, :, None] & others[:, None, :] & (gap > 0)
    loss = jnp.where(pairs, gap, 0).sum((1, 2)) / classes
    loss = jnp.where(inside.all(1), loss, jnp.nan)
    return reduced(loss, reduction).astype(input.dtype)


def cosine_embedding_loss(
    input1: Num[Array, "*N D"],
    input2: Num[Array, "*N D"],
    target: Num[Array, "*N"],
    margin: Scalar = 0,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Reduced:
    """Angles between vectors: small for like pairs, beyond a margin for unlike ones.

    loss = 1 - cos where target = 1, max(0, cos - margin) where target = -1, 0 elsewhere, with
    cos = sum(x1 x2) / sqrt((sum(x1^2) + 1e-12) (sum(x2^2) + 1e-12))

    Shapes: (N, D), (N, D), (N) -> (N), or (D), (D), () -> (); or () if it is reduced. Sizes of 1
    broadcast. Half precision is computed in float32 and rounded once.

    Args:
        input1: the first vectors x1.
        input2: the second vectors x2.
        target: 1 for like pairs, -1 for unlike ones.
        margin: the largest cosine of unlike pairs; may be traced.
        size_average: refused, since torch replaced it by `reduction`.
        reduce: refused, likewise.
        reduction: "none", "mean" or "sum".

    Raises:
        ValueError: if the shapes do not fit, or the reduction is none of the three.
        TypeError: if neither input is of a floating-point dtype.

    Source: torch.nn.functional.cosine_embedding_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> x1, x2 = jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.array([[0.0, 2.0], [3.0, 4.0]])
        >>> jaxnn.functional.cosine_embedding_loss(x1, x2, jnp.array([1, -1]), reduction="none")
        Array([1. , 0.6], dtype=float32)
    """
    layer = "cosine_embedding_loss"
    check_reduction(reduction, layer, size_average, reduce)
    input1, input2 = numbers(layer, input1=input1, input2=input2)
    target = check_array(target, "target", layer)
    rank = target.ndim + 1
    if rank > 2 or input1.ndim != rank or input2.ndim != rank:
        raise ValueError(
            f"{layer}: the inputs and `target` must have shapes (N, D), (N, D) and (N), or (D), "
            f"(D) and (), got {input1.shape}, {input2.shape} and {target.shape}"
        )
    margin = check_number(margin, "margin", layer)
    rows = jnp.zeros(broadcast(layer, input1=input1, input2=input2)[0].shape[:-1], target.dtype)
    _, target = broadcast(layer, inputs=rows, target=target)
    # Vectors of one element stay so, since their norm is that of the one, as in torch.
    vectors = [jnp.broadcast_to(v, (*target.shape, v.shape[-1])) for v in (input1, input2)]
    target = target.astype(promoted_dtype(*vectors))
    return _cosine_embedding(reduction, (*vectors, target), (margin,))


@elementwise_loss
def _cosine_embedding(
    input1: jax.Array, input2: jax.Array, target: jax.Array, margin: jax.Array
) -> jax.Array:
    eps = 1e-12
    product = ((input1 * input1).sum(-1) + eps) * ((input2 * input2).sum(-1) + eps)
    cosine = (input1 * input2).sum(-1) / jnp.sqrt(product)
    zero = jnp.zeros_like(cosine)
    unlike = jnp.where(target == -1, positive_part(cosine - margin), zero)
    return jnp.where(target == 1, 1 - cosine, zero) + unlike
