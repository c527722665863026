"""The gradients of operators where they are a choice: at zeros, ties, corners, ends of ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional as F

import jaxnn
from jaxnn.interop.importer.operators import OPERATORS as IMPORTED

OPERATORS: dict[str, Callable[[Any], Any]] = {
    "cdist": lambda x: torch.cdist(x, x),
    "pairwise_distance": lambda x: F.pairwise_distance(x, x),
    "dist": lambda x: torch.dist(x, x * 1),
    "std": lambda x: x.std(1),
    "var": lambda x: x.var(1),
    "logsumexp": lambda x: torch.logsumexp(x, 1),
    "logaddexp": lambda x: torch.logaddexp(x, x),
    "logcumsumexp": lambda x: x.logcumsumexp(1),
    "cosine_similarity": lambda x: F.cosine_similarity(x, x),
    "normalize": F.normalize,
    "norm": lambda x: x.norm(),
    "norm of rows": lambda x: x.norm(dim=1),
    "vector_norm 1": lambda x: torch.linalg.vector_norm(x, 1, dim=1),
    "vector_norm 3": lambda x: torch.linalg.vector_norm(x, 3, dim=1),
    "vector_norm 0.5": lambda x: torch.linalg.vector_norm(x, 0.5, dim=1),
    "vector_norm inf": lambda x: torch.linalg.vector_norm(x, float("inf"), dim=1),
    "renorm": lambda x: x.renorm(2, 0, 1.0),
    "hypot": lambda x: torch.hypot(x, x),
    "hypot and 0": lambda x: torch.hypot(x, x * 0),
    "atan2": lambda x: torch.atan2(x, x),
    "atan2 and 0": lambda x: torch.atan2(x * 0, x),
    "angle": torch.angle,
    "angle of complex": lambda x: torch.angle(torch.complex(x, x)),
    "abs of complex": lambda x: torch.complex(x, x).abs(),
    "pow 2": lambda x: x.pow(2.0),
    "pow 0": lambda x: x.pow(0.0),
    "pow 0.5": lambda x: x.pow(0.5),
    "pow 1.5": lambda x: x.pow(1.5),
    "pow x": lambda x: torch.pow(x, x),
    "pow x + 1": lambda x: torch.pow(x, x + 1),
    "x to -1": lambda x: torch.pow(x, x - 1),
    "2 to x": lambda x: torch.pow(2.0, x),
    "0 to x": lambda x: torch.pow(0.0, x),
    "sqrt": torch.sqrt,
    "log": torch.log,
    "reciprocal": torch.reciprocal,
    "acos": lambda x: (x + 1).acos(),
    "asin": torch.asin,
    "sinc": torch.sinc,
    "i0": torch.i0,
    "erfinv": torch.erfinv,
    "lgamma": lambda x: torch.lgamma(x + 1),
    "digamma": lambda x: torch.digamma(x + 1),
    "xlogy": lambda x: torch.xlogy(x, x),
    "xlog1py": lambda x: torch.special.xlog1py(x, x),
    "entr": torch.special.entr,
    "logit": lambda x: torch.logit(x, eps=0.1),
    "prod": lambda x: x.prod(1),
    "cumprod": lambda x: x.cumprod(1),
    "amax": lambda x: x.amax(1),
    "aminmax": lambda x: x.aminmax(dim=1)[0],
    "max": lambda x: x.max(1)[0],
    "max of all": torch.max,
    "min of all": torch.min,
    "median of all": torch.median,
    "cummax": lambda x: x.cummax(1)[0],
    "cummin": lambda x: x.cummin(1)[0],
    "sort": lambda x: x.sort(1)[0],
    "maximum": lambda x: torch.maximum(x, x * 1),
    "minimum": lambda x: torch.minimum(x, x),
    "fmax": lambda x: torch.fmax(x, x * 1),
    "clamp": lambda x: x.clamp(0, 1),
    "clamp by tensors": lambda x: torch.clamp(x, x * 1, x + 1),
    "where": lambda x: torch.where(x > 0, x, x * 2),
    "remainder": lambda x: torch.remainder(x, 2),
    "fmod": lambda x: torch.fmod(x, 2),
    "frac": torch.frac,
    "round": torch.round,
    "abs": torch.abs,
    "copysign": lambda x: torch.copysign(x + 1, x),
    "nansum": lambda x: x.nansum(1),
    "nan_to_num": lambda x: torch.nan_to_num(x / x),
    "relu": F.relu,
    "relu6": lambda x: F.relu6(x + 5),
    "leaky_relu": F.leaky_relu,
    "prelu": lambda x: F.prelu(x, torch.tensor([0.25])),
    "elu": F.elu,
    "celu": F.celu,
    "selu": F.selu,
    "hardtanh": F.hardtanh,
    "hardshrink": lambda x: F.hardshrink(x + 0.5),
    "softshrink": lambda x: F.softshrink(x + 0.5),
    "hardswish": lambda x: F.hardswish(x + 3),
    "hardsigmoid": lambda x: F.hardsigmoid(x - 3),
    "threshold": lambda x: F.threshold(x, 0, 1),
    "softsign": F.softsign,
    "smooth_l1_loss": lambda x: F.smooth_l1_loss(x, x * 1),
    "huber_loss": lambda x: F.huber_loss(x, x * 1),
    "l1_loss": lambda x: F.l1_loss(x, x * 1),
    "max_pool": lambda x: F.max_pool1d(x, 2),
    "adaptive_max_pool": lambda x: F.adaptive_max_pool1d(x, 2),
    "lp_pool": lambda x: F.lp_pool1d(x, 2.0, 2),
}


class Sums(torch.nn.Module):
    """The sum of each operator's result, of an input of its own: a NaN reaches no other."""

    def forward(self, inputs):
        pairs = zip(OPERATORS.values(), inputs, strict=True)
        return torch.stack([operator(x).sum() for operator, x in pairs])


@pytest.fixture(scope="module")
def sums() -> Any:
    with jax.numpy_dtype_promotion("standard"):
        net = jaxnn.from_torch(Sums().eval(), torch.randn(len(OPERATORS), 4, 4), check=False)

    def total(inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = net(inputs)
        return found.sum(), found

    return jax.jit(jax.grad(total, has_aux=True))


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -1.0])
def test_gradients_are_torchs(sums, value):
    x = torch.full((4, 4), value)
    gradients, values = sums(jnp.broadcast_to(jnp.asarray(x), (len(OPERATORS), 4, 4)))
    wrong = []
    for at, (name, operator) in enumerate(OPERATORS.items()):
        leaf = x.clone().requires_grad_()
        wanted = operator(leaf).sum()
        (gradient,) = torch.autograd.grad(wanted, leaf)
        for got, want in ((values[at], wanted.detach()), (gradients[at], gradient)):
            if not np.allclose(got, want, 1e-4, 1e-5, equal_nan=True):
                wrong.append(f"{name}: {got}, torch has {want}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["amax", "amin"])
def test_a_maximum_has_its_gradient_where_its_operand_is_rounded_twice(name: str):
    """Of sums, which XLA may compute anew, in another order, where the maximum is compared."""
    draw = np.random.default_rng(0)
    x, weight = (
        jnp.asarray(draw.normal(size=size), jnp.float32) for size in ((3, 7, 3, 6), (8, 6))
    )
    mask = jnp.asarray(draw.random((3, 7)) > 0.3)[..., None]
    ones = jnp.ones(8)

    def normalised(weight: jax.Array) -> jax.Array:
        rows = jaxnn.functional.linear(x, weight, ones)[:, :, 0]
        rows = jaxnn.functional.group_norm(jnp.swapaxes(rows, 1, 2), 2, ones, ones)
        return jnp.where(mask, jnp.swapaxes(rows, 1, 2), 0)

    def shares(weight: jax.Array) -> jax.Array:
        return jax.grad(lambda rows: IMPORTED[name](rows, 1).sum())(normalised(weight))

    # As a program is compiled that runs once.
    lowered = jax.jit(shares).lower(weight)
    found = lowered.compile(compiler_options={"xla_backend_optimization_level": 0})(weight)
    np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_array_equal(found, lowered.compile()(weight))
