"""What the files on attention cannot say: blocks, static keys, streams, traced options."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from jax import export
from platforms import formulated_for

import jaxnn
import jaxnn.functional as F


def lattice(*shape: int) -> jax.Array:
    values = np.random.default_rng(sum(shape)).integers(-64, 64, shape)
    return jnp.asarray(values / 32, jnp.float32)


def plainly(query: Any, key: Any, value: Any, seen: Any) -> Any:
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1]).astype(np.float32)
    return jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), -1) @ value


# Heads, queries and keys: in one chunk; a head in each; two in each; a head in two blocks; and so
# many heads that chunks of a size that divides their number would be small.
SIZES = [
    (2, 300, 300), (2, 300, 140), (2, 140, 300), (3, 700, 800), (6, 600, 601), (1, 2100, 600),
    (251, 80, 90),
]  # fmt: skip


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("is_causal", [True, False])
def test_long_sequences_by_heads_and_blocks(sizes: tuple[int, int, int], is_causal: bool) -> None:
    heads, *lengths = sizes
    arrays = (
        lattice(heads, lengths[0], 4), lattice(heads, lengths[1], 4), lattice(heads, lengths[1], 3)
    )  # fmt: skip
    seen = jnp.tril(jnp.ones(lengths, bool))[None] if is_causal else jnp.ones((1, 1, 1), bool)

    def ours(*arrays: jax.Array) -> jax.Array:
        return F.scaled_dot_product_attention(*arrays, is_causal=is_causal)

    def wanted(*arrays: jax.Array) -> jax.Array:
        return plainly(*arrays, seen)

    np.testing.assert_allclose(ours(*arrays), wanted(*arrays), atol=1e-5)
    tangents = tuple(jnp.cos(a) for a in arrays)
    for function, other in (
        (lambda f: jax.jvp(f, arrays, tangents)[1], "jvp"),
        (lambda f: jax.grad(lambda *a: jnp.sin(f(*a)).sum(), (0, 1, 2))(*arrays), "grad"),
    ):
        jax.tree.map(
            lambda a, b, other=other: np.testing.assert_allclose(a, b, atol=1e-4, err_msg=other),
            function(ours), function(wanted),
        )  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 600, 601), (6, 600, 601), (6, 1, 601)])
def test_gradient_of_a_mask_by_chunks(shape: tuple[int, ...]) -> None:
    query, key, value, mask = (lattice(*s) for s in [(6, 600, 4), (6, 601, 4), (6, 601, 3), shape])
    # A query that sees nothing: zeros, and no gradient.
    mask = mask.at[:, 0].set(-jnp.inf) if shape[1] > 1 else mask

    def ours(mask: jax.Array) -> jax.Array:
        return F.scaled_dot_product_attention(query, key, value, mask)

    def wanted(mask: jax.Array) -> jax.Array:
        scores = query @ key.swapaxes(1, 2) / 2 + mask
        weights = jnp.where(scores == -jnp.inf, 0.0, jnp.exp(scores))
        total = weights.sum(-1, keepdims=True)
        return weights @ value / jnp.where(total == 0, 1.0, total)

    np.testing.assert_allclose(ours(mask), wanted(mask), atol=1e-5)
    gradients = (jax.grad(lambda mask, f=f: jnp.sin(f(mask)).sum())(mask) for f in (ours, wanted))
    np.testing.assert_allclose(*gradients, atol=1e-5)


def test_long_sequences_export_for_all_platforms_with_a_symbolic_batch() -> None:
    (batch,) = export.symbolic_shape("batch")
    mask = jnp.tril(jnp.ones((150, 150), bool))

    def loss(x: jax.Array) -> jax.Array:
        causal = F.scaled_dot_product_attention(x, x, x, is_causal=True)
        return (causal + F.scaled_dot_product_attention(x, x, x, mask)).sum()

    shape = jax.ShapeDtypeStruct((batch, 2, 150, 4), jnp.float32)
    platforms = ["cpu", "cuda", "rocm", "tpu"]
    exported = export.export(jax.jit(jax.grad(loss)), platforms=platforms)(shape)
    x = lattice(3, 2, 150, 4)
    np.testing.assert_allclose(exported.call(x), jax.grad(loss)(x), atol=1e-5)


def test_static_keys_and_values() -> None:
    x, weight, out = lattice(2, 3, 4), lattice(12, 4), lattice(4, 4)
    keys, values = lattice(6, 5, 2), lattice(6, 5, 2)
    options: dict[str, Any] = {"static_k": keys, "static_v": values}
    arguments = (x, x, x, 4, 2, weight, None, None, None, True, 0.0, out, None)
    output, weights = F.multi_head_attention_forward(*arguments, **options)
    wanted = torch.nn.functional.multi_head_attention_forward(
        *(torch.tensor(np.asarray(a)) if isinstance(a, jax.Array) else a for a in arguments),
        **{name: torch.tensor(np.asarray(a)) for name, a in options.items()},
    )
    np.testing.assert_allclose(output, wanted[0], atol=1e-5)
    np.testing.assert_allclose(weights, wanted[1], atol=1e-5)
    for wrong in (
        {"static_k": keys},
        {"static_k": keys[:4], "static_v": values},
        {**options, "attn_mask": jnp.zeros((2, 2))},
    ):
        with pytest.raises(ValueError, match="multi_head_attention_forward"):
            F.multi_head_attention_forward(*arguments, **wrong)


def test_options_may_be_traced() -> None:
    x = lattice(2, 3, 4)

    def call(p: Any, scale: Any) -> jax.Array:
        key = jax.random.key(0)
        return F.scaled_dot_product_attention(x, x, x, dropout_p=p, scale=scale, rng=key)

    np.testing.assert_allclose(jax.jit(call)(0.5, 2.0), call(0.5, 2.0), atol=1e-6)
    np.testing.assert_allclose(jax.jit(call)(0.0, 2.0), call(0.0, 2.0), atol=1e-6)
    np.testing.assert_array_equal(jax.jit(call)(1.0, 2.0), jnp.zeros_like(x))


def test_refusals() -> None:
    x = lattice(2, 3, 4)
    with pytest.raises(ValueError, match="rng"):
        F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)
    with pytest.raises(ValueError, match="implementation"):
        F.scaled_dot_product_attention(x, x, x, implementation="flash")
    with pytest.raises(ValueError, match="rngs"):
        jaxnn.MultiheadAttention(4, 2)
    with pytest.raises(TypeError, match="activation"):
        jaxnn.TransformerEncoderLayer(4, 2, activation=3, rngs=nnx.Rngs(0))


def test_layers_of_a_stack_draw_numbers_of_their_own() -> None:
    layer = jaxnn.TransformerEncoderLayer(4, 2, 8, dropout=0.5, rngs=nnx.Rngs(0))
    first, second = jaxnn.TransformerEncoder(layer, 2).layers
    x = lattice(3, 2, 4)
    assert not jnp.allclose(first(x), second(x))
    assert jnp.allclose(first.eval()(x), second.eval()(x))


def test_one_key_for_a_whole_transformer() -> None:
    net = jaxnn.Transformer(4, 2, 1, 1, 8, dropout=0.5, rngs=nnx.Rngs(0))
    x = lattice(3, 2, 4)
    key = jax.random.key(1)
    np.testing.assert_array_equal(net(x, x, rngs=key), net(x, x, rngs=key))
    assert not jnp.allclose(net(x, x, rngs=key), net(x, x, rngs=jax.random.key(2)))
    # The dropouts of one layer must not share their masks, which a single key would make them do.
    layer = net.encoder.layers[0]
    same = [layer.dropout1(jnp.ones((3, 2, 4)), rngs=key), layer.dropout2(jnp.ones((3, 2, 4)))]
    assert not jnp.allclose(*same)


class Same(jaxnn.Module):
    def __call__(self, src: jax.Array, **_: Any) -> jax.Array:
        return src


def test_custom_encoder_and_activation_layer() -> None:
    rngs = nnx.Rngs(0)
    activation = jaxnn.PReLU()
    net = jaxnn.Transformer(4, 2, 1, 1, 8, custom_encoder=Same(), activation=activation, rngs=rngs)
    assert "decoder.layers.0.activation.weight" in jaxnn.state_dict(net)
    src, tgt = lattice(3, 2, 4), lattice(5, 2, 4)
    output = net.eval()(src, tgt)
    np.testing.assert_array_equal(output, net.decoder(tgt, src))


def test_causal_mask() -> None:
    mask = jaxnn.Transformer.generate_square_subsequent_mask(3)
    wanted = torch.nn.Transformer.generate_square_subsequent_mask(3)
    np.testing.assert_array_equal(mask, wanted)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("keys", [1, 2, 5])
def test_a_query_that_sees_nothing_gives_zeros(keys, platform):
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, n, 4)).astype(np.float32) for n in (3, keys, keys))
    # By the mask, and by scores that overflow.
    mask = np.ones((3, keys), bool)
    mask[1] = False
    q[:, 2], k[..., 0] = [np.inf, 0, 0, 0], -1
    wanted = torch.nn.functional.scaled_dot_product_attention(*map(torch.tensor, (q, k, v, mask)))
    with formulated_for(platform):
        got = jax.jit(jaxnn.functional.scaled_dot_product_attention)(q, k, v, mask)
    assert not got[:, 1:].any()
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
