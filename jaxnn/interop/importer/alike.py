"""Blocks that are alike: three of them are captured, and the others run the same program.

Blocks are alike that have one class, the same parameters but for their values, the same parts and
the same attributes, but for those that their forward passes do not read; that are called with
arguments of one structure, of the same shapes; and that change nothing but what they return. The
programs of the first two and of the last must then be equal, and torch must run the same operators
with the same numbers in all of them, or all are captured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .looks import Group, attributes_of, is_constant
from .naming import is_below, joined, relative
from .program import Body, Custom, Opaque, Structure
from .structures import among, described_call, with_leaves

if TYPE_CHECKING:
    import torch


class Unlike(Exception):
    """Blocks that looked alike are not.

    Attributes:
        groups: which.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        super().__init__(", ".join(group.members[0] for group in groups))
        self.groups = groups


# --- calls --------------------------------------------------------------------------------------


@dataclass
class Seen:
    """A call of a block that was captured.

    Attributes:
        path: of the block.
        signature: of the arguments.
        result: what came back.
        structure: what that is made of.
        shapes: the sizes, strides, dtypes and devices of its tensors.
    """

    path: str
    signature: Any
    result: Any
    structure: Any
    shapes: list[tuple[Any, ...]]

    def looks(self) -> Any:
        """Return what is equal for calls whose results look alike."""
        return repr(self.structure), repr(self.shapes)


@dataclass
class Alike:
    """The blocks that look alike, while a model is captured.

    Args:
        groups: these blocks.
        runs: what torch has run in each, where the model could be run.

    Attributes:
        standing: by group, the blocks that are not looked into, with the calls that each is like.
        refused: the groups whose blocks are not alike.
    """

    groups: Sequence[Group] = ()
    runs: Mapping[str, list[Any]] = field(default_factory=dict)
    standing: dict[Group, list[tuple[str, list[Seen]]]] = field(default_factory=dict)
    refused: set[Group] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._group = {path: group for group in self.groups for path in group.members}
        self._seen: dict[Group, list[Seen]] = {group: [] for group in self.groups}
        self._shapes: dict[str, list[tuple[Any, ...]]] = {}
        self._within: list[Group] = []
        self._parts: dict[int, tuple[Group, str]] = {}

    def begin(self, model: torch.nn.Module) -> None:
        """Know the model's parts, to be told of what is read of them."""
        for path, module in model.named_modules():
            group = next((g for p, g in self._group.items() if is_below(p, path)), None)
            if group is not None:
                block = next(p for p in group.members if is_below(p, path))
                inner = "" if path == block else relative(block, path)
                self._parts[id(module)] = (group, inner)

    def is_member(self, path: str) -> bool:
        """Whether a module is one of the blocks."""
        return path in self._group

    def like(self, path: str, signature: Any) -> list[Seen]:
        """Return the calls of other blocks that a call is like; none if it is captured.

        Two are captured, and the last block, for what counts calls.
        """
        group = self._group[path]
        seen = [
            one
            for one in self._seen[group]
            if one.signature == signature and self.runs.get(path) == self.runs.get(one.path)
        ]
        is_captured = signature is None or group in self.refused or path == group.members[-1]
        return [] if is_captured or len(seen) < 2 else seen

    def stand_in(self, path: str, key: str, seen: list[Seen]) -> None:
        """Note that a block's call is not looked into."""
        self.standing.setdefault(self._group[path], []).append((path, seen))
        self._shapes[key] = seen[0].shapes

    def empty(self, key: str) -> list[torch.Tensor] | None:
        """Return tensors like the results of a call that is not looked into."""
        import torch

        shapes = self._shapes.get(key)
        if shapes is None:
            return None
        return [torch.empty_strided(s, t, dtype=d, device=v) for s, t, d, v in shapes]

    def enters(self, path: str) -> None:
        """Be told that a block's call begins, which is captured."""
        self._within.append(self._group[path])

    def leaves(self, path: str, seen: Seen | None) -> None:
        """Be told that it ends; `seen` is None where no other may be like it."""
        group = self._within.pop()
        if seen is None:
            self.refused.add(group)
            return
        known = self._seen[group]
        same = [
            one
            for one in known
            if one.signature == seen.signature and self.runs.get(path) == self.runs.get(one.path)
        ]
        # It is called once; more calls have programs of their own.
        if any(one.path == path for one in known) or any(o.looks() != seen.looks() for o in same):
            self.refused.add(group)
        # Those that are like the others before it have the same list.
        self._seen[group].append(seen)
        for _, others in self.standing.get(group, []):
            is_alike = self.runs.get(path) == self.runs.get(others[0].path)
            if is_alike and others[0].signature == seen.signature:
                others.append(seen)

    def reads(self, module: Any, name: str) -> None:
        """Be told that an attribute is read; "__dict__" are all."""
        found = self._parts.get(id(module))
        if found is not None and self._within:
            group, path = found
            if (path, name) in group.differing or name == "__dict__":
                self.refused.add(group)

    def writes(self) -> None:
        """Be told that an attribute of any module is set."""
        self.refused.update(self._within)

    def add_modes(self, modes: dict[str, bool]) -> None:
        """Give the layers of blocks that are not looked into the modes of those that are."""
        for path, (first, *_) in (pair for pairs in self.standing.values() for pair in pairs):
            inner = [(p, mode) for p, mode in modes.items() if is_below(first.path, p)]
            modes |= {joined(path, relative(first.path, p)): mode for p, mode in inner}

    def unlike(self) -> list[Group]:
        """Return the groups whose blocks stand in the graph though they are not alike."""
        return [group for group in self.standing if group in self.refused]


def signature_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return what is equal for calls that a forward pass cannot tell apart but by values.

    None where there may be more to it: an object whose class is not known, or autocast. Whether a
    tensor has gradients is nothing that a captured forward pass asks.
    """
    import torch

    structure, named, tensors, sizes = described_call(args, kwargs, inner=True)
    is_cast = any(
        torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        for kind in {tensor.device.type for tensor in tensors}
    )
    if is_cast or has_opaque((structure, named)) or not torch.is_grad_enabled():
        return None
    ids = [id(tensor) for tensor in tensors]
    return (
        repr((structure, named)),
        tuple(ids.index(at) for at in ids),
        tuple(
            (repr(tuple(t.shape)), repr(t.stride()), t.dtype, t.device, type(t)) for t in tensors
        ),
        repr(sizes),
    )


def seen_call(
    path: str, signature: Any, result: Any, structure: Any, found: list[Any], is_known: bool
) -> Seen | None:
    """Return what is kept of a call that was captured, if others may be like it."""
    if signature is None or not is_known:
        return None
    shapes = [(tuple(t.shape), t.stride(), t.dtype, t.device) for t in found]
    return Seen(path, signature, result, structure, shapes)


def result_like(seen: Seen, tensors: Sequence[Any]) -> Any:
    """Return a result like that of another call, made of other tensors."""
    return with_leaves(seen.result, seen.structure, among(tensors, ()))


def has_opaque(structure: Any) -> bool:
    """Whether there is an object in a structure that is not known."""
    if isinstance(structure, Structure):
        return has_opaque([item for _, item in structure.fields])
    if isinstance(structure, (tuple, list)):
        return any(map(has_opaque, structure))
    if isinstance(structure, dict):
        return has_opaque(list(structure.values()))
    return isinstance(structure, Opaque)


def state_of(module: torch.nn.Module, tensors: Sequence[Any]) -> Any:
    """Return what is another once a block has changed what it holds or was given."""
    held = [attributes_of(part) for part in module.modules()]
    printed = [{name: _print(value, set()) for name, value in plain.items()} for plain in held]
    return printed, [tensor._version for tensor in tensors]


def _print(value: Any, above: set[int]) -> Any:
    import torch

    if is_constant(value) and not isinstance(value, (tuple, list)):
        return repr(value)
    if isinstance(value, torch.Tensor):
        return id(value), value._version
    if id(value) in above or isinstance(value, (torch.nn.Module, type)) or callable(value):
        return id(value)
    above = above | {id(value)}
    if isinstance(value, Mapping):
        return [(repr(k), _print(v, above)) for k, v in value.items()]
    if isinstance(value, (tuple, list, set, frozenset)) or hasattr(value, "popleft"):
        return [_print(item, above) for item in value]
    if hasattr(value, "__dict__"):
        return id(value), [(n, _print(v, above)) for n, v in vars(value).items()]
    return id(value)


# --- programs -----------------------------------------------------------------------------------


def completed(alike: Alike, bodies: dict[str, list[Body]]) -> dict[str, str]:
    """Give the blocks that were not looked into the programs of those that were.

    Args:
        alike: the blocks.
        bodies: the programs of each module, in the order of its calls.

    Returns:
        For each module that has got programs, the one that they come from.

    Raises:
        Unlike: if the programs of blocks that were captured differ, or use more than what the block
            is given and has.
    """
    sources: dict[str, str] = {}
    unlike = []
    captured = dict(bodies)
    known: dict[tuple[str, ...], dict[str, list[Body]] | None] = {}
    for group, standing in alike.standing.items():
        for path, seen in standing:
            names = tuple(one.path for one in seen)
            if names not in known:
                known[names] = _of_all(names, captured)
            programs = known[names]
            if programs is None or path in bodies:
                unlike.append(group)
                break
            for inner, found in programs.items():
                target = joined(path, inner) if inner else path
                bodies[target] = list(found)
                sources[target] = joined(names[0], inner) if inner else names[0]
    if unlike:
        raise Unlike(unlike)
    return sources


def _of_all(paths: Sequence[str], bodies: Mapping[str, list[Body]]) -> dict[str, list[Body]] | None:
    """Return the programs that all of these blocks have, or None where these differ."""
    first, *others = (_of_block(path, bodies) for path in paths)
    return first if _is_closed(first) and all(other == first for other in others) else None


def _of_block(path: str, bodies: Mapping[str, list[Body]]) -> dict[str, list[Body]]:
    """Return the programs of a block and its parts, by their paths in it."""
    return {
        "" if name == path else relative(path, name): found
        for name, found in bodies.items()
        if is_below(path, name)
    }


def _is_closed(block: Mapping[str, list[Body]]) -> bool:
    """Whether a block has one program, which uses and gives nothing beside its signature."""
    own = block.get("", [])
    steps = [step for bodies in block.values() for body in bodies for step in body.steps]
    return (
        len(own) == 1
        and not own[0].captured
        and not own[0].extra
        and not any(isinstance(step, Custom) for step in steps)
    )
