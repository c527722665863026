"""What is kept, changed and drawn of logits, against transformers' own classes."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import stats

from jaxnn.generation import sampling

DTYPES = {
    "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16,
}  # fmt: skip
# (function, its options, the class of transformers)
CHANGES: list[tuple[str, dict[str, Any], str]] = [
    ("with_temperature", {"temperature": 0.7}, "TemperatureLogitsWarper"),
    ("with_temperature", {"temperature": 1.9}, "TemperatureLogitsWarper"),
    ("top_k", {"top_k": 1}, "TopKLogitsWarper"),
    ("top_k", {"top_k": 7}, "TopKLogitsWarper"),
    ("top_k", {"top_k": 2, "min_tokens_to_keep": 5}, "TopKLogitsWarper"),
    ("top_k", {"top_k": 5000}, "TopKLogitsWarper"),
    ("top_p", {"top_p": 0.0}, "TopPLogitsWarper"),
    ("top_p", {"top_p": 0.3}, "TopPLogitsWarper"),
    ("top_p", {"top_p": 0.9}, "TopPLogitsWarper"),
    ("top_p", {"top_p": 1.0}, "TopPLogitsWarper"),
    ("top_p", {"top_p": 0.1, "min_tokens_to_keep": 6}, "TopPLogitsWarper"),
    ("top_p", {"top_p": 0.1, "min_tokens_to_keep": 5000}, "TopPLogitsWarper"),
    ("min_p", {"min_p": 0.0}, "MinPLogitsWarper"),
    ("min_p", {"min_p": 0.2}, "MinPLogitsWarper"),
    ("min_p", {"min_p": 1.0}, "MinPLogitsWarper"),
    ("min_p", {"min_p": 0.9, "min_tokens_to_keep": 6}, "MinPLogitsWarper"),
    ("min_p", {"min_p": 0.9, "min_tokens_to_keep": 5000}, "MinPLogitsWarper"),
]


def drawn(kind: str, size: int = 1000, rows: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, size, generator=generator)
    if kind == "ties":  # eight or so different values
        logits = logits.div(2).round()
    if kind == "removed":  # as by a filter before
        logits = logits.masked_fill(logits < 0.5, -torch.inf)
    return logits


@pytest.fixture
def stable_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a CPU torch leaves open which of equal values comes first; on a GPU it is the first.
    monkeypatch.setattr(torch, "sort", partial(torch.sort, stable=True))


def ours(logits: torch.Tensor) -> jax.Array:
    return jnp.asarray(logits.float().numpy()).astype(str(logits.dtype)[6:])


def check_equal(got: jax.Array, wanted: torch.Tensor) -> None:
    assert str(got.dtype) == str(wanted.dtype)[6:]
    np.testing.assert_array_equal(got.astype(jnp.float32), wanted.float().numpy())


@pytest.mark.usefixtures("stable_sort")
@pytest.mark.parametrize("kind", ["distinct", "ties", "removed"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("function", "options", "theirs"), CHANGES)
def test_what_is_kept_is_transformers_choice(
    function: str, options: dict[str, Any], theirs: str, dtype: str, kind: str
) -> None:
    classes = pytest.importorskip("transformers.generation.logits_process")
    for size in (16, 1000):
        logits = drawn(kind, size).to(DTYPES[dtype])
        wanted = getattr(classes, theirs)(**options)(None, logits)
        value, *least = options.values()
        got = getattr(sampling, function)(ours(logits), value, *least)
        if function == "min_p" and least and kind == "ties":
            # Which of equal ones make up the least number is open: torch.topk says nothing of it.
            got, wanted = jnp.sort(got, axis=-1), wanted.sort()[0]
        check_equal(got, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_a_penalty_is_that_of_transformers(penalty: float, dtype: str) -> None:
    classes = pytest.importorskip("transformers.generation.logits_process")
    logits = drawn("removed", 50, 3).to(DTYPES[dtype])
    ids = torch.randint(0, 60, (3, 40), generator=torch.Generator().manual_seed(1))
    padding = torch.tensor([0, 7, 39])
    theirs = classes.RepetitionPenaltyLogitsProcessor(penalty, prompt_ignore_length=padding)
    mask = jnp.arange(40)[None] >= jnp.asarray(padding.numpy())[:, None]
    got = sampling.repetition_penalty(ours(logits), jnp.asarray(ids.numpy()), penalty, mask)
    check_equal(got, theirs(ids, logits))
    theirs = classes.RepetitionPenaltyLogitsProcessor(penalty)
    got = sampling.repetition_penalty(ours(logits), jnp.asarray(ids.numpy()), penalty)
    check_equal(got, theirs(ids, logits))


def processed_by_transformers(
    logits: torch.Tensor, ids: torch.Tensor, options: dict[str, Any]
) -> torch.Tensor:
    """What `generate` makes of logits, with the processors in its own order."""
    pytest.importorskip("transformers")
    from transformers import GenerationConfig
    from transformers.generation.utils import GenerationMixin

    class Model(GenerationMixin):
        config = SimpleNamespace(is_encoder_decoder=False)

    config = GenerationConfig(do_sample=True, **{"top_k": None, **options})
    processors = Model()._get_logits_processor(config, input_ids_seq_length=ids.shape[1])
    processed: torch.Tensor = processors(ids, logits)
    return processed


TOGETHER = {
    "repetition_penalty": 1.4, "temperature": 0.6, "top_k": 9, "top_p": 0.9, "min_p": 0.02,
}  # fmt: skip
IDS = torch.tensor([[3, 3, 5, 0, 11]])


@pytest.mark.usefixtures("stable_sort")
@pytest.mark.parametrize("kind", ["distinct", "ties"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_together_are_those_of_transformers(dtype: str, kind: str) -> None:
    logits = drawn(kind, 200, 16).to(DTYPES[dtype])
    ids = torch.randint(0, 200, (16, 30), generator=torch.Generator().manual_seed(1))
    wanted = processed_by_transformers(logits, ids, TOGETHER)
    process = jax.jit(partial(sampling.process, **TOGETHER))  # where XLA might skip a rounding
    check_equal(process(ours(logits), jnp.asarray(ids.numpy())), wanted)


OPTIONS = [{name: value} for name, value in TOGETHER.items()]


@pytest.mark.parametrize("options", [{}, *OPTIONS, TOGETHER], ids="-".join)
def test_tokens_are_drawn_as_often_as_transformers_says(options: dict[str, Any]) -> None:
    logits = drawn("distinct", 12, 1)
    wanted = processed_by_transformers(logits, IDS, options).double().softmax(-1).numpy()[0]
    processed = sampling.process(ours(logits), jnp.asarray(IDS.numpy()), **options)
    count = 20_000
    tokens = sampling.sample(jax.random.key(7), jnp.broadcast_to(processed, (count, 12)))
    observed = np.bincount(np.asarray(tokens), minlength=12)
    assert not observed[wanted == 0].any()
    # The rare ones are counted together, or the statistic is not distributed as it says.
    often = count * wanted >= 5
    rest = [observed[~often].sum()], [count * wanted[~often].sum()]
    observed, expected = (
        np.append(a[often], b) for a, b in zip((observed, count * wanted), rest, strict=True)
    )
    kept = expected > 0
    if kept.sum() > 1:
        assert stats.chisquare(observed[kept], expected[kept]).pvalue > 1e-3


def test_options_may_be_traced() -> None:
    logits, ids = ours(drawn("ties", 200)), jnp.asarray(np.arange(8)[:, None])
    traced = {"repetition_penalty": 1.5, "temperature": 0.75, "top_p": 0.75, "min_p": 0.125}

    @jax.jit
    def process(options: Any) -> jax.Array:
        return sampling.process(logits, ids, top_k=50, **options)

    wanted = sampling.process(logits, ids, top_k=50, **traced)
    got = process({name: jnp.float32(value) for name, value in traced.items()})
    np.testing.assert_array_equal(np.isneginf(got), np.isneginf(wanted))
    np.testing.assert_allclose(got, wanted, rtol=2**-22)


def test_of_equal_ones_at_the_boundary() -> None:
    logits = jnp.zeros((1, 4))
    assert jnp.isfinite(sampling.top_k(logits, 2)).tolist() == [[True] * 4]
    # A sum of exactly 1 - p goes.
    assert jnp.isfinite(sampling.top_p(logits, 0.5)).tolist() == [[False, False, True, True]]
    assert jnp.isfinite(sampling.min_p(logits, 1.0)).tolist() == [[True] * 4]
    assert jnp.isfinite(sampling.top_p(logits, 0.0)).tolist() == [[False, False, False, True]]


def test_what_is_not_a_number_stays_so() -> None:
    logits = jnp.array([[1.0, math.nan, 3.0]])
    kept = [sampling.top_k(logits, 1), sampling.top_p(logits, 0.5), sampling.min_p(logits, 0.5)]
    classes = pytest.importorskip("transformers.generation.logits_process")
    theirs = (
        classes.TopKLogitsWarper(1),
        classes.TopPLogitsWarper(0.5),
        classes.MinPLogitsWarper(0.5),
    )
    for got, warper in zip(kept, theirs, strict=True):
        np.testing.assert_array_equal(got, warper(None, torch.tensor(np.asarray(logits))).numpy())


def test_a_row_is_drawn_from_by_itself() -> None:
    logits = jnp.full((3, 5), -jnp.inf).at[jnp.arange(3), jnp.array([4, 0, 2])].set(0.0)
    assert sampling.sample(jax.random.key(0), logits.astype(jnp.bfloat16)).tolist() == [4, 0, 2]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"temperature": 0.0}, ValueError, "`temperature` must be positive, got 0.0; .*greedy"),
        ({"temperature": -1}, ValueError, "`temperature` must be positive, got -1"),
        ({"temperature": "hot"}, TypeError, "`temperature` must be a number, got 'hot'"),
        ({"top_k": -1}, ValueError, "`k` must be at least 1, got -1"),
        ({"top_k": 2.0}, TypeError, "`k` must be an int, got 2.0"),
        ({"top_p": 1.1}, ValueError, "`p` must lie between 0 and 1, got 1.1"),
        ({"min_p": -0.1}, ValueError, "`p` must lie between 0 and 1, got -0.1"),
        ({"min_p": 0.1, "min_tokens_to_keep": 0}, ValueError, "`min_tokens_to_keep` .* got 0"),
        ({"repetition_penalty": 0}, ValueError, "`penalty` must be positive, got 0"),
        ({"repetition_penalty": 2.0, "ids": None}, ValueError, "pass ids="),
    ],
)
def test_what_has_no_meaning_is_refused(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    given = {"ids": jnp.zeros((1, 2), int), **options}
    with pytest.raises(error, match=text):
        sampling.process(jnp.zeros((1, 4)), **given)


def test_logits_are_floating_point_and_have_a_dimension() -> None:
    with pytest.raises(TypeError, match="`logits` must be of a floating-point dtype, got int32"):
        sampling.sample(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
    with pytest.raises(ValueError, match=r"`logits` must be of shape .* got a scalar"):
        sampling.top_p(jnp.float32(1), 0.5)
