"""`export`: a model as a StableHLO file that plain JAX runs, without jaxnn, flax or torch."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
from flax import nnx
from jax.export import Exported, symbolic_shape
from jax.export import export as export_function
from safetensors.numpy import save_file

from .checkpoint import as_numpy
from .from_torch import from_torch
from .state_dict import named_variables

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
    dynamic_batch: bool = True,
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
        dynamic_batch: whether the leading dimension of the first array may differ at each call,
            and with it that of each array that has the same.

    Returns:
        What was written, as `jax.export` has it.

    Raises:
        ValueError: if `weights` is neither; if `dynamic_batch` is set and no array has a dimension,
            or the model was imported for one size alone.
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
    """
    if weights not in WEIGHTS:
        raise ValueError(f"export: `weights` must be one of {WEIGHTS}, got {weights!r}")
    if importlib.util.find_spec("flatbuffers") is None:
        raise ImportError("export serializes with flatbuffers: pip install 'jaxnn[export]'")
    args = tuple(example_args) if isinstance(example_args, (tuple, list)) else (example_args,)
    function, abstract_args, abstract_kwargs = _callable(
        module, args, dict(example_kwargs or {}), dynamic_batch
    )
    values = {name: variable.get_value() for name, variable in named_variables(module)}
    if weights == "inside":
        inside = function
        function = lambda *args, **kwargs: inside({}, *args, **kwargs)  # noqa: E731
    else:
        shapes = {n: jax.ShapeDtypeStruct(v.shape, v.dtype) for n, v in values.items()}
        abstract_args = (shapes, *abstract_args)
    exported = export_function(jax.jit(function), platforms=list(platforms))(
        *abstract_args, **abstract_kwargs
    )
    path = Path(path)
    if weights == "arguments":
        arrays = {name: np.array(value, order="C") for name, value in values.items()}
        save_file(arrays, path.with_suffix(".safetensors"))
    path.write_bytes(exported.serialize())
    return exported


def _callable(
    module: nnx.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_batch: bool
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Return the function from weights and arrays to results, and the shapes of the arrays."""
    leaves, structure = jax.tree.flatten((args, kwargs))
    arrays = [leaf for leaf in leaves if _is_array(leaf)]
    shapes = iter(_shapes(arrays, dynamic_batch))
    abstract = [next(shapes) if _is_array(leaf) else None for leaf in leaves]
    abstract_args, abstract_kwargs = _plain(jax.tree.unflatten(structure, abstract))
    # Where the arrays are among the leaves, in the order that the plain containers give them.
    numbered = jax.tree.leaves(_plain(jax.tree.unflatten(structure, range(len(leaves)))))
    positions = [index for index in numbered if _is_array(leaves[index])]
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

    return function, abstract_args, abstract_kwargs


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def _shapes(arrays: Sequence[Any], dynamic_batch: bool) -> list[jax.ShapeDtypeStruct]:
    """Return shapes and dtypes, with the batch as a symbol where it may differ."""
    batches = [array.shape[0] for array in arrays if len(array.shape)]
    if dynamic_batch and not batches:
        raise ValueError(
            "export: no array among the arguments has a leading dimension that could be the batch; "
            "pass dynamic_batch=False"
        )
    (symbol,) = symbolic_shape("batch")

    def abstract(array: Any) -> jax.ShapeDtypeStruct:
        shape = tuple(array.shape)
        if dynamic_batch and shape and shape[0] == batches[0]:
            shape = (symbol, *shape[1:])
        return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(as_numpy(array).dtype))

    return [abstract(array) for array in arrays]


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
    parser.add_argument(
        "--fixed-batch", action="store_true", help="for the example's batch size alone"
    )
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
    dynamic = not options.fixed_batch
    imported = from_torch(model.eval(), args, kwargs)
    exported = export(
        imported, args, options.out, kwargs, weights=options.weights,
        platforms=options.platform or PLATFORMS, dynamic_batch=dynamic,
    )  # fmt: skip
    print(f"{options.out}: for {', '.join(exported.platforms)}")
    return 0
