"""Values whose gradient is not that of the arithmetic that made them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float


@jax.custom_jvp
def straight_through(w: Float[Array, "..."], new: Float[Array, "..."]) -> Float[Array, "..."]:
    """`new`, with the derivative of `w`: a write that differentiation does not see.

    Formula:
        straight_through(w, new) = new, and d straight_through = dw

    The sum `w + stop_gradient(new - w)` has the same derivative, but rounds.

    Args:
        w: the value before the write, shape (...).
        new: the value after it, same shape and dtype.

    Returns:
        `new`, bit for bit.

    Example:
        >>> import jax
        >>> jax.value_and_grad(lambda w: straight_through(w, 2 * w))(3.0)
        (Array(6., dtype=float32, weak_type=True), Array(1., dtype=float32, weak_type=True))
    """
    del w
    return new


@straight_through.defjvp
def _straight_through_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    return straight_through(*primals), tangents[0]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def with_derivative_of(
    value: Callable[[jax.Array], jax.Array],
    derivative: Callable[[jax.Array], jax.Array],
    x: Float[Array, "..."],
) -> Float[Array, "..."]:
    """Return `value(x)`, whose derivative is the linear map `derivative`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxnn.functional._gradients import with_derivative_of
        >>> jax.grad(lambda x: with_derivative_of(jnp.sign, lambda t: 2 * t, x))(3.0)
        Array(2., dtype=float32, weak_type=True)
    """
    return value(x)


@with_derivative_of.defjvp
def _with_derivative_of_jvp(
    value: Callable[[jax.Array], jax.Array],
    derivative: Callable[[jax.Array], jax.Array],
    primals: tuple[jax.Array],
    tangents: tuple[jax.Array],
) -> tuple[jax.Array, jax.Array]:
    return with_derivative_of(value, derivative, *primals), derivative(*tangents)


def with_transpose_of(
    value: Callable[..., jax.Array],
    transpose: Callable[..., jax.Array],
    x: Float[Array, "..."],
    *constants: jax.Array,
) -> Float[Array, "..."]:
    """Return `value(x, *constants)`, linear in `x`, whose transpose is `transpose`.

    For a map whose transpose is slow as JAX writes it, such as a scatter for a gather. Both modes
    of differentiation take it, as often as one likes. The constants have no derivative, and the
    transpose gets them too.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxnn.functional._gradients import with_transpose_of
        >>> def twice(x): return jnp.concatenate([x, x])
        >>> def back(t): return t[:2] + t[2:]
        >>> _, pullback = jax.vjp(lambda x: with_transpose_of(twice, back, x), jnp.ones(2))
        >>> pullback(jnp.arange(4.0))[0]
        Array([2., 4.], dtype=float32)
    """
    fixed = map(lax.stop_gradient, constants)
    output: jax.Array = _linear.bind(x, *fixed, value=value, transpose=transpose)
    return output


# A primitive, since of JAX's own ways one cannot be mapped (linear_call) and one has no forward
# mode (custom_vjp).
_linear = Primitive("linear")


@_linear.def_impl
def _linear_value(*arrays: jax.Array, value: Any, transpose: Any) -> jax.Array:
    del transpose
    output: jax.Array = jax.jit(value)(*arrays)
    return output


@_linear.def_abstract_eval
def _linear_shape(x: Any, *constants: Any, value: Any, transpose: Any) -> Any:
    del transpose
    shapes = (jax.ShapeDtypeStruct(each.shape, each.dtype) for each in (x, *constants))
    output = jax.eval_shape(value, *shapes)
    return x.update(shape=output.shape, dtype=output.dtype)


def _linear_jvp(primals: Any, tangents: Any, **maps: Any) -> tuple[jax.Array, Any]:
    output = _linear.bind(*primals, **maps)
    if isinstance(tangents[0], ad.Zero):
        return output, ad.Zero(jax.typeof(output).to_tangent_aval())
    return output, _linear.bind(tangents[0], *primals[1:], **maps)


def _linear_transpose(
    cotangent: Any, _: Any, *constants: Any, value: Any, transpose: Any
) -> list[Any]:
    back = _linear.bind(cotangent, *constants, value=transpose, transpose=value)
    return [back, *[None] * len(constants)]


def _linear_mapped(arrays: Any, dims: Any, *, value: Any, transpose: Any) -> tuple[jax.Array, int]:
    size = next(a.shape[d] for a, d in zip(arrays, dims, strict=True) if d is not None)
    x, *constants = (
        a if d is None else jnp.moveaxis(a, d, 0) for a, d in zip(arrays, dims, strict=True)
    )
    if dims[0] is None:
        x = jnp.broadcast_to(x, (size, *x.shape))
    over = (0, *(None if d is None else 0 for d in dims[1:]))
    mapped = {"value": jax.vmap(value, over), "transpose": jax.vmap(transpose, over)}
    return _linear.bind(x, *constants, **mapped), 0


ad.deflinear2(_linear, _linear_transpose)
ad.primitive_jvps[_linear] = _linear_jvp
batching.primitive_batchers[_linear] = _linear_mapped
mlir.register_lowering(
    _linear,
    mlir.lower_fun(lambda *arrays, value, transpose: value(*arrays), multiple_results=False),
)


def magnitude(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """|x|, with derivative 0 at 0 and at NaN, where that of jnp.abs is 1 and NaN."""
    return x * lax.stop_gradient(jnp.where(jnp.isnan(x), 0, jnp.sign(x)))
