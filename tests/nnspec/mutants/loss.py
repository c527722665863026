"""Wrong losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

import jaxnn
from jaxnn import functional as F
from jaxnn.functional.loss._classes import log_sum_exp

from . import Make, mutant, reconfigured

fixed = jax.lax.stop_gradient


def calling(change: Callable[..., dict[str, Any]]) -> Make:
    """Return the mutation that calls the layer with `change(layer, **inputs)`."""

    def make(layer: Any) -> Any:
        class Mutant(layer):
            def __call__(self, **inputs: Any) -> Any:
                return super().__call__(**change(self, **inputs))

        return Mutant

    return make


def reducing(elements: Callable[..., Array]) -> Make:
    """Return the mutation whose loss of each element is `elements(layer, **inputs)`."""

    def make(layer: Any) -> Any:
        class Mutant(layer):
            def __call__(self, **inputs: Any) -> Any:
                loss = elements(self, **inputs)
                if self.reduction == "none":
                    return loss
                return loss.mean() if self.reduction == "mean" else loss.sum()

        return Mutant

    return make


def of_elements(layer: Any, original: type[Any], inputs: dict[str, Any]) -> Array:
    """Return what the right layer gives for each element."""
    reduction, layer.reduction = layer.reduction, "none"
    loss: Array = original.__call__(layer, **inputs)
    layer.reduction = reduction
    return loss


def averaging(mean: Callable[..., Array]) -> Make:
    """Return the mutation whose mean is `mean(layer, losses, **inputs)`."""

    def make(layer: Any) -> Any:
        class Mutant(layer):
            def __call__(self, **inputs: Any) -> Any:
                if self.reduction != "mean":
                    return super().__call__(**inputs)
                return mean(self, of_elements(self, layer, inputs), **inputs)

        return Mutant

    return make


def with_options(**options: Any) -> Make:
    return lambda layer: reconfigured(layer, **options)


def weights_of(layer: Any) -> Array | None:
    return None if layer.weight is None else layer.weight[...]


ROWS = ("L1Loss.M01", "MSELoss.M01", "HuberLoss.M01", "SmoothL1Loss.M01", "GaussianNLLLoss.M05")
ROWS += ("HingeEmbeddingLoss.M04", "MarginRankingLoss.M04", "SoftMarginLoss.M03", "BCELoss.M05")
ROWS += ("KLDivLoss.M01",)
mutant(*ROWS)(averaging(lambda self, loss, **inputs: loss.sum() / loss.shape[0]))

SUMS = ("L1Loss.M02", "MSELoss.M02", "HuberLoss.M02", "SmoothL1Loss.M02", "SoftMarginLoss.M04")
SUMS += ("NLLLoss.M05", "MultiLabelMarginLoss.M04", "MultiLabelSoftMarginLoss.M05")
mutant(*SUMS)(with_options(reduction=lambda given: "mean" if given == "sum" else given))

CONSTANT = ("L1Loss.M03", "MSELoss.M03", "HuberLoss.M03", "SmoothL1Loss.M03", "KLDivLoss.M05")
CONSTANT += ("PoissonNLLLoss.M05", "BCELoss.M04", "BCEWithLogitsLoss.M05")
CONSTANT += ("MultiLabelSoftMarginLoss.M04", "CrossEntropyLoss.M08")
mutant(*CONSTANT)(
    calling(
        lambda self, target, **inputs: {
            **inputs,
            "target": fixed(target) if jnp.issubdtype(target.dtype, jnp.floating) else target,
        }
    )
)

WEIGHTS = ("BCELoss.M02", "BCEWithLogitsLoss.M04", "CrossEntropyLoss.M04", "NLLLoss.M04")
WEIGHTS += ("LinearCrossEntropyLoss.M01", "MultiLabelSoftMarginLoss.M02")


@mutant(*WEIGHTS)
def without_weights(layer: Any) -> Any:
    class Mutant(layer):
        def __call__(self, **inputs: Any) -> Any:
            if self.weight is not None:
                self.weight[...] = jnp.ones_like(self.weight[...])
            return super().__call__(**inputs)

    return Mutant


# Numbers.

mutant("L1Loss.M04")(reducing(lambda self, input, target: (input - target) ** 2))
mutant("L1Loss.M05")(reducing(lambda self, input, target: jnp.abs(input - target)))
mutant("MSELoss.M04")(reducing(lambda self, input, target: jnp.abs(input - target)))
mutant("MSELoss.M05")(reducing(lambda self, input, target: (input - target) ** 2 / 2))
mutant("HuberLoss.M04")(with_options(delta=1.0))
mutant("HuberLoss.M05")(
    reducing(lambda self, **i: F.smooth_l1_loss(**i, reduction="none", beta=self.delta))
)
mutant("SmoothL1Loss.M04")(with_options(beta=1.0))
mutant("SmoothL1Loss.M05")(
    reducing(lambda self, **i: F.huber_loss(**i, reduction="none", delta=self.beta or 1.0))
)


@mutant("SmoothL1Loss.M06")
@reducing
def divided_by_beta(self: Any, input: Array, target: Array) -> Array:
    error = jnp.abs(input - target)
    return jnp.where(error <= self.beta, error**2 / (2 * self.beta), error - self.beta / 2)


mutant("KLDivLoss.M02")(with_options(log_target=False))
mutant("KLDivLoss.M03")(with_options(log_target=True))
mutant("KLDivLoss.M04")(reducing(lambda self, input, target: target * (jnp.log(target) - input)))
mutant("PoissonNLLLoss.M01")(with_options(log_input=True))
mutant("PoissonNLLLoss.M02")(with_options(full=False))
mutant("PoissonNLLLoss.M04")(with_options(eps=1e-8))


@mutant("PoissonNLLLoss.M03")
@reducing
def stirling_everywhere(self: Any, log_input: Array, target: Array) -> Array:
    plain = F.poisson_nll_loss(log_input, target, self.log_input, reduction="none")
    stirling = target * jnp.log(target) - target + jnp.log(2 * jnp.pi * target) / 2
    return plain + (stirling if self.full else 0)


mutant("GaussianNLLLoss.M01")(with_options(full=False))
mutant("GaussianNLLLoss.M02")(
    calling(lambda self, var, **inputs: {**inputs, "var": var + self.eps})
)
mutant("GaussianNLLLoss.M03")(
    calling(lambda self, var, **inputs: {**inputs, "var": jnp.maximum(var, self.eps)})
)
mutant("GaussianNLLLoss.M04")(calling(lambda self, var, **inputs: {**inputs, "var": var**2}))


# Classes.


@mutant("NLLLoss.M01", "CrossEntropyLoss.M01")
def mean_over_targets(layer: Any) -> Any:
    def mean(self: Any, loss: Array, target: Array, **inputs: Any) -> Array:
        if jnp.issubdtype(target.dtype, jnp.floating):
            return loss.mean()
        return loss.sum() / (target != self.ignore_index).sum()

    return averaging(mean)(layer)


mutant("NLLLoss.M02", "CrossEntropyLoss.M02")(averaging(lambda self, loss, **inputs: loss.mean()))


@mutant("NLLLoss.M03", "CrossEntropyLoss.M03")
@calling
def classes_last(self: Any, input: Array, target: Array) -> dict[str, Array]:
    return {"input": jnp.moveaxis(input, -1, 1) if input.ndim > 2 else input, "target": target}


@mutant("CrossEntropyLoss.M05")
def smoothed_to_others(layer: Any) -> Any:
    class Mutant(layer):
        def __call__(self, input: Array, target: Array) -> Any:
            classes = input.shape[min(input.ndim, 2) - 1]
            share, self.label_smoothing = self.label_smoothing, 0.0
            if not jnp.issubdtype(target.dtype, jnp.floating):
                self.label_smoothing = share * classes / (classes - 1)
            return super().__call__(input=input, target=target)

    return Mutant


@mutant("CrossEntropyLoss.M06")
def overflowing(layer: Any) -> Any:
    def change(self: Any, input: Array, target: Array) -> dict[str, Array]:
        axis = min(input.ndim, 2) - 1
        return {"input": input - jnp.expand_dims(log_sum_exp(input, axis), axis), "target": target}

    return calling(change)(layer)


@mutant("CrossEntropyLoss.M07")
def probabilities_over_weights(layer: Any) -> Any:
    class Mutant(layer):
        def __call__(self, input: Array, target: Array) -> Any:
            loss = super().__call__(input=input, target=target)
            if self.weight is None or not jnp.issubdtype(target.dtype, jnp.floating):
                return loss
            return loss / self.weight[...].mean()

    return Mutant


@mutant("cross_entropy.M01")
def unweighted(function: Any) -> Any:
    return lambda input, target, weight=None, **options: function(input, target, **options)


@mutant("cross_entropy.M02")
def unsmoothed(function: Any) -> Any:
    return lambda input, target, weight=None, label_smoothing=0.0, **options: function(
        input, target, weight, **options
    )


@mutant("cross_entropy.M03")
def constant_probabilities(function: Any) -> Any:
    return lambda input, target, weight=None, **options: function(
        input, fixed(target), weight, **options
    )


@mutant("cross_entropy.M04")
def mean_over_elements(function: Any) -> Any:
    def wrong(input: Array, target: Array, weight: Any = None, **options: Any) -> Array:
        loss = function(input, target, weight, **options)
        classes = input.shape[min(input.ndim, 2) - 1]
        return loss / classes if options.get("reduction", "mean") == "mean" else loss

    return wrong


mutant("LinearCrossEntropyLoss.M02")(with_options(ignore_index=None))
mutant("LinearCrossEntropyLoss.M04")(with_options(label_smoothing=0.0))


@mutant("LinearCrossEntropyLoss.M03")
def without_bias(layer: Any) -> Any:
    class Mutant(layer):
        def __call__(self, **inputs: Any) -> Any:
            if self.linear.bias is not None:
                self.linear.bias[...] = jnp.zeros_like(self.linear.bias[...])
            return super().__call__(**inputs)

    return Mutant


@mutant("AdaptiveLogSoftmaxWithLoss.M01")
def without_cluster(layer: Any) -> Any:
    class Mutant(layer):
        def __call__(self, input_: Array, target_: Array) -> Any:
            right = super().__call__(input_, target_)
            head = jax.nn.log_softmax(self.head(input_))[..., self.shortlist_size]
            output = jnp.where(target_ < self.shortlist_size, right.output, right.output - head)
            return output, -output.mean()

    return Mutant


@mutant("AdaptiveLogSoftmaxWithLoss.M02")
def summed(layer: Any) -> Any:
    class Mutant(layer):
        def __call__(self, input_: Array, target_: Array) -> Any:
            output = super().__call__(input_, target_).output
            return output, -output.sum()

    return Mutant


@mutant("AdaptiveLogSoftmaxWithLoss.M03")
def clusters_reversed(layer: Any) -> Any:
    class Mutant(layer):
        def __call__(self, input_: Array, target_: Array) -> Any:
            weight, size = self.head.weight[...], self.shortlist_size
            self.head.weight[...] = jnp.concatenate([weight[:size], weight[size:][::-1]])
            return super().__call__(input_, target_)

    return Mutant


@mutant("AdaptiveLogSoftmaxWithLoss.M04")
def clusters_alike(layer: Any) -> Any:
    class Mutant(layer):
        def __init__(self, *values: Any, **options: Any) -> None:
            super().__init__(*values, **options)
            size = self.tail[0][0].out_features
            for pair in list(self.tail)[1:]:
                rngs = nnx.Rngs(0)
                pair[0] = jaxnn.Linear(self.in_features, size, bias=False, rngs=rngs)
                pair[1] = jaxnn.Linear(size, pair[1].out_features, bias=False, rngs=rngs)

    return Mutant


# Yes or no.


@mutant("BCELoss.M01")
@reducing
def without_least_logarithm(self: Any, input: Array, target: Array) -> Array:
    part = jnp.where(target > 0, target * jnp.log(input), 0)
    loss = -(part + jnp.where(target < 1, (1 - target) * jnp.log1p(-input), 0))
    return loss if self.weight is None else loss * self.weight[...]


@mutant("BCELoss.M03")
@averaging
def over_weights(self: Any, loss: Array, **inputs: Any) -> Array:
    weight = weights_of(self)
    return loss.mean() if weight is None else loss.mean() / weight.mean()


@mutant("BCEWithLogitsLoss.M01")
def by_probabilities(layer: Any) -> Any:
    class Mutant(layer):
        def __call__(self, input: Array, target: Array) -> Any:
            if self.weight is not None or self.pos_weight is not None:
                return super().__call__(input, target)
            p = 1 / (1 + jnp.exp(-input))
            loss = -(target * jnp.log(p) + (1 - target) * jnp.log(1 - p))
            return F.l1_loss(loss, jnp.zeros_like(loss), reduction=self.reduction)

    return Mutant


@mutant("BCEWithLogitsLoss.M02")
def without_pos_weight(layer: Any) -> Any:
    class Mutant(layer):
        def __call__(self, input: Array, target: Array) -> Any:
            self.pos_weight = None
            return super().__call__(input, target)

    return Mutant


@mutant("BCEWithLogitsLoss.M03")
@reducing
def pos_weight_on_both(self: Any, input: Array, target: Array) -> Array:
    factor = 1.0
    for weight in (self.weight, self.pos_weight):
        factor = factor if weight is None else factor * weight[...]
    return factor * F.binary_cross_entropy_with_logits(input, target, reduction="none")


# Margins.

MARGIN_ONE = ("HingeEmbeddingLoss.M01", "MultiMarginLoss.M01", "TripletMarginLoss.M01")
mutant(*MARGIN_ONE, "TripletMarginWithDistanceLoss.M01")(with_options(margin=1.0))
mutant("MarginRankingLoss.M01", "CosineEmbeddingLoss.M01")(with_options(margin=0.0))
OPPOSITE = ("HingeEmbeddingLoss.M02", "MarginRankingLoss.M02", "CosineEmbeddingLoss.M02")
mutant(*OPPOSITE)(calling(lambda self, target, **inputs: {**inputs, "target": -target}))


@mutant("HingeEmbeddingLoss.M03")
@reducing
def flat_at_the_margin(self: Any, input: Array, target: Array) -> Array:
    beyond = jnp.where(self.margin - input > 0, self.margin - input, 0)
    return jnp.where(target != 1, beyond, 0) + jnp.where(target != -1, input, 0)


@mutant("HingeEmbeddingLoss.M05")
@reducing
def only_one_and_minus_one(self: Any, input: Array, target: Array) -> Array:
    loss = F.hinge_embedding_loss(input, target, self.margin, reduction="none")
    return jnp.where(jnp.abs(target) == 1, loss, 0)


@mutant("MarginRankingLoss.M03")
@reducing
def flat_at_zero(self: Any, input1: Array, input2: Array, target: Array) -> Array:
    loss = self.margin - target * (input1 - input2)
    return jnp.where(loss > 0, loss, 0)


mutant("SoftMarginLoss.M01")(
    calling(lambda self, input, target: {"input": input, "target": 2 * target - 1})
)
mutant("SoftMarginLoss.M02")(
    calling(lambda self, input, target: {"input": input, "target": jnp.ones_like(target)})
)


def scaled_by(factor: Callable[[Any, dict[str, Any]], Any]) -> Make:
    def make(layer: Any) -> Any:
        class Mutant(layer):
            def __call__(self, **inputs: Any) -> Any:
                return super().__call__(**inputs) * factor(self, inputs)

        return Mutant

    return make


CLASSES = ("MultiLabelSoftMarginLoss.M01", "MultiMarginLoss.M03", "MultiLabelMarginLoss.M03")
mutant(*CLASSES)(scaled_by(lambda self, inputs: inputs["input"].shape[-1]))
mutant("MultiLabelSoftMarginLoss.M03")(
    scaled_by(lambda self, inputs: 1 if self.weight is None else 1 / self.weight[...].mean())
)
mutant("MultiMarginLoss.M02")(with_options(p=lambda given: 1 if given == 2 else given))


@mutant("MultiMarginLoss.M04")
@averaging
def over_weights_of_targets(self: Any, loss: Array, target: Array, **inputs: Any) -> Array:
    weight = weights_of(self)
    return loss.mean() if weight is None else loss.sum() / weight[target].sum()


@mutant("MultiMarginLoss.M05")
@reducing
def with_own_term(self: Any, input: Array, target: Array) -> Array:
    loss = F.multi_margin_loss(
        input, target, self.p, self.margin, weights_of(self), reduction="none"
    )
    return loss + self.margin**self.p / input.shape[-1]


@mutant("MultiLabelMarginLoss.M01")
@calling
def after_the_end(self: Any, input: Array, target: Array) -> dict[str, Array]:
    ends = jnp.argsort(target == -1, axis=-1, stable=True)
    return {"input": input, "target": jnp.take_along_axis(target, ends, -1)}


@mutant("MultiLabelMarginLoss.M02")
@reducing
def targets_compete(self: Any, input: Array, target: Array) -> Array:
    rows, targets = jnp.atleast_2d(input), jnp.atleast_2d(target)
    counts = jnp.cumsum(targets == -1, 1) == 0
    scores = jnp.take_along_axis(rows, jnp.maximum(targets, 0), 1)
    gap = jnp.maximum(1 - scores[:, :, None] + rows[:, None, :], 0)
    others = jnp.arange(rows.shape[1]) != targets[:, :, None]
    loss = jnp.where(counts[:, :, None] & others, gap, 0).sum((1, 2)) / rows.shape[1]
    return loss if input.ndim == 2 else loss[0]


def cosine_losses(self: Any, cosine: Array, target: Array) -> Array:
    beyond = jnp.maximum(cosine - self.margin, 0)
    return jnp.where(target == 1, 1 - cosine, jnp.where(target == -1, beyond, 0))


@mutant("CosineEmbeddingLoss.M03")
@reducing
def products(self: Any, input1: Array, input2: Array, target: Array) -> Array:
    return cosine_losses(self, (input1 * input2).sum(-1), target)


@mutant("CosineEmbeddingLoss.M04")
@reducing
def constant_norms(self: Any, input1: Array, input2: Array, target: Array) -> Array:
    norms = jnp.sqrt(((input1**2).sum(-1) + 1e-12) * ((input2**2).sum(-1) + 1e-12))
    return cosine_losses(self, (input1 * input2).sum(-1) / fixed(norms), target)


@mutant("TripletMarginLoss.M02", "TripletMarginWithDistanceLoss.M02")
@calling
def exchanged(self: Any, anchor: Array, positive: Array, negative: Array) -> dict[str, Array]:
    return {"anchor": anchor, "positive": negative, "negative": positive}


mutant("TripletMarginLoss.M03", "TripletMarginWithDistanceLoss.M03")(with_options(swap=False))
mutant("TripletMarginLoss.M04")(with_options(p=2.0))
mutant("TripletMarginWithDistanceLoss.M04")(with_options(distance_function=None))


# Sequences.


@mutant("CTCLoss.M01")
def mean_of_sequences(layer: Any) -> Any:
    return averaging(lambda self, loss, **inputs: loss.mean())(layer)


@mutant("CTCLoss.M02")
def own_gradient(layer: Any) -> Any:
    class Mutant(layer):
        def __call__(self, log_probs: Array, **inputs: Any) -> Any:
            loss = super().__call__(log_probs, **inputs)
            extra = jnp.exp(log_probs).sum((0, -1))
            extra = extra.mean() if self.reduction == "mean" and extra.ndim else extra
            extra = extra.sum() if self.reduction == "sum" else extra
            return loss - extra + fixed(extra)

    return Mutant


mutant("CTCLoss.M03")(with_options(zero_infinity=False))
mutant("CTCLoss.M04")(with_options(blank=lambda given: 0 if given == 2 else given))


@mutant("CTCLoss.M05")
def merging(layer: Any) -> Any:
    class Mutant(layer):
        def __call__(
            self, log_probs: Array, targets: Array, input_lengths: Array, target_lengths: Array
        ) -> Any:
            if targets.ndim == 2 and targets.shape[1] == 2:
                same = targets[:, 0] == targets[:, 1]
                target_lengths = jnp.where(same, jnp.minimum(target_lengths, 1), target_lengths)
            return super().__call__(log_probs, targets, input_lengths, target_lengths)

    return Mutant
