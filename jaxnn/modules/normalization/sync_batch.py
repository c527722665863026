"""Batch normalisation of a batch that is spread over devices."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..._types import AxisName
from .batch import BatchNorm


class SyncBatchNorm(BatchNorm):
    """Batch normalisation by the statistics of a batch that is spread over devices.

    As `BatchNorm2d`, for any number of spatial dimensions. Where the batch is one sharded array
    under `jax.jit`, its statistics are those of all of it in any layer. Where each device has its
    own part, under `shard_map`, `vmap` or `pmap`, `axis_name` says over which mapped axes.

    Shapes: (N, C, *spatial), kept.

    Args:
        num_features, eps, momentum, affine, track_running_stats, bias, dtype: as `BatchNorm2d`.
        process_group: None; the devices are named by `axis_name`.
        axis_name: the mapped axis or axes that the batch is spread over.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> graphdef, state = nnx.split(jaxnn.SyncBatchNorm(1, eps=1e-12, axis_name="device"))
        >>> def step(x):
        ...     return nnx.merge(graphdef, state, copy=True)(x)
        >>> jax.vmap(step, axis_name="device")(jnp.array([[[1.0]], [[3.0]]])).ravel()
        Array([-1.,  1.], dtype=float32)
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: None = None,
        *,
        bias: bool = True,
        axis_name: AxisName = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        if process_group is not None:
            raise ValueError(
                "jaxnn.SyncBatchNorm: `process_group` belongs to torch.distributed, got "
                f"{process_group!r}; name the mapped axis instead: axis_name="
            )
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            bias=bias,
            axis_name=axis_name,
            dtype=dtype,
        )

    def _check_input(self, input: jax.Array) -> None:
        if jnp.ndim(input) < 2:
            raise ValueError(
                "jaxnn.SyncBatchNorm: `input` must have the dimensions (N, C, ...), got shape "
                f"{jnp.shape(input)}"
            )
        self._ranks = (jnp.ndim(input),)
        super()._check_input(input)

    @classmethod
    def convert_sync_batchnorm(
        cls, module: nnx.Module, process_group: None = None, *, axis_name: AxisName = None
    ) -> nnx.Module:
        """Replace every BatchNorm of a module by a SyncBatchNorm with its state, and return it.

        A module that is a BatchNorm itself is returned as a new SyncBatchNorm; any other is
        changed in place.
        """
        if process_group is not None:
            cls(1, process_group=process_group)
        for path, layer in list(nnx.iter_modules(module)):
            if isinstance(layer, BatchNorm) and not isinstance(layer, SyncBatchNorm):
                sync = cls._from(layer, axis_name)
                if not path:
                    return sync
                owner: Any = module
                for name in path[:-1]:
                    owner = getattr(owner, name) if isinstance(name, str) else owner[name]
                if isinstance(path[-1], str):
                    setattr(owner, path[-1], sync)
                else:
                    owner[path[-1]] = sync
        return module

    @classmethod
    def _from(cls, layer: BatchNorm, axis_name: AxisName) -> SyncBatchNorm:
        sync = cls(0, axis_name=axis_name)
        own = vars(sync)
        kept = {name: value for name, value in vars(layer).items() if name != "axis_name"}
        own.update({**kept, "_pytree__nodes": own["_pytree__nodes"]})
        return sync
