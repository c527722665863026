"""The layers of torch.nn that jaxnn has too, and how they are constructed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from flax import nnx

from ... import modules
from .operators import dtype_of

if TYPE_CHECKING:
    import torch

# Containers are taken apart, and so is what has an activation or a norm of the user's.
_TAKEN_APART = {
    "Module", "Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict",
    "Container", "Transformer", "TransformerEncoder", "TransformerDecoder", "DataParallel",
    "TripletMarginWithDistanceLoss",
}  # fmt: skip


def layer_name(module: torch.nn.Module) -> str | None:
    """Return the name of jaxnn's layer that does what `module` does, or None.

    A subclass counts that changes no method, as torch's NonDynamicallyQuantizableLinear. What has
    hooks, parametrizations or a forward method of its own does not.
    """
    import torch

    if _has_hooks(module) or "forward" in vars(module) or hasattr(module, "parametrizations"):
        return None
    for base in type(module).__mro__:
        if base.__module__.startswith("torch.nn.modules") and base.__name__ not in _TAKEN_APART:
            exists = isinstance(getattr(modules, base.__name__, None), type)
            is_torchs = getattr(torch.nn, base.__name__, None) is base
            fits = exists and is_torchs and _attributes_fit(base.__name__, module)
            return base.__name__ if fits else None
        if any(_is_method(name, value) for name, value in vars(base).items()):
            return None
    return None


def _is_method(name: str, value: Any) -> bool:
    is_descriptor = isinstance(value, (property, staticmethod, classmethod))
    return is_descriptor or (callable(value) and not name.startswith("__"))


def _has_hooks(module: torch.nn.Module) -> bool:
    return any(
        getattr(module, name, None)
        for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    )


def _attributes_fit(name: str, module: torch.nn.Module) -> bool:
    """Whether the module's parameters are those that its class gives it."""
    if name in ("TransformerEncoderLayer", "TransformerDecoderLayer"):
        return _activation(module) is not None
    if getattr(module, "padding_mode", "zeros") != "zeros" and not _pads_as_it_says(module):
        return False
    return not any(
        child is None and key in ("weight",) and getattr(module, "affine", True) and
        getattr(module, "elementwise_affine", True)
        for key, child in module._parameters.items()
    )  # fmt: skip


def _pads_as_it_says(module: Any) -> bool:
    """Whether a convolution pads by its `padding`, which it reads when it is constructed."""
    widths = getattr(module, "_reversed_padding_repeated_twice", None)
    if widths is None or isinstance(module.padding, str):
        return True
    return list(widths) == [width for width in reversed(module.padding) for _ in range(2)]


@dataclass(frozen=True)
class Layer:
    """A layer of torch.nn that jaxnn has too.

    Attributes:
        name: the name of both classes.
        options: what jaxnn's is constructed with, by name, without `dtype` and `rngs`.
        dtype: of its parameters and buffers; None where it has no floating-point ones.
        frozen: the paths of the parameters that are not trained.
        has_buffers: whether a call may change its state.
    """

    name: str
    options: dict[str, Any]
    dtype: str | None
    frozen: tuple[str, ...]
    has_buffers: bool

    def make(self, rngs: nnx.Rngs | None) -> nnx.Module:
        """Return jaxnn's layer; its state is not that of the original."""
        given = dict(self.options)
        if self.dtype is not None and "dtype" in parameters_of(self.name):
            given["dtype"] = dtype_of(self.dtype)
        layer: nnx.Module = getattr(modules, self.name)(**given, rngs=rngs)
        return layer


def layer_of(module: torch.nn.Module) -> Layer | None:
    """Return the layer of jaxnn that does what `module` does, or None; see `layer_name`."""
    name = layer_name(module)
    if name is None:
        return None
    tensors = [*module.parameters(), *module.buffers()]
    floats = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    dtype = str(floats[0]).removeprefix("torch.") if floats else None
    options = _OPTIONS.get(name, _options_by_name)(module)
    frozen = tuple(key for key, p in module.named_parameters() if not p.requires_grad)
    return Layer(name, options, dtype, frozen, any(True for _ in module.buffers()))


@cache
def parameters_of(layer: str) -> dict[str, inspect.Parameter]:
    """Return the parameters of a layer's constructor."""
    return dict(inspect.signature(getattr(modules, layer)).parameters)


def _options_by_name(module: torch.nn.Module) -> dict[str, Any]:
    """Read the options off the attributes of the same names, as most layers keep them."""
    options: dict[str, Any] = {}
    for name in parameters_of(_torch_class(module).__name__):
        if name in ("rngs", "dtype", "axis_name", "_weight", "_freeze"):
            continue
        if name == "bias":
            options[name] = _has_bias(module)
        elif hasattr(module, name):
            options[name] = _plain(getattr(module, name))
    return options


def _torch_class(module: torch.nn.Module) -> type:
    return next(b for b in type(module).__mro__ if b.__module__.startswith("torch.nn.modules"))


def _has_bias(module: torch.nn.Module) -> bool:
    bias = getattr(module, "bias", None)
    return bias if isinstance(bias, bool) else bias is not None


def _plain(value: Any) -> Any:
    return list(value) if type(value).__name__ == "Size" else value


def _attention(module: Any) -> dict[str, Any]:
    return {
        "embed_dim": module.embed_dim, "num_heads": module.num_heads, "dropout": module.dropout,
        "bias": module.in_proj_bias is not None, "add_bias_kv": module.bias_k is not None,
        "add_zero_attn": module.add_zero_attn, "kdim": module.kdim, "vdim": module.vdim,
        "batch_first": module.batch_first,
    }  # fmt: skip


def _activation(module: Any) -> str | None:
    """Return the name of a transformer layer's activation, if it has one of the two usual."""
    import torch

    for name in ("relu", "gelu"):
        function = getattr(torch.nn.functional, name)
        layer = {"relu": torch.nn.ReLU, "gelu": torch.nn.GELU}[name]
        if module.activation is function:
            return name
        plain = (
            type(module.activation) is layer
            and getattr(module.activation, "approximate", "none") == "none"
        )
        if plain:
            return name
    return None


def _transformer_layer(module: Any) -> dict[str, Any]:
    attention = module.self_attn
    return {
        "d_model": attention.embed_dim, "nhead": attention.num_heads,
        "dim_feedforward": module.linear1.out_features, "dropout": module.dropout.p,
        "activation": _activation(module), "layer_norm_eps": module.norm1.eps,
        "batch_first": attention.batch_first, "norm_first": module.norm_first,
        "bias": module.linear1.bias is not None,
    }  # fmt: skip


_OPTIONS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "MultiheadAttention": _attention,
    "TransformerEncoderLayer": _transformer_layer,
    "TransformerDecoderLayer": _transformer_layer,
}
