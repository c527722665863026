"""Older forms of weights, which torch no longer writes but still loads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from flax import nnx

from .checkpoint import as_numpy

_FIRST = ".original0"


def from_old_forms(
    module: nnx.Module,
    weights: Mapping[str, Any],
    keys: Collection[str],
    versions: Mapping[str, Any] | None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the weights under the model's names, and which names changed.

    As torch's own hooks do: `weight_g` and `weight_v` of the older weight normalisation become the
    originals of the newer, and the older spectral normalisation gets the vector `weight_v`, which
    its first version did not keep, from the weight that it kept instead.

    Args:
        module: the model.
        weights: the source's arrays.
        keys: the model's names.
        versions: those of the source's modules, where it knows them.
    """
    changed = dict(weights)
    renamed: dict[str, str] = {}
    for key in keys:
        prefix, found, name = key.removesuffix(_FIRST).rpartition("parametrizations.")
        if found and key.endswith(_FIRST) and key not in weights:
            old = [f"{prefix}{name}_g", f"{prefix}{name}_v"]
            if all(key in changed for key in old):
                new = [f"{prefix}parametrizations.{name}.original{i}" for i in (0, 1)]
                renamed.update(zip(old, new, strict=True))
    if renamed:
        changed = {renamed.get(key, key): value for key, value in changed.items()}
    for path, node in nnx.iter_modules(module):
        for name, reader in getattr(type(node), "_readers", ()):
            owner = ".".join(map(str, path))
            version = (versions or {}).get(owner, {}).get("spectral_norm", {})
            key = f"{owner}.{name}" if owner else name
            known = [f"{key}_orig", key, f"{key}_u"]
            is_old = hasattr(reader, "n_power_iterations") and f"{name}.version" not in version
            if is_old and all(k in changed for k in known):
                original, weight, u = (as_numpy(changed[k]) for k in known)
                if original.shape == weight.shape and u.shape == (original.shape[reader.dim],):
                    changed[f"{key}_v"] = _right_vector(original, weight, u, reader.dim)
                    del changed[key]
    return changed, renamed


def _right_vector(original: np.ndarray, weight: np.ndarray, u: np.ndarray, dim: int) -> np.ndarray:
    """Return v with u in the direction of W v, and u^T W v = sigma, by which W was divided."""
    original, weight, u = (array.astype(np.float64) for array in (original, weight, u))
    # The factor between the two, weighed so that zeros in the weight do no harm.
    sigma = (original * weight).sum() / (weight * weight).sum()
    matrix = np.moveaxis(original, dim, 0).reshape(original.shape[dim], -1)
    # torch takes the pseudoinverse of W^T W, which in exact arithmetic gives the same.
    v = np.linalg.pinv(matrix, rcond=max(matrix.shape) * np.finfo(np.float32).eps) @ u
    return np.asarray(v * (sigma / (u @ matrix @ v)))
