"""Inputs of every rank: what torch's function takes, jaxnn's takes, and gives the same."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxnn

SIZES = (4, 3, 5, 6, 4, 3)
RANKS = range(7)
Call = tuple[tuple[Any, ...], dict[str, Any]]
CALLS: dict[str, list[Call]] = {}

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of layouts that either will refuse, or does not like
    pytest.mark.standard_promotion,
]


def floats(rank: int, sizes: tuple[int, ...] = SIZES) -> np.ndarray:
    count = int(np.prod(sizes[:rank]))
    return (0.1 + 0.8 * (np.arange(count) * 37 % 101) / 101).reshape(sizes[:rank]).astype("f")


def ones(rank: int, size: int = 2) -> np.ndarray:
    return np.ones((size,) * rank, np.float32)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int64)


def add(name: str, *args: Any, label: str = "", **options: Any) -> None:
    CALLS.setdefault(f"{name} {label}".strip(), []).append((args, options))


def vectors(size: int, count: int) -> list[np.ndarray]:
    return [np.full(size, 1 + k / 2, np.float32) for k in range(count)]


ELEMENTWISE = (
    "relu", "relu6", "gelu", "silu", "mish", "elu", "celu", "selu", "leaky_relu", "logsigmoid",
    "hardswish", "hardsigmoid", "hardtanh", "softplus", "softshrink", "hardshrink", "tanhshrink",
    "softsign", "sigmoid", "tanh",
)  # fmt: skip
LOSSES = (
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "soft_margin_loss",
    "hinge_embedding_loss", "multilabel_soft_margin_loss", "cross_entropy",
)  # fmt: skip

for rank in RANKS:
    x = floats(rank)
    for name in (*ELEMENTWISE, "normalize", "instance_norm"):
        add(name, x)
    for name in ("softmax", "log_softmax", "softmin"):
        add(name, x, -1)
    for name in LOSSES:
        add(name, x, x)
    for name in ("dropout", "alpha_dropout", "feature_alpha_dropout"):
        add(name, x, 0.5, False)
    add("glu", ones(rank, 4))
    add("linear", ones(rank), np.ones((3, 2), np.float32))
    add("linear", ones(rank), np.ones((2,), np.float32))
    add("bilinear", ones(rank), ones(rank), np.ones((3, 2, 2), np.float32))
    add("local_response_norm", x, 2)
    add("pdist", x)
    add("scaled_dot_product_attention", ones(rank), ones(rank), ones(rank))
    add("channel_shuffle", floats(rank, (2, 4, 2, 2, 2, 2)), 2)
    for size in (1, 3):
        add("prelu", x, *vectors(size, 1))
    for count in range(min(rank, 2) + 1):
        for name in ("layer_norm", "rms_norm"):
            add(name, x, x.shape[rank - count :])
    for groups in (1, 2, 4):
        add("group_norm", floats(rank, (4, 4, 2, 2, 2, 2)), groups)
    for training in (True, False):
        add("batch_norm", x, None, None, None, None, training, label="without statistics")
        for size in (1, 3, 4):
            add("batch_norm", x, *vectors(size, 2), None, None, training)
            add("batch_norm", x, *vectors(size, 4), training, label="with weights")
        add("instance_norm", x, *vectors(3, 2), None, None, training, label="with statistics")
    for dims in (1, 2, 3):
        for name in ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool"):
            add(f"{name}{dims}d", x, 2)
        add(f"lp_pool{dims}d", x, 2.0, 2)
        add(f"dropout{dims}d", x, 0.5, False)
        for channels in (3, 4):
            kernel = (2,) * dims
            add(f"conv{dims}d", x, np.ones((2, channels, *kernel), np.float32))
            add(f"conv_transpose{dims}d", x, np.ones((channels, 2, *kernel), np.float32))
        for mode in ("constant", "reflect", "replicate", "circular"):
            add("pad", x, (1, 1) * dims, mode, label=f"{mode} {dims}d")
    for reduction in ("mean", "none"):
        for shape in ((), (4,), (4, 5), (4, 5, 6), (4, 5, 6, 4), (4, 5, 6, 4, 3)):
            for name in ("nll_loss", "cross_entropy"):
                add(name, x, zeros(*shape), reduction=reduction, label="of classes")
for rank in range(5):
    x = floats(rank)
    ids = zeros(*SIZES[:rank])
    add("embedding", ids, floats(2))
    add("embedding_bag", ids, floats(2))
    add("embedding_bag", ids, floats(2), np.array([0, 2]), label="with offsets")
    add("one_hot", ids, num_classes=3)
    add("multilabel_margin_loss", x, ids)
    add("triplet_margin_with_distance_loss", x, x, x)
    for other in map(floats, range(5)):
        add("gaussian_nll_loss", x, x, other)
        add("cosine_similarity", x, other)
        add("pairwise_distance", x, other)
        add("margin_ranking_loss", x, x, other)
        add("triplet_margin_loss", x, x, other)
    for shape in ((), (1,), (4,)):
        add("multi_margin_loss", x, zeros(*shape))
        add("cosine_embedding_loss", x, x, np.ones(shape, np.int64))
for shape, lengths in (((5, 3), ()), ((5, 3), (1,)), ((5, 1, 3), (1,)), ((5, 2, 3), (2,))):
    scores = np.full(shape, -np.log(3), np.float32)
    for targets in ((1,), (2,), (3,), (1, 2), (2, 2)):
        for length in (1, 2):
            add(
                "ctc_loss",
                scores,
                1 + zeros(*targets),
                np.full(lengths, 5),
                np.full(lengths, length),
            )


def result(function: Any, of: Any, call: Call) -> Any:
    args, options = call
    try:
        return np.asarray(function(*map(of, args), **options))
    except (
        RuntimeError,
        ValueError,
        TypeError,
        IndexError,
        AssertionError,
        NotImplementedError,
    ) as e:
        return e


@pytest.mark.parametrize("name", CALLS)
def test_every_rank(name: str) -> None:
    function = name.split(maxsplit=1)[0]
    accepted = 0
    for call in CALLS[name]:
        wanted = result(
            getattr(torch.nn.functional, function),
            lambda a: torch.from_numpy(np.array(a)) if isinstance(a, np.ndarray) else a,
            call,
        )
        got = result(
            getattr(jaxnn.functional, function),
            lambda a: jnp.asarray(a) if isinstance(a, np.ndarray) else a,
            call,
        )
        shapes = [getattr(a, "shape", a) for a in call[0]]
        refused = isinstance(wanted, Exception)
        assert isinstance(got, Exception) == refused, (shapes, call[1], wanted, got)
        if refused:
            assert isinstance(got, (ValueError, TypeError, IndexError)), (shapes, got)
            assert str(got).startswith(f"{function}: "), (shapes, got)
        else:
            accepted += 1
            assert got.shape == wanted.shape, (shapes, call[1])
            np.testing.assert_allclose(got, wanted, 1e-4, 1e-5, err_msg=f"{shapes}, {call[1]}")
    assert accepted
