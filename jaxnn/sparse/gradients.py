"""Gradients with `RowGrad` at the tables of sparse embeddings, and labels that tell them apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from ..modules import Embedding, EmbeddingBag
from ..modules._row_tape import RowTape
from .row_grad import RowGrad, is_row_grad


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

    return lambda tree: jax.tree_util.tree_map_with_path(label, tree, is_leaf=is_row_grad)


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
