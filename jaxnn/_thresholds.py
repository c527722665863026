"""The sizes at which one formulation takes over from another, in one place.

They were measured, on a CPU with two cores, and change speed and rounding alone. A test that wants
another formulation for a small input lowers them: `with lowered(attention_scores=4): ...`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import jax


@dataclass(frozen=True)
class Thresholds:
    """The sizes.

    Attributes:
        attention_scores: scores that are made at a time on a CPU: as many as its cache holds.
        attention_causal_rows: queries that are taken at a time there where they see no later keys.
        attention_blocks: the most blocks of queries that are written out one by one.
        convolution_taps: where a kernel has more taps, or elements in a group, they are not written
            out one by one.
        convolution_groups: where there are more groups, they are not written out one by one.
        convolution_columns: up to this many elements (64 MB in float32), a sample is unfolded for a
            matrix product.
        convolution_large_sample: from this many elements (4 KB in float32), a sample is worth a
            step of a loop.
        convolution_few_positions: with fewer positions for each output channel, all samples are
            unfolded for one matrix product.
        convolution_narrow: rows (times channels) up to which XLA's convolution has one thread.
        convolution_wide: rows from which it has two.
        convolution_some_channels: channels from which that is so.
        convolution_many_channels: channels up to which that is so.
        layer_norm_elements: from this many elements, XLA sums in another way on a CPU.
        statistics_elements: up to this many elements, a second sum costs nothing.
        pooling_taps: up to this many taps, a window is written out tap by tap; beyond, compilation
            would take long.
    """

    attention_scores: int = 2**20
    attention_causal_rows: int = 128
    attention_blocks: int = 32
    convolution_taps: int = 64
    convolution_groups: int = 8
    convolution_columns: int = 2**24
    convolution_large_sample: int = 2**10
    convolution_few_positions: int = 2
    convolution_narrow: int = 2**12
    convolution_wide: int = 2**7
    convolution_some_channels: int = 2**5
    convolution_many_channels: int = 2**7
    layer_norm_elements: int = 2**21
    statistics_elements: int = 2**14
    pooling_taps: int = 32


# A user context is part of the key of every tracing cache, so that what was traced with other
# thresholds is traced again.
_thresholds = jax.make_user_context(Thresholds())


def thresholds() -> Thresholds:
    """Return those that hold for the code being traced."""
    current: Thresholds = _thresholds.value
    return current


def lowered(**sizes: int) -> AbstractContextManager[None]:
    """Context in which some thresholds have another size, by their names.

    Raises:
        TypeError: if there is no threshold of that name.

    Example:
        >>> with lowered(pooling_taps=4):
        ...     thresholds().pooling_taps
        4
    """
    changed: Any = replace(thresholds(), **sizes)
    context: AbstractContextManager[None] = _thresholds(changed)
    return context
