"""Models whose habits an exporter loses: their imports are right, refused, or warned about."""

from __future__ import annotations

import copy
import re
import warnings
from typing import Any

import adversarial_models
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import jaxnn
from jaxnn.interop.proof.calls import Call
from jaxnn.interop.proof.drawing import fix_streams, fixed_in_torch

CASES = adversarial_models.CASES


def test_there_are_many():
    assert len(CASES) >= 60
    assert {case.verdict for case in CASES.values()} == {"equal", "warned", "refused"}


@pytest.mark.parametrize("name", CASES)
def test_import_is_right_refused_or_warned_about(name):
    case = CASES[name]
    torch.manual_seed(0)
    net = case.make()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if case.verdict == "refused":
            with pytest.raises((ValueError, NotImplementedError)) as error:
                refused(net, case)
            assert re.search(case.says, str(error.value)), str(error.value)
            assert not isinstance(error.value, jaxnn.interop.ImportDeparts), str(error.value)
            return
        ours = jaxnn.from_torch(net, copy.deepcopy(case.args()), rngs=nnx.Rngs(0), check=False)
    said = [str(warning.message) for warning in caught if "jaxnn" in str(warning.message)]
    if case.verdict == "warned":
        assert any(re.search(case.says, text) for text in said), said
    else:
        assert not said
    fix_streams(ours)
    for mode in ("eval", "train"):
        compare(copy.deepcopy(net), nnx.clone(ours), case, mode)


def refused(net: Any, case: Any) -> None:
    """The import is refused, or the call whose sizes are others."""
    ours = jaxnn.from_torch(net, copy.deepcopy(case.args()), rngs=nnx.Rngs(0), check=False)
    args, kwargs = arrays(case.others())
    ours(*args, **kwargs)


def arrays(args: tuple[Any, ...]) -> tuple[Any, Any]:
    call = Call.of(args, {})
    return call.in_jax(call.arrays())


def flat(value: Any) -> list[Any]:
    """The arrays of a result, in order; dicts by their keys' order."""
    if hasattr(value, "shape"):
        return [value]
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in flat(item)]
    items = value if isinstance(value, (tuple, list)) else ()
    return [leaf for item in items for leaf in flat(item)]


def compare(net: Any, ours: Any, case: Any, mode: str) -> None:
    """Two calls: values and gradients of each, and the state after each."""
    getattr(net, mode)()
    getattr(ours, mode)()
    torch.manual_seed(1)
    for make in (case.others, case.args):
        args = make()
        want, gradients, by_input = of_torch(net, args)
        got, found, of_inputs = of_jax(ours, args)
        for one, other in zip(got, want, strict=True):
            close(one, other)
        if len(by_input) == len(of_inputs):
            for one, other in zip(of_inputs, by_input, strict=True):
                close(one, other)
        assert set(found) == set(gradients)
        for key, gradient in found.items():
            close(gradient, gradients[key])
        saved = jaxnn.state_dict(ours)
        assert list(saved) == list(net.state_dict())
        for key, tensor in net.state_dict().items():
            close(saved[key], tensor)


def of_torch(net: Any, args: tuple[Any, ...]) -> tuple[list[Any], dict[str, Any], list[Any]]:
    """The outputs, the gradients of parameters, and those of the tensors given, each once."""
    tensors = list({id(t): t for t in flat(list(args)) if t.is_floating_point()}.values())
    for tensor in tensors:
        tensor.requires_grad_()
    given = [{k: v.clone() for k, v in a.items()} if isinstance(a, dict) else a.clone()
             for a in args]  # fmt: skip
    with fixed_in_torch():
        outputs = flat(net(*given))
    sums = [(leaf * cosine(leaf)).sum() for leaf in outputs]
    net.zero_grad()
    sum(total.abs() if total.is_complex() else total for total in sums).backward()
    parameters = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    gradients = {name: gradient_of(parameter) for name, parameter in parameters}
    return outputs, gradients, [gradient_of(tensor) for tensor in tensors]


def gradient_of(tensor: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def of_jax(ours: Any, args: tuple[Any, ...]) -> tuple[list[Any], dict[str, Any], list[Any]]:
    """The same of the import, which keeps the state after the call."""
    call = Call.of(args, {})
    graph, parameters, rest = nnx.split(ours, nnx.Param, ...)

    def loss(parameters: Any, given: Any, rest: Any) -> Any:
        module = nnx.merge(graph, parameters, rest, copy=True)
        positional, named = call.in_jax(given)
        outputs = flat(module(*positional, **named))
        sums = [(leaf * cosine(leaf).astype(leaf.dtype)).sum() for leaf in outputs]
        total = sum(jnp.abs(s) if jnp.iscomplexobj(s) else s.astype(jnp.float32) for s in sums)
        return total, (outputs, nnx.state(module))

    run = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
    (gradients, by_input), (outputs, state) = run(parameters, call.arrays(), rest)
    nnx.update(ours, state)
    found = {".".join(map(str, path)): g[...] for path, g in nnx.to_flat_state(gradients)}
    return outputs, found, by_input


def cosine(leaf: Any) -> Any:
    values = np.cos(np.arange(np.prod(leaf.shape, dtype=int))).reshape(tuple(leaf.shape))
    if isinstance(leaf, torch.Tensor):
        return torch.from_numpy(values).to(torch.float32)
    return jnp.asarray(values, jnp.float32)


def close(ours: Any, theirs: torch.Tensor) -> None:
    want = theirs.detach().numpy()
    assert ours.shape == want.shape
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    assert float(np.abs(np.asarray(ours) - want).max(initial=0)) <= 2e-5 * scale


@pytest.mark.parametrize("name", ["a_size_that_is_cached", "branch_on_the_batch"])
def test_a_capture_leaves_no_mark_behind(name: str) -> None:
    """Neither on the caller's tensors, nor in what the model caches by a size."""
    case = adversarial_models.CASES[name]
    net, args = case.make(), case.args()
    ours = jaxnn.from_torch(net, args, rngs=nnx.Rngs(0))
    assert not vars(args[0])
    for training in (False, True):
        net.train(training)
        (ours.train if training else ours.eval)()
        wanted = net(*args).detach().numpy()
        np.testing.assert_allclose(ours(jnp.asarray(args[0].numpy())), wanted, rtol=1e-5, atol=1e-6)
    assert net(*case.others()).shape[0] == 5


class Evaluates(torch.nn.Linear):
    """A model that asks for what is not given when it is trained."""

    def __init__(self) -> None:
        super().__init__(3, 3)

    def forward(self, x):
        if self.training:
            raise RuntimeError("targets are missing")
        return super().forward(x)


def test_a_mode_that_the_model_has_not_is_named_at_the_import():
    with pytest.warns(UserWarning, match="Evaluates has no training mode: .*targets are missing"):
        net = jaxnn.from_torch(Evaluates(), torch.randn(2, 3))
    assert net.eval()(jnp.ones((4, 3))).shape == (4, 3)
    with pytest.raises(ValueError, match=r"cannot run in training mode: .*targets are missing"):
        net.train()(jnp.ones((4, 3)))
