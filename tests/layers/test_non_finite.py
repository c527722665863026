"""Where a NaN or an infinity goes: as far as in torch, and no further.

One element of an input, a parameter or a cotangent is made NaN, inf or -inf, and each output,
gradient and state after it is compared with torch's, element by element: finite or not, and for
outputs of inputs which of the three. A formulation that multiplies by zero what is masked or
padded, or what a window does not reach, fails here.
"""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch.nn.attention import SDPBackend, sdpa_kernel

import jaxnn
from benchmarks.fuzz import LOWERED
from jaxnn import functional
from jaxnn._thresholds import lowered
from jaxnn.backend import forget_programs
from nnspec.backend import Refused, Step, StepResult
from nnspec.registry import load_backend
from nnspec.resolve import ResolvedCase, resolve
from nnspec.specification import load_specification
from nnspec.tensors import is_float

SPECS = load_specification()
SEED = os.environ["JAXNN_TEST_SEED"]
LARGEST = 1500
VALUES = (np.nan, np.inf, -np.inf)
CHANGED = 1000.0


class Place(NamedTuple):
    """An element of a call: of an input, of a parameter, or of a cotangent."""

    kind: str
    name: str
    element: int


# What departs, and why. A rule says which results of which place are not compared.
Rule = Callable[[Place, str, str], bool]


def gradients(place: Place, group: str, name: str) -> bool:
    return group == "gradients"


def everything(place: Place, group: str, name: str) -> bool:
    return True


def gradients_of_cotangents(place: Place, group: str, name: str) -> bool:
    return group == "gradients" and place.kind == "cotangent"


def gradients_of_inputs(place: Place, group: str, name: str) -> bool:
    return group == "gradients" and place.kind == "input"


DEPARTURES: dict[str, Rule] = {
    # The file says that the gradient at NaN is what the reference's kernel happens to give.
    **dict.fromkeys(
        ["CELU", "ELU", "Hardshrink", "Hardswish", "Hardtanh", "ReLU6", "SELU", "Softshrink"],
        gradients_of_inputs,
    ),
    # Unspecified: where the exponential overflows.
    "SoftMarginLoss": everything,
    # In torch the slope of 0 is a factor, here it is selected.
    **dict.fromkeys(
        ["MultiMarginLoss", "MultiLabelMarginLoss", "PairwiseDistance"],
        gradients_of_cotangents,
    ),
    "grid_sample": lambda place, group, name: name == "grid",
    "pdist": gradients,
    # In torch a running sum along the channels, which keeps what it has met.
    "CrossMapLRN2d": everything,
}
# Cases of nothing: no keys at all, a softmax of one number, a direction of zeros.
EMPTY = (
    "CosineSimilarity/zeros",
    "LogSoftmax/scalar",
    "scaled_dot_product_attention/no-keys",
)
# Keys that no query sees: in torch 0 times what is not finite, here left out where blocks are.
UNSEEN = ("scaled_dot_product_attention/causal-more-keys",)
# Inputs that torch makes places in its memory of, without a look at whether they are numbers.
PLACES = ("grid", "_random_samples")
# Infinities that cancel or not as the formula is written: NaN or an infinity, but no number.
IN_ANOTHER_ORDER = ("BCEWithLogitsLoss", "MultiLabelSoftMarginLoss")


def is_suitable(resolved: ResolvedCase) -> bool:
    (item,) = resolved.steps
    size = sum(array.size for kind in tensors(resolved).values() for array in kind.values())
    return not item.draws and 0 < size <= LARGEST


@functools.cache
def cases(name: str) -> list[str]:
    """The cases of one step that are not refused and draw nothing."""
    spec = SPECS[name]
    found = []
    for case in spec.data["cases"]:
        is_refused = any("phase" in spec.claims[claim] for claim in case["covers"])
        if is_refused or case.get("initial") or len(spec.steps(case)) != 1 or case["id"] in EMPTY:
            continue
        if "float32" in spec.dtypes(case) and is_suitable(resolve(spec, case, "float32")):
            found.append(case["id"])
    return found


def tensors(resolved: ResolvedCase) -> dict[str, Mapping[str, np.ndarray]]:
    step = resolved.steps[0].step
    parameters = {s["name"] for s in resolved.state_specs() if s["kind"] == "parameter"}
    return {
        "input": step.inputs,
        "state": {n: a for n, a in resolved.state.items() if n in parameters},
        "cotangent": step.cotangents or {},
    }


def places(resolved: ResolvedCase, draw: random.Random, count: int) -> Iterator[Place]:
    """Up to `count` elements of each tensor of floats."""
    for kind, arrays in tensors(resolved).items():
        for name, array in arrays.items():
            if is_float(array) and array.size and name not in PLACES:
                for element in draw.sample(range(array.size), min(count, array.size)):
                    yield Place(kind, name, element)


@functools.cache
def backend(name: str) -> Any:
    return load_backend(name)


class Layer:
    """A layer of a case in both implementations."""

    def __init__(self, resolved: ResolvedCase):
        self.resolved = resolved
        make = functools.partial(
            Layer._create, resolved.spec.kind, resolved.spec.name, resolved.params, resolved.dtype
        )
        self.ours, self.torch = make("jaxnn"), make("torchref")

    @staticmethod
    def _create(kind: str, name: str, params: Any, dtype: str, implementation: str) -> Any:
        return backend(implementation).create(kind, name, params, dtype=dtype)

    def with_value(self, place: Place, value: float) -> tuple[Step, dict[str, np.ndarray]]:
        """The call and the state before it, with `value` in that place."""
        state, step = dict(self.resolved.state), self.resolved.steps[0].step
        changed = tensors(self.resolved)[place.kind][place.name].copy()
        changed.reshape(-1)[place.element] = value
        if place.kind == "state":
            state[place.name] = changed
        elif place.kind == "input":
            step = replace(step, inputs={**step.inputs, place.name: changed})
        else:
            step = replace(step, cotangents={**(step.cotangents or {}), place.name: changed})
        return step, state

    def by_torch(self, place: Place, value: float) -> list[StepResult]:
        """Torch's results by each of its ways that takes the call."""
        step, state = self.with_value(place, value)
        results = []
        for variant in ("default", "strided", "plain_kernels"):
            self.torch.load(state)
            try:
                # The kernel for four dimensions gives zeros for a query that is NaN.
                with sdpa_kernel(SDPBackend.MATH):
                    results.append(self.torch.run(replace(step, variant=variant)))
            except Refused:
                continue
        return results

    def by_jaxnn(self, place: Place, value: float) -> StepResult:
        step, state = self.with_value(place, value)
        if state:
            self.ours.load(state)
        result: StepResult = self.ours.run(step)
        return result


def kinds(array: np.ndarray) -> np.ndarray:
    """0 for a finite number, 1 and -1 for the infinities, 2 for NaN."""
    array = np.asarray(array, np.float64)
    return np.where(np.isnan(array), 2, np.where(np.isinf(array), np.sign(array), 0))


def departures(layer: Layer, place: Place, value: float) -> Iterator[str]:
    """What differs from torch where one element is `value`."""
    spec = layer.resolved.spec
    wanted = layer.by_torch(place, value)
    if not wanted:
        return
    ours = layer.by_jaxnn(place, value)
    rule = DEPARTURES.get(spec.name, lambda *_: False)
    for group in ("outputs", "gradients", "state"):
        for name, array in getattr(ours, group).items():
            theirs = [getattr(result, group).get(name) for result in wanted]
            if not is_float(array) or theirs[0] is None or rule(place, group, name):
                continue
            got, want = kinds(array), [kinds(each) for each in theirs]
            if group != "outputs" or place.kind != "input" or spec.name in IN_ANOTHER_ORDER:
                got, want = got != 0, [each != 0 for each in want]
            wrong = ~np.any([each == got for each in want], axis=0)
            if spec.data["family"] == "convolution" and is_of_kernel(layer, place, group, name):
                wrong &= depends(layer, place, group, name)
            if wrong.any():
                where = np.unravel_index(np.argmax(wrong), wrong.shape)
                yield (
                    f"{layer.resolved.id}: {place} = {value}: {wrong.sum()} of {wrong.size} in "
                    f"{group} {name}, first {[int(i) for i in where]}: {array[where]}, torch has "
                    f"{[float(each[where]) for each in theirs]}"
                )


def is_of_kernel(layer: Layer, place: Place, group: str, name: str) -> bool:
    """Whether a result comes from an element of a kernel, or is the gradient of kernels.

    Some taps meet nothing but padding, and whether the two are multiplied depends on the kernel.
    """
    kernels = {"weight", *tensors(layer.resolved)["state"]}
    return place.name in kernels or (group == "gradients" and name in kernels)


def depends(layer: Layer, place: Place, group: str, name: str) -> np.ndarray:
    """Where a result of torch changes with the element."""
    low, high = (layer.by_torch(place, value)[0] for value in (-CHANGED, CHANGED))
    return np.asarray(getattr(low, group)[name] != getattr(high, group)[name])


def check(case: str, name: str, count: int) -> None:
    resolved = resolve(SPECS[name], SPECS[name].cases[case], "float32")
    layer, draw = Layer(resolved), random.Random(f"{SEED}/{case}")
    found = []
    for place in places(resolved, draw, count):
        forget_programs()  # a branch outside of jit is compiled anew at each call
        found += [text for value in VALUES for text in departures(layer, place, value)]
    assert not found, "\n".join([f"{len(found)} departures", *found[:20]])


def sample(names: list[str], count: int) -> list[tuple[str, str]]:
    """`count` cases of each, of those of the day."""
    draw = random.Random(f"{SEED}/cases")
    return [
        (name, case)
        for name in names
        for case in draw.sample(cases(name), min(count, len(cases(name))))
    ]


def ids(items: list[tuple[str, str]]) -> list[str]:
    return [case for _, case in items]


SAMPLE = sample(list(SPECS), 1)
EVERY = [(name, case) for name in SPECS for case in cases(name)]


@pytest.mark.parametrize(("name", "case"), SAMPLE, ids=ids(SAMPLE))
def test_one_element(name: str, case: str) -> None:
    check(case, name, 1)


@pytest.fixture
def small_is_large() -> Iterator[None]:
    """Let small inputs take the formulations of large ones."""
    with lowered(**LOWERED):
        yield


FORMULATED = [
    "GroupNorm", "InstanceNorm2d", "LayerNorm",
    "MultiheadAttention", "scaled_dot_product_attention",
    *(f"Conv{transposed}{n}d" for transposed in ("", "Transpose") for n in (1, 2, 3)),
]  # fmt: skip
SAMPLE_OF_FORMULATED = [item for item in sample(FORMULATED, 1) if item[1] not in UNSEEN]
EVERY_OF_FORMULATED = [
    (name, case) for name in FORMULATED for case in cases(name) if case not in UNSEEN
]


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize(("name", "case"), SAMPLE_OF_FORMULATED, ids=ids(SAMPLE_OF_FORMULATED))
def test_one_element_of_large_inputs(name: str, case: str) -> None:
    check(case, name, 1)


@pytest.mark.full
@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize(("name", "case"), EVERY_OF_FORMULATED, ids=ids(EVERY_OF_FORMULATED))
def test_every_element_of_large_inputs(name: str, case: str) -> None:
    check(case, name, 64)


@pytest.mark.full
@pytest.mark.parametrize(("name", "case"), EVERY, ids=ids(EVERY))
def test_every_element(name: str, case: str) -> None:
    check(case, name, 64)


SPECIAL = pytest.mark.parametrize("value", VALUES, ids=["nan", "inf", "-inf"])


def both_gradients(
    ours: Callable[[jax.Array], jax.Array], theirs: Callable[[torch.Tensor], torch.Tensor], x: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of the sum, by jaxnn and by torch, after the values are compared."""
    leaf = torch.tensor(x, requires_grad=True)
    total = theirs(leaf).sum()
    total.backward()
    value, gradient = jax.value_and_grad(lambda x: ours(x).sum())(jnp.asarray(x))
    np.testing.assert_array_equal(kinds(np.asarray(value)), kinds(total.detach().numpy()))
    assert leaf.grad is not None
    return np.asarray(gradient), leaf.grad.numpy()


@SPECIAL
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_ctc_behind_the_end(value: float, reduction: str) -> None:
    """What lies behind a sequence's end changes neither loss nor gradient."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(6, 3, 4)).astype(np.float32)
    plain = np.asarray(jax.nn.log_softmax(scores, -1))
    filled = plain.copy()
    filled[4:, 0] = filled[3:, 1] = value
    targets, lengths = np.array([[1, 2], [3, 3], [2, 1]]), ((4, 3, 6), (2, 2, 1))
    options = {"reduction": reduction}
    expected, _ = both_gradients(
        lambda x: functional.ctc_loss(x, jnp.asarray(targets), *lengths, **options),
        lambda x: torch.nn.functional.ctc_loss(x, torch.tensor(targets), *lengths, **options),
        plain,
    )
    ours, theirs = both_gradients(
        lambda x: functional.ctc_loss(x, jnp.asarray(targets), *lengths, **options),
        lambda x: torch.nn.functional.ctc_loss(x, torch.tensor(targets), *lengths, **options),
        filled,
    )
    np.testing.assert_array_equal(ours, expected)
    np.testing.assert_array_equal(kinds(ours), kinds(theirs))


@SPECIAL
def test_ignored_targets(value: float) -> None:
    """A row whose target is ignored is selected away."""
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    rows[1] = rows[3, 0] = value
    target = np.array([0, -100, 2, -100])
    for name in ("cross_entropy", "nll_loss"):
        ours, theirs = both_gradients(
            lambda x, name=name: getattr(functional, name)(x, jnp.asarray(target)),
            lambda x, name=name: getattr(torch.nn.functional, name)(x, torch.tensor(target)),
            rows,
        )
        np.testing.assert_array_equal(kinds(ours), kinds(theirs))


@SPECIAL
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_steps_behind_the_end(value: float, name: str, bidirectional: bool) -> None:
    """What lies behind a sequence's end changes no output, no state and no gradient."""
    layer = getattr(jaxnn, name)(3, 4, 2, bidirectional=bidirectional, rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(layer)
    lengths = jnp.array([5, 2, 3])
    x = np.random.default_rng(0).normal(size=(5, 3, 3)).astype(np.float32)
    filled = x.copy()
    filled[2:, 1] = filled[3:, 2] = value

    def loss(state: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        output, h = nnx.merge(graphdef, state, copy=True)(x, lengths=lengths)
        return output.sum() + sum(part.sum() for part in jax.tree.leaves(h)), (output, h)

    run = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    jax.tree.map(np.testing.assert_array_equal, run(state, filled), run(state, x))


@SPECIAL
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_points_outside_of_a_volume(value: float, mode: str) -> None:
    """A coordinate that is no number, or beyond all integers, has zeros around it."""
    volume = torch.arange(1.0, 28.0).reshape(1, 1, 3, 3, 3).requires_grad_()
    for each in (value, 1e30, -3e9):
        points = torch.full((1, 1, 1, 3, 3), 0.2)
        points[0, 0, 0, 1, 0] = points[0, 0, 0, 0, 2] = each
        points.requires_grad_()
        output = torch.nn.functional.grid_sample(volume, points, mode=mode, align_corners=False)
        volume.grad = None
        output.backward(torch.ones_like(output))
        sampled, pullback = jax.vjp(
            lambda x, g: functional.grid_sample(x, g, mode=mode),
            jnp.asarray(volume.detach()), jnp.asarray(points.detach()),
        )  # fmt: skip
        wanted = (output.detach(), volume.grad, points.grad)
        for got, want in zip((sampled, *pullback(jnp.ones_like(sampled))), wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
