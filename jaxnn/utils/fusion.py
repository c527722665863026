"""A batch normalisation in evaluation, put into the linear map or convolution before it."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

Vector = Float[Array, "channels"]


def fuse_conv_bn_weights(
    conv_w: Float[Array, "..."],
    conv_b: Vector | None,
    bn_rm: Vector,
    bn_rv: Vector,
    bn_eps: float,
    bn_w: Vector | None,
    bn_b: Vector | None,
    transpose: bool = False,
) -> tuple[Float[Array, "..."], Vector]:
    """Return weight and bias of a convolution that does what a convolution and a norm do.

    W' = W s, b' = (b - mean) s + b_n, s = w_n / sqrt(var + eps), channel by channel

    Args:
        conv_w: W, whose output channels are dimension 0, of a transposed convolution 1.
        conv_b: b, or None for 0.
        bn_rm: the running mean.
        bn_rv: the running variance.
        bn_eps: eps.
        bn_w: w_n, or None for 1.
        bn_b: b_n, or None for 0.
        transpose: whether W is that of a transposed convolution.

    Source: torch.nn.utils.fuse_conv_bn_weights.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> one = jnp.ones(1)
        >>> jaxnn.utils.fuse_conv_bn_weights(
        ...     jnp.full((1, 1, 1), 6.0), None, one, 3 * one, 1.0, None, None
        ... )
        (Array([[[3.]]], dtype=float32), Array([-0.5], dtype=float32))
    """
    scale = _scale(bn_rv, bn_eps, bn_w)
    shape = [1] * conv_w.ndim
    shape[1 if transpose else 0] = -1
    weight = conv_w.astype(scale.dtype) * jnp.broadcast_to(scale.reshape(shape), conv_w.shape)
    bias = _bias(conv_b, bn_rm, scale, bn_b)
    return weight.astype(conv_w.dtype), bias.astype(
        conv_w.dtype if conv_b is None else conv_b.dtype
    )


def fuse_linear_bn_weights(
    linear_w: Float[Array, "out in"],
    linear_b: Vector | None,
    bn_rm: Vector,
    bn_rv: Vector,
    bn_eps: float,
    bn_w: Vector | None,
    bn_b: Vector | None,
) -> tuple[Float[Array, "out in"], Vector]:
    """Return weight and bias of a linear map that does what a linear map and a norm do.

    As `fuse_conv_bn_weights`; the norm may have a single channel for all features.

    Source: torch.nn.utils.fuse_linear_bn_weights.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> one = jnp.ones(1)
        >>> jaxnn.utils.fuse_linear_bn_weights(
        ...     jnp.full((1, 1), 6.0), None, one, 3 * one, 1.0, one, one
        ... )
        (Array([[3.]], dtype=float32), Array([0.5], dtype=float32))
    """
    scale = _scale(bn_rv, bn_eps, bn_w)
    weight = linear_w * jnp.broadcast_to(scale[:, None].astype(linear_w.dtype), linear_w.shape)
    bias = _bias(linear_b, bn_rm, scale, bn_b)
    return weight, bias.astype(linear_w.dtype if linear_b is None else linear_b.dtype)


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """Return a copy of a convolution that also does what the norm after it does in evaluation.

    Args:
        conv: the convolution.
        bn: the batch normalisation, in evaluation mode, with running statistics.
        transpose: whether the convolution is a transposed one.

    Raises:
        ValueError: if the norm is in training mode or has no statistics.

    Source: torch.nn.utils.fuse_conv_bn_eval.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> conv = jaxnn.Conv2d(3, 4, 3, bias=False, rngs=nnx.Rngs(0))
        >>> jaxnn.utils.fuse_conv_bn_eval(conv, jaxnn.BatchNorm2d(4).eval()).bias.shape
        (4,)
    """
    return _fused(conv, bn, partial(fuse_conv_bn_weights, transpose=transpose))


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """Return a copy of a linear layer that also does what the norm after it does in evaluation.

    Args:
        linear: the linear layer.
        bn: the batch normalisation, in evaluation mode, with running statistics, of as many
            features or one.

    Raises:
        ValueError: if the norm is in training mode, has no statistics, or does not fit.

    Source: torch.nn.utils.fuse_linear_bn_eval.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> linear = jaxnn.Linear(3, 4, rngs=nnx.Rngs(0))
        >>> jaxnn.utils.fuse_linear_bn_eval(linear, jaxnn.BatchNorm1d(4).eval()).weight.shape
        (4, 3)
    """
    if bn.num_features not in (1, linear.out_features):
        raise ValueError(
            f"fuse_linear_bn_eval: the norm must have {linear.out_features} features or 1, got "
            f"{bn.num_features}"
        )
    return _fused(linear, bn, fuse_linear_bn_weights)


def _scale(variance: Vector, eps: float, weight: Vector | None) -> Vector:
    inverse = lax.rsqrt(variance + eps)
    return inverse if weight is None else weight * inverse


def _bias(bias: Vector | None, mean: Vector, scale: Vector, norm_bias: Vector | None) -> Vector:
    centred = -mean if bias is None else jnp.subtract(*_broadcast(bias, mean))
    scaled = jnp.multiply(*_broadcast(centred, scale))
    return scaled if norm_bias is None else jnp.add(*_broadcast(scaled, norm_bias))


def _broadcast(left: Vector, right: Vector) -> list[Vector]:
    shape = jnp.broadcast_shapes(left.shape, right.shape)
    return [jnp.broadcast_to(array.astype(right.dtype), shape) for array in (left, right)]


def _fused(module: Any, bn: Any, fuse: Any) -> Any:
    if not bn.use_running_average:
        raise ValueError("only a norm in evaluation mode can be fused: call bn.eval() first")
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError("only a norm with running statistics can be fused")
    fused = nnx.clone(module)
    values = (
        None if variable is None else variable[...]
        for variable in (module.weight, module.bias, bn.running_mean, bn.running_var)
    )  # fmt: skip
    affine = (None if variable is None else variable[...] for variable in (bn.weight, bn.bias))
    weight, bias = fuse(*values, bn.eps, *affine)
    fused.weight[...] = weight
    fused.bias = nnx.data(type(fused.weight)(bias))
    return fused
