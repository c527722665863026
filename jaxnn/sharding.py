"""Spreading a model over devices: a table of rules from names to partitions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import optax
from flax import nnx
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from .modules._gathered import gathered
from .modules._state import Frozen, named_variables, nodes_of, own_variables

Partition = PartitionSpec | Callable[[tuple[int, ...]], PartitionSpec]
Rules = Sequence[tuple[str, Partition]]
Optimizer = optax.GradientTransformation | float

# Of the entries that a printed plan tells one by one.
_LARGEST = 8


@dataclass(frozen=True)
class Placement:
    """Where one parameter or buffer goes, and what each device holds of it.

    Attributes:
        name: its key in the state dict.
        shape: its whole shape.
        spec: how its dimensions are parted over the mesh's axes.
        bytes: of itself; 0 for the second name of what is stored under another.
        gradient_bytes: of its gradient.
        optimizer_bytes: of the optimizer's state for it.
        rule: the pattern that decided; None where none matched.
    """

    name: str
    shape: tuple[int, ...]
    spec: PartitionSpec
    bytes: int
    gradient_bytes: int = 0
    optimizer_bytes: int = 0
    rule: str | None = None

    @property
    def total_bytes(self) -> int:
        """Itself, its gradient, and the optimizer's state for it."""
        return self.bytes + self.gradient_bytes + self.optimizer_bytes


@dataclass(frozen=True)
class Plan:
    """Where every parameter and buffer of a model goes; prints as a table, rule by rule.

    A plan is a function from a name to its sharding, as `jaxnn.load_state_dict` takes one.

    Attributes:
        mesh: the devices.
        placements: one for each name, in the order of the state dict.
        other_bytes: what is on every device beside: variables that are in no state dict, and what
            of the optimizer's state belongs to no parameter.

    Example:
        >>> import jax, optax
        >>> from flax import nnx
        >>> from jax.sharding import PartitionSpec as P
        >>> import jaxnn
        >>> mesh = jax.make_mesh((1,), ("model",))
        >>> net = jaxnn.Linear(4, 8, rngs=nnx.Rngs(0))
        >>> rules = [("weight", P("model"))]
        >>> print(jaxnn.sharding.plan(net, rules, mesh, optimizer=optax.adamw(1e-3)))
        over model=1, a device:  arrays  weights  gradients  optimizer    all
        weight P('model',)            1    128 B      128 B      256 B  512 B
        no rule P()                   1     32 B       32 B       64 B  128 B
        other                                                             4 B
        in all                        2    160 B      160 B      320 B  644 B
        before activations; the largest entries:
        weight (8, 4) P('model',) 512 B
        bias (8,) P() 128 B
    """

    mesh: Mesh | AbstractMesh
    placements: tuple[Placement, ...]
    other_bytes: int = 0

    def __call__(self, name: str) -> NamedSharding:
        """Return the sharding of the parameter or buffer that is called `name`."""
        if name not in self._by_name:
            raise KeyError(f"the plan has no {name!r}")
        return NamedSharding(self.mesh, self._by_name[name].spec)

    @cached_property
    def _by_name(self) -> dict[str, Placement]:
        return {placement.name: placement for placement in self.placements}

    def __iter__(self) -> Iterator[Placement]:
        return iter(self.placements)

    @property
    def bytes(self) -> int:
        """What each device holds in all: weights, gradients and the optimizer's state."""
        return sum(p.total_bytes for p in self.placements) + self.other_bytes

    def __str__(self) -> str:
        by_rule: dict[tuple[str | None, PartitionSpec], list[Placement]] = {}
        for placement in self.placements:
            by_rule.setdefault((placement.rule, placement.spec), []).append(placement)
        axes = ", ".join(f"{name}={size}" for name, size in self.mesh.shape.items())
        rows: list[tuple[str, ...]] = [
            (f"over {axes}, a device:", "arrays", "weights", "gradients", "optimizer", "all")
        ]
        rows += [
            (f"{rule or 'no rule'} P{tuple(spec)}", *_sums(placed))
            for (rule, spec), placed in by_rule.items()
        ]
        if self.other_bytes:
            rows.append(("other", *[""] * 4, _readable(self.other_bytes)))
        rows.append(("in all", *_sums(self.placements, self.other_bytes)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in rows
        ]
        lines.append("before activations; the largest entries:")
        largest = sorted(self.placements, key=lambda p: -p.total_bytes)[:_LARGEST]
        lines += [
            f"{p.name} {p.shape} P{tuple(p.spec)} {_readable(p.total_bytes)}" for p in largest
        ]
        return "\n".join(lines)


def plan(
    module: nnx.Module,
    rules: Rules,
    mesh: Mesh | AbstractMesh,
    *,
    optimizer: Optimizer | None = None,
) -> Plan:
    """Decide where every parameter and buffer of a module goes, and say what each device holds.

    The first rule whose pattern matches the whole name decides; what no rule matches is on every
    device. Of what has several names, the first one decides. Nothing is computed or moved.

    Args:
        module: any nnx.Module, also an abstract one (nnx.eval_shape, or `jaxnn.from_torch` of a
            model on torch's meta device).
        rules: pairs of a regular expression for names of the state dict and a PartitionSpec, or a
            function from the shape to one, as `fully_sharded` gives.
        mesh: the devices; an AbstractMesh says how many there are.
        optimizer: what trains the parameters: an optax transformation, whose state goes where the
            parameters go that it is like; or how many times the parameters its state is (2 for
            Adam). Gradients are counted with it. Without it nothing is trained.

    Raises:
        ValueError: if a rule names an axis that the mesh lacks, has more dimensions than an array
            that it matches, or parts a dimension that its axes do not divide; if a rule matches
            nothing; if `optimizer` is a negative number.

    Source: jax.sharding.NamedSharding.

    Example:
        >>> import jax
        >>> from flax import nnx
        >>> from jax.sharding import PartitionSpec as P
        >>> import jaxnn
        >>> mesh = jax.sharding.AbstractMesh((16, 4), ("data", "model"))
        >>> net = nnx.eval_shape(lambda: jaxnn.Linear(4096, 4096, rngs=nnx.Rngs(0)))
        >>> plan = jaxnn.sharding.plan(net, [("weight", P("model", "data"))], mesh, optimizer=2)
        >>> plan("weight").spec
        P('model', 'data')
        >>> [(p.name, p.bytes, p.gradient_bytes, p.optimizer_bytes) for p in plan]
        [('weight', 1048576, 1048576, 2097152), ('bias', 16384, 16384, 32768)]
        >>> plan.bytes
        4259840
    """
    if isinstance(optimizer, (int, float)) and optimizer < 0:
        raise ValueError(f"`optimizer` must not be negative, got {optimizer}")
    patterns = [(re.compile(pattern), partition) for pattern, partition in rules]
    used: set[str] = set()
    # By variable, since what has several names is stored and placed once.
    placed: dict[int, Placement] = {}
    placements: list[Placement] = []
    for name, variable in named_variables(module):
        value = variable.get_value()
        found = next(((p.pattern, spec) for p, spec in patterns if p.fullmatch(name)), None)
        rule, partition = found or (None, PartitionSpec())
        used.update(() if rule is None else (rule,))
        if id(variable) in placed:
            first = placed[id(variable)]
            placements.append(Placement(name, first.shape, first.spec, 0, rule=first.rule))
            continue
        spec = partition(value.shape) if callable(partition) else partition
        size = _bytes(value) // _check(name, value.shape, spec, mesh)
        placement = Placement(name, tuple(value.shape), spec, size, rule=rule)
        placed[id(variable)] = placement
        placements.append(placement)
    unused = [pattern.pattern for pattern, _ in patterns if pattern.pattern not in used]
    if unused:
        names = [placement.name for placement in placements[:5]]
        raise ValueError(f"no name matches the rules {unused}; the first names are {names}")
    state = nnx.state(module)
    others = [v.get_value() for v in _variables(state) if id(v) not in placed]
    other_bytes = sum(map(_bytes, jax.tree.leaves(others)))
    if optimizer is None:
        return Plan(mesh, tuple(placements), other_bytes)
    params = nnx.state(module, nnx.Param)
    own = [placed[id(variable)] for variable in _variables(params)]
    states, unlike = _optimizer_bytes(optimizer, params, own, mesh)
    trained = {
        p.name: replace(p, gradient_bytes=p.bytes, optimizer_bytes=size)
        for p, size in zip(own, states, strict=True)
    }
    counted = (trained.get(placement.name, placement) for placement in placements)
    return Plan(mesh, tuple(counted), other_bytes + unlike)


def shard(
    module: nnx.Module,
    rules: Rules,
    mesh: Mesh | AbstractMesh,
    *,
    gather: str | tuple[str, ...] = (),
) -> Plan:
    """Move a module's parameters and buffers to where the rules say, and return the plan.

    The shapes that an abstract module holds in place of arrays are given their shardings, and
    `jaxnn.load_state_dict` reads each array to where its shape is.

    Args:
        module: the module, whose arrays are replaced.
        rules: as for `plan`.
        mesh: the devices. Over an AbstractMesh shapes alone are placed; arrays stay where they are.
        gather: the axis of the mesh, or several, over which weights are parted to be stored alone:
            a compiled program gathers such a parameter where it reads it, and parts its gradient
            again (fully sharded data parallelism). Without it the compiler decides how it computes
            with what is parted, and may part activations otherwise, or not at all. Each such
            parameter becomes another variable, of a kind of nnx.Param.

    Raises:
        ValueError: as `plan` does, and if the mesh lacks an axis to gather over; the module is
            unchanged then.

    Source: jax.device_put; Zhao et al., 2023 (FSDP).

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
    over = gather if isinstance(gather, tuple) else (gather,)
    if missing := [axis for axis in over if axis not in mesh.shape]:
        raise ValueError(f"`gather`: the mesh has the axes {[*mesh.shape]}, not {missing}")
    decided = plan(module, rules, mesh)
    shardings = {p.name: NamedSharding(mesh, p.spec) for p in decided}
    for name, variable in named_variables(module):
        value, sharding = variable.get_value(), shardings[name]
        if isinstance(value, jax.ShapeDtypeStruct):
            variable.set_value(jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding))
        elif not isinstance(mesh, AbstractMesh):
            variable.set_value(jax.device_put(value, sharding))
    if gather:
        _gather_at_reads(module, shardings, {*over})
    return decided


def fully_sharded(
    axis: str | tuple[str, ...], mesh: Mesh | AbstractMesh
) -> Callable[[tuple[int, ...]], Any]:
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


def optimizer_shardings(optimizer: optax.GradientTransformation, params: Any) -> Any:
    """Return where each array of an optimizer's state goes: to the parameter that it is like.

    What is like no parameter, such as a count of steps, is on every device.

    Args:
        optimizer: an optax transformation.
        params: a tree of arrays, or of shapes with shardings, such as `nnx.state(net, nnx.Param)`
            of a module that `shard` has placed.

    Returns:
        The tree of the optimizer's state, of NamedShardings: `jax.jit(optimizer.init,
        out_shardings=...)` makes the state so.

    Raises:
        ValueError: if there is no parameter, or one is not spread over a mesh.

    Source: optax.tree_utils.tree_map_params.

    Example:
        >>> import jax, optax
        >>> from flax import nnx
        >>> from jax.sharding import PartitionSpec as P
        >>> import jaxnn
        >>> mesh = jax.sharding.AbstractMesh((8,), ("model",))
        >>> net = nnx.eval_shape(lambda: jaxnn.Linear(16, 16, rngs=nnx.Rngs(0)))
        >>> plan = jaxnn.sharding.shard(net, [("weight", P("model"))], mesh)
        >>> params = nnx.state(net, nnx.Param)
        >>> adam = jaxnn.sharding.optimizer_shardings(optax.adam(1e-3), params)[0]
        >>> adam.mu["weight"].get_value().spec, adam.count.spec
        (P('model',), P())
    """
    leaves = jax.tree.leaves(params)
    placed = [getattr(leaf, "sharding", None) for leaf in leaves]
    meshes = [sharding.mesh for sharding in placed if isinstance(sharding, NamedSharding)]
    if not leaves or len(meshes) < len(leaves):
        raise ValueError(
            "`params` must be arrays that are spread over a mesh, as `jaxnn.sharding.shard` "
            f"leaves them; got {len(meshes)} such of {len(leaves)}"
        )
    everywhere = NamedSharding(meshes[0], PartitionSpec())
    return optax.tree_utils.tree_map_params(
        optimizer,
        lambda leaf, param: param.sharding if leaf.shape == param.shape else everywhere,
        _abstract_state(optimizer, params),
        params,
        transform_non_params=lambda _: everywhere,
    )


def _gather_at_reads(
    module: nnx.Module, shardings: Mapping[str, NamedSharding], over: set[str]
) -> None:
    """Put a variable that is gathered when it is read in the place of each that is parted so."""
    for prefix, node in nodes_of(module, "", ()):
        for name, variable in own_variables(node):
            stored = shardings.get(prefix + name)
            if stored is None or not isinstance(variable, (nnx.Param, Frozen)):
                continue
            read = NamedSharding(stored.mesh, _without(stored.spec, over))
            if read.spec == stored.spec:
                continue
            other = gathered(variable, stored, read)
            if isinstance(node, nnx.Pytree):
                setattr(node, name, other)
            else:
                node[int(name) if isinstance(node, list) else name] = other


def _without(spec: PartitionSpec, axes: set[str]) -> PartitionSpec:
    """Return a partition that leaves out some axes."""

    def left(entry: Any) -> Any:
        names = entry if isinstance(entry, tuple) else (entry,)
        kept = tuple(name for name in names if name not in axes and name is not None)
        return kept[0] if len(kept) == 1 else kept or None

    return PartitionSpec(*map(left, spec))


def _optimizer_bytes(
    optimizer: Optimizer, params: Any, placements: Sequence[Placement], mesh: Mesh | AbstractMesh
) -> tuple[list[int], int]:
    """Return what a device holds of an optimizer's state: for each parameter, and beside."""
    if not isinstance(optimizer, optax.GradientTransformation):
        return [int(optimizer * placement.bytes) for placement in placements], 0
    sizes, others = [0] * len(placements), [0]

    def like(leaf: Any, index: int) -> None:
        placement = placements[index]
        is_like = tuple(leaf.shape) == placement.shape
        sizes[index] += _bytes(leaf) // (_parts(placement.spec, mesh) if is_like else 1)

    def unlike(leaf: Any) -> None:
        others[0] += _bytes(leaf)

    numbers = jax.tree.unflatten(jax.tree.structure(params), range(len(placements)))
    state = _abstract_state(optimizer, params)
    optax.tree_utils.tree_map_params(optimizer, like, state, numbers, transform_non_params=unlike)
    return sizes, others[0]


def _abstract_state(optimizer: optax.GradientTransformation, params: Any) -> Any:
    # Without shardings, which are given to the state afterwards.
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
    return jax.eval_shape(optimizer.init, shapes)


def _variables(state: Any) -> list[nnx.Variable[Any]]:
    return jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, nnx.Variable))


def _bytes(array: Any) -> int:
    return math.prod(array.shape) * int(array.dtype.itemsize)


def _readable(size: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.2f} {unit}"
    return f"{size} B"


def _sums(placements: Iterable[Placement], others: int = 0) -> tuple[str, ...]:
    """Return a row of the table: how many arrays, and the bytes of each kind."""
    found = [p for p in placements if p.bytes or not math.prod(p.shape)]
    weights, gradients, states = (
        sum(getattr(p, kind) for p in found)
        for kind in ("bytes", "gradient_bytes", "optimizer_bytes")
    )
    total = weights + gradients + states + others
    return (str(len(found)), *map(_readable, (weights, gradients, states, total)))


def _axis_size(axes: Any, mesh: Mesh | AbstractMesh) -> int:
    names = axes if isinstance(axes, tuple) else (axes,)
    return math.prod(mesh.shape[name] for name in names)


def _parts(spec: PartitionSpec, mesh: Mesh | AbstractMesh) -> int:
    return math.prod(_axis_size(axes, mesh) for axes in spec if axes is not None)


def _check(
    name: str, shape: tuple[int, ...], spec: PartitionSpec, mesh: Mesh | AbstractMesh
) -> int:
    """Return over how many parts the array goes, refusing what does not fit."""
    if len(spec) > len(shape):
        raise ValueError(f"{name} has shape {shape}, but its rule parts {len(spec)} dimensions")
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
    return _parts(spec, mesh)
