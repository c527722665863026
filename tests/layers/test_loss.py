"""What the specification cannot say of losses: options at the call, tracing, memory."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnn
import jaxnn.functional as F

X, Y = jnp.array([1.0, -2.0, 0.5]), jnp.array([2.0, 1.0, 0.5])
WEIGHT = jnp.array([1.0, 0.5, 2.0])


@pytest.mark.parametrize(
    ("function", "mean"),
    [(F.l1_loss, 2.5 / 3.5), (F.mse_loss, 5.5 / 3.5), (F.huber_loss, 1.75 / 3)],
)
def test_weights_at_the_call(function: Any, mean: float) -> None:
    np.testing.assert_allclose(function(X, Y, weight=WEIGHT), mean, rtol=1e-6)
    elements = function(X, Y, reduction="none")
    np.testing.assert_allclose(function(X, Y, reduction="none", weight=WEIGHT), elements * WEIGHT)
    total = function(X, Y, reduction="sum", weight=WEIGHT)
    np.testing.assert_allclose(total, (elements * WEIGHT).sum(), rtol=1e-6)
    with pytest.raises(ValueError, match="shapes must be equal"):
        function(X, Y, weight=WEIGHT[:1])


def test_what_reduction_has_replaced_is_refused() -> None:
    with pytest.raises(ValueError, match="reduction='mean'"):
        F.mse_loss(X, Y, True)
    with pytest.raises(ValueError, match="'none' for reduce=False"):
        jaxnn.CrossEntropyLoss(None, None, -100, False)


def test_broadcasting_warns() -> None:
    with pytest.warns(UserWarning, match="broadcast"):
        F.mse_loss(X[:, None], Y)


def test_mixed_dtypes_promote() -> None:
    assert F.mse_loss(X, Y.astype(jnp.bfloat16)).dtype == jnp.float32
    assert F.smooth_l1_loss(X, jnp.array([1, 2, 3])).dtype == jnp.float32
    with pytest.raises(TypeError, match="dtypes must be equal"):
        F.huber_loss(X, Y.astype(jnp.bfloat16))


def test_targets_out_of_range_are_nan_under_jit() -> None:
    logits = jnp.zeros((3, 4))
    target = jnp.array([1, 4, -100])
    for function in (F.cross_entropy, F.nll_loss):
        loss = jax.jit(lambda x, t, f=function: f(x, t, reduction="none"))(logits, target)
        assert jnp.isnan(loss).tolist() == [False, True, False]
        with pytest.raises(IndexError, match="class 4"):
            function(logits, target)
    assert jnp.isnan(jax.jit(F.multi_margin_loss)(logits[:1], jnp.array([-1])))
    assert jnp.isnan(jax.jit(F.multilabel_margin_loss)(logits[:1], jnp.array([[0, 4, -1, -1]])))
    log_probs, one = jnp.zeros((2, 1, 4)), jnp.array([1])
    assert jnp.isnan(jax.jit(F.ctc_loss)(log_probs, jnp.array([[4]]), 2 * one, one))
    assert jnp.isnan(jax.jit(F.ctc_loss)(log_probs, jnp.array([[1]]), 3 * one, one))


def test_options_may_be_traced() -> None:
    half = jnp.float32(0.5)
    logits, target = jnp.array([[1.0, 0.0, -1.0]]), jnp.array([2])
    plain = [
        F.cross_entropy(logits, target, label_smoothing=0.5),
        F.huber_loss(X, Y, delta=0.5),
        F.smooth_l1_loss(X, Y, beta=0.5),
        F.triplet_margin_loss(X, Y, WEIGHT, margin=0.5, eps=0.5),
        F.cosine_similarity(X, Y, 0, 0.5),
    ]

    @jax.jit
    def traced(value: jax.Array) -> list[jax.Array]:
        return [
            F.cross_entropy(logits, target, label_smoothing=value),
            F.huber_loss(X, Y, delta=value),
            F.smooth_l1_loss(X, Y, beta=value),
            F.triplet_margin_loss(X, Y, WEIGHT, margin=value, eps=value),
            F.cosine_similarity(X, Y, 0, value),
        ]

    np.testing.assert_allclose(traced(half), plain, rtol=1e-6)


def test_lengths_as_tuples() -> None:
    log_probs = jax.nn.log_softmax(jnp.sin(jnp.arange(24.0)).reshape(4, 2, 3))
    targets = jnp.array([[1, 2], [2, 0]])
    arrays = F.ctc_loss(log_probs, targets, jnp.array([4, 3]), jnp.array([2, 1]))
    np.testing.assert_allclose(F.ctc_loss(log_probs, targets, (4, 3), (2, 1)), arrays)
    np.testing.assert_allclose(F.ctc_loss(log_probs, jnp.array([1, 2, 2]), [4, 3], [2, 1]), arrays)
    cut = jax.jit(F.ctc_loss)(log_probs, jnp.array([1, 2, 2]), jnp.array([4, 3]), jnp.array([2, 1]))
    np.testing.assert_allclose(cut, arrays, rtol=1e-6)


def test_cross_entropy_holds_no_second_array_of_the_size_of_the_logits() -> None:
    rows, classes = 256, 4096
    logits = jax.ShapeDtypeStruct((rows, classes), jnp.float32)
    target = jax.ShapeDtypeStruct((rows,), jnp.int32)
    compiled = jax.jit(jax.value_and_grad(F.cross_entropy)).lower(logits, target).compile()
    analysis = compiled.memory_analysis()
    if analysis is not None:
        assert analysis.temp_size_in_bytes < rows * classes * 4 / 8


def test_adaptive_log_softmax_of_all_classes() -> None:
    softmax = jaxnn.AdaptiveLogSoftmaxWithLoss(8, 12, [3, 7], div_value=2.0, rngs=nnx.Rngs(0))
    input = jax.random.normal(jax.random.key(1), (5, 8))
    log_prob = softmax.log_prob(input)
    np.testing.assert_allclose(jnp.exp(log_prob).sum(1), 1, rtol=1e-5)
    target = jnp.array([0, 3, 6, 7, 11])
    chosen = jnp.take_along_axis(log_prob, target[:, None], 1)[:, 0]
    np.testing.assert_allclose(softmax(input, target).output, chosen, rtol=1e-5)
    assert softmax.predict(input).shape == (5,)
