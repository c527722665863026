"""Optax transformations whose updates touch the rows alone that have a gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from .row_grad import RowGrad, is_row_grad, rows_of, with_rows

LearningRate = float | Array | Callable[[Array], Any]


class SgdState(NamedTuple):
    """State of `sgd`: the number of updates, and the momenta, if any."""

    step: Int[Array, ""]
    momenta: Any


def sgd(learning_rate: LearningRate = 1e-3, momentum: float = 0.0) -> optax.GradientTransformation:
    """Stochastic gradient descent, for `RowGrad` and dense gradients alike.

    Formula:
        m = momentum * m + g;  w = w - learning_rate * m

    Args:
        learning_rate: a number, or an optax schedule.
        momentum: as in torch, every row that once had a gradient keeps moving. So with momentum a
            step's cost is that of the whole table.

    Raises:
        ValueError: if an option is negative.

    Source: torch.optim.SGD.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> import jaxnn
        >>> table = jnp.ones((3, 2))
        >>> optimizer = jaxnn.sparse.sgd(0.5)
        >>> grad = jaxnn.sparse.RowGrad(jnp.array([1]), jnp.ones((1, 2)), (3, 2))
        >>> updates, state = optimizer.update(grad, optimizer.init(table))
        >>> optax.apply_updates(table, updates)
        Array([[1. , 1. ],
               [0.5, 0.5],
               [1. , 1. ]], dtype=float32)
    """
    _check_not_negative("sgd", learning_rate=learning_rate, momentum=momentum)

    def init(params: Any) -> SgdState:
        return SgdState(
            jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params) if momentum else ()
        )

    def update(grads: Any, state: SgdState, params: Any = None) -> tuple[Any, SgdState]:
        rate = _rate(learning_rate, state.step)
        if not momentum:
            updates = jax.tree.map(partial(_scaled, -rate), grads, is_leaf=is_row_grad)
            return updates, SgdState(state.step + 1, ())

        def accumulate(grad: Any, m: Array) -> Array:
            return momentum * m + grad

        momenta = jax.tree.map(accumulate, grads, state.momenta, is_leaf=is_row_grad)
        updates = jax.tree.map(partial(_scaled, -rate), momenta)
        return updates, SgdState(state.step + 1, momenta)

    return optax.GradientTransformation(init, update)


class AdagradState(NamedTuple):
    """State of `adagrad`: the number of updates, and the sums of squared gradients."""

    step: Int[Array, ""]
    sums: Any


def adagrad(
    learning_rate: LearningRate = 1e-2,
    lr_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
) -> optax.GradientTransformation:
    """Adagrad, for `RowGrad` and dense gradients alike; of the former only the rows are touched.

    Formula:
        s = s + g^2;  w = w - learning_rate / (1 + t * lr_decay) * g / (sqrt(s) + eps)
        with t the number of updates before

    Args:
        learning_rate: a number, or an optax schedule.
        lr_decay: how the learning rate decays.
        initial_accumulator_value: s at the start.
        eps: keeps the denominator from zero.

    Raises:
        ValueError: if an option is negative.

    Source: Duchi et al. 2011; torch.optim.Adagrad.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> import jaxnn
        >>> table = jnp.ones((3, 2))
        >>> optimizer = jaxnn.sparse.adagrad(0.5)
        >>> grad = jaxnn.sparse.RowGrad(jnp.array([1]), jnp.full((1, 2), 8.0), (3, 2))
        >>> updates, state = optimizer.update(grad, optimizer.init(table))
        >>> optax.apply_updates(table, updates)
        Array([[1. , 1. ],
               [0.5, 0.5],
               [1. , 1. ]], dtype=float32)
    """
    _check_not_negative(
        "adagrad",
        learning_rate=learning_rate,
        lr_decay=lr_decay,
        initial_accumulator_value=initial_accumulator_value,
        eps=eps,
    )

    def init(params: Any) -> AdagradState:
        sums = jax.tree.map(lambda p: jnp.full_like(p, initial_accumulator_value), params)
        return AdagradState(jnp.zeros((), jnp.int32), sums)

    def update(grads: Any, state: AdagradState, params: Any = None) -> tuple[Any, AdagradState]:
        rate = _rate(learning_rate, state.step) / (1 + state.step.astype(jnp.float32) * lr_decay)

        def step(grad: Any, total: Array) -> tuple[Any, Array]:
            if not isinstance(grad, RowGrad):
                total = total + grad * grad
                return _scaled(-rate, grad / (jnp.sqrt(total) + eps)), total
            grad = grad.coalesce()
            total = total + with_rows(grad, grad.rows * grad.rows)
            denominator = jnp.sqrt(rows_of(total, grad)) + eps
            return _scaled(-rate, with_rows(grad, grad.rows / denominator)), total

        updates, sums = _map_unzip(step, 2, grads, state.sums)
        return updates, AdagradState(state.step + 1, sums)

    return optax.GradientTransformation(init, update)


class SparseAdamState(NamedTuple):
    """State of `sparse_adam`: the number of updates, and the two running means of each table."""

    step: Int[Array, ""]
    exp_avg: Any
    exp_avg_sq: Any


def sparse_adam(
    learning_rate: LearningRate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """Adam whose running means, and table, change only in the rows that have a gradient.

    Formula, for those rows, in update t = 1, 2, ...:
        m = b1 * m + (1 - b1) * g;  v = b2 * v + (1 - b2) * g^2
        w = w - learning_rate * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps)

    Args:
        learning_rate: a number, or an optax schedule.
        betas: b1 and b2, both in [0, 1).
        eps: keeps the denominator from zero.

    Raises:
        TypeError: at the update, if a gradient is no `RowGrad`.
        ValueError: if an option is out of range.

    Source: torch.optim.SparseAdam.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> import jaxnn
        >>> table = jnp.ones((3, 2))
        >>> optimizer = jaxnn.sparse.sparse_adam(0.5)
        >>> grad = jaxnn.sparse.RowGrad(jnp.array([1]), jnp.full((1, 2), 8.0), (3, 2))
        >>> updates, state = optimizer.update(grad, optimizer.init(table))
        >>> optax.apply_updates(table, updates)
        Array([[1. , 1. ],
               [0.5, 0.5],
               [1. , 1. ]], dtype=float32)
    """
    _check_not_negative("sparse_adam", learning_rate=learning_rate, eps=eps)
    if not (len(betas) == 2 and all(0 <= beta < 1 for beta in betas)):
        raise ValueError(f"sparse_adam: `betas` must be two numbers in [0, 1), got {betas}")
    beta1, beta2 = betas

    def init(params: Any) -> SparseAdamState:
        zeros = partial(jax.tree.map, jnp.zeros_like)
        return SparseAdamState(jnp.zeros((), jnp.int32), zeros(params), zeros(params))

    def update(
        grads: Any, state: SparseAdamState, params: Any = None
    ) -> tuple[Any, SparseAdamState]:
        count = state.step + 1
        correction = jnp.sqrt(_one_minus_power(beta2, count)) / _one_minus_power(beta1, count)
        rate = _rate(learning_rate, state.step) * correction

        def step(grad: Any, mean: Array, square: Array) -> tuple[Any, Array, Array]:
            if not isinstance(grad, RowGrad):
                raise TypeError(
                    f"sparse_adam: gradients must be RowGrad, got {type(grad).__name__}: give the "
                    "dense ones to optax.adam, by optax.partition with jaxnn.sparse.labels(model)"
                )
            grad = grad.coalesce()
            old_mean, old_square = rows_of(mean, grad), rows_of(square, grad)
            mean_change = (grad.rows - old_mean) * (1 - beta1)
            square_change = (grad.rows * grad.rows - old_square) * (1 - beta2)
            ratio = (old_mean + mean_change) / (jnp.sqrt(old_square + square_change) + eps)
            return (
                _scaled(-rate, with_rows(grad, ratio)),
                mean + with_rows(grad, mean_change),
                square + with_rows(grad, square_change),
            )

        updates, means, squares = _map_unzip(step, 3, grads, state.exp_avg, state.exp_avg_sq)
        return updates, SparseAdamState(count, means, squares)

    return optax.GradientTransformation(init, update)


def _scaled(factor: Any, update: Any) -> Any:
    if isinstance(update, RowGrad):
        return with_rows(update, _scaled(factor, update.rows))
    return jnp.asarray(factor, update.dtype) * update


class _Outputs(NamedTuple):
    each: tuple[Any, ...]


def _map_unzip(
    function: Callable[..., tuple[Any, ...]], outputs: int, grads: Any, *trees: Any
) -> list[Any]:
    """Map over the gradients, and return a tree for each of the function's outputs."""
    mapped = jax.tree.map(
        lambda *leaves: _Outputs(function(*leaves)), grads, *trees, is_leaf=is_row_grad
    )

    def output(i: int) -> Any:
        return jax.tree.map(
            lambda leaf: leaf.each[i], mapped, is_leaf=lambda node: isinstance(node, _Outputs)
        )

    return [output(i) for i in range(outputs)]


def _rate(learning_rate: LearningRate, count: Int[Array, ""]) -> Any:
    return learning_rate(count) if callable(learning_rate) else learning_rate


def _one_minus_power(beta: float, count: Int[Array, ""]) -> Float[Array, ""]:
    # 1 - beta**count in single precision loses half of its digits while count is small.
    logarithm = math.log(beta) if beta else -math.inf
    return -jnp.expm1(logarithm * count.astype(jnp.float32))


def _check_not_negative(function: str, **options: Any) -> None:
    for name, value in options.items():
        if isinstance(value, (int, float)) and not value >= 0:
            raise ValueError(f"{function}: `{name}` must not be negative, got {value}")
