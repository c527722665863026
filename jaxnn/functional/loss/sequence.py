"""Connectionist temporal classification."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

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
    states = jnp.full((targets.shape[0], 2 * targets.shape[1] + 1), blank, targets.dtype)
    states = states.at[:, 1::2].set(jnp.where(there & is_class, targets, blank))
    loss = _losses(zero_infinity, wide, _Paths(states, input_lengths, 2 * target_lengths))
    loss = jnp.where(sound, loss, jnp.nan)
    if reduction == "mean":
        loss = loss / jnp.maximum(target_lengths, 1).astype(loss.dtype)
    return reduced(loss, reduction).astype(log_probs.dtype)


class _Paths(NamedTuple):
    """The paths that give the targets, by the states that they go through.

    Attributes:
        states: the class of each state, (N, 2S + 1): a blank before, between and after the targets.
        lengths: how many frames a path has, (N).
        ends: the last state of each sequence, (N), where a path ends, or in the one before.
    """

    states: jax.Array
    lengths: jax.Array
    ends: jax.Array

    @property
    def places(self) -> jax.Array:
        """The number of each state, (1, 2S + 1)."""
        return jnp.arange(self.states.shape[1], dtype=self.ends.dtype)[None]

    @property
    def skips(self) -> jax.Array:
        """Whether the state may follow the last but one: a class another one, but not itself."""
        differs = self.states[:, 2:] != self.states[:, :-2]
        return jnp.pad(differs, ((0, 0), (2, 0)))[:, : self.states.shape[1]]

    @property
    def may_end(self) -> jax.Array:
        """Whether a path may end in the state."""
        return (self.places == self.ends[:, None]) | (self.places == self.ends[:, None] - 1)

    def emitted(self, log_probs: jax.Array) -> jax.Array:
        """Return the logarithm of each state's probability at each time, (T, N, 2S + 1)."""
        return jnp.take_along_axis(log_probs, self.states[None], 2, mode="clip")


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _losses(zero_infinity: bool, log_probs: jax.Array, paths: _Paths) -> jax.Array:
    """Return the loss of each sequence."""
    return _chosen(_forwards(log_probs, paths)[0], zero_infinity)


def _chosen(loss: jax.Array, zero_infinity: bool) -> jax.Array:
    return jnp.where(jnp.isposinf(loss), 0, loss) if zero_infinity else loss


@_losses.defjvp
def _losses_jvp(
    zero_infinity: bool, primals: tuple[jax.Array, _Paths], tangents: tuple[jax.Array, Any]
) -> tuple[jax.Array, jax.Array]:
    log_probs, paths = primals
    loss, before = _forwards(log_probs, paths)
    after = _backwards(log_probs, paths)
    times = jnp.arange(log_probs.shape[0], dtype=paths.lengths.dtype)[:, None]
    lengths = paths.lengths[None]
    counts = times < lengths
    # The probability that a path goes through the state at that time.
    through = jnp.exp(before + after - paths.emitted(log_probs) + loss[None, :, None])
    is_there = jnp.where((times == lengths - 1)[:, :, None], paths.may_end[None], True)
    is_there &= (paths.places <= paths.ends[:, None])[None]
    through = jnp.where(is_there, through, 0)
    rows = jnp.arange(loss.shape[0], dtype=paths.states.dtype)[:, None]
    # That of a state that is not there: 0, or NaN where the loss or the logarithm is infinite.
    never = jnp.exp(loss[None, :, None] - log_probs - jnp.inf)
    through = never.at[:, rows, paths.states].add(through, mode="drop")
    if zero_infinity:
        counts &= ~jnp.isposinf(loss)[None]
    # Both are selected: neither a derivative nor a cotangent that is NaN is multiplied by 0.
    gradient, tangent = (
        jnp.where(counts[:, :, None], each, 0)
        for each in (jnp.exp(log_probs) - through, tangents[0])
    )
    # The value is at hand: only the derivative is that of a call, so that nothing runs twice.
    again = _losses(zero_infinity, log_probs, paths)
    value = straight_through(again, _chosen(loss, zero_infinity))
    return value, (gradient * tangent).sum((0, 2))


def _forwards(log_probs: jax.Array, paths: _Paths) -> tuple[jax.Array, jax.Array]:
    """Return the loss, and the logarithm of the sum of the beginnings that end in each state."""

    def step(alpha: jax.Array, now: Any) -> tuple[jax.Array, jax.Array]:
        frame, time = now
        new = frame + _log_add(
            [alpha, _shifted(alpha, 1), jnp.where(skips, _shifted(alpha, 2), _NO)]
        )
        # What no path begins with is not there, whatever the frame holds.
        new = jnp.where((time > 0) | (paths.places < 2), new, _NO)
        alpha = jnp.where((time < paths.lengths)[:, None], new, alpha)
        return alpha, alpha

    skips = paths.skips
    start = jnp.full(paths.states.shape, _NO, log_probs.dtype).at[:, 0].set(0)
    alpha, every = lax.scan(step, start, (paths.emitted(log_probs), _times(log_probs, paths)))
    ends = paths.ends[:, None] - jnp.arange(2, dtype=paths.ends.dtype)[None]
    last = jnp.take_along_axis(alpha, jnp.maximum(ends, 0), 1, mode="clip")
    of_nothing, total = last[:, 0], _log_add([last[:, 0], last[:, 1]])
    return 0 - jnp.where(paths.ends == 0, of_nothing, total), every


def _backwards(log_probs: jax.Array, paths: _Paths) -> jax.Array:
    """Return the logarithm of the sum of the endings that begin in each state."""

    def step(beta: jax.Array, now: Any) -> tuple[jax.Array, jax.Array]:
        frame, time = now
        # Before it is shifted: from a state the skip goes to the one after next.
        skipped = _shifted(jnp.where(skips, beta, _NO), -2)
        new = frame + _log_add([beta, _shifted(beta, -1), skipped])
        is_last = (time == paths.lengths - 1)[:, None]
        new = jnp.where(is_last, jnp.where(paths.may_end, frame, _NO), new)
        is_there = (paths.places <= paths.ends[:, None]) & (time < paths.lengths)[:, None]
        beta = jnp.where(is_there, new, _NO)
        return beta, beta

    skips = paths.skips
    start = jnp.full(paths.states.shape, _NO, log_probs.dtype)
    each = paths.emitted(log_probs), _times(log_probs, paths)
    return lax.scan(step, start, each, reverse=True)[1]


def _times(log_probs: jax.Array, paths: _Paths) -> jax.Array:
    return jnp.arange(log_probs.shape[0], dtype=paths.lengths.dtype)


# The logarithm of what never happens.
_NO = -jnp.inf


def _shifted(states: jax.Array, by: int) -> jax.Array:
    """Return the states moved up, or down, with nothing in the places that become free."""
    count = states.shape[1]
    padded = jnp.pad(states, ((0, 0), (max(by, 0), max(-by, 0))), constant_values=_NO)
    return padded[:, :count] if by > 0 else padded[:, -count:]


def _log_add(terms: Sequence[jax.Array]) -> jax.Array:
    """Return log(sum(exp)) of the terms, with derivative 0 where all are -inf."""
    stacked = jnp.stack(terms)
    largest = lax.stop_gradient(stacked).max(0)
    impossible = jnp.isneginf(largest)
    total = jnp.exp(stacked - jnp.where(impossible, 0, largest)[None]).sum(0)
    result = jnp.log(jnp.where(impossible, 1, total)) + largest
    return jnp.where(impossible, _NO, result)
