"""The older weight and spectral normalisation, whose tensors stand beside the others."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx
from jax import lax

from .. import functional as F
from ..functional._division import divide
from ..modules._module import RandomSource
from ._computed import Computed, readers_of, set_computed, unset_computed
from ._norms import (
    as_matrix,
    draw_vectors,
    is_training,
    largest_singular_value,
    norm_except_dim,
    spectral_dim,
    weight_from,
)


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """Compute a parameter from its norm g and its direction v: `weight_g` and `weight_v`.

    w = g v / |v|, with the norm over all dimensions but `dim`

    `jaxnn.utils.parametrizations.weight_norm` is the newer form, with other keys.

    Args:
        module: the module; it is changed.
        name: the parameter's name.
        dim: the dimension that has a norm for each index; None for a single norm.

    Returns:
        The module.

    Raises:
        ValueError: if there is no such parameter, or it is normalised already.

    Source: Salimans and Kingma, 2016; torch.nn.utils.weight_norm.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.utils.weight_norm(jaxnn.Linear(2, 3, rngs=nnx.Rngs(0)))
        >>> list(jaxnn.state_dict(layer))
        ['bias', 'weight_g', 'weight_v']
    """
    variable = _take(module, name, "weight_norm")
    axis = -1 if dim is None else dim
    setattr(module, f"{name}_g", type(variable)(norm_except_dim(variable[...], axis)))
    setattr(module, f"{name}_v", variable)
    set_computed(module, name, _WeightNorm(name, axis))
    return module


def remove_weight_norm(module: Any, name: str = "weight") -> Any:
    """Make a parameter that `weight_norm` computes a parameter again, with the value it has.

    Raises:
        ValueError: if the parameter is not computed by `weight_norm`.

    Source: torch.nn.utils.remove_weight_norm.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> layer = jaxnn.utils.weight_norm(jaxnn.Linear(2, 3, rngs=nnx.Rngs(0)))
        >>> list(jaxnn.state_dict(jaxnn.utils.remove_weight_norm(layer)))
        ['bias', 'weight']
    """
    return _remove(module, name, _WeightNorm, ("_g", "_v"))


def spectral_norm(
    module: Any,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
    *,
    rngs: RandomSource | None = None,
) -> Any:
    """Divide a parameter by its largest singular value; `weight_orig` is the undivided.

    w = original / (u^T original v), where u and v follow the singular vectors by power iteration,
    at each call of the module in training

    `jaxnn.utils.parametrizations.spectral_norm` is the newer form, with other keys.

    Args:
        module: the module; it is changed.
        name: the parameter's name.
        n_power_iterations: the iterations of a call in training.
        eps: the least norm that a vector is divided by.
        dim: the dimension of the outputs, by default 1 for transposed convolutions, else 0.
        rngs: where the buffers `weight_u` and `weight_v`, the vectors, are drawn from.

    Returns:
        The module.

    Raises:
        ValueError: if there is no such parameter, it is normalised already, an option is not
            allowed, or there is no `rngs`.

    Source: Miyato et al., 2018; torch.nn.utils.spectral_norm.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> rngs = nnx.Rngs(0)
        >>> layer = jaxnn.utils.spectral_norm(jaxnn.Linear(2, 3, rngs=rngs), rngs=rngs)
        >>> list(jaxnn.state_dict(layer))
        ['bias', 'weight_orig', 'weight_u', 'weight_v']
    """
    if not isinstance(n_power_iterations, int) or n_power_iterations <= 0:
        raise ValueError(f"`n_power_iterations` must be positive, got {n_power_iterations}")
    variable = vars(module).get(name)
    if isinstance(variable, nnx.Variable):
        axis = spectral_dim(module, dim) % max(variable[...].ndim, 1)
        u, v = draw_vectors(variable[...], axis, eps, rngs, "spectral_norm")
    variable = _take(module, name, "spectral_norm")
    setattr(module, f"{name}_orig", variable)
    setattr(module, f"{name}_u", nnx.BatchStat(u))
    setattr(module, f"{name}_v", nnx.BatchStat(v))
    if not hasattr(module, "use_running_average"):
        module.use_running_average = False
    set_computed(module, name, _SpectralNorm(name, axis, n_power_iterations, eps))
    return module


def remove_spectral_norm(module: Any, name: str = "weight") -> Any:
    """Make a parameter that `spectral_norm` computes a parameter again, with the value it has.

    Raises:
        ValueError: if the parameter is not computed by `spectral_norm`.

    Source: torch.nn.utils.remove_spectral_norm.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> rngs = nnx.Rngs(0)
        >>> layer = jaxnn.utils.spectral_norm(jaxnn.Linear(2, 3, rngs=rngs), rngs=rngs)
        >>> list(jaxnn.state_dict(jaxnn.utils.remove_spectral_norm(layer)))
        ['bias', 'weight']
    """
    return _remove(module, name, _SpectralNorm, ("_orig", "_u", "_v"))


class _WeightNorm(Computed):
    def __init__(self, name: str, dim: int) -> None:
        super().__init__(name)
        self.dim = dim

    def read(self, module: Any) -> nnx.Variable[Any]:
        g, v = (getattr(module, f"{self.name}_{part}") for part in "gv")
        return type(v)(weight_from(g[...], v[...], self.dim))

    def write(self, module: Any, value: Any) -> None:
        # As in torch, where the next call computes it anew.
        raise ValueError(f"`{self.name}` is computed: set `{self.name}_g` and `{self.name}_v`")


class _SpectralNorm(Computed):
    def __init__(self, name: str, dim: int, n_power_iterations: int, eps: float) -> None:
        super().__init__(name)
        self.dim = dim
        self.n_power_iterations = n_power_iterations
        self.eps = eps

    def read(self, module: Any) -> nnx.Variable[Any]:
        original, u, v = self._parts(module)
        matrix = as_matrix(original[...], self.dim)
        sigma = largest_singular_value(matrix, u[...], v[...])
        return type(original)(divide(original[...], sigma))

    def write(self, module: Any, value: Any) -> None:
        raise ValueError(f"`{self.name}` is computed: set `{self.name}_orig`")

    def before_call(self, module: Any) -> None:
        if not is_training(module):
            return
        original, u_variable, v_variable = self._parts(module)
        matrix = lax.stop_gradient(as_matrix(original[...], self.dim))
        u: jax.Array = u_variable[...]
        v: jax.Array = v_variable[...]
        for _ in range(self.n_power_iterations):
            v = F.normalize(matrix.T @ u, dim=0, eps=self.eps)
            u = F.normalize(matrix @ v, dim=0, eps=self.eps)
        u_variable[...], v_variable[...] = u, v

    def _parts(self, module: Any) -> list[nnx.Variable[Any]]:
        return [getattr(module, f"{self.name}_{part}") for part in ("orig", "u", "v")]


def _take(module: Any, name: str, function: str) -> nnx.Variable[Any]:
    """Return a module's parameter, which the module then has no more."""
    if name in readers_of(module):
        raise ValueError(f"{function}: `{name}` is computed already")
    variable = vars(module).get(name)
    if not isinstance(variable, nnx.Variable):
        raise ValueError(f"{function}: {type(module).__name__} has no parameter {name!r}")
    delattr(module, name)
    return variable


def _remove(module: Any, name: str, kind: Any, parts: tuple[str, ...]) -> Any:
    reader = readers_of(module).get(name)
    if not isinstance(reader, kind):
        raise ValueError(f"{type(module).__name__} has no such normalisation of {name!r}")
    variable = reader.read(module)
    for part in parts:
        delattr(module, f"{name}{part}")
    unset_computed(module, name, variable)
    return module
