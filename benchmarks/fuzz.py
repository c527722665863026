"""``nnspec fuzz`` with thresholds so low that small inputs take the formulations of large ones.

``python -m benchmarks.fuzz Conv2d --configurations 200``: what an ordinary run draws is too small
for them.
"""

from __future__ import annotations

import sys

from jaxnn._thresholds import lowered
from nnspec import cli

LOWERED = {
    "convolution_narrow": 2**30,
    "convolution_wide": 1,
    "convolution_some_channels": 1,
    "convolution_many_channels": 2**30,
    "convolution_few_positions": 0,
    "convolution_large_sample": 1,
    "attention_scores": 4,
    "attention_causal_rows": 2,
    "layer_norm_elements": 0,
}


def main() -> int:
    """Run with other thresholds."""
    with lowered(**LOWERED):
        return cli.main(["fuzz", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
