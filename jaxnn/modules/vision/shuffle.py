"""Pixels and channels in another order."""

from __future__ import annotations

from flax import nnx
from jaxtyping import Array, Shaped

from ... import functional as F
from ..._checks import check_int
from .._module import Module


class PixelShuffle(Module):
    """Spread the channels over finer pixels: see `jaxnn.functional.pixel_shuffle`.

    Shapes: (*N, C r^2, H, W) -> (*N, C, H r, W r), where r is `upscale_factor`.

    Args:
        upscale_factor: how many times higher and wider the output is.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.PixelShuffle(2)(jnp.arange(4.0).reshape(4, 1, 1))
        Array([[[0., 1.],
                [2., 3.]]], dtype=float32)
    """

    _shown = ("upscale_factor",)

    def __init__(self, upscale_factor: int, *, rngs: nnx.Rngs | None = None) -> None:
        self.upscale_factor = check_int(
            upscale_factor, "upscale_factor", "jaxnn.PixelShuffle", minimum=1
        )

    def __call__(self, input: Shaped[Array, "*N C*r*r H W"]) -> Shaped[Array, "*N C H*r W*r"]:
        return F.pixel_shuffle(input, self.upscale_factor)


class PixelUnshuffle(Module):
    """Gather finer pixels into channels: the inverse of `PixelShuffle`.

    See `jaxnn.functional.pixel_unshuffle`.

    Shapes: (*N, C, H r, W r) -> (*N, C r^2, H, W), where r is `downscale_factor`.

    Args:
        downscale_factor: how many times lower and narrower the output is.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.PixelUnshuffle(2)(jnp.arange(4.0).reshape(1, 2, 2)).ravel()
        Array([0., 1., 2., 3.], dtype=float32)
    """

    _shown = ("downscale_factor",)

    def __init__(self, downscale_factor: int, *, rngs: nnx.Rngs | None = None) -> None:
        self.downscale_factor = check_int(
            downscale_factor, "downscale_factor", "jaxnn.PixelUnshuffle", minimum=1
        )

    def __call__(self, input: Shaped[Array, "*N C H*r W*r"]) -> Shaped[Array, "*N C*r*r H W"]:
        return F.pixel_unshuffle(input, self.downscale_factor)


class ChannelShuffle(Module):
    """Deal the channels of all groups out in turn: see `jaxnn.functional.channel_shuffle`.

    Shapes: (N, C, *spatial), with one spatial dimension at least; kept.

    Args:
        groups: the number of groups, which divides the channels.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.ChannelShuffle(2)(jnp.arange(4.0).reshape(1, 4, 1)).ravel()
        Array([0., 2., 1., 3.], dtype=float32)
    """

    _shown = ("groups",)

    def __init__(self, groups: int, *, rngs: nnx.Rngs | None = None) -> None:
        self.groups = check_int(groups, "groups", "jaxnn.ChannelShuffle", minimum=1)

    def __call__(self, input: Shaped[Array, "N C *spatial"]) -> Shaped[Array, "N C *spatial"]:
        return F.channel_shuffle(input, self.groups)
