"""Tokens of imported decoders are those of transformers' own `generate`."""

from __future__ import annotations

import pickle
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnn
from benchmarks.zoo_models import declare_torchvision
from jaxnn.generation import DecoderOutput

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
declare_torchvision()

_SIZES = {
    "vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "num_key_value_heads": 2,
}  # fmt: skip
_MODELS = {
    # Grouped queries, a window that the text goes past, learned positions, ALiBi.
    "Llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**_SIZES)),
    "Mistral": lambda: transformers.MistralForCausalLM(
        transformers.MistralConfig(**_SIZES, sliding_window=6)
    ),
    "GPT-2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=120, n_embd=32, n_layer=2, n_head=4, n_positions=90, bos_token_id=1,
            eos_token_id=1, attn_pdrop=0.1,
        )
    ),
    "BLOOM": lambda: transformers.BloomForCausalLM(
        transformers.BloomConfig(vocab_size=120, hidden_size=32, n_layer=2, n_head=4)
    ),
}  # fmt: skip


@cache
def pair(name: str) -> tuple[Any, Any]:
    """Return an original and its import."""
    torch.manual_seed(0)
    model = _MODELS[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model, jaxnn.from_transformers(model, check=name == "GPT-2")


def prompts(batch: int, length: int, padding: int = 0) -> tuple[Any, Any]:
    torch.manual_seed(batch * 100 + length)
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[0, :padding] = 0
    return torch.randint(2, 120, (batch, length)), mask


def in_jax(*tensors: Any) -> list[jax.Array]:
    return [jnp.asarray(tensor.numpy()) for tensor in tensors]


def of_transformers(model: Any, ids: Any, mask: Any, **options: Any) -> np.ndarray:
    options = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None, **options}
    return np.asarray(model.generate(ids, attention_mask=mask, **options))


@pytest.mark.parametrize(
    "name", ["Llama", "Mistral", "GPT-2", pytest.param("BLOOM", marks=pytest.mark.full)]
)
@pytest.mark.parametrize(("batch", "length", "padding"), [(1, 1, 0), (3, 7, 4), (2, 18, 0)])
def test_greedy_tokens_are_those_of_transformers(
    name: str, batch: int, length: int, padding: int
) -> None:
    model, lm = pair(name)
    ids, mask = prompts(batch, length, padding)
    options = {"max_new_tokens": 64, "repetition_penalty": 5.0}
    wanted = of_transformers(model, ids, mask, **options)
    got = jaxnn.generate(lm, *in_jax(ids, mask), eos_token_id=(), **options)
    np.testing.assert_array_equal(got.sequences, wanted)
    np.testing.assert_array_equal(got.lengths, [64] * batch)
    assert len(set(wanted[0, length:].tolist())) > 8


def test_texts_end_where_those_of_transformers_end() -> None:
    model, lm = pair("Llama")
    ids, mask = prompts(3, 5, 2)
    given = {"max_new_tokens": 30, "repetition_penalty": 5.0}
    whole = of_transformers(model, ids, mask, **given)
    ends = [int(whole[0, 9]), int(whole[1, 15])]
    given |= {"eos_token_id": ends, "pad_token_id": 7}
    wanted = of_transformers(model, ids, mask, **given)
    got = jaxnn.generate(lm, *in_jax(ids, mask), **given)
    width = wanted.shape[1]
    np.testing.assert_array_equal(got.sequences[:, :width], wanted)
    assert (np.asarray(got.sequences[:, width:]) == 7).all()
    for row, count in zip(wanted[:, 5:], np.asarray(got.lengths), strict=True):
        found = np.flatnonzero(np.isin(row, ends))
        assert count == (found[0] + 1 if found.size else 30)
    streamed = np.stack(list(jaxnn.generate(lm, *in_jax(ids, mask), stream=True, **given)), 1)
    np.testing.assert_array_equal(streamed, wanted[:, 5:])


def test_the_probability_of_each_token_is_that_of_transformers() -> None:
    model, lm = pair("Llama")
    ids, mask = prompts(2, 6)
    options = {"max_new_tokens": 8, "repetition_penalty": 1.7}
    found = model.generate(
        ids, attention_mask=mask, do_sample=False, pad_token_id=0, eos_token_id=None,
        output_scores=True, return_dict_in_generate=True, **options,
    )  # fmt: skip
    got = jaxnn.generate(lm, *in_jax(ids, mask), eos_token_id=(), logprobs=True, **options)
    np.testing.assert_array_equal(got.sequences, found.sequences)
    wanted = model.compute_transition_scores(found.sequences, found.scores, normalize_logits=True)
    np.testing.assert_allclose(got.logprobs, wanted, rtol=1e-4, atol=1e-5)


def test_tokens_are_drawn_by_the_key_from_what_may_be_drawn() -> None:
    _, lm = pair("Llama")
    ids, _ = prompts(2, 6)
    (ids,) = in_jax(ids)
    options = {"max_new_tokens": 12, "temperature": 5.0, "top_k": 4, "eos_token_id": ()}
    one = jaxnn.generate(lm, ids, rngs=nnx.Rngs(0), **options)
    same = jaxnn.generate(lm, ids, rngs=nnx.Rngs(0), **options)
    other = jaxnn.generate(lm, ids, rngs=nnx.Rngs(1), **options)
    np.testing.assert_array_equal(one.sequences, same.sequences)
    assert (np.asarray(one.sequences) != np.asarray(other.sequences)).any()
    logits = lm(one.sequences).logits[:, 5:-1]
    ranks = (logits > jnp.take_along_axis(logits, one.sequences[:, 6:, None], -1)).sum(-1)
    assert int(ranks.max()) <= 3
    assert int(ranks.max()) > 0
    # The only token that may be drawn is the most likely.
    alone = jaxnn.generate(lm, ids, rngs=jax.random.key(3), **{**options, "top_k": 1})
    greedy = jaxnn.generate(lm, ids, max_new_tokens=12, eos_token_id=())
    np.testing.assert_array_equal(alone.sequences, greedy.sequences)


def test_a_function_may_change_the_logits() -> None:
    _, lm = pair("Llama")

    def odd(tokens: jax.Array, mask: jax.Array, logits: jax.Array) -> jax.Array:
        assert tokens.shape == mask.shape
        assert logits.shape == (2, 120)
        return jnp.where(jnp.arange(120)[None] % 2 == 1, logits, -jnp.inf)

    (ids,) = in_jax(prompts(2, 6)[0])
    got = jaxnn.generate(lm, ids, max_new_tokens=10, eos_token_id=(), logits_processor=odd)
    assert (np.asarray(got.sequences[:, 6:]) % 2 == 1).all()


def test_prompts_of_one_bucket_are_one_compilation() -> None:
    from jaxnn.generation.generate import _whole

    _, lm = pair("Llama")
    counts = []
    for length, new in ((3, 5), (9, 64), (16, 1), (17, 5)):
        (ids,) = in_jax(prompts(1, length)[0])
        jaxnn.generate(lm, ids, max_new_tokens=new, eos_token_id=())
        counts.append(_whole._cache_size())
    assert counts[0] == counts[1] == counts[2] == counts[3] - 1


def test_by_hand_with_a_cache() -> None:
    model, lm = pair("Mistral")
    (ids,) = in_jax(prompts(2, 12)[0])
    whole: DecoderOutput = lm(ids)
    np.testing.assert_allclose(
        whole.logits, model(torch.tensor(np.asarray(ids))).logits.detach(), rtol=1e-4, atol=1e-4
    )
    step = jax.jit(lambda ids, cache: lm(ids, cache=cache), donate_argnums=1)
    kept, found = lm.init_cache(2, 13), []
    for begin, end in ((0, 5), (5, 6), (6, 12)):
        out = step(ids[:, begin:end], kept)
        kept = out.cache
        found.append(out.logits)
    np.testing.assert_allclose(jnp.concatenate(found, 1), whole.logits, rtol=1e-4, atol=1e-4)
    assert int(kept.length) == 12
    assert kept.mask.sum() == 24
    assert jnp.isnan(lm(ids[:, :2], cache=kept).logits).all()  # it is full
    for last in (1, 3):
        few = lm(ids, cache=lm.init_cache(2, 13), logits_to_keep=last)
        np.testing.assert_allclose(few.logits, whole.logits[:, -last:], rtol=1e-4, atol=1e-4)
        assert lm(ids, logits_to_keep=last).logits.shape == (2, last, 120)
    assert lm.init_cache(1, 4, dtype=jnp.bfloat16).keys[0].dtype == jnp.bfloat16


def test_the_cache_is_no_part_of_the_model() -> None:
    model, lm = pair("GPT-2")
    assert jaxnn.state_dict(lm).keys() == model.state_dict().keys()
    stored = pickle.loads(pickle.dumps(lm))
    (ids,) = in_jax(prompts(1, 4)[0])
    first, again = (jaxnn.generate(x, ids, max_new_tokens=5) for x in (lm, stored))
    np.testing.assert_array_equal(first.sequences, again.sequences)


def test_the_loss_of_labels_and_its_gradient_are_those_of_transformers() -> None:
    model, lm = pair("Llama")
    ids, mask = prompts(2, 9)
    labels = ids.clone()
    labels[0, 2:4] = -100
    wanted = model(ids, attention_mask=mask, labels=labels)
    graph, parameters, rest = nnx.split(lm, nnx.Param, ...)

    def loss(parameters: Any) -> Any:
        given = in_jax(ids, mask, labels)
        return nnx.merge(graph, parameters, rest)(given[0], given[1], labels=given[2]).loss

    value, gradients = jax.jit(jax.value_and_grad(loss))(parameters)
    np.testing.assert_allclose(value, wanted.loss.detach(), rtol=1e-5)
    wanted.loss.backward()
    found = dict(nnx.to_flat_state(gradients))["lm_head", "weight"][...]
    np.testing.assert_allclose(found, model.lm_head.weight.grad, rtol=1e-3, atol=1e-6)
    model.zero_grad()


def test_what_has_no_sense_is_refused() -> None:
    _, lm = pair("GPT-2")
    ids, rngs = jnp.full((2, 6), 5), jax.random.key(0)
    wrong: dict[str, Any] = {
        "holds no token": ((jnp.zeros((2, 0), int),), {}),
        "has the token 120, but the model has 120": ((ids.at[0, 0].set(120),), {}),
        "must be of the shape": ((ids, jnp.ones((2, 5))), {}),
        "pad at the left": ((ids, jnp.ones((2, 6)).at[1, 5].set(0)), {}),
        "padding alone": ((ids, jnp.ones((2, 6)).at[1].set(0)), {}),
        "needs 106 positions, but the model has 90": ((ids,), {"max_new_tokens": 100}),
        "`max_new_tokens` must be an int of 1": ((ids,), {"max_new_tokens": 0}),
        "pass rngs=": ((ids,), {"temperature": 0.5}),
        "`temperature` must be positive, got -1": ((ids,), {"temperature": -1.0, "rngs": rngs}),
        "`p` must lie between": ((ids,), {"top_p": 1.5, "rngs": rngs}),
    }
    for said, (args, options) in wrong.items():
        with pytest.raises(ValueError, match=said):
            jaxnn.generate(lm, *args, **options)
    with pytest.raises(TypeError, match=r"must be integers of shape \(batch, length\), got float"):
        jaxnn.generate(lm, jnp.ones((2, 6)))
    with pytest.raises(TypeError, match="`lm` must come from jaxnn"):
        jaxnn.generate(jaxnn.Linear(2, 2, rngs=nnx.Rngs(0)), ids)


def test_what_is_no_decoder_is_refused(tmp_path: Any) -> None:
    with pytest.raises(TypeError, match="Linear is no causal language model"):
        jaxnn.from_transformers(torch.nn.Linear(2, 2))
    with pytest.raises(FileNotFoundError, match=r"has no config.json"):
        jaxnn.from_transformers(tmp_path)
    mamba = transformers.MambaConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1)
    with pytest.raises(NotImplementedError, match="keeps a LinearAttentionLayer"):
        jaxnn.from_transformers(transformers.MambaForCausalLM(mamba))
    t5 = transformers.T5Config(vocab_size=20, d_model=8, num_layers=1, num_heads=2, d_kv=4, d_ff=8)
    with pytest.raises(NotImplementedError, match="has an encoder"):
        jaxnn.from_transformers(transformers.T5ForConditionalGeneration(t5))


def test_a_folder_is_read(tmp_path: Any) -> None:
    model, lm = pair("Llama")
    model.save_pretrained(tmp_path)
    read = jaxnn.from_transformers(tmp_path, check=False)
    (ids,) = in_jax(prompts(2, 6)[0])
    wanted, got = (jaxnn.generate(x, ids, max_new_tokens=5) for x in (lm, read))
    np.testing.assert_array_equal(got.sequences, wanted.sequences)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        jaxnn.from_transformers(tmp_path)
