"""What is checked of layers that draw: shares, scales, masks and moments instead of values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import expression
from .backend import Step, StepResult

SIGMAS = 5.0


def check_property(
    block: Mapping[str, Any],
    step: Step,
    result: StepResult,
    previous: StepResult | None,
    names: Mapping[str, Any],
) -> str | None:
    """What is wrong with one property of a call's result, or None.

    ``zero_share``: the share of zeros is ``p`` within 5 sigma. ``survivors``: what is not zero is
    the input times ``scale``. ``gradient_mask``: the gradient is the cotangent times ``scale``
    where the output is not zero, else 0. ``whole_channels``: each slice over ``axes`` is all
    zero or nowhere zero. ``fresh_draw``: the zeros differ from those of the call before.
    """
    output = result.outputs[block.get("output", step.outputs[0])].astype(np.float64)
    name = block.get("input", next(iter(step.inputs)))
    value = step.inputs[name].astype(np.float64)
    kept = output != 0
    if block["check"] == "zero_share":
        probability = _value(block["p"], names)
        sigma = math.sqrt(max(probability * (1 - probability) * kept.size, 1e-9))
        zeros = kept.size - int(kept.sum())
        if abs(zeros - probability * kept.size) > SIGMAS * sigma:
            return f"{zeros} of {kept.size} are zero; p is {probability:g}, sigma {sigma:.1f}"
    elif block["check"] == "survivors":
        scale = _value(block["scale"], names)
        return _near("survivors", output[kept], (value * scale)[kept], output)
    elif block["check"] == "gradient_mask":
        scale = _value(block["scale"], names)
        cotangents = step.cotangents or {}
        wanted = cotangents[block.get("output", step.outputs[0])].astype(np.float64) * scale * kept
        return _near("gradient", result.gradients[name].astype(np.float64), wanted, output)
    elif block["check"] == "whole_channels":
        axes = tuple(block["axes"])
        if (kept.any(axes) != kept.all(axes)).any():
            return f"a slice over axes {list(axes)} is zero in part"
    elif previous is None or np.array_equal(
        kept, previous.outputs[block.get("output", step.outputs[0])] != 0
    ):
        return "the same elements are zero as in the call before"
    return None


def _value(text: Any, names: Mapping[str, Any]) -> float:
    return float(expression.evaluate(text, names) if isinstance(text, str) else text)


def _near(what: str, got: np.ndarray, wanted: np.ndarray, like: np.ndarray) -> str | None:
    # Three roundings at most: 1/(1-p), the product, and the cast to the dtype. The dtype is
    # read off the wanted values' own rounding: 2^-7 covers bfloat16.
    worst = np.max(np.abs(got - wanted) / np.maximum(np.abs(wanted), 1e-300), initial=0.0)
    if not np.array_equal(got == 0, wanted == 0) or worst > 2.0**-7:
        return f"{what}: relative error {worst:.3g}"
    return None


def check_distribution(
    init: Mapping[str, Any], values: np.ndarray, names: Mapping[str, Any]
) -> str | None:
    """Moments, range and a Kolmogorov-Smirnov test of a drawn initialisation, or None."""
    values = values.astype(np.float64)
    if init.get("zero_row") is not None:
        row = expression.evaluate(init["zero_row"], names)
        if row is not None:
            if values[row].any():
                return f"row {row} is not zero"
            values = np.delete(values, row, axis=0)
    values = values.reshape(-1)
    if init["dist"] == "uniform":
        low, high = _value(init["low"], names), _value(init["high"], names)
        slack = 1e-2 * (high - low)  # the cast to bfloat16 may round up past the bound
        if values.size and (values.min() < low - slack or values.max() > high + slack):
            return f"range [{values.min():g}, {values.max():g}] exceeds [{low:g}, {high:g}]"
        mean, std = (low + high) / 2, (high - low) / math.sqrt(12)
        cumulative = np.clip((np.sort(values) - low) / max(high - low, 1e-300), 0, 1)
    else:
        mean, std = _value(init["mean"], names), _value(init["std"], names)
        cumulative = np.array(
            [0.5 * (1 + math.erf((v - mean) / std / math.sqrt(2))) for v in np.sort(values)]
        )
    if values.size < 64:
        return None
    count = values.size
    if abs(values.mean() - mean) > SIGMAS * std / math.sqrt(count):
        return f"mean {values.mean():g}, wanted {mean:g}"
    # The variance of the sample variance is at most 2 sigma^4 / n for both distributions.
    if abs(values.var() - std**2) > SIGMAS * std**2 * math.sqrt(2 / count):
        return f"standard deviation {values.std():g}, wanted {std:g}"
    steps = np.arange(count + 1) / count
    distance = max((steps[1:] - cumulative).max(), (cumulative - steps[:-1]).max())
    if distance > 2.3 / math.sqrt(count) + 4e-3:  # p about 5e-5, and bfloat16's steps
        return f"Kolmogorov-Smirnov distance {distance:.4f} over {count} values"
    return None
