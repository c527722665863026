"""What an import costs: seconds of a processor for both modes, and beside them torch.export's."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Two processors must not count twice, and waiting for one another is no work.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}


@dataclass(frozen=True)
class Cost:
    """Seconds of a processor.

    Attributes:
        model: which.
        bar: what both modes should cost at most, without the check.
        imported: what they cost, with every size free that may be.
        fixed: with all sizes fixed.
        exported: torch.export alone, of one mode, with fixed sizes.
        check: what the proof of the import costs beside it; None where it was not asked for.
    """

    model: str
    bar: float
    imported: float
    fixed: float
    exported: float
    check: float | None = None


def bert() -> Any:
    import torch
    import transformers

    config = transformers.BertConfig(
        hidden_size=128, num_hidden_layers=12, num_attention_heads=4, intermediate_size=256,
        vocab_size=1000,
    )  # fmt: skip
    return transformers.BertModel(config), torch.randint(0, 1000, (2, 16))


def llama() -> Any:
    import torch
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=256, num_hidden_layers=16, num_attention_heads=4, num_key_value_heads=4,
        intermediate_size=512, vocab_size=1000, use_cache=False,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config), torch.randint(0, 1000, (2, 16))


def lstm() -> Any:
    import torch
    from torch import nn

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(32, 256, 3, batch_first=True)
            self.out = nn.Linear(256, 8)

        def forward(self, x: Any) -> Any:
            return self.out(self.lstm(x)[0])

    return Tagger(), torch.randn(2, 160, 32)


def residual() -> Any:
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, 3, padding=1)
            self.norm, self.relu = nn.BatchNorm2d(channels), nn.ReLU()

        def forward(self, x: Any) -> Any:
            return x + self.relu(self.norm(self.conv(x)))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Block(8) for _ in range(200))

        def forward(self, x: Any) -> Any:
            for block in self.blocks:
                x = block(x)
            return x

    return Net(), torch.randn(2, 8, 8, 8)


# By name: what makes the model and the arguments of a call, and the bar in seconds.
MODELS: dict[str, tuple[Callable[[], Any], float]] = {
    "BERT, 12 layers": (bert, 8),
    "Llama, 16 layers of 256": (llama, 4),
    "LSTM, 3 layers of 256 over 160 steps": (lstm, 4),
    "200 residual blocks": (residual, 15),
}


def costs(names: list[str], check: bool) -> list[Cost]:
    """Return what each model costs, each measured in processes of their own."""
    found = []
    for name in names:
        parts = [*("imported", "fixed", "exported"), *(["check"] if check else [])]
        taken = {part: _measured_apart(name, part) for part in parts}
        if check:
            taken["check"] -= taken["imported"]
        found.append(Cost(name, MODELS[name][1], **taken))
    return found


def _measured_apart(name: str, part: str) -> float:
    command = [sys.executable, "-m", "benchmarks.importing", name, part]
    environment = {**os.environ, **_ONE_THREAD}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return float(run.stdout.splitlines()[-1])


def measured(name: str, part: str) -> float:
    """Return the seconds of this process that one import takes, or torch.export alone."""
    import torch

    import jaxnn

    from .zoo_models import declare_torchvision

    declare_torchvision()
    make, _ = MODELS[name]
    model, *args = make()
    model.eval()
    warnings.simplefilter("ignore")
    start = time.process_time()
    if part == "exported":
        torch.export.export(model, tuple(args), strict=False)
    else:
        dynamic: Any = False if part == "fixed" else "auto"
        jaxnn.from_torch(model, tuple(args), dynamic=dynamic, check=part == "check")
    return time.process_time() - start


def table(rows: list[Cost]) -> Any:
    """Return the costs as a table of rich."""
    from rich.table import Table

    found = Table(title="processor seconds of an import, both modes", caption=_CAPTION)
    found.add_column("model")
    for title in ("bar", "import", "sizes fixed", "torch.export", "ratio", "check"):
        found.add_column(title, justify="right")
    for row in rows:
        style = "" if row.imported <= row.bar else "red"
        found.add_row(
            row.model, f"{row.bar:g}", f"{row.imported:.1f}",
            f"{row.fixed:.1f} ({row.imported / row.fixed:.1f}x)", f"{row.exported:.1f}",
            f"{row.imported / row.exported:.1f}", "" if row.check is None else f"{row.check:.1f}",
            style=style,
        )  # fmt: skip
    return found


_CAPTION = (
    "import: every size free that may be; beside it how many times that is of all sizes fixed. "
    "torch.export: of one mode, sizes fixed, without what an import keeps. check: the proof, more."
)


def add_command(commands: Any) -> None:
    """Add `importing` to the commands."""
    parser = commands.add_parser("importing", help="what an import costs, beside torch.export")
    parser.add_argument("--model", action="append", help="those whose name has this")
    parser.add_argument("--without-check", action="store_true", help="do not time the proof")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Print the table and write it as JSON; return 1 where a bar is missed."""
    from rich.console import Console

    wanted = options.model or [""]
    names = [name for name in MODELS if any(part.lower() in name.lower() for part in wanted)]
    rows = costs(names, not options.without_check)
    Console(width=120).print(table(rows))
    options.out.mkdir(parents=True, exist_ok=True)
    written = json.dumps([asdict(row) for row in rows], indent=1) + "\n"
    (options.out / "importing.json").write_text(written)
    return int(any(row.imported > row.bar for row in rows))


if __name__ == "__main__":
    print(measured(*sys.argv[1:]))
