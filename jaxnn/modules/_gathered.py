"""Parameters that are stored in parts, and gathered where a program reads them."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from flax import nnx
from jax.sharding import AxisType, NamedSharding

from .._config import in_forward_mode
from ._state import AdapterParam, Frozen


class Gathered(nnx.Variable[Any]):
    """A parameter that is stored in parts and read gathered; its gradient is stored as it is.

    Metadata of the variable: `stored`, its NamedSharding, and `gathered`, that of what is read.
    """

    def get_value(self, **options: Any) -> Any:
        """Return the value, gathered where it is traced: what is at hand can be read in parts."""
        value, raw = super().get_value(**options), self.get_raw_value()
        is_whole = isinstance(value, jax.core.Tracer) and value.shape == raw.shape
        # Within a shard_map the parts are its own affair.
        if not is_whole or jax.sharding.get_abstract_mesh().manual_axes:
            return value
        return _gather(value, self.get_metadata("stored"), self.get_metadata("gathered"))


class GatheredParam(Gathered, nnx.Param[Any]):
    """A trained parameter of that kind."""


class GatheredFrozen(Gathered, Frozen):
    """One that is not trained."""


class GatheredAdapter(Gathered, AdapterParam):
    """A weight of an adapter."""


def gathered(
    variable: nnx.Variable[Any], stored: NamedSharding, read: NamedSharding
) -> nnx.Variable[Any]:
    """Return a parameter as one that is stored in parts and read gathered.

    Args:
        variable: an nnx.Param or a Frozen.
        stored: how it is stored.
        read: how a program has what it reads.
    """
    kind: type[Gathered] = GatheredParam if isinstance(variable, nnx.Param) else GatheredFrozen
    kind = GatheredAdapter if isinstance(variable, AdapterParam) else kind
    metadata = {**variable.get_metadata(exclude_required=True), "stored": stored, "gathered": read}
    return kind(variable.get_raw_value(), **metadata)


def _gather(value: jax.Array, stored: NamedSharding, read: NamedSharding) -> jax.Array:
    kinds = jax.typeof(value).sharding.mesh.axis_types
    if kinds and all(kind is AxisType.Explicit for kind in kinds):
        return jax.sharding.reshard(value, read)
    if in_forward_mode():
        return jax.lax.with_sharding_constraint(value, read)
    return _gathered_and_parted(value, stored, read)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gathered_and_parted(value: jax.Array, _: NamedSharding, read: NamedSharding) -> jax.Array:
    return jax.lax.with_sharding_constraint(value, read)


def _forward(value: jax.Array, _: NamedSharding, read: NamedSharding) -> tuple[jax.Array, None]:
    return jax.lax.with_sharding_constraint(value, read), None


def _backward(
    stored: NamedSharding, _: NamedSharding, residuals: None, cotangent: jax.Array
) -> tuple[jax.Array]:
    # The transpose of a constraint is itself: each device would have the whole gradient's sum.
    return (jax.lax.with_sharding_constraint(cotangent, stored),)


_gathered_and_parted.defvjp(_forward, _backward)
