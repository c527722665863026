"""What a node of an exported graph says of itself."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def operator_name(node: torch.fx.Node) -> str:
    """Return the operator's name without its overload; of a function of Python, `python.name`."""
    target: Any = node.target
    schema = getattr(target, "_schema", None)
    if schema is not None:
        return str(schema.name).partition("::")[2]
    return f"python.{target.__name__}"


def full_name(node: torch.fx.Node) -> str:
    """Return the operator's name with its library and its overload."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return str(getattr(node.target, "__name__", node.target))
    return f"{schema.name}.{schema.overload_name}" if schema.overload_name else str(schema.name)


def base_name(node: torch.fx.Node) -> str:
    """Return what the node's result is called, before it is told apart from others."""
    if node.op != "call_function":
        return "value"
    return operator_name(node).removeprefix("python.").strip("_")


def is_size(node: torch.fx.Node) -> bool:
    """Whether the node is a number that depends on shapes, and no tensor."""
    import torch

    value = node.meta.get("val")
    return isinstance(value, (torch.SymInt, torch.SymBool, torch.SymFloat)) or (
        isinstance(value, (int, float)) and node.op == "call_function"
    )


def is_float(node: torch.fx.Node) -> bool:
    """Whether the node is a tensor of real floating-point numbers."""
    value = node.meta.get("val")
    return bool(getattr(value, "is_floating_point", lambda: False)())


def is_result_of_call(node: torch.fx.Node) -> bool:
    """Whether the node takes a result out of the call of a layer."""
    import torch

    if node.target is not operator.getitem:
        return False
    source = node.args[0]
    return isinstance(source, torch.fx.Node) and operator_name(source) == "call"


def arguments_by_name(node: torch.fx.Node) -> dict[str, Any]:
    """Return a node's arguments under the names of the operator's schema."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {f"x{i}": value for i, value in enumerate(node.args)} | dict(node.kwargs)
    names = [argument.name for argument in schema.arguments]
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def line_of(node: torch.fx.Node) -> str:
    """Return the last line of the model's own code that led to a node."""
    trace = node.meta.get("stack_trace") or ""
    lines = [line.strip() for line in trace.splitlines() if line.strip().startswith("File")]
    lines = [line for line in lines if "/jaxnn/interop/" not in line]
    return lines[-1] if lines else "(a line that the exporter does not tell)"


# --- marks --------------------------------------------------------------------------------------


def tensors_of_mark(node: torch.fx.Node) -> list[torch.fx.Node]:
    """Return the tensors that a mark names."""
    return list(node.args[1])  # type: ignore[arg-type]


def values_of_mark(node: torch.fx.Node) -> dict[str, Any]:
    """Return what a mark or a call names: tensors by number, sizes by "s" and theirs."""
    _, tensors, sizes = node.args
    marked: dict[str, Any] = {str(i): tensor for i, tensor in enumerate(tensors)}  # type: ignore[arg-type]
    return marked | {f"s{i}": size for i, size in enumerate(sizes)}  # type: ignore[arg-type]
