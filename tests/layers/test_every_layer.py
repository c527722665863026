"""Every layer of the specification under every transformation, compared with the plain call.

One case a layer is enough: what a layer computes is judged elsewhere, here only that a
transformation changes nothing. The case is the first of the file that has gradients and a batch.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

import jaxnn
import jaxnn.linen
from jaxnn.modules._lazy import LazyModule
from jaxnn.utils.parametrize import register_parametrization
from nnspec import load_specification
from nnspec.backend import flatten, made, nest
from nnspec.document import LayerSpec
from nnspec.resolve import ResolvedCase, resolve
from nnspec.tensors import is_float

SPECS = {name: spec for name, spec in load_specification().items() if spec.kind == "layer"}
PLATFORMS = ["cpu", "cuda", "rocm", "tpu"]
LARGEST = 1500

pytestmark = pytest.mark.filterwarnings("ignore:softmax")


class Example(NamedTuple):
    """A layer with the state, inputs and options of one of its cases."""

    make: Callable[[], Any]
    """A new one, always the same."""
    params: dict[str, Any]
    inputs: dict[str, jax.Array]
    arguments: dict[str, Any]
    batched: dict[str, int]
    """The dimension that is the batch, of the inputs that have one."""

    def call(self, module: Any, inputs: dict[str, jax.Array] | None = None) -> Any:
        return module(**nest(inputs or self.inputs), **self.arguments)

    def floats(self) -> dict[str, jax.Array]:
        return {n: a for n, a in self.inputs.items() if jnp.issubdtype(a.dtype, jnp.inexact)}


def with_batch(spec: LayerSpec, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inputs, those that may have a batch and have none stacked with themselves reversed."""
    patterns = {item["name"]: list(map(str, item["shape"])) for item in spec.data["inputs"]}
    unbatched = {
        n for n, a in inputs.items() if patterns[n][:1] == ["N?"] and a.ndim < len(patterns[n])
    }
    return {n: np.stack([a, a[::-1]]) if n in unbatched else a for n, a in inputs.items()}


def batched_inputs(spec: LayerSpec, inputs: dict[str, np.ndarray]) -> dict[str, int]:
    """The inputs that have a batch, by their shapes in the file (N, or leading dimensions), and
    which dimension it is."""
    patterns = {item["name"]: list(map(str, item["shape"])) for item in spec.data["inputs"]}
    batched = {
        n: 0 for n, a in inputs.items()
        if patterns[n][:1] in (["*"], ["N?"], ["N"]) and a.ndim >= max(2, len(patterns[n]))
    }  # fmt: skip
    if not batched and not any(pattern[1:2] == ["N?"] for pattern in patterns.values()):
        return {}
    # One batch for all: that of a vector of targets or lengths, and one behind the time.
    for name, array in inputs.items():
        place = next((i for i, size in enumerate(patterns[name]) if size in ("N", "N?")), None)
        if place is not None and array.ndim == len(patterns[name]):
            batched.setdefault(name, place)
    return batched


def is_suitable(spec: LayerSpec, case: ResolvedCase) -> bool:
    if len(case.steps) != 1 or "error" in case.steps[0].expect:
        return False
    inputs = case.steps[0].step.inputs
    size = sum(array.size for array in inputs.values())
    wanted = "gradients" not in spec.data or case.steps[0].step.cotangents is not None
    dtypes = {array.dtype.name for array in inputs.values() if is_float(array)}
    finite = all(np.isfinite(a).all() for a in inputs.values() if is_float(a))
    has_batch = bool(batched_inputs(spec, with_batch(spec, dict(inputs))))
    return wanted and finite and 0 < size <= LARGEST and dtypes <= {"float32"} and has_batch


def constructed(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters as jaxnn takes them: layers and functions made, always the same."""

    def function(name: str, given: dict[str, Any]) -> Any:
        return functools.partial(getattr(jaxnn.functional, name), **given)

    def layer(name: str, given: dict[str, Any]) -> Any:
        return getattr(jaxnn, name)(**given, rngs=nnx.Rngs(0))

    return {n: made(v, layer, function, jnp.asarray) for n, v in params.items()}


@functools.cache
def example(name: str) -> Example:
    spec = SPECS[name]
    refusals = {c for c, claim in spec.claims.items() if "phase" in claim}
    cases = (
        resolve(spec, case, "float32") for case in spec.data["cases"]
        if not case.get("initial") and not refusals & {*case["covers"]}
        and "float32" in spec.dtypes(case)
    )  # fmt: skip
    case = next((case for case in cases if is_suitable(spec, case)), None)
    assert case is not None, f"{name} has no case with a batch and gradients, of moderate size"
    step = case.steps[0].step
    arrays = with_batch(SPECS[name], dict(step.inputs))
    inputs = {n: jnp.asarray(a) for n, a in arrays.items()}
    params = constructed(case.params)

    def make() -> Any:
        module = getattr(jaxnn, name)(**constructed(case.params), rngs=nnx.Rngs(0))
        if isinstance(module, LazyModule):
            module.initialize_parameters(*inputs.values())
        jaxnn.load_state_dict(module, dict(case.state), strict=False)
        return module.eval() if step.mode == "eval" else module

    return Example(make, params, inputs, dict(step.arguments), batched_inputs(spec, arrays))


def assert_same(actual: Any, expected: Any, rtol: float = 1e-4) -> None:
    def compare(a: Any, b: Any) -> None:
        scale = np.max(np.abs(np.asarray(b, np.float64)), initial=1e-3)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)

    jax.tree.map(compare, actual, expected)


def first_float(result: Any) -> jax.Array:
    """The output that is differentiated."""
    return next(a for a in flatten(result) if jnp.issubdtype(a.dtype, jnp.inexact))


def weighted(output: jax.Array) -> jax.Array:
    """A scalar whose cotangent differs from element to element."""
    weights = jnp.cos(jnp.arange(np.prod(output.shape, dtype=int), dtype=output.dtype))
    return (output.reshape(-1) * weights).sum()


def pure_loss(item: Example) -> tuple[Callable[[Any], jax.Array], Any]:
    """The weighted output as a function of the parameters and float inputs, and their values."""
    graphdef, params, rest = nnx.split(item.make(), nnx.Param, ...)

    def loss(values: Any) -> jax.Array:
        module = nnx.merge(graphdef, values[0], rest, copy=True)
        return weighted(first_float(item.call(module, {**item.inputs, **values[1]})))

    return loss, (params, item.floats())


DIFFERENTIABLE = [name for name, spec in SPECS.items() if "gradients" in spec.data]


@pytest.mark.parametrize("name", SPECS)
def test_compiled_and_in_scan(name: str) -> None:
    item = example(name)
    plain = item.make()
    expected = [item.call(plain), item.call(plain)]
    after = jaxnn.state_dict(plain)

    compiled = nnx.jit_partial(item.call, item.make(), graph=False)
    assert_same(compiled(item.inputs), expected[0])

    net = item.make()
    stacked = {n: jnp.stack([a, a]) for n, a in item.inputs.items()}
    step = nnx.scan(
        lambda net, inputs: (net, item.call(net, inputs)),
        in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0),
    )  # fmt: skip
    _, outputs = step(net, stacked)
    assert_same(outputs, jax.tree.map(lambda *a: jnp.stack(a), *expected))
    assert_same(jaxnn.state_dict(net), after)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_both_modes_of_differentiation_and_remat(name: str) -> None:
    item = example(name)
    loss, values = pure_loss(item)
    gradient = jax.grad(loss)(values)
    tangent = jax.tree.map(lambda a: jnp.sin(jnp.arange(1.0, a.size + 1)).reshape(a.shape), values)
    _, forward = jax.jvp(loss, (values,), (tangent,))
    products = jax.tree.leaves(jax.tree.map(lambda g, t: (g * t).sum(), gradient, tangent))
    scale = sum(map(abs, products), 1e-3)
    np.testing.assert_allclose(forward, sum(products), rtol=1e-4, atol=1e-4 * float(scale))
    assert_same(jax.grad(jax.checkpoint(loss))(values), gradient)

    along = lambda step: loss(jax.tree.map(lambda v, t: v + step * t, values, tangent))  # noqa: E731
    second = jax.hessian(along)(0.0)
    assert np.isfinite(second)
    assert_same(jax.grad(jax.grad(along))(0.0), second, rtol=1e-3)


class Halved(jaxnn.Module):
    """A parametrization: half of the original."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x / 2

    def right_inverse(self, x: jax.Array) -> jax.Array:
        return 2 * x


@pytest.mark.parametrize("name", SPECS)
def test_pickles_also_with_a_parametrized_weight(name: str) -> None:
    nets = [example(name).make()]
    parameters = [n for n, value in vars(nets[0]).items() if isinstance(value, nnx.Param)]
    if parameters:
        parametrized = example(name).make()
        register_parametrization(parametrized, parameters[0], Halved())
        nets.append(parametrized)
    for net in nets:
        graphdef, state = nnx.split(net)
        restored, (graphdef_again, state_again) = pickle.loads(
            pickle.dumps((net, (graphdef, state)))
        )
        assert type(restored) is type(net)
        assert graphdef_again == graphdef
        assert hash(graphdef_again) == hash(graphdef)
        for again in (restored, nnx.merge(graphdef_again, state_again)):
            states = jaxnn.state_dict(again), jaxnn.state_dict(net)
            assert list(states[0]) == list(states[1])
            assert all(np.array_equal(a, states[1][key]) for key, a in states[0].items())


@pytest.mark.parametrize("name", SPECS)
def test_vmap(name: str) -> None:
    item = example(name)
    graphdef, state = nnx.split(item.make())

    def output(inputs: dict[str, jax.Array]) -> Any:
        return item.call(nnx.merge(graphdef, state, copy=True), inputs)

    other = {n: a[::-1] if a.ndim else a for n, a in item.inputs.items()}
    stacked = jax.tree.map(lambda a, b: jnp.stack([a, b]), item.inputs, other)
    expected = jax.tree.map(lambda a, b: jnp.stack([a, b]), output(item.inputs), output(other))
    assert_same(jax.vmap(output)(stacked), expected)


@pytest.mark.parametrize("name", SPECS)
def test_linen(name: str) -> None:
    item = example(name)
    net = item.make()
    flags = ("deterministic", "use_running_average")
    modes = {flag: getattr(net, flag) for flag in flags if hasattr(net, flag)}
    layer = getattr(jaxnn.linen, name)(**item.params, **modes)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    call = {**nest(item.inputs), **item.arguments}
    variables = layer.init(keys, **call)
    weights = {
        ".".join(map(str, path)): leaf
        for collection in ("params", "batch_stats")
        for path, leaf in nnx.traversals.flatten_mapping(variables.get(collection, {})).items()
    }
    output, _ = layer.apply(variables, **call, rngs=keys, mutable=True)
    if SPECS[name].data.get("random") and not modes.get("deterministic"):
        return
    jaxnn.load_state_dict(net, weights)
    assert_same(output, item.call(net))


@pytest.mark.parametrize("name", SPECS)
def test_export_for_all_platforms_with_a_symbolic_batch(name: str) -> None:
    item = example(name)
    graphdef, state = nnx.split(item.make())
    (batch,) = export.symbolic_shape("batch")

    def output(inputs: dict[str, jax.Array]) -> Any:
        return item.call(nnx.merge(graphdef, state, copy=True), inputs)

    def gradients(inputs: dict[str, jax.Array]) -> Any:
        floats = {n: inputs[n] for n in item.floats()}
        return jax.grad(lambda f: first_float(output({**inputs, **f})).sum())(floats)

    symbolic = {
        n: jax.ShapeDtypeStruct(
            tuple(batch if i == item.batched.get(n) else size for i, size in enumerate(a.shape)),
            a.dtype,
        )
        for n, a in item.inputs.items()
    }
    for function in [output, gradients] if name in DIFFERENTIABLE and item.floats() else [output]:
        exported = export.export(jax.jit(function), platforms=PLATFORMS)(symbolic)
        assert_same(exported.call(item.inputs), function(item.inputs))
