"""Which sizes of a call may differ, and the ways to ask the exporter for that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .gradients import Refused
from .guards import Guard
from .program import Structure, Value
from .structures import among, arguments_of, described_call, given_call

if TYPE_CHECKING:
    import torch

Dynamic = Literal["auto", "batch"] | bool | Mapping[str, Mapping[int, str]]
Dimensions = tuple[frozenset[int], ...]
CallOfTorch = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Way:
    """A way to capture a call.

    Attributes:
        args: the positional arguments of the example, or of one with larger sizes.
        kwargs: those by name.
        free: of each of its tensors, the dimensions that may differ.
        size_one: whether these may be 1 (or 0), with the conditions that the model has on that;
            else the exporter takes for granted that they are more.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    free: Dimensions
    size_one: bool = True

    @property
    def is_wide(self) -> bool:
        """Whether more than leading dimensions may differ."""
        return any(dim > 0 for dims in self.free for dim in dims)

    @property
    def call(self) -> CallOfTorch:
        """The example."""
        return self.args, self.kwargs


@dataclass(frozen=True)
class FreeSizes:
    """What a user lets differ.

    Attributes:
        dynamic: "auto", "batch", False, or the names of dimensions by argument.
        names: of each tensor of the call, its dimensions that have a name.
        tensors: what each tensor of the call is called.
    """

    dynamic: Dynamic
    names: tuple[Mapping[int, str], ...] = ()
    tensors: tuple[str, ...] = field(default=(), repr=False)

    @staticmethod
    def of(
        dynamic: Dynamic, model: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> FreeSizes:
        """Return what `dynamic` says of a call; names of other calls' tensors say nothing of it.

        Raises:
            TypeError: if `dynamic` is none of its forms.
            ValueError: if it names a dimension that a tensor has not.
        """
        structure, named, tensors, _ = described_call(args, kwargs)
        arguments = arguments_of(model.forward, structure, named)
        places = [pair for name, (item, kind) in arguments.items() for pair in _places(item, name)]
        paths = tuple(path for path, _ in sorted(places, key=lambda pair: pair[1]))
        if dynamic in ("auto", "batch", False) and not isinstance(dynamic, Mapping):
            return FreeSizes(dynamic, ({},) * len(tensors), paths)
        if not isinstance(dynamic, Mapping):
            raise TypeError(
                'jaxnn.from_torch: `dynamic` must be "auto", "batch", False, or name dimensions '
                f'by argument, as {{"input_ids": {{1: "length"}}}}; got {dynamic!r}'
            )
        names = tuple(
            dict(_named_dimensions(path, dynamic.get(path, {}), tensor.ndim))
            for path, tensor in zip(paths, tensors, strict=True)
        )
        return FreeSizes(dynamic, names, paths)

    def ways(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Way]:
        """Yield the ways to capture a call, the one that lets most differ first."""
        _, _, tensors, _ = described_call(args, kwargs)
        fixed = tuple(frozenset[int]() for _ in tensors)
        if self.dynamic is False:
            yield Way(args, kwargs, fixed)
            return
        leading = tuple(frozenset(range(min(t.ndim, 1))) for t in tensors)
        if isinstance(self.dynamic, Mapping):
            named = self._named()
            fewer = tuple(a & b for a, b in zip(named, beyond_one((args, kwargs)), strict=True))
            by_name = [Way(args, kwargs, free) for free in (named, fewer)]
            yield from _distinct([self._by_name(args, kwargs), *by_name])
            return
        # A size of one would be fixed where a kernel treats it apart, so two come first.
        larger = _grown(args, kwargs, _batches_of_one(tensors))
        ways = [
            Way(*larger, leading), Way(args, kwargs, leading),
            Way(*larger, leading, size_one=False), Way(args, kwargs, fixed),
        ]  # fmt: skip
        if self.dynamic == "auto":
            # All free, then what stands at one fixed, where it may be there to be spread.
            every = tuple(frozenset(range(t.ndim)) for t in tensors)
            ways[0:0] = [Way(*larger, every), Way(*larger, beyond_one(larger))]
            ways.insert(3, Way(args, kwargs, beyond_one((args, kwargs))))
        yield from _distinct(ways)

    def _named(self) -> Dimensions:
        return tuple(frozenset(names) for names in self.names)

    def _by_name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Way:
        """Return the way with larger sizes for those of one that have a name."""
        _, _, tensors, _ = described_call(args, kwargs)
        ones = {
            name
            for tensor, names in zip(tensors, self.names, strict=True)
            for dim, name in names.items()
            if tensor.shape[dim] == 1
        }
        dims = tuple(
            frozenset(dim for dim, name in names.items() if name in ones) for names in self.names
        )
        return Way(*_grown(args, kwargs, dims), self._named())

    def check(self, found: Sequence[Sequence[int | None]], guards: Sequence[Guard]) -> None:
        """Refuse a capture that fixes what has a name.

        Args:
            found: the shapes that it holds for, None for what may differ.
            guards: its conditions, over `flat[i].shape[dim]`.

        Raises:
            Refused: naming the line that asks for it.
        """
        for i, (names, shape) in enumerate(zip(self.names, found, strict=True)):
            for dim, name in names.items():
                if shape[dim] is None:
                    continue
                asked = f"flat[{i}].shape[{dim}] == {shape[dim]}"
                lines = [guard.line for guard in guards if guard.text == asked and guard.line]
                raise Refused(
                    f"{name!r}, dimension {dim} of {self.tensors[i]}, may not "
                    f"differ: the model holds for {shape[dim]} alone, which it asks for at "
                    f"{lines[0] if lines else 'no line of its own'}; leave it out of `dynamic`"
                )

    def equalities(self) -> Iterator[Guard]:
        """Yield the conditions that sizes of one name are one size."""
        first: dict[str, str] = {}
        for i, names in enumerate(self.names):
            for dim, name in names.items():
                size = f"flat[{i}].shape[{dim}]"
                if first.setdefault(name, size) != size:
                    yield Guard(f"{first[name]} == {size}", f"dynamic, where both are {name!r}")


def check_names(dynamic: Dynamic, sizes: Sequence[FreeSizes]) -> None:
    """Refuse names that no call has.

    Args:
        dynamic: what the user lets differ.
        sizes: what that says of each call.

    Raises:
        ValueError: if `dynamic` names what is a tensor of no call.
    """
    if not isinstance(dynamic, Mapping):
        return
    known = list(dict.fromkeys(path for of_call in sizes for path in of_call.tensors))
    for name in dynamic:
        if name not in known:
            raise ValueError(
                f"jaxnn.from_torch: `dynamic` names {name!r}, which is no tensor of the example; "
                f"it has {', '.join(known)}"
            )


def _places(structure: Any, path: str) -> Iterator[tuple[str, int]]:
    """Yield the tensors of an argument, by what each is called."""
    if isinstance(structure, Value):
        yield path, int(structure.name)
    elif isinstance(structure, Structure):
        for name, item in structure.fields:
            yield from _places(item, f"{path}[{name!r}]")
    elif isinstance(structure, (tuple, list)):
        for index, item in enumerate(structure):
            yield from _places(item, f"{path}[{index}]")


def _named_dimensions(path: str, names: Mapping[int, str], rank: int) -> Iterator[tuple[int, str]]:
    for dim, name in names.items():
        if not -rank <= dim < rank:
            raise ValueError(
                f"jaxnn.from_torch: `dynamic` names dimension {dim} of {path}, which has {rank}"
            )
        yield dim % rank, name


def _batches_of_one(tensors: Sequence[torch.Tensor]) -> Dimensions:
    """Return the leading dimensions, if all are one."""
    one = all(t.shape[0] == 1 for t in tensors if t.ndim)
    return tuple(frozenset({0} if one and t.ndim else ()) for t in tensors)


def beyond_one(call: CallOfTorch) -> Dimensions:
    """Return of each tensor of a call the dimensions that are not one."""
    tensors = described_call(*call)[2]
    return tuple(frozenset(d for d, n in enumerate(t.shape) if n != 1) for t in tensors)


def with_batch_of_one(call: CallOfTorch, free: Dimensions) -> CallOfTorch | None:
    """Return a call with a batch of one, if its batch is larger and may differ."""
    tensors = described_call(*call)[2]
    dims = [0 in dims for dims in free]
    batches = {t.shape[0] for t, batched in zip(tensors, dims, strict=True) if batched}
    if len(batches) != 1 or batches <= {0, 1}:
        return None
    made = [t[:1] if batched else t for t, batched in zip(tensors, dims, strict=True)]
    return with_tensors(call, made)


def _grown(args: tuple[Any, ...], kwargs: dict[str, Any], dims: Dimensions) -> CallOfTorch:
    """Return a call whose tensors are twice as long in some dimensions."""
    import torch

    if not any(dims):
        return args, kwargs
    made = []
    for tensor, grown in zip(described_call(args, kwargs)[2], dims, strict=True):
        larger = tensor
        for dim in grown:
            larger = torch.cat([larger, larger], dim)
        made.append(larger)
    return with_tensors((args, kwargs), made)


def with_tensors(call: CallOfTorch, tensors: Sequence[torch.Tensor]) -> CallOfTorch:
    """Return a call with other tensors in the places of its own."""
    args, kwargs = call
    structure, named, _, _ = described_call(args, kwargs)
    args, kwargs = given_call(args, structure, kwargs, named, among(tensors, ()))
    return tuple(args), kwargs


def shapes_of(call: CallOfTorch) -> tuple[tuple[int, ...], ...]:
    """Return the shape of each tensor of a call."""
    return tuple(tuple(tensor.shape) for tensor in described_call(*call)[2])


def _distinct(ways: Sequence[Way]) -> Iterator[Way]:
    seen = set()
    for way in ways:
        key = shapes_of(way.call), way.free, way.size_one and any(way.free)
        if key not in seen:
            seen.add(key)
            yield way
