"""Generators: the published values of SplitMix64, and the formulas of spec/README.md."""

import hashlib
import math

import numpy as np
import pytest

from nnspec.generators import automatic_seed, generate, literal, number, scale_number, splitmix64
from nnspec.resolve import resolve_tensor
from nnspec.tensors import cast


def plain_splitmix64(seed, count):
    """SplitMix64 as the README writes it, in Python's own integers."""
    mask, values = 2**64 - 1, []
    for i in range(count):
        z = (seed + (i + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        values.append(z ^ (z >> 31))
    return values


@pytest.mark.parametrize(
    ("seed", "published"),
    [
        (
            0,
            [
                0xE220A8397B1DCDAF,
                0x6E789E6AA1B965F4,
                0x06C45D188009454F,
                0xF88BB8A8724C81EC,
                0x1B39896A51A8749B,
            ],
        ),
        (
            1234567,
            [
                6457827717110365317,
                3203168211198807973,
                9817491932198370423,
                4593380528125082431,
                16408922859458223821,
            ],
        ),
    ],
)
def test_published_values_of_splitmix64(seed, published):
    assert splitmix64(seed, 5).tolist() == published


@pytest.mark.parametrize("seed", [1, 2**63, 2**64 - 1])
def test_splitmix64_wraps(seed):
    assert splitmix64(seed, 100).tolist() == plain_splitmix64(seed, 100)


def test_no_elements():
    assert splitmix64(0, 0).shape == (0,)
    for gen in ("lattice", "lattice_positive", "permutation", "wide"):
        assert generate(gen, 0, (0, 3)).shape == (0, 3)


def test_automatic_seed():
    wanted = int.from_bytes(hashlib.sha256(b"MaxPool2d/unbatched/0/input").digest()[:8], "big")
    assert automatic_seed("MaxPool2d/unbatched/0/input") == wanted


@pytest.mark.parametrize("bits", [1, 2, 8, 11])
def test_lattice(bits):
    h = plain_splitmix64(7, 24)
    wanted = [((v >> (64 - bits)) - 2 ** (bits - 1)) * 2.0**-3 + 5 for v in h]
    got = generate("lattice", 7, (4, 6), bits=bits, scale="2^-3", offset=5)
    assert got.reshape(-1).tolist() == wanted


def test_lattice_positive():
    wanted = [(1 + (v >> 57)) * 2.0**-6 for v in plain_splitmix64(7, 50)]
    got = generate("lattice_positive", 7, (50,))
    assert got.tolist() == wanted
    assert got.min() > 0


def test_lattices_are_exact_in_every_float_format():
    for gen in ("lattice", "lattice_positive"):
        values = generate(gen, 3, (1000,))
        for dtype in ("float32", "bfloat16", "float16"):
            np.testing.assert_array_equal(cast(values, dtype).astype(np.float64), values)


@pytest.mark.parametrize("count", [1, 7, 100])
def test_permutation(count):
    h = plain_splitmix64(3, count)
    ranks = [sorted(h).index(v) for v in h]
    assert generate("permutation", 3, (count,)).tolist() == [r - count // 2 for r in ranks]
    got = generate("permutation", 3, (count,), offset=1, scale=2.0)
    assert got.tolist() == [2.0 * (r + 1) for r in ranks]


def test_wide():
    wanted = []
    for v in plain_splitmix64(9, 200):
        sign = -1.0 if v >> 63 else 1.0
        mantissa = 1 + ((v >> 56) & 127) / 128
        wanted.append(sign * mantissa * 2.0 ** (((v >> 20) % 6) - 3))
    assert generate("wide", 9, (200,), exponents=3).tolist() == wanted


def test_integers():
    wanted = [-2 + v % 7 for v in plain_splitmix64(9, 100)]
    assert generate("integers", 9, (100,), bound=5, low=-2).tolist() == wanted


def test_constant():
    assert math.isnan(generate("constant", 0, (1,), value="nan")[0])
    assert generate("constant", 0, (2,), value=3).tolist() == [3, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gen": "lattice"}, "gen lattice needs a shape"),
        ({"gen": "lattice", "shape": [2], "bound": 3}, "no option 'bound'; it has"),
        ({"gen": "integers", "shape": [2]}, "gen integers needs 'bound'"),
        ({"gen": "integers", "shape": [2], "bound": 2, "low": 2}, "bound 2 must exceed low 2"),
        ({"gen": "constant", "shape": [2]}, "gen constant needs 'value'"),
        ({"gen": "constant", "shape": [2], "value": "infinity"}, "'infinity' is no number"),
        ({"gen": "lattice", "shape": [2], "scale": "3^-2"}, "'3\\^-2' is no scale"),
        ({"gen": "lattice", "shape": [2], "scale": "2^x"}, "'2\\^x' is no scale"),
        ({"gen": "lattice", "shape": [10**6, 10**6]}, "more than 16777216 elements"),
        ({"gen": "lattice", "shape": [2], "special": {"2": 1}}, "'2' is no position among 2"),
        ({"gen": "lattice", "shape": [2], "special": {"-1": 1}}, "'-1' is no position"),
        ({"gen": "lattice", "shape": [2], "special": {"0": "big"}}, "'big' is no number"),
        ({"value": [1, 2], "shape": [3]}, "cannot reshape"),
    ],
)
def test_bad_blocks(options, message):
    with pytest.raises(ValueError, match=message):
        resolve_tensor(options, "case/0/input", "float32")


def test_specials_overwrite_flat_positions():
    block = {"gen": "constant", "value": 1, "shape": [2, 2], "special": {"0": "nan", "3": "-0.0"}}
    got = resolve_tensor(block, "case/0/input", "bfloat16")
    assert got.dtype.name == "bfloat16"
    assert np.isnan(got[0, 0])
    assert np.signbit(got[1, 1])
    assert got[0, 1] == 1


def test_a_seed_in_the_block_wins():
    block = {"gen": "lattice", "shape": [4]}
    drawn = resolve_tensor({**block, "seed": 0}, "case/0/input", "float64")
    assert drawn.tolist() == [1.53125, -0.28125, -1.90625, 1.875]
    automatic = resolve_tensor(block, "case/0/input", "float64")
    assert automatic.tolist() == generate("lattice", automatic_seed("case/0/input"), (4,)).tolist()


def test_literals():
    assert literal([[1, 2], [3, 4]]).dtype == np.int64
    assert literal([True, False]).dtype == np.bool_
    assert literal([1, "inf"]).tolist() == [1.0, math.inf]
    assert math.copysign(1, number("-0.0")) == -1
    assert literal([]).shape == (0,)
    assert literal(3).shape == ()
    with pytest.raises(ValueError, match="ragged literal"):
        literal([[1], [2, 3]])


def test_scales():
    assert scale_number("2^-6") == 2.0**-6
    assert scale_number("-2^3") == -8
    assert scale_number(3) == 3
