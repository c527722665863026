"""The properties of layers that draw: each passes what is right, and says what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnspec.backend import Step, StepResult
from nnspec.properties import check_property

GENERATOR = np.random.default_rng(0)
INPUT = GENERATOR.normal(size=(500, 4)).astype(np.float32)
COTANGENT = GENERATOR.normal(size=(500, 4)).astype(np.float32)


def checked(block: dict[str, Any], output: Any, gradient: Any = None, given: Any = INPUT) -> bool:
    """Whether a call with this output and gradient has a property."""
    step = Step(
        "train", {"input": given}, outputs=["output"], wrt=["input"],
        cotangents={"output": COTANGENT}, seed=0,
    )  # fmt: skip
    gradients = {} if gradient is None else {"input": np.asarray(gradient, np.float32)}
    result = StepResult({"output": np.asarray(output, np.float32)}, gradients, {})
    return check_property(block, step, result, None) is None


def softmax(array: np.ndarray) -> np.ndarray:
    exponentials = np.exp(array)
    return exponentials / exponentials.sum(-1, keepdims=True)


def test_slopes() -> None:
    slopes = GENERATOR.uniform(0.25, 0.75, INPUT.shape)
    output = np.where(INPUT > 0, INPUT, slopes * INPUT)
    block = {"check": "slopes", "low": 0.25, "high": 0.75}
    assert checked(block, output)
    assert not checked(block, np.where(INPUT > 0, INPUT, 0.5 * INPUT))
    assert not checked(block, slopes * INPUT)
    assert not checked({**block, "high": 0.5}, output)
    gradient = COTANGENT * np.where(INPUT > 0, 1, slopes)
    assert checked({"check": "gradient_slopes"}, output, gradient)
    assert not checked({"check": "gradient_slopes"}, output, COTANGENT / 2)


def test_dropped_to_a_value() -> None:
    kept = GENERATOR.random(INPUT.shape) < 0.75
    positive = np.abs(INPUT)
    output = np.where(kept, 2 * positive + 1, -0.5)
    share = {"check": "zero_share", "p": 0.25, "dropped": -0.5}
    assert checked(share, output)
    assert not checked({**share, "p": 0.5}, output)
    survivors = {"check": "survivors", "dropped": -0.5, "scale": 2, "offset": 1}
    assert checked(survivors, output, given=positive)
    assert not checked({**survivors, "offset": 0}, output, given=positive)
    assert not checked({"check": "whole_channels", "axes": [1], "dropped": -0.5}, output)
    columns = np.where(kept[:, :1], output, -0.5) * np.ones((1, 4))
    whole = np.where(kept[:, :1], np.abs(columns), -0.5)
    assert checked({"check": "whole_channels", "axes": [1], "dropped": -0.5}, whole)


def test_categorical_draws() -> None:
    noise = GENERATOR.gumbel(size=INPUT.shape)
    soft, hard = softmax(INPUT + noise), np.eye(4)[(INPUT + noise).argmax(-1)]
    assert checked({"check": "sums", "axis": -1, "value": 1}, soft)
    assert not checked({"check": "sums", "axis": 0, "value": 1}, soft)
    assert checked({"check": "one_hot", "axis": -1}, hard)
    assert not checked({"check": "one_hot", "axis": -1}, soft)
    assert checked({"check": "categorical", "axis": -1}, hard)
    assert not checked({"check": "categorical", "axis": -1}, np.eye(4)[INPUT.argmax(-1)])
    product = soft * COTANGENT
    gradient = 2 * (product - soft * product.sum(-1, keepdims=True))
    assert checked({"check": "softmax_gradient", "axis": -1, "scale": 2}, soft, gradient)
    assert not checked({"check": "softmax_gradient", "axis": -1, "scale": 1}, soft, gradient)
    assert checked({"check": "sums", "of": "gradient", "axis": -1, "value": 0}, soft, gradient)
    assert checked({"check": "some_gradient"}, hard, gradient)
    assert not checked({"check": "some_gradient"}, hard, 0 * gradient)


def test_elements() -> None:
    assert checked({"check": "elements"}, INPUT[::-1], COTANGENT[::-1])
    assert not checked({"check": "elements"}, INPUT[::-1], COTANGENT)
    assert not checked({"check": "elements"}, (INPUT + INPUT[::-1]) / 2)
