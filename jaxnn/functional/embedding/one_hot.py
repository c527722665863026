"""Rows that are 1 at a class, and 0 elsewhere."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ..._checks import check_array, check_int, is_readable
from ..._config import check_indices
from ..._dtypes import index_dtype


def one_hot(input: Int[Array, "*shape"], num_classes: int = -1) -> Int[Array, "*shape classes"]:
    """Rows that are 1 at the given classes and 0 elsewhere.

    Formula:
        out[..., k] = 1 where k = input[...], else 0

    Shapes: (*) -> (*, num_classes), of int64 where JAX has 64 bits, else int32.

    Args:
        input: classes, int32 or int64, 0 <= class < num_classes.
        num_classes: how many there are; -1 for one more than the largest in `input`, which then
            must be concrete.

    Raises:
        IndexError: if a class is out of range and `input` is concrete. Under `jax.jit` its row is
            zero.
        TypeError: if `input` is not int32 or int64, or `num_classes` is not an int.
        ValueError: if `num_classes` is -1 and `input` is traced or empty.

    Source: torch.nn.functional.one_hot.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.one_hot(jnp.array([0, 2]))
        Array([[1, 0, 0],
               [0, 0, 1]], dtype=int32)
    """
    num_classes = check_int(num_classes, "num_classes", "one_hot")
    classes = check_array(input, "input", "one_hot")
    if classes.dtype not in (jnp.int32, jnp.int64):
        raise TypeError(
            f"one_hot: `input` must be int32 or int64, got {classes.dtype}; convert it with astype"
        )
    if num_classes == -1:
        if isinstance(classes, jax.core.Tracer):
            raise ValueError(
                "one_hot: num_classes=-1 counts the classes in `input`, which is traced: give "
                "num_classes"
            )
        if classes.size == 0:
            raise ValueError("one_hot: num_classes=-1 needs a class, got none: give num_classes")
        num_classes = int(np.asarray(classes).max()) + 1
    if num_classes < 1:
        raise ValueError(f"one_hot: `num_classes` must be at least 1, or -1, got {num_classes}")
    if is_readable(classes) and check_indices.enabled and classes.size:
        for value in (int(np.asarray(classes).min()), int(np.asarray(classes).max())):
            if not 0 <= value < num_classes:
                raise IndexError(
                    f"one_hot: `input` has the class {value}, which must lie between 0 and "
                    f"num_classes - 1 = {num_classes - 1}"
                )
    return _one_hot(classes, num_classes)


@partial(jax.jit, static_argnums=1, inline=True)
def _one_hot(classes: Int[Array, "*shape"], num_classes: int) -> Int[Array, "*shape classes"]:
    places = jnp.arange(num_classes, dtype=classes.dtype)
    places = places.reshape((1,) * classes.ndim + (num_classes,))
    return (classes[..., None] == places).astype(index_dtype())
