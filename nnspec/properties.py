"""What is checked of layers that draw: shares, scales, masks and moments instead of values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .backend import Step, StepResult
from .tensors import UNIT_ROUNDOFF

SIGMAS = 5.0
ROUNDINGS = 8.0
"""So many units of roundoff may a scaled value be off, relatively."""


@dataclass(frozen=True)
class _Call:
    """A call that drew, in float64, and the options of the property that is looked at."""

    options: Mapping[str, Any]
    input: np.ndarray
    output: np.ndarray
    previous: np.ndarray | None
    cotangent: np.ndarray | None
    gradient: np.ndarray | None
    tolerance: float

    def option(self, name: str, default: Any = None) -> float:
        return float(self.options.get(name, default))

    @property
    def kept(self) -> np.ndarray:
        """Where the output is not what the dropped elements are."""
        dropped = self.option("dropped", 0.0)
        return np.abs(self.output - dropped) > self.tolerance * abs(dropped)

    def near(self, what: str, got: np.ndarray, wanted: np.ndarray) -> str | None:
        """What is wrong where `got` should be `wanted`, but for rounding."""
        worst = np.max(np.abs(got - wanted) / np.maximum(np.abs(wanted), 1e-300), initial=0.0)
        if not np.array_equal(got == 0, wanted == 0) or worst > self.tolerance:
            return f"{what}: relative error {worst:.3g}"
        return None


def check_property(
    block: Mapping[str, Any],
    step: Step,
    result: StepResult,
    previous: StepResult | None,
) -> str | None:
    """What is wrong with one property of a call's result, or None.

    An element is dropped where the output is ``dropped``, by default 0.

    ``zero_share``: the share of dropped elements is ``p`` within 5 sigma. ``survivors``: what is
    not dropped is the input times ``scale``, plus ``offset``. ``gradient_mask``: the gradient is
    the cotangent times ``scale`` where an element is not dropped, else 0. ``whole_channels``: each
    slice over ``axes`` is dropped as a whole or not at all. ``fresh_draw``: the output differs from
    that of the call before, whose input is the same.

    ``slopes``: what is positive is kept, and the rest is scaled by slopes with the distribution
    U(``low``, ``high``). ``gradient_slopes``: the gradient is the cotangent times the same slopes.

    ``sums``: the ``of`` (output or gradient) has the sum ``value`` along ``axis``. ``one_hot``: the
    output is 1 once along ``axis``, else 0. ``categorical``: such an output is drawn with the
    probabilities softmax(input) along ``axis``: the sum of the drawn inputs is the expected one
    within 5 sigma. ``softmax_gradient``: the gradient is that of a softmax along ``axis``, of which
    the output is the value, times ``scale``. ``some_gradient``: it is not zero throughout.

    ``elements``: each element of the output is one of the input, whose elements differ, and has
    that element's cotangent.
    """
    name = block.get("output", step.outputs[0])
    input_name = block.get("input", next(iter(step.inputs)))
    earlier = previous.outputs[name] if previous is not None else None
    gradient = result.gradients.get(input_name)
    call = _Call(
        block,
        _wide(step.inputs[input_name]),
        _wide(result.outputs[name]),
        None if earlier is None else _wide(earlier),
        None if step.cotangents is None else _wide(step.cotangents[name]),
        None if gradient is None else _wide(gradient),
        ROUNDINGS * UNIT_ROUNDOFF[result.outputs[name].dtype.name],
    )
    return _CHECKS[block["check"]](call)


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64)


def _zero_share(call: _Call) -> str | None:
    kept, probability = call.kept, call.option("p")
    sigma = math.sqrt(max(probability * (1 - probability) * kept.size, 1e-9))
    zeros = kept.size - int(kept.sum())
    # The second term is Bernstein's: few elements are not distributed normally.
    if abs(zeros - probability * kept.size) > SIGMAS * sigma + SIGMAS**2 / 3:
        return f"{zeros} of {kept.size} are dropped; p is {probability:g}, sigma {sigma:.1f}"
    return None


def _survivors(call: _Call) -> str | None:
    wanted = call.input * call.option("scale") + call.option("offset", 0.0)
    return call.near("survivors", call.output[call.kept], wanted[call.kept])


def _gradient_mask(call: _Call) -> str | None:
    assert call.gradient is not None
    assert call.cotangent is not None
    wanted = call.cotangent * call.option("scale") * call.kept
    return call.near("gradient", call.gradient, wanted)


def _whole_channels(call: _Call) -> str | None:
    axes = tuple(axis for axis in call.options["axes"] if axis < call.output.ndim)
    if (call.kept.any(axes) != call.kept.all(axes)).any() and call.kept.size:
        return f"a slice over axes {list(axes)} is dropped in part"
    return None


def _fresh_draw(call: _Call) -> str | None:
    if call.previous is None or np.array_equal(call.output, call.previous):
        return "the output is that of the call before"
    return None


def _slopes(call: _Call) -> str | None:
    rest = call.input < 0
    wrong = call.near("positive part", call.output[call.input > 0], call.input[call.input > 0])
    low, high = call.option("low"), call.option("high")
    slopes = call.output[rest] / call.input[rest]
    inside = np.clip(slopes, low, high)
    if (np.abs(slopes - inside) > call.tolerance * np.abs(inside)).any():
        return f"slopes from {slopes.min():g} to {slopes.max():g}, wanted {low:g} to {high:g}"
    # Rounding alone may put a slope outside.
    return wrong or check_distribution({"dist": "uniform", "low": low, "high": high}, inside)


def _gradient_slopes(call: _Call) -> str | None:
    assert call.gradient is not None
    assert call.cotangent is not None
    some = call.input != 0
    wanted = call.cotangent[some] * call.output[some] / call.input[some]
    return call.near("gradient", call.gradient[some], wanted)


def _sums(call: _Call) -> str | None:
    axis, value = int(call.option("axis")), call.option("value")
    array, sizes = call.output, np.abs(call.output)
    if call.options.get("of") == "gradient":
        assert call.gradient is not None
        assert call.cotangent is not None
        # What cancels in a gradient is of the cotangent's size.
        array, sizes = call.gradient, np.abs(call.gradient) + np.abs(call.cotangent)
    error = np.abs(array.sum(axis) - value)
    if (error > call.tolerance * (sizes.sum(axis) + abs(value))).any():
        return f"a sum is off by {error.max():.3g}"
    return None


def _one_hot(call: _Call) -> str | None:
    axis = int(call.option("axis"))
    ones = np.abs(call.output - 1) <= call.tolerance
    if (ones.sum(axis) != 1).any() or call.output[~ones].any():
        return "it is not 1 once and 0 else"
    return None


def _categorical(call: _Call) -> str | None:
    axis = int(call.option("axis"))
    exponentials = np.exp(call.input - call.input.max(axis, keepdims=True))
    shares = exponentials / exponentials.sum(axis, keepdims=True)
    expected = (shares * call.input).sum(axis)
    variance = (shares * call.input**2).sum() - (expected**2).sum()
    drawn = (call.output * call.input).sum()
    if abs(drawn - expected.sum()) > SIGMAS * math.sqrt(max(variance, 1e-9)):
        return f"the drawn inputs sum to {drawn:g}, wanted {expected.sum():g}"
    return None


def _softmax_gradient(call: _Call) -> str | None:
    assert call.gradient is not None
    product = call.output * call.cotangent
    axis = int(call.option("axis"))
    scale = call.option("scale")
    wanted = scale * (product - call.output * product.sum(axis, keepdims=True))
    sizes = abs(scale) * np.abs(product).sum(axis, keepdims=True)
    if (np.abs(call.gradient - wanted) > call.tolerance * (sizes + 1e-30)).any():
        return "the gradient is not that of a softmax"
    return None


def _some_gradient(call: _Call) -> str | None:
    return None if call.gradient is not None and call.gradient.any() else "the gradient is zero"


def _elements(call: _Call) -> str | None:
    values, places = np.unique(call.input, return_inverse=True)
    strange = call.output[~np.isin(call.output, values)]
    if strange.size:
        return f"{strange[0]:g} is no element of the input"
    if call.gradient is None or call.cotangent is None:
        return None
    wanted = np.zeros(values.size)
    np.add.at(wanted, np.searchsorted(values, call.output.ravel()), call.cotangent.ravel())
    return call.near("gradient", call.gradient.ravel(), wanted[places.ravel()])


_CHECKS = {
    "zero_share": _zero_share,
    "survivors": _survivors,
    "gradient_mask": _gradient_mask,
    "whole_channels": _whole_channels,
    "fresh_draw": _fresh_draw,
    "slopes": _slopes,
    "gradient_slopes": _gradient_slopes,
    "sums": _sums,
    "one_hot": _one_hot,
    "categorical": _categorical,
    "softmax_gradient": _softmax_gradient,
    "some_gradient": _some_gradient,
    "elements": _elements,
}


def check_distribution(init: Mapping[str, Any], values: np.ndarray) -> str | None:
    """Moments, range and a Kolmogorov-Smirnov test of a drawn initialisation, or None."""
    values = values.astype(np.float64)
    row = init.get("zero_row")
    if row is not None:
        if values[row].any():
            return f"row {row} is not zero"
        values = np.delete(values, row, axis=0)
    values = values.reshape(-1)
    if init["dist"] == "uniform":
        low, high = init["low"], init["high"]
        slack = 1e-2 * (high - low)  # the cast to bfloat16 may round up past the bound
        if values.size and (values.min() < low - slack or values.max() > high + slack):
            return f"range [{values.min():g}, {values.max():g}] exceeds [{low:g}, {high:g}]"
        mean, std = (low + high) / 2, (high - low) / math.sqrt(12)
        cumulative = np.clip((np.sort(values) - low) / max(high - low, 1e-300), 0, 1)
    else:
        mean, std = init["mean"], init["std"]
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
