"""The weight and the bias of a normalisation."""

from __future__ import annotations

import jax

from ..._checks import check_array, check_parameters


def checked_parameters(
    input: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    shape: tuple[int, ...],
    layer: str,
) -> tuple[jax.Array | None, jax.Array | None]:
    """Return weight and bias as arrays, refusing what does not fit the input."""
    given = {
        name: check_array(array, name, layer)
        for name, array in {"weight": weight, "bias": bias}.items()
        if array is not None
    }
    check_parameters(input, given, shape, layer)
    return given.get("weight"), given.get("bias")
