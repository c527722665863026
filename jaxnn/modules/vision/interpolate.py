"""Images of another size."""

from __future__ import annotations

from collections.abc import Sequence

from flax import nnx
from jaxtyping import Array, Float, Num

from ... import functional as F
from ..._types import FloatOrFloats, IntOrInts
from ...functional.vision import check_resampling
from .._module import Module, name_of
from .._options import static


class Upsample(Module):
    """Resample to another size: see `jaxnn.functional.interpolate`.

    Shapes: (N, C, *spatial) with one to three spatial dimensions -> (N, C, *out), where out is
    `size`, or floor(spatial * scale_factor).

    Args:
        size: the new spatial sizes; one number for all.
        scale_factor: their ratio to the old ones, likewise; one of the two must be given.
        mode: "nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear" or "area".
        align_corners: whether the first and last elements keep their places; for the linear and
            cubic modes.
        recompute_scale_factor: whether the ratio of the sizes takes the place of `scale_factor`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.Upsample(4, mode="linear")(jnp.array([[[1.0, 2.0]]]))
        Array([[[1.  , 1.25, 1.75, 2.  ]]], dtype=float32)
    """

    def __init__(
        self,
        size: IntOrInts | None = None,
        scale_factor: FloatOrFloats | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.size = None if size is None else static(size)
        self.scale_factor = _floats(scale_factor)
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor
        check_resampling(
            self.size,
            self.scale_factor,
            mode,
            align_corners,
            recompute_scale_factor,
            name_of(self),
        )

    def __call__(self, input: Num[Array, "N C *spatial"]) -> Num[Array, "N C *out"]:
        return F.interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
        )

    def extra_repr(self) -> str:
        if self.scale_factor is None:
            return f"size={self.size}, mode={self.mode!r}"
        return f"scale_factor={self.scale_factor}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Resample to another size by the nearest neighbour: `Upsample` in mode "nearest".

    As in torch, it takes any input that `Upsample` does.

    Shapes: (N, C, H, W) -> (N, C, *size), or (N, C, floor(H scale_factor), floor(W scale_factor)).

    Args:
        size: the new height and width, one number or two.
        scale_factor: their ratio to the old ones, likewise; one of the two must be given.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.UpsamplingNearest2d(scale_factor=2)(jnp.array([[[[1.0, 2.0]]]]))
        Array([[[[1., 1., 2., 2.],
                 [1., 1., 2., 2.]]]], dtype=float32)
    """

    def __init__(
        self,
        size: IntOrInts | None = None,
        scale_factor: FloatOrFloats | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        super().__init__(size, scale_factor, mode="nearest", rngs=rngs)


class UpsamplingBilinear2d(Upsample):
    """Resample bilinearly; the corners keep their places.

    `Upsample` in mode "bilinear" with `align_corners`.

    Shapes: (N, C, H, W) -> (N, C, *size), or (N, C, floor(H scale_factor), floor(W scale_factor)).

    Args:
        size: the new height and width, one number or two.
        scale_factor: their ratio to the old ones, likewise; one of the two must be given.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> jaxnn.UpsamplingBilinear2d((1, 4))(jnp.array([[[[0.0, 3.0]]]]))
        Array([[[[0., 1., 2., 3.]]]], dtype=float32)
    """

    def __init__(
        self,
        size: IntOrInts | None = None,
        scale_factor: FloatOrFloats | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True, rngs=rngs)

    def __call__(self, input: Float[Array, "N C H W"]) -> Float[Array, "N C H_out W_out"]:
        return super().__call__(input)


def _floats(factor: FloatOrFloats | None) -> float | tuple[float, ...] | None:
    """Return the factors as torch keeps them, for which 0 is none."""
    if isinstance(factor, Sequence) and not isinstance(factor, str):
        return tuple(float(each) for each in factor)
    return float(factor) if factor else None
