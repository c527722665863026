"""Find faces with MTCNN in JAX: boxes, five landmarks and a probability each.

    python examples/mtcnn/detect.py [IMAGE] [--out faces.png] [--weights DIRECTORY]

A proposal net looks at every size of the picture, a refining net at the proposals, an output net
at what is left; after each, boxes move by what the net says and overlapping ones are dropped.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Int, UInt8
from nets import ONet, PNet, RNet
from PIL import Image, ImageDraw

import jaxnn

Net = Callable[[np.ndarray], tuple[np.ndarray, ...]]
Boxes = Float[np.ndarray, "K 4"]  # left, top, right, bottom

WINDOW = 12  # of the proposal net, in pixels
STRIDE = 2


class Faces(NamedTuple):
    """What was found, the largest face first."""

    boxes: Boxes
    landmarks: Float[np.ndarray, "K 5 2"]  # x, y of the eyes, the nose, the corners of the mouth
    probabilities: Float[np.ndarray, " K"]


class Detector:
    """The three nets and the thresholds between them; `detector(image)` gives `Faces`."""

    def __init__(
        self,
        pnet: Net,
        rnet: Net,
        onet: Net,
        *,
        min_face_size: float = 20,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        factor: float = 0.709,
    ) -> None:
        self.pnet, self.rnet, self.onet = pnet, rnet, onet
        self.min_face_size, self.thresholds, self.factor = min_face_size, thresholds, factor

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> Faces:
        picture = image.transpose(2, 0, 1).astype(np.float32)
        return self.decide(picture, self.refine(picture, self.propose(picture)))

    def propose(self, picture: Float[np.ndarray, "3 H W"]) -> Boxes:
        """Boxes from the proposal net, at every scale of the picture."""
        height, width = picture.shape[1:]
        found = [np.empty((0, 9), np.float32)]  # box, probability, offsets
        for scale in scales(min(height, width), WINDOW / self.min_face_size, self.factor):
            smaller = area_resize(picture, int(height * scale + 1), int(width * scale + 1))
            offsets, probabilities = self.pnet(normalise(smaller)[None])
            rows, columns = np.nonzero(probabilities[0, 1] >= self.thresholds[0])
            corner = STRIDE * np.stack([columns, rows], 1).astype(np.float32)
            found_here = np.concatenate(
                [
                    np.floor((corner + 1) / np.float32(scale)),
                    np.floor((corner + WINDOW) / np.float32(scale)),
                    probabilities[0, 1, rows, columns, None],
                    offsets[0, :, rows, columns],
                ],
                axis=1,
            )
            found.append(found_here[suppress(found_here[:, :4], found_here[:, 4], 0.5)])
        table = np.concatenate(found)
        table = table[suppress(table[:, :4], table[:, 4], 0.7)]
        return square(move(table[:, :4], table[:, 5:], pixel=0))

    def refine(self, picture: Float[np.ndarray, "3 H W"], boxes: Boxes) -> Boxes:
        """The boxes that the refining net accepts, moved as it says."""
        boxes, crops = crop(picture, boxes, size=24)
        offsets, probabilities = padded(self.rnet, crops)
        accepted = probabilities[:, 1] > self.thresholds[1]
        boxes, offsets, probability = boxes[accepted], offsets[accepted], probabilities[accepted, 1]
        kept = suppress(boxes, probability, 0.7)
        return square(move(boxes[kept], offsets[kept]))

    def decide(self, picture: Float[np.ndarray, "3 H W"], boxes: Boxes) -> Faces:
        """The faces that the output net accepts."""
        boxes, crops = crop(picture, boxes, size=48)
        offsets, points, probabilities = padded(self.onet, crops)
        accepted = probabilities[:, 1] > self.thresholds[2]
        boxes, offsets, probability = boxes[accepted], offsets[accepted], probabilities[accepted, 1]
        # The net gives five x, then five y, as fractions of the box it saw.
        points = points[accepted].reshape(-1, 2, 5).transpose(0, 2, 1)
        sizes = boxes[:, 2:] - boxes[:, :2] + 1
        landmarks = sizes[:, None] * points + boxes[:, None, :2] - 1
        boxes = move(boxes, offsets)
        kept = suppress(boxes, probability, 0.7, pixel=1, contained=True)
        kept = kept[np.argsort(-area(boxes[kept]), kind="stable")]
        return Faces(boxes[kept], landmarks[kept], probability[kept])


def scales(side: int, first: float, factor: float) -> list[float]:
    """Sizes of the pyramid, down to where the window no longer fits."""
    result = []
    scale = first
    while side * scale >= WINDOW:
        result.append(scale)
        scale *= factor
    return result


def normalise(picture: np.ndarray) -> np.ndarray:
    return (picture - np.float32(127.5)) / np.float32(128)


def averaging(size: int, into: int) -> Float[np.ndarray, "into size"]:
    """The matrix that averages `size` samples in `into` windows, as adaptive pooling cuts them."""
    window, sample = np.ogrid[:into, :size]
    start, end = window * size // into, -(-(window + 1) * size // into)
    return ((start <= sample) & (sample < end)) / (end - start)


def area_resize(
    picture: Float[np.ndarray, "C H W"], height: int, width: int
) -> Float[np.ndarray, "C height width"]:
    """Each new pixel is the mean of the old ones it covers (`interpolate(mode="area")`)."""
    down, across = averaging(picture.shape[1], height), averaging(picture.shape[2], width)
    return (down @ picture @ across.T).astype(np.float32)


def crop(
    picture: Float[np.ndarray, "3 H W"], boxes: Boxes, size: int
) -> tuple[Boxes, Float[np.ndarray, "K 3 size size"]]:
    """The boxes with a part inside the picture, and those parts, resized to a square."""
    height, width = picture.shape[1:]
    edges = boxes.astype(int)  # pixels count from 1, both edges inside
    edges[:, :2] = np.maximum(edges[:, :2], 1)
    edges[:, 2:] = np.minimum(edges[:, 2:], [width, height])
    inside = (edges[:, 2:] >= edges[:, :2]).all(1)
    crops = [
        area_resize(picture[:, top - 1 : bottom, left - 1 : right], size, size)
        for left, top, right, bottom in edges[inside]
    ]
    return boxes[inside], normalise(np.array(crops, np.float32).reshape(-1, 3, size, size))


def padded(net: Net, crops: Float[np.ndarray, "K 3 size size"]) -> list[np.ndarray]:
    """`net(crops)` on a batch filled up to a power of two, so that few sizes are compiled."""
    count = len(crops)
    batch = np.zeros((1 << max(count - 1, 0).bit_length(), *crops.shape[1:]), np.float32)
    batch[:count] = crops
    return [output[:count] for output in net(batch)]


def move(boxes: Boxes, offsets: Float[np.ndarray, "K 4"], pixel: int = 1) -> Boxes:
    """Each edge moved by its offset, a fraction of the box's width or height."""
    sizes = boxes[:, 2:] - boxes[:, :2] + pixel
    return boxes + offsets * np.tile(sizes, 2)


def square(boxes: Boxes) -> Boxes:
    """The square about each box's centre, with the longer side."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    side = sizes.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + sizes / 2 - side / 2
    return np.concatenate([corner, corner + side], axis=1)


def area(boxes: Float[np.ndarray, "K 4"], pixel: int = 0) -> Float[np.ndarray, " K"]:
    return np.prod(boxes[:, 2:] - boxes[:, :2] + pixel, axis=1)


def suppress(
    boxes: Boxes,
    scores: Float[np.ndarray, " K"],
    threshold: float,
    pixel: int = 0,
    contained: bool = False,
) -> Int[np.ndarray, " kept"]:
    """Non-maximum suppression: indices of the boxes kept, the highest score first.

    A box goes when it overlaps a better one by more than `threshold` of their union, or, with
    `contained`, of the smaller of the two. `pixel` is 1 where both edges count as inside.
    """
    order = np.argsort(-scores, kind="stable")
    areas = area(boxes, pixel)
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        top_left = np.maximum(boxes[best, :2], boxes[rest, :2])
        bottom_right = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        common = np.prod(np.maximum(bottom_right - top_left + pixel, 0), axis=1)
        if contained:
            whole = np.minimum(areas[best], areas[rest])
        else:
            whole = areas[best] + areas[rest] - common
        order = rest[common <= threshold * whole]
    return np.array(kept, int)


def load(weights: Path | None = None, **options: Any) -> Detector:
    """The detector with facenet-pytorch's weights, or those in another directory."""
    if weights is None:
        package = importlib.util.find_spec("facenet_pytorch")
        if package is None or package.origin is None:
            raise FileNotFoundError(
                "no weights: pip install --no-deps facenet-pytorch, or give --weights a directory "
                "with pnet, rnet and onet as .pt or .safetensors"
            )
        weights = Path(package.origin).parent / "data"

    def compiled(name: str, net: nnx.Module) -> Net:
        path = next(weights.glob(f"{name}.safetensors"), weights / f"{name}.pt")
        jaxnn.load_state_dict(net, path)
        return jit(net)

    rngs = nnx.Rngs(0)
    return Detector(
        compiled("pnet", PNet(rngs=rngs)),
        compiled("rnet", RNet(rngs=rngs)),
        compiled("onet", ONet(rngs=rngs)),
        **options,
    )


def jit(net: nnx.Module) -> Net:
    """The net, compiled once for each shape of its input, from numpy to numpy."""

    def forward(net: nnx.Module, x: jax.Array) -> tuple[jax.Array, ...]:
        # GPUs and TPUs otherwise round a product's factors to fewer bits.
        with jax.default_matmul_precision("highest"):
            return net(x)

    apply = nnx.jit_partial(forward, net, graph=False)
    return lambda x: jax.device_get(apply(x))


def read_image(path: Path | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """The picture, or scikit-image's astronaut."""
    if path is None:
        from skimage import data

        return data.astronaut()
    return np.asarray(Image.open(path).convert("RGB"))


def draw(image: UInt8[np.ndarray, "H W 3"], faces: Faces) -> Image.Image:
    """The picture with a box about each face and a dot on each landmark."""
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    for box, landmarks in zip(faces.boxes, faces.landmarks, strict=True):
        pen.rectangle(box.tolist(), outline="lime", width=3)
        for x, y in landmarks.tolist():
            pen.ellipse([x - 3, y - 3, x + 3, y + 3], fill="red", outline="white")
    return picture


def table(faces: Faces) -> str:
    """One line a face: its probability, box and landmarks."""
    lines = ["probability  box (left top right bottom)          landmarks (x,y)"]
    for box, landmarks, probability in zip(*faces, strict=True):
        numbers = " ".join(f"{value:8.3f}" for value in box)
        points = " ".join(f"{x:.3f},{y:.3f}" for x, y in landmarks)
        lines.append(f"{probability:11.6f}  {numbers}  {points}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", nargs="?", type=Path, help="picture; default: the astronaut")
    parser.add_argument("--out", type=Path, default="faces.png", help="the picture with the faces")
    parser.add_argument("--weights", type=Path, help="directory; default: facenet-pytorch's")
    arguments = parser.parse_args()

    image = read_image(arguments.image)
    faces = load(arguments.weights)(image)
    print(table(faces))
    draw(image, faces).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
