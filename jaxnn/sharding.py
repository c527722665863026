"""Spreading a model over devices: a table of rules from names to partitions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .modules._state import named_variables

Partition = PartitionSpec | Callable[[tuple[int, ...]], PartitionSpec]
Rules = Sequence[tuple[str, Partition]]


@dataclass(frozen=True)
class Placement:
    """Where one parameter or buffer goes.

    Attributes:
        name: its key in the state dict.
        shape: its whole shape.
        spec: how its dimensions are parted over the mesh's axes.
        bytes: what each device holds of it.
    """

    name: str
    shape: tuple[int, ...]
    spec: PartitionSpec
    bytes: int


@dataclass(frozen=True)
class Plan:
    """Where every parameter and buffer of a model goes; prints as a table.

    A plan is a function from a name to its sharding, as `jaxnn.load_state_dict` takes one.

    Attributes:
        mesh: the devices.
        placements: one for each name, in the order of the state dict.

    Example:
        >>> import jax
        >>> from flax import nnx
        >>> from jax.sharding import PartitionSpec as P
        >>> import jaxnn
        >>> mesh = jax.make_mesh((1,), ("model",))
        >>> net = jaxnn.Linear(4, 8, rngs=nnx.Rngs(0))
        >>> print(jaxnn.sharding.plan(net, [("weight", P("model"))], mesh))
        weight (8, 4) P('model',) 128
        bias (8,) P() 32
        160 bytes a device
    """

    mesh: Mesh
    placements: tuple[Placement, ...]

    def __call__(self, name: str) -> NamedSharding:
        """Return the sharding of the parameter or buffer that is called `name`."""
        for placement in self.placements:
            if placement.name == name:
                return NamedSharding(self.mesh, placement.spec)
        raise KeyError(f"the plan has no {name!r}")

    def __iter__(self) -> Iterator[Placement]:
        return iter(self.placements)

    def __str__(self) -> str:
        rows = [f"{p.name} {p.shape} P{tuple(p.spec)} {p.bytes}" for p in self.placements]
        return "\n".join([*rows, f"{sum(p.bytes for p in self.placements)} bytes a device"])


def plan(module: nnx.Module, rules: Rules, mesh: Mesh) -> Plan:
    """Decide where every parameter and buffer of a module goes.

    The first rule whose pattern matches the whole name decides; what no rule matches is on every
    device.

    Args:
        module: any nnx.Module, also an abstract one (nnx.eval_shape).
        rules: pairs of a regular expression for names of the state dict and a PartitionSpec, or a
            function from the shape to one, as `fully_sharded` gives.
        mesh: the devices.

    Raises:
        ValueError: if a rule names an axis that the mesh lacks, has more dimensions than an array
            that it matches, or parts a dimension that its axes do not divide; if a rule matches
            nothing.

    Source: jax.sharding.NamedSharding.

    Example:
        >>> import jax
        >>> from flax import nnx
        >>> from jax.sharding import PartitionSpec as P
        >>> import jaxnn
        >>> mesh = jax.make_mesh((1,), ("model",))
        >>> net = jaxnn.Linear(4, 8, rngs=nnx.Rngs(0))
        >>> jaxnn.sharding.plan(net, [("weight", P("model", None))], mesh)("weight").spec
        P('model', None)
    """
    patterns = [(re.compile(pattern), partition) for pattern, partition in rules]
    used: set[str] = set()
    placements = []
    for name, variable in named_variables(module):
        value = variable.get_value()
        spec = PartitionSpec()
        for pattern, partition in patterns:
            if pattern.fullmatch(name):
                used.add(pattern.pattern)
                spec = partition(value.shape) if callable(partition) else partition
                break
        parts = _check(name, value.shape, spec, mesh)
        size = math.prod(value.shape) * value.dtype.itemsize
        placements.append(Placement(name, tuple(value.shape), spec, size // parts))
    unused = [pattern.pattern for pattern, _ in patterns if pattern.pattern not in used]
    if unused:
        names = [placement.name for placement in placements[:5]]
        raise ValueError(f"no name matches the rules {unused}; the first names are {names}")
    return Plan(mesh, tuple(placements))


def shard(module: nnx.Module, rules: Rules, mesh: Mesh) -> Plan:
    """Move a module's parameters and buffers to where the rules say, and return the plan.

    Args:
        module: the module, whose arrays are replaced.
        rules: as for `plan`.
        mesh: the devices.

    Raises:
        ValueError: as `plan` does; the module is unchanged then.

    Source: jax.device_put.

    Example:
        >>> import jax
        >>> from flax import nnx
        >>> from jax.sharding import PartitionSpec as P
        >>> import jaxnn
        >>> mesh = jax.make_mesh((1,), ("model",))
        >>> net = jaxnn.Linear(4, 8, rngs=nnx.Rngs(0))
        >>> plan = jaxnn.sharding.shard(net, [("weight", P("model"))], mesh)
        >>> net.weight[...].sharding.spec
        P('model',)
    """
    decided = plan(module, rules, mesh)
    shardings = {p.name: NamedSharding(mesh, p.spec) for p in decided}
    for name, variable in named_variables(module):
        variable.set_value(jax.device_put(variable.get_value(), shardings[name]))
    return decided


def fully_sharded(axis: str | tuple[str, ...], mesh: Mesh) -> Callable[[tuple[int, ...]], Any]:
    """Return the rule that parts an array's largest dimension that the axis divides.

    What has no such dimension is on every device.

    Args:
        axis: the mesh's axis, or several.
        mesh: the devices.

    Source: Rajbhandari et al., 2020 (ZeRO); Zhao et al., 2023 (FSDP).

    Example:
        >>> import jax
        >>> import jaxnn
        >>> mesh = jax.make_mesh((1,), ("data",))
        >>> jaxnn.sharding.fully_sharded("data", mesh)((3, 8))
        P(None, 'data')
    """
    size = _axis_size(axis, mesh)

    def partition(shape: tuple[int, ...]) -> PartitionSpec:
        dims = [d for d, n in enumerate(shape) if n and n % size == 0]
        if not dims:
            return PartitionSpec()
        largest = max(dims, key=lambda d: shape[d])
        return PartitionSpec(*(None,) * largest, axis)

    return partition


def _axis_size(axes: Any, mesh: Mesh) -> int:
    names = axes if isinstance(axes, tuple) else (axes,)
    return math.prod(mesh.shape[name] for name in names)


def _check(name: str, shape: tuple[int, ...], spec: PartitionSpec, mesh: Mesh) -> int:
    """Return over how many parts the array goes, refusing what does not fit."""
    if len(spec) > len(shape):
        raise ValueError(f"{name} has shape {shape}, but its rule parts {len(spec)} dimensions")
    parts = 1
    for dim, axes in enumerate(spec):
        if axes is None:
            continue
        missing = {*(axes if isinstance(axes, tuple) else (axes,))} - {*mesh.shape}
        if missing:
            raise ValueError(f"{name}: the mesh has the axes {[*mesh.shape]}, not {[*missing]}")
        size = _axis_size(axes, mesh)
        if shape[dim] % size:
            raise ValueError(
                f"{name}: dimension {dim} of {shape} cannot be parted into {size} by {axes!r}; "
                "part another dimension, or leave it whole"
            )
        parts *= size
    return parts
