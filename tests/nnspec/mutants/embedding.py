"""Wrong embeddings, bags of them, and one-hot rows."""

import jax.numpy as jnp
from jax import lax

import jaxnn.functional as F
from jaxnn.functional._gradients import straight_through

from . import gradient_where, last_of_equals, mutant, reconfigured


@mutant("Embedding.M01")
def max_norm_leaves_the_table(layer):
    class Mutant(layer):
        def __call__(self, input):
            before = self.weight[...]
            output = super().__call__(input)
            self.weight[...] = before
            return output

    return Mutant


@mutant("Embedding.M02")
def max_norm_scales_every_row(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            if self.max_norm is not None:
                everything = jnp.arange(self.num_embeddings)
                _, self.weight[...] = F.embedding_with_weight(
                    everything, self.weight[...], None, self.max_norm, self.norm_type
                )
            return output

    return Mutant


@mutant("Embedding.M03")
def frequency_ignored(layer):
    return reconfigured(layer, scale_grad_by_freq=False)


@mutant("Embedding.M04")
def norm_type_ignored(layer):
    return reconfigured(layer, norm_type=2.0)


@mutant("Embedding.M05")
def padding_has_a_gradient(layer):
    class Mutant(layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.padding_idx = None

    return Mutant


@mutant("Embedding.M06")
def padding_is_zero_in_the_output(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            padding = -1 if self.padding_idx is None else self.padding_idx
            return jnp.where((input == padding)[..., None], jnp.zeros_like(output), output)

    return Mutant


@mutant("Embedding.M07")
def repeated_ids_overwrite(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            last = last_of_equals(input.reshape(-1)).reshape(input.shape)
            return gradient_where(last[..., None], output)

    return Mutant


@mutant("Embedding.M08")
def max_norm_in_training_only(layer):
    class Mutant(layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.deterministic = False

        def __call__(self, input):
            if self.deterministic:
                return F.embedding(input, self.weight[...], self.padding_idx)
            return super().__call__(input)

    return Mutant


@mutant("Embedding.M09")
def gradient_flows_through_the_scaling(layer):
    class Mutant(layer):
        def __call__(self, input):
            rows = F.embedding(input, self.weight[...], self.padding_idx)
            output = super().__call__(input)
            return (
                output
                if self.max_norm is None
                else straight_through(rows * _scale(self, rows), output)
            )

    return Mutant


@mutant("Embedding.M10")
def scaled_once_for_each_time_looked_up(layer):
    class Mutant(layer):
        def __call__(self, input):
            before = self.weight[...]
            output = super().__call__(input)
            if self.max_norm is None:
                return output
            fixed = lax.stop_gradient(before)
            table = fixed.at[input].multiply(_scale(self, fixed[input]))
            self.weight[...] = straight_through(before, table)
            return F.embedding(input, self.weight[...], self.padding_idx)

    return Mutant


def _scale(self, rows):
    norm = jnp.linalg.norm(rows, self.norm_type, -1, keepdims=True)
    return jnp.where(norm > self.max_norm, self.max_norm / (norm + 1e-7), jnp.ones_like(norm))


# --- bags -----------------------------------------------------------------------------------


def bags(change):
    """Return a mutation of EmbeddingBag that gives `change(self, output, input, offsets, ...)`."""

    def make(layer):
        class Mutant(layer):
            def __call__(self, input, offsets=None, per_sample_weights=None):
                output = super().__call__(input, offsets, per_sample_weights)
                return change(self, output, input, offsets, per_sample_weights)

        return Mutant

    return make


def counted(self, ids, offsets, one):
    """Return the sum over each bag of `one`, a number for each id."""
    table = jnp.ones((self.num_embeddings, 1), self.weight[...].dtype)
    last = self.include_last_offset and offsets is not None
    return F.embedding_bag(
        ids, table, offsets, mode="sum", per_sample_weights=one, include_last_offset=last
    )


@mutant("EmbeddingBag.M01")
def divided_by_distinct_ids(layer):
    def change(self, output, input, offsets, factors):
        if self.mode != "mean" or offsets is None:
            return output
        places = jnp.searchsorted(offsets, jnp.arange(input.size), side="right")
        repeated = (input == input[:, None]) & (places == places[:, None])
        first = ~jnp.tril(repeated, -1).any(1)
        ones = jnp.ones(input.shape, output.dtype)
        distinct = counted(self, input, offsets, first.astype(output.dtype))
        return output * counted(self, input, offsets, ones) / jnp.maximum(distinct, 1)

    return bags(change)(layer)


@mutant("EmbeddingBag.M02")
def padding_in_the_mean(layer):
    def change(self, output, input, offsets, factors):
        if self.mode != "mean" or self.padding_idx is None:
            return output
        kept = (input != self.padding_idx).astype(output.dtype)
        everything = counted(self, input, offsets, jnp.ones_like(kept))
        return output * counted(self, input, offsets, kept) / jnp.maximum(everything, 1)

    return bags(change)(layer)


@mutant("EmbeddingBag.M03")
def empty_maximum(layer):
    def change(self, output, input, offsets, factors):
        if self.mode != "max":
            return output
        pad = -1 if self.padding_idx is None else self.padding_idx
        size = counted(self, input, offsets, (input != pad).astype(output.dtype))
        return jnp.where(size == 0, -jnp.inf, output)

    return bags(change)(layer)


@mutant("EmbeddingBag.M04")
def last_offset_is_a_bag(layer):
    class Mutant(layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.include_last_offset = False

    return Mutant


@mutant("EmbeddingBag.M05")
def factors_normalised(layer):
    class Mutant(layer):
        def __call__(self, input, offsets=None, per_sample_weights=None):
            if per_sample_weights is not None:
                total = counted(self, input, offsets, per_sample_weights)
                places = jnp.arange(input.size)
                if offsets is None:
                    bag = places.reshape(input.shape) // input.shape[1]
                else:
                    bag = jnp.searchsorted(offsets, places, side="right") - 1
                per_sample_weights = per_sample_weights / total[bag, 0]
            return super().__call__(input, offsets, per_sample_weights)

    return Mutant


@mutant("EmbeddingBag.M06")
def maximum_shared(layer):
    def change(self, output, input, offsets, factors):
        if self.mode != "max" or offsets is not None or self.padding_idx is not None:
            return output
        rows = F.embedding(input, self.weight[...])
        return jnp.where(jnp.isnan(output), output, jnp.max(rows, axis=1))

    return bags(change)(layer)


@mutant("EmbeddingBag.M07")
def bag_frequency_ignored(layer):
    class Mutant(layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.scale_grad_by_freq = False

    return Mutant


@mutant("EmbeddingBag.M08")
def always_a_mean(layer):
    class Mutant(layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.mode = "mean"

    return Mutant


# --- one-hot --------------------------------------------------------------------------------


@mutant("one_hot.M01")
def classes_first(function):
    return lambda input, num_classes=-1: jnp.moveaxis(function(input, num_classes), -1, 0)


@mutant("one_hot.M02")
def distinct_classes(function):
    def wrong(input, num_classes=-1):
        output = function(input, num_classes)
        return output if num_classes > 0 else output[..., : len(set(input.ravel().tolist()))]

    return wrong


@mutant("one_hot.M03")
def classes_from_the_end(function):
    return lambda input, num_classes=-1: jnp.flip(function(input, num_classes), -1)
