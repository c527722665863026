"""How far the importer reaches: ``python -m benchmarks.zoo`` imports many architectures.

Of each it says, yes or no and why: whether it imports, and whether the import proves itself
(`check`), each with its processor seconds; how many times as long the import takes as one that
keeps the example's sizes (`of fixed`); whether its output (`eval`), its gradients
and a step of SGD in training mode (`train`) are torch's; whether its output is at up to two other
sizes of whatever may differ (`sizes`); whether its weights come back into torch
(`round trip`); and whether its port, written as a Python file, proves itself (`port`). Each runs
in a process of its own, and what has been examined is kept in the JSON file, so that a run that
was stopped goes on.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

COLUMNS = (
    "import",
    "import s",
    "of fixed",
    "check",
    "check s",
    "eval",
    "gradient",
    "train",
    "sizes",
    "round trip",
    "port",
)
MEASURED = ("import s", "of fixed", "check s")
TOLERANCE = {"eval": 1e-4, "gradient": 1e-3}
SECONDS = 900


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures; all if none is named")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results/zoo.json"))
    parser.add_argument("--without-port", action="store_true", help="do not write source ports")
    parser.add_argument("--again", action="store_true", help="also what has been examined")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(examine(options.one, not options.without_port)))
        return 0
    from rich.console import Console
    from rich.progress import Progress

    from .zoo_models import ARCHITECTURES

    console = Console(width=150)
    names = options.names or list(ARCHITECTURES)
    unknown = [name for name in names if name not in ARCHITECTURES]
    if unknown:
        console.print(f"no such architecture: {', '.join(unknown)}")
        return 2
    known: dict[str, Any] = {}
    if options.out.exists():
        known = json.loads(options.out.read_text())
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("zoo", total=len(names))
        for name in names:
            progress.update(bar, description=name)
            if options.again or name not in known:
                known[name] = _examined_apart(name, options.without_port)
                options.out.write_text(json.dumps(known, indent=1) + "\n")
            progress.advance(bar)
    rows = {name: known[name] for name in names}
    console.print(table(rows))
    options.out.with_suffix(".md").write_text(page(rows))
    return 0 if all(row.get("import") for row in rows.values()) else 1


def _examined_apart(name: str, without_port: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.zoo", "--one", name]
    # Compiling less well is faster here, where everything runs once.
    environment = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    try:
        run = subprocess.run(
            [*command, "--without-port"] if without_port else command,
            capture_output=True, text=True, timeout=SECONDS, env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"import": False, "why": f"not done after {SECONDS} s"}
    try:
        return dict(json.loads(run.stdout.splitlines()[-1]))
    except (IndexError, ValueError):
        lines = run.stderr.strip().splitlines() or ["no output"]
        return {"import": False, "why": f"exit code {run.returncode}: {lines[-1]}"[:400]}


def examine(name: str, with_port: bool) -> dict[str, Any]:
    """Import one architecture and compare it with the original; in this process."""
    import warnings

    import torch

    from .zoo_models import ARCHITECTURES, declare_torchvision

    warnings.simplefilter("ignore")
    declare_torchvision()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    started = time.perf_counter()
    result: dict[str, Any] = {}
    try:
        model, args, kwargs = ARCHITECTURES[name]()
    except Exception as error:
        return {"import": False, "why": f"not built: {_told(error)}"}
    _perturb(model)
    _warm_up()
    checks = _Checks(model.eval(), args, kwargs)
    steps: list[tuple[str, Callable[[], Any]]] = [
        ("import", checks.imports), ("of fixed", lambda: checks.of_fixed(result["import s"])),
        ("check", checks.proves), ("eval", checks.evaluates),
        ("gradient", checks.differentiates), ("train", checks.trains),
        ("sizes", checks.resizes), ("round trip", checks.returns),
    ]  # fmt: skip
    if with_port:
        steps.append(("port", checks.ports))
    for column, check in steps:
        begun = time.process_time()
        try:
            result[column] = check()
            if column in ("import", "check"):
                result[f"{column} s"] = round(time.process_time() - begun, 2)
        except Exception as error:
            result[column] = False
            result.setdefault("why", f"{column}: {_told(error)}")
            if column == "import":
                break
    result["parameters"] = sum(p.numel() for p in model.parameters())
    result["seconds"] = round(time.perf_counter() - started, 1)
    return result


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _warm_up() -> None:
    """Import a small model, so that what is done once a process is not counted to the first."""
    import torch

    small = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU())
    _Checks(small.eval(), (torch.zeros(2, 3, 8, 8),), {}).imports()


def _perturb(model: Any) -> None:
    """Move parameters and statistics from where they start, at zeros and ones that hide errors."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
        for key, buffer in model.named_buffers():
            if key.endswith("running_mean"):
                buffer.add_(0.1 * torch.randn(buffer.shape, generator=generator))
            if key.endswith("running_var"):
                buffer.mul_(0.5 + torch.rand(buffer.shape, generator=generator))


class _Checks:
    """One model and its import; each check returns its error, or True, or raises."""

    def __init__(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.model, self.args, self.kwargs = model, args, kwargs
        self.net: Any = None
        self.made: Any = None

    def imports(self) -> bool:
        self.made = self._imported("auto")
        self.net = self.made.net
        self.net.eval()
        return True

    def of_fixed(self, seconds: float) -> float:
        """How many times as long it took as an import that keeps the example's sizes."""
        begun = time.process_time()
        self._imported(False)
        return round(seconds / (time.process_time() - begun), 2)

    def _imported(self, dynamic: Any) -> Any:
        from flax import nnx

        from jaxnn.interop.from_torch import calls_of
        from jaxnn.interop.importer.importation import import_model

        calls = calls_of(self.model, self.args, self.kwargs, ())
        return import_model(self.model, calls, nnx.Rngs(0), dynamic)

    def proves(self) -> bool:
        """What `from_torch(check=True)` does beside, by itself so that it has its own seconds."""
        from jaxnn.interop.proof.comparing import check_import

        self.net = check_import(self.net, self.model, self.made.calls, True)
        return True

    def evaluates(self) -> float:
        import jax
        import torch
        from flax import nnx

        with torch.no_grad():
            wanted = list(arrays_of(copy.deepcopy(self.model)(*self.args, **self.kwargs)))
        graphdef, state = nnx.split(self.net)
        args, kwargs = self._example()
        run = jax.jit(
            lambda state: jax.tree.leaves(nnx.merge(graphdef, state, copy=True)(*args, **kwargs))
        )
        return _largest_error("eval", wanted, run(state))

    def differentiates(self) -> float:
        import jax

        error = self._gradient_error()
        if error > TOLERANCE["gradient"]:
            # Where a ReLU's input is zero but for rounding, two correct programs have two
            # gradients in float32, and one in float64.
            with jax.enable_x64(True):
                model = copy.deepcopy(self.model).double()
                wide = _Checks(model, _widened(self.args), _widened(self.kwargs))
                wide.imports()
                error = wide._gradient_error()
        return _within("gradient", error)

    def _gradient_error(self) -> float:
        import jax
        import jax.numpy as jnp
        import numpy as np
        from flax import nnx

        original = copy.deepcopy(self.model)
        _weighted_sum(original(*self.args, **self.kwargs)).backward()
        graphdef, parameters, rest = nnx.split(self.net, nnx.Param, ...)
        args, kwargs = self._example()

        def loss(parameters: Any) -> Any:
            outputs = nnx.merge(graphdef, parameters, rest, copy=True)(*args, **kwargs)
            return sum(
                (x * jnp.cos(jnp.arange(x.size, dtype=x.dtype).reshape(x.shape))).sum()
                for x in jax.tree.leaves(outputs) if jnp.issubdtype(x.dtype, jnp.floating)
            )  # fmt: skip

        gradients = jax.jit(jax.grad(loss))(parameters)
        named = dict(original.named_parameters())
        pairs = []
        for path, value in nnx.to_flat_state(gradients):
            parameter = named[".".join(map(str, path))]
            none = np.zeros(tuple(parameter.shape), np.float32)
            wanted = none if parameter.grad is None else parameter.grad.numpy()
            pairs.append((wanted, np.asarray(value[...])))
        # One scale for all, as an optimiser sees them.
        scale = max(float(np.abs(w).max(initial=0)) for w, _ in pairs) + 1e-12
        return max(float(np.abs(w - g).max(initial=0)) for w, g in pairs) / scale

    def trains(self) -> bool:
        """A step of SGD in training mode changes parameters, and leaves them finite."""
        import jax
        import jax.numpy as jnp
        import numpy as np
        import optax
        from flax import nnx

        net = nnx.clone(self.net)
        net.train()
        optimizer = nnx.Optimizer(net, optax.sgd(1e-4), wrt=nnx.Param)
        before = [np.asarray(x) for x in jax.tree.leaves(nnx.state(net, nnx.Param))]
        args, kwargs = self._example()

        @nnx.jit
        def step(net: Any, optimizer: Any, key: Any) -> Any:
            def loss(net: Any) -> Any:
                leaves = jax.tree.leaves(net(*args, **kwargs, rngs=nnx.Rngs(key)))
                return sum((x**2).mean() for x in leaves if jnp.issubdtype(x.dtype, jnp.floating))

            value, gradients = nnx.value_and_grad(loss)(net)
            optimizer.update(net, gradients)
            return value

        value = step(net, optimizer, jax.random.key(0))
        after = [np.asarray(x) for x in jax.tree.leaves(nnx.state(net, nnx.Param))]
        moved = any((a != b).any() for a, b in zip(after, before, strict=True))
        if not moved or not np.isfinite(value) or not all(np.isfinite(a).all() for a in after):
            raise ValueError(f"the loss is {value}, parameters {'move' if moved else 'stay'}")
        return True

    def resizes(self) -> float | None:
        """The largest error at two other sizes; None where none may differ."""
        import jax
        import torch

        from jaxnn.interop.proof.calls import Call, free_shapes, other_calls, refusal

        example = Call.of(self.args, self.kwargs)
        found: list[float] = []
        for name, calls in other_calls(example, free_shapes(self.net, example)):
            call = calls[-1]
            if "→" not in name or refusal(self.net, call):
                continue
            args, kwargs = call.in_torch(call.tensors)
            try:
                with torch.no_grad():
                    wanted = list(arrays_of(copy.deepcopy(self.model)(*args, **kwargs)))
            except Exception:  # the original does not take it either
                continue
            args, kwargs = call.in_jax(call.arrays())
            got = jax.tree.leaves(self.net(*args, **kwargs))
            found.append(_largest_error("eval", wanted, got))
            if len(found) == 2:
                break
        return max(found, default=None)

    def returns(self) -> bool:
        import jaxnn

        copied = copy.deepcopy(self.model)
        weights = jaxnn.interop.to_torch(jaxnn.state_dict(self.net))
        copied.load_state_dict(weights, strict=True)
        for key, tensor in self.model.state_dict().items():
            if not bool((copied.state_dict()[key] == tensor).all()):
                raise ValueError(f"{key} came back changed")
        return True

    def ports(self) -> bool:
        import jaxnn

        with tempfile.TemporaryDirectory() as folder:
            report = jaxnn.interop.port(
                self.model, self.args, self.kwargs, folder=folder, check=False
            )
        if not report.ok:
            raise ValueError("the port departs")
        return True

    def _example(self) -> tuple[Any, Any]:
        return _as_jax(self.args), _as_jax(self.kwargs)


def _widened(value: Any) -> Any:
    """Nested values with their floating-point tensors in float64."""
    from jaxnn.interop.proof.calls import widened
    from jaxnn.interop.proof.differences import map_leaves

    return map_leaves(value, widened)


def _as_jax(value: Any) -> Any:
    import jax.numpy as jnp

    if isinstance(value, dict):
        return {key: _as_jax(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(map(_as_jax, value))
    return jnp.asarray(value.detach().numpy()) if hasattr(value, "detach") else value


def _tensors(value: Any) -> Iterator[Any]:
    if hasattr(value, "detach"):
        yield value
    elif isinstance(value, (dict, tuple, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def arrays_of(value: Any) -> Iterator[Any]:
    return (tensor.detach().numpy() for tensor in _tensors(value))


def _weighted_sum(outputs: Any) -> Any:
    import torch

    return sum(
        (x * torch.cos(torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape))).sum()
        for x in _tensors(outputs) if x.is_floating_point()
    )  # fmt: skip


def _largest_error(column: str, wanted: list[Any], got: list[Any]) -> float:
    import numpy as np

    if [w.shape for w in wanted] != [g.shape for g in got]:
        shapes = [w.shape for w in wanted], [g.shape for g in got]
        raise ValueError(f"outputs have the shapes {shapes[1]}, wanted {shapes[0]}")
    errors = [
        float(np.abs(w - np.asarray(g)).max(initial=0)) / (float(np.abs(w).max(initial=0)) + 1e-12)
        for w, g in zip(wanted, got, strict=True) if w.dtype.kind == "f"
    ]  # fmt: skip
    return _within(column, max(errors, default=0.0))


def _within(column: str, error: float) -> float:
    if not error <= TOLERANCE[column]:
        raise ValueError(f"off by {error:.1e} of the scale")
    return error


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if value is False:
        return "no"
    return "yes" if value is True else f"{value:.0e}"


def _cells(row: dict[str, Any]) -> list[str]:
    """The row's entries: errors by their magnitude, seconds and ratios as they are."""
    return [f"{row[c]:.1f}" if c in MEASURED and row.get(c) else _cell(row.get(c)) for c in COLUMNS]


def _counts(rows: dict[str, dict[str, Any]]) -> list[str]:
    return [
        _median([row[c] for row in rows.values() if row.get(c)])
        if c in MEASURED
        else f"{sum(row.get(c) not in (None, False) for row in rows.values())} of {len(rows)}"
        for c in COLUMNS
    ]


def _median(values: list[float]) -> str:
    return f"median {statistics.median(values):.3g}" if values else ""


def table(rows: dict[str, dict[str, Any]]) -> Any:
    from rich.table import Table

    result = Table("architecture", *COLUMNS, "why not")
    for name, row in rows.items():
        result.add_row(name, *_cells(row), row.get("why", ""))
    result.add_section()
    result.add_row("all", *_counts(rows))
    return result


def page(rows: dict[str, dict[str, Any]]) -> str:
    """The table as Markdown."""
    lines = [
        "# Architectures imported", "",
        "`python -m benchmarks.zoo`. Numbers are the largest error over the largest element, in",
        "float32; \"train\" is a step of SGD in training mode. Random weights, small sizes.", "",
        f"| architecture | {' | '.join(COLUMNS)} | why not |", "|---" * (len(COLUMNS) + 2) + "|",
    ]  # fmt: skip
    for name, row in rows.items():
        why = row.get("why", "").replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {name} | {' | '.join(_cells(row))} | {why} |")
    lines.append(f"| **all** | {' | '.join(_counts(rows))} | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
