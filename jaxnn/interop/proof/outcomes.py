"""What a call gives, in PyTorch and in JAX: outputs, gradients, and the state after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ...modules._module import takes_rngs
from ..checkpoint import as_numpy
from ..importer.decisions import coins_that_never_drop
from ..importer.decisions import reads as noted_reads
from ..importer.imported import NEEDS_VALUES
from ..state_dict import named_entries
from .calls import Call
from .differences import Difference, difference, gradient_floor, leaves_of
from .drawing import fixed_in_torch, fixed_key

if TYPE_CHECKING:
    import torch

# What runs once is compiled in less time than optimising would save.
_QUICKLY = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}


@dataclass
class Outcome:
    """What one call gave.

    Attributes:
        outputs: the arrays of its result, in order.
        gradients: of the parameters and inputs, by name ("input 0"); None if it has none.
        state: what the call changed, by name.
        before: a function of a name that gives what stood there before the call, or None.
        drawn: the operators that drew random numbers.
        reads: what the code read of its tensors' values, with the lines that did.
        why_no_gradients: why there are none, in words.
    """

    outputs: list[np.ndarray]
    gradients: dict[str, np.ndarray] | None
    state: dict[str, np.ndarray]
    before: Callable[[str], np.ndarray | None]
    drawn: list[str] = field(default_factory=list)
    reads: list[tuple[str, Any]] = field(default_factory=list)
    why_no_gradients: str = ""

    @property
    def is_finite(self) -> bool:
        """Whether all outputs and gradients are."""
        arrays = [*self.outputs, *(self.gradients or {}).values()]
        return all(bool(np.isfinite(array).all()) for array in map(_plain, arrays))


def _plain(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.kind in "biufc" else array.astype(np.float32)


def differences(wanted: Outcome, got: Outcome, *, with_dtypes: bool = False) -> list[Difference]:
    """Compare what the original gave with what the port gave.

    Args:
        wanted: the original's.
        got: the port's.
        with_dtypes: whether an output of another floating-point dtype departs, which a tolerance
            of half precision would hide.

    Raises:
        ValueError: if the results do not hold equally many arrays.
    """
    if len(wanted.outputs) != len(got.outputs):
        raise ValueError(
            f"its result holds {len(got.outputs)} arrays, that of the original "
            f"{len(wanted.outputs)}"
        )
    pairs = zip(wanted.outputs, got.outputs, strict=True)
    found = [
        difference(
            f"output {i}",
            "output",
            theirs,
            None if with_dtypes and not _has_the_dtype(ours, theirs) else ours,
        )
        for i, (theirs, ours) in enumerate(pairs)
    ]
    return found + gradient_differences(wanted, got) + state_differences(wanted, got)


def _has_the_dtype(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether a float has the dtype of the original's, or the widest that JAX has."""
    floats = [jnp.issubdtype(array.dtype, jnp.inexact) for array in (ours, theirs)]
    return ours.dtype == jax.dtypes.canonicalize_dtype(theirs.dtype) or not all(floats)


def gradient_differences(wanted: Outcome, got: Outcome) -> list[Difference]:
    """Compare the gradients, where both have some."""
    if wanted.gradients is None or got.gradients is None:
        return []
    floor = gradient_floor(wanted.gradients.values())
    return [
        difference(name, "gradient", gradient, got.gradients.get(name), floor)
        for name, gradient in wanted.gradients.items()
    ]


def state_differences(wanted: Outcome, got: Outcome) -> list[Difference]:
    """Compare what the call changed in one or both."""
    found = []
    for name in {**wanted.state, **got.state}:
        ours, theirs = (
            side.state[name] if name in side.state else side.before(name) for side in (got, wanted)
        )
        if theirs is not None:
            found.append(difference(name, "buffer", theirs, ours))
    return found


def cotangent(shape: tuple[int, ...], is_complex: bool = False) -> np.ndarray:
    """Return what the outputs are multiplied by before they are summed and differentiated.

    A complex one is multiplied by the conjugate, and the real part summed.
    """
    angles = np.arange(np.prod(shape, dtype=int))
    return (np.exp(1j * angles) if is_complex else np.cos(angles)).reshape(shape)


# --- the original ---------------------------------------------------------------------------------


def of_torch(model: torch.nn.Module, call: Call, *, uncopied: bool = False) -> Outcome:
    """Run a model that may be changed, in the mode that it is in, with every draw fixed.

    Args:
        model: the model.
        call: the arguments.
        uncopied: whether the model is given the very tensors that are differentiated, which it must
            not change in place, or copies of them, whose `requires_grad` it must not set.

    Raises:
        CannotFix: if it draws what cannot be fixed.
        Exception: what the model raises.
    """
    import torch

    versions = {name: (tensor, tensor._version) for name, tensor in _state_of(model)}
    reads: list[tuple[str, Any]] = []

    def note(original: Callable[..., Any], tensor: Any, caller: Any) -> Any:
        value = original(tensor)
        reads.append((f"{caller.f_code.co_filename}:{caller.f_lineno}", value))
        return value

    with torch.inference_mode(False), torch.enable_grad(), fixed_in_torch() as drawn:
        inputs = [_input(tensor) for tensor in call.tensors]
        given = inputs if uncopied else [tensor.clone() for tensor in inputs]
        args, kwargs = call.in_torch(given)
        with noted_reads(note):
            result = model(*args, **kwargs)
        outputs = leaves_of(result)
        found: dict[str, np.ndarray] | None = None
        why = ""
        try:
            found = _gradients(model, inputs, outputs)
        except (RuntimeError, NotImplementedError) as error:
            why = f"the original has no gradients: {error}"
    after = dict(_state_of(model))
    changed = {
        name: as_array(tensor)
        for name, tensor in after.items()
        if name not in versions
        or versions[name][0] is not tensor
        or versions[name][1] != tensor._version
    }
    return Outcome(
        [as_array(output) for output in outputs], found, changed,
        lambda name: as_array(after[name]) if name in after else None,
        drawn, reads, why,
    )  # fmt: skip


def with_steady_coins(run: Callable[[], Outcome]) -> Outcome:
    """Run a model so that a branch on a single random number goes as in the import."""
    with coins_that_never_drop():
        return run()


def _input(tensor: torch.Tensor) -> torch.Tensor:
    is_number = tensor.is_floating_point() or tensor.is_complex()
    return tensor.detach().clone().requires_grad_(is_number)


def _state_of(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _gradients(
    model: torch.nn.Module, given: Sequence[torch.Tensor], outputs: Sequence[Any]
) -> dict[str, np.ndarray]:
    import torch

    ends = [o for o in outputs if isinstance(o, torch.Tensor) and o.requires_grad]
    inputs = [tensor for tensor in given if tensor.requires_grad]
    parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    targets = [*inputs, *(parameter for _, parameter in parameters)]
    names = [*(f"input {i}" for i in range(len(inputs))), *(name for name, _ in parameters)]
    if not ends or not targets:
        return {name: as_array(torch.zeros_like(t)) for name, t in zip(names, targets, strict=True)}
    cotangents = [
        torch.from_numpy(cotangent(tuple(o.shape), o.is_complex())).to(o.device, o.dtype)
        for o in ends
    ]
    found = torch.autograd.grad(ends, targets, cotangents, allow_unused=True)
    return {
        name: as_array(torch.zeros_like(target) if gradient is None else gradient)
        for name, target, gradient in zip(names, targets, found, strict=True)
    }


def as_array(value: Any) -> np.ndarray:
    """Return a tensor, an array of JAX or a number as an array of NumPy with its own memory."""
    return np.array(as_numpy(value))


# --- the port -------------------------------------------------------------------------------------


def of_flax(net: nnx.Module, call: Call, **options: Any) -> Outcome:
    """Run a port, which stays as it is, in the mode that it is in, with every draw fixed.

    Args:
        net: the port, whose streams draw from the fixed key.
        call: the arguments.
        options: those of `Traced`.

    Raises:
        Exception: what the port raises.
    """
    return Traced.of(net, call, **options).outcome()


class Traced:
    """A run of a port that is traced, so that what it refuses is refused, but not yet compiled.

    Args:
        net: the port, which stays as it is.
        arrays: the arrays that it is called with.
        arguments: a function that makes the call's arguments of them.
        key: what it draws from, None where it takes no key.
        gradients: whether to differentiate.
        shapes: those of the outputs, where they are known, so that what these are multiplied by
            need not be a part of the program.

    Raises:
        Exception: what the port raises.
    """

    def __init__(
        self,
        net: nnx.Module,
        arrays: Sequence[jax.Array],
        arguments: Callable[[Sequence[jax.Array]], tuple[tuple[Any, ...], Mapping[str, Any]]],
        key: jax.Array | None = None,
        *,
        gradients: bool = True,
        shapes: Sequence[tuple[int, ...]] = (),
    ) -> None:
        self.net, self.gradients = net, gradients
        graph, parameters, rest = nnx.split(net, nnx.Param, ...)  # type: ignore[misc]
        self.graph, self.rest = graph, rest
        numbers = [i for i, array in enumerate(arrays) if jnp.issubdtype(array.dtype, jnp.inexact)]
        options = {} if key is None else {"rngs": key}

        def total(
            parameters: Any, inputs: list[Any], rest: Any, others: list[Any], factors: list[Any]
        ) -> Any:
            given = list(others)
            for index, array in zip(numbers, inputs, strict=True):
                given[index] = array
            model: Any = nnx.merge(graph, parameters, rest, copy=True)
            before = {id(variable): variable[...] for variable in variables_of(model).values()}
            args, kwargs = arguments(given)
            outputs = [jnp.asarray(leaf) for leaf in leaves_of(model(*args, **kwargs, **options))]
            state = {
                name: variable[...]
                for name, variable in variables_of(model).items()
                if variable[...] is not before.get(id(variable))
            }
            if not gradients:
                return outputs, state
            return _weighted_sum(outputs, factors), (outputs, state)

        self.run: Any = total
        if gradients:
            self.run = jax.grad(total, argnums=(0, 1), has_aux=True)
        factors = [cotangent(shape) for shape in shapes] if gradients else []
        self.given = (parameters, [arrays[i] for i in numbers], rest, list(arrays), factors)
        self.results: Any = None
        self.compiled: Any = None
        try:
            self.lowered: Any = jax.jit(self.run).lower(*self.given)
        except NEEDS_VALUES:
            self.lowered = None
            self.results = self.run(*self.given)

    @staticmethod
    def of(
        net: nnx.Module,
        call: Call,
        *,
        gradients: bool = True,
        shapes: Sequence[tuple[int, ...]] = (),
    ) -> Traced:
        """Return a run on the arguments of a call, with every draw fixed."""
        key = fixed_key() if takes_rngs(net) else None
        return Traced(net, call.arrays(), call.in_jax, key, gradients=gradients, shapes=shapes)

    @property
    def text(self) -> str | None:
        """The program, by which two are told apart; None where there is none."""
        return None if self.lowered is None else self.lowered.as_text()

    def compile(self, quickly: bool = True) -> Traced:
        """Compile it: as quickly as can be, or as it would run for long."""
        if self.lowered is not None and self.compiled is None:
            if quickly and jax.default_backend() == "cpu":
                with suppress(jax.errors.JaxRuntimeError):  # another XLA may lack an option
                    self.compiled = self.lowered.compile(compiler_options=_QUICKLY)
            self.compiled = self.compiled or self.lowered.compile()
        return self

    def outcome(self) -> Outcome:
        """Run it."""
        if self.results is None:
            self.results = self.compile().compiled(*self.given)
        found: dict[str, np.ndarray] | None = None
        if self.gradients:
            (by_parameter, by_input), (outputs, state) = self.results
            # JAX's gradient is the conjugate of torch's.
            found = {f"input {i}": np.conj(np.asarray(g)) for i, g in enumerate(by_input)}
            found |= _by_torchs_names(nnx.merge(self.graph, by_parameter, self.rest))
        else:
            outputs, state = self.results
        variables = variables_of(self.net)
        return Outcome(
            [np.asarray(output) for output in outputs],
            found,
            {name: np.asarray(array) for name, array in state.items()},
            lambda name: np.asarray(variables[name][...]) if name in variables else None,
        )


def _by_torchs_names(gradients: nnx.Module) -> dict[str, np.ndarray]:
    """Return a module's parameters, which are gradients, in torch's layout under its names."""
    found: dict[str, np.ndarray] = {}
    for entry in named_entries(gradients):
        variables = list(entry.variables.values())
        is_alike = len(variables) == len(entry.keys)  # what is zero in Flax has no gradient here
        if is_alike and all(isinstance(variable, nnx.Param) for variable in variables):
            arrays = [np.conj(np.asarray(variable.get_value())) for variable in variables]
            found |= entry.to_torch(arrays)
    return found


def variables_of(net: nnx.Module) -> dict[str, Any]:
    """Return a module's variables by their paths, without the state of its random streams."""
    return {
        ".".join(map(str, path)): node
        for path, node in nnx.iter_graph(net)
        if isinstance(node, nnx.Variable) and not isinstance(node, nnx.RngState)
    }


def _weighted_sum(outputs: Sequence[jax.Array], factors: Sequence[jax.Array]) -> jax.Array:
    """Return the sum of the outputs' numbers under the cotangents, those in `factors` if they fit.

    Only its gradient is of use.
    """
    products = [jnp.zeros((), jnp.float32)]
    for index, output in enumerate(outputs):
        if not jnp.issubdtype(output.dtype, jnp.inexact):
            continue
        is_complex = jnp.issubdtype(output.dtype, jnp.complexfloating)
        factor: Any = np.conj(cotangent(output.shape, is_complex))
        if index < len(factors) and factors[index].shape == output.shape and not is_complex:
            factor = factors[index]
        product = (output * factor.astype(output.dtype)).sum().real
        products.append(product.astype(jnp.float32) if product.dtype.itemsize < 4 else product)
    wide = max((p.dtype for p in products), key=lambda dtype: dtype.itemsize)
    return sum((p.astype(wide) for p in products), jnp.zeros((), wide))
