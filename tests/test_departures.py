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
SILENT = ("error", "always")


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
        return [leaf for key in value for leaf in flat(value[key])]
    return (
        [leaf for item in value for leaf in flat(item)] if isinstance(value, (tuple, list)) else []
    )


def compare(net: Any, ours: Any, case: Any, mode: str) -> None:
    """Two calls: values and gradients of each, and the state after each."""
    getattr(net, mode)()
    getattr(ours, mode)()
    torch.manual_seed(1)
    for make in (case.others, case.args):
        args = make()
        tensors = [t for t in flat(list(args)) if t.is_floating_point()]
        call = Call.of(args, {})
        mine = call.arrays()
        for tensor in tensors:
            tensor.requires_grad_()
        given = [t.clone() if isinstance(t, torch.Tensor) else {k: v.clone() for k, v in t.items()}
                 for t in args]  # fmt: skip
        with fixed_in_torch():
            want = flat(net(*given))
        total = sum(((leaf * cosine(leaf)).sum().abs() if leaf.is_complex() else (leaf * cosine(leaf)).sum())
                    for leaf in want)  # fmt: skip
        wanted = dict.fromkeys(n for n, p in net.named_parameters() if p.requires_grad)
        net.zero_grad()
        total.backward()
        graph, parameters, rest = nnx.split(ours, nnx.Param, ...)

        def loss(parameters: Any, mine: Any, rest: Any) -> Any:
            module = nnx.merge(graph, parameters, rest, copy=True)
            positional, named = call.in_jax(mine)
            leaves = flat(module(*positional, **named))
            total = sum(jnp.abs((leaf * cosine(leaf).astype(leaf.dtype)).sum()) if jnp.iscomplexobj(leaf)
                        else (leaf * cosine(leaf)).sum() for leaf in leaves)  # fmt: skip
            return total, (leaves, nnx.state(module))

        (gradients, by_input), (got, state) = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(
            parameters, mine, rest
        )
        nnx.update(ours, state)
        for one, other in zip(got, want, strict=True):
            close(one, other)
        unique = list({id(t): t for t in tensors}.values())
        if len(unique) == len(tensors):
            for one, tensor in zip(by_input, tensors, strict=True):
                close(one, tensor.grad, tensor)
        theirs = dict(net.named_parameters())
        found = {".".join(map(str, path)): g[...] for path, g in nnx.to_flat_state(gradients)}
        assert set(found) == set(wanted)
        for key, gradient in found.items():
            close(gradient, theirs[key].grad, theirs[key])
        saved = jaxnn.state_dict(ours)
        assert list(saved) == list(net.state_dict())
        for key, tensor in net.state_dict().items():
            close(saved[key], tensor)


def cosine(leaf: Any) -> Any:
    values = np.cos(np.arange(np.prod(leaf.shape, dtype=int))).reshape(tuple(leaf.shape))
    if isinstance(leaf, torch.Tensor):
        return torch.from_numpy(values).to(torch.float32)
    return jnp.asarray(values, jnp.float32)


def close(ours: Any, theirs: Any, like: Any = None) -> None:
    if theirs is None:
        theirs = torch.zeros_like(like)
    want = theirs.detach().numpy()
    assert ours.shape == want.shape
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    assert float(np.abs(np.asarray(ours) - want).max(initial=0)) <= 2e-5 * scale
