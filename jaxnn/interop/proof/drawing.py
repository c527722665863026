"""Random numbers that are the same in PyTorch and in JAX: each is one fixed number.

Two libraries draw different numbers, so what draws is compared with every draw fixed: uniform
numbers are 1/32, and the others what follows from that. A dropout then keeps, and scales, what it
is given. In JAX this is a kind of key, so that no program compiled for another key is mistaken for
one of these, nor the other way round; in PyTorch it is a mode, which asks the importer's operators
what they draw from such a key.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.random import define_prng_impl

from ..checkpoint import as_numpy, as_tensor
from ..importer.operators import DRAWING, OPERATORS

# The uniform number that everything is drawn from, 2^-5: below the probability to keep of any
# dropout in use.
UNIFORM = 1 / 32
_IGNORED = {"layout", "device", "pin_memory", "memory_format", "generator"}


class CannotFix(ValueError):
    """The original draws random numbers by an operator whose draws cannot be fixed."""


def _bits(key: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array:
    # A uniform number is made of the upper bits.
    return jnp.full(shape, 1 << (width - 5), f"uint{width}")


@cache
def _implementation() -> Any:
    return define_prng_impl(
        key_shape=(1,),
        seed=lambda seed: jnp.zeros((1,), jnp.uint32),
        split=lambda key, shape: jnp.broadcast_to(key, (*shape, 1)),
        random_bits=_bits,
        fold_in=lambda key, data: key,
        name="jaxnn_fixed",
        tag="fixed",
    )


def fixed_key() -> jax.Array:
    """Return a key from which the same number is drawn again and again.

    >>> float(jax.random.uniform(fixed_key()))
    0.03125
    """
    return jax.random.key(0, impl=_implementation())


def fix_streams(net: nnx.Module) -> None:
    """Let every stream of random numbers in `net` draw from the fixed key."""
    for _, node in nnx.iter_graph(net):
        if isinstance(node, nnx.RngKey):
            node.set_value(jnp.broadcast_to(fixed_key(), node.shape))


@contextmanager
def fixed_in_torch() -> Iterator[list[str]]:
    """Let PyTorch draw the fixed numbers; what is yielded lists the operators that drew.

    Raises:
        CannotFix: inside, at an operator that the importer does not know.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    drawn: list[str] = []

    class Fixed(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            options = dict(kwargs or {})
            if torch.Tag.nondeterministic_seeded in func.tags:
                given = _by_name(func._schema.arguments, args, options)
                name = func._schema.name.partition("::")[2]
                if _draws(name, given):
                    drawn.append(name)
                    return _fixed(name, given)
            return func(*args, **options)

    with torch.random.fork_rng(devices=[]), Fixed():
        yield drawn


def _by_name(arguments: Any, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of an operator under their names; torch leaves out what is default."""
    defaults = {
        argument.name: argument.default_value
        for argument in arguments
        if argument.default_value is not None and argument.name != "dtype"
    }
    names = [argument.name for argument in arguments]
    return defaults | dict(zip(names, args, strict=False)) | kwargs


def _draws(name: str, given: dict[str, Any]) -> bool:
    """Whether an operator that may draw does so with these arguments."""
    if name.startswith("rrelu"):
        return bool(given.get("training"))
    return "dropout_p" not in given or bool(given["dropout_p"] > 0)


def _fixed(name: str, given: dict[str, Any]) -> Any:
    """Return what an operator of torch gives where every draw is fixed, changing what it would."""
    if name.startswith("rrelu_with_noise"):
        return _leaky(name, **given)
    plain = name.removesuffix("_")
    cannot = f"it draws random numbers by aten.{name}, which cannot be fixed"
    if plain not in DRAWING or "dropout_p" in given:
        raise CannotFix(cannot)
    options = {key: _in_jax(value) for key, value in given.items() if key not in _IGNORED}
    try:
        result = jax.tree.map(as_tensor, OPERATORS[plain](fixed_key, **options))
    except (TypeError, ValueError) as error:
        raise CannotFix(f"{cannot}: {error}") from error
    if name.endswith("_"):
        return given["self"].copy_(result)
    return result


def _in_jax(value: Any) -> Any:
    if hasattr(value, "detach"):
        return jnp.asarray(as_numpy(value.detach()))
    if isinstance(value, (tuple, list)):
        return [_in_jax(item) for item in value]
    text = str(value)
    return text.removeprefix("torch.") if text.startswith("torch.") else value


def _leaky(
    name: str,
    self: Any,
    noise: Any,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Any = None,
) -> Any:
    """Return RReLU with its one slope; `noise` gets the slopes, which its gradient uses."""
    noise.copy_(noise.new_ones(()).where(self > 0, lower + (upper - lower) * UNIFORM))
    result = self * noise
    return self.copy_(result) if name.endswith("_") else result
