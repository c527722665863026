"""The next token: how logits are changed before it is drawn, and how it is drawn.

Each function takes logits and returns logits; what may not be drawn is minus infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._checks import check_array, check_floating, check_int
from .._dtypes import accumulation_dtype, rounded
from .._types import Scalar
from .._xla import by_platform
from ..functional._division import divide
from ..functional.activation._elementwise import check_number, is_known

Logits = Float[Array, "*batch vocabulary"]


def with_temperature(logits: Logits, temperature: Scalar) -> Logits:
    """Flatten the distribution, or with a temperature below 1 sharpen it.

    y = logits / temperature

    Shapes: (*batch, vocabulary), kept. Dtypes: floating point, kept; computed in float32 or wider.

    Args:
        logits: the logits.
        temperature: a positive number, which may be traced.

    Raises:
        ValueError: if the temperature is not positive: 0 would be the most likely token alone.
        TypeError: if the logits are not floating-point, or the temperature is no number.

    Source: transformers.TemperatureLogitsWarper.

    Example:
        >>> import jax.numpy as jnp
        >>> with_temperature(jnp.array([[1.0, 2.0]]), 0.5)
        Array([[2., 4.]], dtype=float32)
    """
    logits = _checked(logits, "with_temperature")
    hint = "; for the most likely token take jnp.argmax of the logits (greedy decoding)"
    temperature = _positive(temperature, "temperature", "with_temperature", hint)
    wide = logits.astype(accumulation_dtype(logits.dtype))
    divided = divide(wide, jnp.asarray(temperature, wide.dtype))
    return rounded(divided, logits.dtype).astype(logits.dtype)


def top_k(logits: Logits, k: int, min_tokens_to_keep: int = 1) -> Logits:
    """Keep the `k` largest logits, and all that equal the smallest of them.

    y = logits where logits >= their k-th largest, else -inf

    Shapes: (*batch, vocabulary), kept. Dtypes: floating point, kept.

    Args:
        logits: the logits.
        k: how many, at least 1 and static; all, where there are no more.
        min_tokens_to_keep: how many stay if `k` is less.

    Raises:
        ValueError: if `k` or `min_tokens_to_keep` is below 1.
        TypeError: if one is no int, or the logits are not floating-point.

    Source: transformers.TopKLogitsWarper.

    Example:
        >>> import jax.numpy as jnp
        >>> top_k(jnp.array([[1.0, 3.0, 2.0, 2.0]]), 2)
        Array([[-inf,   3.,   2.,   2.]], dtype=float32)
    """
    logits = _checked(logits, "top_k")
    kept = max(check_int(k, "k", _name("top_k"), 1), _least(min_tokens_to_keep, "top_k"))
    wide = logits.astype(accumulation_dtype(logits.dtype))
    largest, _ = lax.top_k(wide, min(kept, logits.shape[-1]))
    # XLA would sort the whole vocabulary, did it see that only one of them is used.
    least = lax.optimization_barrier(largest)[..., -1:]
    return jnp.where(wide < least, -jnp.inf, logits)


def top_p(logits: Logits, p: Scalar, min_tokens_to_keep: int = 1) -> Logits:
    """Keep the most likely tokens: the fewest whose probabilities add up to `p` or more.

    The least likely are removed, as long as their probabilities add up to 1 - p or less. Of equal
    ones the first go first.

    Shapes: (*batch, vocabulary), kept. Dtypes: floating point, kept. In half precision,
    probabilities and sums are rounded, as in torch.

    Args:
        logits: the logits.
        p: from 0 to 1; may be traced.
        min_tokens_to_keep: how many stay, whatever `p` is.

    Raises:
        ValueError: if `p` is not from 0 to 1, or `min_tokens_to_keep` is below 1.
        TypeError: if one is no number, or the logits are not floating-point.

    Source: Holtzman et al., 2020; transformers.TopPLogitsWarper.

    Example:
        >>> import jax.numpy as jnp
        >>> top_p(jnp.log(jnp.array([[0.1, 0.5, 0.3, 0.1]])), 0.75).round(1)
        Array([[-inf, -0.7, -1.2, -inf]], dtype=float32)
    """
    logits = _checked(logits, "top_p")
    p = _probability(p, "p", "top_p")
    ascending = by_platform(cpu=_sorted_as_integers, default=jnp.sort)(logits)
    sums = rounded(jnp.cumsum(_probabilities(ascending), axis=-1), logits.dtype)
    limit = rounded(jnp.asarray(1 - p, sums.dtype), logits.dtype)
    count = (sums <= limit).sum(-1, keepdims=True)
    most = max(logits.shape[-1] - _least(min_tokens_to_keep, "top_p"), 0)
    return _without_smallest(logits, ascending, jnp.minimum(count, most))


def min_p(logits: Logits, p: Scalar, min_tokens_to_keep: int = 1) -> Logits:
    """Keep the tokens whose probability is at least `p` times that of the most likely one.

    y = logits where softmax(logits) >= p * max(softmax(logits)), else -inf

    Shapes: (*batch, vocabulary), kept. Dtypes: floating point, kept. In half precision the
    probabilities are rounded, as in torch.

    Args:
        logits: the logits.
        p: from 0 to 1; may be traced.
        min_tokens_to_keep: how many stay, whatever `p` is; of equal ones the first.

    Raises:
        ValueError: if `p` is not from 0 to 1, or `min_tokens_to_keep` is below 1.
        TypeError: if one is no number, or the logits are not floating-point.

    Source: Nguyen et al., 2024; transformers.MinPLogitsWarper.

    Example:
        >>> import jax.numpy as jnp
        >>> min_p(jnp.log(jnp.array([[0.1, 0.5, 0.3, 0.1]])), 0.5).round(1)
        Array([[-inf, -0.7, -1.2, -inf]], dtype=float32)
    """
    logits = _checked(logits, "min_p")
    p = jnp.asarray(_probability(p, "p", "min_p"), accumulation_dtype(logits.dtype))
    probabilities = _probabilities(logits)
    least = rounded(p * probabilities.max(-1, keepdims=True), logits.dtype)
    removed = probabilities < least
    kept = min(_least(min_tokens_to_keep, "min_p"), logits.shape[-1])
    if kept > 1:  # the most likely one is never removed
        _, tokens = lax.top_k(probabilities, kept)
        removed = jnp.put_along_axis(removed, tokens, False, axis=-1, inplace=False)
    return jnp.where(removed, -jnp.inf, logits)


def repetition_penalty(
    logits: Logits,
    ids: Int[Array, "*batch length"],
    penalty: Scalar,
    mask: Bool[Array, "*batch length"] | None = None,
) -> Logits:
    """Make the tokens that were there before less likely, each once.

    y[t] = logits[t] / penalty where logits[t] >= 0, else logits[t] * penalty, for t in ids

    Shapes: (*batch, vocabulary), kept. Dtypes: floating point, kept; computed in float32 or wider.

    Args:
        logits: the logits.
        ids: the tokens so far. One outside of the vocabulary has no effect.
        penalty: a positive number, which may be traced; below 1 it is a reward.
        mask: which of `ids` count; by default all.

    Raises:
        ValueError: if the penalty is not positive.
        TypeError: if it is no number, or the logits are not floating-point.

    Source: Keskar et al., 2019; transformers.RepetitionPenaltyLogitsProcessor.

    Example:
        >>> import jax.numpy as jnp
        >>> repetition_penalty(jnp.array([[2.0, -2.0, 2.0]]), jnp.array([[0, 1, 0]]), 2.0)
        Array([[ 1., -4.,  2.]], dtype=float32)
    """
    logits = _checked(logits, "repetition_penalty")
    penalty = _positive(penalty, "penalty", "repetition_penalty")
    wide = logits.astype(accumulation_dtype(logits.dtype))
    penalty = jnp.asarray(penalty, wide.dtype)
    penalised = jnp.where(wide < 0, wide * penalty, divide(wide, penalty))
    penalised = rounded(penalised, logits.dtype).astype(logits.dtype)
    seen = _occurring(ids, mask, logits.shape[-1])
    return jnp.where(seen, penalised, logits)


# The options of `process` have the names of what they are for.
_penalise = repetition_penalty
_FILTERS: tuple[Callable[..., Logits], ...] = (top_k, top_p, min_p)


def process(
    logits: Logits,
    ids: Int[Array, "*batch length"] | None = None,
    mask: Bool[Array, "*batch length"] | None = None,
    *,
    repetition_penalty: Scalar | None = None,
    temperature: Scalar | None = None,
    top_k: int | None = None,
    top_p: Scalar | None = None,
    min_p: Scalar | None = None,
    min_tokens_to_keep: int = 1,
) -> Logits:
    """Change logits as transformers does, in its order: that of the options here.

    An option that is None has no effect, as have a penalty, a temperature and a `top_p` of 1, and a
    `top_k` and a `min_p` of 0. The functions of these names say what each does.

    Shapes: (*batch, vocabulary), kept. Dtypes: floating point, kept.

    Args:
        logits: the logits of the next token.
        ids: the tokens so far, for the penalty.
        mask: which of them count; by default all.
        repetition_penalty: by what the logits of the tokens so far are divided.
        temperature: by what all are divided then.
        top_k: how many stay; static.
        top_p: up to what sum of probabilities.
        min_p: from what share of the largest probability on.
        min_tokens_to_keep: how many stay at least.

    Raises:
        ValueError: if an option is out of its range, or there is a penalty without `ids`.
        TypeError: if one is no number, or the logits are not floating-point.

    Source: transformers.GenerationMixin.

    Example:
        >>> import jax.numpy as jnp
        >>> process(jnp.array([[1.0, 3.0, 2.0, 0.0]]), temperature=0.5, top_k=3, min_p=0.1)
        Array([[-inf,   6.,   4., -inf]], dtype=float32)
    """
    if repetition_penalty is not None and not _is(repetition_penalty, 1):
        if ids is None:
            raise ValueError(
                f"{_name('process')}: `repetition_penalty` needs the tokens so far, got ids=None; "
                "pass ids=, of shape (batch, length)"
            )
        logits = _penalise(logits, ids, repetition_penalty, mask)
    if temperature is not None and not _is(temperature, 1):
        logits = with_temperature(logits, temperature)
    for keep, option, nothing in zip(_FILTERS, (top_k, top_p, min_p), (0, 1, 0), strict=True):
        if option is not None and not _is(option, nothing):
            logits = keep(logits, option, min_tokens_to_keep)
    return logits


def sample(key: jax.Array, logits: Logits) -> Int[Array, "*batch"]:
    """Draw a token from the distribution that logits stand for.

    P(t) = softmax(logits)[t]

    Shapes: (*batch, vocabulary) -> (*batch). Dtypes: floating point, computed in float32 or wider.

    Args:
        key: the random key.
        logits: the logits; minus infinity is never drawn.

    Raises:
        TypeError: if the logits are not floating-point.

    Source: jax.random.categorical.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> sample(jax.random.key(0), jnp.array([[-jnp.inf, 1.0], [2.0, -jnp.inf]]))
        Array([1, 0], dtype=int32)
    """
    logits = _checked(logits, "sample")
    return jax.random.categorical(key, logits.astype(accumulation_dtype(logits.dtype)))


# --- what they share ----------------------------------------------------------------------------


def _without_smallest(logits: Logits, ascending: Logits, count: Int[Array, "*batch 1"]) -> Logits:
    """Remove the `count` smallest logits, of equal ones the first; `ascending` has them in order.

    That of equal ones the first are meant saves to sort places with the values.
    """
    bound = jnp.take_along_axis(ascending, count, axis=-1)
    is_smaller, is_equal = logits < bound, logits == bound
    left = count - is_smaller.sum(-1, keepdims=True)
    removed = is_smaller | (is_equal & (jnp.cumsum(is_equal, axis=-1) <= left))
    return jnp.where(removed, -jnp.inf, logits)


def _sorted_as_integers(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the last dimension in ascending order.

    On a CPU XLA sorts integers five times as fast as floating-point numbers, whose order, as that
    of their bits, is that of integers once those of the negative ones are flipped.
    """
    integer = jnp.dtype(f"int{8 * x.dtype.itemsize}")

    def flip(bits: Int[Array, "..."]) -> Int[Array, "..."]:
        return jnp.where(bits < 0, bits ^ jnp.iinfo(integer).max, bits)

    bits = jnp.sort(flip(lax.bitcast_convert_type(x, integer)), axis=-1)
    return lax.bitcast_convert_type(flip(bits), x.dtype)


def _probabilities(logits: Logits) -> Logits:
    """Return the probabilities, rounded to the dtype of the logits, in float32 or wider."""
    wide = accumulation_dtype(logits.dtype)
    return rounded(jax.nn.softmax(logits.astype(wide), axis=-1), logits.dtype)


def _occurring(ids: Any, mask: Any, size: int) -> Bool[Array, "*batch vocabulary"]:
    """Whether each token of a vocabulary of `size` is among the ids that count."""
    ids = check_array(ids, "ids", _name("repetition_penalty"))
    counts = (ids >= 0) & (ids < size)
    if mask is not None:
        counts &= check_array(mask, "mask", _name("repetition_penalty")).astype(bool)
    none = jnp.zeros((*ids.shape[:-1], size + 1), bool)
    # The last place is for those that do not.
    places = jnp.where(counts, ids, size)
    return jnp.put_along_axis(none, places, True, axis=-1, inplace=False)[..., :-1]


def _is(option: Any, number: int) -> bool:
    return is_known(option) and bool(option == number)


def _name(function: str) -> str:
    return f"jaxnn.generation.sampling.{function}"


def _checked(logits: Any, function: str) -> jax.Array:
    logits = check_array(logits, "logits", _name(function))
    check_floating(logits, "logits", _name(function))
    if not logits.ndim:
        raise ValueError(
            f"{_name(function)}: `logits` must be of shape (batch, vocabulary), got a scalar; give "
            "it the dimension of the vocabulary"
        )
    return logits


def _positive(value: Any, name: str, function: str, hint: str = "") -> Any:
    value = check_number(value, name, _name(function))
    if is_known(value) and not value > 0:
        raise ValueError(f"{_name(function)}: `{name}` must be positive, got {value}{hint}")
    return value


def _probability(value: Any, name: str, function: str) -> Any:
    value = check_number(value, name, _name(function))
    if is_known(value) and not 0 <= value <= 1:
        raise ValueError(f"{_name(function)}: `{name}` must lie between 0 and 1, got {value}")
    return value


def _least(min_tokens_to_keep: Any, function: str) -> int:
    return check_int(min_tokens_to_keep, "min_tokens_to_keep", _name(function), 1)
