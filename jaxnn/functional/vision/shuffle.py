"""Shuffles: channels to pixels and back, and channels among groups."""

from __future__ import annotations

from jaxtyping import Array, Shaped

from ..._checks import check_array, check_int


def pixel_shuffle(
    input: Shaped[Array, "*N C*r*r H W"], upscale_factor: int
) -> Shaped[Array, "*N C H*r W*r"]:
    """Spread the channels over finer pixels.

    y[c, h r + i, w r + j] = x[c r^2 + i r + j, h, w]

    Shapes: (*N, C r^2, H, W) -> (*N, C, H r, W r). Dtypes: any.

    Raises:
        TypeError: if the factor is not an int.
        ValueError: if it is not positive, or its square does not divide the channels; if the input
            has fewer than three dimensions.

    Source: Shi et al., 2016; torch.nn.functional.pixel_shuffle.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.pixel_shuffle(jnp.arange(4.0).reshape(4, 1, 1), 2)
        Array([[[0., 1.],
                [2., 3.]]], dtype=float32)
    """
    input = _image(input, "pixel_shuffle")
    r = check_int(upscale_factor, "upscale_factor", "pixel_shuffle", minimum=1)
    *lead, channels, height, width = input.shape
    if channels % (r * r):
        raise ValueError(
            f"pixel_shuffle: the {channels} channels of `input` must be divisible by the square of "
            f"upscale_factor={r}"
        )
    n = len(lead)
    parts = input.reshape(*lead, channels // (r * r), r, r, height, width)
    order = (*range(n + 1), n + 3, n + 1, n + 4, n + 2)
    return parts.transpose(order).reshape(*lead, channels // (r * r), height * r, width * r)


def pixel_unshuffle(
    input: Shaped[Array, "*N C H*r W*r"], downscale_factor: int
) -> Shaped[Array, "*N C*r*r H W"]:
    """Gather finer pixels into channels: the inverse of `pixel_shuffle`.

    y[c r^2 + i r + j, h, w] = x[c, h r + i, w r + j]

    Shapes: (*N, C, H r, W r) -> (*N, C r^2, H, W). Dtypes: any.

    Raises:
        TypeError: if the factor is not an int.
        ValueError: if it is not positive, or does not divide height and width; if the input has
            fewer than three dimensions.

    Source: torch.nn.functional.pixel_unshuffle.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.pixel_unshuffle(jnp.arange(4.0).reshape(1, 2, 2), 2).ravel()
        Array([0., 1., 2., 3.], dtype=float32)
    """
    input = _image(input, "pixel_unshuffle")
    r = check_int(downscale_factor, "downscale_factor", "pixel_unshuffle", minimum=1)
    *lead, channels, height, width = input.shape
    if height % r or width % r:
        raise ValueError(
            f"pixel_unshuffle: height {height} and width {width} of `input` must be divisible by "
            f"downscale_factor={r}"
        )
    n = len(lead)
    parts = input.reshape(*lead, channels, height // r, r, width // r, r)
    order = (*range(n + 1), n + 2, n + 4, n + 1, n + 3)
    return parts.transpose(order).reshape(*lead, channels * r * r, height // r, width // r)


def channel_shuffle(
    input: Shaped[Array, "N C *spatial"], groups: int
) -> Shaped[Array, "N C *spatial"]:
    """Deal the channels of all groups out in turn.

    y[n, i g + j] = x[n, j C / g + i]

    Shapes: (N, C, *spatial), with one spatial dimension at least; kept. Dtypes: any.

    Raises:
        TypeError: if `groups` is not an int.
        ValueError: if it is not positive or does not divide the channels; if the input has fewer
            than three dimensions.

    Source: Zhang et al., 2018; torch.nn.functional.channel_shuffle.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.functional.channel_shuffle(jnp.arange(4.0).reshape(1, 4, 1), 2).ravel()
        Array([0., 2., 1., 3.], dtype=float32)
    """
    input = check_array(input, "input", "channel_shuffle")
    if input.ndim < 3:
        raise ValueError(
            "channel_shuffle: `input` must have the dimensions (N, C, positions, ...), got shape "
            f"{input.shape}"
        )
    groups = check_int(groups, "groups", "channel_shuffle", minimum=1)
    batch, channels, *spatial = input.shape
    if channels % groups:
        raise ValueError(
            f"channel_shuffle: the {channels} channels of `input` must be divisible by {groups=}"
        )
    parts = input.reshape(batch, groups, channels // groups, *spatial)
    return parts.swapaxes(1, 2).reshape(input.shape)


def _image(input: Shaped[Array, "..."], layer: str) -> Shaped[Array, "*N C H W"]:
    input = check_array(input, "input", layer)
    if input.ndim < 3:
        raise ValueError(
            f"{layer}: `input` must have the dimensions (..., C, H, W), got shape {input.shape}"
        )
    return input
