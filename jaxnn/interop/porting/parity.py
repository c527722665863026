"""What a model returned in PyTorch, kept so that a port of it is proved again without PyTorch."""

from __future__ import annotations

import binascii
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ...modules._module import RandomSource, takes_rngs
from ...modules._state import NonPersistent
from ..importer.structures import copied_call
from ..importer.tying import descend
from ..proof.calls import Call, widened
from ..proof.copies import LARGEST_IN_FLOAT64, copied
from ..proof.differences import Difference, difference, gradient_floor, is_rounding, map_leaves
from ..proof.drawing import fix_streams, fixed_key
from ..proof.evidence import Evidence, attach
from ..proof.outcomes import Outcome, Traced, of_torch
from ..state_dict import load_state_dict, named_variables
from ..state_dict import state_dict as state_dict_of
from .as_json import arguments_from_json, array_from_json, sampled_as_json

if TYPE_CHECKING:
    import torch

FORMAT = "jaxnn-parity/2"
# Which had one call.
OLD_FORMAT = "jaxnn-parity/1"
MODEL, WEIGHTS, PARITY = "model.py", "weights.safetensors", "parity.json"


class PortError(Exception):
    """A port that cannot be read: what is wrong with it, and what to do."""


@dataclass(frozen=True)
class ParityReport:
    """How a port compares with the original; prints as a table, what departs on top.

    Attributes:
        rows: a comparison for each output and gradient.
    """

    rows: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        """Whether there is something to compare, and everything agrees."""
        return bool(self.rows) and all(row.agrees for row in self.rows)

    def table(self) -> Table:
        """Return the comparisons as a table of rich."""
        table = Table("output or gradient", "shape", "max error", "relative", "")
        for row in sorted(self.rows, key=lambda row: row.agrees):
            mark = "ok" if row.agrees else "[red]departs[/red]"
            numbers = (f"{row.error:.2e}", f"{row.relative:.2e}")
            table.add_row(row.name, str(row.shape), *numbers, mark)
        return table

    def __str__(self) -> str:
        console = Console(width=100, color_system=None)
        with console.capture() as capture:
            console.print(self.table())
        return capture.get()


# --- recording, with torch ------------------------------------------------------------------------


def record(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the outputs and gradients of a model, which is a copy in the mode to be compared.

    Args:
        model: the model; its statistics may change.
        args: the positional arguments that the port takes.
        kwargs: those by name, and the constants that the port contains.
    """
    # A tensor that is given twice has a gradient for each place.
    call = Call.of(*copied_call(args, kwargs))
    in_float64: dict[str, Any] = {}
    floats = [p for p in model.parameters() if p.is_floating_point() or p.is_complex()]
    narrow = any(widened(p).dtype != p.dtype for p in floats)
    if narrow and sum(p.numel() for p in floats) <= LARGEST_IN_FLOAT64:
        # A model may insist on a dtype.
        with suppress(Exception):
            wide = copied(model)._apply(widened)
            in_float64 = of_torch(wide, call.widened()).gradients or {}
    outcome = of_torch(model, call)
    return {
        "outputs": [sampled_as_json(output) for output in outcome.outputs],
        "gradients": _sampled(outcome.gradients or {}),
        "gradients in float64": _sampled(in_float64),
    }


def _sampled(gradients: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: sampled_as_json(gradient) for name, gradient in gradients.items()}


# --- reading, without torch -----------------------------------------------------------------------


def load_port(folder: str | Path, *, rngs: RandomSource | None = None) -> nnx.Module:
    """Return the model that `jaxnn port` wrote, with its weights, in evaluation mode.

    Args:
        folder: where it was written; its model.py is run.
        rngs: where its random streams are forked from.

    Returns:
        The model.

    Raises:
        PortError: if the folder is not a port, or its weights are damaged.

    Source: jaxnn.

    Example:
        >>> import tempfile
        >>> import jaxnn
        >>> import torch
        >>> folder = tempfile.mkdtemp()
        >>> report = jaxnn.interop.port(torch.nn.Linear(3, 2), torch.ones(1, 3), folder=folder)
        >>> jaxnn.interop.load_port(folder)
        Linear(in_features=3, out_features=2, bias=True)
    """
    folder = Path(folder)
    module = _module_of(folder / MODEL)
    if not callable(getattr(module, "make", None)):
        raise PortError(f"{folder / MODEL} has no function make(*, rngs): port the model again")
    net = module.make(rngs=rngs)
    _load_weights(net, folder / WEIGHTS)
    with suppress(OSError, ValueError, KeyError, TypeError):  # what else it says is for check_port
        found = json.loads((folder / PARITY).read_text())["evidence"]
        attach(net, Evidence.from_json(found))
    net.eval()
    return net  # type: ignore[no-any-return]


def _check_is_port(folder: Path) -> None:
    if not (folder / MODEL).is_file():
        raise PortError(f"{folder} is no port: it has no {MODEL}; jaxnn port writes one")


def _module_of(path: Path) -> Any:
    _check_is_port(path.parent)
    name = f"jaxnn_port_{path.parent.resolve().name}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # for what pickles its classes
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise PortError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    return module


def save_weights(net: nnx.Module, path: Path) -> None:
    """Write a model's parameters and buffers, with those that are not in a state dict."""
    # What has several names is written under the first.
    names: dict[int, str] = {}
    for name, variable in named_variables(net):
        names.setdefault(id(variable), name)
    weights = state_dict_of(net)
    arrays = {name: weights[name] for name in names.values()}
    arrays |= {
        name: np.asarray(variable.get_value()) for name, variable in _non_persistent(net).items()
    }
    save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)


def _load_weights(net: nnx.Module, path: Path) -> None:
    try:
        arrays = load_file(path)
        buffers = _non_persistent(net)
        persistent = {name: array for name, array in arrays.items() if name not in buffers}
        load_state_dict(net, persistent)
        for name, variable in buffers.items():
            if arrays[name].shape != variable.shape:
                raise ValueError(f"{name} has shape {arrays[name].shape}, not {variable.shape}")
            variable.set_value(jnp.asarray(arrays[name], variable.dtype))
    except FileNotFoundError:
        raise PortError(f"{path} is missing: port the model again") from None
    except KeyError as error:
        raise PortError(f"{path} lacks the buffer {error}: port the model again") from None
    except (SafetensorError, ValueError) as error:
        raise PortError(f"{path} is damaged, or not of this model: {error}") from error


def _non_persistent(net: nnx.Module) -> dict[str, Any]:
    return {
        ".".join(map(str, path)): variable
        for path, variable in nnx.to_flat_state(nnx.state(net, NonPersistent))
        for variable in [descend(net, ".".join(map(str, path)))]
    }


def check_port(folder: str | Path, *, device: str | None = None) -> ParityReport:
    """Compare a port with what the original returned when it was ported; torch is not needed.

    Args:
        folder: where the port was written; its model.py is run.
        device: the kind of device to run on ("cpu", "gpu", "tpu"); JAX's default where None.

    Returns:
        The comparison of every output and gradient; print it to see a table.

    Raises:
        PortError: if the folder is not a port, a file of it is damaged, or there is no such device.

    Source: jaxnn.

    Example:
        >>> import tempfile
        >>> import jaxnn
        >>> import torch
        >>> folder = tempfile.mkdtemp()
        >>> report = jaxnn.interop.port(torch.nn.Linear(3, 2), torch.ones(1, 3), folder=folder)
        >>> [row.name for row in jaxnn.interop.check_port(folder).rows][:5]
        ['output 0', 'input 0', 'weight', 'bias', 'output 0, another input, (1→3, 3)']
    """
    folder = Path(folder)
    _check_is_port(folder)
    parity = _read(folder / PARITY)
    with ExitStack() as stack:
        narrow = [{**call, "gradients in float64": {}} for call in parity["calls"]]
        text = json.dumps(narrow)
        is_wide = '"float64"' in text or '"complex128"' in text
        stack.enter_context(jax.enable_x64(is_wide or jax.config.read("jax_enable_x64")))
        # Else a GPU would round the operands of products.
        stack.enter_context(jax.default_matmul_precision("highest"))
        if device is not None:
            stack.enter_context(jax.default_device(device_of(device)))
        try:
            rows: list[Difference] = []
            for kept in parity["calls"]:
                found = _compared_call(folder, parity["mode"], kept).rows
                name = "" if kept is parity["calls"][0] else f", {kept['input']}"
                rows += [replace(row, name=row.name + name) for row in found]
            return ParityReport(tuple(rows))
        except (KeyError, ValueError, TypeError, binascii.Error) as error:
            raise PortError(f"{folder / PARITY} is damaged: {error!r}") from error


def _compared_call(folder: Path, mode: str, kept: Mapping[str, Any]) -> ParityReport:
    report = _report(kept, _run_port(folder, mode, kept))
    wide = kept.get("gradients in float64")
    if not report.ok and isinstance(wide, dict):
        report = _judged_in_float64(report, folder, mode, kept)
    return report


def _run_port(folder: Path, mode: str, kept: Mapping[str, Any], wide: bool = False) -> Outcome:
    """Return a port's outputs and gradients, in its own dtypes or in those of double width."""

    def cast(value: Any) -> Any:
        if not wide or not jnp.issubdtype(value.dtype, jnp.inexact):
            return value
        is_complex = jnp.issubdtype(value.dtype, jnp.complexfloating)
        return value.astype(jnp.complex128 if is_complex else jnp.float64)

    net: Any = load_port(folder)
    nnx.update(net, jax.tree.map(cast, nnx.state(net)))
    fix_streams(net)
    if mode == "training":
        net.train()
    given = _given(kept, folder / PARITY)
    arrays = [cast(jnp.asarray(leaf)) for leaf in jax.tree.leaves(given) if hasattr(leaf, "shape")]

    def arguments(arrays: Sequence[jax.Array]) -> tuple[Any, Any]:
        left = iter(arrays)
        args, kwargs = map_leaves(
            given, lambda leaf: next(left) if hasattr(leaf, "shape") else leaf
        )
        return args, kwargs

    shapes = [tuple(output["shape"]) for output in kept["outputs"]]
    key = fixed_key() if takes_rngs(net) else None
    return Traced(net, arrays, arguments, key, shapes=shapes).compile(quickly=False).outcome()


def _judged_in_float64(
    report: ParityReport, folder: Path, mode: str, kept: Mapping[str, Any]
) -> ParityReport:
    """Compare in float64 the gradients that depart, where both sides can be computed in it.

    A kink (a ReLU's input that is zero but for rounding) gives two correct programs two gradients
    in float32, and the same one in float64.
    """
    wanted: Mapping[str, Any] = kept["gradients in float64"]
    with jax.enable_x64(True):
        try:
            gradients = _run_port(folder, mode, kept, wide=True).gradients or {}
        except TypeError:  # a dtype that the source fixes, and that does not mix with float64
            return report
    floor = gradient_floor(map(array_from_json, wanted.values()))
    rows = []
    for row in report.rows:
        judged = row
        if not row.agrees and row.name in wanted and row.name in gradients:
            wide = _compared(row.name, "gradient", wanted[row.name], gradients[row.name], floor)
            if is_rounding(row, wide):
                judged = replace(wide, name=f"{row.name} (float64)", agrees=True)
        rows.append(judged)
    return ParityReport(tuple(rows))


def device_of(kind: str) -> Any:
    """Return the first device of a kind.

    Raises:
        PortError: if there is none.
    """
    try:
        return jax.devices(kind)[0]
    except RuntimeError as error:
        known = sorted({device.platform for device in jax.devices()})
        raise PortError(f"--device {kind}: there is none; here are {known} ({error})") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        parity = json.loads(path.read_text())
    except FileNotFoundError:
        raise PortError(f"{path} is missing: port the model again") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PortError(f"{path} is damaged: {error}") from None
    names = {"args", "kwargs", "outputs", "gradients"}
    if isinstance(parity, dict) and parity.get("format") == OLD_FORMAT and names <= set(parity):
        parity = {"format": FORMAT, "mode": parity.get("mode"), "calls": [parity]}
    is_whole = isinstance(parity, dict) and parity.get("format") == FORMAT and "mode" in parity
    calls = parity.get("calls") if is_whole else None
    if not isinstance(calls, list) or not calls or any(not names <= set(call) for call in calls):
        raise PortError(f"{path} is no {FORMAT} file: port the model again")
    return parity


def _given(call: Mapping[str, Any], path: Path) -> tuple[Any, Any]:
    try:
        return arguments_from_json(call["args"]), arguments_from_json(call["kwargs"])
    except (KeyError, ValueError, TypeError, binascii.Error) as error:
        raise PortError(f"{path} is damaged: {error!r}") from error


def _report(call: Mapping[str, Any], found: Outcome) -> ParityReport:
    if len(found.outputs) != len(call["outputs"]):
        count = len(found.outputs)
        raise ValueError(f"{len(call['outputs'])} outputs are kept, the port has {count}")
    rows = [
        _compared(f"output {i}", "output", kept, output, 0.0)
        for i, (kept, output) in enumerate(zip(call["outputs"], found.outputs, strict=True))
    ]
    kept_gradients: Mapping[str, Any] = call["gradients"]
    floor = gradient_floor(map(array_from_json, kept_gradients.values()))
    gradients = found.gradients or {}
    rows += [
        _compared(name, "gradient", kept, gradients.get(name), floor)
        for name, kept in kept_gradients.items()
    ]
    return ParityReport(tuple(rows))


def _compared(
    name: str, kind: str, kept: Mapping[str, Any], got: np.ndarray | None, floor: float
) -> Difference:
    """Compare an array with one that was kept, or with those elements of it that were."""
    shape, wanted = tuple(kept["shape"]), array_from_json(kept)
    if got is None or shape != got.shape:
        return Difference(name, kind, shape, float("nan"), float("nan"), False)
    ours = got.reshape(-1)[kept["positions"]] if "positions" in kept else got
    return replace(difference(name, kind, wanted, ours, floor), shape=shape)
