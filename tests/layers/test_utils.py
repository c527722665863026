"""jaxnn.utils against torch.nn.utils: values, gradients, state after a call, refusals."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import jaxnn
from jaxnn import utils

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

THEIRS = torch.nn.utils
CONV = ("Conv2d", (4, 3, 2))
TRANSPOSED = ("ConvTranspose1d", (3, 4, 2))
LINEAR = ("Linear", (4, 4))
TALL = ("Linear", (3, 5))
WIDE = ("Linear", (5, 3))
INPUTS = {"Conv2d": (2, 4, 5, 5), "ConvTranspose1d": (2, 3, 4)}


def both(layer: tuple[str, tuple[int, ...]]) -> tuple[Any, Any, np.ndarray]:
    """The layer of both libraries, with the same weights, and an input of it."""
    name, sizes = layer
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*sizes)
    ours = getattr(jaxnn, name)(*sizes, rngs=nnx.Rngs(0))
    jaxnn.load_state_dict(ours, theirs.state_dict())
    shape = INPUTS.get(name, (2, sizes[0]))
    return theirs, ours, np.random.default_rng(0).normal(size=shape).astype(np.float32)


def assert_same_call(theirs: torch.nn.Module, ours: Any, x: np.ndarray) -> None:
    """Output, gradients and state after the call agree."""
    wanted = theirs(torch.tensor(x))
    cotangent = np.random.default_rng(1).normal(size=wanted.shape).astype(np.float32)
    theirs.zero_grad()
    wanted.backward(torch.tensor(cotangent))

    def loss(module: Any) -> tuple[jax.Array, jax.Array]:
        output = module(jnp.asarray(x))
        return (output * cotangent).sum(), output

    gradients, output = nnx.jit(nnx.grad(loss, has_aux=True))(ours)
    np.testing.assert_allclose(output, wanted.detach().numpy(), atol=1e-5)
    found = {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(gradients)}
    for name, parameter in theirs.named_parameters():
        np.testing.assert_allclose(found[name], parameter.grad.numpy(), atol=1e-4, err_msg=name)
    assert_same_state(theirs, ours)


def assert_same_state(theirs: torch.nn.Module, ours: Any) -> None:
    wanted, found = theirs.state_dict(), jaxnn.state_dict(ours)
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value.numpy(), atol=1e-5, err_msg=key)


PARAMETRIZED: list[tuple[str, tuple[str, tuple[int, ...]], dict[str, Any]]] = [
    ("weight_norm", LINEAR, {}),
    ("weight_norm", CONV, {"dim": None}),
    ("weight_norm", CONV, {"dim": 1}),
    ("spectral_norm", TALL, {"n_power_iterations": 2}),
    ("spectral_norm", CONV, {}),
    ("spectral_norm", TRANSPOSED, {}),
    ("spectral_norm", LINEAR, {"name": "bias"}),
    ("orthogonal", LINEAR, {}),
    ("orthogonal", LINEAR, {"orthogonal_map": "cayley"}),
    ("orthogonal", TALL, {}),
    ("orthogonal", WIDE, {}),
    ("orthogonal", WIDE, {"orthogonal_map": "matrix_exp"}),
    ("orthogonal", TALL, {"orthogonal_map": "cayley"}),
    ("orthogonal", TALL, {"use_trivialization": False}),
    ("orthogonal", LINEAR, {"orthogonal_map": "cayley", "use_trivialization": False}),
]


@pytest.mark.parametrize(("name", "layer", "options"), PARAMETRIZED)
def test_parametrization(name: str, layer: Any, options: dict[str, Any]) -> None:
    theirs, ours, x = both(layer)
    before = ours.weight[...]
    theirs = getattr(THEIRS.parametrizations, name)(theirs, **options)
    drawn = {} if name == "weight_norm" else {"rngs": nnx.Rngs(1)}
    ours = getattr(utils.parametrizations, name)(ours, **options, **drawn)
    if name == "orthogonal":
        with torch.no_grad():
            wanted = theirs.weight.numpy()
        if options.get("use_trivialization", True):
            np.testing.assert_allclose(ours.weight[...], wanted, atol=1e-5)
    elif name == "weight_norm":
        np.testing.assert_allclose(ours.weight[...], before, rtol=1e-6)
        assert_same_state(theirs, ours)
    with torch.no_grad():  # away from where the original starts
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    jaxnn.load_state_dict(ours, theirs.state_dict())
    assert_same_call(theirs, ours, x)
    assert_same_call(theirs, ours, x)
    assert_same_call(theirs.eval(), ours.eval(), x)


@pytest.mark.parametrize(
    ("name", "layer", "options"),
    [
        ("weight_norm", CONV, {}),
        ("weight_norm", LINEAR, {"dim": None}),
        ("spectral_norm", CONV, {"n_power_iterations": 2}),
        ("spectral_norm", TRANSPOSED, {}),
    ],
)
def test_older_form(name: str, layer: Any, options: dict[str, Any]) -> None:
    theirs, ours, x = both(layer)
    theirs = getattr(THEIRS, name)(theirs, **options)
    drawn = {} if name == "weight_norm" else {"rngs": nnx.Rngs(1)}
    ours = getattr(utils, name)(ours, **options, **drawn)
    jaxnn.load_state_dict(ours, theirs.state_dict())
    assert_same_call(theirs, ours, x)
    assert_same_call(theirs, ours, x)
    assert_same_call(theirs.eval(), ours.eval(), x)
    theirs = getattr(THEIRS, f"remove_{name}")(theirs)
    ours = getattr(utils, f"remove_{name}")(ours)
    assert type(ours) is getattr(jaxnn, layer[0])
    assert_same_state(theirs, ours)
    with pytest.raises(ValueError, match="no such normalisation"):
        getattr(utils, f"remove_{name}")(ours)


class Doubled(jaxnn.Module):
    def __call__(self, x: jax.Array) -> jax.Array:
        return 2 * x

    def right_inverse(self, x: jax.Array) -> jax.Array:
        return x / 2


class Symmetric(jaxnn.Module):
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.triu(x) + jnp.triu(x, 1).T


def test_parametrize() -> None:
    parametrize = utils.parametrize
    _, layer, x = both(LINEAR)
    plain, value = type(layer), layer.weight[...]
    parametrize.register_parametrization(layer, "weight", Doubled())
    assert parametrize.is_parametrized(layer, "weight")
    assert not parametrize.is_parametrized(layer, "bias")
    assert isinstance(layer, plain)
    assert parametrize.type_before_parametrizations(layer) is plain
    np.testing.assert_array_equal(layer.weight[...], value)
    np.testing.assert_array_equal(layer.parametrizations["weight"].original[...], value / 2)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    assert (layer.weight[...] == layer.weight[...].T).all()
    layer.weight = jnp.eye(4)
    np.testing.assert_array_equal(layer.weight[...], jnp.eye(4))
    np.testing.assert_array_equal(nnx.clone(layer).weight[...], jnp.eye(4))
    assert layer(jnp.asarray(x)).shape == (2, 4)
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is plain
    assert not parametrize.is_parametrized(layer)
    np.testing.assert_array_equal(layer.weight[...], jnp.eye(4))
    parametrize.register_parametrization(layer, "weight", Doubled())
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    np.testing.assert_array_equal(layer.weight[...], jnp.eye(4) / 2)


def test_parametrize_refuses() -> None:
    _, layer, _ = both(TALL)
    with pytest.raises(ValueError, match="no parameter"):
        utils.parametrize.register_parametrization(layer, "wait", Doubled())
    with pytest.raises(ValueError, match="no parametrization"):
        utils.parametrize.remove_parametrizations(layer, "weight")
    for make in (
        lambda: utils.parametrizations.spectral_norm(layer),
        lambda: utils.parametrizations.spectral_norm(layer, n_power_iterations=0),
        lambda: utils.parametrizations.orthogonal(layer, "bias"),
        lambda: utils.parametrizations.orthogonal(layer, orthogonal_map="givens"),
        lambda: utils.spectral_norm(layer, "wait", rngs=nnx.Rngs(0)),
    ):
        with pytest.raises(ValueError, match=r"`|pass|no parameter"):
            make()
    utils.parametrizations.weight_norm(layer)
    with pytest.raises(ValueError, match="leave_parametrized"):
        utils.parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)


def test_cached_values_follow_their_originals() -> None:
    layer = utils.parametrizations.weight_norm(both(LINEAR)[1])
    with utils.parametrize.cached():
        first = layer.weight[...]
        assert layer.weight[...] is first
        original = layer.parametrizations["weight"].original0
        original[...] = 2 * original[...]
        np.testing.assert_allclose(layer.weight[...], 2 * first, rtol=1e-6)


GRADIENTS = {"a": np.array([3.0, -4.0], np.float32), "b": np.array([[12.0]], np.float32)}


@pytest.mark.parametrize("norm_type", [2.0, 1, float("inf"), 3.0])
@pytest.mark.parametrize("max_norm", [1.0, 100.0, 0.0])
def test_clip_grad_norm(norm_type: float, max_norm: float) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(g.shape)) for g in GRADIENTS.values()]
    for parameter, gradient in zip(parameters, GRADIENTS.values(), strict=True):
        parameter.grad = torch.tensor(gradient)
    norm = THEIRS.clip_grad_norm_(parameters, max_norm, norm_type)
    grads = jax.tree.map(jnp.asarray, GRADIENTS)
    clipped, total = jax.jit(lambda g: utils.clip_grad_norm(g, max_norm, norm_type))(grads)
    np.testing.assert_allclose(total, norm.numpy(), rtol=1e-6)
    for ours, parameter in zip(clipped.values(), parameters, strict=True):
        np.testing.assert_allclose(ours, parameter.grad.numpy(), rtol=1e-6)


def test_clip_grad_value_and_non_finite_norms() -> None:
    clipped = utils.clip_grad_value(jnp.array([3.0, -4.0, jnp.nan]), 3.5)
    np.testing.assert_array_equal(clipped, [3.0, -3.5, np.nan])
    assert utils.get_total_norm([]) == 0
    with pytest.raises(ValueError, match="error_if_nonfinite"):
        utils.clip_grad_norm(jnp.array([jnp.inf]), 1.0, error_if_nonfinite=True)


def test_parameters_as_a_vector() -> None:
    theirs = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    ours = jaxnn.Sequential(jaxnn.Linear(2, 3, rngs=nnx.Rngs(0)), jaxnn.BatchNorm1d(3))
    jaxnn.load_state_dict(ours, theirs.state_dict())
    wanted = THEIRS.parameters_to_vector(theirs.parameters()).detach().numpy()
    np.testing.assert_array_equal(utils.parameters_to_vector(ours), wanted)
    THEIRS.vector_to_parameters(torch.arange(15.0), theirs.parameters())
    utils.vector_to_parameters(jnp.arange(15.0), ours)
    assert_same_state(theirs, ours)
    with pytest.raises(ValueError, match="at least 15"):
        utils.vector_to_parameters(jnp.arange(14.0), ours)


FUSED: list[tuple[tuple[str, tuple[int, ...]], str, str, dict[str, Any]]] = [
    (CONV, "BatchNorm2d", "fuse_conv_bn_eval", {}),
    (TRANSPOSED, "BatchNorm1d", "fuse_conv_bn_eval", {"transpose": True}),
    (TALL, "BatchNorm1d", "fuse_linear_bn_eval", {}),
]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("layer", "norm", "name", "options"), FUSED)
def test_fusion(
    layer: Any, norm: str, name: str, options: dict[str, Any], affine: bool, bias: bool
) -> None:
    sizes = layer[1]
    theirs = getattr(torch.nn, layer[0])(*sizes, bias=bias)
    their_norm = getattr(torch.nn, norm)(sizes[1], affine=affine)
    ours = getattr(jaxnn, layer[0])(*sizes, bias=bias, rngs=nnx.Rngs(0))
    our_norm = getattr(jaxnn, norm)(sizes[1], affine=affine)
    for value in their_norm.state_dict().values():
        value.copy_(torch.rand(value.shape) + 0.5)
    jaxnn.load_state_dict(ours, theirs.state_dict())
    jaxnn.load_state_dict(our_norm, their_norm.state_dict())
    with pytest.raises(ValueError, match="evaluation"):
        getattr(utils, name)(ours, our_norm, **options)
    fused = getattr(utils, name)(ours, our_norm.eval(), **options)
    if affine or "linear" not in name:  # where torch's own needs the norm's weight
        wanted = getattr(THEIRS, name)(theirs.eval(), their_norm.eval(), **options)
        assert_same_state(wanted, fused)


IN_ANOTHER_PROCESS = """
import pickle, sys
import numpy as np
from flax import nnx
with open(sys.argv[1], "rb") as file:
    for net, (graphdef, state), x, y in pickle.load(file):
        for again in (net, nnx.merge(graphdef, state)):
            np.testing.assert_array_equal(again(x), y)
        assert type(pickle.loads(pickle.dumps(net))) is type(net)
"""


def test_what_is_normalised_pickles_for_another_process(tmp_path: Path) -> None:
    rngs = nnx.Rngs(0)

    def linear() -> Any:
        return jaxnn.Linear(3, 4, rngs=rngs)

    nets = [
        utils.weight_norm(linear()),
        utils.spectral_norm(linear(), rngs=rngs),
        utils.parametrizations.weight_norm(linear()),
        utils.parametrizations.spectral_norm(linear(), rngs=rngs),
        utils.parametrizations.orthogonal(linear(), rngs=rngs),
        jaxnn.Sequential(utils.weight_norm(utils.parametrizations.weight_norm(linear()), "bias")),
        utils.weight_norm(nnx.Linear(3, 4, rngs=rngs), "kernel"),
    ]
    x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    path = tmp_path / "nets"
    for net in nets:
        net.eval()
    path.write_bytes(pickle.dumps([(net, nnx.split(net), x, np.asarray(net(x))) for net in nets]))
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
