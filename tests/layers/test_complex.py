"""Complex layers and functions as torch has them: values, gradients, initialisation, weights.

torch's gradient of a real loss is the conjugate of JAX's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import jaxnn

LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("Linear", (3, 2), {}, (4, 3)),
    ("Conv1d", (4, 6, 3), {"padding": 1, "groups": 2, "stride": 2}, (2, 4, 7)),
    ("Conv2d", (4, 2, 3), {"dilation": 2, "padding": 2}, (1, 4, 6, 5)),
    ("Conv3d", (2, 3, 2), {"bias": False}, (1, 2, 3, 4, 3)),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "groups": 2}, (2, 4, 5)),
    ("ConvTranspose2d", (2, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}, (1, 2, 4, 3)),
    ("ConvTranspose3d", (2, 3, 2), {}, (1, 2, 3, 2, 3)),
]


def drawn(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def close(got: Any, want: Any) -> None:
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("name", "args", "options", "shape"), LAYERS, ids=[i[0] for i in LAYERS])
def test_layer(name: str, args: Any, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    original = getattr(torch.nn, name)(*args, **options, dtype=torch.complex64)
    layer = getattr(jaxnn, name)(*args, **options, dtype=jnp.complex64, rngs=nnx.Rngs(0))
    jaxnn.load_state_dict(layer, original.state_dict())
    x = drawn(shape)
    leaf = torch.tensor(x, requires_grad=True)
    output = original(leaf)
    weights = drawn(tuple(output.shape), 1)
    (output * torch.tensor(weights)).real.sum().backward()

    graphdef, params = nnx.split(layer)

    def loss(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        result = nnx.merge(graphdef, params, copy=True)(x)
        return (result * weights).real.sum(), result

    (_, result), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, jnp.asarray(x))
    assert result.dtype == jnp.complex64
    close(result, output.detach())
    assert leaf.grad is not None
    close(gradients[1].conj(), leaf.grad)
    found = {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(gradients[0])}
    for key, parameter in original.named_parameters():
        close(found[key].conj(), parameter.grad)


def test_bilinear() -> None:
    original = torch.nn.Bilinear(2, 3, 4, dtype=torch.complex64)
    layer = jaxnn.Bilinear(2, 3, 4, dtype=jnp.complex64, rngs=nnx.Rngs(0))
    jaxnn.load_state_dict(layer, original.state_dict())
    x1, x2 = drawn((5, 2)), drawn((5, 3), 1)
    with torch.no_grad():  # which has no gradient for it
        wanted = original(torch.tensor(x1), torch.tensor(x2))
    close(layer(jnp.asarray(x1), jnp.asarray(x2)), wanted)


@pytest.mark.parametrize("name", ["Linear", "Conv1d"])
def test_initialisation(name: str) -> None:
    """Real and imaginary parts are drawn alike, each within 1 / sqrt(fan_in)."""
    args = (64, 128) if name == "Linear" else (16, 128, 4)
    weight = getattr(jaxnn, name)(*args, dtype=jnp.complex64, rngs=nnx.Rngs(0)).weight[...]
    for part in (weight.real, weight.imag):
        assert 0.124 < abs(part).max() <= 0.125
        np.testing.assert_allclose(part.std(), 0.125 / 3**0.5, rtol=0.03)
    assert abs(np.corrcoef(weight.real.ravel(), weight.imag.ravel())[0, 1]) < 0.05


def test_complex_weights_need_a_complex_layer() -> None:
    source = torch.nn.Linear(3, 2, dtype=torch.complex64).state_dict()
    with pytest.raises(ValueError, match="complex"):
        jaxnn.load_state_dict(jaxnn.Linear(3, 2, rngs=nnx.Rngs(0)), source)
    with pytest.raises(TypeError, match="floating-point"):
        jaxnn.LayerNorm(3, dtype=jnp.complex64)


FUNCTIONS: list[tuple[str, tuple[int, ...], Callable[[Any, Any], Any]]] = [
    ("tanh", (4, 3), lambda F, x: F.tanh(x)),
    ("sigmoid", (4, 3), lambda F, x: F.sigmoid(x)),
    ("softsign", (4, 3), lambda F, x: F.softsign(x)),
    ("tanhshrink", (4, 3), lambda F, x: F.tanhshrink(x)),
    ("pad", (2, 3), lambda F, x: F.pad(x, (1, 2))),
    ("pad-circular", (1, 2, 4), lambda F, x: F.pad(x, (1, 2), mode="circular")),
    ("pad-reflect", (1, 2, 4), lambda F, x: F.pad(x, (1, 2), mode="reflect")),
    ("pad-replicate", (1, 2, 4), lambda F, x: F.pad(x, (1, 2), mode="replicate")),
    ("unfold", (1, 2, 4, 4), lambda F, x: F.unfold(x, 2)),
    ("fold", (1, 8, 4), lambda F, x: F.fold(x, (4, 4), 2, stride=2)),
    ("pixel_shuffle", (1, 4, 2, 2), lambda F, x: F.pixel_shuffle(x, 2)),
    ("pixel_unshuffle", (1, 1, 4, 4), lambda F, x: F.pixel_unshuffle(x, 2)),
    ("channel_shuffle", (1, 4, 2, 2), lambda F, x: F.channel_shuffle(x, 2)),
]


@pytest.mark.parametrize(("name", "shape", "call"), FUNCTIONS, ids=[i[0] for i in FUNCTIONS])
def test_function(name: str, shape: tuple[int, ...], call: Callable[[Any, Any], Any]) -> None:
    x = drawn(shape)
    leaf = torch.tensor(x, requires_grad=True)
    output = call(torch.nn.functional, leaf)
    weights = drawn(tuple(output.shape), 1)
    (output * torch.tensor(weights)).real.sum().backward()
    assert leaf.grad is not None
    result = call(jaxnn.functional, jnp.asarray(x))
    close(result, output.detach())
    gradient = jax.grad(lambda x: (call(jaxnn.functional, x) * weights).real.sum())(jnp.asarray(x))
    close(gradient.conj(), leaf.grad)
