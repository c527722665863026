"""`export`: a model as a StableHLO file that plain JAX runs, without jaxnn, flax or torch."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
from flax import nnx
from jax.export import Exported
from jax.export import export as export_function
from safetensors.numpy import save_file

from .checkpoint import as_numpy
from .from_torch import from_torch
from .state_dict import named_variables
from .symbolic_sizes import Dynamic, Sizes, is_array, with_what_is_asked

if TYPE_CHECKING:
    # Its type in the lists that argparse gives out; at run time it has no parameter.
    Subcommands = argparse._SubParsersAction[argparse.ArgumentParser]

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
WEIGHTS = ("inside", "arguments")


def export(
    module: nnx.Module,
    example_args: Any,
    path: str | PathLike[str],
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    weights: Literal["inside", "arguments"] = "inside",
    platforms: Sequence[str] = PLATFORMS,
    dynamic: Dynamic = "batch",
    constraints: Sequence[str] = (),
) -> Exported:
    """Write a model, as it is in evaluation mode, to a file that JAX runs without jaxnn.

    The file holds a StableHLO program in the serialized form of `jax.export`, for which JAX
    promises that later versions read it too. `jax.export.deserialize(bytearray(...))` gives it
    back, and its method `call` runs it. It takes what the model takes, with None for each constant
    of the example (a flag, a number), since that is part of the program. Named tuples and records
    among the arguments and results are dicts there.

    Args:
        module: any nnx.Module. It is not changed.
        example_args: the positional arguments of a call: a tuple of arrays, tensors, containers of
            them and constants, or one of these.
        path: the file to write; it is replaced if it is there.
        example_kwargs: the keyword arguments of that call.
        weights: "inside" the program; or "arguments": then the program's first argument is a dict
            of them, under the names of the state dict, and it is written to the same path with the
            suffix .safetensors.
        platforms: what the program is lowered for, of cpu, cuda, rocm and tpu. The devices need
            not be there.
        dynamic: which sizes may differ at each call. "batch": the leading dimension of the first
            array, and with it that of each array that has the same. A mapping from the names of
            arrays to shapes as `jax.export.symbolic_shape` takes them, `{"input_ids": "(b, s)"}`,
            or to the symbols of some dimensions, `{"input_ids": {0: "b", 1: "s"}}`: equal symbols
            are equal sizes, "_" is the example's, "..." all that follow. An array is called as the
            argument, or by its place in that: `states[0]`, `cache['keys']`. False: none.
        constraints: what is known of the symbols, as `jax.export` takes it: `s <= 64`,
            `mod(h, 2) == 0`. What the program asks of them is added: where it goes one way or
            another by a size, it goes the example's way, and refuses sizes of the other.

    Returns:
        What was written, as `jax.export` has it.

    Raises:
        ValueError: if `weights` is neither; if `dynamic` does not fit the arrays, the model was
            imported for one size alone, or it asks something of a size that JAX cannot be told,
            with the line that asks.
        TypeError: if `dynamic` is something else.
        ImportError: if flatbuffers, with which JAX serializes, is not installed.

    Source: jax.export.

    Example:
        >>> import pathlib, tempfile
        >>> import jax, jax.export, jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> from jaxnn.interop.export import export
        >>> net = jaxnn.Linear(3, 2, rngs=nnx.Rngs(0))
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "net.stablehlo"
        >>> _ = export(net, jnp.ones((2, 3)), path)
        >>> jax.export.deserialize(bytearray(path.read_bytes())).call(jnp.ones((5, 3))).shape
        (5, 2)
        >>> net = jaxnn.Conv1d(3, 2, 5, rngs=nnx.Rngs(0))
        >>> _ = export(net, jnp.ones((1, 3, 9)), path, dynamic={"input": "(b, _, length)"})
        >>> program = jax.export.deserialize(bytearray(path.read_bytes()))
        >>> program.call(jnp.ones((4, 3, 20))).shape
        (4, 2, 16)
    """
    exported, _ = export_with_constraints(
        module, example_args, path, example_kwargs, weights, platforms, dynamic, constraints
    )
    return exported


def export_with_constraints(
    module: nnx.Module,
    example_args: Any,
    path: str | PathLike[str],
    example_kwargs: Mapping[str, Any] | None,
    weights: str,
    platforms: Sequence[str],
    dynamic: Dynamic,
    constraints: Sequence[str],
) -> tuple[Exported, list[str]]:
    """Do what `export` does; return the program and what it is constrained to."""
    if weights not in WEIGHTS:
        raise ValueError(f"export: `weights` must be one of {WEIGHTS}, got {weights!r}")
    if importlib.util.find_spec("flatbuffers") is None:
        raise ImportError("export serializes with flatbuffers: pip install 'jaxnn[export]'")
    args = tuple(example_args) if isinstance(example_args, (tuple, list)) else (example_args,)
    kwargs = dict(example_kwargs or {})
    function, abstract = _callable(module, args, kwargs)
    values = {name: variable.get_value() for name, variable in named_variables(module)}
    beside = {n: jax.ShapeDtypeStruct(v.shape, v.dtype) for n, v in values.items()}
    exporting = export_function(
        jax.jit(function if weights == "arguments" else partial(function, {})),
        platforms=list(platforms),
    )

    def trace(shapes: Sequence[tuple[Any, ...]]) -> Exported:
        given, options = abstract(shapes)
        return exporting(*((beside,) if weights == "arguments" else ()), *given, **options)

    sizes = Sizes.of(dynamic, module, args, kwargs)
    exported, stated = with_what_is_asked(sizes, constraints, trace)
    path = Path(path)
    if weights == "arguments":
        arrays = {name: np.array(value, order="C") for name, value in values.items()}
        save_file(arrays, path.with_suffix(".safetensors"))
    path.write_bytes(exported.serialize())
    return exported, stated


def _callable(
    module: nnx.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the function from weights and arrays to results, and that from shapes to arguments."""
    leaves, structure = jax.tree.flatten((args, kwargs))
    # Where the arrays are among the leaves, in the order that the plain containers give them.
    numbered = jax.tree.leaves(_plain(jax.tree.unflatten(structure, range(len(leaves)))))
    positions = [index for index in numbered if is_array(leaves[index])]
    graphdef, state = nnx.split(nnx.clone(module).eval())

    def function(weights: Mapping[str, jax.Array], *args: Any, **kwargs: Any) -> Any:
        filled = list(leaves)
        for index, array in zip(positions, jax.tree.leaves((args, kwargs)), strict=True):
            filled[index] = array
        args, kwargs = jax.tree.unflatten(structure, filled)
        model: Any = nnx.merge(graphdef, state, copy=True)
        for name, variable in named_variables(model):
            if name in weights:
                variable.set_value(weights[name])
        return _plain(model(*args, **kwargs))

    def abstract(shapes: Sequence[tuple[Any, ...]]) -> Any:
        left = iter(shapes)
        given = [_shape(leaf, next(left)) if is_array(leaf) else None for leaf in leaves]
        return _plain(jax.tree.unflatten(structure, given))

    return function, abstract


def _shape(array: Any, shape: tuple[Any, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(as_numpy(array).dtype))


def _plain(tree: Any) -> Any:
    """Return the tree in containers of Python alone, which need no class to be read back."""
    if isinstance(tree, Mapping):
        return {name: _plain(item) for name, item in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_asdict"):
        return _plain(tree._asdict())
    if isinstance(tree, (tuple, list)):
        return type(tree)(_plain(item) for item in tree)
    return tree


# --- the command --------------------------------------------------------------------------------


def add_export(subcommands: Subcommands, command: Callable[[argparse.Namespace], int]) -> None:
    """Add `export` to the commands of a command line; `command` runs it."""
    parser = subcommands.add_parser(
        "export", help="write a PyTorch model as a StableHLO file that plain JAX runs"
    )
    parser.add_argument(
        "factory",
        metavar="MODULE:FACTORY",
        help="a function that returns (module, args) or (module, args, kwargs)",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--weights", choices=WEIGHTS, default="inside", help="where they are (default: inside)"
    )
    parser.add_argument(
        "--platform", action="append", choices=PLATFORMS, help="may be repeated (default: all)"
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--dynamic", action="append", type=_dynamic, metavar="'NAME=(b, s)'",
        help="the sizes of an argument that may differ at each call, as symbols; may be repeated "
        "(default: the batch)",
    )  # fmt: skip
    sizes.add_argument(
        "--fixed-batch", action="store_true", help="for the example's batch size alone"
    )
    parser.add_argument(
        "--constraint", action="append", default=[], metavar="'s <= 64'",
        help="what is known of the symbols; may be repeated; what the program asks is added",
    )  # fmt: skip
    parser.set_defaults(command=command)


def export_command(
    options: argparse.Namespace, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> int:
    """Import a PyTorch model and export it, as the options say; return the exit code.

    Raises:
        ValueError: if there are no arguments to take the shapes from.
        Exception: what `from_torch` and `export` raise.
    """
    if not args and not kwargs:
        raise ValueError(f"{options.factory} returns no example arguments, which have the shapes")
    named = dict(options.dynamic or ())
    dynamic: Dynamic = named or ("batch" if not options.fixed_batch else False)
    imported = from_torch(model.eval(), args, kwargs)
    exported, constraints = export_with_constraints(
        imported, args, options.out, kwargs, options.weights, options.platform or PLATFORMS,
        dynamic, options.constraint,
    )  # fmt: skip
    print(f"{options.out}: for {', '.join(exported.platforms)}")
    for constraint in constraints:
        print(f"  where {constraint}")
    return 0


def _dynamic(text: str) -> tuple[str, str]:
    name, sign, shape = text.partition("=")
    if not sign or not name.strip() or not shape.strip():
        raise argparse.ArgumentTypeError(f"must be 'NAME=(b, s)', such as 'x=(b, _)', got {text!r}")
    return name.strip(), shape.strip()
