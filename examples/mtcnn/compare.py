"""The detector beside facenet-pytorch on the same picture; fails where they differ.

    python examples/mtcnn/compare.py [IMAGE] [--weights DIRECTORY] [--reference reference.json]

Without `--reference`, facenet-pytorch runs here (see `reference.py`).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import detect
import numpy as np
import reference

BARS = {"boxes": 0.01, "landmarks": 0.01, "probabilities": 1e-5}  # pixels, pixels, absolute


def differences(faces: detect.Faces, expected: dict[str, list]) -> dict[str, float]:
    """The largest difference of each kind; infinite where another number of faces was found."""
    if len(faces.boxes) != len(expected["boxes"]):
        return dict.fromkeys(BARS, np.inf)
    if not expected["boxes"]:
        return dict.fromkeys(BARS, 0.0)
    return {
        kind: float(np.abs(np.asarray(expected[kind]) - getattr(faces, kind)).max())
        for kind in BARS
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", nargs="?", type=Path, help="picture; default: the astronaut")
    parser.add_argument("--weights", type=Path, help="directory; default: facenet-pytorch's")
    parser.add_argument("--reference", type=Path, help="JSON that reference.py wrote")
    arguments = parser.parse_args()

    image = detect.read_image(arguments.image)
    faces = detect.load(arguments.weights)(image)
    if arguments.reference:
        expected = json.loads(arguments.reference.read_text())
    else:
        expected = reference.detect(image)

    print(f"faces: {len(faces.boxes)} in jaxnn, {len(expected['boxes'])} in facenet-pytorch")
    found = differences(faces, expected)
    for kind, difference in found.items():
        verdict = "ok" if difference <= BARS[kind] else "TOO FAR"
        print(f"{kind:13}  largest difference {difference:8.2g}  bar {BARS[kind]:g}  {verdict}")
    return int(any(found[kind] > BARS[kind] for kind in BARS))


if __name__ == "__main__":
    sys.exit(main())
