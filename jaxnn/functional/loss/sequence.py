"""Connectionist temporal classification."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ..._checks import check_array, check_floating, check_int, is_readable
from ..._config import check_indices
from ..._dtypes import accumulation_dtype
from .._gradients import straight_through
from ._reduction import check_reduction, reduced

Lengths = Int[Array, "N"] | Sequence[int]


def ctc_loss(
    log_probs: Float[Array, "T *N C"],
    targets: Int[Array, "..."],
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Float[Array, "..."]:
    """Connectionist temporal classification: negative log likelihood over all alignments.

    loss_n = -log(sum of the products of exp(log_probs[t, n, path_t])), over the paths of
    input_lengths[n] classes that give targets[n] once repeated classes are merged and blanks
    removed; inf where there is none. "mean" divides each loss by the target's length (at least 1)
    first.

    As in torch, the derivative takes log_probs to be the result of log_softmax: it is
    exp(log_probs) less the probability that the path is there. It is NaN where the loss is inf.

    Shapes: log_probs (T, N, C), targets (N, S) or (sum of target_lengths), both lengths (N), loss
    (N), or () if it is reduced; without N: log_probs (T, C), targets (S), lengths () or (1).

    Args:
        log_probs: logarithms of the probabilities of the classes at each time.
        targets: the true classes, padded to one length or one after the other.
        input_lengths: the length of each sequence, at most T; an array, or a tuple of ints.
        target_lengths: the length of each target, likewise.
        blank: the class that stands for none.
        reduction: "none", "mean" or "sum".
        zero_infinity: whether an infinite loss and its gradient are 0.

    Raises:
        IndexError: if a concrete target is not a class; under `jax.jit` its loss is NaN.
        ValueError: if the shapes do not fit, there is nothing, a concrete length is out of range
            (under `jax.jit` the loss is NaN), blank is not a class, or the reduction is none of the
            three.
        TypeError: if log_probs is not floating-point, or targets or lengths are not integers.

    Source: Graves et al., 2006; torch.nn.functional.ctc_loss.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> log_probs = jnp.log(jnp.full((2, 1, 2), 0.5))
        >>> jaxnn.functional.ctc_loss(log_probs, jnp.array([[1]]), (2,), (1,))
        Array(0.2876821, dtype=float32)
    """
    check_reduction(reduction, "ctc_loss")
    log_probs = check_array(log_probs, "log_probs", "ctc_loss")
    check_floating(log_probs, "log_probs", "ctc_loss")
    if log_probs.ndim not in (2, 3) or _is_empty(log_probs):
        raise ValueError(
            "ctc_loss: `log_probs` must have shape (T, N, C) or (T, C), without a size of 0, got "
            f"{log_probs.shape}"
        )
    is_batched = log_probs.ndim == 3
    log_probs = log_probs if is_batched else log_probs[:, None]
    blank = check_blank(blank, log_probs.shape[2])
    batch = log_probs.shape[1]
    inputs = _lengths(input_lengths, "input_lengths", batch, log_probs.shape[0])
    classes = check_array(targets, "targets", "ctc_loss")
    if not jnp.issubdtype(classes.dtype, jnp.integer) or classes.ndim not in (1, 2):
        raise TypeError(
            "ctc_loss: `targets` must be ints of shape (N, S) or (S), got "
            f"{classes.dtype} of shape {classes.shape}"
        )
    lengths = _lengths(target_lengths, "target_lengths", batch, classes.shape[-1])
    padded = _padded(classes, lengths, batch)
    _check_range(padded, lengths, log_probs.shape[2])
    loss = _ctc(
        log_probs, padded, jnp.asarray(inputs), jnp.asarray(lengths), blank, reduction,
        bool(zero_infinity),
    )  # fmt: skip
    return loss.reshape(()) if reduction == "none" and not is_batched else loss


def _is_empty(array: jax.Array) -> bool:
    # A symbolic size is compared with nothing.
    return any(isinstance(size, int) and size == 0 for size in array.shape)


def check_blank(blank: Any, classes: int | None = None) -> int:
    """Return the class `blank`, which must be one of the classes, where their number is known."""
    blank = check_int(blank, "blank", "ctc_loss")
    if classes is not None and not 0 <= blank < classes:
        raise ValueError(f"ctc_loss: `blank` must lie between 0 and {classes - 1}, got {blank}")
    return blank


def _lengths(given: Any, name: str, batch: int, longest: int) -> Any:
    """Return the lengths of N sequences, on the host where they are concrete."""
    is_host = isinstance(given, (Sequence, np.ndarray))
    lengths = np.asarray(given) if is_host else check_array(given, name, "ctc_loss")
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"ctc_loss: `{name}` must be ints, got {given!r}")
    if lengths.size != batch:
        raise ValueError(
            f"ctc_loss: `{name}` must be {batch} lengths, one for each sequence, got shape "
            f"{lengths.shape}"
        )
    if is_host or (check_indices.enabled and is_readable(lengths)):
        lengths = np.asarray(lengths).reshape(batch)
        if lengths.min() < 0 or lengths.max() > longest:
            raise ValueError(
                f"ctc_loss: `{name}` must lie between 0 and {longest}, got {lengths.tolist()}"
            )
        return lengths.astype(np.int32)
    return lengths.reshape(batch).astype(jnp.int32)


def _padded(targets: jax.Array, lengths: Any, batch: int) -> jax.Array:
    """Return the targets as (N, S), which may come one after the other."""
    if targets.ndim == 2:
        if targets.shape[0] != batch:
            raise ValueError(
                f"ctc_loss: `targets` must have {batch} rows, one for each sequence, got shape "
                f"{targets.shape}"
            )
        return targets
    total, longest = targets.shape[0], targets.shape[0]
    if isinstance(lengths, np.ndarray):
        longest = int(lengths.max())
        if int(lengths.sum()) != total:
            raise ValueError(
                f"ctc_loss: `targets` must hold as many classes as `target_lengths` says, "
                f"{int(lengths.sum())}, got {total}"
            )
    if not total:
        return jnp.zeros((batch, 0), targets.dtype)
    starts = jnp.cumsum(jnp.asarray(lengths)) - jnp.asarray(lengths)
    places = starts[:, None] + jnp.arange(longest, dtype=jnp.int32)[None]
    return targets[jnp.minimum(places, total - 1)]


def _check_range(targets: jax.Array, lengths: Any, classes: int) -> None:
    is_concrete = isinstance(lengths, np.ndarray) and is_readable(targets)
    if check_indices.enabled and is_concrete:
        values = np.asarray(targets)
        values = values[np.arange(values.shape[1])[None] < lengths[:, None]]
        wrong = values[(values < 0) | (values >= classes)]
        if wrong.size:
            raise IndexError(
                f"ctc_loss: `targets` holds the class {wrong[0]}, but there are {classes} classes"
            )


@partial(jax.jit, static_argnums=(4, 5, 6), inline=True)
def _ctc(
    log_probs: jax.Array,
    targets: jax.Array,
    input_lengths: jax.Array,
    target_lengths: jax.Array,
    blank: int,
    reduction: str,
    zero_infinity: bool,
) -> jax.Array:
    wide = log_probs.astype(accumulation_dtype(log_probs.dtype))
    size, _, classes = wide.shape
    there = jnp.arange(targets.shape[1], dtype=jnp.int32)[None] < target_lengths[:, None]
    is_class = (targets >= 0) & (targets < classes)
    sound = (is_class | ~there).all(1) & (target_lengths <= targets.shape[1])
    sound &= (target_lengths >= 0) & (input_lengths >= 0) & (input_lengths <= size)
    safe = jnp.where(there & is_class, targets, blank)
    likelihood = _log_likelihood(wide, safe, input_lengths, target_lengths, blank)
    loss = 0 - likelihood
    impossible = jnp.isneginf(likelihood)
    counts = jnp.arange(size, dtype=jnp.int32)[:, None] < input_lengths[None]
    if zero_infinity:
        loss = jnp.where(impossible, 0, loss)
        counts &= ~impossible[None]
    # Selected before the exponential, whose derivative is what it is of.
    inside = jnp.where(counts[:, :, None], wide, 0)
    # As in torch the derivative by a logarithm of 0 is NaN, and so are all of a loss that is
    # infinite or NaN.
    undefined = lax.stop_gradient(jnp.where(jnp.isneginf(inside), jnp.nan, 0)) * inside
    probability = jnp.where(counts[:, :, None], jnp.exp(inside) + undefined, 0).sum((0, 2))
    probability = jnp.where(jnp.isfinite(loss), 1, jnp.nan) * probability
    loss = straight_through(loss + probability, loss)
    loss = jnp.where(sound, loss, jnp.nan)
    if reduction == "mean":
        loss = loss / jnp.maximum(target_lengths, 1).astype(loss.dtype)
    return reduced(loss, reduction).astype(log_probs.dtype)


def _log_likelihood(
    log_probs: jax.Array,
    targets: jax.Array,
    input_lengths: jax.Array,
    target_lengths: jax.Array,
    blank: int,
) -> jax.Array:
    """Return the logarithm of the sum over all alignments, by one scan over the time."""
    batch, length = targets.shape
    states = jnp.full((batch, 2 * length + 1), blank, targets.dtype).at[:, 1::2].set(targets)
    emitted = jnp.take_along_axis(log_probs, states[None], 2, mode="clip")
    # A class may follow another one without a blank between, but not itself.
    skips = jnp.pad(states[:, 2:] != states[:, :-2], ((0, 0), (2, 0)))[:, : states.shape[1]]
    never = -jnp.inf
    is_first = jnp.arange(states.shape[1], dtype=jnp.int32)[None] < 2

    def step(alpha: jax.Array, now: Any) -> tuple[jax.Array, None]:
        frame, time = now
        one = jnp.pad(alpha, ((0, 0), (1, 0)), constant_values=never)[:, :-1]
        two = jnp.pad(alpha, ((0, 0), (2, 0)), constant_values=never)[:, : states.shape[1]]
        new = frame + _log_add(jnp.stack([alpha, one, jnp.where(skips, two, never)]))
        # What no path begins with is not there, whatever the frame holds.
        new = jnp.where((time > 0) | is_first, new, never)
        return jnp.where((time < input_lengths)[:, None], new, alpha), None

    start = jnp.full(states.shape, never, log_probs.dtype).at[:, 0].set(0)
    times = jnp.arange(log_probs.shape[0], dtype=input_lengths.dtype)
    alpha, _ = lax.scan(step, start, (emitted, times))
    ends = 2 * target_lengths[:, None] - jnp.arange(2, dtype=target_lengths.dtype)[None]
    last = jnp.take_along_axis(alpha, jnp.maximum(ends, 0), 1, mode="clip")
    return _log_add(jnp.where(ends >= 0, last, never).T)


def _log_add(terms: jax.Array) -> jax.Array:
    """Return log(sum(exp)) over the first dimension, with derivative 0 where all are -inf."""
    largest = lax.stop_gradient(terms).max(0)
    impossible = jnp.isneginf(largest)
    total = jnp.exp(terms - jnp.where(impossible, 0, largest)[None]).sum(0)
    result = jnp.log(jnp.where(impossible, 1, total)) + largest
    return jnp.where(impossible, -jnp.inf, result)
