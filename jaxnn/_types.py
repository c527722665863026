"""The types that many signatures share."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Array, Bool, Float

# A number that may be traced.
Scalar = float | Float[Array, ""]
# One number for all dimensions, or one for each.
IntOrInts = int | Sequence[int]
FloatOrFloats = float | Sequence[float]
# True where a key takes part (or, where a docstring says so, none), or what is added to the scores.
Mask = Bool[Array, "..."] | Float[Array, "..."]
# The mapped axes of a device mesh over which statistics are taken.
AxisName = str | Sequence[str] | None
