"""Gradients and updates of an embedding table that cost what was looked up, not what it holds.

A step looks up few of a large table's rows. `value_and_grad` gives the gradient of those rows, a
`RowGrad`; `sgd`, `adagrad` and `sparse_adam` are optax transformations whose updates touch those
rows alone. Jitted, with the model and the optimizer's state donated, a step takes as long with a
million rows as with a thousand:

    >>> import jax, jax.numpy as jnp, optax
    >>> from flax import nnx
    >>> import jaxnn
    >>> model = jaxnn.Embedding(1000, 4, sparse=True, rngs=nnx.Rngs(0))
    >>> optimizer = nnx.Optimizer(model, jaxnn.sparse.sgd(0.1), wrt=nnx.Param)
    >>> def loss_fn(model, ids):
    ...     return jnp.sum(model(ids) ** 2)
    >>> @nnx.jit(donate_argnames=("model", "optimizer"))
    ... def step(model, optimizer, ids):
    ...     loss, grads = jaxnn.sparse.value_and_grad(loss_fn)(model, ids)
    ...     optimizer.update(model, grads)
    ...     return loss
    >>> losses = [float(step(model, optimizer, jnp.array([7, 3, 7]))) for _ in range(2)]
    >>> losses[1] < losses[0]
    True

Beside other parameters, `optax.partition` gives the tables to one of these transformations and the
rest to any other; `labels` tells the two apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from types import EllipsisType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from .modules._row_tape import RowTape
from .modules.embedding import Embedding, EmbeddingBag

LearningRate = float | Array | Callable[[Array], Any]


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


def value_and_grad(loss_fn: Callable[..., Any], has_aux: bool = False) -> Callable[..., Any]:
    """`nnx.value_and_grad` with respect to a model's `nnx.Param`, with `RowGrad` at sparse tables.

    Where the model has `jaxnn.Embedding(sparse=True)`, the gradient of its table is a `RowGrad` of
    the ids that were looked up: all lookups in the table together, without padding ids and ids out
    of range, and the rows of an id summed. It has as many slots as ids were looked up; the id of an
    unused slot is the number of rows.

    A table whose gradient comes in another way too has a dense one, the sum of all ways: a weight
    that is tied to an output layer, or a lookup inside a transformation within the loss (vmap,
    scan, remat, a jit of its own).

    The loss is traced once more than by `nnx.value_and_grad`, to learn what is looked up.

    Args:
        loss_fn: takes the model and further arguments, and returns a scalar; with `has_aux` a pair
            of it and anything else.
        has_aux: whether it returns such a pair.

    Returns:
        A function of the same arguments. It returns the loss (with `has_aux` the pair) and the
        gradients: an `nnx.State` as `nnx.grad` gives. What the model writes in the call, statistics
        and tables under `max_norm`, is written.

    Raises:
        ValueError: at the call, if a table is looked up whose layer has `scale_grad_by_freq` set.

    Source: the `sparse` option of torch.nn.Embedding.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> model = jaxnn.Embedding(5, 2, sparse=True, rngs=nnx.Rngs(0))
        >>> loss_fn = lambda model, ids: model(ids).sum()
        >>> loss, grads = jaxnn.sparse.value_and_grad(loss_fn)(model, jnp.array([3, 1, 3]))
        >>> grads["weight"][...].ids
        Array([1, 3, 5], dtype=int32)
        >>> grads["weight"][...].rows
        Array([[1., 1.],
               [2., 2.],
               [0., 0.]], dtype=float32)
    """

    @wraps(loss_fn)
    def value_and_row_grad(model: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        paths, shapes = _lookups(loss_fn, has_aux, model, args, kwargs)
        taps = [[jnp.zeros(rows.shape, rows.dtype) for rows in table] for table in shapes]

        def tapped_loss(model: nnx.Module, taps: Any, args: Any, kwargs: Any) -> Any:
            with RowTape(_variables(model, paths), taps).recording() as tape:
                out = loss_fn(model, *args, **kwargs)
            loss, aux = out if has_aux else (out, None)
            return loss, (aux, tape.ids)

        def is_dense(path: tuple[Any, ...], value: Any) -> bool:
            return isinstance(value, nnx.Param) and path not in paths

        differentiated = (nnx.DiffState(0, is_dense), 1)
        (loss, (aux, ids)), (grads, tap_grads) = nnx.value_and_grad(
            tapped_loss, argnums=differentiated, has_aux=True, graph=True, graph_updates=True
        )(model, taps, args, kwargs)

        leaves = dict(nnx.to_flat_state(grads))
        for path, table, table_ids, rows in zip(
            paths, _variables(model, paths), ids, tap_grads, strict=True
        ):
            leaves[path] = table.replace(_row_grad(table_ids, rows, table))
        # In the order of `nnx.state`, which `nnx.grad` keeps.
        ordered = [path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param, graph=True))]
        state = nnx.from_flat_state([(path, leaves[path]) for path in ordered])
        return ((loss, aux) if has_aux else loss), state

    return value_and_row_grad


def labels(model: nnx.Module) -> Callable[[Any], Any]:
    """Return the function that labels a model's parameters or gradients for `optax.partition`.

    Args:
        model: its tables of `jaxnn.Embedding(sparse=True)` are labelled "sparse", every other
            `nnx.Param` "dense".

    Returns:
        A function of a tree of parameters, or of gradients.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from flax import nnx
        >>> import jaxnn
        >>> rngs = nnx.Rngs(0)
        >>> model = jaxnn.Sequential(
        ...     jaxnn.Embedding(9, 4, sparse=True, rngs=rngs), jaxnn.Linear(4, 1, rngs=rngs))
        >>> transforms = {"sparse": jaxnn.sparse.sparse_adam(1e-3), "dense": optax.adam(1e-3)}
        >>> optimizer = nnx.Optimizer(
        ...     model, optax.partition(transforms, jaxnn.sparse.labels(model)), wrt=nnx.Param)
        >>> loss, grads = jaxnn.sparse.value_and_grad(
        ...     lambda model, ids: model(ids).sum())(model, jnp.array([4, 2]))
        >>> updates = optimizer.update(model, grads)
    """
    paths = {tuple(map(str, path)) for path in _sparse_paths(model)}

    def label(path: tuple[Any, ...], leaf: Any) -> str:
        names = tuple(jax.tree_util.keystr((key,), simple=True) for key in path)
        return "sparse" if any(names[: len(table)] == table for table in paths) else "dense"

    return lambda tree: jax.tree_util.tree_map_with_path(label, tree, is_leaf=_is_row_grad)


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
            updates = jax.tree.map(partial(_scaled, -rate), grads, is_leaf=_is_row_grad)
            return updates, SgdState(state.step + 1, ())

        def accumulate(grad: Any, m: Array) -> Array:
            return momentum * m + grad

        momenta = jax.tree.map(accumulate, grads, state.momenta, is_leaf=_is_row_grad)
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
            total = total + _with_rows(grad, grad.rows * grad.rows)
            denominator = jnp.sqrt(_rows_of(total, grad)) + eps
            return _scaled(-rate, _with_rows(grad, grad.rows / denominator)), total

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
            old_mean, old_square = _rows_of(mean, grad), _rows_of(square, grad)
            mean_change = (grad.rows - old_mean) * (1 - beta1)
            square_change = (grad.rows * grad.rows - old_square) * (1 - beta2)
            ratio = (old_mean + mean_change) / (jnp.sqrt(old_square + square_change) + eps)
            return (
                _scaled(-rate, _with_rows(grad, ratio)),
                mean + _with_rows(grad, mean_change),
                square + _with_rows(grad, square_change),
            )

        updates, means, squares = _map_unzip(step, 3, grads, state.exp_avg, state.exp_avg_sq)
        return updates, SparseAdamState(count, means, squares)

    return optax.GradientTransformation(init, update)


def _lookups(
    loss_fn: Callable[..., Any], has_aux: bool, model: nnx.Module, args: Any, kwargs: Any
) -> tuple[list[tuple[Any, ...]], list[list[Any]]]:
    """Trace the loss to learn which tables have all their gradient by recorded lookups.

    Returns:
        Their paths in the model's state, and the shape and dtype of the rows of each lookup.
    """
    paths = _sparse_paths(model)
    in_other_ways: set[int] = set()
    shapes: list[list[Any]] = []
    graphdef, *states = nnx.split(
        (model, args, kwargs), lambda path, _: path[:1] == (0,) and path[1:] in paths, ...
    )

    def loss(tables: Any, rest: Any) -> Any:
        tables = nnx.from_flat_state(
            [
                (path, table.replace(_watched(table[...], i, in_other_ways)))
                for i, (path, table) in enumerate(nnx.to_flat_state(tables))
            ]
        )
        model, args, kwargs = nnx.merge(graphdef, tables, rest, copy=True)
        with RowTape(_variables(model, paths), None).recording() as tape:
            out = loss_fn(model, *args, **kwargs)
        shapes.extend(tape.shapes)
        return out[0] if has_aux else out

    def gradient(tables: Any, rest: Any) -> None:
        value, pullback = jax.vjp(partial(loss, rest=rest), tables)
        pullback(jnp.ones_like(value))

    if paths:
        jax.eval_shape(gradient, *states)
    kept = [i for i in range(len(paths)) if i not in in_other_ways]
    return [paths[i] for i in kept], [shapes[i] for i in kept]


def _watched(table: Array, number: int, used: set[int]) -> Array:
    """Return `table`; if a cotangent comes back to it, `number` is added to `used`."""

    @jax.custom_vjp
    def watch(table: Array) -> Array:
        return table

    def forward(table: Any) -> tuple[Array, None]:
        return table.value, None

    def backward(_: None, cotangent: Any) -> tuple[Any]:
        if not isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
            used.add(number)
        return (cotangent,)

    watch.defvjp(forward, backward, symbolic_zeros=True)
    return watch(table)


def _sparse_paths(model: nnx.Module) -> list[tuple[Any, ...]]:
    """Return the paths, in the model's state, of the tables that sparse embeddings train."""
    nodes = [node for _, node in nnx.iter_graph(model, graph=True)]
    layers = [node for node in nodes if isinstance(node, Embedding | EmbeddingBag)]
    tables = [layer.weight for layer in layers if layer.sparse]
    state = nnx.to_flat_state(nnx.state(model, nnx.Param, graph=True))
    return [path for path, value in state if any(value is table for table in tables)]


def _variables(model: nnx.Module, paths: list[tuple[Any, ...]]) -> list[nnx.Variable[Any]]:
    state = dict(nnx.to_flat_state(nnx.state(model, nnx.Param, graph=True)))
    return [state[path] for path in paths]


def _row_grad(ids: list[Array], rows: list[Array], table: nnx.Variable[Array]) -> RowGrad:
    width = table.shape[1]
    id_dtype = jnp.result_type(jnp.int32, *(part.dtype for part in ids))
    return RowGrad(
        jnp.concatenate([jnp.zeros(0, id_dtype), *(p.reshape(-1).astype(id_dtype) for p in ids)]),
        jnp.concatenate(
            [jnp.zeros((0, width), table.dtype), *(p.reshape(-1, width) for p in rows)]
        ),
        table.shape,
    ).coalesce()


def _is_row_grad(node: Any) -> bool:
    return isinstance(node, RowGrad)


def _with_rows(grad: RowGrad, rows: Float[Array, "K D"]) -> RowGrad:
    return RowGrad(grad.ids, rows, grad.shape, is_coalesced=grad.is_coalesced)


def _rows_of(table: Float[Array, "V D"], grad: RowGrad) -> Float[Array, "K D"]:
    return table.at[grad.ids].get(mode="fill", fill_value=0, wrap_negative_indices=False)


def _scaled(factor: Any, update: Any) -> Any:
    if isinstance(update, RowGrad):
        return _with_rows(update, _scaled(factor, update.rows))
    return jnp.asarray(factor, update.dtype) * update


class _Outputs(NamedTuple):
    each: tuple[Any, ...]


def _map_unzip(
    function: Callable[..., tuple[Any, ...]], outputs: int, grads: Any, *trees: Any
) -> list[Any]:
    """Map over the gradients, and return a tree for each of the function's outputs."""
    mapped = jax.tree.map(
        lambda *leaves: _Outputs(function(*leaves)), grads, *trees, is_leaf=_is_row_grad
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
