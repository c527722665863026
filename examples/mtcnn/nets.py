"""The three nets of MTCNN (Zhang et al. 2016, https://arxiv.org/abs/1604.02878) in jaxnn.

Attribute names are those of facenet-pytorch, so that its weight files load as they are. Pictures
are [N 3 H W], scaled to (value - 127.5) / 128.
"""

from __future__ import annotations

import jax
from flax import nnx
from jaxtyping import Array, Float

import jaxnn


class PNet(nnx.Module):
    """Proposes faces: one 12 by 12 window every second pixel of a picture of any size.

    Returns offsets [N 4 H' W'] of each window's corners and probabilities [N 2 H' W'] of
    (no face, face).
    """

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv1 = jaxnn.Conv2d(3, 10, kernel_size=3, rngs=rngs)
        self.prelu1 = jaxnn.PReLU(10)
        self.pool1 = jaxnn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv2 = jaxnn.Conv2d(10, 16, kernel_size=3, rngs=rngs)
        self.prelu2 = jaxnn.PReLU(16)
        self.conv3 = jaxnn.Conv2d(16, 32, kernel_size=3, rngs=rngs)
        self.prelu3 = jaxnn.PReLU(32)
        self.conv4_1 = jaxnn.Conv2d(32, 2, kernel_size=1, rngs=rngs)
        self.softmax4_1 = jaxnn.Softmax(dim=1)
        self.conv4_2 = jaxnn.Conv2d(32, 4, kernel_size=1, rngs=rngs)

    def __call__(self, x: Float[Array, "N 3 H W"]) -> tuple[jax.Array, jax.Array]:
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.prelu2(self.conv2(x))
        x = self.prelu3(self.conv3(x))
        return self.conv4_2(x), self.softmax4_1(self.conv4_1(x))


class RNet(nnx.Module):
    """Refines proposals: offsets [N 4] and probabilities [N 2] of 24 by 24 crops."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv1 = jaxnn.Conv2d(3, 28, kernel_size=3, rngs=rngs)
        self.prelu1 = jaxnn.PReLU(28)
        self.pool1 = jaxnn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = jaxnn.Conv2d(28, 48, kernel_size=3, rngs=rngs)
        self.prelu2 = jaxnn.PReLU(48)
        self.pool2 = jaxnn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3 = jaxnn.Conv2d(48, 64, kernel_size=2, rngs=rngs)
        self.prelu3 = jaxnn.PReLU(64)
        self.dense4 = jaxnn.Linear(576, 128, rngs=rngs)
        self.prelu4 = jaxnn.PReLU(128)
        self.dense5_1 = jaxnn.Linear(128, 2, rngs=rngs)
        self.softmax5_1 = jaxnn.Softmax(dim=1)
        self.dense5_2 = jaxnn.Linear(128, 4, rngs=rngs)

    def __call__(self, x: Float[Array, "N 3 24 24"]) -> tuple[jax.Array, jax.Array]:
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = self.prelu3(self.conv3(x))
        x = self.prelu4(self.dense4(flatten(x)))
        return self.dense5_2(x), self.softmax5_1(self.dense5_1(x))


class ONet(nnx.Module):
    """Decides: offsets [N 4], landmarks [N 10] and probabilities [N 2] of 48 by 48 crops."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv1 = jaxnn.Conv2d(3, 32, kernel_size=3, rngs=rngs)
        self.prelu1 = jaxnn.PReLU(32)
        self.pool1 = jaxnn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = jaxnn.Conv2d(32, 64, kernel_size=3, rngs=rngs)
        self.prelu2 = jaxnn.PReLU(64)
        self.pool2 = jaxnn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3 = jaxnn.Conv2d(64, 64, kernel_size=3, rngs=rngs)
        self.prelu3 = jaxnn.PReLU(64)
        self.pool3 = jaxnn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv4 = jaxnn.Conv2d(64, 128, kernel_size=2, rngs=rngs)
        self.prelu4 = jaxnn.PReLU(128)
        self.dense5 = jaxnn.Linear(1152, 256, rngs=rngs)
        self.prelu5 = jaxnn.PReLU(256)
        self.dense6_1 = jaxnn.Linear(256, 2, rngs=rngs)
        self.softmax6_1 = jaxnn.Softmax(dim=1)
        self.dense6_2 = jaxnn.Linear(256, 4, rngs=rngs)
        self.dense6_3 = jaxnn.Linear(256, 10, rngs=rngs)

    def __call__(self, x: Float[Array, "N 3 48 48"]) -> tuple[jax.Array, jax.Array, jax.Array]:
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = self.pool3(self.prelu3(self.conv3(x)))
        x = self.prelu4(self.conv4(x))
        x = self.prelu5(self.dense5(flatten(x)))
        return self.dense6_2(x), self.dense6_3(x), self.softmax6_1(self.dense6_1(x))


def flatten(x: Float[Array, "N C H W"]) -> Float[Array, "N WHC"]:
    """Rows of W, then H, then C: the weights were trained on pictures stored that way round."""
    return x.transpose(0, 3, 2, 1).reshape(x.shape[0], -1)
