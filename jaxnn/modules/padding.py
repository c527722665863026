"""Padding layers, over one core for any number of dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from flax import nnx
from jaxtyping import Array, Shaped

from .. import functional as F
from .._checks import check_int
from .._types import IntOrInts
from ._module import Module, name_of


class _Pad(Module):
    """A padding of the last `_n` dimensions."""

    _n: int
    _mode = "constant"

    def __init__(self, padding: IntOrInts, *, rngs: nnx.Rngs | None = None) -> None:
        name = name_of(self)
        if isinstance(padding, Sequence) and not isinstance(padding, str):
            self.padding = tuple(check_int(number, "padding", name) for number in padding)
        else:
            self.padding = (check_int(padding, "padding", name),) * (2 * self._n)
        if len(self.padding) % 2:
            raise ValueError(
                f"{name}: `padding` must be an int or {2 * self._n} ints, got {padding!r}"
            )

    def __call__(self, input: Shaped[Array, "*dims"]) -> Shaped[Array, "*padded"]:
        return F.pad(input, self.padding, self._mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    """A padding with one value."""

    def __init__(self, padding: IntOrInts, value: float, *, rngs: nnx.Rngs | None = None) -> None:
        super().__init__(padding, rngs=rngs)
        self.value = value

    def __call__(self, input: Shaped[Array, "*dims"]) -> Shaped[Array, "*padded"]:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class _ReflectionPad(_Pad):
    """A padding with what is mirrored about the edges."""

    _mode = "reflect"


class _ReplicationPad(_Pad):
    """A padding with the edges."""

    _mode = "replicate"


class _CircularPad(_Pad):
    """A padding with what comes round from the other end."""

    _mode = "circular"

    def __call__(self, input: Shaped[Array, "*N C *dims"]) -> Shaped[Array, "*N C *padded"]:
        if input.ndim not in (self._n + 1, self._n + 2):
            raise ValueError(
                f"{name_of(self)}: `input` must have {self._n + 2} dimensions, or "
                f"{self._n + 1} without N, got shape {input.shape}"
            )
        return super().__call__(input)


class ConstantPad1d(_ConstantPad):
    """Pad the last dimension with one value.

    See `ConstantPad2d`.

    Shapes: (*, W) -> (*, W + before + after), with any number of dimensions in front.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ConstantPad1d((2, 1), 9)(jnp.array([[1, 2, 3]]))
        Array([[9, 9, 1, 2, 3, 9]], dtype=int32)
    """

    _n = 1


class ConstantPad2d(_ConstantPad):
    """Pad the last two dimensions with one value.

    See `jaxnn.functional.pad`.

    Shapes: (*, H, W) -> (*, H + top + bottom, W + left + right), with any number of dimensions in
    front.

    Args:
        padding: how much is added on each side: one number for all, or pairs (before, after),
            the last dimension's first: (left, right, top, bottom). A negative number crops.
        value: what is added.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ConstantPad2d((1, 0, 0, 1), 9)(jnp.array([[[1, 2], [3, 4]]]))
        Array([[[9, 1, 2],
                [9, 3, 4],
                [9, 9, 9]]], dtype=int32)
    """

    _n = 2


class ConstantPad3d(_ConstantPad):
    """Pad the last three dimensions with one value.

    See `ConstantPad2d`.

    Shapes: (*, D, H, W) -> (*, D + front + back, H + top + bottom, W + left + right), with any
    number of dimensions in front.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ConstantPad3d((1, 0, 0, 1, 0, 0), 9)(jnp.array([[[[1, 2], [3, 4]]]]))
        Array([[[[9, 1, 2],
                 [9, 3, 4],
                 [9, 9, 9]]]], dtype=int32)
    """

    _n = 3


class ZeroPad1d(_Pad):
    """Pad the last dimension with zeros.

    As `ConstantPad2d` with the value 0.

    Shapes: (*, W) -> (*, W + before + after), with any number of dimensions in front.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ZeroPad1d((2, 1))(jnp.array([[1, 2, 3]]))
        Array([[0, 0, 1, 2, 3, 0]], dtype=int32)
    """

    _n = 1


class ZeroPad2d(_Pad):
    """Pad the last two dimensions with zeros.

    As `ConstantPad2d` with the value 0.

    Shapes: (*, H, W) -> (*, H + top + bottom, W + left + right), with any number of dimensions in
    front.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ZeroPad2d((1, 0, 0, 1))(jnp.array([[[1, 2], [3, 4]]]))
        Array([[[0, 1, 2],
                [0, 3, 4],
                [0, 0, 0]]], dtype=int32)
    """

    _n = 2


class ZeroPad3d(_Pad):
    """Pad the last three dimensions with zeros.

    As `ConstantPad2d` with the value 0.

    Shapes: (*, D, H, W) -> (*, D + front + back, H + top + bottom, W + left + right), with any
    number of dimensions in front.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ZeroPad3d((1, 0, 0, 1, 0, 0))(jnp.array([[[[1, 2], [3, 4]]]]))
        Array([[[[0, 1, 2],
                 [0, 3, 4],
                 [0, 0, 0]]]], dtype=int32)
    """

    _n = 3


class ReflectionPad1d(_ReflectionPad):
    """Pad the last dimension with what is mirrored about the edges, without repeating them.

    See `ConstantPad2d` for `padding`, and `jaxnn.functional.pad`, mode "reflect", for the formula
    and the bounds.

    Shapes: (N, C, W) or (C, W) -> (N, C, W + before + after), or without N.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ReflectionPad1d((2, 1))(jnp.array([[1, 2, 3]]))
        Array([[3, 2, 1, 2, 3, 2]], dtype=int32)
    """

    _n = 1


class ReflectionPad2d(_ReflectionPad):
    """Pad the last two dimensions with what is mirrored about the edges, without repeating them.

    See `ConstantPad2d` for `padding`, and `jaxnn.functional.pad`, mode "reflect", for the formula
    and the bounds.

    Shapes: (N, C, H, W) or (C, H, W) -> (N, C, H + top + bottom, W + left + right), or without N.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ReflectionPad2d((1, 0, 0, 1))(jnp.array([[[1, 2], [3, 4]]]))
        Array([[[2, 1, 2],
                [4, 3, 4],
                [2, 1, 2]]], dtype=int32)
    """

    _n = 2


class ReflectionPad3d(_ReflectionPad):
    """Pad the last three dimensions with what is mirrored about the edges, without repeating them.

    See `ConstantPad2d` for `padding`, and `jaxnn.functional.pad`, mode "reflect", for the formula
    and the bounds.

    Shapes: (N, C, D, H, W) or (C, D, H, W) -> (N, C, D + front + back, H + top + bottom, W + left +
    right), or without N.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ReflectionPad3d((1, 0, 0, 1, 0, 0))(jnp.array([[[[1, 2], [3, 4]]]]))
        Array([[[[2, 1, 2],
                 [4, 3, 4],
                 [2, 1, 2]]]], dtype=int32)
    """

    _n = 3


class ReplicationPad1d(_ReplicationPad):
    """Pad the last dimension with the edges.

    See `ConstantPad2d` for `padding`, and `jaxnn.functional.pad`, mode "replicate", for the formula
    and the bounds.

    Shapes: (N, C, W) or (C, W) -> (N, C, W + before + after), or without N.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ReplicationPad1d((2, 1))(jnp.array([[1, 2, 3]]))
        Array([[1, 1, 1, 2, 3, 3]], dtype=int32)
    """

    _n = 1


class ReplicationPad2d(_ReplicationPad):
    """Pad the last two dimensions with the edges.

    See `ConstantPad2d` for `padding`, and `jaxnn.functional.pad`, mode "replicate", for the formula
    and the bounds.

    Shapes: (N, C, H, W) or (C, H, W) -> (N, C, H + top + bottom, W + left + right), or without N.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ReplicationPad2d((1, 0, 0, 1))(jnp.array([[[1, 2], [3, 4]]]))
        Array([[[1, 1, 2],
                [3, 3, 4],
                [3, 3, 4]]], dtype=int32)
    """

    _n = 2


class ReplicationPad3d(_ReplicationPad):
    """Pad the last three dimensions with the edges.

    See `ConstantPad2d` for `padding`, and `jaxnn.functional.pad`, mode "replicate", for the formula
    and the bounds.

    Shapes: (N, C, D, H, W) or (C, D, H, W) -> (N, C, D + front + back, H + top + bottom, W + left +
    right), or without N.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ReplicationPad3d((1, 0, 0, 1, 0, 0))(jnp.array([[[[1, 2], [3, 4]]]]))
        Array([[[[1, 1, 2],
                 [3, 3, 4],
                 [3, 3, 4]]]], dtype=int32)
    """

    _n = 3


class CircularPad1d(_CircularPad):
    """Pad the last dimension with what comes round from the other end.

    See `ConstantPad2d` for `padding`, and `jaxnn.functional.pad`, mode "circular", for the formula
    and the bounds.

    Shapes: (N, C, W) or (C, W) -> (N, C, W + before + after), or without N.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.CircularPad1d((2, 1))(jnp.array([[1, 2, 3]]))
        Array([[2, 3, 1, 2, 3, 1]], dtype=int32)
    """

    _n = 1


class CircularPad2d(_CircularPad):
    """Pad the last two dimensions with what comes round from the other end.

    See `ConstantPad2d` for `padding`, and `jaxnn.functional.pad`, mode "circular", for the formula
    and the bounds.

    Shapes: (N, C, H, W) or (C, H, W) -> (N, C, H + top + bottom, W + left + right), or without N.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.CircularPad2d((1, 0, 0, 1))(jnp.array([[[1, 2], [3, 4]]]))
        Array([[[2, 1, 2],
                [4, 3, 4],
                [2, 1, 2]]], dtype=int32)
    """

    _n = 2


class CircularPad3d(_CircularPad):
    """Pad the last three dimensions with what comes round from the other end.

    See `ConstantPad2d` for `padding`, and `jaxnn.functional.pad`, mode "circular", for the formula
    and the bounds.

    Shapes: (N, C, D, H, W) or (C, D, H, W) -> (N, C, D + front + back, H + top + bottom, W + left +
    right), or without N.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.CircularPad3d((1, 0, 0, 1, 0, 0))(jnp.array([[[[1, 2], [3, 4]]]]))
        Array([[[[2, 1, 2],
                 [4, 3, 4],
                 [2, 1, 2]]]], dtype=int32)
    """

    _n = 3
