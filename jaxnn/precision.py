"""Mixed precision: products in half precision, parameters and what is delicate in float32."""

from __future__ import annotations

import dataclasses
from functools import cache, partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from . import modules
from .interop.importer.imported import Imported, change_programs
from .interop.importer.operators import operator
from .interop.importer.program import Literal, Operation, Program, State, Step, Value, rebuild
from .modules._lazy import LazyModule
from .modules._module import Module
from .modules._state import Frozen

# What torch.autocast computes in half precision, and what in float32, on its accelerators.
_HALF_OPERATORS = {
    "_convolution", "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "conv1d", "conv2d",
    "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "convolution", "einsum", "gru", "gru_cell", "linalg_matmul", "linear", "lstm", "lstm_cell",
    "matmul", "mm", "mv", "prelu", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell",
    "scaled_dot_product_attention",
}  # fmt: skip
_WIDE_OPERATORS = {
    "_fused_rms_norm", "_log_softmax", "_safe_softmax", "_softmax", "acos", "asin", "bilinear",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cdist", "cosh",
    "cosine_similarity", "cross_entropy_loss", "cumprod", "cumsum", "dist", "dot", "erfinv",
    "exp", "expm1", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "group_norm",
    "huber_loss", "kl_div", "l1_loss", "layer_norm", "linalg_vector_norm", "log", "log10",
    "log1p", "log2", "log_softmax", "logsumexp", "mse_loss", "native_group_norm",
    "native_layer_norm", "nll_loss", "nll_loss2d", "nll_loss_nd", "norm", "pow", "prod",
    "reciprocal", "rms_norm", "rsqrt", "sinh", "smooth_l1_loss", "soft_margin_loss", "softmax",
    "softplus", "sum", "tan", "tensordot", "vdot",
}  # fmt: skip
_HALF_LAYERS = (
    modules.Linear,
    modules.Conv1d, modules.Conv2d, modules.Conv3d,
    modules.ConvTranspose1d, modules.ConvTranspose2d, modules.ConvTranspose3d,
    modules.RNN, modules.LSTM, modules.GRU,
    modules.RNNCell, modules.LSTMCell, modules.GRUCell,
    modules.MultiheadAttention, modules.PReLU,
)  # fmt: skip
_WIDE_LAYERS = (
    modules.LayerNorm, modules.GroupNorm, modules.RMSNorm,
    modules.Softmax, modules.Softmax2d, modules.Softmin, modules.LogSoftmax, modules.Softplus,
    modules.CosineSimilarity, modules.PairwiseDistance, modules.Bilinear,
    modules.AdaptiveLogSoftmaxWithLoss,
)  # fmt: skip


class MixedPrecision(Module):
    """A model that computes its products in half precision; see `mixed_precision`.

    Attributes:
        module: the model, with its parameters as they were.

    Source: torch.autocast.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> net = jaxnn.precision.MixedPrecision(jaxnn.Linear(2, 3, rngs=nnx.Rngs(0)), outputs=None)
        >>> net(jnp.ones((1, 2))).dtype
        dtype(bfloat16)
    """

    _shown = ("compute", "outputs")

    def __init__(
        self,
        module: nnx.Module,
        compute: DTypeLike = jnp.bfloat16,
        outputs: DTypeLike | None = jnp.float32,
    ) -> None:
        if not isinstance(module, nnx.Module):
            raise TypeError(
                f"mixed_precision: `module` must be an nnx.Module, got {type(module).__name__}"
            )
        self.compute = _half_dtype(compute)
        self.outputs = None if outputs is None else np.dtype(outputs)
        for path, node in nnx.iter_modules(module):
            if isinstance(node, LazyModule):
                raise ValueError(
                    f"mixed_precision: {'.'.join(map(str, path))!r} is a {type(node).__name__} "
                    "without parameters yet: call the model once, or load its weights, before"
                )
        self.module = module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model; its floating-point results are cast to `outputs`, unless that is None."""
        # Sums of both precisions are of the wider, as in torch, also where JAX would refuse them.
        with jax.numpy_dtype_promotion("standard"):
            result = _View(self.compute).of(self.module)(*args, **kwargs)
        return result if self.outputs is None else _cast(result, self.outputs)

    # A state dict has the names that the model alone would have.
    _transparent = "module"

    @property
    def _state_keys(self) -> tuple[str, ...]:
        return getattr(self.module, "_state_keys", ())

    @property
    def _tied(self) -> tuple[tuple[str, str], ...]:
        return getattr(self.module, "_tied", ())


def mixed_precision(
    module: nnx.Module,
    compute: DTypeLike = jnp.bfloat16,
    outputs: DTypeLike | None = jnp.float32,
) -> MixedPrecision:
    """Return a model that computes its products in half precision, on the same parameters.

    The rule is that of torch.autocast. Linear layers, convolutions, recurrent layers and attention
    cast their parameters and inputs to `compute` at the call; layer, group and RMS normalisation,
    softmax, losses, and other sums and powers take theirs in float32; everything else computes in
    the dtype that comes, the wider one where two meet. In an imported model this holds for the
    operators between the layers too. BatchNorm takes and returns half precision, with sums,
    parameters and running statistics in float32.

    The parameters themselves stay as they are, and so do gradients and what an optimizer keeps. The
    model is shared, not copied: training either trains both. The state dict is the model's.

    Code of your own between the layers, as in an nnx.Module that multiplies arrays itself, is not
    changed; nor are the layers of Flax, which have a `dtype` of their own.

    Args:
        module: a model of jaxnn's layers, or an imported one.
        compute: bfloat16 or float16. The latter needs its loss scaled, which bfloat16 does not.
        outputs: what the floating-point results are cast to; None for what comes.

    Raises:
        TypeError: if `module` is no nnx.Module, or `compute` no half precision.
        ValueError: if a lazy layer has no parameters yet.

    Source: torch.autocast; Micikevicius et al., 2018.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxnn
        >>> net = jaxnn.Sequential(jaxnn.Linear(4, 4, rngs=nnx.Rngs(0)), jaxnn.BatchNorm1d(4))
        >>> mixed = jaxnn.precision.mixed_precision(net)
        >>> mixed(jnp.ones((2, 4))).dtype
        dtype('float32')
        >>> gradients = nnx.grad(lambda mixed: mixed(jnp.ones((2, 4))).sum())(mixed)
        >>> {leaf.dtype for leaf in jax.tree.leaves(gradients)}
        {dtype('float32')}
        >>> list(jaxnn.state_dict(mixed))[:3]
        ['0.weight', '0.bias', '1.weight']
    """
    return MixedPrecision(module, compute, outputs)


def _half_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    resolved = np.dtype(dtype)
    if not jnp.issubdtype(resolved, jnp.floating) or resolved.itemsize != 2:
        raise TypeError(
            f"mixed_precision: `compute` must be jnp.bfloat16 or jnp.float16, got {resolved}"
        )
    return resolved


def _cast(tree: Any, dtype: DTypeLike) -> Any:
    """Return the tree with its floating-point arrays in `dtype`, but those of 64 bits."""

    def cast(leaf: Any) -> Any:
        is_float = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(leaf, dtype) if is_float and leaf.dtype.itemsize < 8 else leaf

    return jax.tree.map(cast, tree, is_leaf=lambda leaf: isinstance(leaf, nnx.Pytree))


# --- the model as it is called ------------------------------------------------------------------


class _View:
    """Builds what is called: the model's tree, with its variables, and casts around its layers."""

    def __init__(self, compute: np.dtype[Any]) -> None:
        self.compute = compute
        self.made: dict[int, Any] = {}

    def of(self, node: Any) -> Any:
        if isinstance(node, (list, tuple)) and not hasattr(node, "_fields"):
            return type(node)(self.of(item) for item in node)
        if isinstance(node, dict):
            return {name: self.of(item) for name, item in node.items()}
        if not isinstance(node, (nnx.Module, nnx.List, nnx.Dict)):
            return node
        if id(node) not in self.made:
            self.made[id(node)] = self._module(node)
        return self.made[id(node)]

    def _module(self, node: Any) -> Any:
        kind: Any = type(node)
        # A parametrized layer computes its weight, which is no product of activations.
        is_computed = "parametrizations" in vars(node)
        if isinstance(node, _WIDE_LAYERS) or _is_loss(node) or is_computed:
            return _copied(node, _casting(kind, None))
        if isinstance(node, _HALF_LAYERS):
            return _copied(node, _casting(kind, self.compute))
        copy = _copied(node, kind)
        self.made[id(node)] = copy
        for name, value in vars(node).items():
            vars(copy)[name] = self.of(value)
        if isinstance(node, Imported):
            change_programs(copy, partial(_with_casts, compute=self.compute.name))
        return copy


def _is_loss(node: Any) -> bool:
    return type(node).__module__.startswith(f"{modules.__name__}.loss")


def _copied(node: Any, kind: type) -> Any:
    copy: Any = object.__new__(kind)
    vars(copy).update(vars(node))
    return copy


@cache
def _casting(kind: Any, dtype: np.dtype[Any] | None) -> type:
    """Return a subclass of a layer's class that casts at the call: None is for float32 inputs."""

    @wraps(kind.__call__)
    def call(self: Any, *args: Any, rngs: Any = None, **kwargs: Any) -> Any:
        layer = _copied(self, kind) if dtype is None else _with_parameters(self, kind, dtype)
        args, kwargs = _cast((args, kwargs), jnp.float32 if dtype is None else dtype)
        return layer(*args, **kwargs) if rngs is None else layer(*args, rngs=rngs, **kwargs)

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})


def _with_parameters(node: Any, kind: type, dtype: np.dtype[Any]) -> Any:
    """Return a copy of a layer and of what is in it, with parameters in `dtype`."""
    copy = _copied(node, kind)
    for name, value in vars(node).items():
        if isinstance(value, (nnx.Param, Frozen)):
            # As it is stored: what is gathered at a read is cast before, and so half as large.
            vars(copy)[name] = value.copy(_cast(nnx.Variable.get_value(value), dtype))
        elif isinstance(value, nnx.Module):
            vars(copy)[name] = _with_parameters(value, type(value), dtype)
    return copy


# --- the programs of imported modules -----------------------------------------------------------


@operator("autocast")
def _autocast(value: Any, dtype: str) -> Any:
    return _cast(value, dtype)


@cache
def _with_casts(program: Program, compute: str) -> Program:
    """Return the program with casts before the operators that torch.autocast casts for."""
    steps: list[Step] = []
    for step in program.body.steps:
        if isinstance(step, Operation) and step.operator in _HALF_OPERATORS:
            steps += _with_cast_arguments(step, compute)
        elif isinstance(step, Operation) and step.operator in _WIDE_OPERATORS:
            steps += _with_cast_arguments(step, "float32")
        else:
            steps.append(step)
    return Program(dataclasses.replace(program.body, steps=tuple(steps)))


def _with_cast_arguments(step: Operation, dtype: str) -> list[Operation]:
    casts: list[Operation] = []

    def cast(leaf: Value | State | Literal) -> Value:
        result = f"{step.result}.{len(casts)}"
        casts.append(
            Operation(result, "autocast", (("value", leaf), ("dtype", dtype)), step.source)
        )
        return Value(result)

    arguments = tuple((name, rebuild(value, cast)) for name, value in step.arguments)
    return [*casts, dataclasses.replace(step, arguments=arguments)]
