"""``nnspec fuzz`` with thresholds so low that small inputs take the formulations of large ones.

``python -m benchmarks.fuzz Conv2d --configurations 200``: what an ordinary run draws is too small
for them.
"""

from __future__ import annotations

import sys

from jaxnn.functional import _convolution, attention
from jaxnn.functional.normalization import group
from nnspec import cli

LOWERED = {
    _convolution: {
        "_NARROW": 2**30, "_WIDE": 1, "_SOME_CHANNELS": 1, "_MANY_CHANNELS": 2**30,
        "_FEW_POSITIONS": 0, "_LARGE_SAMPLE": 1,
    },
    attention: {"_SCORES": 4, "_CAUSAL_ROWS": 2},
    group: {"_MANY": 0},
}  # fmt: skip


def main() -> int:
    """Lower the thresholds, then run."""
    for module, values in LOWERED.items():
        for name, value in values.items():
            # Refuse what is no threshold any more, so that nothing is tested by its old name.
            getattr(module, name)
            setattr(module, name, value)
    return cli.main(["fuzz", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
