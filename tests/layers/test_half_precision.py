"""Sums, norms and variances of half precision, from the smallest to the largest numbers.

What torch computes in half precision without overflow, jaxnn computes as near to the exact result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from flax import nnx
from jaxtyping import Array
from torch.nn.utils import clip_grad_norm_, get_total_norm

import jaxnn
from jaxnn.interop.importer.operators import OPERATORS
from jaxnn.utils import _norms
from torchref.backend import to_numpy, to_torch

F: Any = jaxnn.functional
TF: Any = torch.nn.functional
INF = float("inf")
UNIT = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
SMALLEST = {"float16": 2.0**-24, "bfloat16": 2.0**-133}
NUMPY = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
SCALES = (1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 1.0, 30.0, 300.0, 3e3, 6e4)
LABELS = np.array([0, 3, 2, 5])
SIGNS = np.array([1, -1, 1, -1])
IDS = np.array([0, 1, 1])

Pair = tuple[Callable[[Any], Any], Callable[[Any], Any]]
CASES: dict[str, Pair] = {}


def both(name: str, *args: Any, of: Callable[[Any], Any] = lambda x: x, **options: Any) -> None:
    """Enter a function of `torch.nn.functional`, of an input with four rows of six."""
    ours, theirs = getattr(F, name), getattr(TF, name)
    label = "-".join([name, *map(str, args), *map(str, options.values())])
    CASES[label] = (
        lambda x: ours(of(x), *args, **options),
        lambda x: theirs(of(x), *args, **options),
    )


def of_two(name: str, label: str, ours: Any, theirs: Any) -> None:
    """Enter a function of the input and of half of its rows in the other order."""
    CASES[f"{name}-{label}"] = (
        lambda x: ours(x, x[::-1] * jnp.asarray(0.5, x.dtype)),
        lambda x: theirs(x, x.flip(0) * 0.5),
    )


def operator(
    name: str, *args: Any, theirs: Any = None, first: bool = False, **options: Any
) -> None:
    """Enter an operator of the importer, with the torch function that it stands for."""
    function = theirs or getattr(torch, name)
    label = "-".join(["operator", name, *map(str, args), *map(str, options.values())])
    part = (lambda result: result[0]) if first else (lambda result: result)
    CASES[label] = (
        lambda x: part(OPERATORS[name](x, *args, **options)),
        lambda x: part(function(x, *args, **options)),
    )


for p in (0.5, 1.0, 2.0, 3.0, INF, -INF, 0.0, -1.0):
    both("normalize", p)
    if p != 0:  # which has no gradient
        for dim in ([1], None):
            operator("norm", p, dim)
        operator("linalg_vector_norm", p, [1], theirs=torch.linalg.vector_norm)
for p in (1.0, 2.0, 3.0, INF):
    of_two("pairwise_distance", str(p), partial(F.pairwise_distance, p=p),
           partial(TF.pairwise_distance, p=p))  # fmt: skip
    of_two("dist", str(p), partial(OPERATORS["dist"], p=p), partial(torch.dist, p=p))
of_two("cosine_similarity", "", F.cosine_similarity, TF.cosine_similarity)
both("lp_pool1d", 2.0, 2)
both("lp_pool2d", 2.0, 2, of=lambda x: x.reshape(1, 2, 3, 4))
both("layer_norm", (6,))
both("rms_norm", (6,))
both("rms_norm", (6,), None, 1e-30)
both("batch_norm", None, None, None, None, True)
both("instance_norm", of=lambda x: x.reshape(1, 4, 6))
both("group_norm", 2)
both("local_response_norm", 3, of=lambda x: x.reshape(1, 4, 6))
for name in ("softmax", "log_softmax", "softmin"):
    both(name, 1)
both("avg_pool1d", 3)
both("adaptive_avg_pool1d", 4)
CASES["embedding-max_norm"] = (
    lambda x: F.embedding(jnp.asarray(IDS), x, max_norm=1.0),
    # Times one, since torch refuses to write to a leaf.
    lambda x: TF.embedding(torch.tensor(IDS), x * 1, max_norm=1.0),
)
CASES["embedding_bag-max_norm"] = (
    lambda x: F.embedding_bag(jnp.asarray(IDS)[None], x, max_norm=1.0, mode="sum"),
    lambda x: TF.embedding_bag(torch.tensor(IDS)[None], x * 1, max_norm=1.0, mode="sum"),
)
of_two("kl_div", "batchmean", partial(F.kl_div, reduction="batchmean"),
       partial(TF.kl_div, reduction="batchmean"))  # fmt: skip
for reduction in ("none", "mean", "sum"):
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss",
                 "poisson_nll_loss", "hinge_embedding_loss"):  # fmt: skip
        of_two(name, reduction, partial(getattr(F, name), reduction=reduction),
               partial(getattr(TF, name), reduction=reduction))  # fmt: skip
    for name in ("triplet_margin_loss", "gaussian_nll_loss"):
        ours, theirs = (partial(getattr(f, name), reduction=reduction) for f in (F, TF))
        third = (
            (lambda x: x * x)
            if name == "gaussian_nll_loss"
            else (lambda x: x[np.array([1, 2, 3, 0])])
        )
        of_two(name, reduction, lambda a, b, f=ours, g=third: f(a, b, g(a)),
               lambda a, b, f=theirs, g=third: f(a, b, g(a)))  # fmt: skip
    for name in ("cross_entropy", "nll_loss"):
        ours, theirs = (partial(getattr(f, name), reduction=reduction) for f in (F, TF))
        CASES[f"{name}-{reduction}"] = (
            lambda x, f=ours: f(x, jnp.asarray(LABELS)),  # type: ignore[misc]
            lambda x, f=theirs: f(x, torch.tensor(LABELS)),  # type: ignore[misc]
        )
    ours, theirs = (partial(f.cosine_embedding_loss, reduction=reduction) for f in (F, TF))
    of_two("cosine_embedding_loss", reduction, lambda a, b, f=ours: f(a, b, jnp.asarray(SIGNS)),
           lambda a, b, f=theirs: f(a, b, torch.tensor(SIGNS)))  # fmt: skip
for name in ("var", "std", "mean", "sum", "var_mean", "std_mean"):
    for dims in ([1], [0], None):
        operator(name, **({} if dims is None else {"dim": dims}))
for name in ("prod", "cumsum", "cumprod", "logcumsumexp", "logsumexp"):
    operator(name, 1)
operator("renorm", 2.0, 0, 1.0)
operator("renorm", 3.0, 1, 2.0)
operator("native_layer_norm", [6], None, None, 1e-5, first=True)
CASES["operator-div-by-norm"] = (
    lambda x: OPERATORS["div"](x, OPERATORS["norm"](x, 2, [1], True)),
    lambda x: x / x.norm(2, [1], True),
)
for dim in (0, 1, -1):
    CASES[f"norm_except_dim-{dim}"] = (
        partial(_norms.norm_except_dim, dim=dim),
        partial(torch.norm_except_dim, pow=2, dim=dim),
    )
    CASES[f"weight_norm-{dim}"] = (
        lambda x, dim=dim: _norms.weight_from(_norms.norm_except_dim(x, dim), x, dim),  # type: ignore[misc]
        lambda x, dim=dim: torch._weight_norm(x, torch.norm_except_dim(x, 2, dim), dim),  # type: ignore[misc]
    )
CASES["operator-_weight_norm"] = (
    lambda x: OPERATORS["_weight_norm"](x, x[:, :1], 0),
    lambda x: torch._weight_norm(x, x[:, :1], 0),
)

# Long sums, of eight columns.
LONG = {
    "sum": (lambda x: OPERATORS["sum"](x, [0]), lambda x: x.sum(0)),
    "mean": (lambda x: OPERATORS["mean"](x, [0]), lambda x: x.mean(0)),
    "var": (lambda x: OPERATORS["var"](x, [0]), lambda x: x.var(0)),
    "std": (OPERATORS["std"], torch.std),
    "norm": (OPERATORS["norm"], torch.norm),
    "cumsum": (lambda x: OPERATORS["cumsum"](x, 0), lambda x: x.cumsum(0)),
    "softmax": (lambda x: F.softmax(x, 0), lambda x: x.softmax(0)),
    "log_softmax": (lambda x: F.log_softmax(x, 0), lambda x: x.log_softmax(0)),
    "logsumexp": (lambda x: OPERATORS["logsumexp"](x, [0]), lambda x: x.logsumexp(0)),
    "normalize": (lambda x: F.normalize(x, dim=0), lambda x: TF.normalize(x, dim=0)),
    "batch_norm": (
        lambda x: F.batch_norm(x, None, None, training=True),
        lambda x: TF.batch_norm(x, None, None, training=True),
    ),
    "layer_norm": (lambda x: F.layer_norm(x, x.shape), lambda x: TF.layer_norm(x, x.shape)),
    "rms_norm": (lambda x: F.rms_norm(x, x.shape), lambda x: TF.rms_norm(x, x.shape)),
    "group_norm": (lambda x: F.group_norm(x.T[None], 2), lambda x: TF.group_norm(x.T[None], 2)),
    "mse_loss": (lambda x: F.mse_loss(x, x[::-1]), lambda x: TF.mse_loss(x, x.flip(0))),
    "cross_entropy": (
        lambda x: F.cross_entropy(x, jnp.zeros(len(x), int)),
        lambda x: TF.cross_entropy(x, torch.zeros(len(x), dtype=torch.long)),
    ),
    "weight_norm": (
        lambda x: _norms.weight_from(_norms.norm_except_dim(x, 1), x, 1),
        lambda x: torch._weight_norm(x, torch.norm_except_dim(x, 2, 1), 1),
    ),
    # The gradient of the row that is added to all is a sum.
    "added-row": (
        lambda x: OPERATORS["add"](x, x[:1]) * OPERATORS["mul"](x, x[:1]),
        lambda x: (x + x[:1]) * (x * x[:1]),
    ),
    "linear": (
        lambda x: F.linear(x, x[:3], x[0, :3]), lambda x: TF.linear(x, x[:3], x[0, :3]),
    ),
    "matmul": (lambda x: OPERATORS["matmul"](x.T, x), lambda x: x.T @ x),
    "adaptive_avg_pool1d": (
        lambda x: F.adaptive_avg_pool1d(x.T, 1), lambda x: TF.adaptive_avg_pool1d(x.T, 1),
    ),
    "embedding": (
        lambda x: F.embedding(jnp.zeros(len(x), int), x),
        lambda x: TF.embedding(torch.zeros(len(x), dtype=torch.long), x),
    ),
}  # fmt: skip


def parts(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple) else [result]


def cotangents(results: list[Any], dtype: str) -> list[np.ndarray]:
    waves = [(np.arange(int(np.prod(y.shape))) * 37 % 17 - 8.25) / 8 for y in results]
    return [w.reshape(y.shape).astype(NUMPY[dtype]) for w, y in zip(waves, results, strict=True)]


def of_torch(function: Any, x: np.ndarray, dtype: str, wide: bool) -> list[np.ndarray]:
    """The results and, last, the gradient; with `wide` computed in float64."""
    cast = torch.float64 if wide else getattr(torch, dtype)
    leaf = to_torch(x).to(cast).requires_grad_()
    results = parts(function(leaf))
    given = [to_torch(c).to(cast) for c in cotangents(results, dtype)]
    torch.autograd.backward(results, given)
    assert leaf.grad is not None
    return [to_numpy(y).astype(np.float64) for y in (*results, leaf.grad)]


def of_jaxnn(function: Any, dtype: str) -> Callable[[Array], list[Array]]:
    @jax.jit
    def run(x: Array) -> list[Array]:
        results, pullback = jax.vjp(lambda x: parts(function(x)), x)
        return [*results, *pullback([jnp.asarray(c) for c in cotangents(results, dtype)])]

    return run


def check(function: Any, pair: Pair, x: np.ndarray, dtype: str) -> None:
    exact = of_torch(pair[1], x, dtype, wide=True)
    theirs = of_torch(pair[1], x, dtype, wide=False)
    assert_as_near(function(jnp.asarray(x)), theirs, exact, dtype)


def assert_as_near(
    ours: list[Array], theirs: list[np.ndarray], exact: list[np.ndarray], dtype: str
) -> None:
    """Where torch's results are finite, ours are as near to the exact ones."""
    for got, their, wanted in zip(ours, theirs, exact, strict=True):
        assert got.dtype == dtype
        assert got.shape == wanted.shape
        value = np.asarray(got).astype(np.float64)
        with np.errstate(invalid="ignore"):
            error, their_error = abs(value - wanted), abs(their - wanted)
        judged = np.isfinite(their) & np.isfinite(wanted)
        size = abs(np.where(judged, wanted, 0))
        largest = np.max(their_error, where=judged, initial=0)
        bound = 2 * largest + 4 * UNIT[dtype] * size + 2 * SMALLEST[dtype]
        wrong = judged & ~(error <= bound)
        assert not wrong.any(), (value[wrong], their[wrong], wanted[wrong])


@pytest.mark.parametrize("dtype", UNIT)
@pytest.mark.parametrize("case", CASES)
def test_every_scale(case: str, dtype: str) -> None:
    numbers = np.array([[(21 * i + 55 * j) % 23 - 10.5 for j in range(6)] for i in range(4)]) / 16
    function = of_jaxnn(CASES[case][0], dtype)
    for scale in SCALES:
        check(function, CASES[case], (numbers * scale).astype(NUMPY[dtype]), dtype)


@pytest.mark.parametrize("dtype", UNIT)
@pytest.mark.parametrize("case", LONG)
def test_long_sums(case: str, dtype: str) -> None:
    numbers = np.random.default_rng(0).normal(0.5, 1, (4096, 8))
    function = of_jaxnn(LONG[case][0], dtype)
    check(function, LONG[case], numbers.astype(NUMPY[dtype]), dtype)


@pytest.mark.parametrize("dtype", UNIT)
@pytest.mark.parametrize("order", [0.5, 1.0, 2.0, 3.0, INF])
def test_total_norm_and_clipping(order: float, dtype: str) -> None:
    numbers = np.linspace(-0.7, 1, 24).reshape(4, 6)
    for scale in SCALES:
        x = (numbers * scale).astype(NUMPY[dtype])
        tensors = [to_torch(x), to_torch(x[0])]
        norm = get_total_norm(tensors, order)
        got = jaxnn.utils.get_total_norm([jnp.asarray(x), jnp.asarray(x[0])], order)
        assert got.dtype == dtype
        np.testing.assert_allclose(
            np.float64(got), norm.double().numpy(), rtol=4 * UNIT[dtype], atol=2 * SMALLEST[dtype]
        )
        for largest in (1e-3, 1.0, 1e4):
            leaves = [torch.nn.Parameter(t.clone()) for t in tensors]
            for leaf, tensor in zip(leaves, tensors, strict=True):
                leaf.grad = tensor.clone()
            clip_grad_norm_(leaves, largest, order)
            clipped, _ = jaxnn.utils.clip_grad_norm(
                [jnp.asarray(x), jnp.asarray(x[0])], largest, order
            )
            for ours, leaf in zip(clipped, leaves, strict=True):
                assert leaf.grad is not None
                wanted = leaf.grad.double().numpy()
                np.testing.assert_allclose(
                    np.asarray(ours).astype(np.float64), wanted,
                    rtol=8 * UNIT[dtype], atol=2 * SMALLEST[dtype],
                )  # fmt: skip


def normalised(utils: Any, name: str, layer: Any) -> Any:
    drawn = {"rngs": nnx.Rngs(1)} if utils is jaxnn.utils and "spectral" in name else {}
    return attrgetter(name)(utils)(layer, **drawn)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("dtype", UNIT)
@pytest.mark.parametrize(
    "name",
    [f"{form}{kind}_norm" for form in ("", "parametrizations.") for kind in ("weight", "spectral")],
)
def test_normalised_weights(name: str, dtype: str) -> None:
    def of_torch(cast: torch.dtype, weight: np.ndarray, x: np.ndarray) -> tuple[Any, Any]:
        layer = torch.nn.Linear(6, 4, bias=False, dtype=cast)
        with torch.no_grad():
            layer.weight.copy_(to_torch(weight))
        layer = normalised(torch.nn.utils, name, layer).eval()
        if cast == torch.float64:
            layer.load_state_dict({key: t.double() for key, t in state.items()})
        y = layer(to_torch(x).to(cast))
        y.sum().backward()
        gradients = {key: p.grad for key, p in layer.named_parameters()}
        values = [to_numpy(v).astype(np.float64) for v in (y, *gradients.values())]
        return (list(gradients), values), layer.state_dict()

    numbers = np.array([[(21 * i + 55 * j) % 23 - 10.5 for j in range(6)] for i in range(4)]) / 16
    x = np.array([[(5 * i + 3 * j) % 11 - 5 for j in range(6)] for i in range(3)]) / 8
    x = x.astype(NUMPY[dtype])
    net = jaxnn.Linear(6, 4, bias=False, dtype=dtype, rngs=nnx.Rngs(0))
    net = normalised(jaxnn.utils, name, net)
    net.eval()

    @jax.jit
    def with_gradients(net: Any, x: Array) -> tuple[Array, Any]:
        graphdef, params, rest = nnx.split(net, nnx.Param, ...)
        y, pullback = jax.vjp(lambda params: nnx.merge(graphdef, params, rest)(x), params)
        return y, pullback(jnp.ones_like(y))[0]

    for scale in SCALES[:-1]:
        weight = (numbers * scale).astype(NUMPY[dtype])
        (names, theirs), state = of_torch(getattr(torch, dtype), weight, x)
        (_, exact), _ = of_torch(torch.float64, weight, x)
        jaxnn.load_state_dict(net, state)
        y, gradients = with_gradients(net, jnp.asarray(x))
        found = {".".join(map(str, path)): value for path, value in nnx.to_flat_state(gradients)}
        assert_as_near([y, *(found[key][...] for key in names)], theirs, exact, dtype)


def test_a_hundred_gradients_of_thirty_are_clipped_to_one() -> None:
    grads = [jnp.full((100,), 30, jnp.float16)]
    clipped, norm = jaxnn.utils.clip_grad_norm(grads, 1.0)
    assert norm == 300
    np.testing.assert_allclose(np.asarray(clipped[0], np.float32), 0.1, rtol=1e-3)
