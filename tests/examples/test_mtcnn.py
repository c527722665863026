"""The MTCNN example: its nets against torch twins, its faces against facenet-pytorch's."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from flax import nnx

import jaxnn

pytest.importorskip("PIL")
torch = pytest.importorskip("torch")

EXAMPLE = Path(__file__).parents[2] / "examples" / "mtcnn"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch):
    """Import one of the example's scripts by name."""
    monkeypatch.syspath_prepend(str(EXAMPLE))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def pnet_twin() -> torch.nn.Module:
    nn = torch.nn

    class PNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
            self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
            self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
            self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

        def forward(self, x):
            x = nn.functional.max_pool2d(self.prelu1(self.conv1(x)), 2, ceil_mode=True)
            x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
            return self.conv4_2(x), self.conv4_1(x).softmax(1)

    return PNet()


def rnet_twin() -> torch.nn.Module:
    nn = torch.nn

    class RNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
            self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
            self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
            self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
            self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

        def forward(self, x):
            x = nn.functional.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
            x = nn.functional.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
            x = self.prelu3(self.conv3(x)).permute(0, 3, 2, 1).flatten(1)
            x = self.prelu4(self.dense4(x))
            return self.dense5_2(x), self.dense5_1(x).softmax(1)

    return RNet()


def onet_twin() -> torch.nn.Module:
    nn = torch.nn

    class ONet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
            self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
            self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
            self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
            self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
            self.dense6_1, self.dense6_2 = nn.Linear(256, 2), nn.Linear(256, 4)
            self.dense6_3 = nn.Linear(256, 10)

        def forward(self, x):
            x = nn.functional.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
            x = nn.functional.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
            x = nn.functional.max_pool2d(self.prelu3(self.conv3(x)), 2, 2, ceil_mode=True)
            x = self.prelu4(self.conv4(x)).permute(0, 3, 2, 1).flatten(1)
            x = self.prelu5(self.dense5(x))
            return self.dense6_2(x), self.dense6_3(x), self.dense6_1(x).softmax(1)

    return ONet()


@pytest.mark.parametrize(
    ("name", "twin", "size"),
    [
        ("PNet", pnet_twin, (12, 12)),
        ("PNet", pnet_twin, (37, 52)),
        ("RNet", rnet_twin, (24, 24)),
        ("ONet", onet_twin, (48, 48)),
    ],
)
def test_net_equals_torch_twin(example, name, twin, size):
    torch.manual_seed(0)
    reference = twin()
    with torch.no_grad():  # a slope for each channel, of both signs
        for key, parameter in reference.named_parameters():
            if key.startswith("prelu"):
                parameter.uniform_(-0.5, 0.5)
    net = getattr(example("nets"), name)(rngs=nnx.Rngs(0))

    assert list(jaxnn.state_dict(net)) == list(reference.state_dict())
    report = jaxnn.load_state_dict(net, reference.state_dict())
    assert not report.missing_keys
    assert not report.unexpected_keys

    x = np.random.default_rng(0).normal(size=(3, 3, *size)).astype(np.float32)
    with torch.no_grad():
        expected = reference(torch.from_numpy(x))
    outputs = example("detect").jit(net)(x)
    assert len(outputs) == len(expected)
    for output, wanted in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(output, wanted.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("size", "into"), [((3, 50, 37), (31, 23)), ((3, 9, 13), (24, 24))])
def test_area_resize_equals_interpolate(example, size, into):
    picture = np.random.default_rng(0).integers(0, 256, size).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(picture)[None], into, mode="area")
    resized = example("detect").area_resize(picture, *into)
    np.testing.assert_allclose(resized, expected[0].numpy(), rtol=1e-6)


def test_suppress_keeps_the_best_of_overlapping_boxes(example):
    suppress = example("detect").suppress
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [20, 0, 30, 10], [2, 2, 6, 6]], np.float32)
    scores = np.array([0.8, 0.9, 0.7, 0.95], np.float32)
    # Overlap over union: 0.8 of the first two, 0.16 and 0.2 of the small box in either.
    assert suppress(boxes, scores, 0.7).tolist() == [3, 1, 2]
    assert suppress(boxes, scores, 0.8).tolist() == [3, 1, 0, 2]
    assert suppress(boxes, scores, 0.7, contained=True).tolist() == [3, 2]
    assert suppress(boxes[:0], scores[:0], 0.7).tolist() == []


def test_padded_batches_are_powers_of_two(example):
    batches = []

    def net(x):
        batches.append(len(x))
        return (x.sum((1, 2, 3)),)

    for count in (0, 1, 2, 3, 5, 8, 9):
        (total,) = example("detect").padded(net, np.ones((count, 3, 2, 2), np.float32))
        np.testing.assert_array_equal(total, np.full(count, 12))
    assert batches == [1, 1, 2, 4, 8, 8, 16]


def test_a_shape_compiles_once(example):
    shapes = []

    class Net(nnx.Module):
        def __call__(self, x):
            shapes.append(x.shape)
            return (x,)

    net = example("detect").jit(Net())
    for size in (4, 4, 6, 4):
        (same,) = net(np.ones((1, size), np.float32))
        assert isinstance(same, np.ndarray)
    assert shapes == [(1, 4), (1, 6)]


def test_nothing_found(example):
    detect = example("detect")
    detector = detect.Detector(
        lambda x: (np.zeros((1, 4, 5, 5)), np.zeros((1, 2, 5, 5))),
        lambda x: (np.zeros((len(x), 4)), np.zeros((len(x), 2))),
        lambda x: (np.zeros((len(x), 4)), np.zeros((len(x), 10)), np.zeros((len(x), 2))),
    )
    for size in (5, 40):  # smaller than the smallest face, and larger
        faces = detector(np.zeros((size, size, 3), np.uint8))
        assert [part.shape for part in faces] == [(0, 4), (0, 5, 2), (0,)]


@pytest.fixture(scope="module")
def pictures() -> dict[str, np.ndarray]:
    for package in ("facenet_pytorch", "torchvision", "requests", "tqdm", "skimage"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    from PIL import Image
    from skimage import data

    astronaut = data.astronaut()
    head = Image.fromarray(astronaut[30:220, 150:300])
    group = np.full((300, 420, 3), 90, np.uint8)
    for left, top, scale in [(10, 10, 1.0), (180, 20, 0.6), (300, 10, 0.4), (280, 120, 0.8)]:
        small = np.asarray(head.resize((int(150 * scale), int(190 * scale))))
        group[top : top + len(small), left : left + small.shape[1]] = small
    return {
        "astronaut": astronaut,
        "group": group,
        "at the edge": astronaut[90:300, 150:260],
        "no face": data.chelsea(),
    }


@pytest.mark.parametrize(
    ("name", "count"), [("astronaut", 1), ("group", 4), ("at the edge", 1), ("no face", 0)]
)
def test_faces_equal_facenet_pytorch(example, pictures, name, count):
    compare, detect, reference = map(example, ("compare", "detect", "reference"))
    faces = detect.load()(pictures[name])
    assert len(faces.boxes) == count
    found = compare.differences(faces, reference.detect(pictures[name]))
    assert {kind: found[kind] for kind in found if found[kind] > compare.BARS[kind]} == {}
