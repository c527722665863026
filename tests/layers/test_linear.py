"""Linear layers and grouped products against torch."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from against_torch import assert_close, assert_same_function, draw
from flax import nnx
from jax.test_util import check_grads

import jaxnn
import jaxnn.functional as F


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 3), (4, 3), (4,)),
        ((3,), (4, 3), (4,)),
        ((2, 5, 3), (4, 3)),
        ((2, 3), (3,)),
        ((0, 3), (4, 3), (4,)),
        ((2, 0), (4, 0), (4,)),
        ((2, 3), (4, 3), ()),
        ((2, 3), (4, 3), (2, 1)),
    ],
    ids=str,
)
def test_linear(shapes: tuple[tuple[int, ...], ...]) -> None:
    arguments = [draw(*shape) for shape in shapes]
    assert_same_function(F.linear, torch.nn.functional.linear, *arguments)


def test_integers() -> None:
    x, w = np.arange(6).reshape(2, 3), np.arange(12).reshape(4, 3)
    expected = torch.nn.functional.linear(torch.tensor(x), torch.tensor(w))
    np.testing.assert_array_equal(F.linear(x, w), expected)
    images, kernels = x.reshape(1, 1, 2, 3), w[:2, :2].reshape(1, 1, 2, 2)
    expected = torch.nn.functional.conv2d(torch.tensor(images), torch.tensor(kernels))
    np.testing.assert_array_equal(F.conv2d(images, kernels), expected)


def test_refusals() -> None:
    x = jnp.ones((2, 4, 5, 6))
    rngs = nnx.Rngs(0)
    for make, error, words in [
        (lambda: jaxnn.Linear(2, 3), ValueError, r"rngs=nnx\.Rngs"),
        (lambda: jaxnn.Linear(2, 3, rngs=0), TypeError, "rngs"),
        (lambda: jaxnn.Linear(2, 3, device="cpu", rngs=rngs), TypeError, "device_put"),
        (lambda: jaxnn.Linear(-1, 3, rngs=rngs), ValueError, "in_features"),
        (lambda: jaxnn.Linear(2.0, 3, rngs=rngs), TypeError, "in_features"),
        (lambda: jaxnn.Linear(7, 3, rngs=rngs)(x), ValueError, "in_features=7"),
        (lambda: jaxnn.Linear(6, 3, rngs=rngs)(x.astype(int)), TypeError, "dtype"),
        (lambda: F.linear(jnp.ones(()), jnp.ones((1, 1))), ValueError, "dimension"),
        (lambda: F.linear(x, jnp.ones((3, 6)), jnp.ones(4)), ValueError, "bias"),
        (lambda: F.linear([1.0], jnp.ones((1, 1))), TypeError, "input"),
    ]:
        with pytest.raises(error, match=words):
            make()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_rounded_once(dtype: str) -> None:
    def rounded(*shape: int) -> Any:
        return torch.tensor(draw(*shape)).to(getattr(torch, dtype))

    for name, shapes in {
        "linear": ((16, 256), (8, 256), (8,)),
        "conv2d": ((2, 16, 9, 9), (8, 16, 3, 3), (8,)),
    }.items():
        tensors = [rounded(*shape).requires_grad_() for shape in shapes]
        arrays = [jnp.asarray(t.detach().float().numpy()).astype(dtype) for t in tensors]
        exact = getattr(torch.nn.functional, name)(*(t.double() for t in tensors))
        cotangent = rounded(*exact.shape)
        output, vjp = jax.vjp(getattr(F, name), *arrays)
        assert output.dtype == dtype
        half_ulp = {"bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype]
        assert_close(output.astype(jnp.float32), exact.detach(), 1.01 * half_ulp)
        wanted = torch.autograd.grad(exact, tensors, cotangent.double())
        ours = vjp(jnp.asarray(cotangent.float().numpy()).astype(dtype))
        for gradient, expected in zip(ours, wanted, strict=True):
            assert_close(gradient.astype(jnp.float32), expected.float(), 4 * half_ulp)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    ("a", "b", "ends"),
    [
        ((6, 8), (3, 8, 16), [2, 3, 6]),
        ((6, 8), (3, 8, 16), [0, 6, 6]),
        ((3, 8, 8), (8, 16), [4, 4, 16]),
        ((8, 8), (8, 16), [0, 4, 8]),
        ((2, 4, 8), (2, 8, 16), None),
    ],
)
def test_grouped_products(a, b, ends, dtype):
    random = np.random.default_rng(0)
    a, b = (np.round(random.uniform(-2, 2, shape) * 16) / 16 for shape in (a, b))
    kind = getattr(torch, dtype)
    offs = None if ends is None else torch.tensor(ends, dtype=torch.int32)
    want = torch.nn.functional.grouped_mm(
        torch.tensor(a, dtype=kind), torch.tensor(b, dtype=kind), offs=offs
    )
    ours = jnp.asarray(a, dtype), jnp.asarray(b, dtype)
    given = None if ends is None else jnp.array(ends, "int32")
    got = jax.jit(partial(F.grouped_mm, offs=given))(*ours)
    assert got.dtype == dtype
    np.testing.assert_array_equal(np.asarray(got, float), want.double().numpy())
    check_grads(
        partial(F.grouped_mm, offs=given), jax.tree.map(lambda x: x.astype("float32"), ours), 1,
        atol=0.05, rtol=0.05,
    )  # fmt: skip


def test_grouped_products_refuse_what_torch_refuses():
    a, b, offs = jnp.ones((6, 8)), jnp.ones((3, 8, 16)), jnp.array([2, 3, 6], "int32")
    for args, options, message in (
        ((a, b), {}, "`offs` goes with a matrix of two dimensions"),
        ((a[:3, None], b), {"offs": offs}, "and with no other"),
        ((a, b), {"offs": offs[:2]}, "numbers of groups must be equal"),
        ((a, b[:, :4]), {"offs": offs}, "last dimension of `mat_a`"),
        ((a[0], b), {"offs": offs}, "must have 2 or 3 dimensions"),
        ((a, b), {"offs": offs, "bias": a}, "`bias` is not supported"),
        ((a, b), {"offs": offs, "out_dtype": "bfloat16"}, "`out_dtype` must be"),
    ):
        with pytest.raises(ValueError, match=message):
            F.grouped_mm(*args, **options)
    for args, options, message in (
        ((a, b), {"offs": offs.astype("float32")}, "vector of int32"),
        ((a, b.astype("bfloat16")), {"offs": offs}, "dtypes must be equal"),
        ((a.astype("int32"), b.astype("int32")), {"offs": offs}, "must be float32"),
    ):
        with pytest.raises(TypeError, match=message):
            F.grouped_mm(*args, **options)
