"""The command line: ``jaxnn port``, ``jaxnn verify`` and ``jaxnn export``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from .interop.call import Call
from .interop.export import add_export, export_command
from .interop.importer.training_modes import set_mode
from .interop.porting.parity import PortError, check_port

# No wrapping outside of tables: messages are there to be copied.
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


class UserError(Exception):
    """A mistake in how the command was called; shown without a traceback, exit code 2."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 agrees, 1 departs, 2 called wrongly."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except BrokenPipeError:  # whoever reads the output, such as head, has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (open until the exit)
        return 1
    except (UserError, PortError, NotImplementedError, OSError) as error:
        errors.print(f"jaxnn: {error}")
        return 2
    except KeyboardInterrupt:
        errors.print("jaxnn: interrupted")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("jaxnn", description="Bring a PyTorch model to JAX/Flax.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    port = commands.add_parser("port", help="write a PyTorch model as a Python file of NNX classes")
    port.add_argument("factory", metavar="MODULE:FACTORY", help=_FACTORY)
    port.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="where to write")
    port.add_argument("--force", action="store_true", help="replace files that are there")
    port.add_argument(
        "--dynamic", action="append", metavar="auto|batch|none|NAME=(A,B,_)",
        help="which sizes may differ from those of the example: all for which the model allows it "
        "(the default), the leading ones, none, or those that have a name, argument by argument",
    )  # fmt: skip
    port.set_defaults(command=_port)

    verify = commands.add_parser(
        "verify", help="compare a port, or an import, with the PyTorch model"
    )
    verify.add_argument(
        "target", metavar="DIR|MODULE:FACTORY",
        help=f"a folder that `jaxnn port` wrote, whose model.py is run; or {_FACTORY}",
    )  # fmt: skip
    verify.add_argument("--device", help="cpu, gpu or tpu (default: as JAX chooses)")
    verify.set_defaults(command=_verify)

    add_export(commands, _export)
    return parser


_FACTORY = (
    "a function that returns (module, args) or (module, args, kwargs): a torch.nn.Module and the "
    "arguments of an example call (for port also several, as args made of jaxnn.call); modules are "
    "found from the current folder too"
)


def _port(options: argparse.Namespace) -> int:
    from .interop.porting.port import check_folder, port

    check_folder(options.out, options.force)
    module, args, kwargs = _made(options.factory)
    is_several = bool(args) and all(isinstance(value, Call) for value in args)
    example: dict[str, Any] = {"example_args": args, "example_kwargs": kwargs}
    if is_several:
        example = {"examples": args}
    dynamic = _dynamic(options.dynamic)
    try:
        report = port(module, **example, dynamic=dynamic, folder=options.out, force=options.force)
    except (TypeError, ValueError) as error:
        raise UserError(str(error)) from error
    return _shown(report, f"{options.out / 'model.py'}")


def _dynamic(given: Sequence[str] | None) -> Any:
    """Return what --dynamic says, as `from_torch` takes it."""
    words = {"auto": "auto", "batch": "batch", "none": False}
    if not given:
        return "auto"
    if len(given) == 1 and given[0] in words:
        return words[given[0]]
    names: dict[str, dict[int, str]] = {}
    for text in given:
        argument, _, sizes = text.partition("=")
        found = [
            size.strip() for size in sizes.strip().removeprefix("(").removesuffix(")").split(",")
        ]
        if not sizes or any(size and not (size.isidentifier() or size.isdigit()) for size in found):
            raise UserError(
                f"--dynamic {text!r} must be auto, batch, none, or an argument with its sizes, of "
                "which those may differ that have a name, such as 'input_ids=(batch, length)'"
            )
        names[argument.strip()] = {
            dim: size for dim, size in enumerate(found) if size.isidentifier() and size != "_"
        }
    return names


def _verify(options: argparse.Namespace) -> int:
    if ":" not in options.target or Path(options.target).is_dir():
        return _shown(check_port(options.target, device=options.device), options.target)
    import jax

    from .interop import from_torch, verify

    module, args, kwargs = _made(options.target)
    device = None if options.device is None else _first_device(options.device)
    codes, failures = [], []
    with jax.default_device(device), jax.default_matmul_precision("highest"):
        try:
            net: Any = from_torch(module, args, kwargs, check=False)
        except (TypeError, ValueError) as error:
            raise UserError(str(error)) from error
        for mode in ("evaluation", "training"):
            set_mode(module, mode == "training")
            (net.train if mode == "training" else net.eval)()
            what = f"{options.target} in {mode} mode"
            try:
                report = verify(module, net, args, kwargs)
            except (TypeError, ValueError, RuntimeError) as error:
                failures.append(f"{what}: not compared: {error}")
            else:
                codes.append(_shown(report, what))
    if not codes:
        raise UserError("; ".join(failures))
    for failure in failures:
        console.print(failure, markup=False, soft_wrap=True)
    return max(codes)


def _export(options: argparse.Namespace) -> int:
    try:
        return export_command(options, *_made(options.factory))
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(str(error)) from error


def _first_device(kind: str) -> Any:
    from .interop.porting.parity import device_of

    return device_of(kind)


def _shown(report: Any, what: str) -> int:
    for note in getattr(report, "notes", ()):
        console.print(note, markup=False, soft_wrap=True)
    console.print(report.table())
    agree = sum(row.ok for row in report.rows)
    verdict = "agrees" if report.ok else "departs"
    console.print(f"{what}: {verdict} ({agree} of {len(report.rows)} agree)", soft_wrap=True)
    return 0 if report.ok else 1


def _made(name: str) -> tuple[Any, tuple[Any, ...], Mapping[str, Any]]:
    """Return the module and the arguments that a factory, named MODULE:FACTORY, returns."""
    place, _, attribute = name.partition(":")
    if not place or not attribute:
        raise UserError(f"{name!r} must be MODULE:FACTORY, such as models:resnet")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        factory: Any = importlib.import_module(place)
    except ImportError as error:
        raise UserError(f"cannot import {place!r}: {error}") from error
    try:
        for part in attribute.split("."):
            factory = getattr(factory, part)
    except AttributeError:
        raise UserError(f"{place!r} has no {attribute!r}") from None
    if not callable(factory):
        raise UserError(f"{name} must be a function, is {type(factory).__name__}")
    made = factory()
    module, args, kwargs = (*made, *((), {})[len(made) - 1 :]) if _is_call(made) else (made, (), {})
    if not hasattr(module, "state_dict") or not hasattr(module, "forward"):
        raise UserError(
            f"{name} must return a torch.nn.Module, or (module, args) or (module, args, kwargs), "
            f"got {type(made).__name__}"
        )
    return module, args if isinstance(args, (tuple, list)) else (args,), kwargs  # type: ignore[return-value]


def _is_call(made: Any) -> bool:
    return isinstance(made, tuple) and 1 <= len(made) <= 3


if __name__ == "__main__":
    sys.exit(main())
