"""`verify`: where a port departs from the original, module by module."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table

from .checkpoint import as_numpy, as_tensor
from .importer.imported import Imported

if TYPE_CHECKING:
    import torch

# What two honest implementations differ by, relative to the largest element of the output.
TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 5e-2, "float16": 5e-3}


@dataclass(frozen=True)
class Comparison:
    """One call of one module, in the original and in the port.

    Attributes:
        name: the module's path; "" for the model itself.
        call: the how manieth call of that module this is, from 0.
        shape: of the output, in the original.
        error: the largest absolute difference, NaN where the shapes differ.
        relative: that, divided by the largest element of the original's output.
        agrees: whether that is within the tolerance of the dtype.
    """

    name: str
    call: int
    shape: tuple[int, ...]
    error: float
    relative: float
    agrees: bool


@dataclass(frozen=True)
class Report:
    """What `verify` found; prints as a table, the first module that departs on top.

    Attributes:
        rows: the comparisons, in the order in which the original's calls end.
        unmatched: modules that the original calls and the port does not, by their paths.
    """

    rows: tuple[Comparison, ...]
    unmatched: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything that was compared agrees, the model's own output among it."""
        return all(row.agrees for row in self.rows) and any(not row.name for row in self.rows)

    @property
    def first(self) -> Comparison | None:
        """The first comparison that departs, if any does."""
        return next((row for row in self.rows if not row.agrees), None)

    def table(self) -> Table:
        """Return the comparisons as a table of rich."""
        table = Table("module", "shape", "max error", "relative", "")
        first = self.first
        ordered = self.rows if first is None else (first, *(r for r in self.rows if r != first))
        for row in ordered:
            name = (row.name or "(the model)") + (f" call {row.call}" if row.call else "")
            mark = "ok" if row.agrees else "[red]departs[/red]"
            numbers = (f"{row.error:.2e}", f"{row.relative:.2e}")
            table.add_row(name, str(row.shape), *numbers, mark)
        return table

    def __str__(self) -> str:
        console = Console(width=100, color_system=None)
        with console.capture() as capture:
            console.print(self.table())
            if self.unmatched:
                console.print(f"not called in the port: {', '.join(self.unmatched)}")
        return capture.get()


def verify(
    torch_module: torch.nn.Module,
    flax_module: nnx.Module,
    args: Any,
    kwargs: Mapping[str, Any] | None = None,
) -> Report:
    """Run a PyTorch model and its port on the same input, and compare them module by module.

    Modules are matched by their paths, and by the order of their calls where one is called more
    than once. Both run as copies, in the modes that they are in: put both into evaluation mode,
    unless nothing is drawn.

    Args:
        torch_module: the original.
        flax_module: the port, imported or written by hand, whose parts have the original's names.
        args: the positional arguments: a tuple of tensors or arrays, or one.
        kwargs: the keyword arguments.

    Returns:
        A Report; print it to see the table.

    Raises:
        TypeError: if the modules are not of these kinds.

    Source: torch.nn.Module.register_forward_hook.

    Example:
        >>> from flax import nnx
        >>> import jaxnn
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
        >>> port = jaxnn.from_torch(net, torch.ones(1, 3))
        >>> report = jaxnn.verify(net, port, torch.ones(4, 3))
        >>> report.ok, [row.name for row in report.rows]
        (True, ['0', '1', ''])
    """
    import torch

    if not isinstance(torch_module, torch.nn.Module) or not isinstance(flax_module, nnx.Module):
        raise TypeError(
            "verify takes a torch.nn.Module and an nnx.Module, got "
            f"{type(torch_module).__name__} and {type(flax_module).__name__}"
        )
    args = args if isinstance(args, tuple) else (args,)
    kwargs = dict(kwargs or {})
    original = _outputs_of_torch(copy.deepcopy(torch_module), args, kwargs)
    is_wide = any(leaf.dtype == np.float64 for _, leaves in original for leaf in leaves)
    with jax.enable_x64(is_wide or jax.config.read("jax_enable_x64")):
        port = _outputs_of_flax(nnx.clone(flax_module), args, kwargs)
    rows, unmatched, calls = [], [], Counter[str]()
    for name, wanted in original:
        call = calls[name]
        calls[name] += 1
        if (name, call) in port:
            rows.append(_compared(name, call, wanted, port[name, call]))
        elif name not in unmatched:
            unmatched.append(name)
    return Report(tuple(rows), tuple(unmatched))


def _outputs_of_torch(
    model: torch.nn.Module, args: Any, kwargs: Mapping[str, Any]
) -> list[tuple[str, list[np.ndarray]]]:
    """Return the outputs of each module's calls, in the order in which these end."""
    import torch

    found: list[tuple[str, list[np.ndarray]]] = []
    for name, module in model.named_modules():

        def note(_: Any, __: Any, output: Any, name: str = name) -> None:
            found.append((name, [np.array(as_numpy(leaf.detach())) for leaf in leaves_of(output)]))

        module.register_forward_hook(note)
    with torch.no_grad():
        model(*map_leaves(args, _as_tensor), **map_leaves(kwargs, _as_tensor))
    return found


def _outputs_of_flax(
    model: nnx.Module, args: Any, kwargs: Mapping[str, Any]
) -> dict[tuple[str, int], list[np.ndarray]]:
    paths = {id(node): ".".join(map(str, path)) for path, node in nnx.iter_modules(model)}
    calls: Counter[str] = Counter()
    found = {}

    def note(module: Any, output: Any) -> None:
        name = paths.get(id(module))
        leaves = leaves_of(output)
        if name is None or any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return
        found[name, calls[name]] = [np.asarray(leaf) for leaf in leaves]
        calls[name] += 1

    with _noted({type(node) for _, node in nnx.iter_modules(model)}, note):
        model(*map_leaves(args, as_array), **map_leaves(kwargs, as_array))  # type: ignore[operator]
    return found


@contextmanager
def _noted(kinds: set[type], note: Callable[[Any, Any], None]) -> Iterator[None]:
    """Let `note` see what every call of a module of these classes returns."""
    # An imported module runs its parts' programs without calling them.
    methods = [(kind, "_run" if issubclass(kind, Imported) else "__call__") for kind in kinds]
    originals = [(kind, name, vars(kind)[name]) for kind, name in methods if name in vars(kind)]

    def wrapped(kind: type, name: str, original: Any) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            output = original(self, *args, **kwargs)
            if type(self) is kind:
                note(self, output[0] if name == "_run" else output)
            return output

        return call

    try:
        for kind, name, original in originals:
            setattr(kind, name, wrapped(kind, name, original))
        yield
    finally:
        for kind, name, original in originals:
            setattr(kind, name, original)


def _compared(name: str, call: int, wanted: list[np.ndarray], got: list[np.ndarray]) -> Comparison:
    """Compare the outputs of one call; that which is farthest off speaks for all."""
    shape = wanted[0].shape if wanted else ()
    if [leaf.shape for leaf in wanted] != [leaf.shape for leaf in got]:
        return Comparison(name, call, shape, float("nan"), float("nan"), False)
    worst = Comparison(name, call, shape, 0.0, 0.0, True)
    for one, other in zip(wanted, got, strict=True):
        tolerance = max(TOLERANCES.get(str(leaf.dtype), 0.0) for leaf in (one, other))
        wide, ours = one.astype(np.float64), other.astype(np.float64)
        same = (wide == ours) | (np.isnan(wide) & np.isnan(ours))
        error = float(np.max(np.where(same, 0, np.abs(wide - ours)), initial=0))
        largest = float(np.max(np.abs(wide), initial=0, where=np.isfinite(wide)))
        relative = error / largest if largest else error
        agrees = bool(relative <= tolerance)
        if not agrees or relative > worst.relative:
            agrees = agrees and worst.agrees
            worst = Comparison(name, call, one.shape, error, relative, agrees)
    return worst


def leaves_of(output: Any) -> list[Any]:
    """Return the tensors or arrays of an output, in order."""
    if hasattr(output, "shape") and hasattr(output, "dtype"):
        return [output]
    if isinstance(output, Mapping):
        return [leaf for item in output.values() for leaf in leaves_of(item)]
    if isinstance(output, (tuple, list)):
        return [leaf for item in output for leaf in leaves_of(item)]
    return [leaf for item in vars(output).values() for leaf in leaves_of(item)] if hasattr(
        output, "__dataclass_fields__"
    ) else []  # fmt: skip


def map_leaves(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """Return the same containers with `leaf` of each array in them."""
    if isinstance(value, dict):
        return {name: map_leaves(item, leaf) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_leaves(item, leaf) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(map_leaves(item, leaf) for item in value)
    return leaf(value) if hasattr(value, "shape") else value


def _as_tensor(value: Any) -> Any:
    import torch

    return value if isinstance(value, torch.Tensor) else as_tensor(value)


def as_array(value: Any) -> jax.Array:
    """Return an array of any library as one of JAX."""
    return jnp.asarray(as_numpy(value))
