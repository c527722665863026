"""Wrong embeddings."""

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
