"""facenet-pytorch's own MTCNN on a picture, as JSON: the reference for `compare.py`.

    python examples/mtcnn/reference.py [IMAGE] [--out reference.json]

Needs torch, torchvision and facenet-pytorch. Nothing here is used by the detector itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """`torchvision.ops.nms` in plain PyTorch: indices of the boxes kept, best first."""
    import torch

    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = scores.argsort(descending=True, stable=True)
    kept = []
    while order.numel():
        best, rest = order[0], order[1:]
        kept.append(best)
        top_left = torch.maximum(boxes[best, :2], boxes[rest, :2])
        bottom_right = torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        overlap = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        union = area[best] + area[rest] - overlap
        order = rest[~(overlap / union > iou_threshold)]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.int64)


def provide_torchvision_ops() -> None:
    """Make torchvision importable, and its `nms` callable, without its compiled operators.

    torchvision's wheel is built for one build of torch. Beside another one its library does not
    load, its operators do not exist, and importing it fails where it describes their shapes.
    """
    import torch

    try:
        import torchvision
    except RuntimeError:
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float t) -> Tensor")
        torch.library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float t) -> Tensor")
        torch.library.impl("torchvision::nms", "cpu")(nms)
        import torchvision

    if not torchvision.extension._has_ops():
        torchvision.extension._has_ops = lambda: True


def detect(image: np.ndarray, **options: Any) -> dict[str, list]:
    """Boxes, probabilities and landmarks that facenet-pytorch finds in an [H W 3] uint8 picture."""
    provide_torchvision_ops()
    from facenet_pytorch import MTCNN

    boxes, probabilities, landmarks = MTCNN(keep_all=True, **options).detect(image, landmarks=True)
    if boxes is None:
        return {"boxes": [], "probabilities": [], "landmarks": []}
    return {
        "boxes": np.asarray(boxes, np.float64).tolist(),
        "probabilities": np.asarray(probabilities, np.float64).tolist(),
        "landmarks": np.asarray(landmarks, np.float64).tolist(),
    }


def main() -> None:
    from detect import read_image

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", nargs="?", type=Path, help="picture; default: the astronaut")
    parser.add_argument("--out", type=Path, help="JSON file; default: standard output")
    arguments = parser.parse_args()

    text = json.dumps(detect(read_image(arguments.image)), indent=1)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
