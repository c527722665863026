"""ResNet-50, BERT and an LSTM tagger, each imported once and called at sizes never seen before.

    python examples/sizes/sizes.py

Prints each call: its sizes, whether JAX compiled for it, how long it took, and how far the result
is from PyTorch's. A size that comes again compiles nothing. It needs PyTorch, torchvision and
transformers; the weights are random. `--small` takes small models of the same kinds.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50
from transformers import BertConfig, BertModel

import jaxnn

SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
}  # fmt: skip


class Tagger(nn.Module):
    """A label for each word of a sentence."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, features)
        self.lstm = nn.LSTM(features, features, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * features, 9)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(words))[0])


class Encoder(nn.Module):
    """A BERT's vectors for the words that a mask lets it see."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.bert = BertModel(BertConfig(**options), add_pooling_layer=False)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        return self.bert(words, attention_mask=mask).last_hidden_state


def words(batch: int, length: int) -> Tensor:
    return torch.randint(1, 100, (batch, length))


def masked(batch: int, length: int) -> tuple[Tensor, Tensor]:
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[0, length // 2 + 1 :] = 0
    return words(batch, length), mask


def models(small: bool) -> list[tuple[str, nn.Module, list[tuple[Tensor, ...]]]]:
    """Return the models, each with calls: the import sees the first alone."""
    pictures = [(torch.randn(b, 3, h, w),) for b, h, w in _pictures(small)]
    options = SMALL if small else {}
    lengths = ((2, 12), (1, 7), (5, 33), (2, 12), (1, 7))
    return [
        ("ResNet-18" if small else "ResNet-50", (resnet18 if small else resnet50)(), pictures),
        ("BERT", Encoder(**options), [masked(*shape) for shape in lengths]),
        (
            "LSTM tagger",
            Tagger(16 if small else 256),
            [(words(*s),) for s in (*lengths, (3, 1))],
        ),
    ]


def _pictures(small: bool) -> tuple[tuple[int, int, int], ...]:
    if small:
        return (2, 64, 64), (1, 96, 64), (3, 71, 73), (1, 96, 64)
    return (2, 224, 224), (1, 320, 256), (3, 199, 171), (1, 320, 256)


def called(name: str, model: nn.Module, calls: Sequence[tuple[Tensor, ...]], table: Table) -> float:
    """Import a model by its first call, make all of them, and return the largest error."""
    compiled: list[str] = []

    @jax.jit
    def run(net: Any, *args: Any) -> Any:
        compiled.append("")  # runs where JAX traces, which is once for each size
        return net(*args)

    start = time.perf_counter()
    net: Any = jaxnn.from_torch(model.eval(), calls[0])
    table.add_row(name, "import", "", f"{time.perf_counter() - start:.1f} s", "proved")
    worst = 0.0
    for args in calls:
        before, start = len(compiled), time.perf_counter()
        got = np.asarray(run(net, *(arg.numpy() for arg in args)))
        seconds = time.perf_counter() - start
        with torch.no_grad():
            wanted = model(*args).numpy()
        error = float(np.abs(got - wanted).max() / np.abs(wanted).max())
        worst = max(worst, error)
        sizes = " ".join(str(tuple(arg.shape)) for arg in args)
        what = "compiled" if len(compiled) > before else ""
        table.add_row("", sizes, what, f"{seconds:.2f} s", f"{error:.0e}")
    return worst


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="small models of the same kinds")
    small = parser.parse_args(arguments).small
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    console = Console(width=100)
    table = Table("model", "sizes", "", "time", "error")
    worst = max(called(*model, table) for model in models(small))
    console.print(table)
    console.print(f"largest error, of the largest element: {worst:.0e}")
    return 0 if worst < 1e-5 else 1


if __name__ == "__main__":
    raise SystemExit(main())
