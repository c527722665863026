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

from .gradients import labels as labels
from .gradients import value_and_grad as value_and_grad
from .optimizers import AdagradState as AdagradState
from .optimizers import SgdState as SgdState
from .optimizers import SparseAdamState as SparseAdamState
from .optimizers import adagrad as adagrad
from .optimizers import sgd as sgd
from .optimizers import sparse_adam as sparse_adam
from .row_grad import RowGrad as RowGrad
