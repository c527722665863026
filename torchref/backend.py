"""PyTorch as an nnspec backend. It knows no layer: names in the specification are torch's."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from nnspec.backend import Refused, Step, StepResult, Unsupported, flatten, made, nest

# What torch raises to refuse; anything else is a defect of this adapter and passes through.
_REFUSALS = (
    RuntimeError, ValueError, TypeError, IndexError, AssertionError, NotImplementedError,
    ZeroDivisionError,
)  # fmt: skip

_HALVES = {torch.float16, torch.bfloat16}
_CONVOLUTIONS = {value for name, value in vars(torch).items() if name.startswith("conv")}


class TorchBackend:
    """``torch.nn`` layers and ``torch.nn.functional`` functions, as installed."""

    def __init__(self, device: str | None = None):
        self.device = torch.device(device or "cpu")
        torch.set_num_threads(1)

    def describe(self) -> dict[str, Any]:
        """Versions and device. The variants are ways of the same computation, each honest."""
        return {
            "name": "torchref",
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
            "device": str(self.device),
            "dtypes": ["float32", "float64", "bfloat16", "float16"],
            "variants": ["default", "strided", "plain_kernels"],
        }

    def create(
        self, kind: str, name: str, params: Mapping[str, Any], *, dtype: str, seed: int = 0
    ) -> _Instance:
        """Construct a layer, or hold a function and its parameters."""
        library = torch.nn if kind == "layer" else torch.nn.functional
        make = getattr(library, name, None)
        if make is None:
            raise Unsupported(f"torch has no {kind} {name}")
        _seed(seed)
        tensor = partial(torch.tensor, dtype=getattr(torch, dtype))
        with _refusals():
            params = {n: made(v, _layer, _function, tensor) for n, v in params.items()}
        if kind == "function":
            return _Instance(lambda **inputs: make(**inputs, **params), None)
        with _refusals():
            module = make(**params).to(device=self.device, dtype=getattr(torch, dtype))
        return _Instance(module, module)

    def catalogue(self) -> dict[str, list[str]]:
        """What torch has, by kind: concrete layers, and functions that are not in-place aliases."""
        layers = [
            name
            for name, value in vars(torch.nn).items()
            if isinstance(value, type)
            and issubclass(value, torch.nn.Module)
            and value is not torch.nn.Module
        ]
        functions = [
            name
            for name, value in vars(torch.nn.functional).items()
            if callable(value)
            and not isinstance(value, type)
            and not name.startswith("_")
            and not name.endswith("_")
            and getattr(value, "__module__", "").startswith(("torch.nn.functional", "torch._C._nn"))
        ]
        return {"layer": sorted(layers), "function": sorted(functions)}

    def close(self) -> None:
        """Nothing is held."""


def _layer(name: str, params: dict[str, Any]) -> torch.nn.Module:
    layer: torch.nn.Module = getattr(torch.nn, name)(**params)
    return layer


def _function(name: str, params: dict[str, Any]) -> Any:
    found = getattr(torch.nn.functional, name)
    return partial(found, **params) if params else found


class _Instance:
    def __init__(self, call: Any, module: torch.nn.Module | None):
        self.call, self.module = call, module

    def state(self) -> dict[str, np.ndarray]:
        if self.module is None:
            return {}
        state = self.module.state_dict()
        return {n: to_numpy(t) for n, t in state.items() if not torch.nn.parameter.is_lazy(t)}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        if self.module is not None:
            self.module.load_state_dict({n: to_torch(a) for n, a in state.items()}, strict=False)

    def run(self, step: Step) -> StepResult:
        if self.module is not None:
            self.module.train(step.mode == "train")
            self.module.zero_grad(set_to_none=True)
        _seed(step.seed)
        leaves = {}
        for name, array in step.inputs.items():
            tensor = to_torch(array)
            if step.variant == "strided":
                tensor = _strided(tensor)
            if step.cotangents is not None and name in step.wrt:
                tensor = tensor.detach().requires_grad_()
            leaves[name] = tensor
        mkldnn = step.variant != "plain_kernels"
        with _refusals(), torch.backends.mkldnn.flags(enabled=mkldnn), _AccumulatesInFloat32():
            result = self.call(**nest(leaves), **step.arguments)
            outputs = dict(zip(step.outputs, flatten(result), strict=True))
            gradients = self._gradients(step, outputs, leaves)
        values = {name: to_numpy(tensor) for name, tensor in outputs.items()}
        return StepResult(values, gradients, self.state())

    def _gradients(
        self, step: Step, outputs: Mapping[str, torch.Tensor], leaves: Mapping[str, torch.Tensor]
    ) -> dict[str, np.ndarray]:
        if step.cotangents is None:
            return {}
        parameters = dict(self.module.named_parameters()) if self.module is not None else {}
        roots = {n: outputs[n] for n in step.cotangents if outputs[n].requires_grad}
        if roots:
            # Module backward rather than autograd.grad: sparse gradients reach only .grad.
            torch.autograd.backward(
                list(roots.values()), [to_torch(step.cotangents[n]) for n in roots]
            )
        gradients = {}
        for name in step.wrt:
            leaf = leaves.get(name, parameters.get(name))
            assert leaf is not None
            gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            gradients[name] = to_numpy(gradient.to_dense() if gradient.is_sparse else gradient)
        return gradients


class _AccumulatesInFloat32(TorchFunctionMode):
    """Convolutions of half precision, and their gradients, sum in float32 and round once.

    So do torch's kernels where the processor has instructions for the dtype. Where it has none,
    those of transposed convolutions round between additions, and a verdict would depend on the
    machine that it was reached on.
    """

    def __torch_function__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _CONVOLUTIONS:
            values = (*args, *kwargs.values())
            dtypes = {value.dtype for value in values if isinstance(value, torch.Tensor)}
            if len(dtypes) == 1 and dtypes <= _HALVES:
                widened = [_widened(value) for value in args]
                named = {name: _widened(value) for name, value in kwargs.items()}
                return func(*widened, **named).to(dtypes.pop())
        return func(*args, **kwargs)


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) else value


@contextmanager
def _refusals() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except _REFUSALS as error:
            raise Refused(f"{type(error).__name__}: {str(error).splitlines()[0]}") from None


def _seed(seed: int) -> None:
    # torch.manual_seed also queues a seed, with a stack trace, for every absent accelerator.
    torch.default_generator.manual_seed(seed)


def _strided(tensor: torch.Tensor) -> torch.Tensor:
    """The same values in another memory layout, which sends torch down other kernels."""
    if tensor.dim() < 2:
        return torch.stack([tensor, tensor], -1)[..., 0] if tensor.dim() else tensor
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)


def to_torch(array: np.ndarray) -> torch.Tensor:
    """A copy, bfloat16 included."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy, bfloat16 included."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().copy().view(ml_dtypes.bfloat16)
    return tensor.numpy().copy()
