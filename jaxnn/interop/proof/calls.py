"""The arguments of a call, for both sides, and other arguments that are as good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from ..checkpoint import as_numpy, as_tensor
from ..importer.binding import bind
from ..importer.imported import Imported, forwards_of, programs_of, source_of
from ..importer.program import Body, Value, rebuild
from ..importer.record import realise
from ..importer.structures import described_call, given_call

if TYPE_CHECKING:
    import torch

# How many of each dimension there are in another input; small, so that it costs little.
BATCH = 3

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Call:
    """The arguments of a call: nested as they are, with their tensors apart.

    Attributes:
        args: the positional arguments, as they were given.
        kwargs: those by name.
        structure: what the first are made of, with a Value for each tensor.
        named: what the others are made of.
        places: which of the tensors each Value is: the same tensor may be given twice.
        tensors: the distinct tensors.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    structure: Any
    named: dict[str, Any]
    places: tuple[int, ...]
    tensors: tuple[torch.Tensor, ...]

    @staticmethod
    def of(args: Any, kwargs: Mapping[str, Any] | None = None) -> Call:
        """Return a call; arrays of JAX and NumPy among the arguments become tensors."""
        args = args if isinstance(args, tuple) else (args,)
        args, options = _with_tensors(args), _with_tensors(dict(kwargs or {}))
        structure, named, found, _ = described_call(args, options)
        distinct = list({id(tensor): tensor for tensor in found}.values())
        position = {id(tensor): index for index, tensor in enumerate(distinct)}
        places = tuple(position[id(tensor)] for tensor in found)
        return Call(args, options, structure, named, places, tuple(distinct))

    def in_torch(self, tensors: Sequence[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments for the original, of these tensors."""

        def chosen(value: Value) -> Any:
            return tensors[self.places[int(value.name)]]

        args, kwargs = given_call(self.args, self.structure, self.kwargs, self.named, chosen)
        return tuple(args), kwargs

    def in_jax(self, arrays: Sequence[jax.Array]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments for the port, of these arrays."""

        def chosen(value: Value) -> Any:
            return arrays[self.places[int(value.name)]]

        args = tuple(realise(rebuild(item, chosen)) for item in self.structure)
        return args, {name: realise(rebuild(item, chosen)) for name, item in self.named.items()}

    def arrays(self) -> list[jax.Array]:
        """Return the tensors as arrays of JAX."""
        return [jnp.asarray(as_numpy(tensor.detach())) for tensor in self.tensors]

    def widened(self) -> Call:
        """Return the call with its floating-point tensors in float64, complex ones alike."""
        return replace(self, tensors=tuple(map(widened, self.tensors)))


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of floats in float64, a complex one in complex128, others as they are."""
    import torch

    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor


def _with_tensors(value: Any) -> Any:
    import numpy as np

    if isinstance(value, (np.ndarray, jax.Array)):
        return as_tensor(value)
    if isinstance(value, dict):
        return {name: _with_tensors(item) for name, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map(_with_tensors, value))
    return value


# --- other inputs ---------------------------------------------------------------------------------


def other_calls(call: Call, shapes: Sequence[Shape]) -> Iterator[tuple[str, list[Call]]]:
    """Yield calls that the model may take as well, those that prove the most first.

    They come by sizes, each with what it is called; the first of them have the freest values, the
    last values of the example itself. The values are drawn from those of the example: floats keep
    their scale and their signs, integers and booleans are among those that occur, so that what
    holds for the example (ids in range, nothing negative) holds for them.

    Args:
        call: the example.
        shapes: of each of its tensors the shape that the port takes, None for a dimension that may
            differ. Dimensions that are equal in the example stay equal.
    """
    seen = set()
    for sizes in _sizes(call, shapes):
        wanted = [
            _resized(tuple(tensor.shape), shape, sizes)
            for tensor, shape in zip(call.tensors, shapes, strict=True)
        ]
        if tuple(wanted) not in seen:
            seen.add(tuple(wanted))
            calls = [_filled(call, wanted, kind) for kind in ("elements", "rows", "same")]
            yield _name(call, wanted), calls


def _resized(shape: tuple[int, ...], free: Shape, sizes: Mapping[int, int]) -> tuple[int, ...]:
    pairs = zip(shape, free, strict=True)
    return tuple(sizes.get(n, n) if wanted is None else n for n, wanted in pairs)


def _sizes(call: Call, shapes: Sequence[Shape]) -> Iterator[dict[int, int]]:
    """Yield new sizes by old ones: of all free dimensions, of leading ones, of none."""
    pairs = list(zip(call.tensors, shapes, strict=True))
    leading = dict.fromkeys(t.shape[0] for t, shape in pairs if shape and shape[0] is None)
    inner = {
        n for t, s in pairs for n, free in zip(t.shape[1:], s[1:], strict=True) if free is None
    }
    batches = {n: BATCH if n != BATCH else BATCH + 1 for n in leading}
    if len(leading) > 1:  # of which some may be multiples of others
        batches = {n: 2 * n for n in leading}
    yield {**{n: n + 1 for n in inner}, **batches}
    yield {**{n: 2 * n for n in inner}, **batches}
    yield batches
    yield {n: BATCH if n != BATCH else BATCH + 1 for n in list(leading)[:1]}
    yield {n: 2 * n for n in leading}
    yield {}


def _name(call: Call, wanted: Sequence[tuple[int, ...]]) -> str:
    """Return what another input is called, by what differs: "another input, (2→3, 64)"."""
    for tensor, shape in zip(call.tensors, wanted, strict=True):
        if tuple(tensor.shape) != shape:
            pairs = zip(tensor.shape, shape, strict=True)
            sizes = [str(old) if old == new else f"{old}→{new}" for old, new in pairs]
            return f"another input, ({', '.join(sizes)})"
    return "another input of the same shapes"


def name_of(example: Call, call: Call, number: int) -> str:
    """Return what a further call is called, with what differs of its sizes."""
    name = f"example {number}"
    if [t.ndim for t in example.tensors] != [t.ndim for t in call.tensors]:
        return name
    sizes = _name(example, [tuple(tensor.shape) for tensor in call.tensors])
    return f"{name}, {sizes.partition(', ')[2]}" if "→" in sizes else name


def _filled(call: Call, wanted: Sequence[tuple[int, ...]], kind: str) -> Call:
    import torch

    generator = torch.Generator().manual_seed(0)
    tensors = [
        _values(tensor.detach().cpu(), shape, kind, generator).to(tensor.device)
        for tensor, shape in zip(call.tensors, wanted, strict=True)
    ]
    return replace(call, tensors=tuple(tensors))


def _values(
    example: torch.Tensor, shape: tuple[int, ...], kind: str, generator: torch.Generator
) -> torch.Tensor:
    """Return a tensor of `shape` made of the values of `example`."""
    import torch

    tensor = example
    for axis, size in enumerate(shape):
        index = torch.arange(size) % max(tensor.shape[axis], 1)
        tensor = tensor.index_select(axis, index)
    if not tensor.numel():
        return tensor.clone()
    is_number = tensor.is_floating_point() or tensor.is_complex()
    is_whole = kind == "rows" or tensor.dtype == torch.bool or not bool(tensor.isfinite().all())
    if kind == "elements" and not is_whole:
        picked = torch.randint(tensor.numel(), shape, generator=generator)
        drawn = torch.randn(shape, generator=generator).to(tensor.dtype) if is_number else tensor
        tensor = tensor.reshape(-1)[picked] if bool(tensor.any()) else drawn
    elif kind != "same" and tensor.ndim > 1:
        rows = torch.randint(tensor.shape[0], (tensor.shape[0],), generator=generator)
        tensor = tensor[rows]
    if kind != "same" and is_number:
        tensor = tensor * (0.5 + 0.5 * torch.rand(shape, generator=generator)).to(tensor.dtype)
    if not is_number and tensor.dtype != torch.bool and _ascends(example):
        return _ascending(tensor, example)
    return tensor.clone()


def drawn_like(example: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a tensor of another shape, of the values that occur in an example."""
    import torch

    generator = torch.Generator().manual_seed(0)
    flat = example.detach().cpu().reshape(-1)
    if not flat.numel():
        return torch.zeros(shape, dtype=example.dtype)
    return flat[torch.randint(flat.numel(), shape, generator=generator)].to(example.device)


def _ascends(tensor: torch.Tensor) -> bool:
    """Whether the last axis ascends, as offsets and positions do, which mean nothing otherwise."""
    return bool(tensor.ndim and tensor.shape[-1] > 1 and (tensor.diff(dim=-1) >= 0).all())


def _ascending(tensor: torch.Tensor, example: torch.Tensor) -> torch.Tensor:
    """Return the values in ascending order, with the least and the greatest of the example."""
    tensor = tensor.sort(-1).values
    tensor[..., 0], tensor[..., -1] = example.min(), example.max()
    return tensor


def free_shapes(net: nnx.Module, call: Call) -> list[Shape]:
    """Return the shapes that an import takes, None for what may differ; a leading one elsewhere."""
    leading: list[Shape] = [(None, *t.shape[1:]) if t.ndim else () for t in call.tensors]
    if not isinstance(net, Imported):
        return leading
    try:
        return _free_in_programs(net, call) or leading
    except (TypeError, ValueError):  # it does not take its example: that is met again
        return leading


def refusal(net: nnx.Module, call: Call) -> str:
    """Return why an import refuses the sizes of a call, before anything of it is run."""
    if not isinstance(net, Imported):
        return ""
    args, kwargs = call.in_jax(call.arrays())
    for training in (False, True):
        try:
            if programs_of(net, training) and not isinstance(programs_of(net, training), str):
                forwards_of(net).fitting(training, args, kwargs)
        except (TypeError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
    return ""


def _bodies(net: Imported, args: Any, kwargs: Any) -> Iterator[Body]:
    """Yield the forward pass of each mode that has one for a call."""
    for training in (False, True):
        programs = programs_of(net, training)
        if programs and not isinstance(programs, str):
            yield forwards_of(net).fitting(training, args, kwargs)


def _free_in_programs(net: Imported, call: Call) -> list[Shape] | None:
    arrays = call.arrays()
    args, kwargs = call.in_jax(arrays)
    found: list[Shape] | None = None
    for body in _bodies(net, args, kwargs):
        shapes = _shapes(source_of(net), body, args, kwargs, arrays)
        pairs = [shapes] if found is None else [found, shapes]
        found = [
            _common(both, array.shape)
            for both, array in zip(zip(*pairs, strict=True), arrays, strict=True)
        ]
    return found


def _shapes(
    name: str, body: Body, args: Any, kwargs: Any, arrays: Sequence[jax.Array]
) -> list[Shape]:
    """Return the shapes that a program takes for each of the arrays of a call."""
    values: dict[str, Any] = {}
    bind(name, body, args, kwargs, values)
    named = dict(body.shapes)
    return [
        _common([named[key] for key in named if values.get(key) is array], array.shape)
        for array in arrays
    ]


def _common(shapes: Sequence[Shape], actual: tuple[int, ...]) -> Shape:
    """Return the shape in which a dimension is free that is free in all."""
    return tuple(
        None if shapes and all(shape[axis] is None for shape in shapes) else size
        for axis, size in enumerate(actual)
    )
