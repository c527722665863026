"""The library's settings: the mode of differentiation, and the check of ids."""

import threading

import jax
import jax.numpy as jnp
import pytest

import jaxnn
from jaxnn._config import in_forward_mode
from jaxnn._thresholds import lowered, thresholds
from jaxnn.functional._gradients import straight_through


@jax.custom_vjp
def backward_only(x):
    return 2 * x


backward_only.defvjp(lambda x: (2 * x, None), lambda _, y: (2 * y,))


def layer(x):
    return 2 * x if in_forward_mode() else backward_only(x)


def test_forward_mode_enters_the_callers_caches():
    jitted = jax.jit(jax.jit(layer))
    assert jitted(1.0) == 2.0
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(jitted, (1.0,), (1.0,))
    with jaxnn.forward_mode():
        assert jax.jvp(jitted, (1.0,), (1.0,)) == (2.0, 2.0)
        assert jax.grad(jitted)(1.0) == 2.0
    assert not in_forward_mode()
    assert jax.grad(jitted)(1.0) == 2.0
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(jitted, (1.0,), (1.0,))


def test_forward_mode_holds_for_its_thread():
    seen = []
    with jaxnn.forward_mode():
        thread = threading.Thread(target=lambda: seen.append(in_forward_mode()))
        thread.start()
        thread.join()
    assert seen == [False]


def test_thresholds_enter_the_callers_caches():
    jitted = jax.jit(lambda x: x * thresholds().pooling_taps)
    assert jitted(1) == 32
    with lowered(pooling_taps=4), lowered(attention_scores=8):
        assert jitted(1) == 4
    assert jitted(1) == 32
    with pytest.raises(TypeError, match="pooling_tap"):
        lowered(pooling_tap=4)


def test_check_indices_nests_and_lasts():
    def look_up():
        return jaxnn.functional.embedding(jnp.array([9]), jnp.ones((2, 3)))

    with jaxnn.check_indices(False):
        with jaxnn.check_indices(True), pytest.raises(IndexError):
            look_up()
        assert jnp.isnan(look_up()).all()
    with pytest.raises(IndexError):
        look_up()
    jaxnn.check_indices(False)
    try:
        look_up()
    finally:
        jaxnn.check_indices(True)
    with pytest.raises(TypeError, match="flag"):
        jaxnn.check_indices(0)


def test_straight_through_differentiates_the_old_value():
    def write(w):
        return (straight_through(w, w * w) ** 2).sum()

    w = jnp.array([1.0, 3.0])
    assert (jax.grad(write)(w) == 2 * w * w).all()
    assert (jax.jvp(write, (w,), (jnp.ones(2),))[1] == (2 * w * w).sum()).all()
    assert (jax.hessian(write)(w) == jnp.diag(jnp.array([2.0, 2.0]))).all()
