"""Trading computation for memory: parts of a model that are computed again for the gradient."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flax import nnx

from .interop.importer.imported import Imported
from .interop.importer.recomputing import Policy, Recomputing, set_recomputing
from .modules import ModuleDict, ModuleList


def remat(module: nnx.Module, pattern: str, policy: Policy | None = None) -> nnx.Module:
    r"""Return an imported model that computes some of its parts again for the gradient.

    Of such a part the gradient keeps the arguments alone. What it computes and changes, and the
    random numbers that it draws, are the same. A loop over blocks that the original writes out
    stays written out; `nnx.remat` does the same for a function of your own.

    Args:
        module: a model that `jaxnn.from_torch` returned. It is not changed; its arrays are shared.
        pattern: a regular expression for the whole paths of the parts, such as
            r"model\.layers\.\d+".
        policy: which values are kept none the less, of `jax.checkpoint_policies`.

    Raises:
        ValueError: if no part has such a path, or what calls one is no imported code.

    Source: jax.checkpoint; torch.utils.checkpoint.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> import torch
        >>> class Net(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.blocks = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))
        ...
        ...     def forward(self, x):
        ...         for block in self.blocks:
        ...             x = block(x).tanh()
        ...         return x
        >>> net = jaxnn.from_torch(Net(), torch.ones(1, 2))
        >>> saving, x = jaxnn.remat(net, r"blocks\.\d"), jnp.ones((1, 2))
        >>> bool((saving(x) == net(x)).all())
        True
    """
    copy: nnx.Module = nnx.merge(*nnx.split(module), copy=True)
    parts = {".".join(map(str, path)): node for path, node in nnx.iter_modules(copy)}
    chosen = [path for path in parts if path and re.fullmatch(pattern, path)]
    if not chosen:
        known = [path for path in parts if path][:5]
        raise ValueError(f"remat: no part has a path like {pattern!r}; the first are {known}")
    for path in chosen:
        part: Any = parts[path]
        if not isinstance(part, Imported) and not isinstance(_caller(parts, path), Imported):
            raise ValueError(
                f"remat: {path} is a {type(part).__name__}, and what calls it is no imported code; "
                "call it by nnx.remat, or choose the part that it stands in"
            )
        set_recomputing(part, Recomputing(policy))
    return copy


def _caller(parts: Mapping[str, nnx.Module], path: str) -> nnx.Module:
    """Return the module that calls the one at a path: the next above it that is no mere list."""
    above = path.rpartition(".")[0]
    while above and isinstance(parts.get(above, ModuleList()), (ModuleList, ModuleDict)):
        above = above.rpartition(".")[0]
    return parts[above]
